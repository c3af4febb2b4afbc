//! `Scaling`: what a metric costs for each unit (thread, connection, …), told by the runs of a matrix.
//! Worked out by `budget`, drawn by `report`.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::Metric;

/// Fewer runs make no line.
pub const MIN_RUNS: usize = 3;

/// What one run of a matrix gave: its number, and the metrics of its checkpoints by name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sample {
    /// How many units.
    pub number: u64,
    /// Checkpoint → metric → value, where it was known.
    pub checkpoints: BTreeMap<String, BTreeMap<Metric, u64>>,
    /// The run could not be judged.
    pub failed: bool,
}

/// How one metric depends on the number of units, at one checkpoint.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Scaling {
    /// The checkpoint.
    pub checkpoint: String,
    /// The metric.
    pub metric: Metric,
    /// What the number counts.
    pub unit: String,
    /// (number, value) of each run, by number.
    pub points: Vec<(u64, u64)>,
    /// The line through all of them, or up to the knee.
    pub line: Line,
    /// Where it bends, and the line from there on.
    pub knee: Option<Knee>,
}

/// `constant + slope × number`, through the points robustly (Theil–Sen).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Line {
    /// Thousandths of the metric's unit for each unit.
    pub slope_milli: i64,
    /// Thousandths of the metric's unit at none.
    pub constant_milli: i64,
}

/// Where one line ends and another begins.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Knee {
    /// The number at which the two lines meet, rounded to nearest.
    pub at: u64,
    /// The line from there on.
    pub after: Line,
    /// What the place of the knee is equal to, as a fragment: "15 + main = 8 × 2 processors"; empty when nothing is known.
    pub evidence: String,
}
