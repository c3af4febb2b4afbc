//! Launch, pause, resume: the only module that controls a process.
//!
//! Every process of the target's tree is traced and dies with the case. What a stop means is decided here; what is read of
//! a stopped process is `capture`'s. Linux on x86-64 and AArch64 (`arch`). All calls must be made by the thread that launched.

mod arch;
mod arm;
mod attach;
mod bell;
mod breakpoint;
mod calls;
mod clock;
mod cooperate;
mod debug;
mod end;
mod events;
mod family;
mod figures;
mod finished;
mod image;
mod inject;
mod launch;
mod let_go;
mod lines;
mod loader;
mod maps;
mod nested;
mod output;
mod pad;
mod pages;
mod permit;
mod proc;
mod resolve;
mod returns;
mod session;
mod settle;
mod stop;
mod stragglers;
mod strays;
mod suggest;
mod tasks;
mod timed;
mod tree;
mod watch;
#[cfg(test)]
mod tests;

use std::cell::OnceCell;
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::marker::PhantomData;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::error::{Error, Result};
use crate::model::{
    AppliedSetting, At, Cancel, ChildName, End, FinishedStack, LaunchLimits, Name, OutputTail, PatchedPage, Stdin, Thread,
};

pub use attach::{Attached, attach};
pub use bell::Bell;
use clock::Halt;
pub use cooperate::{Cooperating, Turn as CooperatingTurn, can_cooperate, cooperate};
use session::{Session, Turn};
pub use settle::{Totals, Unsettled};
pub use tree::TreeMember;

/// How to start a target.
#[derive(Clone, Debug)]
pub struct Launch {
    /// Absolute path.
    pub program: PathBuf,
    /// `argv[0]`.
    pub argv0: Name,
    /// Arguments after it.
    pub args: Vec<OsString>,
    /// The whole environment, or (as-is) `None` for our own.
    pub env: Option<Vec<(OsString, OsString)>>,
    /// Working directory.
    pub cwd: PathBuf,
    /// Standard input.
    pub stdin: Stdin,
    /// Standard output and error are a terminal.
    pub tty: bool,
    /// Resource limits.
    pub limits: LaunchLimits,
    /// CPUs to run on.
    pub cpus: Option<u32>,
    /// Address-space randomisation off, THP off, fixed stack limit, no core file, padded environment.
    pub fixed: bool,
    /// Note how deep the stacks of threads were when these ended.
    pub watch_stacks: bool,
    /// Limit for the whole run.
    pub timeout: Duration,
    /// The kernel kills the target when our thread ends, traced or not: needed for [`Stopped::let_go`].
    pub dies_with_us: bool,
    /// Children are let go when they are born, with nothing of ours in them. No filter may be needed then ([`At::needs_filter`]).
    pub lets_children_go: bool,
    /// Bytes kept of each output stream.
    pub output_tail_bytes: usize,
}

/// A place to stop at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Point {
    /// Where.
    pub at: At,
    /// Which pass, from 1.
    pub hit: u64,
    /// For a place in the code: stop there with a breakpoint of the processor, which changes no code.
    pub hardware: bool,
    /// The index of a point that has to be reached before passes of this one count.
    pub after: Option<usize>,
    /// Reported only when the target's memory has not changed for so long: the thread that came there stands, all others run on.
    pub settle: Option<Duration>,
    /// In which process.
    pub within: Within,
}

/// Which process of the tree a point is in.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Within {
    /// The one that was launched.
    #[default]
    Main,
    /// A child.
    Child(ChildName),
    /// Every child; each pass stops, and the point is never done.
    EveryChild,
}

impl Point {
    /// This pass of a place in the process that is launched, counted from its start.
    #[must_use]
    pub fn new(at: At, hit: u64) -> Self {
        Self {
            at,
            hit,
            hardware: false,
            after: None,
            within: Within::Main,
            settle: None,
        }
    }
}

/// A target that runs (or waits for us to let it run). Dropping it kills the whole process tree.
#[derive(Debug)]
pub struct Running {
    session: Box<Session>,
    // ptrace belongs to the thread that launched: neither this nor `Stopped` may go to another one.
    _not_send: PhantomData<*const ()>,
}

