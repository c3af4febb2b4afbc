//! Thread descriptors of libc: its lists of stacks, and the descriptors that live threads point at. Reads only.
//! Offsets come from libc's own `_thread_db_*` words where they are in memory, else from the values every glibc shares.

use std::collections::{BTreeMap, BTreeSet};

use crate::model::{Class, Thread};

use super::process::{Notes, Process};

/// Most entries followed in one list. The kernel allows fewer threads (`PID_MAX_LIMIT` is 4 Mi, a stack is 16 KiB at least).
const MAX_ENTRIES: usize = 1 << 20;

/// Most regions one stack may lie across: a forged one must not cost more than a real one.
const MAX_REGIONS: usize = 256;

/// Which of libc's lists a descriptor is on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum List {
    /// Stacks libc made, in use or not joined yet.
    Used,
    /// The main thread, and stacks the program supplied.
    User,
    /// Stacks kept for later threads.
    Cache,
    /// Found through a live thread's TLS base only.
    None,
}

/// One `struct pthread`.
#[derive(Clone, Copy, Debug)]
pub(super) struct Descriptor<'a> {
    pub(super) list: List,
    /// Address of the block of the stack; 0 for the main thread.
    pub(super) block: u64,
    /// Size of the block, guard included.
    pub(super) size: u64,
    /// Guard at the low end of the block.
    pub(super) guard: u64,
    /// The live thread it belongs to.
    pub(super) thread: Option<&'a Thread>,
    /// Its thread ended, and somebody still has to join it. Means nothing for live and cached stacks.
    pub(super) unjoined: bool,
}

/// `cancelhandling`: the thread runs no more code of the program (glibc nptl/descr.h, `EXITING_BITMASK`).
const EXITING: u32 = 0x10;

/// `cancelhandling`: its stack is on the way to the cache (glibc nptl/descr.h, `TERMINATED_BITMASK`, up to 2.41).
const TERMINATED: u32 = 0x20;

/// `joinstate` of a detached thread in glibc 2.43, `THREAD_STATE_DETACHED`.
const DETACHED: u32 = 3;

/// What is known of the threads.
#[derive(Default)]
pub(super) struct Found<'a> {
    /// By address of the descriptor.
    pub(super) descriptors: BTreeMap<u64, Descriptor<'a>>,
    /// All three lists could be read: exited and cached stacks are complete.
    pub(super) lists_known: bool,
    /// Descriptor of the main thread.
    pub(super) main: Option<u64>,
    /// Bytes of a descriptor, where libc says so.
    pub(super) descriptor_bytes: Option<u64>,
    /// x86-64: TLS lies below the descriptor.
    pub(super) tls_below: bool,
}

/// Offsets inside `struct pthread`, 64-bit. Read in glibc 2.12 to 2.43 (nptl/descr.h).
#[derive(Clone, Copy)]
struct Layout {
    list: u64,
    /// `stackblock`; then `stackblock_size` and `guardsize`.
    stack: u64,
    /// `cancelhandling`, 32 bits.
    cancelhandling: u64,
    /// x86-64 stores the descriptor's own address at 0 and 0x10 (`tcbhead_t`: `tcb`, `self`).
    self_pointer: bool,
    /// Distance from the descriptor to the TLS base: 0 on x86-64, the descriptor's size on AArch64.
    to_tls: u64,
}

/// Finds all descriptors.
pub(super) fn find<'a>(process: &Process<'a>, notes: &mut Notes) -> Found<'a> {
    let mut found = Found::default();
    let Some(layout) = layout(process) else {
        notes.add("Threads of this architecture are not understood: stacks of threads stay anonymous memory.");
        return found;
    };
    found.tls_below = layout.self_pointer;
    found.descriptor_bytes = sized(process, "_thread_db_sizeof_pthread");
    let live = live(process, layout);
    found.main = live
        .iter()
        .find(|(_, thread)| thread.tid == process.capture.pid)
        .map(|(pd, _)| *pd);

    match heads(process, layout, found.main) {
        Some(heads) => {
            found.lists_known = true;
            for (list, head) in heads {
                if !walk(process, layout, (list, head), &live, &mut found, notes) {
                    found.lists_known = false;
                    notes.add("A thread list of libc was being changed: exited and cached stacks may be missing.");
                }
            }
        }
        // Nobody can have made a thread before libc set up the first one, and no thread library means no threads.
        None if process.capture.threads.len() <= 1 && (live.is_empty() || old_glibc_without_threads(process)) => {
            found.lists_known = true;
        }
        None => notes.add("The thread lists of libc are out of reach: exited and cached stacks are not known."),
    }

    for (pd, thread) in &live {
        if found.descriptors.contains_key(pd) {
            continue;
        }
        if found.lists_known && !found.descriptors.is_empty() {
            notes.add(format!(
                "Thread {} is on no list of libc: it was not made by pthread_create.",
                thread.tid
            ));
        }
        if let Some(descriptor) = read(process, layout, *pd, List::None, Some(thread)).or_else(|| musl(process, *pd, thread)) {
            found.descriptors.insert(*pd, descriptor);
        }
    }
    found
}

