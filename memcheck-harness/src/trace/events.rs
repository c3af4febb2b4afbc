//! What an event of a thread means: breakpoint hits, signals, births, new programs, exits. Each handler leaves the thread
//! held, with the way it goes on; the loop in `session` lets it go.

use crate::error::Error;
use crate::model::{At, Touched};
use crate::sys::names::{SIGSEGV, SIGTRAP, ends_by_default, signal_number};
use crate::sys::wait::{Event, Status};
use crate::sys::{process, ptrace, seccomp};

use super::arch::{self, BREAKPOINT, Registers};
use super::breakpoint::{Breakpoints, Owner, is_passed, read_code, write_code};
use super::clock::Halt;
use super::pages::Pages;
use super::proc;
use super::session::Session;
use super::tasks::{How, Space};
use super::watch;

impl Session {
    /// Handles the event of a held thread.
    pub(super) fn handle(&mut self, tid: i32, event: Status) -> Result<(), Halt> {
        let Some(&task) = self.tasks.get(tid) else {
            return Ok(());
        };
        self.events += 1;
        if self.tasks.space(task.process) == Space::New && event != Status::Event(Event::Exec) {
            self.find_space(tid, task.process);
        }
        self.birth(tid);
        if event == Status::Interrupt {
            Registers::restart_interrupted_call(tid);
        }
        if task.process == self.main && matches!(event, Status::Signal(_) | Status::Group | Status::Interrupt) {
            self.note_interrupted(tid);
        }
        if task.process == self.main && !matches!(event, Status::Exited(_) | Status::Killed(_)) {
            // Fails only for a thread that was killed meanwhile: what can be refused was so at the first.
            let _ = self.watch_thread(tid);
        }
        let how = match event {
            Status::Signal(signal) => self.signal(tid, task.process, signal)?,
            Status::Group => How::Listen,
            Status::Event(event) => self.event(tid, task.process, event)?,
            Status::Call => self.call_stops(tid),
            Status::Interrupt | Status::Exited(_) | Status::Killed(_) => How::Continue(0),
        };
        self.tasks.settle(tid, how);
        Ok(())
    }

    /// A process stopped for the first time: does it share the main process' memory, or does it have a copy? A copy is freed
    /// of our breakpoints before it runs.
    fn find_space(&mut self, tid: i32, pid: i32) {
        let main = self.main;
        if pid == main {
            self.tasks.set_space(pid, Space::Main);
            return;
        }
        // A leader that has ended has no memory any more: any live thread of the main process will do.
        let relative = self
            .tasks
            .iter()
            .find_map(|(other, task)| (task.process == main && !task.leaving).then_some(other))
            .unwrap_or(main);
        // Without kcmp, a thread of the main process that waits for its vfork child tells as much.
        let shared = process::same_memory(relative, tid)
            .unwrap_or_else(|| self.tasks.iter().any(|(_, task)| task.process == main && task.in_vfork));
        if shared {
            self.tasks.set_space(pid, Space::Main);
            return;
        }
        self.tasks.set_space(pid, Space::Copy);
        // If this fails the thread is dying; a breakpoint that is left is taken out when it is hit.
        let _ = self.breakpoints.clean_copy(tid);
        self.open_copy(tid);
    }

    fn event(&mut self, tid: i32, pid: i32, event: Event) -> Result<How, Halt> {
        let message = ptrace::event_message(tid).unwrap_or(0);
        match event {
            Event::Clone | Event::Vfork => {
                if let Ok(child @ 1..) = i32::try_from(message) {
                    self.tasks.adopt(child);
                    self.birth(child);
                }
                self.set_in_vfork(tid, event == Event::Vfork);
            }
            Event::VforkDone => self.set_in_vfork(tid, false),
            Event::Exec => {
                self.tasks.keep_only(tid);
                if pid == self.main {
                    self.new_image(tid)?;
                } else {
                    self.tasks.set_space(pid, Space::Own);
                }
            }
            Event::Seccomp if pid == self.main => {
                self.discard(tid);
                return Ok(self.filtered_call(tid, message));
            }
            Event::Seccomp => {}
            Event::Exit => {
                let last = self.is_last(tid);
                self.set_leaving(tid);
                // Without the filter this is all we get: the other threads may be dying already.
                if pid == self.main && !self.exit_filter && last {
                    self.reaches_exit(tid);
                }
            }
        }
        Ok(How::Continue(0))
    }

