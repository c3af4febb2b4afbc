//! What an event of a thread means: breakpoint hits, signals, births, new programs, exits. Each handler leaves the thread
//! held, with the way it goes on; the loop in `session` lets it go.

use crate::error::Error;
use crate::model::{At, Touched};
use crate::sys::names::{SIGCHLD, SIGSEGV, SIGTRAP, ends_by_default, signal_name, signal_number};
use crate::sys::wait::{Event, Status};
use crate::sys::{process, ptrace, seccomp};

use super::arch::{self, BREAKPOINT, Registers};
use super::breakpoint::{Owner, is_passed, read_code, write_code};
use super::clock::Halt;
use super::image::Image;
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
        self.birth(tid)?;
        if self.tasks.space(task.process) == Space::New && event != Status::Event(Event::Exec) {
            self.find_space(tid, task.process)?;
        }
        if event == Status::Interrupt {
            self.is_born(tid);
            Registers::restart_interrupted_call(tid);
        }
        let is_followed = self.is_followed(task.process);
        if is_followed && matches!(event, Status::Signal(_) | Status::Group | Status::Interrupt) {
            self.note_interrupted(tid);
        }
        if is_followed && !matches!(event, Status::Exited(_) | Status::Killed(_)) {
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
        if self.lets_children_go {
            self.let_child_go(tid)?;
        }
        Ok(())
    }

    /// The main process, and a child that points are in.
    fn is_followed(&self, pid: i32) -> bool {
        pid == self.main || self.is_awaited(pid)
    }

    /// A process stopped for the first time: does it share a memory that is followed, or does it have a copy? A copy is freed
    /// of our breakpoints before it runs, and gets those of points that are in this process.
    fn find_space(&mut self, tid: i32, pid: i32) -> Result<(), Halt> {
        if let Some(image) = self
            .images
            .numbers()
            .into_iter()
            .find(|image| self.has_memory_of(tid, *image))
        {
            self.tasks.set_space(pid, Space::Image(image));
            if self.is_awaited(pid) {
                self.arm_sharing(tid)?;
            }
            return Ok(());
        }
        let parent = proc::kin(tid).map_or(self.main, |kin| kin.parent);
        let known = if self.tasks.has(parent) { parent } else { self.main };
        let (Space::Image(of) | Space::Copy(of)) = self.tasks.space(known) else {
            // A program that is not followed has made it: nothing of ours is in its memory.
            self.tasks.set_space(pid, Space::Own);
            if self.is_awaited(pid) {
                self.follow_copy(tid, pid, Image::default())?;
            }
            return Ok(());
        };
        self.tasks.set_space(pid, Space::Copy(of));
        let Some(original) = self.images.get(of) else {
            return Ok(());
        };
        // If this fails the thread is dying; a breakpoint that is left is taken out when it is hit.
        let _ = original.breakpoints.clean_copy(tid);
        let (breakpoints, family) = (original.breakpoints.cleaned(), original.family);
        if of == self.main_image {
            self.open_copy(tid);
        }
        if self.is_awaited(pid) {
            self.follow_copy(
                tid,
                pid,
                Image {
                    breakpoints,
                    family,
                    ..Image::default()
                },
            )?;
        }
        Ok(())
    }

    /// True when a thread has the memory of an image.
    fn has_memory_of(&self, tid: i32, image: u64) -> bool {
        let others = || {
            let all = self.tasks.iter();
            all.filter(|(other, _)| *other != tid && self.tasks.image_of(*other) == Some(image))
        };
        // A leader that has ended has no memory any more: any live thread will do.
        let Some((relative, _)) = others().find(|(_, task)| !task.leaving) else {
            return false;
        };
        // Without kcmp, a thread that waits for its vfork child tells as much.
        process::same_memory(relative, tid).unwrap_or_else(|| others().any(|(_, task)| task.in_vfork))
    }

    /// Follows a process whose memory is a copy, and that runs on in the middle of its program.
    fn follow_copy(&mut self, tid: i32, pid: i32, image: Image) -> Result<(), Halt> {
        let number = self.images.add(Image { process: pid, ..image });
        self.tasks.set_space(pid, Space::Image(number));
        self.arm_running(tid)?;
        Ok(())
    }

    fn event(&mut self, tid: i32, pid: i32, event: Event) -> Result<How, Halt> {
        let message = ptrace::event_message(tid).unwrap_or(0);
        match event {
            Event::Clone | Event::Vfork => {
                if let Ok(child @ 1..) = i32::try_from(message) {
                    self.tasks.adopt(child);
                    self.clone_made(tid, child);
                    self.birth(child)?;
                    if self.lets_children_go {
                        self.has_made(tid, child, event == Event::Vfork)?;
                    }
                }
                self.set_in_vfork(tid, event == Event::Vfork);
            }
            Event::VforkDone => {
                self.set_in_vfork(tid, false);
                self.has_back(tid)?;
            }
            Event::Exec => {
                self.tasks.keep_only(tid);
                self.forget_call(tid);
                self.process_loads(pid)?;
                if self.is_followed(pid) {
                    self.new_image(tid, pid)?;
                } else {
                    self.tasks.set_space(pid, Space::Own);
                    self.images.keep(|image| self.tasks.needs(image));
                }
            }
            Event::Seccomp if message == seccomp::TRACE => return Ok(self.trace_begins(tid)),
            Event::Seccomp if message == seccomp::UNTRACED => return Ok(self.clone_begins(tid)),
            Event::Seccomp if self.is_followed(pid) => {
                self.discard(tid);
                return Ok(self.filtered_call(tid, pid, message));
            }
            Event::Seccomp if message == seccomp::CALL => return Ok(self.call_of_any(tid)),
            Event::Seccomp => {}
            Event::Exit => {
                let last = self.is_last(tid, pid);
                self.set_leaving(tid);
                // Without the filter this is all we get: the other threads may be dying already.
                if !self.exit_filter && last {
                    self.reaches_exit(tid);
                }
            }
        }
        let goes_on = matches!(event, Event::Clone | Event::Vfork | Event::VforkDone);
        Ok(if goes_on && self.is_in_call(tid) {
            How::Call
        } else {
            How::Continue(0)
        })
    }

    /// A thread is seen for the first time: by its parent's event or by its own first stop, whichever comes first. Until the
    /// first of the two is handled neither has gone on.
    fn birth(&mut self, tid: i32) -> Result<(), Halt> {
        if let Some(task) = self.tasks.get_mut(tid)
            && !std::mem::replace(&mut task.born, true)
        {
            if task.process == tid {
                return self.process_begins(tid);
            }
            self.thread_begins(tid);
        }
        Ok(())
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

    /// True when no other thread of its process will go on after this one.
    fn is_last(&self, tid: i32, pid: i32) -> bool {
        !self
            .tasks
            .iter()
            .any(|(other, task)| other != tid && task.process == pid && !task.leaving)
    }

    /// A call that our filter stops for. `data` says which kind it is; other values belong to filters of the target itself.
    fn filtered_call(&mut self, tid: i32, pid: i32, data: u64) -> How {
        match data {
            seccomp::EXIT_GROUP => self.reaches_exit(tid),
            seccomp::EXIT_THREAD => {
                self.thread_ends(tid);
                if self.is_last(tid, pid) {
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

    /// A process has loaded a program, which has not run yet. Others that shared its former memory keep that, breakpoints and
    /// all: its image stays as long as they do.
    fn new_image(&mut self, tid: i32, pid: i32) -> Result<(), Halt> {
        let image = Image {
            process: pid,
            ..Image::default()
        };
        let number = self.images.add(image);
        self.tasks.set_space(pid, Space::Image(number));
        if pid == self.main {
            let left = std::mem::replace(&mut self.main_image, number);
            self.leave_pages(left)?;
        }
        self.images.keep(|image| self.tasks.needs(image));
        self.arm(tid)?;
        self.count_each(tid, |at| *at == At::Exec);
        Ok(())
    }

    /// Children that shared the former memory of the main process keep it: its pages are opened there.
    fn leave_pages(&mut self, image: u64) -> Result<(), Halt> {
        let pages = std::mem::take(&mut self.pages);
        let left = |pid: &i32| self.tasks.space(*pid) == Space::Image(image);
        for pid in self.tasks.processes().into_iter().filter(left).collect::<Vec<_>>() {
            self.stop_processes(&[pid], None)?;
            let held = self.tasks.iter().find_map(|(tid, task)| (task.process == pid).then_some(tid));
            if let Some(tid) = held {
                self.open_left_behind(tid, &pages);
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
        self.signal_arrives(tid, signal);
        if self.shares_main(tid) {
            self.room_for_handler(tid, signal);
        }
        if signal == SIGSEGV && self.waits_for_guard() {
            let fault = ptrace::signal_info(tid).ok().filter(|info| info.code() > 0);
            if fault.is_some_and(|info| watch::is_guard_fault(tid, info.address())) {
                self.count_each(tid, |at| *at == At::Touch(Touched::Guard));
            }
        }
        if signal == SIGCHLD {
            self.child_was_killed(tid);
        }
        if ends_by_default(signal) && self.waits_for_exit(pid) && proc::is_default(tid, signal) {
            self.reaches_exit(tid);
        }
        Ok(How::Continue(signal))
    }

    /// A child that was made so that nobody is told of it may have died of us.
    fn child_was_killed(&mut self, tid: i32) {
        let Some((child, by)) = ptrace::signal_info(tid).ok().and_then(|info| info.killed_child()) else {
            return;
        };
        if self.tasks.was_traced(child) {
            return;
        }
        let cause = if by == SIGTRAP {
            "it may have run into a breakpoint of cargo memcheck, which only a tracer can take; with hardware = true at the checkpoints no \
             code is changed"
        } else if self.exit_filter {
            "calls that end a thread or a process may have been refused to it: the filter that stops before exits answers to a tracer only; \
             without a checkpoint `exit`, at a system call or the like there is none"
        } else {
            return;
        };
        let by = signal_name(by);
        self.remark(format!(
            "process {child} cannot be traced (CLONE_UNTRACED) and was killed by {by}: {cause}"
        ));
    }

    /// A signal of the target's own is about to be delivered to a thread.
    pub(super) fn signal_arrives(&mut self, tid: i32, signal: i32) {
        self.count_each(
            tid,
            |at| matches!(at, At::Signal(name) if signal_number(name) == Some(signal)),
        );
    }

    fn waits_for_exit(&self, pid: i32) -> bool {
        let mut points = self.points.iter().enumerate();
        points.any(|(index, counted)| counted.point.at == At::Exit && !counted.is_done() && self.is_within(index, pid))
    }

    /// True when the trap was one of our breakpoints, and it is dealt with.
    fn trap(&mut self, tid: i32, pid: i32) -> Result<bool, Halt> {
        let code = ptrace::signal_info(tid).map_or(0, |info| info.code());
        if code == watch::TRAP_CODE && self.watches_hit(tid)? {
            return Ok(true);
        }
        if code != arch::TRAP_CODE {
            return Ok(false);
        }
        let Ok(mut registers) = Registers::read(tid) else {
            return Ok(false);
        };
        let address = registers.pc().wrapping_sub(arch::TRAP_OFFSET);
        let (Space::Image(image) | Space::Copy(image)) = self.tasks.space(pid) else {
            return Ok(false);
        };
        let is_copy = self.tasks.space(pid) == Space::Copy(image);
        let breakpoints = self.images.get(image).map(|image| &image.breakpoints);
        let Some((breakpoints, original)) = breakpoints.and_then(|all| Some((all, all.original(address)?))) else {
            return Ok(false);
        };
        let standing = if is_copy {
            // The copy was made while the breakpoint was in place, and has it still.
            if read_code(tid, address).is_ok_and(|code| code == BREAKPOINT) {
                let _ = write_code(tid, address, original);
            }
            None
        } else {
            breakpoints.owners(address)
        };
        let retry = self.tasks.get(tid).and_then(|task| task.retry);
        if let Some(owners) = standing
            && retry != Some(address)
        {
            self.hit(tid, pid, &registers, address, &owners)?;
        }
        if let Some(task) = self.tasks.get_mut(tid) {
            task.retry = None;
        }
        if is_passed(original) {
            if let Some(task) = self.tasks.get_mut(tid) {
                task.registers = Some(registers);
            }
        } else {
            registers.set_pc(address);
            // Fails only for a thread that was killed meanwhile.
            let _ = registers.write(tid);
            let planted = !is_copy && self.image(tid).breakpoints.is_planted(address);
            if let Some(task) = self.tasks.get_mut(tid) {
                task.step_over = planted.then_some(address);
            }
        }
        Ok(true)
    }

    /// A breakpoint was hit. What the loader does concerns the process the memory belongs to, a point the one it is in.
    fn hit(&mut self, tid: i32, pid: i32, registers: &Registers, address: u64, owners: &[Owner]) -> Result<(), Halt> {
        for owner in owners {
            let concerns = match owner {
                Owner::Entry | Owner::StartMain | Owner::Loader => self.image(tid).process == pid,
                Owner::Point(index) | Owner::Return(index) => self.is_within(*index, pid),
            };
            if !concerns {
                continue;
            }
            match owner {
                Owner::Entry => {
                    self.retire(tid, *owner)?;
                    self.arm_libraries(tid, true)?;
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
        let retired = self.image(tid).breakpoints.retire(tid, owner);
        Ok(retired.map_err(|error| Error::tool(format!("could not take a breakpoint out of the target: {error}")))?)
    }
}
