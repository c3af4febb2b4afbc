//! `Plan`: what `memcheck.toml`, the environment and the command line together mean, validated.
//! Made by `config`; read by every later step.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{CheckpointSpec, ElfRule, Metric, Name, Role, Shard, StepSpec, Subject, Waiver};

/// The place of snapshots in a package's directory, where cargo-insta finds them.
pub const SNAPSHOT_DIR: &str = "memcheck/snapshots";

/// The file of the environment of record there: `environment.snap`, or `environment.NAME.snap`.
#[must_use]
pub fn environment_file(name: Option<&str>) -> String {
    match name {
        None => "environment.snap".to_owned(),
        Some(name) => format!("environment.{name}.snap"),
    }
}

/// Where something was written: a place in `memcheck.toml`, or the command line.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Place {
    /// File relative to the plan's root, after `base ` where a comparison has the limit from there; `--budget` and the like for
    /// the command line.
    pub file: String,
    /// 1-based line; 0 for the command line.
    pub line: u32,
    /// 1-based column, in characters; 0 for the command line.
    pub column: u32,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.line == 0 {
            f.pad(&self.file)
        } else {
            f.pad(&format!("{}:{}", self.file, self.line))
        }
    }
}

/// Everything that is to be done, in order.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Directory that paths in `memcheck.toml` are relative to: the workspace root, or (without cargo) the directory of
    /// `memcheck.toml` (its parent for `.config/memcheck.toml`).
    pub root: PathBuf,
    /// `memcheck.toml` relative to the root.
    pub file: PathBuf,
    /// The root has a `Cargo.toml`.
    pub is_cargo: bool,
    /// Where the tool keeps its own files: `<target directory>/memcheck-data`.
    pub data_dir: PathBuf,
    /// `[defaults]` that are not per case.
    pub defaults: Defaults,
    /// Cases in file order, the selection already applied.
    pub cases: Vec<Case>,
    /// Number of cases before the selection.
    pub cases_in_file: usize,
    /// Which part of the selection `cases` is; absent: all of it.
    pub partition: Option<Shard>,
}

/// `[defaults]` that hold for the whole run.
#[derive(Clone, Debug, Default)]
pub struct Defaults {
    /// `own = […]`: glob patterns of objects that count as own besides those below the root.
    pub own: Vec<String>,
    /// `features = […]` and friends for cargo, forwarded as given.
    pub cargo_args: Vec<String>,
    /// Directory of the package whose `memcheck/snapshots` holds the environment of record, chosen among all cases before
    /// the selection (so that it does not move with it); absent: chosen among the cases there are.
    pub environment_dir: Option<PathBuf>,
    /// `[[waiver]]`, in the order of the file.
    pub waivers: Vec<Waiver>,
    /// What of each `[[policy]]` means nothing in the file.
    pub unmet: Vec<UnmetPolicy>,
    /// The environment of `[environment.NAME]` that holds here; absent: the one without a name.
    pub environment: Option<String>,
    /// The names of all of them.
    pub environments: Vec<String>,
}

/// What of a `[[policy]]` means no case or no checkpoint of the file: those that tests build in Rust may be meant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnmetPolicy {
    /// Patterns of packages; empty: all.
    pub packages: Vec<String>,
    /// Patterns of names of cases; empty: all.
    pub cases: Vec<String>,
    /// Patterns of checkpoints, of which these cases have none; empty: there are no such cases.
    pub checkpoints: Vec<String>,
    /// The pattern that means nothing, where it is one of several.
    pub pattern: Option<String>,
    /// Where it stands.
    pub place: Place,
}

/// One case: one launch of one target with its checkpoints.
#[derive(Clone, Debug)]
pub struct Case {
    /// `[a-z0-9][a-z0-9.-]*`
    pub name: String,
    /// The package it belongs to; absent outside cargo.
    pub package: Option<String>,
    /// That package's directory (absolute): default working directory, and `memcheck/snapshots` lies in it.
    pub package_dir: PathBuf,
    /// Where `[[case]]` stands.
    pub place: Place,
    /// What to run.
    pub target: Target,
    /// Where `target` stands.
    pub target_place: Place,
    /// Arguments after the program's name.
    pub args: Vec<String>,
    /// Variables added to the fixed environment.
    pub env: BTreeMap<String, String>,
    /// Resource limits.
    pub limits: LaunchLimits,
    /// Number of CPUs the target may use; absent: all.
    pub cpus: Option<u32>,
    /// Working directory, absolute.
    pub cwd: PathBuf,
    /// Standard input.
    pub stdin: Stdin,
    /// Expected end, as written; a case that states one runs to its end. Absent: exit code 0 where it runs that far.
    pub exit: Option<ExpectedEnd>,
    /// What happens to child processes.
    pub children: Children,
    /// The limits of what [`Children::Capture`] captures: those of the case and of the defaults.
    pub child_limits: BTreeMap<Metric, Limit>,
    /// What the headers of its files must say: the rules of the case, then those of the defaults.
    pub elf: Vec<ElfRule>,
    /// Sum over all processes of the tree at every checkpoint, though no limit asks for it.
    pub tree: bool,
    /// Limit for the whole case.
    pub timeout: Duration,
    /// What happens after the last checkpoint.
    pub after_last: AfterLast,
    /// Let the target go after its last checkpoint, no longer traced, and wait for its end.
    pub detach: bool,
    /// Turn off every launch setting that makes runs repeatable.
    pub as_is: bool,
    /// Markers stop the target by themselves, nobody traces it.
    pub cooperative: bool,
    /// `watch = "stacks"`: note how deep the stacks of threads were when these ended.
    pub watch_stacks: bool,
    /// Checks written in Rust look at its memory: what they ask for is not known before.
    pub has_checks: bool,
    /// Checkpoints in the order in which they are to be reached.
    pub checkpoints: Vec<CheckpointSpec>,
    /// Commands that drive the target, in the order of the file.
    pub steps: Vec<StepSpec>,
    /// Standard output and error are a terminal instead of two pipes: programs then write line by line.
    pub tty: bool,
    /// Which other cases may run at the same time.
    pub alone: Alone,
    /// What the snapshot holds.
    pub snapshot: SnapshotOptions,
    /// The environment that holds here: `<case>@NAME.snap` comes before `<case>.snap` then.
    pub environment: Option<String>,
    /// One of the runs of a matrix.
    pub run: Option<MatrixRun>,
}

