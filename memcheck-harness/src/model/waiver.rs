//! `Waiver`: a limit that is lifted for a while, with a reason; and what became of it in a run.

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::{Date, ElfKey, Metric, Place};

/// What a waiver lifts: a limit on a metric, or a demand on headers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Waived {
    /// Values are the metric's.
    Metric(Metric),
    /// Values are what [`ElfKey::weakness`] says.
    Header(ElfKey),
}

impl Waived {
    /// A value of it, for people.
    #[must_use]
    pub fn show(&self, value: u64) -> String {
        match self {
            Self::Metric(metric) => metric.show(value),
            Self::Header(key) => key.word(value),
        }
    }

    fn name(&self) -> &str {
        match self {
            Self::Metric(metric) => metric.name(),
            Self::Header(key) => key.name(),
        }
    }
}

impl From<Metric> for Waived {
    fn from(metric: Metric) -> Self {
        Self::Metric(metric)
    }
}

impl fmt::Display for Waived {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl Serialize for Waived {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.name())
    }
}

impl<'de> Deserialize<'de> for Waived {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let name = String::deserialize(deserializer)?;
        match ElfKey::named(&name) {
            Some(key) => Ok(Self::Header(key)),
            None => Metric::parse(&name).map(Self::Metric).map_err(serde::de::Error::custom),
        }
    }
}

/// One `[[waiver]]`: up to its last day a value above its limit is no failure, as long as it stays within the ceiling.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Waiver {
    /// The case's name.
    pub case: String,
    /// The checkpoint's name, or that of a series; absent: all checkpoints of the case.
    pub checkpoint: Option<String>,
    /// Of which metric, or which demand on headers.
    pub metric: Waived,
    /// Of a demand on headers: a pattern of files; absent: all of the case.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub object: Option<String>,
    /// Bytes, a number for counts, or how weak headers may be: nothing above is waived.
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
        let is_metric = matches!(&self.metric, Waived::Metric(own) if own == metric);
        self.case == case && is_metric && self.checkpoint.as_deref().is_none_or(at)
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
    /// The checkpoint's name; of a demand on headers the file's.
    pub checkpoint: String,
    /// The words of the limit: `max`, `max_growth over start`, `must be full`.
    pub rule: String,
    /// The measured value.
    pub value: u64,
    /// The limit as a value of the metric.
    pub limit: u64,
}
