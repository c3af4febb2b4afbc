//! Stopping every thread that shares the target's memory, reading their registers, and stepping one thread over a
//! breakpoint while the others stand still.

use std::collections::BTreeSet;
use std::io;
use std::time::{Duration, Instant};

use crate::error::Error;
use crate::model::{Name, Thread};
use crate::sys::names::{SIGBUS, SIGFPE, SIGILL, SIGSEGV, SIGTRAP};
use crate::sys::ptrace::SigInfo;
use crate::sys::wait::{self, Event, Status};
use crate::sys::{process, ptrace};

use super::arch::{self, BREAKPOINT, Emulated, Registers};
use super::breakpoint::write_code;
use super::clock::Halt;
use super::proc;
use super::session::Session;
use super::tasks::{How, Space, State, Task};

/// How long a pause waits for a vfork child to let its parent go; usually that takes microseconds.
const VFORK_PATIENCE: Duration = Duration::from_millis(300);
const VFORK_NAP: Duration = Duration::from_micros(200);

/// The mask of a thread that runs for us: everything waits but what it raises by itself.
pub(super) const ONLY_FAULTS: u64 = !(bit(SIGSEGV) | bit(SIGBUS) | bit(SIGILL) | bit(SIGFPE) | bit(SIGTRAP));

/// Signals that an instruction raises by itself.
const FAULTS: [i32; 4] = [SIGSEGV, SIGBUS, SIGILL, SIGFPE];

impl Session {
    /// Stops all threads of a process, and of others that share its memory. Events that arrive on the way are queued.
    pub(super) fn stop_all(&mut self, pid: i32) -> Result<(), Halt> {
        self.stop_processes(&[pid], None)?;
        self.await_vforks(pid)?;
        let sharing = self.sharing(pid);
        if sharing.len() > 1 {
            self.stop_processes(&sharing, None)?;
        }
        Ok(())
    }

    /// Processes with the memory of this one, itself among them.
    pub(super) fn sharing(&self, pid: i32) -> Vec<i32> {
        let Space::Image(image) = self.tasks.space(pid) else {
            return vec![pid];
        };
        let mut all = self.tasks.processes();
        all.retain(|other| self.tasks.space(*other) == Space::Image(image));
        all
    }

    /// Stops every thread of some processes but one. A thread that waits for its vfork child cannot stop; it does not touch
    /// memory either.
    ///
    /// Only a running thread can make another one. So when all known threads are held, and a listing made afterwards shows no
    /// unknown one, nothing runs.
    pub(super) fn stop_processes(&mut self, pids: &[i32], except: Option<i32>) -> Result<(), Halt> {
        let mut lost = BTreeSet::new();
        loop {
            let running: Vec<i32> = self
                .tasks
                .iter()
                .filter(|(tid, task)| pids.contains(&task.process) && Some(*tid) != except && !lost.contains(tid))
                .filter(|(_, task)| task.state == State::Running && !task.in_vfork)
                .map(|(tid, _)| tid)
                .collect();
            // All are asked before the first is waited for: they stop at the same time.
            for tid in &running {
                // ESRCH: it is ending, and the wait says so.
                let _ = ptrace::interrupt(*tid);
            }
            for tid in running {
                if !self.wait_stop(tid)? {
                    lost.insert(tid);
                }
            }
            let mut found = false;
            // The id of a process that is gone may be a stranger's.
            for pid in pids.iter().filter(|pid| self.tasks.has(**pid)).copied().collect::<Vec<_>>() {
                if self.is_lone_leader(pid) && self.leader(pid, proc::Leader::is_alone) == Some(true) {
                    continue;
                }
                for tid in proc::threads(pid) {
                    if self.tasks.get(tid).is_none() && !lost.contains(&tid) {
                        self.tasks.add(tid, pid);
                        found = true;
                    }
                }
            }
            if !found {
                return Ok(());
            }
        }
    }

    /// The first thread of a process is the only one we know of, and is held alive.
    fn is_lone_leader(&self, pid: i32) -> bool {
        let is_held = |task: &Task| {
            let event = match task.state {
                State::Running => return false,
                State::Held(event, _) => event,
            };
            !task.leaving && !matches!(event, Some(Status::Exited(_) | Status::Killed(_)))
        };
        self.tasks.count(pid) == 1 && self.tasks.get(pid).is_some_and(is_held)
    }

