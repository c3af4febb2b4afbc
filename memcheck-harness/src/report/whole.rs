//! All that a case has to show, passed or not: what its runs and its rounds say, and the tables of its checkpoints. For `-v`.

use std::io::{self, Write};

use super::Style;
use super::text::{Ink, paint, plural};
use super::{human, progress, scaling, series, table};
use crate::model::CaseReport;

/// `-v`: all that was measured.
pub(super) fn everything(case: &CaseReport, style: Style, out: &mut dyn Write) -> io::Result<()> {
    if !case.scaling.is_empty() {
        scaling::scaling(case, true, style, out)?;
        writeln!(out)?;
    }
    if !case.series.is_empty() {
        series::series(case, style, out)?;
        writeln!(out)?;
    }
    let between = series::between(case);
    let mut left: Vec<&str> = Vec::new();
    for checkpoint in &case.checkpoints {
        let has_news = !checkpoint.changes.is_empty() || human::broken(checkpoint).next().is_some();
        if between.contains(checkpoint.name.as_str()) && !has_news {
            left.push(&checkpoint.name);
            continue;
        }
        writeln!(
            out,
            "  {}",
            paint(style, Ink::Strong, &format!("@ {} ({})", checkpoint.name, checkpoint.at))
        )?;
        table::full(checkpoint, style, out)?;
        writeln!(out)?;
    }
    if let [first, ..] = left.as_slice() {
        let text = format!(
            "{} between the first and the last of a series {} no table here: cargo memcheck show target/memcheck-data/results.json {}@{first}",
            plural(left.len(), "round"),
            if left.len() == 1 { "has" } else { "have" },
            case.name,
        );
        progress::note(style, &text, out)?;
        writeln!(out)?;
    }
    Ok(())
}
