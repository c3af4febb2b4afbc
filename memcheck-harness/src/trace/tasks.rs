//! The table of everything we trace: threads (which run or are held at a stop) and the processes they belong to.
//! Bookkeeping only; it makes no ptrace request and no decision.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};

use crate::sys::wait::{self, Event, Status};

use super::arch::Registers;
use super::proc;

/// How a held thread goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum How {
    /// Run, receiving this signal (0: none).
    Continue(i32),
    /// Run, and stop at the end of the system call that it is about to make.
    Call,
    /// Stay in its group-stop until `SIGCONT`.
    Listen,
}

/// Whether a thread runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    /// It runs, or listens in a group-stop.
    Running,
    /// It is in a ptrace-stop, with an event that was not handled yet, and goes on like this.
    Held(Option<Status>, How),
}

/// A traced thread.
#[derive(Clone, Copy, Debug)]
pub(super) struct Task {
    /// Its process (thread group).
    pub(super) process: i32,
    /// Running or held.
    pub(super) state: State,
    /// It stands on this breakpoint, its hit is counted, and the original instruction is still to be run.
    pub(super) step_over: Option<u64>,
    /// It faulted at this address, on a page that we protect: its instruction is still to be run.
    pub(super) fault: Option<u64>,
    /// The instruction at this address faulted when it was run: the next hit there is no new one.
    pub(super) retry: Option<u64>,
    /// It waits in the kernel for its vfork child and cannot stop before that has gone on.
    pub(super) in_vfork: bool,
    /// It is about to end or has ended, and its registers are lost.
    pub(super) leaving: bool,
    /// Its registers, where they were read since it stopped and stay so; forgotten when it runs.
    pub(super) registers: Option<Registers>,
    /// Its birth was noticed and counted.
    pub(super) born: bool,
    /// The event of the thread that made it is handled.
    pub(super) made: bool,
    /// It stays held until that is so: only then it is known why both have one memory.
    pub(super) awaits_maker: bool,
    /// The last process or thread that it made, otherwise than by vfork; noted where children are let go.
    pub(super) made_last: Option<i32>,
}

/// Whose memory a process has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Space {
    /// Not found out yet: it has not stopped since its birth.
    New,
    /// The memory of this image: of the process it belongs to, and of children that share it (vfork).
    Image(u64),
    /// A copy of that memory that fork made, with our breakpoints taken out.
    Copy(u64),
    /// A program of its own.
    Own,
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Tasks {
    tasks: BTreeMap<i32, Task>,
    spaces: BTreeMap<i32, Space>,
    /// Threads of each process.
    threads: BTreeMap<i32, usize>,
    /// Held threads.
    held: BTreeSet<i32>,
    /// Held threads with an unhandled event, in the order of arrival; and where each stands there.
    queue: BTreeMap<u64, i32>,
    queued: BTreeMap<i32, u64>,
    /// Arrivals so far.
    arrivals: u64,
    /// Every process that was ever traced: marks its descendants as ours even when it is gone.
    ever: BTreeSet<i32>,
}

impl Tasks {
    /// Adds a running thread, found to belong to `process`.
    pub(super) fn add(&mut self, tid: i32, process: i32) {
        self.ever.insert(process);
        self.spaces.entry(process).or_insert(Space::New);
        if let Entry::Vacant(place) = self.tasks.entry(tid) {
            place.insert(Task {
                process,
                state: State::Running,
                step_over: None,
                fault: None,
                retry: None,
                in_vfork: false,
                leaving: false,
                born: false,
                made: false,
                registers: None,
                awaits_maker: false,
                made_last: None,
            });
            *self.threads.entry(process).or_default() += 1;
        }
    }

    /// Adds a thread that an event names, unless it is known; finds out its process.
    ///
    /// A short-lived thread may be collected before its parent's event is handled: it must not come back. A newborn is our
    /// tracee from before that event until its end is collected, so asking the kernel loses none.
    pub(super) fn adopt(&mut self, tid: i32) {
        if self.tasks.contains_key(&tid) {
            return;
        }
        // In this order: a thread that vanishes in between (into another id, by exec) is not ours any more.
        let process = proc::process_of(tid);
        if wait::is_ours(tid) {
            self.add(tid, process.unwrap_or(tid));
        }
    }

    /// A process that is or was traced.
    pub(super) fn was_traced(&self, pid: i32) -> bool {
        self.ever.contains(&pid)
    }

    /// There has been one process only.
    pub(super) fn is_alone(&self) -> bool {
        self.ever.len() == 1
    }

