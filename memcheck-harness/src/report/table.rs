//! The table of a message: approved, now, change and limit of the cells that matter; and the full table of `-v`.

use std::collections::BTreeSet;
use std::io::{self, Write};

use super::text::{Ink, clean, columns, paint};
use super::{Style, series};
use crate::model::{
    CaseReport, CheckpointReport, LimitResult, MemoryMap, Metric, Role, SnapshotStatus, Unit, UnsteadyCell, Verdict,
};

/// Stands for what cannot be known here. `-` stands for what there is not: no approved value, no limit.
const UNKNOWN: &str = "unknown";

/// Lines shown before the rest is only named.
const LINES: usize = 10;

/// The table of a checkpoint.
pub(super) struct Table {
    groups: Vec<Group>,
    /// Rows that were left out, by name.
    folded: Vec<String>,
}

/// Lines that share a row's name.
struct Group {
    row: String,
    role: Option<Role>,
    entries: Vec<Entry>,
}

/// One line.
struct Entry {
    column: String,
    unit: Unit,
    approved: Option<u64>,
    now: Option<u64>,
    /// The text of the change column.
    change: String,
    limit: Option<u64>,
    mark: &'static str,
}

/// What to show of a checkpoint: broken limits first, then changes by size. With `verbose` nothing is left out.
pub(super) fn table(case: &CaseReport, checkpoint: &CheckpointReport, verbose: bool) -> Table {
    let mut groups: Vec<Group> = Vec::new();
    let broken = |limit: &&LimitResult| limit.verdict != Verdict::Within && series::is_of_checkpoint(limit);
    for limit in checkpoint.limits.iter().filter(broken) {
        let (row, column) = split(&limit.metric);
        let group = group(&mut groups, row);
        if !group.entries.iter().any(|entry| entry.column == column) {
            group.entries.push(Entry {
                column: column.to_owned(),
                unit: limit.metric.unit(),
                // What growth is judged against, where that is the other column.
                approved: limit.reference.filter(|_| compared(limit)),
                now: limit.value,
                change: match (limit.reference, limit.value) {
                    (Some(before), Some(now)) if compared(limit) => difference(limit.metric.unit(), before, now),
                    _ => unchanged(case).to_owned(),
                },
                limit: limit.limit,
                mark: mark(limit),
            });
        }
    }
    for change in &checkpoint.changes {
        let metric = change.role.is_none().then(|| Metric::parse(&change.row).ok()).flatten();
        let (row, column, unit) = match &metric {
            Some(metric) => (split(metric).0, split(metric).1, metric.unit()),
            None => (change.row.as_str(), change.column.as_str(), unit_of(&change.column)),
        };
        // A row none of whose cells was there before did not occur: its memory is new in full.
        let is_new = checkpoint
            .changes
            .iter()
            .filter(|other| other.row == change.row)
            .all(|other| other.before.is_none());
        let text = match (change.before, change.now) {
            (Some(before), now) => difference(unit, before, now.unwrap_or(0)),
            (None, Some(now)) if is_new => difference(unit, 0, now),
            (None, _) => "-".to_owned(),
        };
        let group = group(&mut groups, row);
        match group.entries.iter_mut().find(|entry| entry.column == column) {
            Some(entry) => {
                entry.approved = change.before;
                entry.now = entry.now.or(change.now);
                entry.change = text;
            }
            None => group.entries.push(Entry {
                column: column.to_owned(),
                unit,
                approved: change.before,
                now: change.now,
                change: text,
                limit: limit_of(checkpoint, row, column),
                mark: "",
            }),
        }
    }
    for group in &mut groups {
        add_companions(case, checkpoint, group);
        group.entries.sort_by_key(|entry| match entry.column.as_str() {
            "count" => 0,
            "reserved" => 1,
            "anon" => 2,
            _ => 3,
        });
    }
    for group in &mut groups {
        for entry in group.entries.iter_mut().filter(|entry| entry.approved.is_none()) {
            if let Some(cell) = unsteady(case, checkpoint, &group.row, &entry.column) {
                entry.approved = cell.approved;
                "varies".clone_into(&mut entry.change);
            }
        }
    }
    fold(groups, verbose)
}

