//! Attaching to a process that somebody else started: stopped, looked at, and let go as it was. It is never killed by us, and
//! goes on by itself when we die.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::marker::PhantomData;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::error::{Error, Result};
use crate::model::{Cancel, Name, Thread};
use crate::sys::wait::{self, Status};
use crate::sys::{process, ptrace};

use super::arch::{self, Registers};
use super::clock::{Clock, Halt};
use super::proc;

/// No option at all: above all not the one that kills the tracee with us.
const NO_OPTIONS: usize = 0;

/// How long a thread that sleeps in the kernel and cannot be interrupted (state `D`, as one that waits for its vfork child)
/// is waited for. It changes no memory of its process meanwhile.
const DEEP_SLEEP_PATIENCE: Duration = Duration::from_secs(1);

/// How often a refusal is taken for that of a thread which is no more, and how far apart.
const MOST_REFUSALS: u32 = 20;
const REFUSAL_NAP: Duration = Duration::from_millis(1);

/// How often the ends of killed threads are looked for when all others are let go, and how far apart.
const END_LOOKS: u32 = 200;
const END_NAP: Duration = Duration::from_millis(1);

/// How often ends are looked for.
const EXEC_NAP: Duration = Duration::from_millis(20);

/// A process of somebody else, all of whose threads are stopped. Dropping it lets the process go on: what was stopped by a
/// signal before stays stopped, signals that came meanwhile are delivered.
#[derive(Debug)]
pub struct Attached {
    pid: i32,
    name: Name,
    threads: Vec<Thread>,
    notes: Vec<String>,
    _stopped: Stops,
    // ptrace belongs to the thread that attached.
    _not_send: PhantomData<*const ()>,
}

/// Threads in a ptrace-stop of ours, each with the signal that it is to receive when it goes on (0: none).
#[derive(Debug, Default)]
struct Stops(BTreeMap<i32, i32>);

impl Drop for Stops {
    fn drop(&mut self) {
        let mut killed = Vec::new();
        for (&tid, &signal) in &self.0 {
            if signal == 0 {
                Registers::restart_interrupted_call(tid);
            }
            if ptrace::detach(tid, signal).is_err() {
                killed.push(tid);
            }
        }
        // Perhaps by the exec of one that went first, which waits until we have collected them all.
        for _ in 0..END_LOOKS {
            killed.retain(|tid| {
                wait::collect_ended(*tid);
                wait::is_ours(*tid)
            });
            if killed.is_empty() {
                break;
            }
            std::thread::sleep(END_NAP);
        }
    }
}

impl Attached {
    /// Process id.
    #[must_use]
    pub fn pid(&self) -> i32 {
        self.pid
    }

    /// Its name (`comm`).
    #[must_use]
    pub fn name(&self) -> &Name {
        &self.name
    }

    /// All threads with their registers, by id.
    #[must_use]
    pub fn threads(&self) -> &[Thread] {
        &self.threads
    }

    /// Remarks about the process and its stop.
    #[must_use]
    pub fn notes(&self) -> &[String] {
        &self.notes
    }
}

/// Stops every thread of a running process. It goes on when the result is dropped; a thread that sleeps in the kernel and could
/// not be stopped, when the calling thread has ended.
///
/// # Errors
/// There is no such process; it is none that can be looked at (a kernel thread, one that has ended, one that is traced by
/// somebody else); not permitted; `timeout` is over; cancelled. The process goes on then, too.
pub fn attach(pid: i32, timeout: Duration, cancel: &Cancel) -> Result<Attached> {
    if arch::MACHINE.is_none() {
        return Err(Error::machine("processes can be stopped on x86-64 and AArch64 only"));
    }
    can_be_attached(pid)?;
    let mut clock = Clock::new(timeout, cancel)
        .map_err(|error| Error::machine(format!("could not make a timer for the time limit: {error}")))?;
    clock.run();
    let mut stopping = Stopping {
        pid,
        stopped: Stops::default(),
        asleep: BTreeSet::new(),
        group_stop: false,
    };
    let asked = &Mutex::new(Vec::new());
    let (over, is_over) = mpsc::channel();
    let stopped = std::thread::scope(|scope| {
        let helper = std::thread::Builder::new().name("memcheck-attach".to_owned());
        let helper = helper.spawn_scoped(scope, move || free_execs(asked, &is_over));
        helper.map_err(|error| Error::machine(format!("could not start a thread: {error}")))?;
        let stopped = stopping.stop_all(&clock, asked);
        drop(over);
        stopped
    });
    match stopped {
        Ok(()) => Ok(stopping.finish()),
        Err(Halt::Failed(error)) => Err(error),
        Err(Halt::Cancelled(signal)) => Err(Error::interrupted(signal)),
        Err(Halt::TimedOut) => Err(Error::not_judged(format!(
            "process {pid} could not be stopped within {} s",
            timeout.as_secs()
        ))),
    }
}

