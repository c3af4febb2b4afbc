//! Which differences between states do not count: values within a tolerance, cells that vary, rows that could not be
//! measured here. Works on states, so that text within tolerance never changes. What a row is comes from `states`.

use std::collections::BTreeSet;

use super::render::label;
use crate::model::{Case, Cell, ProcessMeasure, Role, RoleMeasure, Row, RowKey, Snapshot, State, Subject};

/// The measured snapshot with approved values kept where they are within tolerance or vary. Where the main stack was not
/// measured at all (it cannot repeat on this machine), its approved rows are kept: they are not compared.
#[must_use]
pub fn within(case: &Case, measured: &Snapshot, approved: &Snapshot) -> Snapshot {
    let stack = RowKey::Role(Role::MainStack);
    let wants_stack = case
        .snapshot
        .roles
        .as_ref()
        .is_none_or(|roles| roles.contains(&Role::MainStack));
    let skips_stack = wants_stack && !measured.checkpoints.iter().any(|state| state.rows.contains_key(&stack));
    let mut result = measured.clone();
    for state in &mut result.checkpoints {
        let Some(reference) = approved.checkpoints.iter().find(|other| other.name == state.name) else {
            continue;
        };
        for (key, old) in &reference.rows {
            match state.rows.get_mut(key) {
                Some(row) => keep(row, old, tolerance(case, key)),
                // A row that is there in some runs only was approved as varying in every cell it has.
                None if never_exact(old) || (skips_stack && *key == stack) => {
                    state.rows.insert(key.clone(), old.clone());
                }
                None => {}
            }
        }
    }
    result
}

fn keep(row: &mut Row, old: &Row, tolerance: Tolerance) {
    let pick = |now: Cell, old: Cell, tolerance: u64| match (now, old) {
        (_, Cell::Varies) => Cell::Varies,
        (Cell::Value(a), Cell::Value(b)) if a.abs_diff(b) <= tolerance => old,
        _ => now,
    };
    row.count = pick(row.count, old.count, 0);
    row.reserved = pick(row.reserved, old.reserved, tolerance.reserved);
    row.anon = pick(row.anon, old.anon, tolerance.anon);
}

fn never_exact(row: &Row) -> bool {
    let cells = [row.count, row.reserved, row.anon];
    cells.contains(&Cell::Varies) && !cells.iter().any(|cell| matches!(cell, Cell::Value(_)))
}

/// Bytes, by column; a metric of bytes stands under `reserved`.
#[derive(Clone, Copy, Default)]
struct Tolerance {
    reserved: u64,
    anon: u64,
}

/// A tolerance on a part holds for every sum that contains it.
fn tolerance(case: &Case, key: &RowKey) -> Tolerance {
    let sum = |include: &dyn Fn(Role) -> bool| {
        let parts = case.snapshot.tolerance.iter().filter(|(role, _)| include(**role));
        parts.fold(0_u64, |sum, (_, bytes)| sum.saturating_add(*bytes))
    };
    match key {
        RowKey::Threads => Tolerance::default(),
        RowKey::Role(role) => Tolerance {
            anon: sum(&|other| other == *role),
            reserved: 0,
        },
        RowKey::Metric(metric) => Tolerance {
            reserved: match metric.subject() {
                Subject::Own(RoleMeasure::Anon) => sum(&Role::is_own),
                Subject::Process(ProcessMeasure::Anon) => sum(&|_| true),
                Subject::Roles {
                    roles,
                    measure: RoleMeasure::Anon,
                } => sum(&|role| roles.contains(&role)),
                _ => 0,
            },
            anon: 0,
        },
    }
}

/// Several runs of one case: cells that differ become `varies`; a row or checkpoint that only some runs have varies in
/// every cell. The case's facts are the first run's.
#[must_use]
pub fn merge(runs: &[Snapshot]) -> Snapshot {
    let first = match runs {
        [] => return Snapshot::default(),
        // Nothing varies.
        [one] => return one.clone(),
        [first, ..] => first,
    };
    let mut result = first.clone();
    let mut names: Vec<&str> = Vec::new();
    for state in runs.iter().flat_map(|run| &run.checkpoints) {
        if !names.contains(&state.name.as_str()) {
            names.push(&state.name);
        }
    }
    result.checkpoints = names
        .into_iter()
        .map(|name| {
            let states: Vec<Option<&State>> = runs
                .iter()
                .map(|run| run.checkpoints.iter().find(|state| state.name == name))
                .collect();
            State {
                child: states.iter().flatten().find_map(|state| state.child.clone()),
                ..merge_states(name, &states)
            }
        })
        .collect();
    result
}

