//! Two sides compared, for people: what changed of each case, the largest first, why and at what cost; then in one line what
//! was compared. Judges nothing.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::io::{self, Write};

use super::Style;
use super::human::{self, Sections};
use super::text::{Ink, clean, labelled, paint, plural};
use super::{problem, progress, table, whole};
use crate::model::{CaseComparison, Comparison, Escaped, Gone, MemoryMap, Presence, SnapshotStatus, Verdict};

/// Names in a list before the rest is only counted.
const NAMES: usize = 8;

/// Prints a whole comparison.
///
/// # Errors
/// Those of the writer.
pub fn comparison(comparison: &Comparison, style: Style, out: &mut dyn Write) -> io::Result<()> {
    let mut ranked: Vec<&CaseComparison> = comparison.cases.iter().filter(|case| case.is_judged()).collect();
    ranked.sort_by_key(|case| Reverse(weight(case)));
    for case in &ranked {
        if standing(case) != Standing::Same || style.verbose > 0 {
            one(comparison, case, style, out)?;
        }
    }
    sides(comparison, style, out)?;
    for note in &comparison.notes {
        progress::note(style, note, out)?;
    }
    let names = |wanted: &dyn Fn(&CaseComparison) -> bool| -> Vec<&str> {
        let found = comparison.cases.iter().filter(|case| wanted(case));
        found.map(|case| case.report.name.as_str()).collect()
    };
    for (text, found) in [
        (
            "new, with nothing to compare",
            names(&|case| case.presence == Presence::OnlyNow),
        ),
        ("gone", names(&|case| case.presence == Presence::OnlyBefore)),
    ] {
        if !found.is_empty() {
            progress::note(style, &format!("{text}: {}", list(&found)), out)?;
        }
    }
    let varying: Vec<String> = comparison
        .cases
        .iter()
        .flat_map(|case| case.varying.iter().map(|row| format!("{} @ {row}", case.report.name)))
        .collect();
    if !varying.is_empty() {
        let varying: Vec<&str> = varying.iter().map(String::as_str).collect();
        let text = format!("not compared, as it differs from run to run: {}", list(&varying));
        progress::warning(style, &text, out)?;
    }
    remarks(comparison, style, out)?;
    writeln!(out, "{}", clean(&last_line(comparison)))
}

/// How a case came out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Standing {
    Problem,
    OverLimit,
    Changed,
    Same,
}

pub(super) fn standing(case: &CaseComparison) -> Standing {
    if case.report.problem.is_some() {
        Standing::Problem
    } else if case.breaks_a_limit() {
        Standing::OverLimit
    } else if case.has_changed() || case.report.checkpoints.iter().any(|checkpoint| !checkpoint.causes.is_empty()) {
        Standing::Changed
    } else {
        Standing::Same
    }
}

/// A value is over or under a limit, or a demand on headers is not met.
fn is_over(case: &CaseComparison) -> bool {
    let limits = case.report.checkpoints.iter().flat_map(|checkpoint| &checkpoint.limits);
    let verdicts = limits.map(|limit| limit.verdict);
    let mut verdicts = verdicts.chain(case.report.elf.iter().map(|result| result.verdict));
    verdicts.any(|verdict| verdict == Verdict::Over)
}

/// What weighs most comes first: what failed, then by own memory; anonymous memory weighs more than address space.
fn weight(case: &CaseComparison) -> (u8, u64) {
    let class = match standing(case) {
        Standing::Problem => 3,
        Standing::OverLimit => 2,
        Standing::Changed => 1,
        Standing::Same => 0,
    };
    let bytes = case.report.checkpoints.iter().map(|checkpoint| {
        let before = case.before.iter().find(|(name, _)| *name == checkpoint.name);
        let Some((_, before)) = before else { return 0 };
        let (old, new) = (own(before), own(&checkpoint.map));
        let anon = old.1.zip(new.1).map_or(0, |(a, b)| a.abs_diff(b));
        anon.saturating_mul(4).saturating_add(old.0.abs_diff(new.0))
    });
    (class, bytes.max().unwrap_or(0))
}

/// Own memory: reserved and anonymous bytes.
fn own(map: &MemoryMap) -> (u64, Option<u64>) {
    let sum = map.sum(|role| role.is_own());
    (sum.reserved, sum.anon)
}

