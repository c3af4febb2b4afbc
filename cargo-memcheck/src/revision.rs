//! What a change edits of the things by which it is judged: asked of git, read by the library, kept in the results. A base that
//! cannot be found is said, and changes no verdict.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

use memcheck_harness::build::{self, Changed, ChangedFile};
use memcheck_harness::error::{Error, Result};
use memcheck_harness::model::{ProblemKind, Revised, RevisedKind, Revision, RunReport, Switch};
use memcheck_harness::{compare, config};

use crate::cli::Invocation;
use crate::project::Project;

/// Files beside `memcheck.toml` that tell insta, nextest, git or rustup what to do.
const OTHERS: [&str; 8] = [
    "insta.yaml",
    ".insta.yaml",
    ".config/insta.yaml",
    ".config/nextest.toml",
    "nextest.toml",
    ".gitattributes",
    "rust-toolchain",
    "rust-toolchain.toml",
];

/// Adds to a finished run what its change edits (`since`: the base that was named on the command line) and what else decides.
pub(crate) fn tell(invocation: &Invocation, project: &Project, since: Option<&str>, report: &mut RunReport) -> Result<()> {
    let home = cargo_home(&invocation.inherited);
    report.switches = switches(&project.plan.root, project.workspace.is_some(), home);
    if since.is_none() && invocation.base_branch.is_none() {
        return Ok(());
    }
    report.revision = Some(match revision(invocation, project, since, report) {
        Ok(found) => found,
        Err(error) if matches!(error.kind(), ProblemKind::Interrupted(_)) || since.is_some() => return Err(error),
        Err(error) => Revision {
            unknown: Some(said(&error)),
            ..Revision::default()
        },
    });
    Ok(())
}

fn said(error: &Error) -> String {
    let problem = error.problem();
    let details = problem.details.iter().map(|detail| format!("; {}", detail.trim()));
    format!("{}{}", problem.title, details.collect::<String>())
}

fn revision(invocation: &Invocation, project: &Project, since: Option<&str>, report: &RunReport) -> Result<Revision> {
    let plan = &project.plan;
    let own = plan.file.to_string_lossy().into_owned();
    // Limits in Rust stand where their cases do.
    let tests: BTreeSet<String> = report
        .cases
        .iter()
        .map(|case| case.place.file.clone())
        .filter(|file| !file.is_empty() && *file != own)
        .collect();
    let changed = build::changed(
        &plan.root,
        since,
        invocation.base_branch.as_deref(),
        &|inside, path| of_file(inside, path, &own, &tests).is_some(),
        &project.cancel,
    )?;
    let mut entries: Vec<Revised> = changed
        .files
        .iter()
        .flat_map(|file| edits(&changed, file, &own, &tests))
        .collect();
    entries.sort();
    Ok(Revision {
        base: changed.label,
        unknown: None,
        entries,
    })
}

/// What a file of the repository is to us.
enum What {
    Own,
    Snapshot,
    Cargo,
    Manifest,
    Other,
    Test,
}

fn of_file(inside: &str, path: &str, own: &str, tests: &BTreeSet<String>) -> Option<What> {
    let below = match inside {
        "" => Some(path),
        inside => path.strip_prefix(inside).and_then(|rest| rest.strip_prefix('/')),
    };
    let name = path.rsplit('/').next().unwrap_or(path);
    // cargo and git read their files from every directory above, too.
    let directory = path.strip_suffix(name).unwrap_or_default().trim_end_matches('/');
    let is_above = |directory: &str| directory.is_empty() || inside == directory || inside.starts_with(&format!("{directory}/"));
    if path.ends_with(".cargo/config.toml") || path.ends_with(".cargo/config") {
        let parent = directory.trim_end_matches(".cargo").trim_end_matches('/');
        return (below.is_some() || is_above(parent)).then_some(What::Cargo);
    }
    if name == ".gitattributes" && is_above(directory) {
        return Some(What::Other);
    }
    let below = below?;
    if below == own || matches!(below, "memcheck.toml" | ".config/memcheck.toml") {
        Some(What::Own)
    } else if below.ends_with(".snap") && (below.starts_with("memcheck/snapshots/") || below.contains("/memcheck/snapshots/")) {
        Some(What::Snapshot)
    } else if name == "Cargo.toml" {
        Some(What::Manifest)
    } else if OTHERS.contains(&below) || name == ".gitattributes" || OTHERS.contains(&name) {
        Some(What::Other)
    } else {
        tests.contains(below).then_some(What::Test)
    }
}

fn edits(changed: &Changed, file: &ChangedFile, own: &str, tests: &BTreeSet<String>) -> Vec<Revised> {
    let text = |bytes: &Option<Vec<u8>>| bytes.as_ref().map(|bytes| String::from_utf8_lossy(bytes).into_owned());
    let (old, new) = (text(&file.old), text(&file.new));
    let whole = |kind| {
        let side = |bytes: &Option<Vec<u8>>| bytes.as_ref().map(|bytes| format!("{} bytes", bytes.len()));
        vec![Revised {
            file: file.path.clone(),
            kind,
            what: String::new(),
            old: side(&file.old),
            new: side(&file.new),
            diff: String::new(),
        }]
    };
    match of_file(&changed.inside, &file.path, own, tests) {
        Some(What::Own) => config::revised(&file.path, old.as_deref(), new.as_deref()),
        Some(What::Snapshot) => vec![compare::revised(&file.path, file.old.as_deref(), file.new.as_deref())],
        Some(What::Cargo) => config::revised_elsewhere(&file.path, old.as_deref(), new.as_deref(), &|_| true),
        Some(What::Manifest) => config::revised_elsewhere(&file.path, old.as_deref(), new.as_deref(), &|key| {
            key.starts_with("profile.") || key.contains("metadata.memcheck") || key.starts_with("patch.")
        }),
        Some(What::Test) => whole(RevisedKind::Code),
        Some(What::Other) => whole(RevisedKind::Switch),
        None => Vec::new(),
    }
}