fn merge_states(name: &str, states: &[Option<&State>]) -> State {
    let keys: BTreeSet<&RowKey> = states.iter().flatten().flat_map(|state| state.rows.keys()).collect();
    let rows = keys.into_iter().map(|key| {
        let rows: Vec<Option<&Row>> = states
            .iter()
            .map(|state| state.and_then(|state| state.rows.get(key)))
            .collect();
        let missing = rows.iter().any(Option::is_none);
        let cell = |column: fn(&Row) -> Cell| {
            let cells: Vec<Cell> = rows.iter().flatten().map(|row| column(row)).collect();
            match cells.first() {
                Some(first) if cells.iter().all(|cell| cell == first) && (!missing || *first == Cell::Absent) => *first,
                _ => Cell::Varies,
            }
        };
        let row = Row {
            count: cell(|row| row.count),
            reserved: cell(|row| row.reserved),
            anon: cell(|row| row.anon),
        };
        (key.clone(), row)
    });
    State {
        name: name.to_owned(),
        child: None,
        rows: rows.collect(),
    }
}

/// True when, in every cell in which `waiting` varies, what was measured varies as well or is what is approved.
#[must_use]
pub fn varies_alike(case: &Case, measured: &Snapshot, waiting: &Snapshot, approved: &Snapshot) -> bool {
    let measured = within(case, measured, approved);
    let columns: [fn(&Row) -> Cell; 3] = [|row| row.count, |row| row.reserved, |row| row.anon];
    waiting.checkpoints.iter().all(|state| {
        let rows = |of: &Snapshot| {
            of.checkpoints
                .iter()
                .find(|other| other.name == state.name)
                .map(|state| state.rows.clone())
        };
        let (now, old) = (rows(&measured).unwrap_or_default(), rows(approved).unwrap_or_default());
        state.rows.iter().all(|(key, row)| {
            let (now, old) = (now.get(key), old.get(key));
            columns
                .iter()
                .filter(|column| column(row) == Cell::Varies)
                .all(|column| now.map(column) == old.map(column) || now.map(column) == Some(Cell::Varies))
        })
    })
}

