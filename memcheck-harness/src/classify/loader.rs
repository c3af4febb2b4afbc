//! Memory the dynamic loader allocates before libc's malloc exists: link maps and the main thread's TLS block. They share
//! regions with what the program maps later, so their bounds come from the loader's own pointers.

use std::collections::{BTreeMap, BTreeSet};

use crate::model::{Name, Role, SegmentKind};

use super::interval::{Claims, ItemId, Priority, certain, likely};
use super::process::{Area, Process};
use super::threads::Found;

/// Most objects followed on the list of link maps.
const MAX_OBJECTS: usize = 1 << 14;

/// Bytes of a `link_map` with its private part: 0x468 to 0x4d8 in glibc 2.23 to 2.43.
const LINK_MAP_BYTES: u64 = 0x480;
const LINK_MAP_WORDS: usize = LINK_MAP_BYTES as usize / 8;

/// Words after the start of a descriptor among which the pointer to the block's allocation stands.
const AFTER_DESCRIPTOR: std::ops::Range<u64> = 0x700..0xc00;
const AFTER_DESCRIPTOR_WORDS: usize = (AFTER_DESCRIPTOR.end - AFTER_DESCRIPTOR.start) as usize / 8;

/// What may follow the loader's last known byte in the same region and still be its own: addresses are handed out
/// downwards, so memory above was mapped earlier, before the program ran.
const MAX_REST: u64 = 64 << 10;

/// Static TLS that glibc adds for objects loaded later (`TLS_STATIC_SURPLUS`) and the descriptor, at least.
const TLS_SURPLUS: u64 = 0x1000;

/// Claims the loader's private memory.
pub(super) fn claim(process: &Process<'_>, found: &Found<'_>, claims: &mut Claims) {
    let item = claims.item(Role::Platform, Name::from("ld.so"), None);
    link_maps(process, item, claims);
    if let Some(pd) = found.main {
        main_tls(process, found, pd, item, claims);
    }
}

fn is_loader_memory(area: &Area<'_>) -> bool {
    area.plain_memory() && (area.region.name.is_empty() || area.region.name.as_bytes() == b"[anon: glibc: loader malloc]")
}

/// In each region that holds link maps, the pages from the lowest to the highest thing they are or point at in that region.
fn link_maps(process: &Process<'_>, item: ItemId, claims: &mut Claims) {
    let mut extents: BTreeMap<u64, (u64, u64, u64)> = BTreeMap::new();
    for map in chain(process) {
        let Some(area) = process.area_at(map).filter(|area| is_loader_memory(area)) else {
            continue;
        };
        let extent = extents.entry(area.start).or_insert((map, map, area.end));
        extent.0 = extent.0.min(map);
        extent.1 = extent.1.max(map.saturating_add(LINK_MAP_BYTES).min(area.end));
        // Names, search lists and version tables of the object.
        let mut words = process.words::<LINK_MAP_WORDS>(map);
        if words.is_none() {
            // In parts: the last page may never have been touched.
            let all = words.insert([0; LINK_MAP_WORDS]);
            for (part, words) in (0_u64..).zip(all.as_chunks_mut::<12>().0) {
                *words = process.words::<12>(map.saturating_add(part * 96)).unwrap_or_default();
            }
        }
        for pointer in words.into_iter().flatten().filter(|pointer| area.region.contains(*pointer)) {
            extent.0 = extent.0.min(pointer);
            extent.1 = extent.1.max(pointer.saturating_add(1));
        }
    }
    for (low, high, area_end) in extents.into_values() {
        let range = (process.down(low), process.up(high).min(area_end));
        claims.add(range, Priority::Loader, item, certain("holds the loader's link maps"));
        rest(range.1, area_end, item, claims);
    }
}

fn rest(from: u64, area_end: u64, item: ItemId, claims: &mut Claims) {
    if area_end.saturating_sub(from) <= MAX_REST {
        claims.add(
            (from, area_end),
            Priority::Loader,
            item,
            likely("above the loader's own memory: mapped before the program ran"),
        );
    }
}

/// Addresses of link maps: `DT_DEBUG` → `r_debug.r_map` → `l_next` (link.h).
fn chain(process: &Process<'_>) -> BTreeSet<u64> {
    let mut maps = BTreeSet::new();
    let Some(mut at) = first_link_map(process) else { return maps };
    while at != 0 && maps.len() < MAX_OBJECTS && maps.insert(at) {
        let Some(next) = at.checked_add(24).and_then(|at| process.u64(at)) else {
            break;
        };
        at = next;
    }
    maps
}

