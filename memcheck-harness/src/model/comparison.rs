//! `Comparison`: two sides of the same cases, measured or read from files, as data. Every presenter sees only this.

use serde::{Deserialize, Serialize};

use super::{CaseReport, Environment, MemoryMap, Place};

/// What comparing two sides gave.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Comparison {
    /// Schema of the machine form: 0 until the format is frozen.
    pub schema: u32,
    /// Version of the tool.
    pub tool_version: String,
    /// What is compared with.
    pub before: Side,
    /// What is compared.
    pub now: Side,
    /// Both sides were run here, one after the other: the environment cannot be a cause.
    pub same_machine: bool,
    /// Cases in the order of the now side, then those that only the other has.
    pub cases: Vec<CaseComparison>,
    /// Remarks on the whole.
    pub notes: Vec<String>,
    /// Stopped by a signal before all cases were compared.
    pub interrupted: Option<i32>,
}

/// One of the two sides.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Side {
    /// One word or two for tables and sentences: `base`, `working tree`, a file's name.
    pub word: String,
    /// In full, for people.
    pub label: String,
    /// Facts about where it ran and what it was built with; empty where nothing tells.
    pub environment: Environment,
}

/// One case on both sides.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct CaseComparison {
    /// The now side, with changes, causes and limits against the other; for a case that only the other side has, that one.
    pub report: CaseReport,
    /// Which sides have it.
    pub presence: Presence,
    /// The other side's checkpoints, by name.
    pub before: Vec<(String, MemoryMap)>,
    /// Rows that differ from run to run of one side and are therefore not compared, as `checkpoint: row`.
    pub varying: Vec<String>,
    /// Limits of the other side that count and cannot be judged, as the checkpoint or the case is gone: each is broken.
    #[serde(default)]
    pub escaped: Vec<Escaped>,
}

/// A limit that counts, of something that the compared side does not have.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Escaped {
    /// The checkpoint's name, that of its series, or [`Escaped::EACH_CHILD`]; empty: it is one of the whole case.
    pub checkpoint: String,
    /// Of which metric, or which demand of the hardening policy.
    pub metric: String,
    /// The words of the limit.
    pub rule: String,
    /// Where the other side states it.
    pub origin: Place,
    /// What the compared side does not have.
    pub gone: Gone,
}

impl Escaped {
    /// Where limits of captured children hold.
    pub const EACH_CHILD: &str = "the end of each child";
}

/// What a limit needs and the compared side does not have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Gone {
    /// The case.
    Case,
    /// The checkpoint.
    Checkpoint,
    /// The checkpoint is passed once only.
    Series,
    /// The case is no run of a matrix.
    Matrix,
    /// Children are not captured.
    Children,
    /// A loaded file of such a name.
    File,
}

/// Which sides have a case.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Presence {
    /// Both.
    Both,
    /// Only the one that is compared: it is new.
    OnlyNow,
    /// Only the one that is compared with.
    OnlyBefore,
}

/// One planted regression of the self-test, or its control.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Planted {
    /// Its kind: `arena`, `bss`.
    pub name: String,
    /// What must be told of it.
    pub expected: String,
    /// Nothing was planted: nothing may be told.
    pub control: bool,
    /// It was told by its right cause and size; of the control, that nothing was told.
    pub caught: bool,
    /// The causes that were told.
    pub told: Vec<String>,
}

impl CaseComparison {
    /// True when it takes part in the verdict: both sides have it, or limits that count went with it.
    #[must_use]
    pub fn is_judged(&self) -> bool {
        self.presence == Presence::Both || !self.escaped.is_empty()
    }

    /// True when a limit that counts is broken or cannot be judged.
    #[must_use]
    pub fn breaks_a_limit(&self) -> bool {
        let mut limits = self.report.checkpoints.iter().flat_map(|checkpoint| &checkpoint.limits);
        let mut headers = self.report.elf.iter();
        !self.escaped.is_empty()
            || limits.any(|limit| limit.verdict.is_broken())
            || headers.any(|result| result.verdict.is_broken())
    }

    /// True when some row of some checkpoint differs.
    #[must_use]
    pub fn has_changed(&self) -> bool {
        self.report
            .checkpoints
            .iter()
            .any(|checkpoint| !checkpoint.changes.is_empty())
    }
}

impl Comparison {
    /// Facts of the two environments that differ: name, before, now. A fact that only one side tells is left out.
    #[must_use]
    pub fn environment_differences(&self) -> Vec<(&str, &str, &str)> {
        let now = &self.now.environment.facts;
        self.before
            .environment
            .facts
            .iter()
            .filter_map(|(name, before)| {
                let here = now.get(name)?;
                (here != before).then_some((name.as_str(), before.as_str(), here.as_str()))
            })
            .collect()
    }
}
