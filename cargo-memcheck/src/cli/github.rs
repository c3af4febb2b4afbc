//! What a job on GitHub tells in its variables. Their values are passed in: `cli.rs` alone reads the environment.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

/// What a job on GitHub offers.
#[derive(Clone, Debug, Default)]
pub(crate) struct Github {
    /// `GITHUB_STEP_SUMMARY`
    pub(crate) summary: Option<PathBuf>,
}

impl Github {
    /// Of the variable's value.
    pub(super) fn new(summary: Option<OsString>) -> Self {
        Self {
            summary: summary.filter(|path| !path.is_empty()).map(PathBuf::from),
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
