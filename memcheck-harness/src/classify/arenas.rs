//! Secondary arenas of glibc's malloc, found by the headers of their heaps alone: no symbols, no version table.
//! The main arena and the chunks inside are the business of `malloc`.

use std::collections::{BTreeMap, BTreeSet};

use crate::model::{ArenaFact, Class, HeapFact, Name, ObjectKind, Role};

use super::interval::{Claims, Priority, certain};
use super::malloc;
use super::process::{Area, Process};

/// `HEAP_MAX_SIZE` on 64-bit: 2 * `DEFAULT_MMAP_THRESHOLD_MAX`, malloc/arena.c. Heaps are aligned to it.
const HEAP_MAX: u64 = 64 << 20;

/// The same with `glibc.malloc.hugetlb=2` and 2 MiB pages.
const HEAP_MAX_HUGE: u64 = 8 << 20;

/// Most places probed in all: 64 TiB of address space.
const MAX_PROBES: u64 = 1 << 20;

/// A `heap_info` that looks right by itself.
#[derive(Clone, Copy)]
struct Heap {
    arena: u64,
    prev: u64,
    size: u64,
    committed: u64,
    max: u64,
}

/// Claims the heaps of all secondary arenas, by address; absent when there is no glibc in the process.
pub(super) fn claim(process: &Process<'_>, claims: &mut Claims) -> Option<Vec<ArenaFact>> {
    let is_32_bit = process
        .executable()
        .and_then(|object| object.facts.as_ref())
        .is_some_and(|facts| facts.class == Class::Elf32);
    if is_32_bit {
        return None;
    }
    let heaps = valid(candidates(process));
    if heaps.is_empty() && !has_glibc(process) {
        return None;
    }
    let mut arenas: BTreeMap<u64, Vec<(u64, Heap)>> = BTreeMap::new();
    for (start, heap) in heaps {
        arenas.entry(heap.arena).or_default().push((start, heap));
    }
    let mut facts = Vec::with_capacity(arenas.len());
    for (address, heaps) in arenas {
        let item = claims.item(Role::ThreadArena, Name::default(), None);
        for (start, heap) in &heaps {
            let (committed_end, end) = (start + heap.committed, start + heap.max);
            claims.add(
                (*start, committed_end),
                Priority::Arena,
                item,
                certain("heap header of an arena"),
            );
            claims.add(
                (committed_end, end),
                Priority::Arena,
                item,
                certain("reserved tail of an arena's heap"),
            );
        }
        let heaps = heaps
            .into_iter()
            .map(|(start, heap)| HeapFact {
                start,
                size_bytes: heap.size,
                committed_bytes: heap.committed,
            })
            .collect();
        facts.push(ArenaFact {
            address,
            heaps,
            ..ArenaFact::default()
        });
    }
    Some(facts)
}

/// glibc is loaded, about to be loaded by its own loader, or linked in and recognisable: in a stripped program by its main arena.
fn has_glibc(process: &Process<'_>) -> bool {
    let is_libc = |name: &[u8]| name == b"libc.so.6" || name.starts_with(b"libc-2.");
    process.capture.objects.iter().any(|object| {
        let file = object.path.file_name_bytes();
        let soname = object.facts.as_ref().and_then(|facts| facts.soname.as_ref());
        is_libc(file)
            || soname.is_some_and(|name| is_libc(name.as_bytes()))
            || (object.kind == ObjectKind::Interpreter && (file.starts_with(b"ld-linux") || file.starts_with(b"ld-2.")))
            || object.symbols.contains_key("_dl_stack_used")
            || object.symbols.contains_key("_thread_db_pthread_list")
            || (object.kind == ObjectKind::Executable
                && object.facts.as_ref().is_some_and(|facts| facts.interpreter.is_none())
                && malloc::is_here(process))
    })
}

/// Probes every aligned address inside writable private memory: merged regions begin earlier than their heaps.
fn candidates(process: &Process<'_>) -> BTreeMap<u64, Heap> {
    let mut found = BTreeMap::new();
    let mut probes = 0;
    // Most areas have no place for a heap, of either size.
    let has_place = |area: &&Area<'_>| {
        area.start
            .checked_next_multiple_of(HEAP_MAX_HUGE)
            .is_some_and(|at| at < area.end)
    };
    for area in process.areas.iter().filter(has_place).filter(|area| area.plain_memory()) {
        let huge = area.flag(b"ht") || !area.region.name.is_empty();
        for max in if huge { &[HEAP_MAX, HEAP_MAX_HUGE][..] } else { &[HEAP_MAX] } {
            let Some(mut at) = area.start.checked_next_multiple_of(*max) else {
                continue;
            };
            while at < area.end && probes < MAX_PROBES {
                probes += 1;
                if !found.contains_key(&at)
                    && let Some(heap) = header(process, at, *max)
                {
                    found.insert(at, heap);
                }
                let Some(next) = at.checked_add(*max) else { break };
                at = next;
            }
        }
    }
    found
}

/// `heap_info`: ar_ptr, prev, size, mprotect_size. The arena of a first heap follows its header of 0x20 (0x30 from 2.35) bytes.
fn header(process: &Process<'_>, at: u64, max: u64) -> Option<Heap> {
    let [arena, prev, size, committed] = process.words::<4>(at)?;
    let whole_pages = size % process.page == 0 && committed % process.page == 0;
    let sizes = 0 < size && size <= committed && committed <= max;
    let chained = if prev == 0 {
        matches!(arena.wrapping_sub(at), 0x20 | 0x30)
    } else {
        prev % max == 0 && prev != at
    };
    if !(arena % 8 == 0 && arena != 0 && whole_pages && sizes && chained) {
        return None;
    }
    let (committed_end, end) = (at.checked_add(committed)?, at.checked_add(max)?);
    let tail = committed_end == end || process.covered(committed_end, end, |area| area.inaccessible());
    (tail && process.covered(at, committed_end, |area| area.plain_memory())).then_some(Heap {
        arena,
        prev,
        size,
        committed,
        max,
    })
}

/// Keeps the heaps whose chain of `prev` ends, within the same arena, at a first heap. Each heap is visited once.
fn valid(candidates: BTreeMap<u64, Heap>) -> BTreeMap<u64, Heap> {
    let mut good: BTreeSet<u64> = BTreeSet::new();
    let mut bad: BTreeSet<u64> = BTreeSet::new();
    for (start, first) in &candidates {
        let mut path = BTreeSet::new();
        let mut at = *start;
        let ends_well = loop {
            let Some(heap) = candidates.get(&at).filter(|heap| heap.arena == first.arena) else {
                break false;
            };
            if good.contains(&at) {
                break true;
            }
            if bad.contains(&at) || !path.insert(at) {
                break false;
            }
            if heap.prev == 0 {
                break true;
            }
            at = heap.prev;
        };
        // All on the path have one arena and one end.
        if ends_well { &mut good } else { &mut bad }.extend(path);
    }
    candidates.into_iter().filter(|(start, _)| good.contains(start)).collect()
}
