//! Thread descriptors of libc: its lists of stacks, and the descriptors that live threads point at. Reads only.
//! Offsets come from libc's own `_thread_db_*` words where its file has them or they are in memory, else from the values every glibc shares.

use std::collections::BTreeMap;

mod descriptor;
mod lists;
mod machine;
mod musl;
mod scan;

use crate::model::Thread;

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
    /// Found by its own address in memory, on no list that could be read.
    pub(super) by_scan: bool,
    /// musl's: it keeps the pages of a thread that ended until the join.
    pub(super) is_musl: bool,
    /// Address of the function it was started with.
    pub(super) start: Option<u64>,
}

/// What is known of the threads.
#[derive(Default)]
pub(super) struct Found<'a> {
    /// By address of the descriptor.
    pub(super) descriptors: BTreeMap<u64, Descriptor<'a>>,
    /// All three lists could be read, or all memory was searched instead: exited and cached stacks are complete.
    pub(super) lists_known: bool,
    /// A list is there and is none.
    lists_broken: bool,
    /// Descriptor of the main thread.
    pub(super) main: Option<u64>,
    /// Bytes of a descriptor, where libc says so.
    pub(super) descriptor_bytes: Option<u64>,
    /// Distance from a descriptor to the TLS base of its thread.
    pub(super) to_tls: u64,
    /// x86-64: TLS lies below the descriptor.
    pub(super) tls_below: bool,
}

/// Finds all descriptors.
pub(super) fn find<'a>(process: &Process<'a>, notes: &mut Notes) -> Found<'a> {
    let mut found = Found::default();
    let Some(layout) = machine::glibc(process) else {
        notes.add("Threads of this architecture are not understood: stacks of threads stay anonymous memory.");
        return found;
    };
    found.tls_below = layout.self_pointer;
    found.to_tls = layout.to_tls;
    found.descriptor_bytes = lists::sized(process, "_thread_db_sizeof_pthread");
    let live = lists::live(process, layout);
    found.main = live
        .iter()
        .find(|(_, thread)| thread.tid == process.capture.pid)
        .map(|(pd, _)| *pd);
    // Begin, list and end of what is read of each.
    let read = live
        .keys()
        .flat_map(|pd| [0, layout.list, layout.stack].map(|offset| pd.wrapping_add(offset)));
    process.expect(&read.collect::<Vec<u64>>());

    let heads = lists::heads(process, layout, found.main, &live);
    for (list, head) in heads.into_iter().flatten() {
        found.lists_known = true;
        if !lists::walk(process, layout, (list, head), &live, &mut found, notes) {
            found.lists_broken = true;
        }
    }
    found.lists_known &= !found.lists_broken;
    if found.lists_broken {
        notes.add("A thread list of libc was being changed: exited and cached stacks may be missing.");
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
        let read = descriptor::read(process, layout, *pd, List::None, Some(thread));
        if let Some(descriptor) = read.or_else(|| musl::live(process, *pd, thread)) {
            found.descriptors.insert(*pd, descriptor);
        }
    }

    if heads.is_none() {
        // Nobody can have made a thread before libc set up the first one, and no thread library means no threads.
        let none_yet = process.capture.threads.len() <= 1 && (live.is_empty() || lists::old_glibc_without_threads(process));
        found.lists_known = none_yet || scan::search(process, layout, &mut found, notes);
        if !found.lists_known {
            notes.add("The thread lists of libc are out of reach: exited and cached stacks are not known.");
        }
    }
    found
}
