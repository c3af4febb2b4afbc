//! A checkpoint of a case as it was asked for: where to stop (`At`), which pass, how many; and the steps that drive a target.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use super::{ChildName, Limit, Metric, Place};

/// One checkpoint of a case.
#[derive(Clone, Debug)]
pub struct CheckpointSpec {
    /// Unique in its case.
    pub name: String,
    /// Where `[[case.checkpoint]]` stands.
    pub place: Place,
    /// Where to stop.
    pub at: At,
    /// In which child process; absent: in the target itself.
    pub child: Option<ChildName>,
    /// Which pass counts, from 1.
    pub hit: u64,
    /// Passes count when the checkpoint before it was reached (`from` and `to`).
    pub in_turn: bool,
    /// Stop with a breakpoint of the processor, which changes nothing in the target.
    pub hardware: bool,
    /// One of a series: `hit` counts up from one to the next (`every = true`), or the child (`child = "worker.*"`).
    pub every: Option<Every>,
    /// Measured only when the target's mappings, the anonymous memory in each, and its number of threads have not changed for so
    /// long; the thread that came to the checkpoint stands meanwhile, all others run on.
    pub settle: Option<Duration>,
    /// Part of the snapshot.
    pub snapshot: bool,
    /// Effective limits, merged from defaults, case, checkpoint and command line.
    pub limits: BTreeMap<Metric, Limit>,
}

/// What makes a checkpoint one of a series.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Every {
    /// The name as written; the checkpoints are called `series.1`, `series.2`, ….
    pub series: String,
    /// From 1.
    pub number: u64,
    /// How many there are.
    pub limit: u64,
    /// Passes of the place from one to the next (`every = 10`); 1: every pass is one.
    pub step: u64,
    /// Rounds at the start that do not count for growth (`warm_up`); absent: a tenth.
    pub warm_up: Option<u64>,
    /// Each is in a child of its own.
    pub by_child: bool,
}

/// Where to stop.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum At {
    /// Before the loader runs.
    Exec,
    /// When `main` is entered.
    Main,
    /// At the entry of `exit_group`, the last thread's `exit`, or the delivery of a fatal signal.
    Exit,
    /// At a marker or any USDT probe.
    Probe {
        /// `memcheck` for our own markers.
        provider: String,
        /// The probe's name.
        name: String,
    },
    /// At the entry of a function.
    Function(String),
    /// When a function returns.
    Returns(String),
    /// At a line of the source.
    Line {
        /// The file, or the end of its path.
        file: String,
        /// From 1.
        line: u32,
    },
    /// Before a system call.
    Syscall(SyscallAt),
    /// Before a signal is delivered (`SIGUSR1`).
    Signal(String),
    /// At the write that completes a line which matches.
    Output {
        /// A regular expression, searched in each line without its line break.
        pattern: String,
        /// Which stream; absent: either.
        stream: Option<Stream>,
    },
    /// When a thread begins or ends.
    Thread {
        /// Which of the two.
        edge: ThreadEdge,
        /// Only a thread of this name.
        name: Option<String>,
    },
    /// When the code of a library is mapped: the first part of its file name, such as `libfoo`.
    Library(String),
    /// When memory is written.
    Touch(Touched),
    /// So much of the target's time after the checkpoint before, or after its start.
    After(Duration),
    /// When every thread waits and no processor time has been used for a while.
    Idle,
    /// When every step that was started has ended.
    StepDone,
}

/// `{ syscall = "prctl", args = { 0 = 15 } }`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SyscallAt {
    /// The kernel's name.
    pub name: String,
    /// Arguments that must have these values, by their number from 0.
    pub args: BTreeMap<u8, i64>,
}

/// One of the two output streams.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stream {
    /// Descriptor 1.
    Stdout,
    /// Descriptor 2.
    Stderr,
}

/// The two ends of a thread's life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ThreadEdge {
    /// Before its first instruction; with a name, when it has got it.
    Start,
    /// At its `exit` call.
    End,
}

/// What is written to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Touched {
    /// A variable.
    Symbol(String),
    /// The guard page of a stack.
    Guard,
    /// The untouched part of a stack.
    Stack,
}

/// `[[case.step]]`: a command that is run while the target runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StepSpec {
    /// Where it stands.
    pub place: Place,
    /// The checkpoint after which it starts.
    pub after: String,
    /// Program and arguments.
    pub run: Vec<String>,
}

