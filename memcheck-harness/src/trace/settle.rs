//! Points that are reached only when the memory of the target rests (`settle`): the threads that came to a point stand there,
//! all others run on, and the figures of memory are looked at until they have not changed for as long as was asked for.

use std::time::Duration;

use super::figures::{self, Figures};
use super::session::Session;

/// How far apart two looks are at least. Each costs the kernel a walk through the page tables, which the target may have to wait for:
/// between two looks lies as many times what one takes.
const SHORTEST_GAP: Duration = Duration::from_millis(10);
const GAP_PER_LOOK: u32 = 3;

/// One point that is waited for. Times are the target's own.
#[derive(Debug)]
pub(super) struct Settling {
    point: usize,
    /// What was seen last; absent before the first look.
    seen: Option<Figures>,
    /// Since when it has been seen so.
    since: Duration,
    /// What was seen before that.
    before: Option<Figures>,
    /// When to look again.
    next: Duration,
}

/// A point that was reached, and memory that did not rest there before all ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unsettled {
    /// Index of the point.
    pub point: usize,
    /// The last change that was seen: before and after. Absent when none was.
    pub change: Option<(Totals, Totals)>,
}

/// What the memory of a target comes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Totals {
    /// Its mappings.
    pub mappings: usize,
    /// Their size in bytes.
    pub reserved: u64,
    /// Bytes of anonymous memory in them.
    pub anon: u64,
    /// Its threads.
    pub threads: usize,
}

impl Settling {
    fn new(point: usize) -> Self {
        Self {
            point,
            seen: None,
            since: Duration::ZERO,
            before: None,
            next: Duration::ZERO,
        }
    }

    /// Notes what is seen at a time. True when it was so at every look for as long as `window`.
    fn look(&mut self, figures: Figures, now: Duration, window: Duration) -> bool {
        if self.seen.as_ref() == Some(&figures) {
            return now.saturating_sub(self.since) >= window;
        }
        self.before = self.seen.replace(figures);
        self.since = now;
        false
    }

    /// True when the stopped target is what was seen last. Nothing was seen where nothing could run; figures that cannot be read say
    /// nothing of rest.
    fn is_as_seen(&mut self, figures: Option<Figures>, now: Duration) -> bool {
        match (figures, &self.seen) {
            (_, None) => true,
            (Some(figures), Some(_)) => self.look(figures, now, Duration::ZERO),
            (None, Some(_)) => false,
        }
    }
}

impl Session {
    /// True when a due point may be reported, as far as can be told while threads run: it asks for no rest, or nothing has
    /// changed for as long as it asks for, or nothing runs that could change anything.
    pub(super) fn seems_settled(&mut self, point: usize, pid: i32) -> bool {
        let Some(window) = self.points.get(point).and_then(|counted| counted.point.settle) else {
            return true;
        };
        let now = self.clock.ran();
        let mut settling = match self.settling.take() {
            Some(settling) if settling.point == point => settling,
            _ => Settling::new(point),
        };
        self.clock.tick_finely();
        let settled = self.all_wait(pid) || (now >= settling.next && self.look(&mut settling, pid, now, window));
        self.settling = Some(settling);
        settled
    }

    fn look(&self, settling: &mut Settling, pid: i32, now: Duration, window: Duration) -> bool {
        let Some(figures) = self.figures(pid) else {
            return false;
        };
        let took = self.clock.ran().saturating_sub(now);
        settling.next = now + SHORTEST_GAP.max(took * GAP_PER_LOOK);
        settling.look(figures, now, window)
    }

    /// Looks again at a target that was stopped as it seemed to rest: what ran between the last look and the stop counts too.
    pub(super) fn is_settled(&mut self, pid: i32) -> bool {
        let Some(mut settling) = self.settling.take() else {
            return true;
        };
        let now = self.clock.ran();
        let as_seen = settling.is_as_seen(self.figures(pid), now);
        if !as_seen {
            self.settling = Some(settling);
        }
        as_seen
    }

    /// A thread came to a point and is to stay there until memory rests.
    pub(super) fn waits_to_settle(&self, tid: i32) -> bool {
        self.settling.is_some() && self.stands(tid)
    }

    /// Threads at points that come later stand as well: they are not to run past them. A point of time holds nobody.
    fn stands(&self, tid: i32) -> bool {
        self.due
            .iter()
            .any(|&(point, at)| at == tid && self.points.get(point).is_some_and(|counted| !counted.point.at.is_timed()))
    }

    fn all_wait(&self, pid: i32) -> bool {
        let processes = self.sharing(pid);
        let mut sharing = self
            .tasks
            .iter()
            .filter(|(_, task)| !task.leaving && processes.contains(&task.process));
        sharing.all(|(tid, _)| self.stands(tid))
    }

    fn figures(&self, pid: i32) -> Option<Figures> {
        let mut of_process = self.tasks.iter().filter(|(_, task)| task.process == pid && !task.leaving);
        figures::read(pid, of_process.next()?.0)
    }

    /// What is waited for in vain.
    pub(super) fn unsettled(&self) -> Option<Box<Unsettled>> {
        let settling = self.settling.as_ref()?;
        let totals = |figures: &Option<Figures>| figures.as_ref().map(Figures::totals);
        Some(Box::new(Unsettled {
            point: settling.point,
            change: totals(&settling.before).zip(totals(&settling.seen)),
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn figures(anon: u64) -> Figures {
        figures::parse(
            format!("1000-3000 rw-p 00000000 00:00 0 \nAnonymous: {anon} kB\n").as_bytes(),
            1,
        )
    }

    #[test]
    fn what_changes_within_the_window_begins_it_again() {
        let at = Duration::from_millis;
        let mut settling = Settling::new(0);
        let mut look = |anon, now| settling.look(figures(anon), at(now), at(100));
        assert!(!look(4, 0));
        assert!(!look(4, 99));
        assert!(!look(8, 100));
        assert!(!look(8, 199));
        assert!(look(8, 200));
        assert!(settling.is_as_seen(Some(figures(8)), at(210)));
        assert!(!settling.is_as_seen(None, at(210)), "unknown");
        assert!(Settling::new(0).is_as_seen(None, at(0)), "nothing ran");
        let totals = |figures: &Option<Figures>| figures.as_ref().map(|figures| figures.totals().anon);
        assert_eq!((totals(&settling.before), totals(&settling.seen)), (Some(4096), Some(8192)));
    }
}