/// Collects the ends of threads that we trace while others of their process are still to be: a thread that loads a program waits for
/// that, and whoever attaches to another of its process waits for it, in the kernel, where neither a time limit nor Ctrl-C ends the
/// wait (`ptrace_attach` and `de_thread`: both want `cred_guard_mutex`; kernel `kernel/ptrace.c`, `fs/exec.c`).
fn free_execs(asked: &Mutex<Vec<i32>>, is_over: &Receiver<()>) {
    loop {
        let is_over = is_over.recv_timeout(EXEC_NAP) != Err(RecvTimeoutError::Timeout);
        let asked = asked.lock().unwrap_or_else(PoisonError::into_inner).clone();
        asked.into_iter().for_each(wait::collect_ended);
        if is_over {
            return;
        }
    }
}

/// What stands in the way of attaching at all, found before anything is done to the process.
fn can_be_attached(pid: i32) -> Result<()> {
    let Some(kin) = (pid > 0).then(|| proc::kin(pid)).flatten() else {
        return Err(Error::config(format!("there is no process {pid}")));
    };
    if pid.cast_unsigned() == std::process::id() {
        return Err(Error::config(format!("process {pid} is this command itself")));
    }
    if kin.is_kernel_thread() {
        return Err(Error::config(format!(
            "process {pid} is a thread of the kernel: it has no memory of its own"
        )));
    }
    match proc::process_of(pid) {
        Some(process) if process != pid => {
            return Err(Error::config(format!("{pid} is a thread of process {process}"))
                .detail(format!("cargo memcheck show --pid {process}")));
        }
        _ => {}
    }
    if matches!(kin.state, b'Z' | b'X') && proc::threads(pid).iter().all(|tid| proc::is_zombie(*tid)) {
        return Err(Error::not_judged(format!(
            "process {pid} has ended: only its exit status is left, until its parent ({}) asks for it",
            kin.parent
        )));
    }
    match proc::tracer_of(pid) {
        Some(tracer) if tracer != 0 => Err(traced(pid, tracer)),
        _ => Ok(()),
    }
}

fn traced(pid: i32, tracer: i32) -> Error {
    let name = proc::name(tracer, tracer).map_or(String::new(), |name| format!(" ({name})"));
    Error::not_judged(format!("process {pid} is traced by process {tracer}{name} already"))
        .detail("the kernel allows one tracer: end the debugger or strace first")
}

/// Why the kernel said no.
fn refused(pid: i32, error: &io::Error) -> Error {
    if let Some(tracer) = proc::tracer_of(pid).filter(|tracer| *tracer != 0) {
        return traced(pid, tracer);
    }
    let failed = Error::machine(format!("not permitted to attach to process {pid} (ptrace: {error})"));
    let ours = process::user();
    let failed = match proc::users(pid) {
        Some((user, _)) if ours != 0 && user != ours => {
            return failed.detail(format!(
                "it runs as user {user}, you are {ours}: run the command as that user, or as root"
            ));
        }
        Some((user, owner)) if ours != 0 && user != owner => {
            return failed
                .detail("it is not dumpable (prctl PR_SET_DUMPABLE, or it was given privileges): only root may look at it");
        }
        _ => failed,
    };
    let rules = super::permit::rules();
    let (cause, remedy) = match rules.attaching() {
        (what, false) => (
            format!("whom one may attach to here: {what}"),
            format!("run as root, or: {}", rules.sysctl(0)),
        ),
        (_, true) => rules.refusal(),
    };
    failed
        .detail(cause)
        .detail(remedy)
        .detail("cargo memcheck doctor  tells what this machine permits")
}

/// The work of [`attach`].
struct Stopping {
    pid: i32,
    stopped: Stops,
    /// Threads that sleep in the kernel and cannot be stopped.
    asleep: BTreeSet<i32>,
    group_stop: bool,
}