impl At {
    /// A place in the code: it is found in an ELF file, and armed with a breakpoint.
    #[must_use]
    pub const fn is_code(&self) -> bool {
        matches!(
            self,
            Self::Main | Self::Probe { .. } | Self::Function(_) | Self::Returns(_) | Self::Line { .. }
        )
    }

    /// It is seen by a filter of ours on system calls, which stays in every process of the target, and which only a tracer answers.
    /// An exit can be seen without, if later.
    #[must_use]
    pub const fn needs_filter(&self) -> bool {
        matches!(
            self,
            Self::Syscall(_)
                | Self::Output { .. }
                | Self::Library(_)
                | Self::Thread {
                    edge: ThreadEdge::End,
                    ..
                }
                | Self::Thread { name: Some(_), .. }
        )
    }

    /// True when no run has it more than once.
    #[must_use]
    pub const fn is_once(&self) -> bool {
        matches!(self, Self::Exec | Self::Main | Self::Exit)
    }

    /// It has no place in the program's course: where it falls is a matter of time, and it begins to count when the checkpoint
    /// before was left. Such checkpoints are not part of a snapshot unless they say so.
    #[must_use]
    pub const fn is_timed(&self) -> bool {
        matches!(self, Self::After(_) | Self::Idle | Self::StepDone)
    }
}

impl fmt::Display for At {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = match self {
            Self::Exec => "exec".to_owned(),
            Self::Main => "main".to_owned(),
            Self::Exit => "exit".to_owned(),
            Self::Probe { provider, name } if provider == "memcheck" => format!("probe {name}"),
            Self::Probe { provider, name } => format!("probe {provider}:{name}"),
            Self::Function(name) => format!("function {name}"),
            Self::Returns(name) => format!("return of {name}"),
            Self::Line { file, line } => format!("line {file}:{line}"),
            Self::Syscall(call) => call.to_string(),
            Self::Signal(name) => format!("signal {name}"),
            Self::Output { pattern, stream } => {
                let stream = stream.map_or("output", Stream::name);
                format!("{stream} /{}/", pattern.escape_debug())
            }
            Self::Thread { edge, name } => {
                let edge = match edge {
                    ThreadEdge::Start => "start",
                    ThreadEdge::End => "end",
                };
                match name {
                    Some(name) => format!("{edge} of thread {name}"),
                    None => format!("{edge} of a thread"),
                }
            }
            Self::Library(name) => format!("library {name}"),
            Self::Touch(Touched::Symbol(name)) => format!("touch of {name}"),
            Self::Touch(Touched::Guard) => "touch of a guard page".to_owned(),
            Self::Touch(Touched::Stack) => "touch of a stack".to_owned(),
            Self::After(time) => format!("after {} ms", time.as_millis()),
            Self::Idle => "idle".to_owned(),
            Self::StepDone => "step-done".to_owned(),
        };
        f.pad(&text)
    }
}

impl fmt::Display for SyscallAt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "syscall {}", self.name)?;
        for (at, (number, value)) in self.args.iter().enumerate() {
            let before = if at == 0 { "(" } else { ", " };
            write!(f, "{before}{number} = {value}")?;
        }
        f.write_str(if self.args.is_empty() { "" } else { ")" })
    }
}

impl Stream {
    /// `stdout` or `stderr`
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Stdout => "stdout",
            Self::Stderr => "stderr",
        }
    }
}

impl CheckpointSpec {
    /// The first pass of a place, in the snapshot, without limits.
    #[must_use]
    pub fn new(name: impl Into<String>, at: At) -> Self {
        Self {
            name: name.into(),
            place: Place::default(),
            at,
            child: None,
            hit: 1,
            in_turn: false,
            hardware: false,
            every: None,
            settle: None,
            snapshot: true,
            limits: BTreeMap::new(),
        }
    }

    /// A case can be judged without it: of a series, only the first must be reached; of one by children, any.
    #[must_use]
    pub fn is_optional(&self) -> bool {
        self.every.as_ref().is_some_and(|every| every.number > 1 || every.by_child)
    }

    /// Where it stops, for people: `probe ready`, `probe ready in worker.1`.
    #[must_use]
    pub fn at_text(&self) -> String {
        match &self.child {
            Some(child) => format!("{} in {child}", self.at),
            None => self.at.to_string(),
        }
    }
}
