//! Text × approved snapshot → outcome, and the files that hold both: ordinary insta files where cargo-insta finds them, so
//! that its review, accept and reject work on them and leave the same bytes as ours. What the text says is `normalize`'s.
//!
//! The files are read and written here, byte by byte, rather than through insta: its reader prints to standard error, panics
//! on some headers, follows links and has no size limit, and a snapshot may come from a stranger's pull request. The tests
//! hold our files against insta's own reader.

mod environment;
mod file;
mod incoming;
mod orphans;
mod patch;
mod pending;
mod revised;
mod write;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

pub use environment::{environment, path as environment_path, propose_environment};
pub use incoming::{Incoming, accept_incoming, incoming};
pub use orphans::orphans;
pub use pending::{Pending, accept, is_current, pending, reject};
pub use revised::revised;
pub use write::write_whole;

/// Parsers of files, for `fuzz`.
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzzed {
    pub(crate) use super::environment::parse as parse_environment;
    pub(crate) use super::file::{accepted_bytes, parse};
}

use crate::error::{Error, Result};
use crate::model::{Case, Plan, SNAPSHOT_DIR, Snapshot, SnapshotOutcome, SnapshotStatus};
use crate::normalize::{self, Weighed};
use file::Header;

/// The environment of record without a name; a snapshot's `info:` names the one it belongs to.
const ENVIRONMENT: &str = "default";

/// Bounds the time spent on showing a difference, which a forged file could make quadratic. The verdict needs no diff.
const DIFF_TIME: Duration = Duration::from_secs(2);

/// What comparing may write, and where.
#[derive(Clone, Copy, Debug, Default)]
pub struct Options<'a> {
    /// Leave or remove pending files.
    pub write: bool,
    /// `INSTA_PENDING_DIR`: the tree that pending files go to, at the same paths as below the root; absent: beside their
    /// targets. The variable is read by the command line.
    pub pending_dir: Option<&'a Path>,
}

/// An approved snapshot as read from its file.
#[derive(Clone, Debug)]
pub struct Approved {
    /// Its text without header, ending in one `\n`.
    pub text: String,
    /// Its states, or why the text has none: it was edited by hand, or comes from another version.
    pub snapshot: Result<Snapshot>,
}

impl Approved {
    /// The states, where the text could be read.
    #[must_use]
    pub fn states(&self) -> Option<&Snapshot> {
        self.snapshot.as_ref().ok()
    }
}

/// `<package>/memcheck/snapshots/<case>.snap`, in an environment with a name `<case>@NAME.snap`: what is accepted here goes
/// there.
#[must_use]
pub fn path(case: &Case) -> PathBuf {
    let file = match &case.environment {
        None => format!("{}.snap", case.name),
        Some(name) => format!("{}@{name}.snap", case.name),
    };
    case.package_dir.join(SNAPSHOT_DIR).join(file)
}

/// The file that holds the approved snapshot of a case: its own in the environment that holds here, else the one of all.
#[must_use]
pub fn approved_path(case: &Case) -> PathBuf {
    let own = path(case);
    if case.environment.is_none() || own.symlink_metadata().is_ok() {
        return own;
    }
    case.package_dir.join(SNAPSHOT_DIR).join(format!("{}.snap", case.name))
}

/// Reads the approved snapshot of a case; `None` when there is none. A case without one of its own in the environment that
/// holds here has that of all environments. To be called before the target runs: it could rewrite its own snapshot.
///
/// # Errors
/// The file is no regular file, is reached through a link, is too large, holds conflict markers or has no insta header.
pub fn approved(case: &Case) -> Result<Option<Approved>> {
    let Some(file) = file::read(&approved_path(case))? else {
        return Ok(None);
    };
    let snapshot = normalize::parse(&file.text).and_then(|snapshot| {
        if snapshot.case == case.name {
            Ok(snapshot)
        } else {
            Err(Error::not_judged(format!("it is the snapshot of case {}", snapshot.case)))
        }
    });
    Ok(Some(Approved {
        text: file.text,
        snapshot,
    }))
}

/// Reads the states of any snapshot file.
///
/// # Errors
/// There is none, or it cannot be read as [`approved`] reads one, or its text is none of a snapshot.
pub fn read(path: &Path) -> Result<Snapshot> {
    match file::read(path)? {
        Some(file) => normalize::parse(&file.text),
        None => Err(Error::config(format!("there is no {}", path.display()))),
    }
}

/// Compares, and (with [`Options::write`]) leaves or removes the pending file. A pending file that cannot be written leaves
/// the verdict as it is.
#[must_use]
pub fn compare(
    plan: &Plan,
    case: &Case,
    measured: &Snapshot,
    approved: Option<&Approved>,
    options: Options<'_>,
) -> SnapshotOutcome {
    compare_runs(plan, case, std::slice::from_ref(measured), approved, options)
}