    /// True when an unknown thread descends from what we trace. The number of a process that is gone is nobody's as long as it is that
    /// of a session or group; otherwise a stranger may have it.
    pub(super) fn is_kin(&self, tid: i32) -> bool {
        let was_ours = |number| self.has(number) || (self.ever.contains(&number) && !proc::is_alive(number));
        proc::process_of(tid).is_some_and(|process| self.has(process))
            || proc::kin(tid).is_some_and(|kin| self.has(kin.parent) || was_ours(kin.session) || was_ours(kin.group))
    }

    pub(super) fn get(&self, tid: i32) -> Option<&Task> {
        self.tasks.get(&tid)
    }

    pub(super) fn get_mut(&mut self, tid: i32) -> Option<&mut Task> {
        self.tasks.get_mut(&tid)
    }

    /// Threads with their ids.
    pub(super) fn iter(&self) -> impl Iterator<Item = (i32, &Task)> {
        self.tasks.iter().map(|(tid, task)| (*tid, task))
    }

    pub(super) fn len(&self) -> usize {
        self.tasks.len()
    }

    /// Processes with at least one thread.
    pub(super) fn processes(&self) -> Vec<i32> {
        self.spaces.keys().copied().collect()
    }

    pub(super) fn space(&self, process: i32) -> Space {
        self.spaces.get(&process).copied().unwrap_or(Space::New)
    }

    pub(super) fn set_space(&mut self, process: i32, space: Space) {
        self.spaces.insert(process, space);
    }

    /// The image whose memory the thread's process has.
    pub(super) fn image_of(&self, tid: i32) -> Option<u64> {
        match self.space(self.tasks.get(&tid)?.process) {
            Space::Image(image) => Some(image),
            _ => None,
        }
    }

    /// True when a process has the memory of the image, or a copy of it.
    pub(super) fn needs(&self, image: u64) -> bool {
        self.spaces
            .values()
            .any(|space| matches!(space, Space::Image(one) | Space::Copy(one) if *one == image))
    }

    /// How many threads of a process there are.
    pub(super) fn count(&self, process: i32) -> usize {
        self.threads.get(&process).copied().unwrap_or(0)
    }

    /// True when a thread of the process is traced.
    pub(super) fn has(&self, process: i32) -> bool {
        self.spaces.contains_key(&process)
    }

    /// True when a process stands before the first instruction of another program, which was not looked at yet.
    pub(super) fn loads(&self, process: i32) -> bool {
        let exec = Some(Status::Event(Event::Exec));
        let is_exec = |task: &Task| matches!(task.state, State::Held(event, _) if event == exec);
        self.tasks.values().any(|task| task.process == process && is_exec(task))
    }

    /// Notes a stop.
    pub(super) fn hold(&mut self, tid: i32, event: Status) {
        if let Some(task) = self.tasks.get_mut(&tid) {
            task.state = State::Held(Some(event), How::Continue(0));
            task.registers = None;
            self.held.insert(tid);
            if let Entry::Vacant(place) = self.queued.entry(tid) {
                self.arrivals += 1;
                place.insert(self.arrivals);
                self.queue.insert(self.arrivals, tid);
            }
        }
    }

    /// The event of a held thread is handled: it goes on like this once it is released.
    pub(super) fn settle(&mut self, tid: i32, how: How) {
        if let Some(task) = self.tasks.get_mut(&tid) {
            task.state = State::Held(None, how);
        }
    }

    /// The next unhandled event of a thread that `wanted` accepts, taken from the queue.
    pub(super) fn next_event(&mut self, wanted: impl Fn(&Task) -> bool) -> Option<(i32, Status)> {
        let tid = *self.queue.values().find(|tid| self.tasks.get(tid).is_some_and(&wanted))?;
        self.next_event_of(tid)
    }

    /// The unhandled event of one held thread, taken from the queue.
    pub(super) fn next_event_of(&mut self, tid: i32) -> Option<(i32, Status)> {
        let at = self.queued.remove(&tid)?;
        self.queue.remove(&at);
        match self.tasks.get(&tid)?.state {
            State::Held(Some(event), how) => {
                self.settle(tid, how);
                Some((tid, event))
            }
            _ => None,
        }
    }

    /// Held threads without an unhandled event.
    pub(super) fn settled(&self) -> Vec<(i32, How)> {
        let how = |tid: &i32| match self.tasks.get(tid)?.state {
            State::Held(None, how) => Some((*tid, how)),
            _ => None,
        };
        self.held.iter().filter_map(how).collect()
    }

