//! A finished case for people: its status line and, when it failed, the message below it.

use std::collections::BTreeSet;
use std::io::{self, Write};

use super::Style;
use super::text::{Ink, clean, columns, differences, labelled, paint, plural, wrap};
use super::{hardening, problem, progress, scaling, series, table, unsteady, whole};
use crate::model::{
    AppliedSetting, CaseReport, ChangeCause, CheckpointReport, LimitResult, Outcome, Place, ProblemKind, RunReport,
    SnapshotStatus, Verdict,
};

/// Checkpoints explained in full before the rest is only named.
const SECTIONS: usize = 3;
/// Causes of a checkpoint shown before the rest is only counted.
const CAUSES: usize = 3;
/// Column where the text of a cause begins.
const CAUSE_COLUMN: usize = 12;
/// Column where a remedy begins.
pub(super) const REMEDY_COLUMN: usize = 17;
/// Lines of a snapshot difference that are shown without `-v`.
const DIFF_LINES: usize = 40;

/// The status line of a finished case and, when it failed, the message below it. Its number is its place in the report.
///
/// # Errors
/// Those of the writer.
pub fn case(report: &RunReport, case: &CaseReport, style: Style, out: &mut dyn Write) -> io::Result<()> {
    let index = report.cases.iter().position(|other| other.name == case.name);
    case_counted(report, case, index.map(|index| (index + 1, report.cases.len())), style, out)
}

/// As [`case`], for a run that is still going on: `(3, 12)` is the third of twelve cases, while `report.cases` holds only
/// what is finished (or nothing).
///
/// # Errors
/// Those of the writer.
pub fn case_counted(
    report: &RunReport,
    case: &CaseReport,
    number: Option<(usize, usize)>,
    style: Style,
    out: &mut dyn Write,
) -> io::Result<()> {
    let outcome = super::outcome(report, case);
    let sections = sections(case, style.verbose > 0);
    status(case, outcome, &sections, number, style, out)?;
    let failed = matches!(outcome, Outcome::Problem | Outcome::Budget | Outcome::Snapshot);
    if failed || (outcome == Outcome::Warning && style.verbose > 0) {
        writeln!(out)?;
        message(report, case, outcome, &sections, style, out)?;
        writeln!(out)?;
    }
    if style.verbose > 0 {
        whole::everything(case, style, out)?;
    } else if !failed {
        scaling::scaling(case, false, style, out)?;
    }
    Ok(())
}

fn status(
    case: &CaseReport,
    outcome: Outcome,
    sections: &Sections<'_>,
    number: Option<(usize, usize)>,
    style: Style,
    out: &mut dyn Write,
) -> io::Result<()> {
    let (word, ink) = match outcome {
        Outcome::Pass => ("PASS", Ink::Good),
        Outcome::Warning => ("WARN", Ink::Warn),
        Outcome::Problem | Outcome::Budget | Outcome::Snapshot => ("FAIL", Ink::Bad),
    };
    let millis = case.duration.as_millis();
    let number = number.map_or(String::new(), |(index, total)| {
        let width = total.to_string().len();
        format!("({index:>width$}/{total}) ")
    });
    let place = match sections.full.as_slice() {
        [only] if outcome != Outcome::Pass && sections.left.is_empty() => format!(" @ {}", only.name),
        _ => String::new(),
    };
    let remark = match outcome {
        Outcome::Warning if case.snapshot.status == SnapshotStatus::Unsteady => ": snapshot unsteady".to_owned(),
        Outcome::Warning => format!(": snapshot differs, {}", plural(case.snapshot.rows, "row")),
        _ => String::new(),
    };
    writeln!(
        out,
        "{}{} [{:>4}.{:03}s] {number}{}{}",
        " ".repeat(12 - word.len()),
        paint(style, ink, word),
        millis / 1000,
        millis % 1000,
        paint(style, Ink::Strong, &case.name),
        clean(&format!("{place}{remark}"))
    )?;
    if outcome == Outcome::Warning && style.verbose == 0 {
        let causes = case.checkpoints.iter().flat_map(|checkpoint| &checkpoint.causes);
        for cause in causes.filter(|cause| cause.is_of_environment()) {
            labelled(style, "", 13, &cause.cause, out)?;
        }
    }
    Ok(())
}

