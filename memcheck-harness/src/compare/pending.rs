//! Pending changes: where their files lie, finding them, accepting and rejecting. What becomes pending is decided by
//! comparing; asking the user is the command line's.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::write::write_whole;
use super::{Options, SNAPSHOT_DIR, environment, file};
use crate::error::{Error, Result};
use crate::model::{Case, Plan, Problem, Snapshot};
use crate::normalize;

/// A pending change: `X.snap.new` beside (or instead of) `X.snap`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pending {
    /// The approved file it would become.
    pub target: PathBuf,
    /// The pending file.
    pub path: PathBuf,
    /// Its text without header; empty when it cannot be read.
    pub text: String,
    /// The approved text, if there is one that can be read.
    pub approved: Option<String>,
    /// Why the pending file is no snapshot of its case: it can be rejected, never accepted.
    pub damage: Option<Problem>,
}

impl Pending {
    /// True when it says of rows that they vary, and what was measured in several runs is one of the ways in which they do: there
    /// it varies too, or is as approved. Runs that agree on something else are another state, which nobody has looked at.
    #[must_use]
    pub fn says_varies(&self, case: &Case, measured: &Snapshot) -> bool {
        let approved = self.approved.as_deref().map(normalize::parse);
        self.damage.is_none()
            && normalize::parse(&self.text).is_ok_and(|waiting| {
                !normalize::varying(&waiting).is_empty()
                    && self.approved.as_deref() != Some(&self.text)
                    && normalize::within(case, measured, &waiting) == waiting
                    && matches!(approved, Some(Ok(approved)) if normalize::varies_alike(case, measured, &waiting, &approved))
            })
    }

    /// True for the environment of record, which belongs to no case.
    #[must_use]
    pub fn is_environment(&self) -> bool {
        let name = self.target.file_name().and_then(|name| name.to_str());
        name.and_then(|name| name.strip_suffix(".snap")).is_some_and(is_environment)
    }

    /// The environment it belongs to; absent for the one without a name.
    #[must_use]
    pub fn environment(&self) -> Option<&str> {
        environment_name(self.path.file_name().and_then(|name| name.to_str()).and_then(stem)?)
    }

    /// The name of the case it belongs to; absent for the environment of record.
    #[must_use]
    pub fn case(&self) -> Option<&str> {
        let stem = stem(self.path.file_name()?.to_str()?)?;
        (!is_environment(stem)).then(|| case_name(stem))
    }
}

/// All pending changes below the snapshot directories of a plan (its packages', the environment file too), by target. When
/// cases were selected, those of the selected cases and the environment's only. A pending file that says what is approved
/// already is removed rather than listed; files with names of other kinds are not ours and left alone. A pending file that
/// cannot be read, or is not what its name says, is listed with its damage: it must not stand in the way of the others.
///
/// # Errors
/// A directory cannot be read.
pub fn pending(plan: &Plan, options: Options<'_>) -> Result<Vec<Pending>> {
    let mut directories: BTreeSet<PathBuf> = plan.cases.iter().map(|case| case.package_dir.join(SNAPSHOT_DIR)).collect();
    if let Some(directory) = environment::path(plan).parent() {
        directories.insert(directory.to_path_buf());
    }
    let mut found = Vec::new();
    for directory in directories {
        let mut places = vec![directory.clone()];
        if let Some(root) = options.pending_dir
            && let Ok(relative) = directory.strip_prefix(&plan.root)
        {
            places.push(root.join(relative));
        }
        for place in places {
            for name in names(&place)? {
                let target = directory.join(name.trim_end_matches(".new"));
                if is_wanted(plan, &name)
                    && let Some(pending) = load(place.join(&name), target)?
                {
                    found.push(pending);
                }
            }
        }
    }
    found.sort_by(|a, b| (&a.target, &a.path).cmp(&(&b.target, &b.path)));
    Ok(found)
}

/// Makes a pending change the approved one. The approved file is byte for byte what `cargo insta accept` writes.
///
/// # Errors
/// The pending file is gone, changed since it was read or holds no snapshot of its case; the approved file is damaged
/// (it is left as it is); or writing fails.
pub fn accept(pending: &Pending) -> Result<()> {
    if let Some(damage) = &pending.damage {
        return Err(Error::from(damage.clone()));
    }
    let path = pending.path.display();
    let file = file::read(&pending.path)?.ok_or_else(|| Error::tool(format!("{path} is gone")).detail("measure again"))?;
    if file.text != pending.text {
        return Err(Error::tool(format!("{path} has changed since it was shown")).detail("look at it again"));
    }
    check_content(pending)?;
    // A damaged approved file is not papered over: its other half may be somebody's work.
    file::read(&pending.target)?;
    write_whole(&pending.target, &file::accepted_bytes(&file))?;
    remove(&pending.path)
}

