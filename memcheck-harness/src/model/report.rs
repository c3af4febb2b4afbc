//! `RunReport`: everything a finished run has to say, as data. Every presenter sees only this.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::forms::EndForm;
use super::{
    ChildName, ElfPattern, ElfResult, Job, KeptCapture, MemoryMap, Metric, Name, Place, Revision, Role, Scaling, Series, Switch,
    UnsteadyCell, WaiverResult, WaiverStatus,
};

/// A finished (or interrupted) run. Its serialized form is the results file: fields may be added, none is renamed or removed
/// without a new schema (`docs/schema/`).
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct RunReport {
    /// Schema of the machine form, [`RunReport::SCHEMA`].
    pub schema: u32,
    /// False for a run that did not come to its end: what is there is not all.
    pub complete: bool,
    /// Version of the tool.
    pub tool_version: String,
    /// Where it ran.
    pub environment: Environment,
    /// How that compares with the environment of record.
    pub environment_status: EnvironmentStatus,
    /// Cases in plan order.
    pub cases: Vec<CaseReport>,
    /// Stopped by a signal before all cases were measured.
    pub interrupted: Option<i32>,
    /// Cases in `memcheck.toml` that the selection left out.
    pub not_selected: usize,
    /// Under `CI`: a difference fails even off the environment of record.
    pub ci: bool,
    /// Which part of the selected cases this run had; absent: all.
    #[serde(default)]
    pub partition: Option<Shard>,
    /// The raw captures beside the results; absent: none were kept.
    #[serde(default)]
    pub captures: Option<CapturesFile>,
    /// What became of the waivers of these cases, in the order of the file.
    #[serde(default)]
    pub waivers: Vec<WaiverResult>,
    /// What the change edits of limits, tolerances, waivers, snapshots and the like; absent when no base was asked for.
    #[serde(default)]
    pub revision: Option<Revision>,
    /// Settings of other tools, below the project, that this run could not undo.
    #[serde(default)]
    pub switches: Vec<Switch>,
    /// The job that keeps what this run left; absent at home.
    #[serde(default)]
    pub job: Option<Job>,
}

/// One part of a run that was spread over several machines.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Shard {
    /// How cases were dealt out: `count` or `hash`.
    pub kind: String,
    /// Which part, from 1.
    pub number: u32,
    /// Of how many.
    pub of: u32,
    /// The names of all cases of `memcheck.toml` that were dealt out, in order: no shard may lose one.
    pub cases: Vec<String>,
}

/// The file with the raw captures of a run: `captures.jsonl` beside the results.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CapturesFile {
    /// Number of captures.
    pub count: u64,
    /// FNV-1a (64 bits) of the file, 16 hexadecimal digits: tells the file of this run from that of another.
    pub digest: String,
}

/// Facts about the machine and the toolchain, name → value, for example `glibc` → `2.36`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Environment {
    /// Sorted facts.
    pub facts: BTreeMap<String, String>,
}

impl Environment {
    /// First part of the names of facts about compilers, known only where something was built with them.
    pub const BUILT_WITH: &str = "built-with.";
}

/// The environment of record against this machine.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct EnvironmentStatus {
    /// Name of the environment file (`environment.snap`, or `environment.NAME.snap`); absent when none is approved.
    pub recorded: Option<String>,
    /// Facts that differ: name, recorded, here.
    #[serde(with = "super::forms::differences")]
    pub differences: Vec<(String, String, String)>,
}

impl EnvironmentStatus {
    /// True when an environment is on record and this machine is it.
    #[must_use]
    pub fn is_of_record(&self) -> bool {
        self.recorded.is_some() && self.differences.is_empty()
    }
}

