//! The end of a session: every process that is left is killed and collected, the output is read to its end, and what
//! happened is put together.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::time::{Duration, Instant};

use crate::model::End;
use crate::sys::names::SIGKILL;
use crate::sys::wait::{self, Event, Status};
use crate::sys::{process, ptrace};

use super::proc;
use super::session::Session;
use super::tasks::{How, Task};
use super::{Ended, Unseen};

/// How long we wait for killed processes; only one that hangs in the kernel takes as long.
const PATIENCE: Duration = Duration::from_secs(10);

/// So much of a heap is searched for output that was not written: buffers are made early, and lie low.
const HEAP_BYTES: usize = 4 << 20;

/// How often, and how far apart, we look for a child whose parent died before it could tell us of the birth.
const LOOKS: u32 = 5;
const LOOK_NAP: Duration = Duration::from_millis(1);

impl Session {
    /// Ends everything.
    pub(super) fn finish(&mut self, end: End) -> Ended {
        for pid in self.tasks.processes() {
            if pid != self.main
                && !proc::is_zombie(pid)
                && let Some(name) = proc::name(pid, pid)
            {
                self.remark(format!("a child process ({pid}, {name}) was still running: killed"));
            }
        }
        for (pid, name) in self.strays() {
            self.remark(format!("a child process ({pid}, {name}) was still running: killed"));
        }
        let unseen = self.unseen_lines();
        if self.end.is_none() {
            self.output.hold();
        }
        self.kill_tree();
        let drained = self.output.finish();
        if let Some(remark) = drained.remark() {
            self.remark(remark);
        }
        Ended {
            end,
            output: drained.tail,
            hits: self.points.iter().map(|counted| counted.hits).collect(),
            unseen,
            unsettled: self.unsettled(),
            notes: std::mem::take(&mut self.notes),
            settings: std::mem::take(&mut self.settings),
            children: self.family.seen(),
        }
    }

    /// Why points still wait for a line. What a program has not written yet is in its memory, as long as it is there.
    fn unseen_lines(&self) -> BTreeMap<usize, Unseen> {
        let open = |index: &usize| self.points.get(*index).is_some_and(|counted| !counted.is_done());
        let waiting: Vec<usize> = self.calls.lines.points().filter(open).collect();
        let heap = match self.end {
            None if !waiting.is_empty() => proc::heap(self.main, HEAP_BYTES),
            _ => Vec::new(),
        };
        let why = |index| {
            if self.calls.lines.begins(index) {
                Some((index, Unseen::Unfinished))
            } else {
                self.calls.lines.holds(index, &heap).then_some((index, Unseen::Buffered))
            }
        };
        waiting.into_iter().filter_map(why).collect()
    }

    /// Kills and collects every process of the tree.
    pub(super) fn kill_tree(&mut self) {
        self.finishing = true;
        if self.end.is_none() {
            // The group is the main process' own (setsid at launch): this reaches members that are not traced. The id is
            // still taken as the main process has not been collected.
            let _ = process::kill(-self.main, SIGKILL);
        }
        self.clock.run();
        let give_up = Instant::now() + PATIENCE;
        self.reap(give_up);
        for _ in 0..LOOKS {
            match wait::peek(false) {
                Err(error) if error.kind() != io::ErrorKind::Interrupted => break,
                Ok(Some(tid)) if self.tasks.is_kin(tid) => {
                    self.tasks.adopt(tid);
                    self.reap(give_up);
                }
                _ => std::thread::sleep(LOOK_NAP),
            }
        }
        self.kill_strays(give_up);
        self.clock.pause();
        for pid in self.tasks.processes() {
            // What was collected behind our back is dead, not hanging.
            let is_left = |(tid, task): (i32, &Task)| task.process == pid && wait::is_ours(tid);
            if !self.tasks.iter().any(is_left) {
                continue;
            }
            self.remark(format!("process {pid} could not be killed: it hangs in the kernel"));
        }
    }

    fn reap(&mut self, give_up: Instant) {
        let mut killed = BTreeSet::new();
        while self.tasks.len() > 0 && Instant::now() < give_up {
            for pid in self.tasks.processes() {
                // The id of a process that is gone may be a stranger's by now.
                if killed.insert(pid) && wait::is_ours(pid) {
                    let _ = process::kill(pid, SIGKILL);
                }
            }
            match self.poll_any(true) {
                Ok(Some((tid, status))) => self.note(tid, status),
                Err(error) if error.kind() != io::ErrorKind::Interrupted => break,
                _ => {}
            }
            while let Some((tid, event)) = self.tasks.next_event(|_| true) {
                if let Status::Event(Event::Clone | Event::Vfork) = event
                    && let Ok(child @ 1..) = i32::try_from(ptrace::event_message(tid).unwrap_or(0))
                {
                    self.tasks.adopt(child);
                }
                if event == Status::Event(Event::Exec) {
                    self.tasks.keep_only(tid);
                }
                self.tasks.settle(tid, How::Continue(0));
            }
            for (tid, _) in self.tasks.settled() {
                let _ = ptrace::cont(tid, 0);
                self.tasks.run(tid);
            }
        }
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        if self.tasks.len() > 0 {
            self.kill_tree();
        }
    }
}
