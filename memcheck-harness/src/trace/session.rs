//! The life of one traced target: the state, the loop that waits and handles one event at a time, and what is counted.
//! What an event means is in `events`, how threads are stopped in `stop`, how it all ends in `end`.

use std::cell::RefCell;
use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::time::Duration;

use crate::error::Error;
use crate::model::{AppliedSetting, At, ChildName, End, FinishedStack, PatchedPage, Thread};
use crate::sys::ptrace;
use crate::sys::wait::{self, Status};

use super::bell::Bell;
use super::calls::Calls;
use super::clock::{Clock, Halt};
use super::family::Family;
use super::image::Images;
use super::output::Output;
use super::pages::Pages;
use super::proc;
use super::settle::Settling;
use super::tasks::{How, State, Task, Tasks};
use super::timed::Quiet;
use super::{Point, Within};

/// How long we sleep when somebody else's child on this thread keeps us from waiting for any of ours.
const NAP: Duration = Duration::from_millis(1);

/// A point and how often it was passed.
#[derive(Clone, Debug)]
pub(super) struct Counted {
    /// Where, and which pass.
    pub(super) point: Point,
    /// Passes so far; none is counted after the one that was asked for.
    pub(super) hits: u64,
    /// When a point of time began to count, in the target's time.
    pub(super) since: Option<Duration>,
    /// The event that made it done.
    pub(super) done_at: Option<u64>,
    /// The child that a point in the only child of a program was seen to mean.
    pub(super) met: Option<ChildName>,
}

impl Counted {
    /// Its pass was reached: nothing waits for it any more.
    pub(super) fn is_done(&self) -> bool {
        self.hits >= self.point.hit && self.point.within != Within::EveryChild
    }
}

/// What a turn of the loop led to.
#[derive(Debug)]
pub(super) enum Turn {
    /// All threads of this process are stopped at the point with this index.
    Paused(usize, i32, Vec<Thread>),
    /// The main process is gone.
    Ended(End),
}

/// See the module.
#[derive(Debug)]
pub(super) struct Session {
    pub(super) main: i32,
    pub(super) tasks: Tasks,
    pub(super) points: Vec<Counted>,
    /// Points whose pass was reached, not yet reported, each with the thread that reached it.
    pub(super) due: VecDeque<(usize, i32)>,
    pub(super) calls: Calls,
    /// Commands that drive the target ring it.
    pub(super) bell: Bell,
    /// The target seemed to rest.
    pub(super) quiet: Option<Quiet>,
    /// The first due point waits for memory to rest.
    pub(super) settling: Option<Settling>,
    pub(super) pages: Pages,
    /// The memories that points are in.
    pub(super) images: Images,
    /// The one of the main process.
    pub(super) main_image: u64,
    /// Names of the processes; without points in children of the main process alone.
    pub(super) family: Family,
    /// Of the process that was stopped last.
    pub(super) leader: RefCell<Option<proc::Leader>>,
    pub(super) clock: Clock,
    pub(super) output: Output,
    pub(super) settings: Vec<AppliedSetting>,
    pub(super) notes: Vec<String>,
    /// What is left is being killed.
    pub(super) finishing: bool,
    /// Children are let go when they are born.
    pub(super) lets_children_go: bool,
    /// The thread that waits for a vfork child which was let go with the memory that both have: until it is back, whatever else
    /// has that memory stands.
    pub(super) lent: Option<i32>,
    /// Vfork children that have not stopped yet, with the threads that wait for them.
    pub(super) makers: BTreeMap<i32, i32>,
    /// How the main process ended.
    pub(super) end: Option<End>,
    /// The target was let go before anybody waits for it, and it may have led to something by then.
    pub(super) is_off: bool,
    pub(super) early: Option<Result<Turn, Halt>>,
    /// The filter for the `exit` point is in force.
    pub(super) exit_filter: bool,
    /// Events handled so far.
    pub(super) events: u64,
    /// Stacks of threads that end are noted.
    pub(super) watches_stacks: bool,
    pub(super) page_bytes: u64,
}

impl Session {
    /// Runs until a point is reached or the target ends.
    pub(super) fn advance(&mut self) -> Result<Turn, Halt> {
        if let Some(early) = self.early.take() {
            return early;
        }
        if !std::mem::take(&mut self.is_off) {
            self.begin()?;
        }
        let turn = self.wait_for_turn();
        self.clock.pause();
        turn
    }

    /// Lets the target go as far as nothing has to be waited for. What that leads to, or how it fails, is told by the next
    /// [`Session::advance`].
    pub(super) fn set_off(&mut self) {
        let turn = self.begin().and_then(|()| self.turn());
        self.early = turn.transpose();
        self.is_off = self.early.is_none();
        if !self.is_off {
            self.clock.pause();
        }
    }

    fn begin(&mut self) -> Result<(), Halt> {
        self.clock.run();
        if self.due.is_empty() {
            self.close_pages()?;
        }
        Ok(())
    }

