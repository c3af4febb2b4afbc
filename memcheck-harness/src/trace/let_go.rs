//! Letting a target go after its last checkpoint: everything of ours is taken out, every thread is detached, and the end is
//! awaited as any parent does. Sanitizers and programs that trace themselves work from then on.

use std::io;

use crate::error::Error;
use crate::model::End;
use crate::sys::names::{SIGKILL, SIGTRAP, signal_name};
use crate::sys::wait::{self, Status};
use crate::sys::{process, ptrace};

use super::clock::Halt;
use super::proc;
use super::session::Session;
use super::tasks::How;

impl Session {
    /// See the module. Instead of the kernel's promise to kill tracees with us, the target has asked to be killed when our
    /// thread ends, and its process group is killed when it has ended; what left that group lives on.
    pub(super) fn let_go(&mut self) -> Result<End, Halt> {
        if self.exit_filter {
            // The filter stays, and answers ENOSYS where nobody traces (seccomp(2), SECCOMP_RET_TRACE).
            let error = Error::config("the target cannot be let go: a filter of ours is in it, and would refuse its calls later");
            return Err(error
                .detail("detach = true goes with probes, functions, lines and variables; not with exit, syscall, output, thread")
                .into());
        }
        self.clock.run();
        let end = self.untraced();
        if end.is_err() && self.end.is_none() {
            // Still there: traced, or our child that was not collected yet.
            let _ = process::kill(-self.main, SIGKILL);
            if self.tasks.len() == 0 {
                let _ = self.collect();
            }
        }
        self.clock.pause();
        end
    }

    fn untraced(&mut self) -> Result<End, Halt> {
        let all = self.tasks.processes();
        self.stop_processes(&all, None)?;
        while let Some((tid, event)) = self.tasks.next_event(|_| true) {
            self.handle(tid, event)?;
        }
        if let Some(end) = &self.end {
            return Ok(end.clone());
        }
        self.open_pages();
        for image in self.images.numbers() {
            if let Some(tid) = self.held_in(image) {
                let removed = self.image(tid).breakpoints.remove_all(tid);
                removed.map_err(|error| Error::tool(format!("could not take a breakpoint out of the target: {error}")))?;
            }
        }
        for (tid, how) in self.tasks.settled() {
            self.unwatch_thread(tid);
            let signal = match how {
                How::Continue(signal) => signal,
                How::Call | How::Listen => 0,
            };
            // ESRCH: it was killed meanwhile.
            let _ = ptrace::detach(tid, signal);
            self.tasks.remove(tid);
        }
        if self.tasks.len() > 0 {
            self.remark("a thread waits in the kernel for its vfork child and could not be let go".to_owned());
        }
        let others: Vec<i32> = self.tasks.iter().map(|(tid, _)| tid).collect();
        for tid in others {
            self.tasks.remove(tid);
        }
        while !self.has_ended()? {}
        // The id of the group is taken as long as its leader is not collected.
        let _ = process::kill(-self.main, SIGKILL);
        self.collect()
    }

    fn has_ended(&self) -> Result<bool, Halt> {
        self.clock.check()?;
        if self.bell.has_failed() {
            return Err(Error::not_judged("a step failed").into());
        }
        match wait::has_ended(self.main) {
            Ok(true) => Ok(true),
            Ok(false) => {
                self.decline();
                Ok(false)
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {
                self.decline_threads();
                Ok(false)
            }
            Err(error) => Err(Error::tool(format!("could not wait for the target: {error}")).into()),
        }
    }

    /// The same of threads beside the first: a process has ended when the ends of all its threads are collected.
    fn decline_threads(&self) {
        // Mostly there is nothing, and there may be thousands.
        if !wait::peek(false).is_ok_and(|waits| waits.is_some_and(|tid| tid != self.main)) {
            return;
        }
        for tid in proc::threads(self.main).into_iter().filter(|tid| *tid != self.main) {
            if let Ok(Some(signal)) = wait::stopped(tid) {
                let _ = ptrace::detach(tid, signal);
            }
            wait::collect_ended(tid);
        }
    }

    /// The target has asked its parent to trace it. That is us, and nobody who would let it go on: it goes once more, with the signal
    /// that it has stopped for. The trap behind an `exec` (ptrace(2), `PTRACE_TRACEME`) is none that it would get untraced.
    fn decline(&self) {
        /// `SI_USER` (sigaction(2)).
        const BY_KILL: i32 = 0;
        if let Ok(Some(signal)) = wait::stopped(self.main) {
            let is_exec = signal == SIGTRAP && ptrace::signal_info(self.main).is_ok_and(|info| info.code() == BY_KILL);
            // ESRCH: it was killed meanwhile.
            let _ = ptrace::detach(self.main, if is_exec { 0 } else { signal });
        }
    }

    fn collect(&mut self) -> Result<End, Halt> {
        loop {
            let end = match wait::one(self.main, true) {
                Ok(Some(Status::Exited(code))) => End::Exited(code),
                Ok(Some(Status::Killed(signal))) => End::Signalled(signal_name(signal)),
                Ok(_) => continue,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {
                    self.decline_threads();
                    continue;
                }
                Err(error) => return Err(Error::tool(format!("could not wait for the target: {error}")).into()),
            };
            self.end = Some(end.clone());
            return Ok(end);
        }
    }
}
