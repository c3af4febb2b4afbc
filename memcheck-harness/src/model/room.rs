//! `Room`: how far a written limit lies above what it gates, and what it could be.

use super::{Metric, Place, Tier, Unit};

/// A `max` as it is written, against the highest value of everything that it gates.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Room {
    /// Where it is written.
    pub origin: Place,
    /// Of which metric.
    pub metric: Metric,
    /// The limit.
    pub limit: u64,
    /// The highest value it gates.
    pub highest: u64,
    /// Where that was measured: case, checkpoint.
    pub at: (String, String),
}

impl Room {
    /// True when more than half of the limit is not used, and that is no trifle: 64 KiB, or a count of 4.
    #[must_use]
    pub fn is_slack(&self) -> bool {
        let room = self.limit.saturating_sub(self.highest);
        let trifle = match self.metric.unit() {
            Unit::Bytes => 64 << 10,
            Unit::Count => 4,
        };
        room >= trifle && room > self.limit / 2
    }

    /// The lowest limit that what was measured keeps: counts as they are, bytes up to the next 4 KiB, and a quarter more for a
    /// metric that differs a little from run to run.
    #[must_use]
    pub fn tight(&self) -> u64 {
        let more = match self.metric.tier() {
            Tier::Exact => 0,
            Tier::Tolerant | Tier::ReportOnly => self.highest.div_ceil(4),
        };
        let value = self.highest.saturating_add(more);
        match self.metric.unit() {
            Unit::Count => value,
            Unit::Bytes => value.checked_next_multiple_of(4096).unwrap_or(u64::MAX),
        }
    }
}
