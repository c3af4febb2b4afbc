//! A snapshot as text. Owns the layout; the notation of cells is `cell`'s, reading it back is `parse`'s.

use std::fmt::Write as _;

use super::states::MAIN_STACK_FLOOR_BYTES;
use super::{cell, escape_line, escape_word};
use crate::model::{Cell, ChildName, Role, Row, RowKey, Snapshot, State, Unit};

/// Between the names of a checkpoint and of its process.
pub(super) const IN: &str = " in ";
/// Ends the head of the first checkpoint of a process.
pub(super) const FULL: &str = " (KiB, sum of the row)";
/// Stands for rows when a later checkpoint has none to show.
pub(super) const UNCHANGED: &str = "nothing changed";
/// Stands for rows when the first checkpoint has none.
pub(super) const EMPTY: &str = "nothing";

/// The head of a checkpoint whose rows are all there, or the change since `before`, after its first word.
pub(super) fn head(name: &str, child: Option<&ChildName>, before: Option<&State>) -> String {
    let within = child.map_or_else(String::new, |child| format!("{IN}{child}"));
    let ends = before.map_or_else(
        || FULL.to_owned(),
        |before| format!(" (change since {})", escape_word(&before.name)),
    );
    format!("{}{within}{ends}", escape_word(name))
}

/// The state that a later one is told as a change of: the last one of the same process. A child begins with the first state of
/// the child before that runs the same program, if there is one: children that do the same show nothing.
pub(super) fn before<'s>(earlier: &'s [State], child: Option<&ChildName>) -> Option<&'s State> {
    if let Some(same) = earlier.iter().rev().find(|state| state.child.as_ref() == child) {
        return Some(same);
    }
    let program = child?.program();
    let of_program = |state: &State| state.child.as_ref().is_some_and(|other| other.program() == program);
    let is_first = |index: usize| {
        let before = earlier.get(..index).unwrap_or_default();
        before.iter().all(|state| state.child != earlier[index].child)
    };
    let mut all = earlier.iter().enumerate();
    all.rfind(|(index, state)| of_program(state) && is_first(*index))
        .map(|(_, state)| state)
}

/// The text of a snapshot: lines that end in `\n`, none of them with trailing blanks.
#[must_use]
pub fn render(snapshot: &Snapshot) -> String {
    let mut out = String::new();
    let case = escape_line(&snapshot.case);
    push(&mut out, &format!("case {case}"));
    for (key, value) in [
        ("platform", list(&snapshot.platform)),
        ("libraries", list(&snapshot.libraries)),
        ("hardening", escape_line(&snapshot.hardening)),
    ] {
        if !value.is_empty() {
            push(&mut out, &format!("  {key:<14}{value}"));
        }
    }
    for (index, state) in snapshot.checkpoints.iter().enumerate() {
        let earlier = snapshot.checkpoints.get(..index).unwrap_or_default();
        let previous = before(earlier, state.child.as_ref());
        push(&mut out, "");
        let head = head(&state.name, state.child.as_ref(), previous);
        push(&mut out, &format!("checkpoint {head}"));
        let rows = previous.map_or_else(|| full_rows(state), |previous| changed_rows(previous, state));
        if rows.is_empty() {
            push(&mut out, &format!("  {}", if previous.is_none() { EMPTY } else { UNCHANGED }));
        } else {
            push(&mut out, &line("", ["count", "reserved", "anon"], ""));
        }
        for row in rows {
            push(&mut out, &row);
        }
    }
    push(&mut out, "");
    push(&mut out, &format!("end of case {case}"));
    out
}

fn push(out: &mut String, line: &str) {
    // Writing to a String cannot fail.
    let _ = writeln!(out, "{line}");
}

fn list(names: &[String]) -> String {
    names.iter().map(|name| escape_word(name)).collect::<Vec<_>>().join(", ")
}

fn line(label: &str, [count, reserved, anon]: [&str; 3], remark: &str) -> String {
    let line = format!("  {label:<21} {count:>5} {reserved:>12} {anon:>12}  {remark}");
    line.trim_end().to_owned()
}

/// The name of a row.
pub(super) fn label(key: &RowKey) -> &str {
    match key {
        RowKey::Threads => "threads",
        RowKey::Role(role) => role.name(),
        RowKey::Metric(metric) => metric.name(),
    }
}

fn full_rows(state: &State) -> Vec<String> {
    state
        .rows
        .iter()
        .map(|(key, row)| {
            let remark = match key {
                RowKey::Role(Role::ThreadStackExited) => "not joined yet",
                RowKey::Role(Role::MainStack) if row.anon == Cell::Value(MAIN_STACK_FLOOR_BYTES) => "64 or less",
                _ => "",
            };
            row_line(key, remark, |column, unit| cell::full(column(row), unit))
        })
        .collect()
}

fn changed_rows(previous: &State, state: &State) -> Vec<String> {
    let mut keys: Vec<&RowKey> = previous.rows.keys().chain(state.rows.keys()).collect();
    keys.sort_unstable();
    keys.dedup();
    keys.into_iter()
        .filter_map(|key| match (previous.rows.get(key), state.rows.get(key)) {
            (before, Some(now)) if before != Some(now) || has_varying(now) => {
                let text = |column: Column, unit| cell::change(before.map(column), column(now), unit);
                let rising = text(|row| row.count, Unit::Count).starts_with(['+', '=']);
                let remark = if *key == RowKey::Role(Role::ThreadStackExited) && rising {
                    "not joined yet"
                } else {
                    ""
                };
                Some(row_line(key, remark, text))
            }
            (Some(before), None) => Some(ended_row(key, before)),
            _ => None,
        })
        .collect()
}