/// A process of the target's tree, all of whose threads are stopped at a point. Dropping it kills the whole tree.
#[derive(Debug)]
pub struct Stopped {
    session: Box<Session>,
    pid: i32,
    threads: Vec<Thread>,
    /// Once somebody asked.
    named: OnceCell<Vec<Thread>>,
    _not_send: PhantomData<*const ()>,
}

/// What happened next.
#[derive(Debug)]
pub enum Next {
    /// Stopped at the point with this index.
    Paused(Stopped, usize),
    /// The target ended before another point was reached.
    Ended(Ended),
}

/// Why a line that a point waits for was not seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unseen {
    /// It lies in the heap of the target, which has not written it.
    Buffered,
    /// It was written without a line break at its end.
    Unfinished,
}

/// A target that is gone.
#[derive(Clone, Debug)]
pub struct Ended {
    /// How.
    pub end: End,
    /// What it printed.
    pub output: OutputTail,
    /// How often each point was passed, reached or not.
    pub hits: Vec<u64>,
    /// Why the lines that points waited for were not seen, by the index of the point, as far as it can be told.
    pub unseen: BTreeMap<usize, Unseen>,
    /// The point whose memory did not rest before all ended.
    pub unsettled: Option<Box<Unsettled>>,
    /// Remarks for the report: processes that were killed, output held open by a survivor.
    pub notes: Vec<String>,
    /// What was applied at launch.
    pub settings: Vec<AppliedSetting>,
    /// The names that children had, in the order of their birth, the first hundred; none where no point is in a child.
    pub children: Vec<ChildName>,
}

/// Starts the target under control, with every point armed as soon as its code is mapped. It waits before its first
/// instruction until [`Running::next`].
///
/// # Errors
/// The program or its directory cannot be used; this machine does not allow tracing; cancelled.
pub fn launch(launch: &Launch, points: &[Point], cancel: &Cancel) -> Result<Running> {
    match launch::start(launch, points, cancel) {
        Ok(session) => Ok(Running {
            session: Box::new(session),
            _not_send: PhantomData,
        }),
        Err(Halt::Failed(error)) => Err(error),
        Err(Halt::Cancelled(signal)) => Err(Error::interrupted(signal)),
        Err(Halt::TimedOut) => Err(Error::not_judged(
            "the time limit was over before the target could be started",
        )),
    }
}

impl Running {
    /// Runs on to the next point or the end. Points that are reached by the same instruction are given one after another.
    ///
    /// # Errors
    /// Cancelled; a point cannot be armed; the machine refuses something. The whole tree is dead then.
    pub fn next(mut self) -> Result<Next> {
        match self.session.advance() {
            Ok(Turn::Paused(point, pid, threads)) => Ok(Next::Paused(
                Stopped {
                    session: self.session,
                    pid,
                    threads,
                    named: OnceCell::new(),
                    _not_send: PhantomData,
                },
                point,
            )),
            Ok(Turn::Ended(end)) => Ok(Next::Ended(self.session.finish(end))),
            Err(Halt::TimedOut) => Ok(Next::Ended(self.session.finish(End::TimedOut))),
            Err(Halt::Cancelled(signal)) => Err(Error::interrupted(signal)),
            Err(Halt::Failed(error)) => Err(error),
        }
    }

    /// How those who drive the target tell of it.
    #[must_use]
    pub fn bell(&self) -> Bell {
        self.session.bell.clone()
    }

    /// Process id.
    #[must_use]
    pub fn pid(&self) -> i32 {
        self.session.main
    }
}

impl Stopped {
    /// Id of the process that is at the point.
    #[must_use]
    pub fn pid(&self) -> i32 {
        self.pid
    }

    /// Id of the process that was launched.
    #[must_use]
    pub fn main(&self) -> i32 {
        self.session.main
    }

    /// The name of the process at the point; absent for the one that was launched.
    #[must_use]
    pub fn child(&self) -> Option<ChildName> {
        self.session.family.name(self.pid).cloned()
    }

    /// All threads with their registers, by id.
    #[must_use]
    pub fn threads(&self) -> &[Thread] {
        self.named.get_or_init(|| self.session.named(self.pid, &self.threads))
    }

    /// The same. The first thread has no name here, unless it has ended: `status` of the process tells it, too.
    #[must_use]
    pub fn unnamed(&self) -> &[Thread] {
        &self.threads
    }