/// One run of a case with a `matrix`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MatrixRun {
    /// The name of the case as written.
    pub case: String,
    /// What the runs that differ by their number alone have in common.
    pub line: String,
    /// What the number counts.
    pub unit: String,
    /// The number of this run; absent when the matrix has none.
    pub number: Option<u64>,
    /// How many runs the line has.
    pub of: usize,
}

/// What a case runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// A target of the cargo workspace.
    Cargo {
        /// bin, example, test or bench
        kind: TargetKind,
        /// The target's name.
        name: String,
        /// Package; absent: the one that has it.
        package: Option<String>,
        /// Features of that package.
        features: Vec<String>,
        /// Profile.
        profile: Profile,
        /// Target triple.
        triple: Option<String>,
    },
    /// A C program built by the tool: sources relative to the root.
    C {
        /// Source files.
        sources: Vec<PathBuf>,
        /// Flags for compiling.
        cflags: Vec<String>,
        /// Flags for linking, after the sources.
        ldflags: Vec<String>,
        /// Compiler; absent: what `cc` chooses (`CC`, then `cc`).
        compiler: Option<String>,
    },
    /// A program at a path relative to the root, built by a command first if one is given.
    Built {
        /// Path of the program.
        path: PathBuf,
        /// Shell command run in the root before.
        build: Option<String>,
    },
    /// A program looked up on `PATH` (or an absolute path).
    Command {
        /// Its name.
        program: String,
    },
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = match self {
            Self::Cargo { kind, name, .. } => format!("{} {name}", kind.name()),
            Self::C { sources, .. } => sources
                .iter()
                .map(|source| source.display().to_string())
                .collect::<Vec<_>>()
                .join(" "),
            Self::Built { path, .. } => path.display().to_string(),
            Self::Command { program } => program.clone(),
        };
        f.pad(&text)
    }
}

/// Kinds of cargo targets that give a program.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[expect(missing_docs, reason = "cargo's own words")]
pub enum TargetKind {
    Bin,
    Example,
    Test,
    Bench,
}

impl TargetKind {
    /// Cargo's word.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Bin => "bin",
            Self::Example => "example",
            Self::Test => "test",
            Self::Bench => "bench",
        }
    }
}

/// The cargo profile of a target.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Profile {
    /// One of the project's own, by name (`release`, `dev`, …).
    Named(String),
    /// `memcheck`: release + line tables + unstripped, injected by the tool.
    Injected,
}

/// `limits = { … }`, bytes; absent: the default (stack 8 MiB, the others unlimited or inherited).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LaunchLimits {
    /// `RLIMIT_STACK`, soft and hard.
    pub stack_bytes: Option<u64>,
    /// `RLIMIT_AS`.
    pub address_space_bytes: Option<u64>,
    /// `RLIMIT_NOFILE`.
    pub open_files: Option<u64>,
}

/// Standard input of the target.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Stdin {
    /// At end of file at once.
    #[default]
    Null,
    /// A file, absolute path.
    File(PathBuf),
}

/// How the target is expected to end.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum ExpectedEnd {
    /// Exit code 0.
    #[default]
    Success,
    /// This exit code.
    Code(i32),
    /// Killed by this signal (name such as `SIGSEGV`).
    Signal(String),
    /// However.
    Any,
}

/// Child processes. They are traced, so that they neither die of our breakpoints nor outlive the case, unless they are let go.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Children {
    /// Not measured.
    #[default]
    Ignore,
    /// Measured where a checkpoint says so.
    Follow,
    /// And each of them at its end, as a checkpoint of its own name.
    Capture,
    /// Let go when they are born, with nothing of ours in them: the program may trace them itself.
    Detach,
}

