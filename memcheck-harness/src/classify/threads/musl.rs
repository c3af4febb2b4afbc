//! Threads of musl: descriptors that begin with their own address. There is no list of threads that ended, and no cache.

use crate::model::Thread;

use super::super::process::Process;
use super::machine::{self, Musl};
use super::{Descriptor, List};

/// `detach_state`: ended, not joined (`DT_EXITED`).
const EXITED: u32 = 0;

/// The descriptor of a live thread.
pub(super) fn live<'a>(process: &Process<'_>, pd: u64, thread: &'a Thread) -> Option<Descriptor<'a>> {
    let layout = machine::musl(process)?;
    let block = block(process, &layout, pd)?;
    Some(Descriptor {
        thread: Some(thread),
        ..block
    })
}

/// The descriptor of a thread that ended and was not joined; such stay mapped until they are.
pub(super) fn unjoined<'a>(process: &Process<'_>, pd: u64) -> Option<Descriptor<'a>> {
    let layout = machine::musl(process)?;
    let word = |offset: u64| pd.checked_add(offset).and_then(|at| process.u32(at));
    if word(layout.tid)? != 0 || word(layout.detach_state)? != EXITED {
        return None;
    }
    let found = block(process, &layout, pd).filter(|found| found.list == List::None && found.block != 0)?;
    Some(Descriptor {
        unjoined: true,
        by_scan: true,
        ..found
    })
}

/// True when the main thread's descriptor is on a ring of threads as musl keeps it.
pub(super) fn is_musl(process: &Process<'_>, main: u64) -> bool {
    let is = |layout: Musl| {
        let [prev, next] = process.words::<2>(main.checked_add(layout.ring)?)?;
        let back = process.u64(next.checked_add(layout.ring)?)?;
        let forth = process.u64(prev.checked_add(layout.ring + 8)?)?;
        Some(process.u64(main)? == main && back == main && forth == main)
    };
    machine::musl(process).and_then(is).unwrap_or(false)
}

fn block<'a>(process: &Process<'_>, layout: &Musl, pd: u64) -> Option<Descriptor<'a>> {
    if process.u64(pd)? != pd {
        return None;
    }
    let [map_base, map_size, top, stack_size, guard] = process.words::<5>(pd.checked_add(layout.map)?)?;
    let descriptor = |list, block, size, guard| Descriptor {
        list,
        block,
        size,
        guard,
        thread: None,
        unjoined: false,
        by_scan: false,
        is_musl: true,
        start: None,
    };
    if map_base == 0 {
        let fits = |block: &u64| top != 0 && stack_size != 0 && process.covered(process.down(*block), process.up(top), |_| true);
        let user = top.checked_sub(stack_size).filter(fits);
        return Some(user.map_or(descriptor(List::None, 0, 0, 0), |block| {
            descriptor(List::User, block, stack_size, 0)
        }));
    }
    let end = map_base.checked_add(map_size)?;
    let fits = map_base < pd && pd < end && guard < map_size && map_base.is_multiple_of(process.page);
    (fits && process.covered(map_base, end, |area| !area.region.perms.shared))
        .then(|| descriptor(List::None, map_base, map_size, guard))
}
