//! One `struct pthread` of glibc: reading and checking it, and what it says of a thread that is gone.

use crate::model::Thread;

use super::super::process::{Notes, Process};
use super::machine::Layout;
use super::{Descriptor, List, MAX_REGIONS};

/// `cancelhandling`: the thread runs no more code of the program (glibc nptl/descr.h, `EXITING_BITMASK`).
const EXITING: u32 = 0x10;

/// `cancelhandling`: its stack is on the way to the cache (glibc nptl/descr.h, `TERMINATED_BITMASK`, up to 2.41).
const TERMINATED: u32 = 0x20;

/// `joinstate` of a detached thread in glibc 2.43, `THREAD_STATE_DETACHED`.
const DETACHED: u32 = 3;

/// Whether a thread that is gone waits for a join. pthread_create lists a stack before it calls `clone`, and a detached thread
/// leaves the list only while it ends (nptl/allocatestack.c, nptl/pthread_create.c): neither waits for anybody. `tid` tells
/// nothing, it is 0 before the start and after the end.
pub(super) fn unjoined(process: &Process<'_>, layout: Layout, pd: u64, notes: &mut Notes) -> bool {
    let state = pd.checked_add(layout.cancelhandling).and_then(|at| process.u32(at));
    // `joinid` (a detached thread's own address) lies 0x70 before `stackblock` in 2.36 to 2.41, and 0x68 before it in others, where
    // 2.43 has `joinstate`. The neighbour never holds the address; in 2.36 to 2.41 it is `flags`, which are 3 only for a
    // thread that was made detached.
    let join = pd
        .checked_add(layout.stack.saturating_sub(0x70))
        .and_then(|at| process.words::<2>(at));
    let (Some(state), Some(join)) = (state, join) else {
        notes.add("The states of ended threads cannot be read: stacks of threads that start or end may count as exited.");
        return true;
    };
    let detached = join.contains(&pd) || join[1] & u64::from(u32::MAX) == u64::from(DETACHED);
    state & (EXITING | TERMINATED) == EXITING && !detached
}

/// Reads and checks a glibc descriptor. A block that cannot be one (not mapped, the descriptor outside it) makes it none.
pub(super) fn read<'a>(
    process: &Process<'_>,
    layout: Layout,
    pd: u64,
    list: List,
    thread: Option<&'a Thread>,
) -> Option<Descriptor<'a>> {
    if layout.self_pointer {
        let [tcb, _, own] = process.words::<3>(pd)?;
        if tcb != pd || own != pd {
            return None;
        }
    }
    let [block, size, guard] = process.words::<3>(pd.checked_add(layout.stack)?)?;
    let main = Descriptor {
        list,
        block: 0,
        size: 0,
        guard: 0,
        thread,
        unjoined: false,
        by_scan: false,
        is_musl: false,
        start: None,
    };
    if block == 0 {
        return Some(main);
    }
    let end = block.checked_add(size)?;
    let fits = block < pd
        && pd < end
        && guard < size
        && process.areas_in(block, end).len() <= MAX_REGIONS
        && process.covered(block, end, |area| !area.region.perms.shared || list == List::User);
    // The descriptor ends the block; TLS lies below it on x86-64 and above it on AArch64.
    let at_top = !layout.self_pointer || end.wrapping_sub(pd) <= 1 << 16;
    // libc's own blocks are whole pages; without the lists that alone tells a stack the program supplied.
    let aligned = block.is_multiple_of(process.page) && guard.is_multiple_of(process.page) && size.is_multiple_of(process.page);
    let supplied = || {
        pd.checked_add(layout.user_stack)
            .and_then(|at| process.u32(at & !3))
            .is_some_and(|word| word >> (8 * (layout.user_stack & 3)) & 0xff == 1)
    };
    let list = if list == List::None && (!aligned || supplied()) {
        List::User
    } else {
        list
    };
    if fits && at_top && (aligned || list == List::User) {
        return Some(Descriptor {
            list,
            block,
            size,
            guard,
            start: start(process, layout, pd),
            ..main
        });
    }
    // The main thread's fields may hold anything in a libc other than glibc.
    thread.is_some_and(|thread| thread.tid == process.capture.pid).then_some(main)
}

/// What a descriptor that is on no known list says of its thread, which is gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Gone {
    /// Ended, not joined.
    Unjoined,
    /// Joined, or detached and ended.
    Done,
    /// It does not say: it never ran, or the version of libc keeps the state elsewhere.
    Unknown,
}

/// The state of a thread by its descriptor alone: `tid` is -1 once it was joined (up to 2.42), `cancelhandling` tells that it
/// ended and that nobody waits for it.
pub(super) fn gone(process: &Process<'_>, layout: Layout, pd: u64, notes: &mut Notes) -> Gone {
    let word = |offset: u64| pd.checked_add(offset).and_then(|at| process.u32(at));
    match (word(layout.cancelhandling), word(layout.tid)) {
        (_, Some(u32::MAX)) => Gone::Done,
        (Some(state), Some(0)) if state & EXITING != 0 => {
            if unjoined(process, layout, pd, notes) {
                Gone::Unjoined
            } else {
                Gone::Done
            }
        }
        _ => Gone::Unknown,
    }
}

/// The function a thread was started with: the word where it stands, if that is the address of code.
fn start(process: &Process<'_>, layout: Layout, pd: u64) -> Option<u64> {
    let code = |at: &u64| process.area_at(*at).is_some_and(|area| area.region.perms.execute);
    layout
        .start
        .iter()
        .filter_map(|offset| process.u64(pd.checked_add(*offset)?))
        .find(code)
}
