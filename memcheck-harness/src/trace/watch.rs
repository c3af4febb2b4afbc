//! The processor's own breakpoints (debug registers, four for each thread): writes to variables of up to eight bytes, and
//! places in the code on request. And faults on the guards of stacks, which need no help of ours. Nothing of the target's
//! memory is changed.

use std::collections::BTreeSet;
use std::fs;
use std::io;

use crate::error::Result;
use crate::model::{At, Touched};
use crate::sys::ptrace;

use super::arch::Registers;
use super::breakpoint::Owner;
use super::clock::Halt;
use super::maps;
use super::session::{Counted, Session};

/// Debug registers of a thread.
const SLOTS: usize = 4;

/// `TRAP_HWBKPT` (sigaction(2)): the trap of a debug register.
pub(super) const TRAP_CODE: i32 = 4;

/// How far below the stack pointer a fault still is one of the stack: functions with large frames touch their far end first.
const FRAME_BYTES: u64 = 1 << 20;

/// What is watched, and for whom.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Watched {
    owner: Owner,
    address: u64,
    /// Of the variable; absent for an instruction.
    bytes: Option<u64>,
}

/// Watchpoints of one program image.
#[derive(Debug, Default)]
pub(super) struct Watches {
    watched: Vec<Watched>,
    /// Threads that have them.
    set: BTreeSet<i32>,
}

impl Watches {
    /// A thread is gone.
    pub(super) fn forget(&mut self, tid: i32) {
        self.set.remove(&tid);
    }

    /// True when the instruction at this address stops a thread.
    pub(super) fn stops_at(&self, address: u64) -> bool {
        self.watched.iter().any(|one| one.bytes.is_none() && one.address == address)
    }
}

impl Session {
    /// Watches a variable, from the moment when the loader has done its own writing: with the processor where it can, else by
    /// protecting its pages.
    pub(super) fn watch_variable(&mut self, tid: i32, point: usize, address: u64, bytes: u64) -> Result<()> {
        if !matches!(bytes, 1 | 2 | 4 | 8) || !address.is_multiple_of(bytes) || self.image(tid).watches.watched.len() >= SLOTS {
            return self.guard_object(tid, point, address, bytes);
        }
        let Err(error) = self.watch(tid, Owner::Point(point), address, Some(bytes)) else {
            return Ok(());
        };
        self.remark(format!(
            "the processor's watchpoints cannot be used here ({error}): pages are protected instead, see cargo memcheck doctor"
        ));
        self.guard_object(tid, point, address, bytes)
    }

    /// Stops at an instruction without changing it. False when that is not possible.
    pub(super) fn watch_code(&mut self, tid: i32, owner: Owner, address: u64) -> bool {
        let watched = Watched {
            owner,
            address,
            bytes: None,
        };
        if self.image(tid).watches.watched.contains(&watched) {
            return true;
        }
        if self.image(tid).watches.watched.len() >= SLOTS {
            self.remark(format!(
                "the processor has {SLOTS} breakpoints: further places are planted in the code"
            ));
            return false;
        }
        match self.watch(tid, owner, address, None) {
            Ok(()) => true,
            Err(error) => {
                self.remark(format!(
                    "the processor's breakpoints cannot be used here ({error}): breakpoints are planted in the code instead"
                ));
                false
            }
        }
    }

    fn watch(&mut self, tid: i32, owner: Owner, address: u64, bytes: Option<u64>) -> io::Result<()> {
        self.image(tid).watches.watched.push(Watched { owner, address, bytes });
        self.image(tid).watches.set.clear();
        let result = self.watch_thread(tid);
        if result.is_err() {
            self.image(tid).watches.watched.pop();
        }
        result
    }