/// The checkpoints of a case that have something to say.
pub(super) struct Sections<'a> {
    pub(super) affected: Vec<&'a CheckpointReport>,
    /// Explained in full, in order.
    pub(super) full: Vec<&'a CheckpointReport>,
    /// With the name of the checkpoint that shows the same.
    pub(super) same: Vec<(&'a str, &'a str)>,
    /// Only named.
    pub(super) left: Vec<&'a str>,
}

/// A change of a whole run shows at every later checkpoint too: it is explained once.
pub(super) fn sections(case: &CaseReport, verbose: bool) -> Sections<'_> {
    let mut found = Sections {
        affected: Vec::new(),
        full: Vec::new(),
        same: Vec::new(),
        left: Vec::new(),
    };
    for checkpoint in &case.checkpoints {
        if checkpoint.changes.is_empty() && checkpoint.causes.is_empty() && broken(checkpoint).next().is_none() {
            continue;
        }
        found.affected.push(checkpoint);
        let same = found
            .full
            .iter()
            .find(|earlier| cells(earlier) == cells(checkpoint) && broken_limits(checkpoint).is_subset(&broken_limits(earlier)));
        match same {
            Some(earlier) => found.same.push((&checkpoint.name, &earlier.name)),
            None if verbose || found.full.len() < SECTIONS => found.full.push(checkpoint),
            None => found.left.push(&checkpoint.name),
        }
    }
    found
}

pub(super) fn broken(checkpoint: &CheckpointReport) -> impl Iterator<Item = &LimitResult> {
    checkpoint.limits.iter().filter(|limit| limit.verdict.is_broken())
}

fn broken_limits(checkpoint: &CheckpointReport) -> BTreeSet<(&str, Option<u64>, Option<u64>)> {
    broken(checkpoint)
        .map(|limit| (limit.metric.name(), limit.limit, limit.value))
        .collect()
}

/// Which cells changed by how much.
fn cells(checkpoint: &CheckpointReport) -> BTreeSet<(&str, &str, i128)> {
    checkpoint
        .changes
        .iter()
        .map(|change| {
            let by = i128::from(change.now.unwrap_or(0)) - i128::from(change.before.unwrap_or(0));
            (change.row.as_str(), change.column.as_str(), by)
        })
        .collect()
}

fn message(
    report: &RunReport,
    case: &CaseReport,
    outcome: Outcome,
    sections: &Sections<'_>,
    style: Style,
    out: &mut dyn Write,
) -> io::Result<()> {
    if outcome == Outcome::Problem {
        problem::of_case(case, style, out)?;
        if sections.affected.is_empty() && hardening::broken(case).next().is_none() {
            return Ok(());
        }
        let is_check = case
            .problem
            .as_ref()
            .is_some_and(|problem| problem.kind == ProblemKind::Check);
        let broken_before = sections.affected.iter().any(|checkpoint| broken(checkpoint).next().is_some())
            || hardening::broken(case).next().is_some();
        // What changed before it ended is no explanation of the end; a broken limit is still told.
        if !is_check && style.verbose == 0 {
            if broken_before {
                writeln!(out)?;
                verdicts(case, outcome, sections, style, out)?;
            }
            return Ok(());
        }
        writeln!(out)?;
    }
    verdicts(case, outcome, sections, style, out)?;
    let only_new = outcome == Outcome::Snapshot && case.snapshot.status == SnapshotStatus::New && sections.affected.is_empty();
    if only_new && style.verbose == 0 {
        // Nothing is wrong with a case that was never approved: one line says what to do.
        return Ok(());
    }
    let several = sections.full.len() > 1;
    let mut tables = 0;
    if style.verbose == 0 && scaling::is_broken(case) {
        writeln!(out)?;
        scaling::scaling(case, true, style, out)?;
    }
    if style.verbose == 0 && !case.series.is_empty() && series::is_broken(case) {
        writeln!(out)?;
        series::series(case, style, out)?;
    }
    for checkpoint in &sections.full {
        let table = table::table(case, checkpoint, style.verbose > 0);
        if table.is_empty() && checkpoint.causes.is_empty() {
            continue;
        }
        writeln!(out)?;
        if several {
            writeln!(
                out,
                "  {}",
                paint(style, Ink::Strong, &format!("@ {} ({})", checkpoint.name, checkpoint.at))
            )?;
        }
        causes(&checkpoint.causes, style, out)?;
        if !table.is_empty() {
            if !checkpoint.causes.is_empty() {
                writeln!(out)?;
            }
            tables += 1;
            table.print(style, out)?;
        }
    }
    repetitions(sections, style, out)?;
    let differs = matches!(case.snapshot.status, SnapshotStatus::Differs);
    if !case.snapshot.diff.is_empty() && (style.verbose > 0 || (differs && tables == 0)) {
        writeln!(out)?;
        let lines = if style.verbose > 0 { usize::MAX } else { DIFF_LINES };
        progress::diff_lines(style, &case.snapshot.diff, lines, "  ", out)?;
    }
    writeln!(out)?;
    environment(report, case, style, out)?;
    commands(case, sections, style, out)
}

