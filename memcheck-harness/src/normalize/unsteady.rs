//! Several runs of one binary against the approved states: what every run shows differently, and what only some do. Pure;
//! the runs come in as [`within`](super::within) leaves them, so that tolerated values are no differences.

use std::collections::BTreeSet;

use super::render::label;
use crate::model::{Cell, Row, RowKey, Snapshot, State, UnsteadyCell};

/// What several runs say together.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Weighed {
    /// Something differs from the approved states in every run.
    pub every_run_differs: bool,
    /// Values that the runs do not agree on, by checkpoint and row.
    pub unsteady: Vec<UnsteadyCell>,
}

/// Weighs the runs, at least one. A value that differs from the approved one in each of them is a difference of the program,
/// even where its size varies; one that some run has as approved is not.
#[must_use]
pub fn weigh(runs: &[Snapshot], approved: &Snapshot) -> Weighed {
    let mut found = Weighed::default();
    case_facts(runs, approved, &mut found);
    let mut names: Vec<&str> = Vec::new();
    for state in approved
        .checkpoints
        .iter()
        .chain(runs.iter().flat_map(|run| &run.checkpoints))
    {
        if !names.contains(&state.name.as_str()) {
            names.push(&state.name);
        }
    }
    for name in names {
        let of = |snapshot| state(snapshot, name);
        let old = of(approved);
        let now: Vec<Option<&State>> = runs.iter().map(of).collect();
        let keys: BTreeSet<&RowKey> = now.iter().flatten().chain(&old).flat_map(|state| state.rows.keys()).collect();
        for key in keys {
            let rows: Vec<Option<&Row>> = now.iter().map(|state| state.and_then(|state| state.rows.get(key))).collect();
            let before = old.and_then(|state| state.rows.get(key));
            row(name, key, &rows, before, &mut found);
        }
    }
    found
}

fn state<'a>(snapshot: &'a Snapshot, name: &str) -> Option<&'a State> {
    snapshot.checkpoints.iter().find(|state| state.name == name)
}