/// True when the case has an approved snapshot and this run's is another.
#[must_use]
pub fn differs(case: &Case, measured: &Snapshot, approved: Option<&Approved>) -> bool {
    has_snapshot(case)
        && approved.is_some_and(|approved| normalize::render(&kept(case, measured, Some(approved))) != approved.text)
}

fn kept(case: &Case, measured: &Snapshot, approved: Option<&Approved>) -> Snapshot {
    match approved.and_then(Approved::states) {
        Some(reference) => normalize::within(case, measured, reference),
        None => measured.clone(),
    }
}

/// As [`compare`], on several runs of the same binary: what every run shows is a difference, what only some show makes the
/// case unsteady. The text, and with it the pending file, says `varies` where the runs do not agree.
#[must_use]
pub fn compare_runs(
    plan: &Plan,
    case: &Case,
    runs: &[Snapshot],
    approved: Option<&Approved>,
    options: Options<'_>,
) -> SnapshotOutcome {
    if !has_snapshot(case) {
        let mut outcome = without_text(plan, case, SnapshotStatus::Off);
        settle(plan, case, &mut outcome, options);
        return outcome;
    }
    let kept: Vec<Snapshot> = runs.iter().map(|run| kept(case, run, approved)).collect();
    let merged = normalize::merge(&kept);
    let text = normalize::render(&merged);
    let weighed = match approved.and_then(Approved::states) {
        Some(reference) if kept.len() > 1 => normalize::weigh(&kept, reference),
        // One run is all the evidence there is, and a text without states is compared as text.
        _ => Weighed {
            every_run_differs: true,
            unsteady: Vec::new(),
        },
    };
    let mut outcome = SnapshotOutcome {
        status: match approved {
            None => SnapshotStatus::New,
            Some(approved) if approved.text == text => SnapshotStatus::Same,
            // Without a value that differs it is the text alone that does: edited by hand, or of another version.
            Some(_) if weighed.every_run_differs || weighed.unsteady.is_empty() => SnapshotStatus::Differs,
            Some(_) => SnapshotStatus::Unsteady,
        },
        // What is approved as varying; what turned out to vary just now is `unsteady`.
        varying: kept.first().map(normalize::varying).unwrap_or_default(),
        text,
        runs: runs.len(),
        unsteady: weighed.unsteady,
        ..without_text(plan, case, SnapshotStatus::Same)
    };
    let differs = matches!(outcome.status, SnapshotStatus::Differs | SnapshotStatus::Unsteady);
    if let Some(approved) = approved.filter(|_| differs) {
        outcome.diff = difference(approved, &outcome.text);
        outcome.rows = changed_rows(&approved.text, &outcome.text);
    }
    // That a row varies is news that a run which happens to pass does not outdate.
    if outcome.status == SnapshotStatus::Same
        && let Some(waiting) = pending::of(plan, case, options)
        && waiting.says_varies(case, &merged)
    {
        outcome.pending = Some(waiting.path);
        return outcome;
    }
    outcome.patch = patch(plan, case, &outcome);
    settle(plan, case, &mut outcome, options);
    outcome
}

/// The change that accepting would make, for `git apply`; empty when there is nothing to accept.
fn patch(plan: &Plan, case: &Case, outcome: &SnapshotOutcome) -> String {
    if !matches!(outcome.status, SnapshotStatus::Differs | SnapshotStatus::New) || outcome.path.is_absolute() {
        return String::new();
    }
    let pending = file::pending_bytes(&header(plan, case, &format!("memory of {}", case.name)), &outcome.text);
    let Some(accepted) = file::accepted_of(&pending) else {
        return String::new();
    };
    let old = match outcome.status {
        // There was none when the case began.
        SnapshotStatus::New => None,
        _ => match file::bytes(&path(case)) {
            Ok(old) => old,
            // A damaged file is not patched.
            Err(_) => return String::new(),
        },
    };
    patch::patch(&outcome.path, old.as_deref(), &accepted)
}

/// False for a case that is gated by its budgets only.
#[must_use]
pub fn has_snapshot(case: &Case) -> bool {
    !case.snapshot.off && case.checkpoints.iter().any(|spec| spec.snapshot)
}

/// The outcome of a case whose snapshot was not compared, as the case could not be judged. No file is touched.
#[must_use]
pub fn not_compared(plan: &Plan, case: &Case) -> SnapshotOutcome {
    without_text(plan, case, SnapshotStatus::NotCompared)
}

fn without_text(plan: &Plan, case: &Case, status: SnapshotStatus) -> SnapshotOutcome {
    let target = path(case);
    SnapshotOutcome {
        path: target.strip_prefix(&plan.root).map(Path::to_path_buf).unwrap_or(target),
        ..SnapshotOutcome::none(status)
    }
}