/// Settings of cargo that a run cannot undo: in the project and, where cargo builds, in every directory above it and in cargo's home,
/// as cargo looks for them (The Cargo Book, "Hierarchical structure"). They are called by their way from the project: no name of a
/// directory is told.
fn switches(root: &Path, is_cargo: bool, home: Option<PathBuf>) -> Vec<Switch> {
    let above = root.ancestors().enumerate().take(if is_cargo { usize::MAX } else { 1 });
    let mut places: Vec<(String, PathBuf)> = above
        .map(|(depth, directory)| (format!("{}.cargo", "../".repeat(depth)), directory.join(".cargo")))
        .collect();
    let same = |one: &Path, other: &Path| {
        one.canonicalize()
            .is_ok_and(|one| other.canonicalize().is_ok_and(|other| one == other))
    };
    if let Some(home) = home.filter(|home| is_cargo && !places.iter().any(|(_, place)| same(place, home))) {
        places.push(("$CARGO_HOME".to_owned(), home));
    }
    let files = places
        .into_iter()
        .flat_map(|(name, place)| ["config.toml", "config"].map(|file| (format!("{name}/{file}"), place.join(file))));
    let read = files.filter_map(|(name, path)| Some((name, std::fs::read_to_string(path).ok()?)));
    read.flat_map(|(name, text)| config::switches(&name, &text)).collect()
}

/// Where cargo keeps what is its user's: `CARGO_HOME`, or `.cargo` in `HOME`.
fn cargo_home(environment: &[(OsString, OsString)]) -> Option<PathBuf> {
    let value = |wanted: &str| {
        let mut all = environment.iter();
        let found = all.find(|(name, value)| name == wanted && !value.is_empty());
        found.map(|(_, value)| PathBuf::from(value))
    };
    value("CARGO_HOME").or_else(|| value("HOME").map(|home| home.join(".cargo")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_above_the_project_and_of_the_user_are_named() {
        let dir = ::tests::Project::new()
            .file("a/b/.cargo/config.toml", "[build]\ntarget-dir = \"x\"\n")
            .file("a/.cargo/config", "[target.x]\nrunner = \"true\"\n")
            .file(
                "home/config.toml",
                "[build]\nrustc-wrapper = \"true\"\n[net]\noffline = true\n",
            );
        let root = dir.path().join("a/b");
        let all = |is_cargo| -> Vec<String> {
            let found = switches(&root, is_cargo, Some(dir.path().join("home")));
            found.into_iter().map(|one| format!("{} {}", one.file, one.key)).collect()
        };
        let expected = [
            ".cargo/config.toml build.target-dir",
            "../.cargo/config target.x.runner",
            "$CARGO_HOME/config.toml build.rustc-wrapper",
        ];
        let own =
            |found: Vec<String>| -> Vec<String> { found.into_iter().filter(|one| expected.contains(&one.as_str())).collect() };
        assert_eq!(own(all(true)), expected);
        assert_eq!(all(false), expected[..1], "nobody asks cargo");
        // That of a user whose projects lie in the home directory is one file, told once.
        let same = switches(&root, true, Some(dir.path().join("a/.cargo")));
        assert_eq!(same.iter().filter(|one| one.key == "target.x.runner").count(), 1);
        let environment = |name: &str, value: &str| vec![(OsString::from(name), OsString::from(value))];
        assert_eq!(cargo_home(&environment("HOME", "/h")), Some("/h/.cargo".into()));
        assert_eq!(cargo_home(&environment("CARGO_HOME", "/c")), Some("/c".into()));
        assert_eq!(cargo_home(&environment("HOME", "")), None);
    }

    fn is(inside: &str, path: &str) -> bool {
        of_file(inside, path, "memcheck.toml", &BTreeSet::from(["tests/memory.rs".to_owned()])).is_some()
    }

    #[test]
    fn files_that_judge_are_told_from_the_rest() {
        for path in [
            "memcheck.toml",
            ".config/memcheck.toml",
            "a/memcheck/snapshots/x.snap",
            ".cargo/config.toml",
            "a/Cargo.toml",
            "insta.yaml",
            ".gitattributes",
            "tests/memory.rs",
        ] {
            assert!(is("", path), "{path}");
            assert!(is("sub", &format!("sub/{path}")), "{path}");
        }
        for path in ["src/main.rs", "snapshots/x.snap", "tests/other.rs", "memcheck.toml.orig"] {
            assert!(!is("", path), "{path}");
        }
        // Another project of the same repository judges nothing here; cargo's files above do.
        assert!(!is("sub", "memcheck.toml") && !is("sub", "other/memcheck/snapshots/x.snap"));
        assert!(is("sub", ".cargo/config.toml") && is("sub/a", "sub/.cargo/config.toml") && !is("sub", "other/.gitattributes"));
    }
}