/// The value, where the runs of the case do not agree on it.
fn unsteady<'a>(case: &'a CaseReport, checkpoint: &CheckpointReport, row: &str, column: &str) -> Option<&'a UnsteadyCell> {
    let mut cells = case.snapshot.unsteady.iter();
    cells.find(|cell| (cell.checkpoint.as_str(), cell.row.as_str(), cell.column.as_str()) == (&checkpoint.name, row, column))
}

/// What the change column says of a row that no change speaks of. Where something is approved it may hold the row, or a sum
/// that no snapshot holds is meant: nothing is said then.
fn unchanged(case: &CaseReport) -> &'static str {
    match case.snapshot.status {
        SnapshotStatus::Same | SnapshotStatus::Differs | SnapshotStatus::Unsteady => "",
        // Nothing approved, nothing to have changed from.
        SnapshotStatus::New | SnapshotStatus::Off | SnapshotStatus::NotCompared => "-",
    }
}

/// A limit as a value; of growth also what it is made of: `72 KiB = 4 KiB + 68 KiB`.
pub(super) fn allowed(limit: &LimitResult) -> String {
    let show = |value: u64| limit.metric.show(value);
    match (limit.limit, limit.reference) {
        (None, _) => "not known".to_owned(),
        (Some(bound), Some(reference)) if bound >= reference => {
            format!("{} = {} + {}", show(bound), show(reference), show(bound - reference))
        }
        (Some(bound), _) => show(bound),
    }
}

fn group<'a>(groups: &'a mut Vec<Group>, row: &str) -> &'a mut Group {
    let i = groups.iter().position(|group| group.row == row).unwrap_or_else(|| {
        groups.push(Group {
            row: row.to_owned(),
            role: row.parse().ok(),
            entries: Vec::new(),
        });
        groups.len() - 1
    });
    &mut groups[i]
}

fn split(metric: &Metric) -> (&str, &str) {
    metric.name().rsplit_once('.').unwrap_or((metric.name(), ""))
}

/// Growth over what the table compares with, rather than over a checkpoint of the same run.
fn compared(limit: &LimitResult) -> bool {
    limit.rule.ends_with(" over base") || limit.rule.ends_with(" over approved")
}

fn unit_of(column: &str) -> Unit {
    if column == "count" { Unit::Count } else { Unit::Bytes }
}

fn mark(limit: &LimitResult) -> &'static str {
    match (limit.verdict, limit.value) {
        (Verdict::Within, _) => "",
        (Verdict::Waived, _) => "waived",
        (Verdict::Unknown, _) | (_, None) => "?",
        (Verdict::Over, Some(_)) if limit.is_under() => "UNDER",
        (Verdict::Over, Some(_)) => "OVER",
    }
}

fn limit_of(checkpoint: &CheckpointReport, row: &str, column: &str) -> Option<u64> {
    checkpoint
        .limits
        .iter()
        .filter(|limit| split(&limit.metric) == (row, column) && limit.rule != "min" && series::is_of_checkpoint(limit))
        .filter_map(|limit| limit.limit)
        .min()
}

/// Reserved and anonymous stand side by side: whichever of the two did not change is shown too.
fn add_companions(case: &CaseReport, checkpoint: &CheckpointReport, group: &mut Group) {
    let Some(role) = group.role else { return };
    if checkpoint.map.pieces.is_empty() {
        // Two snapshots: their rows are all that is known.
        return;
    }
    let sum = checkpoint.map.sum(|other| other == role);
    let changes = || checkpoint.changes.iter().filter(|change| change.row == group.row);
    let (changed, is_new) = (changes().next().is_some(), changes().all(|change| change.before.is_none()));
    let varies = case.snapshot.varying.contains(&format!("{}: {}", checkpoint.name, group.row));
    if sum.count == 0 && !changed {
        return;
    }
    for (column, now) in [("reserved", Some(sum.reserved)), ("anon", sum.anon)] {
        if group.entries.iter().any(|entry| entry.column == column) {
            continue;
        }
        // "same" is the comparison's word: equal, or within the tolerance the case allows.
        let change = match (changed, now) {
            (_, None) => UNKNOWN.to_owned(),
            (false, _) => unchanged(case).to_owned(),
            _ if varies => "varies".to_owned(),
            (true, Some(now)) if is_new => difference(Unit::Bytes, 0, now),
            (true, Some(_)) => "same".to_owned(),
        };
        group.entries.push(Entry {
            column: column.to_owned(),
            unit: Unit::Bytes,
            approved: None,
            now,
            change,
            limit: limit_of(checkpoint, &group.row, column),
            mark: "",
        });
    }
}