impl Stopping {
    /// Only a running thread makes another: when a listing shows nothing that is not stopped, nothing runs.
    fn stop_all(&mut self, clock: &Clock, all: &Mutex<Vec<i32>>) -> std::result::Result<(), Halt> {
        let mut refusals = 0;
        loop {
            clock.check()?;
            let mut open = proc::threads(self.pid);
            // A thread that has loaded a program has the id of the leader now, which was killed where it stood.
            self.stopped.0.retain(|tid, _| ptrace::signal_mask(*tid).is_ok());
            open.retain(|tid| !self.stopped.0.contains_key(tid) && !self.asleep.contains(tid) && !proc::is_zombie(*tid));
            if open.is_empty() {
                break;
            }
            let mut asked = Vec::new();
            // All are asked before the first is waited for.
            for tid in open {
                let seized = ptrace::seize(tid, NO_OPTIONS).or_else(|error| {
                    // One that is ours has got the id of another, by loading a program.
                    if wait::is_ours(tid) { Ok(()) } else { Err(error) }
                });
                if seized.is_ok() {
                    // One that is killed before it can be asked is ours to collect, too.
                    all.lock().unwrap_or_else(PoisonError::into_inner).push(tid);
                }
                match seized.and_then(|()| ptrace::interrupt(tid)) {
                    Ok(()) => asked.push(tid),
                    Err(_) if proc::kin(tid).is_none_or(|kin| matches!(kin.state, b'Z' | b'X')) => {}
                    // One that is about to end, or to be another, is refused as well as one that we may not trace.
                    Err(_) if refusals < MOST_REFUSALS => {
                        refusals += 1;
                        std::thread::sleep(REFUSAL_NAP);
                    }
                    Err(error) => {
                        // Those that were asked are let go when they have stopped.
                        self.collect(&asked, clock)?;
                        return Err(refused(self.pid, &error).into());
                    }
                }
            }
            self.collect(&asked, clock)?;
        }
        if self.stopped.0.is_empty() && self.asleep.is_empty() {
            return Err(Error::not_judged(format!("process {} ended before it could be looked at", self.pid)).into());
        }
        Ok(())
    }

    fn collect(&mut self, asked: &[i32], clock: &Clock) -> std::result::Result<(), Halt> {
        let began = Instant::now();
        for &tid in asked {
            self.await_stop(tid, (asked, began), clock)?;
        }
        Ok(())
    }

    /// A thread that loads a program is held back by the kernel until the ends of all others are collected.
    fn take_all(&mut self, asked: &[i32]) {
        for &tid in asked {
            if !self.stopped.0.contains_key(&tid)
                && let Ok(Some(status)) = wait::one(tid, false)
            {
                self.take(tid, status);
            }
        }
    }

    fn take(&mut self, tid: i32, status: Status) {
        let signal = match status {
            Status::Exited(_) | Status::Killed(_) => return,
            Status::Signal(signal) => signal,
            _ => 0,
        };
        self.group_stop |= status == Status::Group;
        self.stopped.0.insert(tid, signal);
    }

    fn await_stop(&mut self, tid: i32, (asked, began): (&[i32], Instant), clock: &Clock) -> std::result::Result<(), Halt> {
        loop {
            if self.stopped.0.contains_key(&tid) {
                return Ok(());
            }
            match wait::one(tid, true) {
                Ok(Some(status)) => {
                    self.take(tid, status);
                    return Ok(());
                }
                Ok(None) => return Ok(()),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {
                    clock.check()?;
                    self.take_all(asked);
                    if began.elapsed() > DEEP_SLEEP_PATIENCE && proc::kin(tid).is_some_and(|kin| kin.state == b'D') {
                        self.asleep.insert(tid);
                        return Ok(());
                    }
                }
                // Gone into another id, by exec of another thread.
                Err(_) => return Ok(()),
            }
        }
    }

    fn finish(self) -> Attached {
        let pid = self.pid;
        let mut notes = Vec::new();
        if self.group_stop {
            notes.push(format!("process {pid} was stopped by a signal before, and stays stopped"));
        }
        if !self.asleep.is_empty() {
            let count = self.asleep.len();
            notes.push(format!(
                "{count} of its threads wait in the kernel and could not be stopped (state D)"
            ));
        }
        let threads = self.stopped.0.keys().chain(&self.asleep).map(|&tid| {
            let registers = Registers::read(tid).ok();
            let blocked = if registers.is_none() {
                proc::blocked_at(pid, tid)
            } else {
                None
            };
            Thread {
                tid,
                name: proc::name(pid, tid).unwrap_or_else(|| Name::from("")),
                stack_pointer: registers.map(|all| all.sp()).or(blocked.map(|(sp, _)| sp)),
                program_counter: registers.map(|all| all.pc()).or(blocked.map(|(_, pc)| pc)),
                tls_base: registers.and_then(|all| arch::tls_base(tid, &all)),
            }
        });
        let mut threads: Vec<Thread> = threads.collect();
        threads.sort_by_key(|thread| thread.tid);
        Attached {
            pid,
            name: proc::name(pid, pid).unwrap_or_else(|| Name::from("")),
            threads,
            notes,
            _stopped: self.stopped,
            _not_send: PhantomData,
        }
    }
}
