//! Checks written in Rust: closures over the classified memory of a checkpoint, or over the change between two. Owns how they
//! are run and what a failing one says; the maps come from a finished report.

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::model::{CaseReport, MemoryMap, Metric, Name, Place, Problem, ProblemKind};

/// What a check may give back: nothing (it panics when it fails), or a result.
pub trait Checked {
    /// Whether it holds, and why not.
    ///
    /// # Errors
    /// It does not hold.
    fn checked(self) -> Result<(), String>;
}

impl Checked for () {
    fn checked(self) -> Result<(), String> {
        Ok(())
    }
}

impl<E: fmt::Display> Checked for Result<(), E> {
    fn checked(self) -> Result<(), String> {
        self.map_err(|error| error.to_string())
    }
}

/// Two checkpoints of one run.
#[derive(Clone, Copy, Debug)]
pub struct Change<'a> {
    /// The memory at the first.
    pub before: &'a MemoryMap,
    /// The memory at the second.
    pub after: &'a MemoryMap,
}

impl Change<'_> {
    /// By how much a metric changed, in its unit (bytes, or a number for counts).
    ///
    /// # Errors
    /// The name is none of a metric, or this machine or build cannot give its value.
    pub fn of(&self, metric: &str) -> Result<i128, String> {
        Ok(i128::from(value(self.after, metric)?) - i128::from(value(self.before, metric)?))
    }
}

/// The value of a metric by its name: bytes, or a number for counts.
///
/// # Errors
/// The name is none of a metric, or this machine or build cannot give its value: never zero instead.
pub fn value(map: &MemoryMap, metric: &str) -> Result<u64, String> {
    let metric = Metric::parse(metric).map_err(|error| error.to_string())?;
    map.metric(&metric).ok_or_else(|| format!("{metric} is not known here"))
}

type OfMap = dyn Fn(&MemoryMap) -> Result<(), String> + Send + Sync;
type OfChange = dyn Fn(&Change<'_>) -> Result<(), String> + Send + Sync;

enum Run {
    Map { at: String, check: Box<OfMap> },
    Change { from: String, to: String, check: Box<OfChange> },
}

/// A check with its place in the Rust code.
pub(super) struct Check {
    pub(super) place: Place,
    run: Run,
}

impl fmt::Debug for Check {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Check({}, {})", self.what(), self.place)
    }
}

impl Check {
    pub(super) fn map<C: Checked>(at: &str, place: Place, check: impl Fn(&MemoryMap) -> C + Send + Sync + 'static) -> Self {
        let check = Box::new(move |map: &MemoryMap| check(map).checked());
        let at = at.to_owned();
        Self {
            place,
            run: Run::Map { at, check },
        }
    }

    pub(super) fn change<C: Checked>(
        from: &str,
        to: &str,
        place: Place,
        check: impl Fn(&Change<'_>) -> C + Send + Sync + 'static,
    ) -> Self {
        let check = Box::new(move |change: &Change<'_>| check(change).checked());
        let (from, to) = (from.to_owned(), to.to_owned());
        Self {
            place,
            run: Run::Change { from, to, check },
        }
    }

    /// The checkpoints it speaks of.
    pub(super) fn checkpoints(&self) -> Vec<&str> {
        match &self.run {
            Run::Map { at, .. } => vec![at],
            Run::Change { from, to, .. } => vec![from, to],
        }
    }

    fn what(&self) -> String {
        match &self.run {
            Run::Map { at, .. } => format!("at {at}"),
            Run::Change { from, to, .. } => format!("from {from} to {to}"),
        }
    }

    /// A panic is a failure with the panic's words.
    fn run(&self, case: &CaseReport) -> Result<(), String> {
        let map = |name: &str| {
            let found = case.checkpoints.iter().find(|checkpoint| checkpoint.name == name);
            found
                .map(|checkpoint| &checkpoint.map)
                .ok_or_else(|| format!("checkpoint {name} was not measured"))
        };
        let outcome = match &self.run {
            Run::Map { at, check } => {
                let map = map(at)?;
                catch_unwind(AssertUnwindSafe(|| check(map)))
            }
            Run::Change { from, to, check } => {
                let change = Change {
                    before: map(from)?,
                    after: map(to)?,
                };
                catch_unwind(AssertUnwindSafe(|| check(&change)))
            }
        };
        outcome.unwrap_or_else(|payload| {
            let text = payload.downcast_ref::<String>().map(String::as_str);
            let text = text.or_else(|| payload.downcast_ref::<&str>().copied());
            Err(text.unwrap_or("the check panicked").to_owned())
        })
    }
}

/// Runs the checks of a case. Those that fail become its problem; a case that could not be judged is left as it is.
pub(super) fn apply(checks: &[Check], case: &mut CaseReport) {
    if case.problem.is_some() {
        return;
    }
    let mut failed = checks.iter().filter_map(|check| Some((check, check.run(case).err()?)));
    let Some((first, why)) = failed.next() else { return };
    let mut problem = Problem {
        kind: ProblemKind::Check,
        title: format!("{}: {}", first.what(), shown(&why)),
        details: vec![format!("the check stands at {}", first.place)],
    };
    for (check, why) in failed {
        problem
            .details
            .push(format!("{}: {} ({})", check.what(), shown(&why), check.place));
    }
    case.problem = Some(problem);
}

/// What a check says may quote names that the target chose: lines stay lines, everything else is escaped.
fn shown(text: &str) -> String {
    let lines: Vec<String> = text.lines().map(|line| Name::from(line).to_string()).collect();
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::fixtures::unjoined;

    fn problem(checks: &[Check]) -> Option<Problem> {
        let mut case = unjoined().cases.remove(0);
        apply(checks, &mut case);
        case.problem
    }

    fn names() -> Vec<String> {
        unjoined().cases[0].checkpoints.iter().map(|c| c.name.clone()).collect()
    }

    #[test]
    fn checks_fail_by_error_or_panic_and_say_where() {
        let place = Place {
            file: "tests/memory.rs".to_owned(),
            line: 7,
            column: 1,
        };
        let names = names();
        let holds = Check::map(&names[0], place.clone(), |map| assert!(map.page_bytes < 1 << 20));
        assert_eq!(problem(std::slice::from_ref(&holds)), None);
        let fails = Check::change(&names[0], &names[1], place.clone(), |_| Err("grew \u{1b}[31m".to_owned()));
        let panics = Check::map(&names[1], place.clone(), |_| -> () { panic!("two\nlines") });
        let missing = Check::map("nowhere", place, |_| ());
        let found = problem(&[holds, fails, panics, missing]).unwrap();
        assert_eq!(found.kind, ProblemKind::Check);
        assert_eq!(found.title, format!("from {} to {}: grew \\x1b[31m", names[0], names[1]));
        assert_eq!(found.details[0], "the check stands at tests/memory.rs:7");
        assert!(found.details[1].contains("two\nlines (tests/memory.rs:7)"), "{found:?}");
        assert!(found.details[2].contains("checkpoint nowhere was not measured"), "{found:?}");
    }

    #[test]
    fn metrics_that_are_not_known_are_errors() {
        let case = unjoined().cases.remove(0);
        let (before, after) = (&case.checkpoints[0].map, &case.checkpoints[1].map);
        let change = Change { before, after };
        assert_eq!(
            change.of("threads.count"),
            Ok(i128::from(value(after, "threads.count").unwrap()) - i128::from(value(before, "threads.count").unwrap()))
        );
        assert!(change.of("main-heap.used").unwrap_err().contains("not known here"));
        assert!(value(after, "thread.count").is_err());
    }
}