/// Makes the pending file say what the outcome says: there with the text when something is to be reviewed, else not there.
fn settle(plan: &Plan, case: &Case, outcome: &mut SnapshotOutcome, options: Options<'_>) {
    if !options.write {
        return;
    }
    let has_news = matches!(
        outcome.status,
        SnapshotStatus::Differs | SnapshotStatus::Unsteady | SnapshotStatus::New
    );
    let description = format!("memory of {}", case.name);
    let header = header(plan, case, &description);
    let news = has_news.then(|| file::pending_bytes(&header, &outcome.text));
    match pending::place(plan, &path(case), news.as_deref(), options.pending_dir) {
        Ok(path) => outcome.pending = path,
        Err(error) => outcome.pending_error = Some(error.to_string()),
    }
}

fn header<'a>(plan: &'a Plan, case: &'a Case, description: &'a str) -> Header<'a> {
    // A case built in Rust has its place there.
    let source = if case.place.line == 0 {
        &plan.file
    } else {
        Path::new(&case.place.file)
    };
    Header {
        source,
        line: Some(case.place.line),
        description,
        environment: Some(case.environment.as_deref().unwrap_or(ENVIRONMENT)),
    }
}

/// A pending change as a unified difference; a new one is all added lines.
#[must_use]
pub fn change(pending: &Pending) -> String {
    unified(pending.approved.as_deref().unwrap_or_default(), &pending.text)
}

fn difference(approved: &Approved, text: &str) -> String {
    let mut out = String::new();
    if let Err(why) = &approved.snapshot {
        out = format!("the approved text cannot be read as states ({why}); compared as text\n");
    }
    out.push_str(&unified(&approved.text, text));
    out
}

fn unified(old: &str, new: &str) -> String {
    let diff = similar::TextDiff::configure().timeout(DIFF_TIME).diff_lines(old, new);
    diff.unified_diff()
        .context_radius(3)
        .header("approved", "measured")
        .to_string()
}

/// Rows that stand differently in two texts, at least one: each (head, name of the row) once.
fn changed_rows(old: &str, new: &str) -> usize {
    let (old, new) = (rows(old), rows(new));
    let differ = old.iter().filter(|(key, row)| new.get(*key) != Some(*row)).count();
    let added = new.keys().filter(|key| !old.contains_key(*key)).count();
    (differ + added).max(1)
}

fn rows(text: &str) -> BTreeMap<(&str, &str), &str> {
    let mut head = "";
    let mut rows = BTreeMap::new();
    for line in text.lines() {
        let mut words = line.split_whitespace();
        match words.next() {
            None | Some("count" | "nothing") => {}
            Some(name) if line.starts_with(' ') => {
                rows.insert((head, name), line);
            }
            // What follows the name in brackets speaks of the checkpoint before.
            Some(_) => head = line.rsplit_once(" (").map_or(line, |(head, _)| head),
        }
    }
    rows
}

#[cfg(test)]
pub(in crate::compare) mod tests {
    use std::fs;

    use super::*;
    use crate::model::{At, Cell, CheckpointSpec, Defaults, Place, Role, Row, RowKey, State, Target};

    pub(in crate::compare) fn case(dir: &Path, name: &str) -> Case {
        let program = "true".to_owned();
        let mut case = Case::new(name, dir, Target::Command { program });
        case.checkpoints = vec![CheckpointSpec::new("a", At::Main)];
        case.place = Place {
            file: "memcheck.toml".to_owned(),
            line: 7,
            column: 1,
        };
        case
    }

    pub(in crate::compare) fn plan(root: &Path, cases: &[Case]) -> Plan {
        Plan {
            root: root.to_path_buf(),
            file: PathBuf::from("memcheck.toml"),
            is_cargo: false,
            data_dir: root.join("target/memcheck-data"),
            defaults: Defaults::default(),
            cases: cases.to_vec(),
            cases_in_file: cases.len(),
            partition: None,
        }
    }

    pub(in crate::compare) fn heap(name: &str, kib: u64) -> Snapshot {
        let row = Row {
            count: Cell::Value(1),
            reserved: Cell::Value(132 << 10),
            anon: Cell::Value(kib << 10),
        };
        Snapshot {
            case: name.to_owned(),
            checkpoints: vec![State {
                name: "a".to_owned(),
                child: None,
                rows: [(RowKey::Role(Role::MainHeap), row)].into(),
            }],
            ..Snapshot::default()
        }
    }

