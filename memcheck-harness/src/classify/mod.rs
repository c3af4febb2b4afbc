//! `Capture` + `Memory` → `MemoryMap`: what each byte range is, and why we think so. Pure.
//!
//! Every source of knowledge (program headers, libc's thread lists, arena headers, names) only *claims* ranges with a
//! priority; `interval` cuts the regions by the strongest claims, `usage` gives each piece its share of the figures.

mod allocators;
mod arenas;
mod chunks;
mod elf;
mod interval;
mod loader;
mod malloc;
mod names;
mod process;
mod stacks;
mod threads;
mod totals;
mod usage;

#[cfg(test)]
mod fake;
#[cfg(test)]
mod live_malloc_tests;
#[cfg(test)]
mod live_tests;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;

use crate::model::{Allocator, Capture, Memory, MemoryMap, Name, ObjectKind};

use interval::Claims;
use process::{Notes, Process};

/// Classifies a capture. `own` tells whether an object's path is the program's own; the executable always is.
///
/// Nothing here fails: what the capture or the memory cannot tell becomes absent, with a note. Hostile contents (cyclic
/// lists, forged headers) cost bounded time and can at worst mislabel memory the target itself owns.
#[must_use]
pub fn classify(capture: &Capture, memory: &dyn Memory, own: &dyn Fn(&Name) -> bool) -> MemoryMap {
    let mut notes = Notes::default();
    let process = Process::new(capture, memory, &mut notes);
    let mut claims = Claims::new(process.areas.len());

    names::claim(&process, &mut claims);
    let loaded = elf::claim(&process, own, &mut claims, &mut notes);
    let found = if capture.by_mappings {
        notes.add(
            "Roles are told by the kernel's mappings alone, as the memory could not be read: stacks of threads, arenas, large \
             allocations and what libc mapped for itself are part of the anonymous memory.",
        );
        threads::Found::default()
    } else {
        threads::find(&process, &mut notes)
    };
    let threads = stacks::claim(&process, &found, &mut claims, &mut notes);
    loader::claim(&process, &found, &mut claims);
    let mut arenas = arenas::claim(&process, &mut claims);
    let present = allocators::present(&process);
    // Whose the brk heap is beside tcmalloc, glibc's chunks tell.
    let walks = !capture.without_chunks || present.contains(&Allocator::Tcmalloc);
    let malloc = arenas
        .as_mut()
        .and_then(|arenas| malloc::examine(&process, &found, arenas, walks));
    stacks::claim_signal_stacks(&process, &found, &mut claims);
    if arenas.is_some() {
        let books = malloc.as_ref().and_then(|malloc| malloc.mmapped);
        let is_most = malloc.as_ref().is_some_and(|malloc| malloc.mmapped_is_most);
        chunks::claim(&process, (books, is_most), &mut claims, &mut notes);
    }

    if !capture.by_mappings {
        allocators::claim(&process, &present, arenas.is_some(), malloc.as_ref(), &mut claims, &mut notes);
    }

    let mut sums = totals::Sums::default();
    let interval::Cuts { pieces, items } = interval::cut(&process, claims, names::floor, |area, pieces| {
        sums.add(area);
        usage::fill(&process, area, pieces, &mut notes);
    });
    let breakpoints = usage::breakpoint_pages(&process);
    let breakpoint_anon_bytes = (breakpoints.len() as u64).saturating_mul(process.page);
    let mut map = MemoryMap {
        page_bytes: process.page,
        process: totals::totals(&process, &sums, breakpoint_anon_bytes, &mut notes),
        tree: capture.tree,
        breakpoint_anon_bytes,
        pieces,
        items,
        threads,
        thread_lists_known: found.lists_known,
        by_mappings: capture.by_mappings,
        arenas,
        malloc,
        hardening: None,
        platform_objects: BTreeSet::new(),
        own_objects: BTreeSet::new(),
        needed: elf::needed(&loaded),
        stack_limit_bytes: capture.stack_limit_bytes,
        notes: notes.into_vec(),
    };
    usage::take_out_breakpoints(&breakpoints, &mut map);
    for object in loaded {
        if object.kind() == ObjectKind::Executable {
            map.hardening = object.hardening();
        } else if object.own {
            map.own_objects.insert(object.name);
        } else {
            map.platform_objects.insert(object.name);
        }
    }
    map
}
