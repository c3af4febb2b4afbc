//! Exit codes, and the one that stands for a run. Documented in the README.

use crate::model::{Comparison, Outcome, ProblemKind, RunReport};

/// All well.
pub const OK: u8 = 0;
/// The tool failed.
pub const TOOL: u8 = 1;
/// Usage or configuration.
pub const USAGE: u8 = 2;
/// A budget is exceeded.
pub const BUDGET: u8 = 3;
/// Nothing was selected or measured.
pub const NOTHING: u8 = 4;
/// A snapshot differs or is missing.
pub const SNAPSHOT: u8 = 5;
/// This machine cannot measure.
pub const MACHINE: u8 = 6;
/// A case could not be judged.
pub const NOT_JUDGED: u8 = 7;
/// A build failed.
pub const BUILD: u8 = 101;
/// Added to the signal that interrupted the run.
pub const SIGNAL: u8 = 128;

/// Without a known signal an interruption counts as Ctrl-C (`SIGINT`).
const SIGINT: u8 = 2;

/// From the weightiest to the lightest.
const ORDER: [u8; 8] = [USAGE, BUILD, MACHINE, TOOL, NOT_JUDGED, NOTHING, BUDGET, SNAPSHOT];

/// The code of a problem that stopped a case, or a command as a whole.
#[must_use]
pub fn of_problem(kind: ProblemKind) -> u8 {
    match kind {
        ProblemKind::NotJudged => NOT_JUDGED,
        ProblemKind::Check => BUDGET,
        ProblemKind::Build => BUILD,
        ProblemKind::Config => USAGE,
        ProblemKind::Machine => MACHINE,
        ProblemKind::Tool => TOOL,
        ProblemKind::Interrupted(signal) => of_signal(signal),
    }
}

/// 128+N; a number that is no signal's counts as SIGINT.
fn of_signal(signal: i32) -> u8 {
    let number = u8::try_from(signal)
        .ok()
        .filter(|number| (1..=64).contains(number))
        .unwrap_or(SIGINT);
    SIGNAL + number
}

/// What a code stands for, in a word for machines.
#[must_use]
pub const fn word(code: u8) -> &'static str {
    match code {
        OK => "ok",
        TOOL => "tool",
        USAGE => "config",
        BUDGET => "budget",
        NOTHING => "nothing",
        SNAPSHOT => "snapshot",
        MACHINE => "machine",
        NOT_JUDGED => "not-judged",
        BUILD => "build",
        _ => "interrupted",
    }
}

/// The exit code of a run: interrupted > usage > build > machine > tool > not judged > nothing > budget > snapshot.
#[must_use]
pub fn code(report: &RunReport) -> u8 {
    if let Some(signal) = report.interrupted {
        return of_signal(signal);
    }
    let mut codes: Vec<u8> = report
        .cases
        .iter()
        .filter_map(|case| match (&case.problem, super::outcome(report, case)) {
            (Some(problem), _) => Some(of_problem(problem.kind)),
            (None, Outcome::Problem) => Some(NOT_JUDGED),
            (None, Outcome::Budget) => Some(BUDGET),
            (None, Outcome::Snapshot) => Some(SNAPSHOT),
            (None, Outcome::Warning | Outcome::Pass) => None,
        })
        .collect();
    if report.expired_waivers().next().is_some() {
        codes.push(BUDGET);
    }
    if report.checkpoints() == 0 && report.cases.iter().all(|case| case.problem.is_none()) {
        codes.push(NOTHING);
    }
    if !report.complete {
        codes.push(NOT_JUDGED);
    }
    worst(codes)
}

/// The weightiest of several codes, what a command that worked on several cases ends with: interrupted > usage > build >
/// machine > tool > not judged > nothing > budget > snapshot > ok. A code that is none of ours counts as a failure of the
/// tool, never as a success.
#[must_use]
pub fn worst(codes: impl IntoIterator<Item = u8>) -> u8 {
    let weight = |code: u8| match ORDER.iter().position(|known| *known == code) {
        _ if code == OK => 0,
        // 128+N; BUILD lies below.
        _ if code > SIGNAL => ORDER.len() + 1,
        Some(at) => ORDER.len() - at,
        None => weight_of_tool(),
    };
    let mut worst = OK;
    for code in codes {
        if weight(code) > weight(worst) {
            worst = code;
        }
    }
    worst
}

