//! The returns of functions: each entry leaves a mark at the address it will return to, and a thread that comes there with the
//! stack of that very call has returned. Calls that a longjmp or an exception leaves have not; unless it goes on at the very
//! instruction behind the call, where nobody can tell.

use std::collections::BTreeMap;

use crate::error::Error;

use super::arch::Registers;
use super::breakpoint::Owner;
use super::clock::Halt;
use super::session::Session;

/// A call that has not returned yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Call {
    point: usize,
    /// Where it returns to.
    address: u64,
    /// The stack pointer after its return.
    stack: u64,
}

/// Calls of each thread, the innermost last. Of one program image.
#[derive(Debug, Default)]
pub(super) struct Returns(BTreeMap<i32, Vec<Call>>);

impl Returns {
    /// Notes a call. What lies deeper on the stack, or in the same place, is over: it was left without a return.
    fn enter(&mut self, tid: i32, call: Call) {
        let calls = self.0.entry(tid).or_default();
        calls.retain(|other| other.stack > call.stack || (other.stack == call.stack && other.point != call.point));
        calls.push(call);
    }

    /// Takes the call of a point that returns here with this stack, if there is one.
    fn leave(&mut self, tid: i32, point: usize, address: u64, stack: u64) -> bool {
        let Some(calls) = self.0.get_mut(&tid) else {
            return false;
        };
        let before = calls.len();
        calls.retain(|call| (call.point, call.address, call.stack) != (point, address, stack));
        let found = calls.len() < before;
        calls.retain(|call| call.stack >= stack);
        found
    }

    /// Forgets a thread that is gone.
    pub(super) fn forget(&mut self, tid: i32) {
        self.0.remove(&tid);
    }
}

impl Session {
    /// A thread is at the entry of a function whose return is a point.
    pub(super) fn function_entered(&mut self, tid: i32, registers: &Registers, point: usize) -> Result<(), Halt> {
        let Some((address, stack)) = registers.return_address(tid) else {
            self.remark("the stack of a thread could not be read at the entry of a function: its return is not seen".to_owned());
            return Ok(());
        };
        let page_bytes = self.page_bytes;
        let image = self.image(tid);
        let planted = image
            .breakpoints
            .plant(tid, address, Owner::Return(point), page_bytes, |_| true);
        planted.map_err(|error| Error::machine(format!("could not plant a breakpoint at a return to {address:#x}: {error}")))?;
        self.image(tid).returns.enter(tid, Call { point, address, stack });
        Ok(())
    }

    /// True when a thread at a place that calls of a function return to is back from such a call.
    pub(super) fn function_returned(&mut self, tid: i32, address: u64, stack: u64, point: usize) -> bool {
        self.image(tid).returns.leave(tid, point, address, stack)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn call(stack: u64) -> Call {
        Call {
            point: 0,
            address: 9,
            stack,
        }
    }

    #[test]
    fn recursion_returns_call_by_call() {
        let mut returns = Returns::default();
        for stack in [300, 200, 100] {
            returns.enter(1, call(stack));
        }
        assert!(!returns.leave(2, 0, 9, 100), "another thread");
        assert!(!returns.leave(1, 0, 8, 100), "another place");
        for stack in [100, 200, 300] {
            assert!(returns.leave(1, 0, 9, stack) && !returns.leave(1, 0, 9, stack));
        }
    }

    #[test]
    fn a_call_that_was_left_otherwise_never_returns() {
        let mut returns = Returns::default();
        for stack in [300, 200, 100] {
            returns.enter(1, call(stack));
        }
        // A longjmp into the first, which calls again.
        returns.enter(1, call(250));
        assert!(!returns.leave(1, 0, 9, 200));
        assert!(returns.leave(1, 0, 9, 250) && returns.leave(1, 0, 9, 300));
        returns.enter(1, call(50));
        returns.forget(1);
        assert!(!returns.leave(1, 0, 9, 50));
    }
}