    /// Text pages that hold or held a breakpoint, by address.
    #[must_use]
    pub fn patched(&self) -> Vec<PatchedPage> {
        self.session.patched(self.pid)
    }

    /// How many mappings fewer there are than without us: of one kind side by side, they became one when pages that had been
    /// protected for a touch were opened.
    #[must_use]
    pub fn joined_mappings(&self) -> u64 {
        self.session.pages.joined()
    }

    /// The number of the program that the process runs: another one after each `exec`. Absent where that is not followed.
    #[must_use]
    pub fn image(&self) -> Option<u64> {
        self.session.tasks.image_of(self.pid)
    }

    /// The auxiliary vector of that program, if it was read before the program ran.
    #[must_use]
    pub fn auxv(&self) -> Option<&[u8]> {
        let image = self.session.image_of_process(self.pid)?;
        (!image.auxv.is_empty()).then_some(&*image.auxv)
    }

    /// Stacks of threads that ended, by TLS base; absent when the launch does not watch them.
    #[must_use]
    pub fn finished_stacks(&self) -> Option<Vec<FinishedStack>> {
        self.session.finished_stacks(self.pid)
    }

    /// Settings that were applied at launch, by name.
    #[must_use]
    pub fn settings(&self) -> &[AppliedSetting] {
        &self.session.settings
    }

    /// True when the `exit` point stops at the call, before any thread is gone: the kernel took our filter for it.
    #[must_use]
    pub fn has_exit_filter(&self) -> bool {
        self.session.exit_filter
    }

    /// Sets a hardware watchpoint in the target and takes it back.
    ///
    /// # Errors
    /// The machine has none for us.
    pub fn try_watchpoint(&self) -> std::io::Result<()> {
        watch::attempt(self.pid)
    }

    /// Lets the target run again, at once; what it comes to is told by [`Running::next`]. Its time counts from here on.
    #[must_use]
    pub fn resume(mut self) -> Running {
        self.session.set_off();
        Running {
            session: self.session,
            _not_send: PhantomData,
        }
    }

    /// Takes everything of ours out of the target, lets it go on untraced, and waits for its end.
    ///
    /// # Errors
    /// Cancelled; the machine refuses something. The target is dead then.
    pub fn let_go(mut self) -> Result<Ended> {
        match self.session.let_go() {
            Ok(end) => Ok(self.session.finish(end)),
            Err(Halt::TimedOut) => Ok(self.session.finish(End::TimedOut)),
            Err(Halt::Cancelled(signal)) => Err(Error::interrupted(signal)),
            Err(Halt::Failed(error)) => Err(error),
        }
    }

    /// Kills the whole tree and collects it.
    ///
    /// # Errors
    /// None at present.
    pub fn kill(mut self) -> Result<Ended> {
        Ok(self.session.finish(End::Killed))
    }
}

/// What most likely refuses to let us trace: cause and remedy.
#[must_use]
pub fn refusal() -> (String, String) {
    permit::rules().refusal()
}

/// True when no setting of the machine can be changed from here (`/proc/sys` is mounted read-only); and the command that lets
/// one's own processes be attached to, with where to run it.
#[must_use]
pub fn machine_settings() -> (bool, String) {
    let rules = permit::rules();
    (rules.read_only, rules.sysctl(0))
}

/// Whose running processes we may attach to, and whether that is as much as is usual.
#[must_use]
pub fn attaching() -> (String, bool) {
    permit::rules().attaching()
}

/// What a place that was never passed may have been meant for: names of probes or functions, escaped.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Suggestions {
    /// The file that has the place itself: there it is, and it was not passed.
    pub holder: Option<String>,
    /// Close to the name, best first.
    pub near: Vec<String>,
    /// All others, where they are few.
    pub others: Vec<String>,
}

/// Names a user may have meant, of a program, of the libraries that lie where it looks for its own (`DT_RUNPATH` with
/// `$ORIGIN`), and of `loaded`, those that were seen in it.
#[must_use]
pub fn suggestions(program: &Path, loaded: &[PathBuf], at: &At) -> Suggestions {
    suggest::near(program, loaded, at)
}

/// True when a program is seen, by its file, to trace others.
#[must_use]
pub fn is_tracer(program: &Path) -> bool {
    suggest::is_tracer(program)
}
