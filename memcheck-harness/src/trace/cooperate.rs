//! A target that nobody may trace: its markers stop it by themselves (feature `cooperative` of `memcheck-probe`), and it is
//! looked at through `/proc` alone. Registers and memory are out of reach; so is every checkpoint but a marker.

use std::collections::{BTreeMap, VecDeque};
use std::io::{self, PipeReader, Read as _};
use std::marker::PhantomData;
use std::os::fd::{AsFd as _, AsRawFd as _, OwnedFd};

use crate::error::{Error, Result};
use crate::model::{AppliedSetting, At, Cancel, End, Thread};
use crate::sys::clone::{self, Child};
use crate::sys::names::{SIGCONT, SIGKILL, SIGSTOP, signal_name};
use crate::sys::wait;
use crate::sys::{process, thp};

use super::clock::{Clock, Halt};
use super::launch::{self, OUTPUT_GRACE};
use super::output::Output;
use super::session::Counted;
use super::{Ended, Launch, Point, proc, stragglers};

/// The variable that tells markers where to write their names.
const VARIABLE: &str = "MEMCHECK_COOPERATE";
/// How often the clock is looked at while the child becomes the program.
const GLANCE_MILLISECONDS: i32 = 20;
/// Names that fit between two looks; a marker's has 128 bytes at most, and each waits for us.
const NAMES_BYTES: usize = 4096;

/// A target that stops at its markers by itself. Dropping it kills it and all that it made.
#[derive(Debug)]
pub struct Cooperating {
    pid: i32,
    names: PipeReader,
    points: Vec<Counted>,
    due: VecDeque<usize>,
    /// Markers passed so far.
    passes: u64,
    stopped: bool,
    clock: Clock,
    output: Output,
    settings: Vec<AppliedSetting>,
    notes: Vec<String>,
    /// Its end is collected, and nothing is left.
    collected: bool,
    // Only the thread that launched can wait.
    _not_send: PhantomData<*const ()>,
}

/// What a cooperating target did next.
#[derive(Debug)]
pub enum Turn {
    /// It stands at the point with this index.
    Paused(usize),
    /// It is over.
    Ended(End),
}

/// True for a point that a target can stop at by itself.
#[must_use]
pub fn can_cooperate(at: &At) -> bool {
    matches!(at, At::Probe { provider, .. } if provider == "memcheck")
}

/// Starts a target that nobody traces.
///
/// # Errors
/// A point is no marker; the program or its directory cannot be used; cancelled.
pub fn cooperate(launch: &Launch, points: &[Point], cancel: &Cancel) -> Result<Cooperating> {
    if let Some(point) = points.iter().find(|point| !can_cooperate(&point.at)) {
        return Err(Error::config(format!(
            "{} needs ptrace: cooperating programs stop at markers only",
            point.at
        ))
        .detail("use a marker of memcheck-probe (feature `cooperative`) or memcheck.h (-DMEMCHECK_COOPERATIVE)")
        .detail("or measure where ptrace is permitted: cargo memcheck doctor"));
    }
    let started = Cooperating::start(launch, points, cancel);
    started.map_err(|halt| match halt {
        Halt::Failed(error) => error,
        Halt::Cancelled(signal) => Error::interrupted(signal),
        Halt::TimedOut => Error::not_judged("the time limit was over before the target could be started"),
    })
}