fn layout(process: &Process<'_>) -> Option<Layout> {
    let is_32_bit = process
        .executable()
        .and_then(|object| object.facts.as_ref())
        .is_some_and(|facts| facts.class == Class::Elf32);
    let (list, stack, self_pointer) = match process.machine()? {
        _ if is_32_bit => return None,
        62 => (0x2c0, 0x690, true),
        183 => (0xc0, 0x490, false),
        _ => return None,
    };
    let list = field(process, "_thread_db_pthread_list").unwrap_or(list);
    Some(Layout {
        list,
        // `stackblock` follows `nextevent` at a fixed distance in every version.
        stack: field(process, "_thread_db_pthread_nextevent").map_or(stack, |nextevent| ((nextevent + 8 + 15) & !15) + 32),
        // From `list` to here nothing changed from 2.12 to 2.41: 0x2c0 and 0x308 on x86-64.
        cancelhandling: field(process, "_thread_db_pthread_cancelhandling").unwrap_or(list + 0x48),
        self_pointer,
        to_tls: if self_pointer { 0 } else { descriptor_bytes(process, list) },
    })
}

/// AArch64: the size of a descriptor, which ends at the TLS base. Without libc's word for it, the one of the known sizes
/// (2.36, 2.41, 2.31) that puts a linked list where a descriptor has one.
fn descriptor_bytes(process: &Process<'_>, list: u64) -> u64 {
    let base = process
        .capture
        .threads
        .iter()
        .find_map(|thread| thread.tls_base.filter(|base| *base != 0));
    let is_linked = |bytes: &u64| base.is_some_and(|base| ring(process, base.wrapping_sub(*bytes).wrapping_add(list)));
    sized(process, "_thread_db_sizeof_pthread")
        .or_else(|| [0x740, 0x720, 0x700].into_iter().find(is_linked))
        .unwrap_or(0x740)
}

/// Offset in a field descriptor of libc: u32 size in bits, number of elements, offset (nptl_db/structs.def).
fn field(process: &Process<'_>, name: &str) -> Option<u64> {
    let offset = process.u32(process.symbol(name)?.checked_add(8)?)?;
    (offset < 1 << 16).then_some(u64::from(offset))
}

/// A size descriptor of libc: one u32.
fn sized(process: &Process<'_>, name: &str) -> Option<u64> {
    let bytes = process.u32(process.symbol(name)?)?;
    (bytes < 1 << 16).then_some(u64::from(bytes))
}

/// Live threads by descriptor. Threads made by a bare `clone` share a TLS base; the oldest keeps it.
fn live<'a>(process: &Process<'a>, layout: Layout) -> BTreeMap<u64, &'a Thread> {
    let mut threads: Vec<&Thread> = process.capture.threads.iter().collect();
    threads.sort_by_key(|thread| (thread.tid != process.capture.pid, thread.tid));
    let mut live = BTreeMap::new();
    for thread in threads {
        if let Some(base) = thread.tls_base.filter(|base| *base != 0) {
            live.entry(base.wrapping_sub(layout.to_tls)).or_insert(thread);
        }
    }
    live
}

/// The heads of the three lists.
fn heads(process: &Process<'_>, layout: Layout, main: Option<u64>) -> Option<[(List, u64); 3]> {
    let all = |used, user, cache| [(List::Used, used), (List::User, user), (List::Cache, cache)];
    let is_ring = |heads: &[(List, u64); 3]| heads.iter().all(|(_, head)| ring(process, *head));
    let by_loader = || {
        let global = process.symbol("_rtld_global")?;
        let used = global.wrapping_add(field(process, "_thread_db_rtld_global__dl_stack_used")?);
        let user = global.wrapping_add(field(process, "_thread_db_rtld_global__dl_stack_user")?);
        // Only in 2.33 the cache still lived in libpthread; later it follows the other two.
        let cache = process
            .symbol("stack_cache")
            .unwrap_or_else(|| used.max(user).wrapping_add(16));
        Some(all(used, user, cache))
    };
    let by_names = |used, user, cache| Some(all(process.symbol(used)?, process.symbol(user)?, process.symbol(cache)?));
    // libc's descriptors live in read-only data that may not be in memory; the ring of the main thread always is. It passes
    // through the loader's `_dl_stack_user`, which stands between `_dl_stack_used` and `_dl_stack_cache` (2.34 and later).
    let by_ring = || {
        let user = head_in_loader(process, layout, main?)?;
        Some(all(user.wrapping_sub(16), user, user.wrapping_add(16)))
    };
    by_loader()
        .filter(is_ring)
        .or_else(|| by_names("stack_used", "__stack_user", "stack_cache").filter(is_ring))
        .or_else(|| by_names("_dl_stack_used", "_dl_stack_user", "_dl_stack_cache").filter(is_ring))
        .or_else(|| by_ring().filter(is_ring))
}

