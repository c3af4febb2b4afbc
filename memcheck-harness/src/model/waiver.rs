//! `Waiver`: a limit that is lifted for a while, with a reason; and what became of it in a run.

use serde::{Deserialize, Serialize};

use super::{Date, Metric, Place};

/// One `[[waiver]]`: up to its last day a value above its limit is no failure, as long as it stays within the ceiling.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Waiver {
    /// The case's name.
    pub case: String,
    /// The checkpoint's name, or that of a series; absent: all checkpoints of the case.
    pub checkpoint: Option<String>,
    /// Of which metric.
    pub metric: Metric,
    /// Bytes, or a number for counts: nothing above is waived.
    pub ceiling: u64,
    /// The last day on which it holds.
    pub expires: Date,
    /// Where it is followed up, as written.
    pub issue: Option<String>,
    /// Why, never empty.
    pub reason: String,
    /// Where it stands.
    pub place: Place,
}

impl Waiver {
    /// True when it speaks of this metric at this checkpoint. `round` stands for the passes `round.1`, `round.2`, … too.
    #[must_use]
    pub fn is_of(&self, case: &str, checkpoint: &str, metric: &Metric) -> bool {
        let at = |name: &str| {
            checkpoint
                .strip_prefix(name)
                .is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
        };
        self.case == case && self.metric == *metric && self.checkpoint.as_deref().is_none_or(at)
    }
}

/// What became of a waiver in a run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WaiverResult {
    /// The waiver.
    pub waiver: Waiver,
    /// How it came out.
    pub status: WaiverStatus,
    /// The broken limits it speaks of: waived ones or, when it is expired or exceeded, those that it does not cover.
    pub uses: Vec<WaiverUse>,
}

/// How a waiver came out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum WaiverStatus {
    /// It covers at least one broken limit, and leaves none.
    Used,
    /// No limit it speaks of is broken: a warning.
    Unused,
    /// A value lies above its ceiling: the budget fails.
    Exceeded,
    /// Its last day is over: a failure, needed or not.
    Expired,
    /// Its case could not be judged.
    NotJudged,
}

/// A broken limit that a waiver speaks of.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WaiverUse {
    /// The checkpoint's name.
    pub checkpoint: String,
    /// The words of the limit: `max`, `max_growth over start`.
    pub rule: String,
    /// The measured value.
    pub value: u64,
    /// The limit as a value of the metric.
    pub limit: u64,
}