impl Cooperating {
    fn start(given: &Launch, points: &[Point], cancel: &Cancel) -> std::result::Result<Self, Halt> {
        let machine = |what: &str, error: io::Error| Error::machine(format!("could not {what}: {error}"));
        let clock = Clock::new(given.timeout, cancel).map_err(|error| machine("make a timer for the time limit", error))?;
        let (names, writer) = io::pipe().map_err(|error| machine("make a pipe for the names of markers", error))?;
        let channel = process::above_standard(OwnedFd::from(writer))
            .map_err(|error| machine("make a pipe for the names of markers", error))?;
        let mut launch = given.clone();
        launch.dies_with_us = true;
        let mut variables = launch.env.take().unwrap_or_else(|| std::env::vars_os().collect());
        variables.push((VARIABLE.into(), channel.as_raw_fd().to_string().into()));
        launch.env = Some(variables);
        let (stdout, stderr, out, err) = launch::pipes()?;
        let mut settings = Vec::new();
        let (mut plan, limits) = launch::plan(&launch, out, err, &mut settings)?;
        plan.channel = Some(channel);
        let thp_off = if launch.fixed { Some(thp::Off::new()) } else { None };
        // The child's copy of the writing end is closed when it has become the program (close-on-exec), or when it ends.
        let (became, alive) = io::pipe().map_err(|error| machine("make a pipe for the start", error))?;
        let alive = process::above_standard(OwnedFd::from(alive)).map_err(|error| machine("make a pipe for the start", error))?;
        let child = clone::create(plan).map_err(|error| machine("start a process", error))?;
        drop(alive);
        let output = Output::drain(stdout, stderr, launch.output_tail_bytes, OUTPUT_GRACE)
            .map_err(|error| machine("start to read the target's output", error))?;
        child
            .release()
            .map_err(|error| Error::tool(format!("could not start the target: {error}")))?;
        let pid = child.pid();
        let over = await_program(&child, &became, &clock)?;
        let report = child.report();
        child.went_away();
        if let Some(status) = over {
            return Err(launch::failed(&launch, &report, status).into());
        }
        launch::record(&launch, &limits, &report, thp_off.as_ref(), &mut settings);
        let mut started = Self {
            pid,
            names,
            points: points
                .iter()
                .map(|point| Counted {
                    point: point.clone(),
                    hits: 0,
                    since: None,
                    done_at: None,
                    met: None,
                })
                .collect(),
            due: VecDeque::new(),
            passes: 0,
            stopped: false,
            clock,
            output,
            settings,
            notes: Vec::new(),
            collected: false,
            _not_send: PhantomData,
        };
        started.notes.push(
            "measured without tracing (--cooperative): roles are told by mappings alone, children are not looked at".to_owned(),
        );
        Ok(started)
    }

    /// Process id.
    #[must_use]
    pub fn pid(&self) -> i32 {
        self.pid
    }

    /// All threads, without registers.
    #[must_use]
    pub fn threads(&self) -> Vec<Thread> {
        let of = |tid: i32| {
            Some(Thread {
                tid,
                name: proc::name(self.pid, tid)?,
                stack_pointer: None,
                program_counter: None,
                tls_base: None,
            })
        };
        proc::threads(self.pid).into_iter().filter_map(of).collect()
    }

    /// Runs on to the next point or the end.
    ///
    /// # Errors
    /// Cancelled; the machine refuses something.
    pub fn advance(&mut self) -> Result<Turn> {
        self.clock.run();
        let turn = self.turns();
        self.clock.pause();
        match turn {
            Ok(turn) => Ok(turn),
            Err(Halt::TimedOut) => Ok(Turn::Ended(End::TimedOut)),
            Err(Halt::Cancelled(signal)) => Err(Error::interrupted(signal)),
            Err(Halt::Failed(error)) => Err(error),
        }
    }

    fn turns(&mut self) -> std::result::Result<Turn, Halt> {
        loop {
            self.clock.check()?;
            if let Some(index) = self.due.pop_front() {
                return Ok(Turn::Paused(index));
            }
            if std::mem::take(&mut self.stopped) {
                // ESRCH: it was killed meanwhile, and the wait says so.
                let _ = process::kill(self.pid, SIGCONT);
            }
            match wait::untraced(self.pid) {
                Ok(wait::Child::Stopped(SIGSTOP)) => {
                    let names = self.passed();
                    // Without a name it stopped itself; somebody else continues it, or the time limit ends it.
                    self.stopped = !names.is_empty();
                    for name in names {
                        self.count(&name);
                    }
                }
                Ok(wait::Child::Exited(code)) => return Ok(Turn::Ended(End::Exited(code))),
                Ok(wait::Child::Killed(signal)) => return Ok(Turn::Ended(End::Signalled(signal_name(signal)))),
                Ok(wait::Child::Stopped(_)) => {}
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(Error::tool(format!("could not wait for the target: {error}")).into()),
            }
        }
    }