    /// Notes that a held thread runs again.
    pub(super) fn run(&mut self, tid: i32) {
        self.held.remove(&tid);
        if let Some(task) = self.tasks.get_mut(&tid) {
            task.state = State::Running;
            task.registers = None;
        }
    }

    /// Forgets a thread that is gone, and its process with its last thread.
    pub(super) fn remove(&mut self, tid: i32) {
        self.held.remove(&tid);
        if let Some(at) = self.queued.remove(&tid) {
            self.queue.remove(&at);
        }
        let Some(task) = self.tasks.remove(&tid) else { return };
        if let Some(count) = self.threads.get_mut(&task.process) {
            *count -= 1;
            if *count == 0 {
                self.threads.remove(&task.process);
                self.spaces.remove(&task.process);
            }
        }
    }

    /// Forgets the other threads of a process that has loaded a new program.
    pub(super) fn keep_only(&mut self, tid: i32) {
        let Some(process) = self.tasks.get(&tid).map(|task| task.process) else {
            return;
        };
        let others: Vec<i32> = self
            .iter()
            .filter_map(|(other, task)| (other != tid && task.process == process).then_some(other))
            .collect();
        for other in others {
            self.remove(other);
        }
        if let Some(task) = self.tasks.get_mut(&tid) {
            task.step_over = None;
            task.fault = None;
            task.retry = None;
            task.in_vfork = false;
            task.leaving = false;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table() -> Tasks {
        let mut tasks = Tasks::default();
        tasks.add(1, 1);
        tasks.add(2, 1);
        tasks.add(9, 9);
        tasks
    }

    #[test]
    fn events_come_back_in_order_of_arrival_and_once() {
        let mut tasks = table();
        tasks.hold(2, Status::Signal(34));
        tasks.hold(1, Status::Group);
        assert!(tasks.settled().is_empty());
        assert_eq!(tasks.next_event(|task| task.process == 9), None);
        assert_eq!(tasks.next_event(|_| true), Some((2, Status::Signal(34))));
        assert_eq!(tasks.next_event(|_| true), Some((1, Status::Group)));
        assert_eq!(tasks.next_event(|_| true), None);
        tasks.settle(1, How::Listen);
        assert_eq!(tasks.settled(), [(1, How::Listen), (2, How::Continue(0))]);
        tasks.run(1);
        assert_eq!(tasks.settled(), [(2, How::Continue(0))]);
    }

    #[test]
    fn a_process_goes_with_its_last_thread() {
        let mut tasks = table();
        tasks.remove(1);
        assert_eq!(tasks.processes(), [1, 9]);
        tasks.remove(2);
        assert_eq!(tasks.processes(), [9]);
    }

    #[test]
    fn only_what_the_kernel_holds_for_us_is_adopted() {
        let mut tasks = table();
        // Ourselves, and an id beyond the highest that Linux gives.
        for stranger in [std::process::id().cast_signed(), 1 << 30] {
            tasks.adopt(stranger);
            assert!(tasks.get(stranger).is_none(), "{stranger}");
        }
        assert_eq!(tasks.processes(), [1, 9]);
    }

    /// Of a process that is gone the number may be given to a stranger, and to another child of this thread.
    #[test]
    fn who_has_the_number_of_one_that_is_gone_is_no_kin() {
        #[expect(clippy::disallowed_methods, reason = "a stranger")]
        let mut stranger = std::process::Command::new("sleep").arg("60").spawn().unwrap();
        let pid = stranger.id().cast_signed();
        let mut tasks = Tasks::default();
        tasks.add(pid, pid);
        assert!(tasks.is_kin(pid));
        tasks.remove(pid);
        let was_kin = tasks.is_kin(pid);
        // Of its own children the number is the parent's.
        let ours = std::process::id().cast_signed();
        tasks.add(ours, ours);
        let is_kin = tasks.is_kin(pid);
        tasks.remove(ours);
        let is_kin_still = tasks.is_kin(pid);
        stranger.kill().unwrap();
        stranger.wait().unwrap();
        assert!(!was_kin && is_kin && !is_kin_still, "{was_kin} {is_kin} {is_kin_still}");
    }

    #[test]
    fn a_new_program_leaves_one_thread() {
        let mut tasks = table();
        tasks.hold(2, Status::Interrupt);
        tasks.keep_only(1);
        assert_eq!(tasks.iter().map(|(tid, _)| tid).collect::<Vec<_>>(), [1, 9]);
        assert_eq!(tasks.next_event(|_| true), None);
    }
}