/// Whether a pending change says what was measured now (`text`, as [`super::compare`] renders it). Where the measurement of
/// several runs varies, any value of the pending text will do.
#[must_use]
pub fn is_current(pending: &Pending, text: &str) -> bool {
    if pending.text == text {
        return true;
    }
    let (Ok(shown), Ok(now)) = (normalize::parse(&pending.text), normalize::parse(text)) else {
        return false;
    };
    // Merging turns every difference into `varies`: nothing is left of it when they differed only where it varies already.
    normalize::merge(&[shown, now.clone()]) == now
}

/// Drops a pending change, a damaged one too. What is a link is removed itself, not what it leads to.
///
/// # Errors
/// The file cannot be removed, is a directory, or lies behind a link.
pub fn reject(pending: &Pending) -> Result<()> {
    if let Some(directory) = pending.path.parent() {
        file::refuse_linked_directories(directory)?;
    }
    remove(&pending.path)
}

/// The pending file of a case, where files may be written and there is one that can be read.
pub(super) fn of(plan: &Plan, case: &Case, options: Options<'_>) -> Option<Pending> {
    let target = super::path(case);
    let path = options.write.then(|| file_of(plan, &target, options.pending_dir))?.ok()?;
    load(path, target).ok().flatten()
}

/// Leaves a target's pending file with these bytes, or (`None`) none. Gives back its path when it was written.
pub(super) fn place(plan: &Plan, target: &Path, news: Option<&[u8]>, pending_dir: Option<&Path>) -> Result<Option<PathBuf>> {
    let path = file_of(plan, target, pending_dir)?;
    file::refuse_links(&path)?;
    match news {
        Some(bytes) => write_whole(&path, bytes).map(|()| Some(path)),
        None => remove(&path).map(|()| None),
    }
}

/// Where the pending file of a target lies.
fn file_of(plan: &Plan, target: &Path, pending_dir: Option<&Path>) -> Result<PathBuf> {
    let mut path = match pending_dir {
        None => target.to_path_buf(),
        Some(root) => root.join(target.strip_prefix(&plan.root).map_err(|_| {
            Error::tool(format!(
                "{} lies outside of the root: it has no place in the pending directory",
                target.display()
            ))
        })?),
    };
    path.as_mut_os_string().push(".new");
    Ok(path)
}

pub(super) fn remove(path: &Path) -> Result<()> {
    match fs::remove_file(path) {
        Err(error) if !matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
            Err(Error::file("remove", path, &error))
        }
        _ => Ok(()),
    }
}

/// Names of pending files in a directory, which need not exist.
fn names(directory: &Path) -> Result<Vec<String>> {
    let entries = match fs::read_dir(directory) {
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => return Ok(Vec::new()),
        entries => entries.map_err(|error| Error::file("list", directory, &error))?,
    };
    let mut names = Vec::new();
    for entry in entries {
        let entry = entry.map_err(|error| Error::file("list", directory, &error))?;
        if let Ok(name) = entry.file_name().into_string()
            && stem(&name).is_some()
        {
            names.push(name);
        }
    }
    Ok(names)
}

/// `<case>[@…]` of `<case>[@…].snap.new`, if it has the form of our names.
fn stem(name: &str) -> Option<&str> {
    let stem = name.strip_suffix(".snap.new")?;
    let is_plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    (stem.starts_with(is_plain) && stem.chars().all(|c| is_plain(c) || matches!(c, '.' | '-' | '@'))).then_some(stem)
}

fn case_name(stem: &str) -> &str {
    stem.split('@').next().unwrap_or(stem)
}

pub(super) fn is_environment(stem: &str) -> bool {
    stem == "environment" || stem.starts_with("environment.")
}

/// `arm64` of `case@arm64` and of `environment.arm64`.
fn environment_name(stem: &str) -> Option<&str> {
    match stem.strip_prefix("environment.") {
        Some(name) => Some(name),
        None => Some(stem.split_once('@')?.1),
    }
}

fn is_wanted(plan: &Plan, name: &str) -> bool {
    let everything = plan.cases.len() >= plan.cases_in_file;
    stem(name)
        .is_some_and(|stem| everything || is_environment(stem) || plan.cases.iter().any(|case| case.name == case_name(stem)))
}

