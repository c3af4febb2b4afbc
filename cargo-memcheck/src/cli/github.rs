//! What a job on GitHub tells in its variables. Their values are passed in: `cli.rs` alone reads the environment.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use memcheck_harness::model::Job;

/// What a job on GitHub offers.
#[derive(Clone, Debug, Default)]
pub(crate) struct Github {
    /// `GITHUB_STEP_SUMMARY`
    pub(crate) summary: Option<PathBuf>,
    /// `GITHUB_OUTPUT`
    pub(crate) output: Option<PathBuf>,
    /// Where what a run leaves can be fetched from, when an action keeps it.
    pub(crate) job: Option<Job>,
}

impl Github {
    /// Of the variables' values: the files of summary and outputs; the run's number, the repository and the artifact's name.
    pub(super) fn new(files: [Option<OsString>; 2], job: [Option<String>; 3]) -> Self {
        let [summary, output] = files.map(|path| path.filter(|path| !path.is_empty()).map(PathBuf::from));
        let [run, repository, artifact] = job.map(Option::unwrap_or_default);
        Self {
            job: Job::new(&run, &repository, &artifact),
            summary,
            output,
        }
    }
}

/// The directory of the nearest memcheck.toml, below the checkout that GitHub knows (`GITHUB_WORKSPACE`).
pub(super) fn prefix(start: &Path, workspace: Option<OsString>) -> String {
    let Some(workspace) = workspace.map(PathBuf::from) else {
        return String::new();
    };
    let has_file = |dir: &&Path| dir.join("memcheck.toml").is_file() || dir.join(".config/memcheck.toml").is_file();
    let root = start.ancestors().find(has_file).unwrap_or(start);
    let real = |path: &Path| path.canonicalize().unwrap_or_else(|_| path.to_path_buf());
    let relative = real(root)
        .strip_prefix(real(&workspace))
        .map(|path| path.display().to_string());
    relative.unwrap_or_default()
}

/// As insta reads `CI`: set, and neither empty nor `0` nor `false`.
pub(super) fn is_set(name: &str) -> bool {
    super::variable(name).is_some_and(|value| !matches!(value.to_str(), Some("" | "0" | "false")))
}