fn has_varying(row: &Row) -> bool {
    [row.count, row.reserved, row.anon].contains(&Cell::Varies)
}

fn ended_row(key: &RowKey, before: &Row) -> String {
    match key {
        RowKey::Role(role) => {
            let count = cell::end(before.count, cell::GONE, Unit::Count);
            let [reserved, anon] = [before.reserved, before.anon].map(|cell| cell::end(cell, "-", Unit::Bytes));
            line(role.name(), [&count, &reserved, &anon], "")
        }
        RowKey::Threads | RowKey::Metric(_) => row_line(key, "", |_, _| cell::GONE.to_owned()),
    }
}

type Column = fn(&Row) -> Cell;

/// A row with the cells its kind has, each made by `text`.
fn row_line(key: &RowKey, remark: &str, text: impl Fn(Column, Unit) -> String) -> String {
    let count = || text(|row| row.count, Unit::Count);
    let reserved = || text(|row| row.reserved, Unit::Bytes);
    let cells = match key {
        RowKey::Threads => [count(), String::new(), String::new()],
        RowKey::Role(_) => [count(), reserved(), text(|row| row.anon, Unit::Bytes)],
        RowKey::Metric(metric) => match metric.unit() {
            Unit::Count => [count(), String::new(), String::new()],
            Unit::Bytes => [String::new(), reserved(), String::new()],
        },
    };
    line(label(key), [&cells[0], &cells[1], &cells[2]], remark)
}

#[cfg(test)]
mod tests {
    #[test]
    fn children_begin_where_their_siblings_began() {
        let of = |name: &str, child: &str, kib| State {
            child: ChildName::parse(child),
            ..state(name, 1, &[(Role::MainHeap, row(1, 132, kib))])
        };
        let checkpoints = vec![
            state("start", 1, &[]),
            of("ready.1", "worker.1", 4),
            of("ready.2", "worker.2", 4),
            of("done.1", "worker.1", 8),
            of("logs", "logger.3", 4),
            of("ready.3", "worker.4", 12),
            state("end", 2, &[]),
        ];
        let snapshot = Snapshot {
            case: "tree".to_owned(),
            checkpoints,
            ..Snapshot::default()
        };
        let text = render(&snapshot);
        let heads: Vec<&str> = text.lines().filter_map(|line| line.strip_prefix("checkpoint ")).collect();
        assert_eq!(
            heads,
            [
                "start (KiB, sum of the row)",
                "ready.1 in worker.1 (KiB, sum of the row)",
                "ready.2 in worker.2 (change since ready.1)",
                "done.1 in worker.1 (change since ready.1)",
                "logs in logger.3 (KiB, sum of the row)",
                "ready.3 in worker.4 (change since ready.2)",
                "end (change since start)",
            ]
        );
        assert_eq!(super::super::parse(&text), Ok(snapshot));
    }

    use std::collections::BTreeMap;

    use super::*;

    fn row(count: u64, reserved_kib: u64, anon_kib: u64) -> Row {
        Row {
            count: Cell::Value(count),
            reserved: Cell::Value(reserved_kib << 10),
            anon: Cell::Value(anon_kib << 10),
        }
    }

    fn state(name: &str, threads: u64, rows: &[(Role, Row)]) -> State {
        let mut all: BTreeMap<_, _> = rows.iter().map(|(role, row)| (RowKey::Role(*role), row.clone())).collect();
        let count = Cell::Value(threads);
        all.insert(RowKey::Threads, Row { count, ..Row::default() });
        State {
            name: name.to_owned(),
            child: None,
            rows: all,
        }
    }

    #[test]
    fn the_text_is_the_one_of_the_design() {
        let stack = (Role::MainStack, row(1, 132, 64));
        let spawned = [
            (Role::MainHeap, row(1, 132, 4)),
            (Role::ThreadStackExited, row(1, 8192, 24)),
            stack.clone(),
        ];
        let snapshot = Snapshot {
            case: "threads-unjoined".to_owned(),
            platform: vec!["ld-linux-x86-64.so.2".to_owned(), "libc.so.6".to_owned()],
            libraries: Vec::new(),
            hardening: "pie, relro full, nx, canary".to_owned(),
            checkpoints: vec![
                state("start", 1, std::slice::from_ref(&stack)),
                state("spawned", 1, &spawned),
                state("still", 1, &spawned),
                state("done", 2, &[stack, (Role::MainHeap, row(1, 128, 4))]),
            ],
        };
        let expected = "\
case threads-unjoined
  platform      ld-linux-x86-64.so.2, libc.so.6
  hardening     pie, relro full, nx, canary

checkpoint start (KiB, sum of the row)
                        count     reserved         anon
  threads                   1
  main-stack                1          132           64  64 or less

checkpoint spawned (change since start)
                        count     reserved         anon
  main-heap                +1         +132           +4
  thread-stack.exited      +1        +8192          +24  not joined yet

checkpoint still (change since spawned)
  nothing changed

checkpoint done (change since still)
                        count     reserved         anon
  threads                  +1
  main-heap                 0           -4            0
  thread-stack.exited      -1        -8192          -24

end of case threads-unjoined
";
        assert_eq!(render(&snapshot), expected);
    }
}
