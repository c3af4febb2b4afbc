//! Approved snapshots that belong to no case any more: a case was renamed or deleted, and its file passes for a gate.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use super::{SNAPSHOT_DIR, file};

/// Approved snapshots of ours (`case NAME …` in a file of that name) below the given package directories whose case is not
/// among `cases`, or whose environment is not among `environments`, by path. What cannot be read, and what other tests put there, is left out: it is not known to be ours.
#[must_use]
pub fn orphans<'a>(
    packages: impl IntoIterator<Item = &'a Path>,
    cases: &BTreeSet<&str>,
    environments: &[String],
) -> Vec<PathBuf> {
    let directories: BTreeSet<PathBuf> = packages.into_iter().map(|package| package.join(SNAPSHOT_DIR)).collect();
    let mut found = Vec::new();
    for directory in directories {
        for entry in fs::read_dir(&directory).into_iter().flatten().flatten() {
            let name = entry.file_name();
            let stem = name.to_str().and_then(|name| name.strip_suffix(".snap"));
            let Some(stem) = stem else { continue };
            let (case, environment) = match stem.split_once('@') {
                Some((case, environment)) => (case, Some(environment)),
                None => (stem, None),
            };
            let is_gone =
                !cases.contains(case) || environment.is_some_and(|name| !environments.iter().any(|known| known == name));
            let is_ours = |path: &Path| {
                let text = file::read(path).ok().flatten().map(|file| file.text).unwrap_or_default();
                text.lines().next().is_some_and(|line| line == format!("case {case}"))
            };
            if is_gone && is_ours(&entry.path()) {
                found.push(entry.path());
            }
        }
    }
    found.sort();
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_our_files_without_a_case_are_orphans() {
        let dir = tempfile::tempdir().unwrap();
        let snapshots = dir.path().join(SNAPSHOT_DIR);
        fs::create_dir_all(&snapshots).unwrap();
        for (name, text) in [
            ("here.snap", "case here\n"),
            ("gone.snap", "case gone\n"),
            ("foreign.snap", "something else\n"),
            ("environment.snap", "environment default\n"),
            ("gone.snap.new", "case gone\n"),
            ("here@arm64.snap", "case here\n"),
            ("here@gone.snap", "case here\n"),
        ] {
            fs::write(snapshots.join(name), format!("---\nsource: memcheck.toml\n---\n{text}")).unwrap();
        }
        fs::write(snapshots.join("damaged.snap"), "case damaged\n").unwrap();
        let found = orphans([dir.path()], &BTreeSet::from(["here"]), &["arm64".to_owned()]);
        assert_eq!(found, [snapshots.join("gone.snap"), snapshots.join("here@gone.snap")]);
    }
}
