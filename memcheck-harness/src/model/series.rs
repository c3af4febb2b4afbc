//! `Series`: what was read at a checkpoint that is passed many times (`every`), round by round, and how it grows.
//! Filled by `pipeline`, judged by `budget`, drawn by `report`.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{Case, Every, Limit, Metric, Over, Place};

/// Fewer rounds after the warm-up tell nothing about growth.
pub const MIN_ROUNDS: u64 = 8;

/// A series of up to so many rounds is kept whole.
const WHOLE: u64 = 100;
/// Of a longer one that is not in the snapshot, about so many rounds are kept, evenly spread.
const KEPT: u64 = 50;

/// The rounds of one series.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Series {
    /// Its name in `memcheck.toml`.
    pub name: String,
    /// Where its checkpoint stands.
    pub place: Place,
    /// Where it stops, for people (`probe round`).
    pub at: String,
    /// Passes of the place from one round that is read to the next; 1: every pass is read.
    pub step: u64,
    /// Rounds that were read.
    pub rounds: u64,
    /// Rounds of which only these readings are kept: there is no checkpoint for them.
    pub thinned: u64,
    /// Rounds at the start that do not count.
    pub warm_up: u64,
    /// One value for each round, in the metric's unit; absent where it was not read or could not be known.
    pub readings: BTreeMap<Metric, Vec<Option<u64>>>,
    /// How each metric grows after the warm-up; absent for those that were not known in every round, and for all when there were
    /// fewer than [`MIN_ROUNDS`].
    pub trends: BTreeMap<Metric, Trend>,
}

/// How one metric changes from pass to pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Trend {
    /// The verdict.
    pub direction: Direction,
    /// Rounds it stands on: those after the warm-up.
    pub rounds: u64,
    /// Theil–Sen slope: the median over all pairs of rounds, in thousandths of the metric's unit per pass, rounded to nearest.
    pub slope_milli: i64,
    /// Coefficient of determination of the least-squares line, in thousandths; absent when all values are equal.
    pub r2_permille: Option<u32>,
    /// How often a round was higher than every round before.
    pub rises: u64,
    /// The last round (from 1, warm-up counted) that was; 0: none.
    pub last_rise: u64,
    /// By how much the highest round is above the first one, in the metric's unit.
    pub rise: u64,
    /// Less than this over all rounds cannot be told from nothing: a page, for what is counted in pages.
    pub grain: u64,
}

/// Verdict on a series of values.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Direction {
    /// It stays as it is.
    Flat,
    /// It grows from pass to pass, to the end.
    Grows,
    /// It shrinks from pass to pass.
    Shrinks,
    /// It rose, but not again and again to the end.
    Stepped,
}

impl Series {
    /// The value of a rate in whole units, rounded up: what a limit is compared with.
    #[must_use]
    pub fn rate(slope_milli: i64) -> u64 {
        u64::try_from(slope_milli).unwrap_or(0).div_ceil(1000)
    }
}

impl Every {
    /// Rounds at the start that do not count: as written, else a tenth, at least one.
    #[must_use]
    pub fn warm_up_of(written: Option<u64>, rounds: u64) -> u64 {
        written.unwrap_or_else(|| rounds.div_ceil(10).max(1))
    }

    fn is_kept(&self) -> bool {
        let stride = self.limit.div_ceil(KEPT).max(1);
        self.limit <= WHOLE || self.number % stride == 1 % stride || self.number == self.limit
    }
}

impl Case {
    /// True when the memory of a checkpoint (by index) is kept; false for the rounds in between of a long series that is not in
    /// the snapshot, unless another checkpoint is compared with it: of these only [`Series::readings`] stay.
    #[must_use]
    pub fn keeps(&self, checkpoint: usize) -> bool {
        let Some(spec) = self.checkpoints.get(checkpoint) else {
            return true;
        };
        let compared = |limit: &Limit| {
            let growth = limit.growth.as_ref();
            growth.is_some_and(|growth| matches!(&growth.over, Over::Checkpoint(name) if *name == spec.name))
        };
        (spec.snapshot && !self.snapshot.off)
            || spec.every.as_ref().is_none_or(Every::is_kept)
            || self.checkpoints.iter().flat_map(|other| other.limits.values()).any(compared)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_short_series_is_kept_whole_and_a_long_one_evenly() {
        let kept = |limit: u64| {
            let one = |number| Every {
                series: "round".to_owned(),
                number,
                limit,
                step: 1,
                warm_up: None,
                by_child: false,
            };
            (1..=limit).filter(|number| one(*number).is_kept()).collect::<Vec<_>>()
        };
        assert_eq!(kept(100).len(), 100);
        let long = kept(2000);
        assert_eq!((long.len(), long[0], long[1], long[50]), (51, 1, 41, 2000));
    }

    #[test]
    fn a_tenth_is_warm_up() {
        let warm_up = |written, rounds| Every::warm_up_of(written, rounds);
        assert_eq!((warm_up(None, 50), warm_up(None, 3), warm_up(Some(0), 50)), (5, 1, 0));
    }

    #[test]
    fn a_rate_is_never_rounded_to_nothing() {
        let rates = [-5, 0, 1, 80_000, 80_001].map(Series::rate);
        assert_eq!(rates, [0, 0, 1, 80, 81]);
    }
}