fn one(comparison: &Comparison, case: &CaseComparison, style: Style, out: &mut dyn Write) -> io::Result<()> {
    let report = &case.report;
    let sections = human::sections(report, style.verbose > 0);
    let (word, ink) = match standing(case) {
        Standing::Problem | Standing::OverLimit => ("FAIL", Ink::Bad),
        Standing::Changed => ("CHANGED", Ink::Warn),
        Standing::Same => ("SAME", Ink::Good),
    };
    let place = match sections.full.as_slice() {
        [only] if sections.left.is_empty() && sections.same.is_empty() => format!(" @ {}", only.name),
        _ => String::new(),
    };
    writeln!(
        out,
        "{}{} {}{}",
        " ".repeat(12 - word.len()),
        paint(style, ink, word),
        paint(style, Ink::Strong, &report.name),
        clean(&place)
    )?;
    if standing(case) == Standing::Same {
        return Ok(());
    }
    writeln!(out)?;
    if report.problem.is_some() {
        problem::of_case(report, style, out)?;
        return writeln!(out);
    }
    debug_assert_eq!(report.snapshot.status, SnapshotStatus::NotCompared, "no snapshot takes part");
    for escaped in &case.escaped {
        let text = escaped_text(&comparison.before.word, escaped);
        human::headed("Budget not judged: ", &text, style, out)?;
    }
    human::verdicts(report, crate::model::Outcome::Budget, &sections, style, out)?;
    body(comparison, case, &sections, style, out)?;
    human::repetitions(&sections, style, out)?;
    let has_remedies = sections
        .full
        .iter()
        .flat_map(|checkpoint| &checkpoint.causes)
        .any(|cause| !cause.remedies.is_empty());
    if has_remedies {
        writeln!(out)?;
        human::remedies(&sections, style, out)?;
    }
    writeln!(out)?;
    if style.verbose > 0 {
        whole::everything(report, style, out)?;
    }
    Ok(())
}

/// `own.anon (max) at done: the change has no such checkpoint any more (base memcheck.toml:9)`
pub(super) fn escaped_text(base: &str, escaped: &Escaped) -> String {
    let at = match escaped.checkpoint.as_str() {
        "" => String::new(),
        name => format!(" at {name}"),
    };
    let why = match escaped.gone {
        Gone::Case => "has no such case any more",
        Gone::Checkpoint => "has no such checkpoint any more",
        Gone::Series => "passes it once only",
        Gone::Matrix => "has no matrix any more",
        Gone::Children => "captures no children any more",
        Gone::File => "loads no such file any more",
    };
    format!(
        "{} ({}){at}: the change {why} ({base} {})",
        escaped.metric, escaped.rule, escaped.origin
    )
}

fn body(
    comparison: &Comparison,
    case: &CaseComparison,
    sections: &Sections<'_>,
    style: Style,
    out: &mut dyn Write,
) -> io::Result<()> {
    let report = &case.report;
    let several = sections.full.len() > 1;
    let broken = sections
        .affected
        .iter()
        .any(|checkpoint| human::broken(checkpoint).next().is_some());
    for (i, checkpoint) in sections.full.iter().enumerate() {
        if i > 0 || broken {
            writeln!(out)?;
        }
        if several {
            let head = format!("@ {} ({})", checkpoint.name, checkpoint.at);
            writeln!(out, "  {}", paint(style, Ink::Strong, &head))?;
        }
        human::causes(&checkpoint.causes, style, out)?;
        let before = case.before.iter().find(|(name, _)| *name == checkpoint.name);
        if let Some((_, before)) = before.filter(|(_, map)| !map.pieces.is_empty()) {
            labelled(style, "Own", 12, &in_all(before, &checkpoint.map), out)?;
        }
        let mut table = table::table(report, checkpoint, style.verbose > 0);
        if let Some((_, before)) = before.filter(|(_, map)| !map.pieces.is_empty()) {
            table.fill(before, &|row| case.varying.contains(&format!("{}: {row}", checkpoint.name)));
        }
        if !table.is_empty() {
            writeln!(out)?;
            let limits = checkpoint.limits.iter().any(|limit| limit.limit.is_some());
            table.print_against(&comparison.before.word, limits, style, out)?;
        }
    }
    Ok(())
}