    fn wait_for_turn(&mut self) -> Result<Turn, Halt> {
        loop {
            if let Some(turn) = self.turn()? {
                return Ok(turn);
            }
            if let Some((tid, status)) = self.wait_any()? {
                self.note(tid, status);
            }
        }
    }

    /// Handles what there is; absent when the next has to be waited for.
    fn turn(&mut self) -> Result<Option<Turn>, Halt> {
        loop {
            self.clock.check()?;
            let mut waits_to_settle = false;
            if let Some(&(point, tid)) = self.due.front() {
                // A process that was killed meanwhile is at no point any more.
                let Some(pid) = self.tasks.get(tid).map(|task| task.process) else {
                    self.due.pop_front();
                    continue;
                };
                waits_to_settle = !self.seems_settled(point, pid);
                if !waits_to_settle {
                    self.stop_all(pid)?;
                    if self.tasks.get(tid).is_none() || self.tasks.loads(pid) {
                        self.has_left(point, pid);
                        continue;
                    }
                    if self.is_settled(pid) {
                        self.due.pop_front();
                        if self.shares_main(tid) {
                            self.open_pages();
                        }
                        return Ok(Some(Turn::Paused(point, pid, self.threads(pid))));
                    }
                }
            }
            if let Some(end) = &self.end
                && !self.awaits_children()
            {
                return Ok(Some(Turn::Ended(end.clone())));
            }
            if let Some((tid, event)) = self.tasks.next_event(|_| true) {
                let handled = self.handle(tid, event);
                self.unless_dying(tid, handled)?;
            } else if let Some(tid) = self.next_step_over() {
                let done = self.step_over(tid).and_then(|()| self.pass_fault(tid));
                self.unless_dying(tid, done)?;
            } else {
                self.resume_settled(|_| true);
                if self.bell.has_failed() {
                    return Err(Error::not_judged("a step failed").into());
                }
                if self.look_at_time() {
                    self.clock.tick_finely();
                }
                if self.due.is_empty() || waits_to_settle {
                    return Ok(None);
                }
            }
        }
    }

    /// Whoever came to the first due point is gone before all had stopped there; in its place there may be another program.
    fn has_left(&mut self, point: usize, pid: i32) {
        self.due.pop_front();
        if let (true, Some(counted)) = (self.tasks.loads(pid), self.points.get(point)) {
            let at = &counted.point.at;
            self.remark(format!(
                "another program was loaded while the target was to be stopped at {at}"
            ));
        }
    }

    /// What fails because a process was killed at that moment is no failure: its end is reported by the next wait.
    fn unless_dying(&self, tid: i32, result: Result<(), Halt>) -> Result<(), Halt> {
        let process = self.tasks.get(tid).map_or(self.main, |task| task.process);
        let alone = || {
            !self
                .tasks
                .iter()
                .any(|(other, task)| task.process == process && other != process)
        };
        match result {
            Err(Halt::Failed(_)) if proc::is_zombie(process) && alone() => Ok(()),
            other => other,
        }
    }

    fn next_step_over(&self) -> Option<i32> {
        let mut settled = self.tasks.settled().into_iter();
        settled.find_map(|(tid, _)| {
            let task = self
                .tasks
                .get(tid)
                .filter(|_| !self.waits_to_settle(tid) && !self.stands_by(tid))?;
            task.step_over.or(task.fault).map(|_| tid)
        })
    }

    /// Lets held threads go whose events are handled. A thread that still has to step over its breakpoint stays, and one at a point
    /// that waits for memory to rest.
    pub(super) fn resume_settled(&mut self, wanted: impl Fn(i32) -> bool) {
        for (tid, how) in self.tasks.settled() {
            let has_to_step = |task: &Task| task.step_over.is_some() || task.fault.is_some();
            if !wanted(tid) || self.waits_to_settle(tid) || self.stands_by(tid) || self.tasks.get(tid).is_none_or(has_to_step) {
                continue;
            }
            // A thread that was killed meanwhile answers ESRCH; its end is reported by the next wait.
            let _ = match how {
                How::Continue(signal) if self.watches_calls(tid) => ptrace::cont_to_call(tid, signal),
                How::Continue(signal) => ptrace::cont(tid, signal),
                How::Call => ptrace::call(tid),
                How::Listen => ptrace::listen(tid),
            };
            self.tasks.run(tid);
        }
    }

    /// Writes down a status: a stop is held and queued, an end forgets the thread.
    pub(super) fn note(&mut self, tid: i32, status: Status) {
        let (Status::Exited(_) | Status::Killed(_)) = status else {
            self.tasks.hold(tid, status);
            return;
        };
        self.forget(tid);
        self.process_ended(tid, status);
        if tid == self.main {
            self.end = Some(match status {
                Status::Exited(code) => End::Exited(code),
                Status::Killed(signal) => End::Signalled(crate::sys::names::signal_name(signal)),
                _ => return,
            });
        }
    }