/// What came out: broken limits, each once with the checkpoints it was broken at, then the snapshot.
pub(super) fn verdicts(
    case: &CaseReport,
    outcome: Outcome,
    sections: &Sections<'_>,
    style: Style,
    out: &mut dyn Write,
) -> io::Result<()> {
    let mut lines: Vec<(&LimitResult, Vec<&str>)> = Vec::new();
    for checkpoint in &sections.affected {
        for limit in broken(checkpoint) {
            match lines.iter_mut().find(|(other, _)| *other == limit) {
                Some((_, places)) => places.push(&checkpoint.name),
                None => lines.push((limit, vec![&checkpoint.name])),
            }
        }
    }
    for (limit, places) in &lines {
        let at = if sections.affected.len() > 1 {
            format!(" at {}", places.join(", "))
        } else {
            String::new()
        };
        verdict_line(limit, &at, style, out)?;
    }
    hardening::verdicts(case, style, out)?;
    let snapshot = &case.snapshot;
    match snapshot.status {
        SnapshotStatus::Differs => {
            let rows = match snapshot.rows {
                0 => "names or the hardening line, no row".to_owned(),
                rows => plural(rows, "row"),
            };
            let why = if outcome == Outcome::Warning {
                "; a warning only: this is not the environment of record"
            } else {
                ""
            };
            headed("Snapshot differs: ", &format!("{rows}{why}"), style, out)?;
            unsteady::values(snapshot, style, out)?;
        }
        SnapshotStatus::Unsteady => unsteady::verdict(snapshot, outcome, style, out)?,
        SnapshotStatus::New => {
            let text = format!("no approved snapshot yet: cargo memcheck accept {}", case.name);
            writeln!(out, "  {}{}", paint(style, Ink::Bad, "Snapshot missing: "), clean(&text))?;
        }
        SnapshotStatus::Same | SnapshotStatus::Off | SnapshotStatus::NotCompared => {}
    }
    if let Some(error) = &snapshot.pending_error {
        headed("Pending file not written: ", error, style, out)?;
    }
    Ok(())
}

fn verdict_line(limit: &LimitResult, at: &str, style: Style, out: &mut dyn Write) -> io::Result<()> {
    let metric = &limit.metric;
    let (head, text) = match (limit.value, limit.limit) {
        _ if !series::is_of_checkpoint(limit) => series::limit_words(limit).unwrap_or_default(),
        (None, _) => (
            "Budget not judged: ",
            format!("{metric} is not known here{at}: {}", limit.reason),
        ),
        (Some(value), None) => (
            "Budget not judged: ",
            format!("{metric} is {}{at}, {}: {}", metric.show(value), limit.rule, limit.reason),
        ),
        (Some(value), Some(bound)) if limit.is_under() => (
            "Budget not reached: ",
            format!("{metric} is {}{at}, at least {}", metric.show(value), metric.show(bound)),
        ),
        (Some(value), Some(bound)) => {
            let from = match limit.reference {
                Some(_) => format!(" ({}: {})", limit.rule, table::allowed(limit)),
                None => String::new(),
            };
            (
                "Budget exceeded: ",
                format!("{metric} is {}{at}, limit {}{from}", metric.show(value), metric.show(bound)),
            )
        }
    };
    let origin = clean(&format!("({})", limit.origin));
    let text = clean(&text);
    let length = 2 + head.len() + text.chars().count();
    if length + 2 + origin.chars().count() <= columns(style) {
        let gap = 57_usize.saturating_sub(length).max(2);
        let gap = gap.min(columns(style).saturating_sub(length + origin.chars().count())).max(2);
        writeln!(out, "  {}{text}{}{origin}", paint(style, Ink::Bad, head), " ".repeat(gap))
    } else {
        headed(head, &format!("{text} {origin}"), style, out)
    }
}

