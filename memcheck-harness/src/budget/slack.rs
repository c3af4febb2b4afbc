//! The room that written limits leave: per place where one is written, over all checkpoints it holds for. Pure.

use std::collections::BTreeMap;

use crate::model::{CaseReport, LimitResult, Place, Room, Verdict};

/// Every written `max` that all checkpoints keep, in the order of places. One that is broken somewhere, waived or not, or could
/// not be judged everywhere, has no room; nor has one of the command line. One written for several roles is one.
#[must_use]
pub fn room(cases: &[CaseReport]) -> Vec<Room> {
    let mut found: BTreeMap<Place, Option<Room>> = BTreeMap::new();
    for case in cases {
        for checkpoint in &case.checkpoints {
            let limits = checkpoint
                .limits
                .iter()
                .filter(|limit| limit.rule == "max" && limit.origin.line > 0);
            for limit in limits {
                let key = limit.origin.clone();
                let here = kept(limit, &case.name, &checkpoint.name);
                let highest = match (found.remove(&key), here) {
                    (None, here) => here,
                    (Some(Some(before)), Some(here)) if here.highest > before.highest => Some(here),
                    (Some(Some(before)), Some(_)) => Some(before),
                    (Some(_), _) => None,
                };
                found.insert(key, highest);
            }
        }
    }
    found.into_values().flatten().collect()
}

fn kept(limit: &LimitResult, case: &str, checkpoint: &str) -> Option<Room> {
    (limit.verdict == Verdict::Within).then_some(())?;
    Some(Room {
        origin: limit.origin.clone(),
        metric: limit.metric.clone(),
        limit: limit.limit?,
        highest: limit.value?,
        at: (case.to_owned(), checkpoint.to_owned()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::fixtures::{case, limit};

    fn rooms(values: &[(&str, u64, Option<u64>, u32)]) -> Vec<(u64, u64, bool)> {
        let mut case = case("c");
        case.checkpoints[0].limits = values
            .iter()
            .map(|(metric, max, value, line)| limit(metric, *max, *value, *line))
            .collect();
        room(&[case])
            .iter()
            .map(|room| (room.highest, room.tight(), room.is_slack()))
            .collect()
    }

    #[test]
    fn the_highest_value_of_a_place_counts() {
        let kib = |n: u64| n << 10;
        assert_eq!(
            rooms(&[
                ("own.anon", kib(256), Some(kib(8)), 3),
                ("own.anon", kib(256), Some(kib(9) + 1), 3)
            ]),
            [(kib(9) + 1, kib(12), true)]
        );
        assert_eq!(
            rooms(&[("own.anon", kib(256), Some(kib(200)), 3)]),
            [(kib(200), kib(200), false)]
        );
        assert_eq!(rooms(&[("own.anon", kib(60), Some(0), 3)]), [(0, 0, false)], "a trifle");
        assert_eq!(
            rooms(&[("threads.count", 9, Some(3), 3), ("own.anon", 0, Some(0), 4)]),
            [(3, 3, true), (0, 0, false)]
        );
        assert_eq!(
            rooms(&[("process.peak", kib(400), Some(kib(100)), 3)]),
            [(kib(100), kib(128), true)]
        );
    }

    #[test]
    fn what_is_broken_or_unknown_somewhere_has_no_room() {
        for other in [None, Some(5)] {
            assert_eq!(rooms(&[("threads.count", 4, Some(1), 3), ("threads.count", 4, other, 3)]), []);
            assert_eq!(rooms(&[("threads.count", 4, other, 3), ("threads.count", 4, Some(1), 3)]), []);
        }
        assert_eq!(rooms(&[("threads.count", 9, Some(1), 0)]), [], "typed with --budget");
    }
}
