//! Children that are let go when they are born (`children = "detach"`): taken out of the trace with nothing of ours in them, and
//! what is left of them at the end.

use std::time::Instant;

use crate::error::Error;
use crate::model::Name;
use crate::sys::names::SIGKILL;
use crate::sys::{process, ptrace};

use super::clock::Halt;
use super::proc;
use super::session::Session;
use super::tasks::{How, Space, State};

/// A process may make another one while it is looked for.
const LOOKS: u32 = 20;

impl Session {
    /// The event of a thread is handled: a child with a memory of its own goes. One that shares ours does when it is known that its
    /// maker waits for it, or when it loads a program; otherwise, as a thread of another name, it stays.
    pub(super) fn let_child_go(&mut self, tid: i32) -> Result<(), Halt> {
        let Some(process) = self.tasks.get(tid).map(|task| task.process) else {
            return Ok(());
        };
        if process == self.main {
            return Ok(());
        }
        match self.tasks.space(process) {
            Space::Copy(_) | Space::Own => self.release(tid),
            Space::Image(_) => match self.makers.remove(&tid) {
                Some(maker) => self.lend(maker, tid)?,
                None => {
                    if let Some(task) = self.tasks.get_mut(tid) {
                        task.awaits_maker = !task.made;
                    }
                }
            },
            Space::New => {}
        }
        Ok(())
    }

    /// A thread has made another, or a process.
    pub(super) fn has_made(&mut self, maker: i32, child: i32, vfork: bool) -> Result<(), Halt> {
        let Some(task) = self.tasks.get_mut(child) else {
            return Ok(());
        };
        task.made = true;
        if std::mem::take(&mut task.awaits_maker) && vfork {
            return self.lend(maker, child);
        }
        if vfork {
            self.makers.insert(child, maker);
        } else if let Some(task) = self.tasks.get_mut(maker) {
            task.made_last = Some(child);
        }
        Ok(())
    }

    /// Who traces its child at once must not come before we have let it go.
    fn awaits_child(&self, maker: i32) -> bool {
        let is_new = |child: i32| self.tasks.has(child) && self.tasks.space(child) == Space::New;
        self.tasks.get(maker).and_then(|task| task.made_last).is_some_and(is_new)
    }

    /// A vfork child goes, and has the memory that it shares without our breakpoints until its maker has it back: a tracer of its own
    /// would not know them. All others who have that memory stand meanwhile, so that they pass nothing unseen.
    fn lend(&mut self, maker: i32, child: i32) -> Result<(), Halt> {
        let Some(process) = self.tasks.get(child).map(|task| task.process) else {
            return Ok(());
        };
        self.stop_processes(&self.sharing(process), None)?;
        self.open_pages();
        if let Some(image) = self.image_of(child)
            && let Err(error) = image.breakpoints.clean_copy(child)
            && !proc::is_zombie(child)
        {
            return Err(Error::tool(format!("could not take a breakpoint out of the target: {error}")).into());
        }
        self.lent = Some(maker);
        self.release(child);
        Ok(())
    }

    /// A thread has its memory back from its vfork child.
    pub(super) fn has_back(&mut self, maker: i32) -> Result<(), Halt> {
        if self.lent != Some(maker) {
            return Ok(());
        }
        self.lent = None;
        let Some(image) = self.image_of(maker) else { return Ok(()) };
        if let Err(error) = image.breakpoints.put_back(maker)
            && !proc::is_zombie(maker)
        {
            return Err(Error::tool(format!("could not put a breakpoint back into the target: {error}")).into());
        }
        Ok(self.close_pages()?)
    }

    /// True for a thread that stands until the memory that it has, too, is back. A maker that was killed waits for nothing.
    pub(super) fn stands_by(&self, tid: i32) -> bool {
        if self.lets_children_go && self.awaits_child(tid) {
            return true;
        }
        if self.tasks.get(tid).is_some_and(|task| task.awaits_maker) {
            return proc::kin(tid).is_some_and(|kin| self.tasks.has(kin.parent));
        }
        self.is_lent()
            && self.lent != Some(tid)
            && self.lent.and_then(|maker| self.tasks.image_of(maker)) == self.tasks.image_of(tid)
    }

    /// A vfork child that was let go has the memory.
    pub(super) fn is_lent(&self) -> bool {
        self.lent.is_some_and(|maker| self.tasks.image_of(maker).is_some())
    }

    /// Takes a held thread, the only one of its process, out of the trace.
    fn release(&mut self, tid: i32) {
        let signal = match self.tasks.get(tid).map(|task| task.state) {
            Some(State::Held(_, How::Continue(signal))) => signal,
            Some(State::Held(..)) => 0,
            _ => return,
        };
        // ESRCH: it was killed meanwhile, and its end is reported by the next wait.
        if ptrace::detach(tid, signal).is_ok() {
            self.forget(tid);
        }
    }

    /// Processes of the target's session that nobody traces, with their names: what it let go was told by its parent, and is found
    /// by the session that it was born into. Its number is not given to another process as long as one is in it.
    pub(super) fn strays(&self) -> Vec<(i32, Name)> {
        if !self.lets_children_go || self.is_taken() {
            return Vec::new();
        }
        let pids = std::fs::read_dir("/proc").into_iter().flatten().flatten();
        let pids = pids.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
        let strays = pids.filter(|pid| !self.tasks.has(*pid) && self.is_stray(*pid));
        strays.filter_map(|pid| Some((pid, proc::name(pid, pid)?))).collect()
    }

    fn is_stray(&self, pid: i32) -> bool {
        pid != self.main && proc::kin(pid).is_some_and(|kin| kin.session == self.main) && proc::is_alive(pid)
    }

    /// The main process was collected, and its number is that of another one by now.
    fn is_taken(&self) -> bool {
        self.end.is_some() && proc::kin(self.main).is_some()
    }

    /// Kills them.
    pub(super) fn kill_strays(&mut self, give_up: Instant) {
        for _ in 0..LOOKS {
            let strays = self.strays();
            if strays.is_empty() || Instant::now() > give_up {
                break;
            }
            for (pid, name) in strays {
                let Ok(held) = process::hold(pid) else { continue };
                // Looked at again now that the id cannot be given to another process.
                if !self.is_stray(pid) {
                    continue;
                }
                let left = give_up.saturating_duration_since(Instant::now()).as_millis();
                let killed = held
                    .kill(SIGKILL)
                    .is_ok_and(|()| held.ends_within(i32::try_from(left).unwrap_or(i32::MAX)));
                if !killed {
                    self.remark(format!("process {pid} ({name}) could not be killed"));
                }
            }
        }
    }
}