fn load(path: PathBuf, target: PathBuf) -> Result<Option<Pending>> {
    // What cannot be read shows as nothing approved; accepting then says what is wrong with it.
    let approved = file::read(&target).ok().flatten().map(|file| file.text);
    let (text, damage) = match file::read(&path) {
        Ok(None) => return Ok(None),
        Ok(Some(file)) => (file.text, None),
        Err(error) => (String::new(), Some(rejectable(&error, &path))),
    };
    if damage.is_none() && approved.as_ref() == Some(&text) {
        remove(&path)?;
        return Ok(None);
    }
    let mut pending = Pending {
        target,
        path,
        text,
        approved,
        damage,
    };
    if pending.damage.is_none() {
        pending.damage = check_content(&pending).err().map(Error::into_problem);
    }
    Ok(Some(pending))
}

/// A pending file is nobody's work: whatever is wrong with it, the remedy is to drop it.
fn rejectable(error: &Error, path: &Path) -> Problem {
    let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    let case = stem(name).filter(|stem| !is_environment(stem)).map(case_name);
    Problem {
        details: vec![remedy(case)],
        ..error.problem().clone()
    }
}

fn remedy(case: Option<&str>) -> String {
    match case {
        Some(case) => format!("drop it: cargo memcheck reject {case}"),
        None => "drop it: cargo memcheck reject".to_owned(),
    }
}

/// A pending file may come from elsewhere (a job's artifact): its text must be what its name says.
pub(super) fn check_content(pending: &Pending) -> Result<()> {
    let name = pending.path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    let stem = stem(name).unwrap_or_default();
    let checked = if is_environment(stem) {
        environment::parse(&pending.text, environment_name(stem)).map(drop)
    } else {
        normalize::parse(&pending.text).and_then(|snapshot| {
            if snapshot.case == case_name(stem) {
                Ok(())
            } else {
                Err(Error::not_judged("it is the snapshot of another case"))
            }
        })
    };
    checked.map_err(|error| {
        Error::not_judged(format!("{} is no snapshot: {error}", pending.path.display())).detail(remedy(pending.case()))
    })
}

#[cfg(test)]
mod tests {
    use super::super::tests::{case, heap, plan};
    use super::super::{approved, compare};
    use super::*;