/// `  Head: text`, wrapped with a deeper indent.
pub(super) fn headed(head: &str, text: &str, style: Style, out: &mut dyn Write) -> io::Result<()> {
    let width = columns(style).saturating_sub(4);
    for (i, line) in wrap(&clean(&format!("{head}{text}")), width).iter().enumerate() {
        match (i, line.strip_prefix(head.trim_end())) {
            (0, Some(rest)) => writeln!(out, "  {}{rest}", paint(style, Ink::Bad, head.trim_end()))?,
            (0, None) => writeln!(out, "  {line}")?,
            _ => writeln!(out, "    {line}")?,
        }
    }
    Ok(())
}

pub(super) fn causes(causes: &[ChangeCause], style: Style, out: &mut dyn Write) -> io::Result<()> {
    let shown = if style.verbose > 0 { causes.len() } else { CAUSES };
    for cause in causes.iter().take(shown) {
        labelled(style, "Cause", CAUSE_COLUMN, &cause.cause, out)?;
        labelled(style, "Cost", CAUSE_COLUMN, &cause.cost, out)?;
    }
    let left = causes.len().saturating_sub(shown);
    if left > 0 {
        writeln!(out, "  {}: -v", plural(left, "further cause"))?;
    }
    Ok(())
}

pub(super) fn repetitions(sections: &Sections<'_>, style: Style, out: &mut dyn Write) -> io::Result<()> {
    if !sections.same.is_empty() || !sections.left.is_empty() {
        writeln!(out)?;
    }
    let mut said: Vec<&str> = Vec::new();
    for (_, earlier) in &sections.same {
        if said.contains(earlier) {
            continue;
        }
        said.push(earlier);
        let names: Vec<&str> = sections
            .same
            .iter()
            .filter(|same| same.1 == *earlier)
            .map(|same| same.0)
            .collect();
        headed("", &format!("@ {}: the same as @ {earlier}.", names.join(", ")), style, out)?;
    }
    if !sections.left.is_empty() {
        headed(
            "",
            &format!("Also different: @ {}. All of it: -v", sections.left.join(", ")),
            style,
            out,
        )?;
    }
    Ok(())
}

/// `Same environment as approved. ASLR off, THP off, cpus 2.`
fn environment(report: &RunReport, case: &CaseReport, style: Style, out: &mut dyn Write) -> io::Result<()> {
    let status = &report.environment_status;
    let as_is = case.settings.iter().any(|setting| *setting == AppliedSetting::as_is());
    let first = match (&status.recorded, status.differences.is_empty()) {
        _ if as_is => {
            "Measured as it is here (--as-is), not as approved: the environment, ASLR and limits may account for differences."
                .to_owned()
        }
        (None, _) => "No environment of record is approved yet.".to_owned(),
        (Some(_), true) => "Same environment as approved.".to_owned(),
        (Some(_), false) => format!("Not the environment of record: {}.", differences(&report.environment_status)),
    };
    let settings: Vec<String> = case
        .settings
        .iter()
        .filter(|setting| {
            setting.name != "as-is"
                && (style.verbose > 0
                    || setting.refused.is_some()
                    || matches!(setting.name.as_str(), "aslr" | "thp" | "cpus" | "stack"))
        })
        .map(|setting| {
            let name = match setting.name.as_str() {
                "aslr" => "ASLR",
                "thp" => "THP",
                other => other,
            };
            match &setting.refused {
                Some(why) => format!("{name} {} refused ({why})", setting.value),
                None => format!("{name} {}", setting.value),
            }
        })
        .collect();
    let text = match settings.as_slice() {
        [] => first,
        many => format!("{first} {}.", many.join(", ")),
    };
    for line in wrap(&clean(&text), columns(style).saturating_sub(2)) {
        writeln!(out, "  {line}")?;
    }
    for note in &case.notes {
        labelled(style, "note:", 8, note, out)?;
    }
    writeln!(out)
}