    /// The names that were written since the last stop.
    fn passed(&mut self) -> Vec<String> {
        let mut bytes = vec![0; NAMES_BYTES];
        let there = process::readable(&[self.names.as_fd()], 0).is_ok_and(|ready| ready.first() == Some(&true));
        let count = if there { self.names.read(&mut bytes).unwrap_or(0) } else { 0 };
        let text = String::from_utf8_lossy(bytes.get(..count).unwrap_or_default()).into_owned();
        text.lines().map(str::to_owned).collect()
    }

    fn count(&mut self, marker: &str) {
        self.passes += 1;
        for index in 0..self.points.len() {
            let Some(counted) = self.points.get(index) else { return };
            let is_it = matches!(&counted.point.at, At::Probe { name, .. } if name == marker) && !counted.is_done();
            let before = counted
                .point
                .after
                .map(|before| self.points.get(before).and_then(|one| one.done_at));
            let in_turn = before.is_none_or(|done| done.is_some_and(|pass| pass < self.passes));
            if let Some(counted) = self.points.get_mut(index)
                && is_it
                && in_turn
            {
                counted.hits += 1;
                if counted.is_done() {
                    counted.done_at = Some(self.passes);
                    self.due.push_back(index);
                }
            }
        }
    }

    /// Ends it, if it has not ended, and puts together what happened.
    #[must_use]
    pub fn finish(mut self, end: End) -> Ended {
        if self.passes == 0 {
            self.notes.push(
                "no marker stopped by itself: build with feature `cooperative` of memcheck-probe, in C with -DMEMCHECK_COOPERATIVE"
                    .to_owned(),
            );
        }
        self.kill();
        let drained = self.output.finish();
        self.notes.extend(drained.remark());
        Ended {
            end,
            output: drained.tail,
            hits: self.points.iter().map(|counted| counted.hits).collect(),
            unseen: BTreeMap::new(),
            unsettled: None,
            children: Vec::new(),
            notes: std::mem::take(&mut self.notes),
            settings: std::mem::take(&mut self.settings),
        }
    }

    /// Kills what is left, however the target ended. The group is its own (`setsid` at launch), and the id is taken as long as
    /// its end is not collected; what has left the group is found by the pipe that it inherited.
    fn kill(&mut self) {
        if std::mem::replace(&mut self.collected, true) {
            return;
        }
        let beside = stragglers::beside(&self.names, self.pid).into_iter();
        let killed = beside.map(|(pid, name)| format!("a child process ({pid}, {name}) was still running: killed"));
        self.notes.extend(killed);
        let _ = process::kill(-self.pid, SIGKILL);
        loop {
            match wait::one(self.pid, true) {
                Ok(Some(wait::Status::Exited(_) | wait::Status::Killed(_))) => break,
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => break,
            }
        }
        self.notes.extend(stragglers::kill(&self.names));
    }
}

impl Drop for Cooperating {
    fn drop(&mut self) {
        self.kill();
    }
}

/// The child shares our memory until it has become the program. A status is its end before that.
fn await_program(child: &Child, became: &PipeReader, clock: &Clock) -> std::result::Result<Option<wait::Status>, Halt> {
    loop {
        clock.check()?;
        let is_closed = process::readable(&[became.as_fd()], GLANCE_MILLISECONDS);
        if !is_closed.is_ok_and(|closed| closed.first() == Some(&true)) {
            continue;
        }
        // The program may have stopped or ended before we look: that is left for the wait that follows.
        return match child.report().failed {
            Some(_) => Ok(wait::one(child.pid(), true).ok().flatten()),
            None => Ok(None),
        };
    }
}
