//! Points that no event of the target marks: a time that passes, rest, the end of the commands that drive it. They are looked at
//! when a wait is interrupted, and begin to count when the point before them was left.

use std::time::Duration;

use crate::model::At;

use super::proc;
use super::session::Session;

/// How long everything must have rested.
const REST: Duration = Duration::from_millis(100);

/// What was seen when a target seemed to rest: since when, and how often each thread has gone to sleep so far.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Quiet {
    since: Duration,
    switches: Vec<(i32, u64)>,
}

impl Session {
    /// Counts the points of this kind that are reached now. True when more of them wait, so that time must be looked at.
    pub(super) fn look_at_time(&mut self) -> bool {
        let now = self.clock.ran();
        let mut waits = false;
        for index in 0..self.points.len() {
            let counted = &self.points[index];
            if counted.is_done() || !counted.point.at.is_timed() || !self.was_left(index) {
                continue;
            }
            let at = counted.point.at.clone();
            let since = *self.points[index].since.get_or_insert(now);
            let reached = match at {
                At::After(time) => now.saturating_sub(since) >= time,
                At::StepDone => self.bell.is_silent(),
                _ => self.is_idle(now, since),
            };
            if reached {
                // In a child that is not there yet, the point waits on.
                match self.process_within(index) {
                    Some(process) => self.count(index, process),
                    None => waits = true,
                }
            } else {
                waits = true;
            }
        }
        waits
    }

    /// True when the point before this one was reported and left. Before a series that has no end of its own stands its first
    /// pass.
    fn was_left(&self, index: usize) -> bool {
        let Some(mut before) = index.checked_sub(1) else {
            return true;
        };
        let at = |index: usize| &self.points[index].point.at;
        while before > 0 && !at(before).is_timed() && at(before) == at(before - 1) {
            before -= 1;
        }
        self.points[before].is_done() && self.due.iter().all(|(due, _)| *due != before)
    }

    /// Every thread of the tree sleeps, and none has run for a while: each time one runs and sleeps again is counted by the
    /// kernel (`voluntary_ctxt_switches`, proc_pid_status(5)).
    fn is_idle(&mut self, now: Duration, since: Duration) -> bool {
        let seen: Option<Vec<(i32, u64)>> = self
            .tasks
            .iter()
            .map(|(tid, task)| Some((tid, proc::asleep(task.process, tid)?)))
            .collect();
        let Some(switches) = seen else {
            self.quiet = None;
            return false;
        };
        match &self.quiet {
            Some(quiet) if quiet.switches == switches && quiet.since >= since => now.saturating_sub(quiet.since) >= REST,
            _ => {
                self.quiet = Some(Quiet { since: now, switches });
                false
            }
        }
    }
}