/// One case of a run.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct CaseReport {
    /// Its name.
    pub name: String,
    /// Its package.
    pub package: Option<String>,
    /// Where it stands in `memcheck.toml`.
    pub place: Place,
    /// What was run, for people.
    pub target: String,
    /// Wall time of the measurement.
    #[serde(rename = "duration_ms", with = "super::forms::millis")]
    pub duration: Duration,
    /// Checkpoints that were reached, in plan order.
    pub checkpoints: Vec<CheckpointReport>,
    /// Number of checkpoints the plan has for the case.
    pub checkpoints_planned: usize,
    /// The snapshot's outcome.
    pub snapshot: SnapshotOutcome,
    /// Why the case could not be judged, if it could not.
    pub problem: Option<Problem>,
    /// How the target ended, when it was seen.
    pub end: Option<End>,
    /// What the target printed, the end of it.
    pub output: OutputTail,
    /// Launch settings that were applied or refused.
    pub settings: Vec<AppliedSetting>,
    /// Remarks: variables that were not passed on, processes that were killed.
    pub notes: Vec<String>,
    /// What was read round by round at checkpoints that are passed many times.
    #[serde(default)]
    pub series: Vec<Series>,
    /// What the runs of a matrix cost for each unit: at the last run of each line.
    #[serde(default)]
    pub scaling: Vec<Scaling>,
    /// Checkpoints whose limits per unit are judged at the last run of the line.
    #[serde(default)]
    pub on_line: Vec<String>,
    /// How the hardening policy came out, for each file and demand; empty without one.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub elf: Vec<ElfResult>,
    /// Patterns of files in the hardening policy that may hold for other cases too, and whether this one loaded any.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub elf_patterns: Vec<ElfPattern>,
    /// True when it is no case, but stands for a part of the run of which nothing is known: a shard, a test.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub is_part: bool,
}

/// One checkpoint that was reached.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct CheckpointReport {
    /// Its name.
    pub name: String,
    /// Where it stands in `memcheck.toml`.
    pub place: Place,
    /// Where it stopped, for people (`probe spawned`).
    pub at: String,
    /// The child process it is in; absent for the target itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub child: Option<ChildName>,
    /// The classified memory.
    pub map: MemoryMap,
    /// Every effective limit and how it came out.
    pub limits: Vec<LimitResult>,
    /// Changes against the approved snapshot's state, ranked by size; empty when nothing changed or nothing is approved.
    pub changes: Vec<Change>,
    /// What explains the changes, most important first, only as far as counts and names prove it.
    pub causes: Vec<ChangeCause>,
    /// What the map was made of, between the measurement and whoever keeps it; no part of the results.
    #[serde(skip)]
    pub capture: Option<Box<KeptCapture>>,
}

/// One limit on one metric.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LimitResult {
    /// Which metric.
    pub metric: Metric,
    /// The words of the limit: `max`, `min`, `max_growth over spawned`, [`LimitResult::PER_ROUND`]; followed by ` in round 317`
    /// where it speaks of a round that was not kept.
    pub rule: String,
    /// The limit as a value of the metric (for growth: reference plus allowance); absent for growth without a reference.
    pub limit: Option<u64>,
    /// What growth is measured against; absent for `max` and `min`, and when it is missing.
    pub reference: Option<u64>,
    /// The measured value; absent when it cannot be known here.
    pub value: Option<u64>,
    /// Where the limit was written.
    pub origin: Place,
    /// The verdict.
    pub verdict: Verdict,
    /// Why it could not be judged, when `verdict` is [`Verdict::Unknown`]; empty otherwise.
    pub reason: String,
}

impl LimitResult {
    /// The rule that bounds growth from pass to pass: `limit` and `value` are rates then, in the metric's unit per pass, rounded
    /// up.
    pub const PER_ROUND: &str = "max_per_round";

    /// The rule that bounds the cost of one more unit of a matrix; followed by the unit's name.
    pub const PER_UNIT: &str = "max_per_unit";
    /// The rule that bounds what is there without any unit.
    pub const CONSTANT: &str = "max_constant";

    /// True when it bounds a rate, or what a line begins with: its value is none of the checkpoint's memory.
    #[must_use]
    pub fn is_rate(&self) -> bool {
        [Self::PER_ROUND, Self::PER_UNIT, Self::CONSTANT]
            .iter()
            .any(|rule| self.rule.starts_with(rule))
    }

    /// True when the value is below what it must at least be, false when it is above what it may be. Of a broken limit.
    #[must_use]
    pub fn is_under(&self) -> bool {
        matches!((self.value, self.limit), (Some(value), Some(limit)) if value < limit)
    }
}

/// Outcome of one limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// Kept.
    Within,
    /// Broken.
    Over,
    /// Broken, and let pass by a waiver.
    Waived,
    /// The metric or the reference is absent: counts as broken.
    Unknown,
}