/// The rows with cells that vary, as `checkpoint: row`, in order.
#[must_use]
pub fn varying(snapshot: &Snapshot) -> Vec<String> {
    let mut found = Vec::new();
    for state in &snapshot.checkpoints {
        for (key, row) in &state.rows {
            if [row.count, row.reserved, row.anon].contains(&Cell::Varies) {
                found.push(format!("{}: {}", state.name, label(key)));
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::super::parse::tests::any_snapshot;
    use super::*;
    use crate::model::{Metric, Target};

    const HEAP: RowKey = RowKey::Role(Role::MainHeap);
    const STACK: RowKey = RowKey::Role(Role::MainStack);

    fn case(tolerance: &[(Role, u64)]) -> Case {
        let program = "true".to_owned();
        let mut case = Case::new("c", "/p", Target::Command { program });
        case.snapshot.tolerance = tolerance.iter().copied().collect();
        case
    }

    fn row(count: Cell, anon: Cell) -> Row {
        Row {
            count,
            reserved: Cell::Value(4096),
            anon,
        }
    }

    fn one(rows: &[(RowKey, Row)]) -> Snapshot {
        Snapshot {
            checkpoints: vec![State {
                name: "a".to_owned(),
                child: None,
                rows: rows.iter().cloned().collect::<BTreeMap<_, _>>(),
            }],
            ..Snapshot::default()
        }
    }

    #[test]
    fn runs_that_agree_on_another_value_are_no_variant() {
        let with = |anon| one(&[(HEAP, row(Cell::Value(1), anon))]);
        let alike = |now| varies_alike(&case(&[]), &with(now), &with(Cell::Varies), &with(Cell::Value(4096)));
        assert!(alike(Cell::Varies) && alike(Cell::Value(4096)));
        assert!(!alike(Cell::Value(8192)));
        let gone = varies_alike(&case(&[]), &one(&[]), &with(Cell::Varies), &with(Cell::Value(4096)));
        assert!(!gone);
    }

    #[test]
    fn anon_within_tolerance_keeps_the_approved_value() {
        let at = |bytes| one(&[(HEAP, row(Cell::Value(1), Cell::Value(bytes)))]);
        let case = case(&[(Role::MainHeap, 4096)]);
        for (measured, expected) in [(4096, 8192), (12288, 8192), (12289, 12289), (4095, 4095)] {
            assert_eq!(within(&case, &at(measured), &at(8192)), at(expected));
        }
    }

    #[test]
    fn a_tolerance_on_a_part_holds_for_the_sums() {
        let own = RowKey::Metric(Metric::parse("own.anon").unwrap());
        let at = |bytes| {
            let row = Row {
                reserved: Cell::Value(bytes),
                ..Row::default()
            };
            one(&[(own.clone(), row)])
        };
        let case = case(&[(Role::MainHeap, 10), (Role::AnonMap, 5), (Role::Platform, 100)]);
        assert_eq!(within(&case, &at(115), &at(100)), at(100));
        assert_eq!(within(&case, &at(116), &at(100)), at(116));
    }

    #[test]
    fn what_varies_is_not_gated_and_counts_are_exact() {
        let approved = one(&[(HEAP, row(Cell::Value(1), Cell::Varies))]);
        let kept = within(&case(&[]), &one(&[(HEAP, row(Cell::Value(1), Cell::Value(9)))]), &approved);
        assert_eq!(kept, approved);
        let more = one(&[(HEAP, row(Cell::Value(2), Cell::Value(9)))]);
        assert_ne!(within(&case(&[]), &more, &approved), approved);
        assert_eq!(
            within(&case(&[]), &one(&[]), &approved),
            one(&[]),
            "a row that was always there is missing"
        );
    }

    #[test]
    fn a_main_stack_that_was_not_measured_is_not_compared() {
        let approved = one(&[(STACK, row(Cell::Value(1), Cell::Value(65536)))]);
        assert_eq!(within(&case(&[]), &one(&[]), &approved), approved);
        let mut filtered = case(&[]);
        filtered.snapshot.roles = Some(vec![Role::MainHeap]);
        assert_eq!(within(&filtered, &one(&[]), &approved), one(&[]));
    }

    #[test]
    fn runs_that_differ_vary_in_the_cells_that_differ() {
        let runs = [
            one(&[
                (HEAP, row(Cell::Value(1), Cell::Value(1))),
                (STACK, row(Cell::Value(1), Cell::Absent)),
            ]),
            one(&[(HEAP, row(Cell::Value(1), Cell::Value(2)))]),
        ];
        let merged = merge(&runs);
        let rows = &merged.checkpoints[0].rows;
        assert_eq!(rows[&HEAP], row(Cell::Value(1), Cell::Varies));
        let some_runs = Row {
            count: Cell::Varies,
            reserved: Cell::Varies,
            anon: Cell::Absent,
        };
        assert_eq!(rows[&STACK], some_runs);
        assert_eq!(varying(&merged), ["a: main-heap", "a: main-stack"]);
        for run in &runs {
            assert_eq!(within(&case(&[]), run, &merged), merged, "each of the runs is accepted");
        }
    }

    proptest! {
        #[test]
        fn tolerance_and_merging_are_idempotent(mut a in any_snapshot(), b in any_snapshot(), bytes in any::<u64>()) {
            let case = case(&[(Role::MainHeap, bytes)]);
            for (index, state) in a.checkpoints.iter_mut().enumerate() {
                state.name = index.to_string();
            }
            let mut approved = b;
            for (index, state) in approved.checkpoints.iter_mut().enumerate() {
                state.name = index.to_string();
            }
            let once = within(&case, &a, &approved);
            prop_assert_eq!(&within(&case, &once, &approved), &once);
            prop_assert_eq!(&within(&case, &a, &a), &a);
            prop_assert_eq!(&merge(&[a.clone(), a.clone()]), &a);
            let merged = merge(&[a, approved]);
            prop_assert_eq!(&merge(&[merged.clone(), merged.clone()]), &merged);
        }
    }
}