/// A list head whose neighbours point back at it, or one that nobody has set up yet (all zero).
fn ring(process: &Process<'_>, head: u64) -> bool {
    match process.words::<2>(head) {
        Some([0, 0]) => true,
        Some([next, prev]) => next.checked_add(8).and_then(|at| process.u64(at)) == Some(head) && process.u64(prev) == Some(head),
        None => false,
    }
}

fn head_in_loader(process: &Process<'_>, layout: Layout, main: u64) -> Option<u64> {
    let loader = process.interpreter()?;
    let first = main.checked_add(layout.list)?;
    let mut at = process.u64(first)?;
    for _ in 0..MAX_ENTRIES {
        if at == first {
            return None;
        }
        let region = process.area_at(at)?.region;
        if region.inode != 0 && (region.dev, region.inode) == (loader.dev, loader.inode) {
            return Some(at);
        }
        at = process.u64(at)?;
    }
    None
}

/// glibc before 2.34 keeps threads in libpthread: without it there are none.
fn old_glibc_without_threads(process: &Process<'_>) -> bool {
    let named = |start: &[u8]| {
        process
            .capture
            .objects
            .iter()
            .any(|object| object.path.file_name().as_bytes().starts_with(start))
    };
    named(b"libc-2.") && !named(b"libpthread")
}

/// Follows one list. False when it is not a well-formed ring.
fn walk<'a>(
    process: &Process<'_>,
    layout: Layout,
    (list, head): (List, u64),
    live: &BTreeMap<u64, &'a Thread>,
    found: &mut Found<'a>,
    notes: &mut Notes,
) -> bool {
    let mut seen = BTreeSet::new();
    let mut before = head;
    let Some(mut at) = process.u64(head) else { return false };
    while at != head && at != 0 {
        if seen.len() >= MAX_ENTRIES || !seen.insert(at) {
            return false;
        }
        let Some([next, prev]) = process.words::<2>(at) else {
            return false;
        };
        let pd = at.wrapping_sub(layout.list);
        let Some(descriptor) = read(process, layout, pd, list, live.get(&pd).copied()) else {
            return false;
        };
        if prev != before {
            return false;
        }
        if list == List::User && descriptor.block == 0 {
            found.main.get_or_insert(pd);
        }
        let unjoined = descriptor.thread.is_none() && list != List::Cache && unjoined(process, layout, pd, notes);
        found.descriptors.entry(pd).or_insert(Descriptor { unjoined, ..descriptor });
        (before, at) = (at, next);
    }
    true
}

/// Whether a thread that is gone waits for a join. pthread_create lists a stack before it calls `clone`, and a detached thread
/// leaves the list only while it ends (nptl/allocatestack.c, nptl/pthread_create.c): neither waits for anybody. `tid` tells
/// nothing, it is 0 before the start and after the end.
fn unjoined(process: &Process<'_>, layout: Layout, pd: u64, notes: &mut Notes) -> bool {
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
fn read<'a>(process: &Process<'_>, layout: Layout, pd: u64, list: List, thread: Option<&'a Thread>) -> Option<Descriptor<'a>> {
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
    let list = if list == List::None && !aligned { List::User } else { list };
    if fits && at_top && (aligned || list == List::User) {
        return Some(Descriptor {
            list,
            block,
            size,
            guard,
            ..main
        });
    }
    // The main thread's fields may hold anything in a libc other than glibc.
    thread.is_some_and(|thread| thread.tid == process.capture.pid).then_some(main)
}

/// A live thread of musl 1.2 on x86-64: own address at 0, `map_base` 0x48, `map_size` 0x50, `stack` 0x58, `stack_size` 0x60,
/// `guard_size` 0x68 (src/internal/pthread_impl.h).
fn musl<'a>(process: &Process<'_>, pd: u64, thread: &'a Thread) -> Option<Descriptor<'a>> {
    if process.machine() != Some(62) || process.u64(pd)? != pd {
        return None;
    }
    let [map_base, map_size, top, stack_size, guard] = process.words::<5>(pd.checked_add(0x48)?)?;
    let descriptor = |list, block, size, guard| {
        Some(Descriptor {
            list,
            block,
            size,
            guard,
            thread: Some(thread),
            unjoined: false,
        })
    };
    if map_base == 0 {
        let block = top.checked_sub(stack_size)?;
        if top == 0 || stack_size == 0 || !process.covered(process.down(block), process.up(top), |_| true) {
            return descriptor(List::None, 0, 0, 0);
        }
        return descriptor(List::User, block, stack_size, 0);
    }
    let end = map_base.checked_add(map_size)?;
    let fits = map_base < pd && pd < end && guard < map_size && map_base % process.page == 0;
    (fits && process.covered(map_base, end, |area| !area.region.perms.shared)).then_some(())?;
    descriptor(List::None, map_base, map_size, guard)
}