/// Leaves out what follows from other rows, and what is smaller than ten lines can show.
fn fold(groups: Vec<Group>, verbose: bool) -> Table {
    let stacks = groups.iter().any(|group| group.row.starts_with("thread-stack"));
    let mut table = Table {
        groups: Vec::new(),
        folded: Vec::new(),
    };
    let mut lines = 0;
    for group in groups {
        let follows = stacks && matches!(group.role, Some(Role::Guard | Role::SignalStack));
        let broken = group.entries.iter().any(|entry| !entry.mark.is_empty());
        let fits = lines == 0 || lines + group.entries.len() <= LINES;
        if verbose || (fits && (broken || !follows)) {
            lines += group.entries.len();
            table.groups.push(group);
        } else {
            table.folded.push(group.row);
        }
    }
    table
}

impl Table {
    /// Puts what the other side of a comparison had beside what only the now side has so far. Rows of which `varies` is true
    /// differ from run to run: no difference is told of them.
    pub(super) fn fill(&mut self, before: &MemoryMap, varies: &dyn Fn(&str) -> bool) {
        for group in &mut self.groups {
            let is_new = group.role.is_some_and(|role| before.sum(|other| other == role).count == 0);
            for entry in group.entries.iter_mut().filter(|entry| entry.approved.is_none() && !is_new) {
                let name = match entry.column.as_str() {
                    "" => group.row.clone(),
                    column => format!("{}.{column}", group.row),
                };
                entry.approved = Metric::parse(&name).ok().and_then(|metric| before.metric(&metric));
                entry.change = match (entry.approved, entry.now) {
                    (Some(_), Some(_)) if varies(&group.row) => "varies".to_owned(),
                    (Some(old), Some(now)) if old == now => "same".to_owned(),
                    (Some(old), Some(now)) => difference(entry.unit, old, now),
                    _ => continue,
                };
            }
        }
    }

    /// Nothing to show.
    pub(super) fn is_empty(&self) -> bool {
        self.groups.is_empty()
    }

    /// Prints the table with its heading.
    pub(super) fn print(&self, style: Style, out: &mut dyn Write) -> io::Result<()> {
        self.print_against("approved", true, style, out)
    }

    /// As [`Table::print`], with another word for what it is compared with, and without the column of limits where there are none.
    pub(super) fn print_against(&self, before: &str, limits: bool, style: Style, out: &mut dyn Write) -> io::Result<()> {
        let heads = [before, "now", "change", if limits { "limit" } else { "" }];
        let rows: Vec<(&str, &Entry, [String; 4])> = self
            .groups
            .iter()
            .flat_map(|group| {
                group.entries.iter().enumerate().map(|(i, entry)| {
                    let show = |value: Option<u64>, none: &str| value.map_or(none.to_owned(), |value| cell(entry.unit, value));
                    // Empty where nothing is said; what is no longer there is known to be gone.
                    let approved = if matches!(entry.change.as_str(), "same" | "varies" | "") {
                        ""
                    } else {
                        "-"
                    };
                    let unknown = entry.mark == "?" || entry.change == UNKNOWN;
                    let now = if unknown { UNKNOWN } else { "-" };
                    let cells = [
                        show(entry.approved, approved),
                        show(entry.now, now),
                        entry.change.clone(),
                        if limits { show(entry.limit, "-") } else { String::new() },
                    ];
                    (if i == 0 { group.row.as_str() } else { "" }, entry, cells)
                })
            })
            .collect();
        let name = rows.iter().map(|row| row.0.chars().count() + 1).max().unwrap_or(0).max(15);
        let word = rows.iter().map(|row| row.1.column.len()).max().unwrap_or(0).max(5);
        let widest = |i: usize| {
            rows.iter()
                .map(|row| row.2[i].chars().count())
                .chain([heads[i].chars().count()])
                .max()
                .unwrap_or(0)
        };
        let left = 2 + name + word;
        let widths = widths(left, [widest(0), widest(1), widest(2), widest(3)], columns(style));
        let cells = |cells: [&str; 4]| -> String {
            cells
                .iter()
                .zip(widths)
                .map(|(cell, width)| format!("{cell:>width$}"))
                .collect()
        };
        let head = format!("{:left$}{}", "", cells(heads));
        writeln!(out, "{}", paint(style, Ink::Dim, head.trim_end()))?;
        for (row, entry, [approved, now, change, limit]) in &rows {
            let line = format!(
                "  {row:<name$}{:<word$}{}",
                clean(&entry.column),
                cells([approved, now, change, limit])
            );
            match entry.mark {
                "" => writeln!(out, "{}", clean(&line).trim_end())?,
                mark => writeln!(out, "{}  {}", clean(&line), paint(style, Ink::Bad, mark))?,
            }
        }
        if !self.folded.is_empty() {
            let noun = if self.folded.len() == 1 { "change" } else { "changes" };
            let names = names(&self.folded, columns(style).saturating_sub(30));
            writeln!(out, "  {} smaller {noun} ({names}): -v", self.folded.len())?;
        }
        Ok(())
    }
}