    /// Waits until one thread has stopped or ended. False when it does neither: a leader that has ended before its threads, one that
    /// has become the leader by loading a program, or a thread that is not traced by us.
    fn wait_stop(&mut self, tid: i32) -> Result<bool, Halt> {
        let is_leader = self.tasks.get(tid).is_some_and(|task| task.process == tid);
        let mut block = !is_leader;
        loop {
            match self.tasks.get(tid).map(|task| task.state) {
                None => return Ok(false),
                Some(State::Held(..)) => return Ok(true),
                Some(State::Running) => {}
            }
            match wait::one(tid, block) {
                Ok(Some(status)) => {
                    self.note(tid, status);
                    return Ok(true);
                }
                Ok(None) if proc::is_zombie(tid) => {
                    if let Some(task) = self.tasks.get_mut(tid) {
                        task.leaving = true;
                    }
                    return Ok(false);
                }
                Ok(None) => block = true,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {
                    self.clock.check()?;
                    self.take_all()?;
                    block = !is_leader;
                }
                Err(error) if tid == self.main => {
                    return Err(Error::tool(format!("could not wait for the target: {error}")).into());
                }
                Err(_) => {
                    if proc::kin(tid).is_some() {
                        self.remark(format!(
                            "thread {tid} of the target is not traced (CLONE_UNTRACED) and was not stopped"
                        ));
                    }
                    self.tasks.remove(tid);
                    return Ok(false);
                }
            }
        }
    }

    /// Writes down what others have to say: a thread that loads a program is held back by the kernel until the ends of all others of
    /// its process are collected (`de_thread`, kernel `fs/exec.c`).
    fn take_all(&mut self) -> Result<(), Halt> {
        loop {
            match self.poll_any(false) {
                Ok(Some((tid, status))) => self.note(tid, status),
                Ok(None) => return Ok(()),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(Error::tool(format!("could not wait for the target: {error}")).into()),
            }
        }
    }

    /// Threads of a process that wait for a vfork child stop as soon as the child has gone on: serves the other processes for
    /// a while.
    fn await_vforks(&mut self, pid: i32) -> Result<(), Halt> {
        let began = Instant::now();
        while began.elapsed() < VFORK_PATIENCE && self.tasks.iter().any(|(_, task)| waits(task, pid)) {
            self.clock.check()?;
            if let Some((tid, event)) = self.tasks.next_event(|task| task.process != pid) {
                self.handle(tid, event)?;
                self.step_over(tid)?;
                self.pass_fault(tid)?;
                continue;
            }
            let others: BTreeSet<i32> = self
                .tasks
                .iter()
                .filter_map(|(tid, task)| (task.process != pid).then_some(tid))
                .collect();
            self.resume_settled(|tid| others.contains(&tid));
            match self.poll_any(false) {
                Ok(Some((tid, status))) => self.note(tid, status),
                Ok(None) => std::thread::sleep(VFORK_NAP),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(Error::tool(format!("could not wait for the target: {error}")).into()),
            }
        }
        return Ok(());

        fn waits(task: &super::tasks::Task, pid: i32) -> bool {
            task.process == pid && task.in_vfork && task.state == State::Running
        }
    }

    /// These threads of a process with the name of its first, which [`Session::threads`] leaves out.
    pub(super) fn named(&self, pid: i32, threads: &[Thread]) -> Vec<Thread> {
        let mut threads = threads.to_vec();
        let first = threads.iter_mut().find(|thread| thread.tid == pid && thread.name.is_empty());
        if let Some(first) = first
            && let Some(name) = proc::name(pid, pid)
        {
            first.name = name;
        }
        threads
    }

    /// Asks something of a process; absent when it is gone.
    fn leader<T>(&self, pid: i32, ask: impl FnOnce(&proc::Leader) -> T) -> Option<T> {
        let mut leader = self.leader.borrow_mut();
        if leader.as_ref().is_none_or(|leader| leader.pid != pid) {
            *leader = Some(proc::Leader::open(pid).ok()?);
        }
        leader.as_ref().map(ask)
    }

    /// The threads of a process with their registers. The first is not named as long as it lives.
    pub(super) fn threads(&self, pid: i32) -> Vec<Thread> {
        let of_process = self.tasks.iter().filter(|(_, task)| task.process == pid);
        of_process
            .map(|(tid, task)| {
                let held = matches!(task.state, State::Held(..));
                let registers = task.registers.or_else(|| held.then(|| Registers::read(tid).ok()).flatten());
                let blocked = if task.in_vfork && !held {
                    proc::blocked_at(pid, tid)
                } else {
                    None
                };
                Thread {
                    tid,
                    name: if tid == pid && held {
                        Name::default()
                    } else {
                        proc::name(pid, tid).unwrap_or_default()
                    },
                    stack_pointer: registers.map(|all| all.sp()).or(blocked.map(|(sp, _)| sp)),
                    program_counter: registers.map(|all| all.pc()).or(blocked.map(|(_, pc)| pc)),
                    tls_base: registers.and_then(|all| arch::tls_base(tid, &all)),
                }
            })
            .collect()
    }

