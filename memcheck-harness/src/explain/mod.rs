//! Two states → ranked changes with causes. Pure; a cause is never claimed beyond its evidence.
//!
//! Owns the ranking and the order of causes; what each kind of memory can prove is said by its own file. It prints nothing:
//! sizes are written into sentences here because the sentence is the data.

mod arenas;
mod memory;
mod names;
mod objects;
mod step;
mod surroundings;
mod threads;

pub use step::{between, checkpoint};
pub use surroundings::surroundings;

use std::cmp::Reverse;
use std::collections::BTreeSet;

use crate::model::{
    ByteSize, Cell, Change, ChangeCause, LimitResult, MemoryMap, ProcessMeasure, Role, RoleMeasure, Row, RowKey, Snapshot, State,
    Subject, Verdict,
};

/// The cells that differ, largest first: bytes by size, then counts by the bytes of their row. Cells that vary on either
/// side are not gated and are left out.
#[must_use]
pub fn changes(before: &State, now: &State) -> Vec<Change> {
    let keys: BTreeSet<&RowKey> = before.rows.keys().chain(now.rows.keys()).collect();
    let mut ranked: Vec<(bool, Reverse<u64>, Change)> = Vec::new();
    for key in keys {
        let (old, new) = (before.rows.get(key), now.rows.get(key));
        let mut cells: Vec<(Column, Option<u64>, Option<u64>)> = Column::ALL
            .into_iter()
            .map(|column| (column, column.of(old), column.of(new)))
            .filter(|(_, a, b)| a != b && *a != Cell::Varies && *b != Cell::Varies)
            .map(|(column, a, b)| (column, value(a), value(b)))
            .collect();
        let size = |cell: &(Column, Option<u64>, Option<u64>)| cell.1.unwrap_or(0).abs_diff(cell.2.unwrap_or(0));
        // The zeros of a row that came or went say nothing beside its other cells.
        if (old.is_none() || new.is_none()) && cells.iter().any(|cell| size(cell) > 0) {
            cells.retain(|cell| size(cell) > 0);
        }
        let row_bytes = cells
            .iter()
            .filter(|cell| cell.0 != Column::Count)
            .map(size)
            .max()
            .unwrap_or(0);
        for cell in cells {
            let is_count = cell.0 == Column::Count;
            let rank = if is_count { row_bytes } else { size(&cell) };
            ranked.push((
                is_count,
                Reverse(rank),
                Change {
                    row: row_name(key),
                    role: role_of(key),
                    column: cell.0.name().to_owned(),
                    before: cell.1,
                    now: cell.2,
                },
            ));
        }
    }
    // Stable: equal sizes stay in row order.
    ranked.sort_by_key(|entry| (entry.0, entry.1));
    ranked.into_iter().map(|entry| entry.2).collect()
}

/// Why: what counts and names prove, for the changes against the approved state and for broken limits; most important
/// first. The sentences of a cost stand on lines of their own; a remedy is written `label: what to do`.
///
/// Without an approved state only broken limits are explained, from the map.
#[must_use]
pub fn causes(before: Option<&State>, now: &State, map: &MemoryMap, limits: &[LimitResult]) -> Vec<ChangeCause> {
    causes_of(&Facts::new(before, now, map, limits))
}

/// The causes of what the facts tell.
fn causes_of(facts: &Facts<'_>) -> Vec<ChangeCause> {
    let mut findings = threads::changed(facts);
    findings.extend(arenas::changed(facts, &findings));
    findings.extend(objects::changed(facts));
    findings.extend(memory::changed(facts, &findings));
    findings.extend(standing(facts, &findings));
    kept_each_round(facts, &mut findings);
    // A broken limit first, then by size; anonymous memory weighs more than address space, which costs little.
    findings.sort_by_key(|finding| {
        let breaks = finding.rows.iter().any(|row| facts.is_over(row));
        let bytes = finding.change.anon.unwrap_or(0).unsigned_abs() * 4 + finding.change.reserved.unsigned_abs();
        (Reverse(breaks), Reverse(bytes))
    });
    findings
        .into_iter()
        .map(|finding| ChangeCause {
            cause: finding.cause,
            cost: finding.cost,
            remedies: finding.remedies,
        })
        .collect()
}

/// Blocks in use that become more from round to round are not freed: that comes before any other remedy.
fn kept_each_round(facts: &Facts<'_>, findings: &mut [Finding]) {
    for limit in facts
        .over
        .iter()
        .filter(|limit| limit.rule.starts_with(LimitResult::PER_ROUND))
    {
        let (Some(value), Subject::Roles { roles, measure }) = (limit.value, limit.metric.subject()) else {
            continue;
        };
        let speaks = |finding: &&mut Finding| roles.iter().any(|role| finding.rows.contains(&RowKey::Role(*role)));
        if let Some(finding) = findings.iter_mut().find(speaks).filter(|_| measure == RoleMeasure::Used) {
            let remedy = format!(
                "free it: {} grows by {} a round: free what each round allocates and keeps",
                limit.metric,
                limit.metric.show(value)
            );
            finding.remedies.insert(0, remedy);
        }
    }
}