/// As many of the names as fit.
fn names(all: &[String], width: usize) -> String {
    let mut text = String::new();
    for (i, name) in all.iter().enumerate() {
        if i > 0 && text.chars().count() + 2 + name.chars().count() > width {
            return format!("{text}, …");
        }
        if i > 0 {
            text.push_str(", ");
        }
        text.push_str(&clean(name));
    }
    text
}

/// Column widths: airy when there is room, tight otherwise.
fn widths(left: usize, content: [usize; 4], columns: usize) -> [usize; 4] {
    const MARK: usize = 7;
    let fits = |widths: &[usize; 4]| left + widths.iter().sum::<usize>() + MARK <= columns;
    let airy = [39_usize.saturating_sub(left), 12, 12, 10];
    let airy = [0, 1, 2, 3].map(|i| airy[i].max(content[i] + 2));
    let tight = content.map(|width| width + 2);
    if fits(&airy) {
        airy
    } else if fits(&tight) {
        tight
    } else {
        content.map(|width| width + 1)
    }
}

/// A value in a table: KiB throughout, so that columns compare at a glance; bytes when KiB would round.
pub(super) fn cell(unit: Unit, value: u64) -> String {
    match unit {
        Unit::Count => value.to_string(),
        Unit::Bytes if value == 0 => "0 KiB".to_owned(),
        Unit::Bytes if value.is_multiple_of(1024) => format!("{} KiB", value >> 10),
        Unit::Bytes => format!("{value} B"),
    }
}

fn difference(unit: Unit, before: u64, now: u64) -> String {
    let sign = if now < before { '-' } else { '+' };
    format!("{sign}{}", cell(unit, now.abs_diff(before)))
}