    /// Runs the instruction below a breakpoint, on which a held thread stands, without any thread missing the breakpoint.
    pub(super) fn step_over(&mut self, tid: i32) -> Result<(), Halt> {
        let Some(address) = self.tasks.get_mut(tid).and_then(|task| task.step_over.take()) else {
            return Ok(());
        };
        let Ok(registers) = Registers::read(tid) else {
            return Ok(());
        };
        let Some((process, image)) = self.tasks.get(tid).map(|task| task.process).zip(self.tasks.image_of(tid)) else {
            return Ok(());
        };
        if registers.pc() != address || !self.is_planted(image, address) || self.emulate(tid, address, registers) {
            return Ok(());
        }
        self.stop_processes(&self.sharing(process), Some(tid))?;
        let Some(original) = self.image(tid).breakpoints.original(address) else {
            return Ok(());
        };
        if write_code(tid, address, original).is_err() {
            // A thread that was killed: its end is reported by the next wait.
            return Ok(());
        }
        let same_program = self.step_alone(tid, address)?;
        if same_program
            && let Some(held) = self.held_in(image)
            && self.is_planted(image, address)
        {
            write_code(held, address, BREAKPOINT)
                .map_err(|error| Error::tool(format!("could not put a breakpoint back into the target: {error}")))?;
        }
        Ok(())
    }

    /// One instruction of a thread, while the others stand still. False when it loaded another program.
    ///
    /// Signals wait until it is done: a handler that ran now would come back to the place and be counted twice. Faults of the
    /// instruction itself must stay deliverable.
    pub(super) fn step_alone(&mut self, tid: i32, address: u64) -> Result<bool, Halt> {
        let mask = ptrace::signal_mask(tid).ok();
        if mask.is_some() {
            let _ = ptrace::set_signal_mask(tid, ONLY_FAULTS);
        }
        let same_program = self.step(tid, address)?;
        if let Some(mask) = mask {
            let _ = ptrace::set_signal_mask(tid, mask);
        }
        Ok(same_program)
    }

    fn is_planted(&self, image: u64, address: u64) -> bool {
        self.images
            .get(image)
            .is_some_and(|image| image.breakpoints.is_planted(address))
    }

    /// Does what the first instruction of most functions does. False when it has to be run.
    fn emulate(&self, tid: i32, address: u64, mut registers: Registers) -> bool {
        let Some(emulated) = self
            .image_of(tid)
            .and_then(|image| image.breakpoints.instruction(tid, address).ok())
            .and_then(|code| arch::emulate(code, &registers))
        else {
            return false;
        };
        match emulated {
            Emulated::Skip(length) => registers.set_pc(address + length),
            Emulated::Push { value, length } => {
                let sp = registers.sp().wrapping_sub(8);
                // A stack that has to grow, or has overflowed, is the kernel's business: run the instruction.
                if ptrace::store(tid, sp, value).is_err() {
                    return false;
                }
                registers.set_sp(sp);
                registers.set_pc(address + length);
            }
        }
        registers.write(tid).is_ok()
    }

    /// One instruction. False when it loaded another program.
    fn step(&mut self, tid: i32, address: u64) -> Result<bool, Halt> {
        let mut held_back: Vec<SigInfo> = Vec::new();
        let mut group_stop = false;
        loop {
            if ptrace::step(tid).is_err() {
                self.tasks.run(tid);
                return Ok(true);
            }
            self.tasks.run(tid);
            if !self.wait_stop(tid)? {
                return Ok(true);
            }
            let Some((_, event)) = self.tasks.next_event_of(tid) else {
                return Ok(true);
            };
            match event {
                Status::Signal(signal) => {
                    let info = ptrace::signal_info(tid).ok();
                    let by_kernel = info.is_some_and(|info| info.code() > 0);
                    if signal == SIGTRAP && by_kernel {
                        self.watches_hit(tid)?;
                        break;
                    }
                    if by_kernel && FAULTS.contains(&signal) {
                        // The fault is delivered as any other signal; the instruction may be tried again.
                        if let Some(task) = self.tasks.get_mut(tid) {
                            task.retry = Some(address);
                        }
                        self.tasks.hold(tid, event);
                        return Ok(true);
                    }
                    held_back.extend(info);
                }
                Status::Group => group_stop = true,
                Status::Interrupt => {}
                Status::Event(Event::Exec) => {
                    self.tasks.hold(tid, event);
                    return Ok(false);
                }
                Status::Event(_) | Status::Call | Status::Exited(_) | Status::Killed(_) => {
                    self.tasks.hold(tid, event);
                    return Ok(true);
                }
            }
        }
        if group_stop {
            // The step left the group-stop; an interrupt leads back into it.
            let _ = ptrace::interrupt(tid);
        }
        self.give_back(tid, &held_back);
        Ok(true)
    }

    /// Signals that came in the middle of a step: the first takes the place of the step's own trap, further ones (which the
    /// mask makes all but impossible) are sent again.
    fn give_back(&mut self, tid: i32, held_back: &[SigInfo]) {
        let Some((first, others)) = held_back.split_first() else {
            return;
        };
        let _ = ptrace::set_signal_info(tid, first);
        self.signal_arrives(tid, first.signal());
        self.tasks.settle(tid, How::Continue(first.signal()));
        if let Some(task) = self.tasks.get(tid) {
            for other in others {
                let _ = process::kill_thread(task.process, tid, other.signal());
            }
        }
    }
}

const fn bit(signal: i32) -> u64 {
    1 << (signal - 1)
}
