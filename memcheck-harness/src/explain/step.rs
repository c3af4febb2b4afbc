//! One checkpoint of a case against the approved state of the same name.

use std::collections::BTreeSet;

use super::{Facts, causes_of, changes};
use crate::model::{
    Cell, Change, ChangeCause, Hardening, LimitResult, MemoryMap, Name, Relro, Row, RowKey, Snapshot, StackState, State,
};

/// The changes of the checkpoint `name` against the other side's snapshot (an approved one, or the base's), and what explains
/// them and the broken limits. `old` is the other side's map, where there is one: it tells more than rows do. A change that
/// stood at an earlier checkpoint already is among them: telling it once is the presenter's.
#[must_use]
pub fn checkpoint(
    before: Option<&Snapshot>,
    old: Option<&MemoryMap>,
    now: &Snapshot,
    name: &str,
    map: &MemoryMap,
    limits: &[LimitResult],
) -> (Vec<Change>, Vec<ChangeCause>) {
    let empty = State::default();
    let state = find(now, name);
    let reference = before.and_then(|before| find(before, name)).filter(|_| state.is_some());
    let changed = reference
        .zip(state)
        .map_or_else(Vec::new, |(before, state)| changes(before, state));
    let facts = Facts {
        // Without a change there is nothing to compare: only broken limits are explained, from the map.
        before: reference.filter(|_| !changed.is_empty()),
        old: old.filter(|_| reference.is_some()),
        // Without maps the names are those of the whole case: told once.
        sides: before
            .filter(|_| reference.is_some() && (!map.pieces.is_empty() || is_first(now, name)))
            .map(|before| (before, now)),
        ..Facts::new(None, state.unwrap_or(&empty), map, limits)
    };
    let why = causes_of(&facts);
    (changed, why)
}

/// The changes from one map to another, and what explains them: all of the program's own memory, with the sizes of segments.
#[must_use]
pub fn between(before: &MemoryMap, now: &MemoryMap) -> (Vec<Change>, Vec<ChangeCause>) {
    checkpoint(Some(&whole(before)), Some(before), &whole(now), "", now, &[])
}

/// A map as a snapshot of one checkpoint without a name.
fn whole(map: &MemoryMap) -> Snapshot {
    let roles = map
        .by_role()
        .into_iter()
        .filter(|(role, _)| role.is_own())
        .map(|(role, sum)| {
            let row = Row {
                count: Cell::Value(sum.count),
                reserved: Cell::Value(sum.reserved),
                anon: sum.anon.map_or(Cell::Absent, Cell::Value),
            };
            (RowKey::Role(role), row)
        });
    let live = map.threads.iter().filter(|thread| thread.state == StackState::Live).count();
    let threads = Row {
        count: Cell::Value(live as u64),
        ..Row::default()
    };
    let names = |names: &BTreeSet<Name>| names.iter().map(Name::to_string).collect();
    Snapshot {
        case: String::new(),
        platform: names(&map.platform_objects),
        libraries: names(&map.own_objects),
        hardening: map.hardening.map_or_else(String::new, relro),
        checkpoints: vec![State {
            name: String::new(),
            child: None,
            rows: roles.chain([(RowKey::Threads, threads)]).collect(),
        }],
    }
}

/// The word of the hardening line that a run of one program could change: none but the file's own.
fn relro(facts: Hardening) -> String {
    match facts.relro {
        Relro::No => "relro none",
        Relro::Partial => "relro partial",
        Relro::Full => "relro full",
    }
    .to_owned()
}

fn is_first(snapshot: &Snapshot, name: &str) -> bool {
    snapshot.checkpoints.first().is_some_and(|state| state.name == name)
}

fn find<'a>(snapshot: &'a Snapshot, name: &str) -> Option<&'a State> {
    snapshot.checkpoints.iter().find(|state| state.name == name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Cell, Role, Row, RowKey};
    use crate::report::fixtures;

    fn snapshot(heap_kib: u64) -> Snapshot {
        let rows = [(
            RowKey::Role(Role::MainHeap),
            Row {
                count: Cell::Value(1),
                reserved: Cell::Value(heap_kib << 10),
                anon: Cell::Value(4096),
            },
        )];
        let state = State {
            name: "a".to_owned(),
            child: None,
            rows: rows.into(),
        };
        Snapshot {
            checkpoints: vec![state],
            ..Snapshot::default()
        }
    }

    #[test]
    fn only_states_of_the_same_name_are_compared() {
        let map = fixtures::map(&[(Role::MainHeap, 140 << 10, 4096)]);
        let (approved, now) = (snapshot(132), snapshot(140));
        let at = |approved: Option<&Snapshot>, name: &str| checkpoint(approved, None, &now, name, &map, &[]);
        let (changes, causes) = at(Some(&approved), "a");
        assert_eq!(
            (changes.len(), changes[0].before, changes[0].now),
            (1, Some(132 << 10), Some(140 << 10))
        );
        assert_eq!(causes.len(), 1);
        assert_eq!(at(Some(&approved), "b"), (Vec::new(), Vec::new()));
        assert_eq!(at(None, "a"), (Vec::new(), Vec::new()));
        assert_eq!(at(Some(&now), "a"), (Vec::new(), Vec::new()));
    }
}