impl Verdict {
    /// True when it fails the case.
    #[must_use]
    pub fn is_broken(self) -> bool {
        matches!(self, Self::Over | Self::Unknown)
    }
}

/// The snapshot of a case.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SnapshotOutcome {
    /// What happened.
    pub status: SnapshotStatus,
    /// The approved file, relative to the root when it lies below.
    #[serde(with = "super::forms::path")]
    pub path: PathBuf,
    /// The measured text (empty when there is none).
    pub text: String,
    /// Unified difference of the two texts, empty when equal.
    pub diff: String,
    /// The whole change of the approved file as a patch that `git apply` takes, paths relative to the root; empty when there is
    /// nothing to approve.
    #[serde(default)]
    pub patch: String,
    /// Rows that differ.
    pub rows: usize,
    /// Rows left ungated because they vary, as `checkpoint: row`.
    pub varying: Vec<String>,
    /// How many runs the verdict stands on: more than one when the first differed.
    #[serde(default)]
    pub runs: usize,
    /// Values on which these runs do not agree.
    #[serde(default)]
    pub unsteady: Vec<UnsteadyCell>,
    /// The pending file, when one was written.
    #[serde(with = "super::forms::some_path")]
    pub pending: Option<PathBuf>,
    /// Why no pending file could be written, when it should have been.
    pub pending_error: Option<String>,
}

/// Outcome of a snapshot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SnapshotStatus {
    /// Equal.
    Same,
    /// Differs, in every run that was made.
    Differs,
    /// Differs in some runs of the unchanged binary only: no proof that the program changed, and not what was approved either.
    Unsteady,
    /// None is approved yet.
    New,
    /// The case has none (`snapshot = false`, or no checkpoint takes part).
    Off,
    /// Not compared, as the case could not be judged.
    NotCompared,
}

/// One row that changed between two states of a checkpoint.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Change {
    /// Row name: a role, `threads`, or a metric.
    pub row: String,
    /// The role, if it is one.
    pub role: Option<Role>,
    /// Column: `count`, `reserved` or `anon`.
    pub column: String,
    /// Before; absent when there was no such cell.
    pub before: Option<u64>,
    /// Now; absent when there is none any more.
    pub now: Option<u64>,
}

/// One sentence on why something changed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChangeCause {
    /// The cause, a full sentence: "1 more thread ended and is not joined yet: its stack stays mapped."
    pub cause: String,
    /// What it costs: "+8192 KiB reserved, +24 KiB anonymous"; may be empty.
    pub cost: String,
    /// Ways to change it, may be empty.
    pub remedies: Vec<String>,
}

/// Why a case could not be judged.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Problem {
    /// Which kind, for the exit code.
    #[serde(flatten)]
    pub kind: ProblemKind,
    /// One line.
    pub title: String,
    /// Further lines: what was reached, near misses, likely reasons, remedies.
    pub details: Vec<String>,
}

/// Kinds of problems, each with its exit code.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", content = "signal", rename_all = "kebab-case")]
pub enum ProblemKind {
    /// Checkpoint not reached, unexpected end, timeout (7).
    NotJudged,
    /// A check written in Rust does not hold: a limit in code (3).
    Check,
    /// The target could not be built (101).
    Build,
    /// Usage or configuration (2).
    Config,
    /// This machine cannot measure (6).
    Machine,
    /// The tool failed (1).
    Tool,
    /// A signal stopped the tool (128+N).
    Interrupted(i32),
}

/// How the target ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(into = "EndForm", try_from = "EndForm")]
pub enum End {
    /// Exit code.
    Exited(i32),
    /// Killed by a signal, by its name.
    Signalled(String),
    /// We killed it after the last checkpoint, as planned.
    Killed,
    /// We killed it as the time limit was over.
    TimedOut,
}

/// The end of what the target printed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct OutputTail {
    /// Last bytes of standard output.
    pub stdout: Name,
    /// Last bytes of standard error.
    pub stderr: Name,
    /// Bytes of standard output that were dropped before.
    pub stdout_dropped_bytes: u64,
    /// Bytes of standard error that were dropped before.
    pub stderr_dropped_bytes: u64,
}