/// Broken limits on memory that did not change (or has nothing to be compared with): what stands there.
fn standing(facts: &Facts<'_>, explained: &[Finding]) -> Vec<Finding> {
    let mut found: Vec<Finding> = Vec::new();
    for limit in &facts.over {
        let covered = |row: &RowKey| explained.iter().chain(&found).any(|finding| finding.rows.contains(row));
        let next = match limit.metric.subject() {
            Subject::Threads => (!covered(&RowKey::Threads)).then(|| threads::standing(facts, Role::ThreadStackLive)),
            Subject::Roles { roles, .. } => {
                let present: Vec<Role> = roles
                    .into_iter()
                    .filter(|role| facts.map.pieces.iter().any(|piece| piece.role == *role))
                    .collect();
                if present.iter().any(|role| covered(&RowKey::Role(*role))) {
                    continue;
                }
                present
                    .into_iter()
                    .max_by_key(|role| weight(facts, *role))
                    .map(|role| match role {
                        Role::ThreadStackLive | Role::ThreadStackExited | Role::ThreadStackCached | Role::ThreadStackUser => {
                            threads::standing(facts, role)
                        }
                        Role::ThreadArena => arenas::standing(facts),
                        _ => memory::standing(facts, role),
                    })
            }
            Subject::Own(measure) => (explained.is_empty() && found.is_empty())
                .then(|| memory::largest(facts, Role::is_own, matches!(measure, RoleMeasure::Reserved))),
            // Other processes may have caused it, of which nothing is known here.
            Subject::Tree(_) => None,
            Subject::Process(measure) => (explained.is_empty() && found.is_empty())
                .then(|| memory::largest(facts, |_| true, matches!(measure, ProcessMeasure::Reserved))),
        };
        found.extend(next);
    }
    found
}

/// Exited threads are a mistake, other stacks may be meant: among the parts of a sum they are named first.
fn weight(facts: &Facts<'_>, role: Role) -> (bool, u64) {
    (role == Role::ThreadStackExited, facts.map.sum(|other| other == role).reserved)
}

/// What the sentences are made of.
struct Facts<'a> {
    before: Option<&'a State>,
    now: &'a State,
    map: &'a MemoryMap,
    /// The map of the other side, where it is known: it tells names and sizes that rows do not.
    old: Option<&'a MemoryMap>,
    /// The snapshots of both sides: names of libraries, and the hardening line.
    sides: Option<(&'a Snapshot, &'a Snapshot)>,
    /// Limits whose value is above them.
    over: Vec<&'a LimitResult>,
}

/// A cause with what is needed to rank it and to know which rows it speaks of.
struct Finding {
    rows: BTreeSet<RowKey>,
    change: Delta,
    cause: String,
    cost: String,
    remedies: Vec<String>,
}

/// How a row, or several, changed against the approved state.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Delta {
    count: i128,
    /// Bytes.
    reserved: i128,
    /// Bytes; absent when unknown on either side, or when it varies.
    anon: Option<i128>,
}

impl Delta {
    fn is_zero(self) -> bool {
        self.count == 0 && self.reserved == 0 && self.anon.unwrap_or(0) == 0
    }

    fn plus(self, other: Self) -> Self {
        Self {
            count: self.count + other.count,
            reserved: self.reserved + other.reserved,
            anon: self.anon.zip(other.anon).map(|(a, b)| a + b),
        }
    }
}

impl<'a> Facts<'a> {
    fn new(before: Option<&'a State>, now: &'a State, map: &'a MemoryMap, limits: &'a [LimitResult]) -> Self {
        Self {
            before,
            now,
            map,
            old: None,
            sides: None,
            over: limits
                .iter()
                .filter(|limit| limit.verdict == Verdict::Over && !limit.is_under())
                .collect(),
        }
    }
}