fn first_link_map(process: &Process<'_>) -> Option<u64> {
    let executable = process.executable()?;
    let segments = &executable.facts.as_ref()?.segments;
    let dynamic = segments.iter().find(|segment| segment.kind == SegmentKind::Dynamic)?;
    let start = executable.bias.wrapping_add(dynamic.vaddr);
    let entries = (dynamic.memsz / 16).min(4096);
    let debug = (0..entries)
        .map_while(|i| process.words::<2>(start.checked_add(i * 16)?))
        .find(|[tag, _]| *tag == 21)?;
    process.u64(debug[1].checked_add(8)?)
}

/// The block that holds the main thread's static TLS and descriptor. Static programs keep it in the brk heap.
fn main_tls(process: &Process<'_>, found: &Found<'_>, pd: u64, item: ItemId, claims: &mut Claims) {
    let Some(area) = process.area_at(pd).filter(|area| is_loader_memory(area)) else {
        return;
    };
    let descriptor_end = pd.saturating_add(found.descriptor_bytes.unwrap_or(AFTER_DESCRIPTOR.end - 0x280));
    let (low, evidence) = match allocation(process, found, pd, area) {
        Some(pointer) => (
            pointer,
            certain("main thread's TLS and descriptor, as the loader allocated them"),
        ),
        None => (
            estimate(process, pd).max(area.start),
            likely("main thread's TLS and descriptor, size estimated"),
        ),
    };
    let range = (process.down(low), process.up(descriptor_end).min(area.end));
    claims.add(range, Priority::Loader, item, evidence);
    rest(range.1, area.end, item, claims);

    let own = process
        .executable()
        .and_then(|object| Some((object.path.file_name(), object.facts.as_ref()?)));
    let Some((file, facts)) = own else { return };
    let Some(tls) = facts.segments.iter().find(|segment| segment.kind == SegmentKind::Tls) else {
        return;
    };
    // ELF TLS variant II (x86-64): the executable's block ends at the descriptor. Variant I keeps its own place above.
    if found.tls_below
        && tls.memsz >= process.page
        && let Some(start) = tls
            .memsz
            .checked_next_multiple_of(tls.align.max(1))
            .and_then(|size| pd.checked_sub(size))
    {
        let whole_pages = (process.up(start).max(area.start), process.down(pd).min(area.end));
        let tls = claims.item(Role::Tls, file, None);
        claims.add(whole_pages, Priority::Tls, tls, certain("PT_TLS of the executable"));
    }
}

/// Since 2.25 glibc keeps the pointer that its allocator returned in the word after the descriptor
/// (`tcb_to_pointer_to_free_location`, elf/dl-tls.c). Without the descriptor's size it is looked for: it is the lowest
/// pointer into the region from there that lies below the descriptor.
fn allocation(process: &Process<'_>, found: &Found<'_>, pd: u64, area: &Area<'_>) -> Option<u64> {
    let limit = pd.checked_sub(tls_bytes(process))?;
    let plausible = |pointer: &u64| area.region.contains(*pointer) && *pointer <= limit && pointer.is_multiple_of(16);
    if let Some(bytes) = found.descriptor_bytes {
        return process.u64(pd.checked_add(bytes)?).filter(plausible);
    }
    if !found.tls_below {
        return None;
    }
    let first = pd.checked_add(AFTER_DESCRIPTOR.start)?;
    let at_once = process.words::<AFTER_DESCRIPTOR_WORDS>(first);
    (0_u64..AFTER_DESCRIPTOR_WORDS as u64)
        .step_by(2)
        .filter_map(|index| match &at_once {
            Some(words) => words.get(usize::try_from(index).ok()?).copied(),
            None => process.u64(first.checked_add(8 * index)?),
        })
        .filter(plausible)
        .min()
}

/// Static TLS of the objects loaded, at least.
pub(super) fn tls_bytes(process: &Process<'_>) -> u64 {
    let objects = process.capture.objects.iter().filter_map(|object| object.facts.as_ref());
    objects
        .flat_map(|facts| &facts.segments)
        .filter(|segment| segment.kind == SegmentKind::Tls)
        .fold(0_u64, |sum, tls| sum.saturating_add(tls.memsz))
}

fn estimate(process: &Process<'_>, pd: u64) -> u64 {
    process.down(pd.saturating_sub(tls_bytes(process).saturating_add(TLS_SURPLUS)))
}