/// What to do next: remedies, then how to approve, then how to see more. Only commands that exist.
fn commands(case: &CaseReport, sections: &Sections<'_>, style: Style, out: &mut dyn Write) -> io::Result<()> {
    remedies(sections, style, out)?;
    let accept = matches!(
        case.snapshot.status,
        SnapshotStatus::Differs | SnapshotStatus::New | SnapshotStatus::Unsteady
    )
    .then(|| format!("cargo memcheck accept {}", case.name));
    if case.problem.is_none() {
        unsteady::remedies(case, style, out)?;
    }
    let mut command = |label: &str, text: &str| {
        let label = format!("{:<1$}", clean(label), REMEDY_COLUMN - 2);
        writeln!(out, "  {}{}", paint(style, Ink::Strong, &label), clean(text))
    };
    let limits: BTreeSet<(&Place, bool)> = sections
        .affected
        .iter()
        .flat_map(|checkpoint| broken(checkpoint))
        .filter(|limit| limit.verdict == Verdict::Over)
        .map(|limit| (&limit.origin, limit.is_under()))
        .collect();
    match (lift(&limits), &accept) {
        (Some(lift), Some(accept)) if case.problem.is_none() => {
            let both = format!("{lift}, then  {accept}");
            // A command is never broken: it is copied.
            if REMEDY_COLUMN + both.chars().count() > columns(style) {
                command("intended?", &format!("{lift}, then"))?;
                command("", accept)?;
            } else {
                command("intended?", &both)?;
            }
            command("", "(accept alone does not lift a budget)")?;
        }
        (Some(lift), _) => command("intended?", &lift)?,
        (None, Some(_)) if case.snapshot.status == SnapshotStatus::Unsteady => {}
        // A missing snapshot has said so above.
        (None, Some(accept)) if case.problem.is_none() && case.snapshot.status == SnapshotStatus::Differs => {
            command("intended?", accept)?;
        }
        (None, _) => {}
    }
    if style.verbose == 0 {
        command("look closer", &format!("cargo memcheck -v {}", case.name))?;
    }
    Ok(())
}

/// What can be done about the causes, each way once.
pub(super) fn remedies(sections: &Sections<'_>, style: Style, out: &mut dyn Write) -> io::Result<()> {
    let mut remedies: Vec<&str> = Vec::new();
    for remedy in sections
        .full
        .iter()
        .flat_map(|checkpoint| &checkpoint.causes)
        .flat_map(|cause| &cause.remedies)
    {
        if !remedies.contains(&remedy.as_str()) {
            remedies.push(remedy);
        }
    }
    for remedy in remedies {
        match remedy.split_once(": ").filter(|(label, _)| label.len() + 4 <= REMEDY_COLUMN) {
            Some((label, text)) => labelled(style, label, REMEDY_COLUMN, text, out)?,
            None => labelled(style, "remedy", REMEDY_COLUMN, remedy, out)?,
        }
    }
    Ok(())
}

/// `raise memcheck.toml:8`
fn lift(limits: &BTreeSet<(&Place, bool)>) -> Option<String> {
    let verb = match (limits.iter().any(|(_, min)| *min), limits.iter().any(|(_, min)| !*min)) {
        (true, true) => "change",
        (true, false) => "lower",
        (false, _) => "raise",
    };
    let places: BTreeSet<&Place> = limits.iter().map(|(place, _)| *place).collect();
    let mut places: Vec<String> = places
        .into_iter()
        .map(|place| match place.line {
            // What was typed is no place to be edited.
            0 => format!("the limit typed with {}", place.file),
            _ => place.to_string(),
        })
        .collect();
    if places.len() > 3 {
        let left = places.len() - 3;
        places.truncate(3);
        places.push(format!("{left} more"));
    }
    match places.split_last()? {
        (one, []) => Some(format!("{verb} {one}")),
        (last, first) => Some(format!("{verb} {} and {last}", first.join(", "))),
    }
}

#[cfg(test)]
mod tests;
