//! The end of the human text: environment, warnings, failed cases, and the last line "measured N checkpoints in M cases …".

use std::collections::BTreeMap;
use std::io::{self, Write};

use super::text::{Ink, clean, differences, paint, plural};
use super::{Style, gated, hardening, progress, revision, waiver};
use crate::model::{CaseReport, Outcome, ProblemKind, RunReport, SnapshotStatus, Verdict};

/// Cases by how they came out. A case can break a budget and differ from its snapshot at once.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Tally {
    pub(super) failed: usize,
    pub(super) budgets: usize,
    pub(super) snapshots: usize,
    pub(super) not_judged: usize,
    pub(super) warnings: usize,
    /// Parts of the run of which nothing is known, no cases.
    pub(super) parts: usize,
}

/// Counts the cases.
pub(super) fn tally(report: &RunReport) -> Tally {
    let mut tally = Tally::default();
    for case in &report.cases {
        if case.is_part {
            tally.parts += 1;
            continue;
        }
        let outcome = super::outcome(report, case);
        match outcome {
            Outcome::Pass => continue,
            Outcome::Warning => {
                tally.warnings += 1;
                continue;
            }
            Outcome::Problem | Outcome::Budget | Outcome::Snapshot => tally.failed += 1,
        }
        let [budget, snapshot, problem] = reasons(report, case, outcome);
        tally.budgets += usize::from(budget);
        tally.snapshots += usize::from(snapshot);
        tally.not_judged += usize::from(problem);
    }
    tally
}

/// Budget, snapshot, not judged.
fn reasons(report: &RunReport, case: &CaseReport, outcome: Outcome) -> [bool; 3] {
    let here = report.ci || report.environment_status.differences.is_empty();
    let snapshot = match case.snapshot.status {
        SnapshotStatus::New => true,
        SnapshotStatus::Differs | SnapshotStatus::Unsteady => here,
        SnapshotStatus::Same | SnapshotStatus::Off | SnapshotStatus::NotCompared => false,
    };
    // A check in Rust is a limit written in code: it was judged, and does not hold.
    let check = case
        .problem
        .as_ref()
        .is_some_and(|problem| problem.kind == ProblemKind::Check);
    let problem = outcome == Outcome::Problem;
    [case.violations() > 0 || check, snapshot && !problem, problem && !check]
}

/// The end of the human text; its last line always says what was measured.
///
/// # Errors
/// Those of the writer.
pub fn summary(report: &RunReport, style: Style, out: &mut dyn Write) -> io::Result<()> {
    environment(report, style, out)?;
    varying(report, style, out)?;
    ungated(report, style, out)?;
    hardening::warnings(report, style, out)?;
    remarks(report, style, out)?;
    waiver::waivers(report, style, out)?;
    revision::revision(report, style, out)?;
    failed(report, style, out)?;
    let tally = tally(report);
    if report.not_selected > 0 {
        let verb = if report.not_selected == 1 { "was" } else { "were" };
        progress::note(
            style,
            &format!("{} {verb} not selected", plural(report.not_selected, "further case")),
            out,
        )?;
    }
    let expired = report.expired_waivers().next().is_some();
    let ink = if report.interrupted.is_some() || tally.failed + tally.parts > 0 || expired || report.checkpoints() == 0 {
        Ink::Bad
    } else {
        Ink::Good
    };
    writeln!(out, "{}", paint(style, ink, &words(report, tally)))
}

/// The last line of all text about a run.
#[must_use]
pub fn last_line(report: &RunReport) -> String {
    words(report, tally(report))
}

/// `measured 27 checkpoints in 11 cases: all passed`
fn words(report: &RunReport, tally: Tally) -> String {
    let measured = format!(
        "measured {} in {}",
        plural(report.checkpoints(), "checkpoint"),
        plural(report.cases.len() - tally.parts, "case")
    );
    let expired = report.expired_waivers().count();
    let limits = report
        .cases
        .iter()
        .flat_map(|case| &case.checkpoints)
        .flat_map(|checkpoint| &checkpoint.limits);
    let headers = report.cases.iter().flat_map(|case| &case.elf);
    let waived = limits.filter(|limit| limit.verdict == Verdict::Waived).count()
        + headers.filter(|result| result.verdict == Verdict::Waived).count();
    let mut parts = Vec::new();
    if let Some(signal) = report.interrupted {
        parts.push(format!("interrupted by signal {signal}"));
    } else if !report.complete {
        parts.push("incomplete, the run did not come to its end".to_owned());
    }
    if tally.failed > 0 {
        let reasons: Vec<String> = [
            (tally.budgets, plural(tally.budgets, "budget")),
            (tally.snapshots, plural(tally.snapshots, "snapshot")),
            (tally.not_judged, format!("{} not judged", tally.not_judged)),
        ]
        .into_iter()
        .filter(|(count, _)| *count > 0)
        .map(|(_, text)| text)
        .collect();
        parts.push(format!("{} failed ({})", tally.failed, reasons.join(", ")));
    } else if expired + tally.parts > 0 {
        // Said below: no case failed, but the run does.
    } else if report.interrupted.is_none() && report.complete {
        parts.push(
            match (report.cases.is_empty(), report.checkpoints()) {
                (true, _) => "nothing was selected",
                (false, 0) => "nothing was measured",
                (false, _) if nothing_gated(report) => "nothing is gated, no snapshot and no budget",
                (false, _) => "all passed",
            }
            .to_owned(),
        );
    }
    if tally.parts > 0 {
        parts.push(format!("{} of the run failed", plural(tally.parts, "part")));
    }
    if expired > 0 {
        parts.push(format!("failed: {} expired", plural(expired, "waiver")));
    }
    if waived > 0 {
        parts.push(format!("{} waived", plural(waived, "limit")));
    }
    if tally.warnings > 0 {
        parts.push(plural(tally.warnings, "warning"));
    }
    format!("{measured}: {}", parts.join(", "))
}