/// A column's name and its cell.
type Column = (&'static str, fn(&Row) -> Cell);

const COLUMNS: [Column; 3] = [
    ("count", |row| row.count),
    ("reserved", |row| row.reserved),
    ("anon", |row| row.anon),
];

fn row(checkpoint: &str, key: &RowKey, runs: &[Option<&Row>], approved: Option<&Row>, found: &mut Weighed) {
    for (column, of) in COLUMNS {
        let cells: Vec<Option<Cell>> = runs.iter().map(|row| row.map(of)).collect();
        let before = approved.map(of);
        found.every_run_differs |= cells.iter().all(|cell| *cell != before);
        if cells.iter().all(|cell| Some(cell) == cells.first()) {
            continue;
        }
        // A row that only some runs have has cells that no run has a value for.
        let values: BTreeSet<Option<u64>> = cells.iter().map(|cell| cell.and_then(value)).collect();
        if values.len() > 1 {
            found.unsteady.push(UnsteadyCell {
                checkpoint: checkpoint.to_owned(),
                row: label(key).to_owned(),
                column: column.to_owned(),
                approved: before.and_then(value),
                values: values.into_iter().collect(),
            });
        }
    }
}

fn value(cell: Cell) -> Option<u64> {
    match cell {
        Cell::Value(value) => Some(value),
        Cell::Absent | Cell::Varies => None,
    }
}

/// Names that belong to the case, and which checkpoints there are.
fn case_facts(runs: &[Snapshot], approved: &Snapshot, found: &mut Weighed) {
    fn fact<T: PartialEq>(name: &str, runs: &[Snapshot], approved: &Snapshot, of: impl Fn(&Snapshot) -> T, found: &mut Weighed) {
        found.every_run_differs |= runs.iter().all(|run| of(run) != of(approved));
        if runs.windows(2).any(|pair| of(&pair[0]) != of(&pair[1])) {
            found.unsteady.push(UnsteadyCell {
                checkpoint: String::new(),
                row: name.to_owned(),
                column: String::new(),
                approved: None,
                values: Vec::new(),
            });
        }
    }
    fact("platform", runs, approved, |run| run.platform.clone(), found);
    fact("libraries", runs, approved, |run| run.libraries.clone(), found);
    fact("hardening", runs, approved, |run| run.hardening.clone(), found);
    let names = |run: &Snapshot| run.checkpoints.iter().map(|state| state.name.clone()).collect::<Vec<_>>();
    fact("checkpoints", runs, approved, names, found);
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::parse::tests::any_snapshot;
    use super::*;
    use crate::model::Role;

    /// One checkpoint with a heap of these cells.
    fn heap(count: u64, anon: u64) -> Snapshot {
        let row = Row {
            count: Cell::Value(count),
            reserved: Cell::Value(4096),
            anon: Cell::Value(anon),
        };
        Snapshot {
            checkpoints: vec![State {
                name: "a".to_owned(),
                child: None,
                rows: [(RowKey::Role(Role::ThreadArena), row)].into(),
            }],
            ..Snapshot::default()
        }
    }

    fn told(runs: &[Snapshot], approved: &Snapshot) -> (bool, Vec<String>) {
        let found = weigh(runs, approved);
        (
            found.every_run_differs,
            found.unsteady.iter().map(ToString::to_string).collect(),
        )
    }

    #[test]
    fn what_every_run_shows_is_a_difference() {
        let approved = heap(1, 0);
        assert_eq!(told(&[heap(2, 0), heap(2, 0), heap(2, 0)], &approved), (true, vec![]));
        // Its size may vary.
        let varying = "thread-arena.count 2 or 3 at a (approved 1)".to_owned();
        assert_eq!(told(&[heap(3, 0), heap(2, 0)], &approved), (true, vec![varying]));
    }

    #[test]
    fn what_some_run_has_as_approved_is_not() {
        let approved = heap(1, 4096);
        let count = "thread-arena.count 1 or 2 at a (approved 1)".to_owned();
        assert_eq!(told(&[heap(2, 4096), heap(1, 4096)], &approved), (false, vec![count.clone()]));
        // Two cells that take turns: neither differs in every run.
        let anon = "thread-arena.anon 4 KiB or 8 KiB at a (approved 4 KiB)".to_owned();
        assert_eq!(told(&[heap(2, 4096), heap(1, 8192)], &approved), (false, vec![count, anon]));
        assert_eq!(told(&[heap(1, 4096)], &approved), (false, vec![]));
    }

    #[test]
    fn rows_checkpoints_and_names_come_and_go() {
        let mut without = heap(1, 0);
        without.checkpoints[0].rows.clear();
        let gone = ["count none or 1", "reserved none or 4 KiB", "anon none or 0 B"];
        let gone = gone.map(|text| format!("thread-arena.{text} at a (approved {})", text.rsplit(" or ").next().unwrap()));
        assert_eq!(told(&[without.clone(), heap(1, 0)], &heap(1, 0)), (false, gone.to_vec()));
        assert_eq!(told(&[without.clone(), without], &heap(1, 0)), (true, vec![]));
        let mut other = heap(1, 0);
        other.platform = vec!["libm.so.6".to_owned()];
        assert_eq!(
            told(&[other.clone(), heap(1, 0)], &heap(1, 0)),
            (false, vec!["platform".to_owned()])
        );
        assert_eq!(told(&[other.clone(), other], &heap(1, 0)), (true, vec![]));
        assert!(told(&[Snapshot::default()], &heap(1, 0)).0, "a checkpoint is gone");
    }

    proptest! {
        #[test]
        fn one_run_differs_exactly_when_it_is_not_the_approved_one(a in any_snapshot(), b in any_snapshot()) {
            prop_assert_eq!(weigh(std::slice::from_ref(&a), &a), Weighed::default());
            prop_assert!(weigh(&[a.clone(), b.clone()], &a).unsteady.is_empty() || a != b);
            prop_assert!(!weigh(&[a.clone(), b], &a).every_run_differs);
        }
    }
}
