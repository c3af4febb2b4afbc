//! Targets that are tracers themselves, and children that they want untraced: what the kernel refuses as it allows one tracer is named,
//! and the wish of `CLONE_UNTRACED` is not granted. Where a filter is in place: it stops both calls, of every process.

use crate::model::Name;
use crate::sys::seccomp;

use super::arch::{self, Registers};
use super::calls::{Call, is_call};
use super::proc;
use super::session::Session;
use super::tasks::How;

/// `PTRACE_TRACEME` (ptrace(2)).
const TRACE_ME: u64 = 0;
/// `EPERM`, as a call gives it.
const NOT_PERMITTED: i64 = -1;

/// Behind a call on either side: the flags are in their register as the program had put them there.
pub(super) fn give_flags_back(tid: i32, registers: &mut Registers, flags: u64) {
    if arch::KEEPS_ARGUMENTS {
        registers.set_first_call_argument(flags);
        // Fails only for a thread that was killed meanwhile.
        let _ = registers.write(tid);
    }
}

impl Session {
    /// A thread of a process that no point is in stands before a call that points count elsewhere.
    pub(super) fn call_of_any(&mut self, tid: i32) -> How {
        let call = Registers::read(tid).map(|registers| registers.call());
        let besides = call.ok().and_then(|call| self.begins_besides(tid, &call));
        besides.unwrap_or(How::Continue(0))
    }

    /// The filter shows a call that a point counts as that alone: it may be one of those that are told apart here, too.
    pub(super) fn begins_besides(&mut self, tid: i32, call: &Call) -> Option<How> {
        if is_call(call, "clone") && call.args[0] & seccomp::CLONE_UNTRACED != 0 {
            return Some(self.clone_begins(tid));
        }
        let becomes_tracer =
            is_call(call, "ptrace") && seccomp::TRACING.iter().any(|request| u64::from(*request) == call.args[0]);
        becomes_tracer.then(|| self.trace_begins(tid))
    }

    /// A thread of any process stands before a call by which somebody becomes a tracer.
    pub(super) fn trace_begins(&mut self, tid: i32) -> How {
        if let Ok(registers) = Registers::read(tid) {
            self.calls.open.insert(tid, (registers.call(), None));
        }
        How::Call
    }

    /// That call is over.
    pub(super) fn trace_ends(&mut self, tid: i32, call: &Call, result: i64) {
        let whom = if call.args[0] == TRACE_ME {
            Some(tid)
        } else {
            i32::try_from(call.args[1]).ok()
        };
        let is_ours = whom.is_some_and(|whom| self.tasks.get(whom).is_some());
        if result == NOT_PERMITTED && is_ours {
            self.was_refused(tid, call.args[0]);
        }
    }

    /// The target is a tracer itself, and the kernel allows one tracer of a process only.
    fn was_refused(&mut self, tid: i32, request: u64) {
        let process = self.tasks.get(tid).map_or(tid, |task| task.process);
        let name = proc::name(process, process).unwrap_or_else(|| Name::from("?"));
        let (whom, remedy) = if request == TRACE_ME && process == self.main {
            (
                "itself",
                "in a case, detach = true lets the program go after its last checkpoint",
            )
        } else if request == TRACE_ME {
            (
                "a child of its own",
                "in a case, children = \"detach\" lets children go when they are born",
            )
        } else {
            (
                "a process of the case",
                "in a case, children = \"detach\" lets children go when they are born, detach = true all after the last checkpoint",
            )
        };
        self.remark(format!(
            "{name} was not let trace {whom} (ptrace): cargo memcheck traces that, and the kernel allows one tracer; {remedy}"
        ));
    }

    /// A thread of any process stands before a `clone` whose child nobody would be told of: it would die of our breakpoints, and calls
    /// that our filter stops would be refused to it. The flag is taken off for the time of the call; its argument is as it was, on
    /// both sides, when they go on.
    pub(super) fn clone_begins(&mut self, tid: i32) -> How {
        let Ok(mut registers) = Registers::read(tid) else {
            return How::Continue(0);
        };
        let call = registers.call();
        registers.set_first_call_argument(call.args[0] & !seccomp::CLONE_UNTRACED);
        if registers.write(tid).is_err() {
            return How::Continue(0);
        }
        self.calls.open.insert(tid, (call, None));
        How::Call
    }

    /// A thread has made another, or a process, by a call whose flag was perhaps taken off.
    pub(super) fn clone_made(&mut self, tid: i32, child: i32) {
        if let Some(flags) = self.flags_taken_off(tid) {
            self.calls.cloned.insert(child, flags);
        }
    }

    fn flags_taken_off(&self, tid: i32) -> Option<u64> {
        let (call, _) = self.calls.open.get(&tid)?;
        (is_call(call, "clone") && call.args[0] & seccomp::CLONE_UNTRACED != 0).then_some(call.args[0])
    }

    /// A thread stops where nothing happened, as a newborn does, perhaps before its maker's event is handled.
    pub(super) fn is_born(&mut self, tid: i32) {
        let told = self.calls.cloned.remove(&tid);
        let all: Vec<u64> = match told {
            Some(flags) => vec![flags],
            None => self
                .calls
                .open
                .keys()
                .filter_map(|maker| self.flags_taken_off(*maker))
                .collect(),
        };
        if all.is_empty() || !arch::KEEPS_ARGUMENTS {
            return;
        }
        let Ok(mut registers) = Registers::read(tid) else { return };
        let call = registers.call();
        // In a newborn the call has given nothing.
        let is_newborn = is_call(&call, "clone") && registers.call_result() == 0;
        let made_by = |flags: &u64| is_newborn && call.args[0] == *flags & !seccomp::CLONE_UNTRACED;
        if let Some(flags) = all.into_iter().find(made_by) {
            give_flags_back(tid, &mut registers, flags);
        }
    }
}