/// Neither a snapshot nor a limit anywhere: a pass would say more than was checked.
fn nothing_gated(report: &RunReport) -> bool {
    report.cases.iter().all(gated::is_ungated)
}

/// What passes without being checked, beside what is: each case and checkpoint by name.
fn ungated(report: &RunReport, style: Style, out: &mut dyn Write) -> io::Result<()> {
    if nothing_gated(report) {
        // The last line says so of all.
        return Ok(());
    }
    for case in &report.cases {
        if gated::is_ungated(case) {
            let text = format!(
                "nothing is gated in case {}: it has neither a snapshot nor a budget",
                case.name
            );
            progress::warning(style, &text, out)?;
        }
        let places = gated::ungated_checkpoints(case);
        if !places.is_empty() {
            let text = format!(
                "nothing is gated at {} of case {}: in no snapshot, and without a budget",
                places.join(", "),
                case.name
            );
            progress::warning(style, &text, out)?;
        }
    }
    Ok(())
}

/// One line however many cases differ: what is different here, and how the comparisons came out.
fn environment(report: &RunReport, style: Style, out: &mut dyn Write) -> io::Result<()> {
    let status = &report.environment_status;
    let Some(recorded) = &status.recorded else {
        if report.cases.iter().any(|case| case.snapshot.status != SnapshotStatus::Off) {
            let text = "no environment of record is approved yet; this one is after  cargo memcheck accept";
            progress::note(style, text, out)?;
        }
        return Ok(());
    };
    if status.differences.is_empty() {
        return Ok(());
    }
    let count = |wanted: SnapshotStatus| report.cases.iter().filter(|case| case.snapshot.status == wanted).count();
    let (equal, differ) = (
        count(SnapshotStatus::Same),
        count(SnapshotStatus::Differs) + count(SnapshotStatus::Unsteady),
    );
    let verb = if differ == 1 { "differs" } else { "differ" };
    let rule = if report.ci { " (under CI differences fail)" } else { "" };
    progress::warning(
        style,
        &format!(
            "not the environment of {recorded}: {}; {} compared, {equal} equal, {differ} {verb}{rule}",
            differences(&report.environment_status),
            plural(equal + differ, "case")
        ),
        out,
    )?;
    if report.ci {
        return Ok(());
    }
    progress::note(
        style,
        "to put this machine on record:  cargo memcheck accept --environment",
        out,
    )
}

fn varying(report: &RunReport, style: Style, out: &mut dyn Write) -> io::Result<()> {
    for case in &report.cases {
        for row in &case.snapshot.varying {
            progress::warning(style, &format!("not gated: row varies: {} @ {row}", case.name), out)?;
        }
    }
    Ok(())
}

/// Remarks and refused settings, equal ones once.
fn remarks(report: &RunReport, style: Style, out: &mut dyn Write) -> io::Result<()> {
    let mut warnings: BTreeMap<String, Vec<&str>> = BTreeMap::new();
    let mut notes: BTreeMap<String, Vec<&str>> = BTreeMap::new();
    for case in &report.cases {
        for setting in &case.settings {
            if let Some(why) = &setting.refused {
                let text = format!("launch setting {} {} was refused: {why}", setting.name, setting.value);
                warnings.entry(text).or_default().push(&case.name);
            }
        }
        for note in &case.notes {
            notes.entry(note.clone()).or_default().push(&case.name);
        }
        let shown = matches!(
            super::outcome(report, case),
            Outcome::Problem | Outcome::Budget | Outcome::Snapshot
        );
        if let Some(error) = case.snapshot.pending_error.as_ref().filter(|_| !shown) {
            let text = format!("pending file not written: {error}");
            warnings.entry(text).or_default().push(&case.name);
        }
    }
    let named = |text: &str, cases: &[&str]| match cases {
        [one] => format!("{text} ({one})"),
        many => format!("{text} ({} cases)", many.len()),
    };
    for (text, cases) in &warnings {
        progress::warning(style, &named(text, cases), out)?;
    }
    for (text, cases) in &notes {
        progress::note(style, &named(text, cases), out)?;
    }
    Ok(())
}