    /// A thread is seen for the first time: by its parent's event or by its own first stop, whichever comes first. Until the
    /// first of the two is handled neither has gone on.
    fn birth(&mut self, tid: i32) {
        let main = self.main;
        if let Some(task) = self.tasks.get_mut(tid)
            && !std::mem::replace(&mut task.born, true)
            && task.process == main
            && tid != main
        {
            self.thread_begins(tid);
        }
    }

    fn set_in_vfork(&mut self, tid: i32, value: bool) {
        if let Some(task) = self.tasks.get_mut(tid) {
            task.in_vfork = value;
        }
    }

    fn set_leaving(&mut self, tid: i32) {
        if let Some(task) = self.tasks.get_mut(tid) {
            task.leaving = true;
        }
    }

    /// True when no other thread of the main process will go on after this one.
    fn is_last(&self, tid: i32) -> bool {
        !self
            .tasks
            .iter()
            .any(|(other, task)| other != tid && task.process == self.main && !task.leaving)
    }

    /// A call that our filter stops for. `data` says which kind it is; other values belong to filters of the target itself.
    fn filtered_call(&mut self, tid: i32, data: u64) -> How {
        match data {
            seccomp::EXIT_GROUP => self.reaches_exit(tid),
            seccomp::EXIT_THREAD => {
                self.thread_ends(tid);
                if self.is_last(tid) {
                    self.reaches_exit(tid);
                }
                self.set_leaving(tid);
            }
            seccomp::RETURN_FROM_HANDLER => self.handler_returns(tid),
            seccomp::CALL => {}
            _ => return How::Continue(0),
        }
        self.call_begins(tid)
    }

    fn reaches_exit(&mut self, tid: i32) {
        self.count_each(tid, |at| *at == At::Exit);
    }

    /// The main process has loaded a program, which has not run yet.
    fn new_image(&mut self, tid: i32) -> Result<(), Halt> {
        let old = std::mem::take(&mut self.breakpoints);
        self.returns = super::returns::Returns::default();
        self.watches = super::watch::Watches::default();
        let pages = std::mem::take(&mut self.pages);
        self.tasks.set_space(self.main, Space::Main);
        self.free_left_behind(&old, &pages)?;
        self.finished.iter_mut().for_each(std::collections::BTreeMap::clear);
        self.images += 1;
        self.arm(tid)?;
        self.count_each(tid, |at| *at == At::Exec);
        Ok(())
    }

    /// Children that shared the former memory keep it, breakpoints and all: they are taken out.
    fn free_left_behind(&mut self, old: &Breakpoints, pages: &Pages) -> Result<(), Halt> {
        let sharing = |&pid: &i32| pid != self.main && self.tasks.space(pid) == Space::Main;
        for pid in self.tasks.processes().into_iter().filter(sharing).collect::<Vec<_>>() {
            self.stop_processes(&[pid], None)?;
            self.tasks.set_space(pid, Space::Copy);
            let threads: Vec<i32> = self
                .tasks
                .iter()
                .filter_map(|(tid, task)| (task.process == pid).then_some(tid))
                .collect();
            // One stopped thread is enough; a process that is dying needs nothing.
            let freed = threads.into_iter().find(|tid| old.clean_copy(*tid).is_ok());
            if let Some(tid) = freed {
                self.open_left_behind(tid, pages);
            }
        }
        Ok(())
    }

    /// A signal that is about to be delivered: one of our traps, or the target's own.
    fn signal(&mut self, tid: i32, pid: i32, signal: i32) -> Result<How, Halt> {
        if signal == SIGTRAP && self.trap(tid, pid)? {
            return Ok(How::Continue(0));
        }
        if signal == SIGSEGV && self.page_fault(tid, pid) {
            return Ok(How::Continue(0));
        }
        if pid == self.main {
            self.signal_arrives(tid, signal);
        }
        if self.tasks.shares_main(tid) {
            self.room_for_handler(tid, signal);
        }
        if signal == SIGSEGV && pid == self.main && self.waits_for_guard() {
            let fault = ptrace::signal_info(tid).ok().filter(|info| info.code() > 0);
            if fault.is_some_and(|info| watch::is_guard_fault(tid, info.address())) {
                self.count_each(tid, |at| *at == At::Touch(Touched::Guard));
            }
        }
        if pid == self.main && ends_by_default(signal) && self.waits_for_exit() && proc::is_default(tid, signal) {
            self.reaches_exit(tid);
        }
        Ok(How::Continue(signal))
    }