    const WRITE: Options<'_> = Options {
        write: true,
        pending_dir: None,
    };

    #[test]
    fn new_then_accepted_then_same_then_differs_then_back() {
        let dir = tempfile::tempdir().unwrap();
        let case = case(dir.path(), "threads-2.x");
        let plan = plan(dir.path(), std::slice::from_ref(&case));
        assert!(approved(&case).unwrap().is_none());
        let first = compare(&plan, &case, &heap("threads-2.x", 4), None, WRITE);
        assert_eq!((first.status, first.rows, first.diff.as_str()), (SnapshotStatus::New, 0, ""));
        assert_eq!(first.path, Path::new("memcheck/snapshots/threads-2.x.snap"));
        assert_eq!(
            first.pending,
            Some(dir.path().join("memcheck/snapshots/threads-2.x.snap.new"))
        );

        let waiting = pending(&plan, WRITE).unwrap();
        assert_eq!(waiting.len(), 1);
        accept(&waiting[0]).unwrap();
        let known = approved(&case).unwrap().unwrap();
        assert_eq!(known.states(), Some(&heap("threads-2.x", 4)));
        let same = compare(&plan, &case, &heap("threads-2.x", 4), Some(&known), WRITE);
        assert_eq!((same.status, same.pending), (SnapshotStatus::Same, None));

        let differs = compare(&plan, &case, &heap("threads-2.x", 8), Some(&known), WRITE);
        assert_eq!((differs.status, differs.rows), (SnapshotStatus::Differs, 1));
        assert!(
            differs.diff.contains("\n-  main-heap") && differs.diff.contains("\n+  main-heap"),
            "{}",
            differs.diff
        );
        assert!(differs.pending.as_ref().unwrap().exists());
        let _ = compare(&plan, &case, &heap("threads-2.x", 4), Some(&known), WRITE);
        assert!(!differs.pending.unwrap().exists(), "equal again: nothing to review");
    }

    #[test]
    fn tolerance_leaves_the_text_alone() {
        let dir = tempfile::tempdir().unwrap();
        let mut case = case(dir.path(), "c");
        case.snapshot.tolerance.insert(Role::MainHeap, 4096);
        let plan = plan(dir.path(), std::slice::from_ref(&case));
        let text = normalize::render(&heap("c", 4));
        let known = Approved {
            snapshot: normalize::parse(&text),
            text,
        };
        let outcome = compare(&plan, &case, &heap("c", 8), Some(&known), WRITE);
        assert_eq!((outcome.status, &outcome.text), (SnapshotStatus::Same, &known.text));
    }

    #[test]
    fn an_approved_text_that_is_none_is_compared_as_text() {
        let dir = tempfile::tempdir().unwrap();
        let case = case(dir.path(), "c");
        let path = path(&case);
        write_whole(&path, b"---\nsource: memcheck.toml\n---\nedited by hand\n").unwrap();
        let known = approved(&case).unwrap().unwrap();
        assert!(known.states().is_none());
        let outcome = compare(&plan(dir.path(), &[]), &case, &heap("c", 4), Some(&known), Options::default());
        assert_eq!(outcome.status, SnapshotStatus::Differs);
        assert!(
            outcome
                .diff
                .starts_with("the approved text cannot be read as states (line 1: "),
            "{}",
            outcome.diff
        );
        assert!(outcome.diff.contains("-edited by hand"));
        assert_eq!(outcome.pending, None, "nothing is written unless asked for");
        let other = b"---\nsource: memcheck.toml\n---\ncase other\n\nend of case other\n";
        fs::write(&path, other).unwrap();
        assert!(
            approved(&case).unwrap().unwrap().states().is_none(),
            "another case's states are not this one's"
        );
    }

    #[test]
    fn a_directory_that_cannot_be_written_leaves_the_verdict() {
        let case = case(Path::new("/proc/self"), "c");
        let outcome = compare(&plan(Path::new("/proc/self"), &[]), &case, &heap("c", 4), None, WRITE);
        assert_eq!((outcome.status, outcome.pending), (SnapshotStatus::New, None));
        assert!(outcome.pending_error.is_some());
    }

    #[test]
    fn a_case_without_snapshot_is_off_and_leaves_nothing_pending() {
        let dir = tempfile::tempdir().unwrap();
        let mut case = case(dir.path(), "c");
        let plan = plan(dir.path(), std::slice::from_ref(&case));
        let file = compare(&plan, &case, &heap("c", 4), None, WRITE).pending.unwrap();
        case.checkpoints[0].snapshot = false;
        assert_eq!(compare(&plan, &case, &heap("c", 4), None, WRITE).status, SnapshotStatus::Off);
        assert!(!file.exists());
    }

    #[test]
    fn rows_are_counted_by_checkpoint_and_name() {
        let old = "case c\n\ncheckpoint a (KiB, sum of the row)\n  threads 1\n  guard 1 4 0\n\nend of case c\n";
        let new = "case c\n  hardening     nx\n\ncheckpoint a (KiB, sum of the row)\n  threads 2\n  tls 1 4 4\n\nend of case c\n";
        assert_eq!(changed_rows(old, new), 4);
        assert_eq!(changed_rows("x", "y"), 1);
    }
}