/// One launch setting and whether the machine granted it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AppliedSetting {
    /// `aslr`, `thp`, `stack`, `environment`, `cpus`
    pub name: String,
    /// Its value: `off`, `8 MiB`.
    pub value: String,
    /// Why it was refused; absent when it was granted.
    pub refused: Option<String>,
}

impl AppliedSetting {
    /// Stands for all settings of a launch that changed nothing (`--as-is`).
    #[must_use]
    pub fn as_is() -> Self {
        Self {
            name: "as-is".to_owned(),
            value: "on".to_owned(),
            refused: None,
        }
    }
}

/// Outcome of a case, worst first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// Could not be judged.
    Problem,
    /// A budget is exceeded.
    Budget,
    /// The snapshot differs or is missing, and that fails.
    Snapshot,
    /// The snapshot differs off the environment of record: a warning.
    Warning,
    /// All well.
    Pass,
}

impl ChangeCause {
    /// First word of what is said of the environment: where the approved state was recorded.
    pub const RECORDED: &str = "Recorded ";

    /// True when it names a difference of the environment, which may explain a change and proves nothing.
    #[must_use]
    pub fn is_of_environment(&self) -> bool {
        self.cause.starts_with(Self::RECORDED)
    }
}

impl CaseReport {
    /// A case of which nothing is known but its name.
    #[must_use]
    pub fn named(name: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            package: None,
            place: Place::default(),
            target: String::new(),
            duration: Duration::ZERO,
            checkpoints: Vec::new(),
            checkpoints_planned: 0,
            snapshot: SnapshotOutcome::none(SnapshotStatus::NotCompared),
            problem: None,
            end: None,
            output: OutputTail::default(),
            settings: Vec::new(),
            notes: Vec::new(),
            series: Vec::new(),
            scaling: Vec::new(),
            on_line: Vec::new(),
            elf: Vec::new(),
            elf_patterns: Vec::new(),
            is_part: false,
        }
    }

    /// Number of limits that are broken or cannot be judged.
    #[must_use]
    pub fn violations(&self) -> usize {
        self.checkpoints
            .iter()
            .flat_map(|c| &c.limits)
            .filter(|l| l.verdict.is_broken())
            .count()
            + self.elf.iter().filter(|result| result.verdict.is_broken()).count()
    }
}

impl SnapshotOutcome {
    /// An outcome without text, path and files.
    #[must_use]
    pub fn none(status: SnapshotStatus) -> Self {
        Self {
            status,
            path: PathBuf::new(),
            text: String::new(),
            diff: String::new(),
            patch: String::new(),
            rows: 0,
            varying: Vec::new(),
            runs: 0,
            unsteady: Vec::new(),
            pending: None,
            pending_error: None,
        }
    }
}

impl RunReport {
    /// The version of the results file's form.
    pub const SCHEMA: u32 = 1;

    /// The outcome of one case under the rules of the environment of record: budgets always fail; snapshot differences
    /// warn off it, unless under `CI`.
    #[must_use]
    pub fn outcome(&self, case: &CaseReport) -> Outcome {
        if case.problem.is_some() {
            return Outcome::Problem;
        }
        if case.violations() > 0 {
            return Outcome::Budget;
        }
        match case.snapshot.status {
            SnapshotStatus::New => Outcome::Snapshot,
            SnapshotStatus::Differs | SnapshotStatus::Unsteady if self.ci || self.environment_status.differences.is_empty() => {
                Outcome::Snapshot
            }
            SnapshotStatus::Differs | SnapshotStatus::Unsteady => Outcome::Warning,
            SnapshotStatus::Same | SnapshotStatus::Off | SnapshotStatus::NotCompared => Outcome::Pass,
        }
    }

    /// Waivers whose last day is over: each fails the run.
    pub fn expired_waivers(&self) -> impl Iterator<Item = &WaiverResult> {
        self.waivers.iter().filter(|result| result.status == WaiverStatus::Expired)
    }

    /// Checkpoints measured in all, with the rounds of which only readings are kept.
    #[must_use]
    pub fn checkpoints(&self) -> usize {
        let thinned = |case: &CaseReport| case.series.iter().map(|series| series.thinned).sum::<u64>();
        let all = |case: &CaseReport| case.checkpoints.len() + usize::try_from(thinned(case)).unwrap_or(0);
        self.cases.iter().map(all).sum()
    }
}