/// Everything measured at a checkpoint: one line per role, the process, the threads, each limit with its origin.
pub(super) fn full(checkpoint: &CheckpointReport, style: Style, out: &mut dyn Write) -> io::Result<()> {
    let map = &checkpoint.map;
    let show = |value: Option<u64>| value.map_or(UNKNOWN.to_owned(), |value| cell(Unit::Bytes, value));
    let head = format!("  {:<22}{:>6}{:>16}{:>14}{:>14}", "", "count", "reserved", "anon", "resident");
    writeln!(out, "{}", paint(style, Ink::Dim, &head))?;
    for (role, sum) in map.by_role() {
        let (reserved, anon, resident) = (cell(Unit::Bytes, sum.reserved), show(sum.anon), show(sum.resident));
        writeln!(
            out,
            "  {:<22}{:>6}{reserved:>16}{anon:>14}{resident:>14}",
            role.name(),
            sum.count
        )?;
    }
    let process = &map.process;
    let count = process.mappings.map_or(UNKNOWN.to_owned(), |count| count.to_string());
    let (reserved, anon, resident) = (show(process.reserved), show(process.anon), show(process.resident));
    writeln!(
        out,
        "  {:<22}{count:>6}{reserved:>16}{anon:>14}{resident:>14}",
        "process (mappings)"
    )?;
    if let Some(tree) = &map.tree {
        writeln!(
            out,
            "  {:<22}{:>6}{:>16}{:>14}",
            "tree (processes)",
            tree.processes,
            "",
            show(tree.anon)
        )?;
    }
    for limit in &checkpoint.limits {
        let value = limit.value.map_or("not known".to_owned(), |value| limit.metric.show(value));
        let line = format!(
            "  limit: {} is {value}, {} {}  ({})",
            limit.metric,
            limit.rule,
            allowed(limit),
            limit.origin
        );
        let ink = if limit.verdict == Verdict::Within {
            Ink::Plain
        } else {
            Ink::Bad
        };
        writeln!(out, "{}", paint(style, ink, &line))?;
    }
    let notes: BTreeSet<&str> = map.notes.iter().map(|note| note.text.as_str()).collect();
    for note in notes {
        super::text::labelled(style, "note:", 8, note, out)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::fixtures;
    use super::*;

    /// The lines of the first checkpoint of a case, with one blank between words.
    fn lines(table: &Table) -> Vec<String> {
        let text = fixtures::print(|out| table.print(Style::default(), out));
        let words = |line: &str| line.split_whitespace().collect::<Vec<_>>().join(" ");
        text.lines().map(words).collect()
    }

    #[test]
    fn the_other_side_of_a_comparison_stands_beside_a_limit_and_what_did_not_change() {
        let before = fixtures::map(&[(Role::MainHeap, 132, 4)]);
        let now = fixtures::map(&[(Role::MainHeap, 132, 48)]);
        let limits = vec![fixtures::limit("own.anon", 8 << 10, Some(48 << 10), 5)];
        let mut case = fixtures::snapshot(fixtures::case("block"), SnapshotStatus::NotCompared);
        case.checkpoints = vec![fixtures::checkpoint("done", Some(&before), now, limits)];
        let mut table = table(&case, &case.checkpoints[0], false);
        table.fill(&before, &|_| false);
        assert_eq!(
            lines(&table)[1..],
            [
                "own anon 4 KiB 48 KiB +44 KiB 8 KiB OVER",
                "main-heap reserved 132 KiB 132 KiB same -",
                "anon 4 KiB 48 KiB +44 KiB -"
            ]
        );
    }

    #[test]
    fn what_varies_between_runs_is_not_called_the_same() {
        let before = fixtures::map(&[(Role::ThreadStackLive, 8192, 16)]);
        let now = fixtures::map(&[(Role::ThreadStackLive, 8192, 20), (Role::ThreadStackLive, 8192, 0)]);
        let mut case = fixtures::snapshot(fixtures::case("racy"), SnapshotStatus::Differs);
        case.checkpoints = vec![fixtures::checkpoint("done", Some(&before), now, Vec::new())];
        case.checkpoints[0].changes.retain(|change| change.column != "anon");
        case.snapshot.unsteady = vec![UnsteadyCell {
            checkpoint: "done".to_owned(),
            row: "thread-stack.live".to_owned(),
            column: "anon".to_owned(),
            approved: Some(16 << 10),
            values: vec![Some(20 << 10), Some(24 << 10)],
        }];
        let table = table(&case, &case.checkpoints[0], false);
        assert_eq!(lines(&table)[3], "anon 16 KiB 20 KiB varies -");
    }

    #[test]
    fn cells_are_exact_and_of_one_unit() {
        assert_eq!(cell(Unit::Bytes, 8 << 20), "8192 KiB");
        assert_eq!(cell(Unit::Bytes, 1025), "1025 B");
        assert_eq!(cell(Unit::Count, 1024), "1024");
        assert_eq!(difference(Unit::Bytes, 8192, 4096), "-4 KiB");
    }

    #[test]
    fn wide_content_takes_the_room_of_the_gaps() {
        assert_eq!(widths(22, [8, 7, 8, 5], 80), [17, 12, 12, 10]);
        assert_eq!(widths(30, [9, 9, 9, 5], 80), [11, 11, 11, 7]);
        assert_eq!(widths(40, [9, 9, 9, 5], 80), [10, 10, 10, 6]);
    }
}
