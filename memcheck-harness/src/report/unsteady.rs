//! What the human text says of values on which the runs of a case do not agree. Weighing them is `normalize`'s.

use std::io::{self, Write};

use super::Style;
use super::human::{REMEDY_COLUMN, headed};
use super::text::{clean, columns, labelled, plural, wrap};
use crate::model::{CaseReport, Outcome, SnapshotOutcome, SnapshotStatus, UnsteadyCell};

/// Values shown before the rest is only counted.
const VALUES: usize = 8;

/// The verdict on a snapshot that only some runs differ from.
pub(super) fn verdict(snapshot: &SnapshotOutcome, outcome: Outcome, style: Style, out: &mut dyn Write) -> io::Result<()> {
    let why = if outcome == Outcome::Warning {
        "; a warning only: this is not the environment of record"
    } else {
        ""
    };
    let runs = plural(snapshot.runs, "run");
    let text = format!("{runs} of the same binary do not agree; no value differs from the approved one in all of them{why}");
    headed("Snapshot unsteady: ", &text, style, out)?;
    values(snapshot, style, out)
}

/// The values themselves, one line each.
pub(super) fn values(snapshot: &SnapshotOutcome, style: Style, out: &mut dyn Write) -> io::Result<()> {
    let shown = if style.verbose > 0 { usize::MAX } else { VALUES };
    for cell in snapshot.unsteady.iter().take(shown) {
        let text = clean(&format!("varies between runs: {cell}"));
        for (i, line) in wrap(&text, columns(style).saturating_sub(6)).iter().enumerate() {
            writeln!(out, "{}{line}", if i == 0 { "    " } else { "      " })?;
        }
    }
    let left = snapshot.unsteady.len().saturating_sub(shown);
    if left > 0 {
        writeln!(out, "    {} more: -v", left)?;
    }
    Ok(())
}

/// Ways to make such a case repeatable, or to say that it is not.
pub(super) fn remedies(case: &CaseReport, style: Style, out: &mut dyn Write) -> io::Result<()> {
    let cells = &case.snapshot.unsteady;
    if cells.is_empty() {
        return Ok(());
    }
    let text = "a checkpoint that every run passes in the same state: after a join or a barrier, not while threads race; or \
                settle = \"200ms\" there, which waits until memory rests";
    labelled(style, "settle it", REMEDY_COLUMN, text, out)?;
    if let Some(range) = cells.iter().find_map(range) {
        labelled(style, "allow a range", REMEDY_COLUMN, &range, out)?;
    }
    if case.snapshot.status == SnapshotStatus::Unsteady {
        let text = format!(
            "cargo memcheck accept {}  writes `varies` for these rows: shown, not gated",
            case.name
        );
        labelled(style, "it races?", REMEDY_COLUMN, &text, out)?;
    }
    Ok(())
}

/// `budget.thread-arena.count = { min = 1, max = 2 }`
fn range(cell: &UnsteadyCell) -> Option<String> {
    let values: Vec<u64> = cell
        .values
        .iter()
        .copied()
        .chain([cell.approved])
        .map(Option::unwrap_or_default)
        .collect();
    let (min, max) = (values.iter().min()?, values.iter().max()?);
    (!cell.column.is_empty()).then(|| {
        format!(
            "budget.{} = {{ min = {}, max = {} }} at {}; budgets hold where a row varies",
            cell.metric(),
            cell.limit(*min),
            cell.limit(*max),
            cell.checkpoint
        )
    })
}

#[cfg(test)]
mod tests {
    use super::super::fixtures::{case, print, run, snapshot};
    use super::super::human;
    use super::*;
    use crate::model::RunReport;

    fn racing(status: SnapshotStatus) -> RunReport {
        let mut case = snapshot(case("racy"), status);
        case.snapshot.runs = 3;
        case.snapshot.unsteady = vec![UnsteadyCell {
            checkpoint: "done".to_owned(),
            row: "thread-arena".to_owned(),
            column: "count".to_owned(),
            approved: Some(1),
            values: vec![Some(1), Some(2)],
        }];
        run(vec![case])
    }

    #[test]
    fn an_unsteady_case_is_no_regression_and_says_what_to_do() {
        let report = racing(SnapshotStatus::Unsteady);
        assert_eq!(
            print(|out| human::case(&report, &report.cases[0], Style::default(), out)),
            "        FAIL [   0.021s] (1/1) racy\n\n  \
             Snapshot unsteady: 3 runs of the same binary do not agree; no value differs\n    \
             from the approved one in all of them\n    \
             varies between runs: thread-arena.count 1 or 2 at done (approved 1)\n\n  \
             Same environment as approved.\n\n  \
             settle it      a checkpoint that every run passes in the same state: after a\n                 \
             join or a barrier, not while threads race; or settle = \"200ms\"\n                 \
             there, which waits until memory rests\n  \
             allow a range  budget.thread-arena.count = { min = 1, max = 2 } at done;\n                 \
             budgets hold where a row varies\n  \
             it races?      cargo memcheck accept racy writes `varies` for these rows:\n                 \
             shown, not gated\n  \
             look closer    cargo memcheck -v racy\n\n"
        );
    }

    #[test]
    fn values_that_vary_beside_a_difference_are_named_too() {
        let report = racing(SnapshotStatus::Differs);
        let text = print(|out| human::case(&report, &report.cases[0], Style::default(), out));
        assert!(text.contains("Snapshot differs: 3 rows\n"), "{text}");
        assert!(text.contains("varies between runs: thread-arena.count 1 or 2"), "{text}");
        assert!(text.contains("intended?      cargo memcheck accept racy\n"), "{text}");
    }
}