    /// A thread is gone, or is no longer ours.
    pub(super) fn forget(&mut self, tid: i32) {
        self.tasks.remove(tid);
        self.makers.remove(&tid);
        // The id may be that of another process from now on.
        self.leader.get_mut().take_if(|leader| leader.pid == tid);
        self.forget_call(tid);
        self.pages.forget(tid);
        self.images.forget(tid);
        self.images.keep(|image| self.tasks.needs(image));
    }

    /// The next status of anything we trace; absent when the wait was interrupted. Statuses of other children of this thread are
    /// left alone.
    pub(super) fn wait_any(&mut self) -> Result<Option<(i32, Status)>, Halt> {
        loop {
            self.clock.check()?;
            match self.poll_any(true) {
                Ok(Some(found)) => return Ok(Some(found)),
                Ok(None) => {}
                Err(error) if error.kind() == io::ErrorKind::Interrupted => return Ok(None),
                Err(error) => {
                    return Err(Error::tool(format!("could not wait for the target: {error}")).into());
                }
            }
        }
    }

    /// As `wait_any`, without the clock; `None` when nothing is there yet.
    pub(super) fn poll_any(&mut self, block: bool) -> io::Result<Option<(i32, Status)>> {
        // Also where we know of one thread alone: its end may be held back by one that we do not know, whose maker was killed before it
        // told us of the birth.
        let Some(tid) = wait::peek(block)? else {
            return Ok(None);
        };
        if self.tasks.get(tid).is_none() && self.tasks.is_kin(tid) {
            // A newborn may stop before the event of its parent tells us about it.
            self.tasks.adopt(tid);
        }
        if self.tasks.get(tid).is_some() {
            return Ok(wait::one(tid, false)?.map(|status| (tid, status)));
        }
        // Somebody else's child hides ours from `peek`: ask for each of ours instead.
        let running: Vec<i32> = self
            .tasks
            .iter()
            .filter(|(_, task)| task.state == State::Running)
            .map(|(tid, _)| tid)
            .collect();
        for tid in running {
            if let Ok(Some(status)) = wait::one(tid, false) {
                return Ok(Some((tid, status)));
            }
        }
        if block {
            std::thread::sleep(NAP);
        }
        Ok(None)
    }

    /// A thread passes a point, if that is in its process; the pass that was asked for makes it due.
    pub(super) fn count(&mut self, index: usize, tid: i32) {
        // Whoever comes after another is not reached by the same event.
        let is_next = |before: &Counted| before.done_at.is_some_and(|event| event < self.events);
        let after = self.points.get(index).and_then(|counted| counted.point.after);
        if !after.is_none_or(|before| self.points.get(before).is_some_and(is_next)) {
            return;
        }
        let Some(process) = self.tasks.get(tid).map(|task| task.process) else {
            return;
        };
        if !self.is_within(index, process) {
            return;
        }
        let event = self.events;
        let Some(counted) = self.points.get_mut(index) else {
            return;
        };
        let every = counted.point.within == Within::EveryChild;
        if counted.is_done() || (every && !self.family.ends(process)) {
            return;
        }
        counted.hits += 1;
        if counted.is_done() || every {
            counted.done_at = Some(event);
            self.due.push_back((index, tid));
        }
    }

    /// A thread passes every point of a kind.
    pub(super) fn count_each(&mut self, tid: i32, mut is_it: impl FnMut(&At) -> bool) {
        for index in 0..self.points.len() {
            if is_it(&self.points[index].point.at) {
                self.count(index, tid);
            }
        }
    }

    /// A held thread that has the memory of an image: breakpoints are written through it.
    pub(super) fn held_in(&self, image: u64) -> Option<i32> {
        let held = |state: State| matches!(state, State::Held(..));
        self.tasks
            .iter()
            .find(|(tid, task)| held(task.state) && self.tasks.image_of(*tid) == Some(image))
            .map(|(tid, _)| tid)
    }

    /// Adds a remark once.
    pub(super) fn remark(&mut self, note: String) {
        if !self.notes.contains(&note) {
            self.notes.push(note);
        }
    }

    /// Pages of a process' text that hold or held a breakpoint of its present program.
    pub(super) fn patched(&self, pid: i32) -> Vec<PatchedPage> {
        let pages = self
            .image_of_process(pid)
            .into_iter()
            .flat_map(|image| image.breakpoints.pages());
        pages.map(|address| PatchedPage { address }).collect()
    }

    /// Stacks of threads that ended in a process, by TLS base; absent when nobody watches.
    pub(super) fn finished_stacks(&self, pid: i32) -> Option<Vec<FinishedStack>> {
        let image = self.image_of_process(pid)?;
        self.watches_stacks.then(|| image.finished.values().cloned().collect())
    }
}
