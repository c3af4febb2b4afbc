//! All processes of the target's tree, stopped at once.

use std::fs;

use crate::error::{Error, Result};
use crate::model::PatchedPage;
use crate::sys::wait::{Event, Status};
use crate::sys::{process, ptrace};

use super::clock::Halt;
use super::session::Session;
use super::tasks::{Space, State};
use super::{Stopped, proc};

/// One memory of the tree, whose processes stand still.
#[derive(Clone, Debug)]
pub struct TreeMember {
    /// A process that has it.
    pub pid: i32,
    /// A live thread of that process.
    pub tid: i32,
    /// How many processes have it: more than one after vfork, or clone with `CLONE_VM`.
    pub processes: u64,
    /// Pages of its text that hold or held a breakpoint of ours.
    pub patched: Vec<PatchedPage>,
    /// Those whose memories fork has copied from one program have one number: they alone can share such a page.
    pub family: u64,
    /// This machine does not tell whether it is the memory of another member too (no `kcmp`).
    pub is_doubtful: bool,
}

impl Stopped {
    /// No process of the tree has made another one so far: no page is left to several.
    #[must_use]
    pub fn is_alone(&self) -> bool {
        self.session.tasks.is_alone()
    }

    /// Stops every other process of the tree too, until [`Stopped::resume`]. Gives each memory once, by process id; processes that
    /// have ended have none. `None`: one of the tree is not traced and runs on, which a remark says.
    ///
    /// # Errors
    /// Cancelled; the time limit is over before all of them stand.
    pub fn stop_tree(&mut self) -> Result<Option<Vec<TreeMember>>> {
        self.session.clock.run();
        let stopped = self.session.stop_tree();
        self.session.clock.pause();
        match stopped {
            Ok(()) => Ok(self.session.is_whole().then(|| self.session.members())),
            Err(Halt::Failed(error)) => Err(error),
            Err(Halt::Cancelled(signal)) => Err(Error::interrupted(signal)),
            Err(Halt::TimedOut) => Err(Error::not_judged(
                "the time limit was over before all processes of the tree had stopped",
            )),
        }
    }
}

impl Session {
    /// Only a running thread makes a process: when all known ones stand, and the events of those that made another are looked
    /// at, nothing of the tree runs.
    fn stop_tree(&mut self) -> std::result::Result<(), Halt> {
        loop {
            let known = self.tasks.processes();
            self.stop_processes(&known, None)?;
            let births: Vec<i32> = self
                .tasks
                .iter()
                .filter(|(_, task)| matches!(task.state, State::Held(Some(Status::Event(Event::Clone | Event::Vfork)), _)))
                .map(|(tid, _)| tid)
                .collect();
            for tid in births {
                // The event itself stays to be handled.
                if let Ok(child @ 1..) = i32::try_from(ptrace::event_message(tid).unwrap_or(0)) {
                    self.tasks.adopt(child);
                }
            }
            if self.tasks.processes() == known {
                return Ok(());
            }
        }
    }

    /// No live process of the tree is unknown; a remark names one that is. None is made meanwhile by those that stand.
    fn is_whole(&mut self) -> bool {
        let pids = fs::read_dir("/proc").into_iter().flatten().flatten();
        let mut pids = pids.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
        let unknown = pids.find(|pid| !self.tasks.has(*pid) && self.tasks.is_kin(*pid) && proc::is_alive(*pid));
        if let Some(pid) = unknown {
            self.remark(format!(
                "process {pid} of the target's tree is not traced (CLONE_UNTRACED) and ran on: tree.* is not known"
            ));
        }
        unknown.is_none()
    }

    fn members(&self) -> Vec<TreeMember> {
        let mut members: Vec<TreeMember> = Vec::new();
        for pid in self.tasks.processes() {
            let mut threads = self.tasks.iter().filter(|(_, task)| task.process == pid);
            let Some((tid, _)) = threads.find(|(tid, _)| !proc::is_zombie(*tid)) else {
                continue;
            };
            let mut is_doubtful = false;
            let known = members
                .iter_mut()
                .find(|member| match self.same_memory(member.pid, pid, (member.tid, tid)) {
                    Some(same) => same,
                    None => {
                        is_doubtful = true;
                        false
                    }
                });
            match known {
                Some(member) => member.processes += 1,
                None => members.push(TreeMember {
                    pid,
                    tid,
                    processes: 1,
                    patched: self.patched(pid),
                    family: self.image_of_process(pid).map_or(0, |image| image.family),
                    is_doubtful,
                }),
            }
        }
        members
    }

    fn same_memory(&self, one: i32, other: i32, threads: (i32, i32)) -> Option<bool> {
        match (self.tasks.space(one), self.tasks.space(other)) {
            (Space::Image(one), Space::Image(other)) => Some(one == other),
            _ => process::same_memory(threads.0, threads.1),
        }
    }
}