    /// A signal of the target's own is about to be delivered to a thread of the main process.
    pub(super) fn signal_arrives(&mut self, tid: i32, signal: i32) {
        self.count_each(
            tid,
            |at| matches!(at, At::Signal(name) if signal_number(name) == Some(signal)),
        );
    }

    fn waits_for_exit(&self) -> bool {
        self.points
            .iter()
            .any(|counted| counted.point.at == At::Exit && !counted.is_done())
    }

    /// True when the trap was one of our breakpoints, and it is dealt with.
    fn trap(&mut self, tid: i32, pid: i32) -> Result<bool, Halt> {
        let code = ptrace::signal_info(tid).map_or(0, |info| info.code());
        if code == watch::TRAP_CODE && pid == self.main && self.watches_hit(tid)? {
            return Ok(true);
        }
        if code != arch::TRAP_CODE {
            return Ok(false);
        }
        let Ok(mut registers) = Registers::read(tid) else {
            return Ok(false);
        };
        let address = registers.pc().wrapping_sub(arch::TRAP_OFFSET);
        let Some(original) = self.breakpoints.original(address) else {
            return Ok(false);
        };
        let space = self.tasks.space(pid);
        let standing = match space {
            Space::Main => self.breakpoints.owners(address),
            // A copy was made while the breakpoint was in place, and has it still.
            Space::Copy => {
                if read_code(tid, address).is_ok_and(|code| code == BREAKPOINT) {
                    let _ = write_code(tid, address, original);
                }
                None
            }
            Space::Own | Space::New => return Ok(false),
        };
        let retry = self.tasks.get(tid).and_then(|task| task.retry);
        if let Some(owners) = standing
            && pid == self.main
            && retry != Some(address)
        {
            self.hit(tid, &registers, address, &owners)?;
        }
        if let Some(task) = self.tasks.get_mut(tid) {
            task.retry = None;
        }
        if !is_passed(original) {
            registers.set_pc(address);
            // Fails only for a thread that was killed meanwhile.
            let _ = registers.write(tid);
            let planted = self.breakpoints.is_planted(address) && space == Space::Main;
            if let Some(task) = self.tasks.get_mut(tid) {
                task.step_over = planted.then_some(address);
            }
        }
        Ok(true)
    }

    /// A breakpoint was hit in the main process.
    fn hit(&mut self, tid: i32, registers: &Registers, address: u64, owners: &[Owner]) -> Result<(), Halt> {
        for owner in owners {
            match owner {
                Owner::Entry => {
                    self.retire(tid, *owner)?;
                    self.arm_libraries(tid)?;
                }
                Owner::StartMain => {
                    self.retire(tid, *owner)?;
                    self.arm_main(tid, registers.first_argument())?;
                }
                Owner::Loader => self.libraries_changed(tid)?,
                Owner::Point(index) if self.is_return(*index) => self.function_entered(tid, registers, *index)?,
                Owner::Point(index) => self.reached(tid, *index)?,
                Owner::Return(index) => {
                    if self.function_returned(tid, address, registers.sp(), *index) {
                        self.reached(tid, *index)?;
                    }
                }
            }
        }
        Ok(())
    }

    fn is_return(&self, index: usize) -> bool {
        self.points
            .get(index)
            .is_some_and(|counted| matches!(counted.point.at, At::Returns(_)))
    }

    /// A thread passes a point of the code; when nothing waits for it any more, its breakpoints go.
    fn reached(&mut self, tid: i32, index: usize) -> Result<(), Halt> {
        self.count(index, tid);
        if self.points.get(index).is_some_and(super::session::Counted::is_done) {
            self.retire(tid, Owner::Point(index))?;
            self.retire(tid, Owner::Return(index))?;
        }
        Ok(())
    }

    fn retire(&mut self, tid: i32, owner: Owner) -> Result<(), Halt> {
        let retired = self.breakpoints.retire(tid, owner);
        Ok(retired.map_err(|error| Error::tool(format!("could not take a breakpoint out of the target: {error}")))?)
    }
}