/// The exit code of a comparison: a change is no failure, a limit that is broken by it is one, and so is a case that could not
/// be compared. Cases that only one side has count for nothing; comparing nothing at all is no success.
#[must_use]
pub fn of_comparison(comparison: &Comparison) -> u8 {
    if let Some(signal) = comparison.interrupted {
        return of_signal(signal);
    }
    let judged = || comparison.cases.iter().filter(|case| case.is_judged());
    let mut codes: Vec<u8> = judged()
        .filter_map(|case| match &case.report.problem {
            Some(problem) => Some(of_problem(problem.kind)),
            None => case.breaks_a_limit().then_some(BUDGET),
        })
        .collect();
    if judged().next().is_none() {
        codes.push(NOTHING);
    }
    worst(codes)
}

fn weight_of_tool() -> usize {
    ORDER.iter().position(|code| *code == TOOL).map_or(1, |at| ORDER.len() - at)
}

#[cfg(test)]
mod tests {
    use super::super::fixtures::{broken, case, problem, run, snapshot};
    use super::*;
    use crate::model::SnapshotStatus;

    #[test]
    fn the_weightiest_code_wins() {
        let kinds = [
            (ProblemKind::Config, USAGE),
            (ProblemKind::Build, BUILD),
            (ProblemKind::Machine, MACHINE),
            (ProblemKind::Tool, TOOL),
            (ProblemKind::NotJudged, NOT_JUDGED),
        ];
        let budget = || broken(case("b"));
        let differs = || snapshot(case("s"), SnapshotStatus::Differs);
        // One case of each kind, lightest first; each weightier one takes over.
        let mut cases = vec![differs()];
        assert_eq!(code(&run(cases.clone())), SNAPSHOT);
        cases.push(budget());
        assert_eq!(code(&run(cases.clone())), BUDGET);
        for (kind, expected) in kinds.into_iter().rev() {
            cases.push(problem(case("p"), kind));
            assert_eq!(code(&run(cases.clone())), expected);
        }
        let mut report = run(cases);
        report.interrupted = Some(15);
        assert_eq!(code(&report), 143);
    }

    #[test]
    fn any_order_gives_the_same_worst() {
        let all = [OK, SNAPSHOT, BUDGET, NOTHING, NOT_JUDGED, TOOL, MACHINE, BUILD, USAGE, 130];
        for (i, weightier) in all.into_iter().enumerate() {
            for lighter in &all[..=i] {
                assert_eq!(worst([*lighter, weightier]), weightier);
                assert_eq!(worst([weightier, *lighter]), weightier);
            }
        }
        assert_eq!(worst([]), OK);
        assert_eq!(worst([42, SNAPSHOT]), 42, "a foreign code is no success");
        assert_eq!(worst([129, 143]), 129, "the first signal");
    }

    #[test]
    fn nothing_measured_is_no_success() {
        assert_eq!(code(&run(vec![])), NOTHING);
        let mut empty = case("empty");
        empty.checkpoints.clear();
        empty.checkpoints_planned = 0;
        assert_eq!(code(&run(vec![empty])), NOTHING);
    }

    #[test]
    fn a_checkpoint_that_is_silently_missing_is_no_success() {
        let mut short = case("short");
        short.checkpoints_planned += 1;
        assert_eq!(code(&run(vec![short])), NOT_JUDGED);
    }

    #[test]
    fn success_and_a_warning_off_the_record_are_zero() {
        assert_eq!(code(&run(vec![case("a")])), OK);
        let mut report = run(vec![snapshot(case("s"), SnapshotStatus::Differs)]);
        report
            .environment_status
            .differences
            .push(("glibc".to_owned(), "2.36".to_owned(), "2.41".to_owned()));
        assert_eq!(code(&report), OK);
        report.ci = true;
        assert_eq!(code(&report), SNAPSHOT);
        assert_eq!(code(&run(vec![snapshot(case("n"), SnapshotStatus::New)])), SNAPSHOT);
    }
}