    /// Gives a held thread of a followed process the watchpoints, once. Debug registers are not inherited (kernel
    /// `copy_thread`: `flush_ptrace_hw_breakpoint`).
    pub(super) fn watch_thread(&mut self, tid: i32) -> io::Result<()> {
        let watches = &mut self.image(tid).watches;
        if watches.watched.is_empty() || !watches.set.insert(tid) {
            return Ok(());
        }
        for (slot, watched) in watches.watched.iter().enumerate() {
            registers::set(tid, slot, watched.address, watched.bytes)?;
        }
        Ok(())
    }

    /// Takes the watchpoints of a held thread back.
    pub(super) fn unwatch_thread(&mut self, tid: i32) {
        if self.image(tid).watches.set.remove(&tid) {
            let _ = registers::clear(tid);
        }
    }

    /// A held thread has just written to variables that are watched, or is about to run an instruction that is. True when it
    /// was so.
    pub(super) fn watches_hit(&mut self, tid: i32) -> std::result::Result<bool, Halt> {
        let watched = &self.image(tid).watches.watched;
        if watched.is_empty() {
            return Ok(false);
        }
        let hit = registers::take_hits(tid).unwrap_or(0);
        let hits: Vec<(usize, Watched)> = watched
            .iter()
            .enumerate()
            .filter_map(|(slot, watched)| (hit & (1 << slot) != 0).then_some((slot, *watched)))
            .collect();
        let passed = self.tasks.get(tid).and_then(|task| task.retry);
        for (slot, one) in &hits {
            let is_new = one.bytes.is_some() || passed != Some(one.address);
            match one.owner {
                Owner::Point(point) => {
                    if is_new {
                        self.count(point, tid);
                    }
                    // When nobody waits for it any more, each thread that still comes there gives it up.
                    if self.points.get(point).is_none_or(Counted::is_done) {
                        let _ = registers::give_up(tid, *slot);
                    }
                }
                _ => {
                    self.image(tid).watches.watched.retain(|other| other != one);
                    self.unwatch_thread(tid);
                    self.arm_libraries(tid, true)?;
                    let _ = self.watch_thread(tid);
                }
            }
        }
        if hits.iter().any(|(_, one)| one.bytes.is_none())
            && let Some(task) = self.tasks.get_mut(tid)
        {
            task.retry = None;
        }
        Ok(!hits.is_empty())
    }

    /// True when a point waits for a guard to be touched.
    pub(super) fn waits_for_guard(&self) -> bool {
        self.points
            .iter()
            .any(|counted| counted.point.at == At::Touch(Touched::Guard) && !counted.is_done())
    }
}

/// True when a fault at this address, of a thread about to receive its SIGSEGV, is one on the guard of its stack.
pub(super) fn is_guard_fault(tid: i32, fault: u64) -> bool {
    let Ok(registers) = Registers::read(tid) else {
        return false;
    };
    let maps = fs::read(format!("/proc/{tid}/maps")).unwrap_or_default();
    is_below_stack(&maps, fault, registers.sp())
}

/// The stack is the first writable mapping that ends above the fault; the fault must be no access that the mapping allows, and
/// the stack pointer must lie in the stack or, run over its end, near the fault.
fn is_below_stack(maps: &[u8], fault: u64, sp: u64) -> bool {
    let stack = maps::lines(maps).find(|line| line.access.starts_with(b"rw") && line.end > fault);
    stack.is_some_and(|stack| (fault.saturating_sub(FRAME_BYTES)..stack.end).contains(&sp) && sp.abs_diff(fault) <= FRAME_BYTES)
}

#[cfg(target_arch = "x86_64")]
mod registers {
    //! Debug registers of x86-64 (Intel SDM volume 3, "Debug Registers").
    use super::{io, ptrace};

    const STATUS: usize = 6;
    const CONTROL: usize = 7;