/// `180 → 204 KiB anonymous (+24 KiB), 16 → 24 MiB reserved (+8192 KiB)`: all own memory at one checkpoint.
fn in_all(before: &MemoryMap, now: &MemoryMap) -> String {
    let (old, new) = (own(before), own(now));
    let step = |old: u64, new: u64, what: &str| {
        let (from, to) = (kib(old), kib(new));
        match new.cmp(&old) {
            std::cmp::Ordering::Equal => format!("{to} {what} as before"),
            std::cmp::Ordering::Less => format!("{from} → {to} {what} (-{})", kib(old - new)),
            std::cmp::Ordering::Greater => format!("{from} → {to} {what} (+{})", kib(new - old)),
        }
    };
    let anon = match (old.1, new.1) {
        (Some(old), Some(new)) => step(old, new, "anonymous"),
        _ => "how much is anonymous is not known".to_owned(),
    };
    format!("memory in all: {anon}; {}", step(old.0, new.0, "reserved"))
}

fn kib(bytes: u64) -> String {
    table::cell(crate::model::Unit::Bytes, bytes)
}

/// What was compared with what, and whether the surroundings can be a cause.
fn sides(comparison: &Comparison, style: Style, out: &mut dyn Write) -> io::Result<()> {
    let differences = comparison.environment_differences();
    let text: Vec<String> = differences
        .iter()
        .map(|(name, old, new)| format!("{name} {old} → {new}"))
        .collect();
    let measured = comparison
        .cases
        .iter()
        .any(|case| case.presence == Presence::Both && case.report.problem.is_none());
    if !differences.is_empty() {
        let what = if comparison.same_machine {
            "the two sides were not built alike"
        } else {
            "the two sides come from different environments"
        };
        let text = format!("{what}: {}; it may explain a part of what differs", text.join(", "));
        return progress::warning(style, &text, out);
    }
    if comparison.same_machine && measured {
        let text = "both sides ran on this machine, one after the other: what differs comes from the code, its dependencies or \
                    its build settings, not from the environment";
        return progress::note(style, text, out);
    }
    Ok(())
}

/// What the cases have to remark, each remark once.
fn remarks(comparison: &Comparison, style: Style, out: &mut dyn Write) -> io::Result<()> {
    let mut notes: BTreeMap<&str, usize> = BTreeMap::new();
    let mut refused: BTreeMap<String, usize> = BTreeMap::new();
    for case in &comparison.cases {
        for note in &case.report.notes {
            *notes.entry(note).or_default() += 1;
        }
        for setting in &case.report.settings {
            if let Some(why) = &setting.refused {
                let text = format!("launch setting {} {} was refused: {why}", setting.name, setting.value);
                *refused.entry(text).or_default() += 1;
            }
        }
    }
    for (text, cases) in &refused {
        progress::warning(style, &format!("{text} ({})", plural(*cases, "case")), out)?;
    }
    for (text, cases) in &notes {
        progress::note(style, &format!("{text} ({})", plural(*cases, "case")), out)?;
    }
    Ok(())
}

/// `compared 4 checkpoints in 2 cases with base 1a2b3c4d5e6f (main): 1 changed, 1 the same`
pub(super) fn last_line(comparison: &Comparison) -> String {
    let both: Vec<&CaseComparison> = comparison.cases.iter().filter(|case| case.is_judged()).collect();
    let checkpoints: usize = both
        .iter()
        .map(|case| case.before.len().min(case.report.checkpoints.len()))
        .sum();
    let count = |wanted: Standing| both.iter().filter(|case| standing(case) == wanted).count();
    // No value is over a limit there: what breaks is that none could be judged, as the lines above say.
    let is_unjudged = |case: &&CaseComparison| standing(case) == Standing::OverLimit && !is_over(case);
    let unjudged = both.iter().copied().filter(is_unjudged).count();
    let parts: Vec<String> = [
        (count(Standing::Problem), "not judged"),
        (count(Standing::OverLimit) - unjudged, "over a limit"),
        (unjudged, "with a limit not judged"),
        (count(Standing::Changed), "changed"),
        (count(Standing::Same), "the same"),
    ]
    .into_iter()
    .filter(|(count, _)| *count > 0)
    .map(|(count, word)| format!("{count} {word}"))
    .collect();
    let result = match (comparison.interrupted, parts.as_slice()) {
        (Some(signal), _) => format!("interrupted by signal {signal}"),
        (None, []) => "nothing was compared".to_owned(),
        (None, parts) => parts.join(", "),
    };
    format!(
        "compared {} in {} with {}: {result}",
        plural(checkpoints, "checkpoint"),
        plural(both.len(), "case"),
        comparison.before.label
    )
}

fn list(names: &[&str]) -> String {
    let shown = names.get(..NAMES).unwrap_or(names).join(", ");
    match names.len().saturating_sub(NAMES) {
        0 => shown,
        left => format!("{shown} and {left} more"),
    }
}