    const WRITE: Options<'_> = Options {
        write: true,
        pending_dir: None,
    };

    fn targets(plan: &Plan, options: Options<'_>) -> Vec<String> {
        let all = pending(plan, options).unwrap().into_iter();
        all.map(|pending| pending.target.file_name().unwrap().to_string_lossy().into_owned())
            .collect()
    }

    #[test]
    fn pending_changes_are_found_in_every_package_and_only_ours() {
        let dir = tempfile::tempdir().unwrap();
        let cases = [case(&dir.path().join("p"), "b"), case(&dir.path().join("q"), "a")];
        let mut plan = plan(dir.path(), &cases);
        for case in &cases {
            let _ = compare(&plan, case, &heap(&case.name, 4), None, WRITE);
        }
        let snapshots = dir.path().join("p/memcheck/snapshots");
        fs::write(snapshots.join("Foreign__x.snap.new"), "not ours").unwrap();
        fs::write(snapshots.join("b.snap.new.orig"), "not ours").unwrap();
        assert_eq!(targets(&plan, WRITE), ["b.snap", "a.snap"]);
        plan.cases.remove(0);
        plan.cases.push(case(&dir.path().join("p"), "c"));
        plan.cases_in_file = 3;
        assert_eq!(targets(&plan, WRITE), ["a.snap"], "only of selected cases");
    }

    #[test]
    fn the_pending_directory_mirrors_the_root() {
        let dir = tempfile::tempdir().unwrap();
        let elsewhere = tempfile::tempdir().unwrap();
        let case = case(&dir.path().join("p"), "c");
        let plan = plan(dir.path(), std::slice::from_ref(&case));
        let options = Options {
            write: true,
            pending_dir: Some(elsewhere.path()),
        };
        let outcome = compare(&plan, &case, &heap("c", 4), None, options);
        assert_eq!(
            outcome.pending,
            Some(elsewhere.path().join("p/memcheck/snapshots/c.snap.new"))
        );
        assert!(!dir.path().join("p").exists(), "the tree stays clean");
        assert!(pending(&plan, WRITE).unwrap().is_empty());
        accept(&pending(&plan, options).unwrap()[0]).unwrap();
        assert!(approved(&case).unwrap().is_some());
        assert!(!outcome.pending.unwrap().exists());
    }

    #[test]
    fn what_is_approved_already_is_no_longer_pending() {
        let dir = tempfile::tempdir().unwrap();
        let case = case(dir.path(), "c");
        let plan = plan(dir.path(), std::slice::from_ref(&case));
        let _ = compare(&plan, &case, &heap("c", 4), None, WRITE);
        let waiting = pending(&plan, WRITE).unwrap().remove(0);
        fs::copy(&waiting.path, &waiting.target).unwrap();
        assert!(pending(&plan, WRITE).unwrap().is_empty());
        assert!(!waiting.path.exists() && waiting.target.exists());
    }

    #[test]
    fn rejecting_removes_and_may_come_late() {
        let dir = tempfile::tempdir().unwrap();
        let case = case(dir.path(), "c");
        let plan = plan(dir.path(), std::slice::from_ref(&case));
        let _ = compare(&plan, &case, &heap("c", 4), None, WRITE);
        let waiting = pending(&plan, WRITE).unwrap().remove(0);
        reject(&waiting).unwrap();
        assert!(!waiting.path.exists());
        reject(&waiting).unwrap();
        assert!(accept(&waiting).unwrap_err().to_string().contains("is gone"));
    }

    #[test]
    fn accepting_overwrites_nothing_that_is_damaged_or_unseen() {
        let dir = tempfile::tempdir().unwrap();
        let case = case(dir.path(), "c");
        let plan = plan(dir.path(), std::slice::from_ref(&case));
        let _ = compare(&plan, &case, &heap("c", 4), None, WRITE);
        let waiting = pending(&plan, WRITE).unwrap().remove(0);
        fs::write(&waiting.target, "<<<<<<< ours\n").unwrap();
        assert!(accept(&waiting).unwrap_err().to_string().contains("conflict markers"));
        assert_eq!(fs::read(&waiting.target).unwrap(), b"<<<<<<< ours\n");
        fs::remove_file(&waiting.target).unwrap();
        let _ = compare(&plan, &case, &heap("c", 8), None, WRITE);
        assert!(accept(&waiting).unwrap_err().to_string().contains("has changed"));
        let renamed = waiting.path.with_file_name("d.snap.new");
        fs::rename(&waiting.path, &renamed).unwrap();
        let foreign = pending(&plan, WRITE).unwrap().remove(0);
        assert!(accept(&foreign).unwrap_err().to_string().contains("another case"));
        assert!(!foreign.target.exists());
    }

    #[test]
    fn a_damaged_pending_file_is_listed_can_be_rejected_and_blocks_nobody() {
        let dir = tempfile::tempdir().unwrap();
        let cases = [case(dir.path(), "a"), case(dir.path(), "b"), case(dir.path(), "c")];
        let plan = plan(dir.path(), &cases);
        for case in &cases {
            let _ = compare(&plan, case, &heap(&case.name, 4), None, WRITE);
        }
        let waiting = pending(&plan, WRITE).unwrap();
        fs::write(&waiting[0].path, "<<<<<<< ours\n").unwrap();
        fs::remove_file(&waiting[1].path).unwrap();
        std::os::unix::fs::symlink(&waiting[2].path, &waiting[1].path).unwrap();
        let waiting = pending(&plan, WRITE).unwrap();
        let names: Vec<_> = waiting
            .iter()
            .map(|one| (one.case().unwrap(), one.damage.is_some()))
            .collect();
        assert_eq!(names, [("a", true), ("b", true), ("c", false)]);
        let error = accept(&waiting[0]).unwrap_err().to_string();
        assert!(error.contains("conflict markers") && error.contains("reject a"), "{error}");
        reject(&waiting[0]).unwrap();
        reject(&waiting[1]).unwrap();
        assert!(waiting[2].path.exists(), "the link is removed, not what it leads to");
        accept(&waiting[2]).unwrap();
        assert!(pending(&plan, WRITE).unwrap().is_empty());
    }

    #[test]
    fn a_pending_file_is_current_when_it_says_what_is_measured_now() {
        let dir = tempfile::tempdir().unwrap();
        let case = case(dir.path(), "c");
        let plan = plan(dir.path(), std::slice::from_ref(&case));
        let _ = compare(&plan, &case, &heap("c", 4), None, WRITE);
        let waiting = pending(&plan, WRITE).unwrap().remove(0);
        let text = |kib: &[u64]| {
            let runs: Vec<_> = kib.iter().map(|kib| heap("c", *kib)).collect();
            normalize::render(&normalize::merge(&runs))
        };
        assert!(is_current(&waiting, &text(&[4])));
        assert!(!is_current(&waiting, &text(&[8])));
        assert!(is_current(&waiting, &text(&[8, 12])), "it varies from run to run");
        assert!(!is_current(&waiting, "nonsense"));
    }

    #[test]
    fn names_have_one_form() {
        for (name, expected) in [
            ("a-b.c@env.snap.new", Some("a-b.c@env")),
            ("environment.snap.new", Some("environment")),
            ("../x.snap.new", None),
            (".hidden.snap.new", None),
            ("A.snap.new", None),
            ("a.snap", None),
            (".snap.new", None),
        ] {
            assert_eq!(stem(name), expected, "{name}");
        }
    }
}
