//! One checkpoint of a case against the approved state of the same name.

use super::{causes, changes};
use crate::model::{Change, ChangeCause, LimitResult, MemoryMap, Snapshot, State};

/// The changes of the checkpoint `name` against the approved snapshot, and what explains them and the broken limits. A change
/// that stood at an earlier checkpoint already is among them: telling it once is the presenter's.
#[must_use]
pub fn checkpoint(
    approved: Option<&Snapshot>,
    now: &Snapshot,
    name: &str,
    map: &MemoryMap,
    limits: &[LimitResult],
) -> (Vec<Change>, Vec<ChangeCause>) {
    let empty = State::default();
    let state = find(now, name);
    let before = approved.and_then(|approved| find(approved, name)).filter(|_| state.is_some());
    let changed = before
        .zip(state)
        .map_or_else(Vec::new, |(before, state)| changes(before, state));
    // Without a change there is nothing to compare: only broken limits are explained, from the map.
    let reference = before.filter(|_| !changed.is_empty());
    let why = causes(reference, state.unwrap_or(&empty), map, limits);
    (changed, why)
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
        let at = |approved: Option<&Snapshot>, name: &str| checkpoint(approved, &now, name, &map, &[]);
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