impl Facts<'_> {
    /// The change of a role's row; zero without an approved state.
    fn delta(&self, role: Role) -> Delta {
        self.row_delta(&RowKey::Role(role))
    }

    fn row_delta(&self, key: &RowKey) -> Delta {
        let Some(before) = self.before else {
            return Delta {
                anon: Some(0),
                ..Delta::default()
            };
        };
        let (old, new) = (before.rows.get(key), self.now.rows.get(key));
        let step = |column: Column| {
            // A row that is not there at all is a role that does not occur: nothing, rather than unknown.
            let known = |row: Option<&Row>| row.map_or(Some(0), |row| value(column.of(Some(row))));
            known(old).zip(known(new)).map(|(a, b)| i128::from(b) - i128::from(a))
        };
        Delta {
            count: step(Column::Count).unwrap_or(0),
            reserved: step(Column::Reserved).unwrap_or(0),
            anon: step(Column::Anon),
        }
    }

    /// True when number and size of a role are known on both sides: only then may a sentence say "as many as before".
    fn is_known(&self, role: Role) -> bool {
        let key = RowKey::Role(role);
        let known = |state: &State| {
            state
                .rows
                .get(&key)
                .is_none_or(|row| value(row.count).is_some() && value(row.reserved).is_some())
        };
        self.before.is_none_or(known) && known(self.now)
    }

    /// A cell of the approved state's row.
    fn approved(&self, role: Role, column: Column) -> Option<u64> {
        value(column.of(self.before?.rows.get(&RowKey::Role(role))))
    }

    fn is_over(&self, row: &RowKey) -> bool {
        self.over.iter().any(|limit| match (limit.metric.subject(), row) {
            (Subject::Threads, RowKey::Threads) => true,
            (Subject::Roles { roles, .. }, RowKey::Role(role)) => roles.contains(role),
            _ => false,
        })
    }
}

/// The columns of a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Column {
    Count,
    Reserved,
    Anon,
}

impl Column {
    const ALL: [Self; 3] = [Self::Count, Self::Reserved, Self::Anon];

    const fn name(self) -> &'static str {
        match self {
            Self::Count => "count",
            Self::Reserved => "reserved",
            Self::Anon => "anon",
        }
    }

    fn of(self, row: Option<&Row>) -> Cell {
        row.map_or(Cell::Absent, |row| match self {
            Self::Count => row.count,
            Self::Reserved => row.reserved,
            Self::Anon => row.anon,
        })
    }
}

fn value(cell: Cell) -> Option<u64> {
    match cell {
        Cell::Value(value) => Some(value),
        Cell::Absent | Cell::Varies => None,
    }
}

fn row_name(key: &RowKey) -> String {
    match key {
        RowKey::Threads => "threads".to_owned(),
        RowKey::Role(role) => role.name().to_owned(),
        RowKey::Metric(metric) => metric.name().to_owned(),
    }
}

fn role_of(key: &RowKey) -> Option<Role> {
    match key {
        RowKey::Role(role) => Some(*role),
        RowKey::Threads | RowKey::Metric(_) => None,
    }
}

/// A size in a sentence, exact: KiB as `ulimit -s` and the snapshots count, larger units only from 16 MiB on.
fn size(bytes: u64) -> String {
    if bytes < 16 << 20 && bytes.is_multiple_of(1024) {
        format!("{} KiB", bytes >> 10)
    } else {
        ByteSize(bytes).to_string()
    }
}

fn signed(bytes: i128) -> String {
    let sign = if bytes < 0 { '-' } else { '+' };
    format!("{sign}{}", size(u64::try_from(bytes.unsigned_abs()).unwrap_or(u64::MAX)))
}

/// One sentence on the cost of memory of which everything that is not anonymous is address space only: stacks, arenas,
/// heaps, anonymous mappings, guards. Empty when nothing changed.
fn cost(delta: Delta) -> String {
    match (delta.reserved, delta.anon) {
        (0, Some(0) | None) => String::new(),
        (0, Some(anon)) => format!("{} anonymous memory, no change of address space.", signed(anon)),
        (reserved, Some(0)) if reserved > 0 => format!("{} of address space only, no anonymous memory.", signed(reserved)),
        (reserved, Some(anon)) if reserved > anon && anon > 0 => format!(
            "{} anonymous memory; the other {} is address space.",
            signed(anon),
            signed(reserved - anon)
        ),
        (reserved, Some(anon)) if reserved == anon && anon > 0 => format!("{} reserved, all of it anonymous.", signed(anon)),
        (reserved, anon) => plain_cost(Delta {
            count: 0,
            reserved,
            anon,
        }),
    }
}

/// Reserved and anonymous side by side, for memory whose rest may belong to files.
fn plain_cost(delta: Delta) -> String {
    match (delta.reserved, delta.anon) {
        (0, Some(0) | None) => String::new(),
        (0, Some(anon)) => format!("{} anonymous memory, no change of address space.", signed(anon)),
        (reserved, Some(0)) => format!("{} reserved, no anonymous memory.", signed(reserved)),
        (reserved, Some(anon)) => format!("{} reserved, {} anonymous.", signed(reserved), signed(anon)),
        (reserved, None) => format!("{} reserved; how much of it is anonymous is not known.", signed(reserved)),
    }
}

/// `1 thread`, `2 threads`.
fn counted(count: i128, noun: &str) -> String {
    let number = count.unsigned_abs();
    format!("{number} {noun}{}", if number == 1 { "" } else { "s" })
}

/// Joins sentences, each a line of its own, leaving out empty ones.
fn sentences(parts: &[String]) -> String {
    let full: Vec<&str> = parts.iter().map(String::as_str).filter(|part| !part.is_empty()).collect();
    full.join("\n")
}

#[cfg(test)]
mod tests;