/// Which other cases may run at the same time as a case.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Alone {
    /// All.
    #[default]
    No,
    /// None of those with the same word (`group = "port"`).
    Group(String),
    /// None at all (`serial = true`).
    Serial,
}

/// After the last checkpoint.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum AfterLast {
    /// Kill the target.
    #[default]
    Kill,
    /// Let it run to its end and check `exit`.
    Run,
}

/// A number in a limit with the place where it was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bound {
    /// Bytes, or a number for counts.
    pub value: u64,
    /// Where it was written.
    pub place: Place,
}

/// Limits on one metric; each field is overridden on its own.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Limit {
    /// Not above.
    pub max: Option<Bound>,
    /// Not below.
    pub min: Option<Bound>,
    /// Not grown by more.
    pub growth: Option<Growth>,
    /// Not growing by more from pass to pass: of a series (`every`).
    pub per_round: Option<Bound>,
    /// Not more for each unit of the matrix.
    pub per_unit: Option<Bound>,
    /// Not more without any unit of the matrix.
    pub constant: Option<Bound>,
}

/// `max_growth` with `over`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Growth {
    /// By how much.
    pub bound: GrowthBound,
    /// Compared with what.
    pub over: Over,
    /// Where it was written.
    pub place: Place,
}

/// How much growth is allowed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GrowthBound {
    /// Bytes, or a number for counts.
    Absolute(u64),
    /// Hundredths of a percent of the reference, but for bytes never less than 16 KiB.
    Percent {
        /// 5 % is 500.
        basis_points: u64,
    },
}

/// What growth is compared with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Over {
    /// An earlier checkpoint of the same run.
    Checkpoint(String),
    /// The approved snapshot's state of the same checkpoint.
    Approved,
    /// The same checkpoint of the base that `compare --base` runs on the same machine; no other command judges it.
    Base,
}

/// What a case's snapshot holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SnapshotOptions {
    /// No snapshot at all (`snapshot = false`).
    pub off: bool,
    /// `snapshot.elf`
    pub elf: SnapshotElf,
    /// `snapshot.libraries = "sizes"`
    pub library_sizes: bool,
    /// `snapshot.roles = […]`: only these rows; absent: all.
    pub roles: Option<Vec<Role>>,
    /// `snapshot.metrics = […]`: further rows, such as `own.commit`.
    pub metrics: Vec<Metric>,
    /// `snapshot.tolerance.<role>`: bytes of `anon` within which an approved value is kept.
    pub tolerance: BTreeMap<Role, u64>,
}

/// How much of the executable's segments a snapshot shows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SnapshotElf {
    /// Only data and bss of 256 KiB and more: small segments move with the toolchain, large ones are the program's own.
    #[default]
    Large,
    /// All segments with sizes.
    Sizes,
}

/// A built target, ready to launch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Binary {
    /// Absolute path of the ELF file.
    pub path: PathBuf,
    /// What the user called it: for messages.
    pub label: String,
    /// True when it is a script or wrapper rather than an ELF file; then what it starts is measured from its interpreter on.
    pub script: bool,
    /// Compiler and profile for the environment of record, for example "gcc 12.2.0" or "rustc 1.95.0, release".
    pub toolchain: Option<String>,
    /// The exact `argv[0]`.
    pub argv0: Name,
}

impl Case {
    /// All processes are to be summed: the case says so, or a limit needs it.
    #[must_use]
    pub fn is_summed(&self) -> bool {
        let of_checkpoints = self.checkpoints.iter().flat_map(|spec| spec.limits.keys());
        let mut limited = of_checkpoints.chain(self.child_limits.keys());
        self.tree || limited.any(|metric| matches!(metric.subject(), Subject::Tree(_)))
    }

    /// A case with every default: 30 s, killed after its last checkpoint, no checkpoints yet.
    #[must_use]
    pub fn new(name: impl Into<String>, package_dir: impl Into<PathBuf>, target: Target) -> Self {
        let package_dir = package_dir.into();
        Self {
            name: name.into(),
            package: None,
            cwd: package_dir.clone(),
            package_dir,
            place: Place::default(),
            target,
            target_place: Place::default(),
            args: Vec::new(),
            env: BTreeMap::new(),
            limits: LaunchLimits::default(),
            cpus: None,
            stdin: Stdin::default(),
            exit: None,
            children: Children::default(),
            child_limits: BTreeMap::new(),
            elf: Vec::new(),
            timeout: Duration::from_secs(30),
            after_last: AfterLast::default(),
            detach: false,
            as_is: false,
            cooperative: false,
            tree: false,
            watch_stacks: false,
            has_checks: false,
            checkpoints: Vec::new(),
            steps: Vec::new(),
            tty: false,
            alone: Alone::default(),
            snapshot: SnapshotOptions::default(),
            run: None,
            environment: None,
        }
    }

    /// True for its name, and for that of the case whose matrix it is a run of.
    #[must_use]
    pub fn is_called(&self, name: &str) -> bool {
        self.name == name || self.run.as_ref().is_some_and(|run| run.case == name)
    }
}