    /// Watches writes to `bytes` (1, 2, 4 or 8) bytes at an address aligned to them, or else the instruction there.
    pub(in crate::trace) fn set(tid: i32, slot: usize, address: u64, bytes: Option<u64>) -> io::Result<()> {
        let (kind, length): (u64, u64) = match bytes {
            None => (0b00, 0b00),
            Some(1) => (0b01, 0b00),
            Some(2) => (0b01, 0b01),
            Some(4) => (0b01, 0b11),
            Some(8) => (0b01, 0b10),
            Some(_) => return Err(io::ErrorKind::InvalidInput.into()),
        };
        let control = ptrace::get_debug_register(tid, CONTROL)?;
        ptrace::set_debug_register(tid, slot, address)?;
        let enable = 1 << (2 * slot);
        let kind = (kind | length << 2) << (16 + 4 * slot);
        ptrace::set_debug_register(tid, CONTROL, control | enable | kind)
    }

    /// Takes all of them back.
    pub(in crate::trace) fn clear(tid: i32) -> io::Result<()> {
        ptrace::set_debug_register(tid, CONTROL, 0)
    }

    /// Takes one of them back.
    pub(in crate::trace) fn give_up(tid: i32, slot: usize) -> io::Result<()> {
        let control = ptrace::get_debug_register(tid, CONTROL)?;
        ptrace::set_debug_register(tid, CONTROL, control & !(0b11 << (2 * slot)))
    }

    /// One bit for each that was hit since the last time.
    pub(in crate::trace) fn take_hits(tid: i32) -> io::Result<u64> {
        let hit = ptrace::get_debug_register(tid, STATUS)? & 0b1111;
        if hit != 0 {
            ptrace::set_debug_register(tid, STATUS, 0)?;
        }
        Ok(hit)
    }
}

#[cfg(not(target_arch = "x86_64"))]
mod registers {
    //! Other machines have them too, through other interfaces that are not used yet.
    use super::io;

    fn none() -> io::Error {
        io::Error::new(io::ErrorKind::Unsupported, "used on x86-64 only")
    }

    pub(in crate::trace) fn set(_tid: i32, _slot: usize, _address: u64, _bytes: Option<u64>) -> io::Result<()> {
        Err(none())
    }

    pub(in crate::trace) fn clear(_tid: i32) -> io::Result<()> {
        Err(none())
    }

    pub(in crate::trace) fn give_up(_tid: i32, _slot: usize) -> io::Result<()> {
        Err(none())
    }

    pub(in crate::trace) fn take_hits(_tid: i32) -> io::Result<u64> {
        Err(none())
    }
}

/// Sets one at an address that is never written, and takes it back.
pub(super) fn attempt(tid: i32) -> io::Result<()> {
    // Some place of the lower half that is aligned to eight bytes: nothing need be mapped there.
    const ADDRESS: u64 = 0x1000;
    registers::set(tid, 0, ADDRESS, Some(8))?;
    registers::clear(tid)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fault_below_the_stack_pointer_s_own_mapping_is_one_of_its_guard() {
        let maps = "10000-20000 rw-p 00000000 00:00 0 [heap]\n\
                    70000000-70001000 ---p 00000000 00:00 0\n\
                    70001000-70801000 rw-p 00000000 00:00 0\n\
                    7ffc0000-7fff0000 rw-p 00000000 00:00 0 [stack]\n";
        assert!(
            is_below_stack(maps.as_bytes(), 0x7000_0ff8, 0x7000_1000),
            "the word below its end"
        );
        assert!(
            is_below_stack(maps.as_bytes(), 0x7000_0800, 0x7000_0800),
            "already moved into it"
        );
        assert!(is_below_stack(maps.as_bytes(), 0x7ffb_fff0, 0x7ffc_0010), "the main stack");
        assert!(
            !is_below_stack(maps.as_bytes(), 0x7000_0ff8, 0x7ffd_0000),
            "somebody else's stack"
        );
        assert!(!is_below_stack(maps.as_bytes(), 8, 0x7ffd_0000), "a null pointer");
        assert!(!is_below_stack(maps.as_bytes(), 0x2_0000, 0x7ffd_0000), "behind the heap");
        assert!(!is_below_stack(b"", 8, 8));
    }
}