/// The failed cases again, one line each, when others stand between them and the end.
fn failed(report: &RunReport, style: Style, out: &mut dyn Write) -> io::Result<()> {
    if report.cases.len() < 2 {
        return Ok(());
    }
    for case in &report.cases {
        let outcome = super::outcome(report, case);
        if matches!(outcome, Outcome::Pass | Outcome::Warning) {
            continue;
        }
        let [budget, snapshot, problem] = reasons(report, case, outcome);
        let unknown = |limit: &&crate::model::LimitResult| limit.verdict == Verdict::Unknown;
        let limits = case.checkpoints.iter().flat_map(|c| &c.limits);
        let broken = limits.filter(|limit| limit.verdict.is_broken()).count();
        let hardening = hardening::broken(case).next().is_some();
        let budget = budget && (broken > 0 || !hardening);
        let all_unknown = broken == case.checkpoints.iter().flat_map(|c| &c.limits).filter(unknown).count();
        let words: Vec<&str> = [
            (problem, "not judged"),
            (hardening, "hardening"),
            (budget && all_unknown, "budget not judged"),
            (budget && !all_unknown, "budget exceeded"),
            (
                snapshot && case.snapshot.status == SnapshotStatus::New,
                "no approved snapshot",
            ),
            (
                snapshot && case.snapshot.status == SnapshotStatus::Differs,
                "snapshot differs",
            ),
            (
                snapshot && case.snapshot.status == SnapshotStatus::Unsteady,
                "snapshot unsteady",
            ),
        ]
        .into_iter()
        .filter(|(holds, _)| *holds)
        .map(|(_, word)| word)
        .collect();
        writeln!(
            out,
            "        {} {}",
            paint(style, Ink::Bad, "FAIL"),
            clean(&format!("{}: {}", case.name, words.join(", ")))
        )?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::fixtures::{broken, case, print, problem, run, snapshot};
    use super::*;
    use crate::model::ProblemKind;

    fn last(report: &RunReport) -> String {
        print(|out| summary(report, Style::default(), out))
            .lines()
            .last()
            .unwrap()
            .to_owned()
    }

    #[test]
    fn the_last_line_says_what_was_measured() {
        assert_eq!(last(&run(vec![])), "measured 0 checkpoints in 0 cases: nothing was selected");
        assert_eq!(last(&run(vec![case("a")])), "measured 1 checkpoint in 1 case: all passed");
        let mixed = run(vec![
            case("a"),
            snapshot(broken(case("b")), SnapshotStatus::Differs),
            problem(case("c"), ProblemKind::NotJudged),
        ]);
        assert_eq!(
            last(&mixed),
            "measured 3 checkpoints in 3 cases: 2 failed (1 budget, 1 snapshot, 1 not judged)"
        );
        let mut interrupted = run(vec![case("a")]);
        interrupted.interrupted = Some(2);
        assert_eq!(last(&interrupted), "measured 1 checkpoint in 1 case: interrupted by signal 2");
        let off = run(vec![snapshot(case("a"), SnapshotStatus::Off)]);
        assert_eq!(
            last(&off),
            "measured 1 checkpoint in 1 case: nothing is gated, no snapshot and no budget"
        );
    }

    #[test]
    fn what_is_gated_by_nothing_is_named_beside_what_is() {
        let report = run(vec![case("a"), snapshot(case("b"), SnapshotStatus::Off)]);
        let text = print(|out| summary(&report, Style::default(), out));
        assert!(
            text.starts_with("warning: nothing is gated in case b: it has neither a snapshot nor a budget\n"),
            "{text}"
        );
        let none = run(vec![snapshot(case("b"), SnapshotStatus::Off)]);
        assert!(!print(|out| summary(&none, Style::default(), out)).contains("warning"));
    }

    #[test]
    fn a_changed_environment_is_one_line() {
        let mut report = run(vec![case("a"), case("b"), snapshot(case("c"), SnapshotStatus::Differs)]);
        report
            .environment_status
            .differences
            .push(("glibc".to_owned(), "2.36".to_owned(), "2.41".to_owned()));
        report.cases[1].snapshot.varying.push("start: main-heap".to_owned());
        for case in &mut report.cases {
            case.notes
                .push("MALLOC_ARENA_MAX is set here and was not passed on".to_owned());
        }
        assert_eq!(
            print(|out| summary(&report, Style::default(), out)),
            "warning: not the environment of environment.snap: glibc 2.36 → 2.41; 3 cases\n         \
             compared, 2 equal, 1 differs\n\
             note: to put this machine on record: cargo memcheck accept --environment\n\
             warning: not gated: row varies: b @ start: main-heap\n\
             note: MALLOC_ARENA_MAX is set here and was not passed on (3 cases)\n\
             measured 3 checkpoints in 3 cases: all passed, 1 warning\n"
        );
    }

    #[test]
    fn failed_cases_are_named_at_the_end() {
        let report = run(vec![snapshot(broken(case("b")), SnapshotStatus::New), case("a")]);
        assert_eq!(
            print(|out| summary(&report, Style::default(), out)),
            "        FAIL b: budget exceeded, no approved snapshot\n\
             measured 2 checkpoints in 2 cases: 1 failed (1 budget, 1 snapshot)\n"
        );
    }
}
