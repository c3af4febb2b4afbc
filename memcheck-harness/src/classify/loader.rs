//! Memory the dynamic loader allocates before libc's malloc exists: link maps and the main thread's TLS block. They share
//! regions with what the program maps later, so their bounds come from the loader's own pointers.

use crate::model::{Class, Name, Role, SegmentKind};

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

/// What of a region is the loader's.
struct Extent<'p> {
    area: &'p Area<'p>,
    low: u64,
    high: u64,
}

/// In each region that holds link maps, the pages from the lowest to the highest thing they are or point at in that region.
fn link_maps(process: &Process<'_>, item: ItemId, claims: &mut Claims) {
    let mut extents: Vec<Extent<'_>> = Vec::new();
    for map in chain(process) {
        let known = extents.last().map(|last| last.area).filter(|area| area.end > map);
        let Some(area) = known.or_else(|| process.area_at(map).filter(|area| is_loader_memory(area))) else {
            continue;
        };
        if known.is_none() {
            extents.push(Extent {
                area,
                low: map,
                high: map,
            });
        }
        let Some(extent) = extents.last_mut() else { continue };
        extent.high = extent.high.max(map.saturating_add(LINK_MAP_BYTES).min(area.end));
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
            extent.low = extent.low.min(pointer);
            extent.high = extent.high.max(pointer.saturating_add(1));
        }
    }
    for Extent { area, low, high } in extents {
        let range = (process.down(low), process.up(high).min(area.end));
        claims.add(range, Priority::Loader, item, certain("holds the loader's link maps"));
        rest(range.1, area.end, item, claims);
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

/// Addresses of link maps, in order: `r_debug.r_map` → `l_next` (link.h).
fn chain(process: &Process<'_>) -> Vec<u64> {
    let mut maps = Vec::new();
    let mut at = by_loader(process).or_else(|| by_executable(process)).unwrap_or(0);
    // A list that leads back into itself comes by one of those at a power of two again.
    let mut mark = 0;
    while at != 0 && at != mark && maps.len() < MAX_OBJECTS {
        maps.push(at);
        if maps.len().is_power_of_two() {
            mark = at;
        }
        at = at.checked_add(24).and_then(|at| process.u64(at)).unwrap_or(0);
    }
    maps.sort_unstable();
    maps.dedup();
    maps
}

/// The first link map as the loader itself tells debuggers (`_r_debug`, `r_version` and `r_map`). It sets both up for the first list,
/// the program's own, before it lets `DT_DEBUG` of the program lead there, and the program's map stays the first: both ways end at
/// the same one. glibc's loader has that name (2.2.5 and later), musl's has not, and often it stands beside other words that are read; where the program
/// has a copy (`R_*_COPY`), the loader's own holds the same. Before the loader runs its version is 0.
pub(super) fn by_loader(process: &Process<'_>) -> Option<u64> {
    let loader = process.interpreter()?;
    let is_64_bit = loader.facts.as_ref()?.class == Class::Elf64;
    let debug = loader
        .bias
        .wrapping_add(*loader.symbols.get("_r_debug").filter(|_| is_64_bit)?);
    let [version, first] = process.words::<2>(debug)?;
    (version & 0xffff_ffff != 0 && first != 0).then_some(first)
}

/// The first link map by `DT_DEBUG` of the executable, which every loader sets.
pub(super) fn by_executable(process: &Process<'_>) -> Option<u64> {
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

    let Some(object) = process.executable() else { return };
    let mut segments = object.facts.iter().flat_map(|facts| &facts.segments);
    let Some(tls) = segments.find(|segment| segment.kind == SegmentKind::Tls) else {
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
        let tls = claims.item(Role::Tls, object.path.file_name(), None);
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

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::super::fake::Fake;
    use super::super::process::Notes;
    use super::*;
    use crate::model::ObjectKind;

    /// The second one's program has a copy of the loader's words.
    #[cfg(target_env = "gnu")]
    #[test]
    fn both_ways_lead_to_the_link_map_that_the_program_itself_finds() {
        use super::super::live_tests::{COMMON, Target, build};

        let dir = tempfile::TempDir::new().unwrap();
        let source = format!("{COMMON}\n#include <link.h>\nint main(void) {{ printf(\"%p\\n\", _r_debug.r_map); ready(); }}");
        for how in [&["-fPIE", "-pie"], &["-fno-pie", "-no-pie"]] {
            let program = build(&dir, "gcc", "first.c", &source, &[&how[..], &["-O1", "-pthread"]].concat());
            let target = Target::start(&program);
            let (capture, _) = target.measure();
            let memory = crate::capture::memory_of(capture.pid, &capture.threads).unwrap();
            let process = Process::new(&capture, &memory, &mut Notes::default());
            let truth = target.said.first().map(|text| text.trim_start_matches("0x"));
            let truth = u64::from_str_radix(truth.unwrap_or_default(), 16).ok();
            assert!(truth.is_some());
            assert_eq!((by_loader(&process), by_executable(&process)), (truth, truth), "{how:?}");
            assert!(chain(&process).len() >= 3, "program, libc and loader");
        }
    }

    #[test]
    fn a_loader_that_has_not_run_yet_tells_nothing_and_a_list_may_lead_back_into_itself() {
        let mut fake = Fake::new();
        fake.region((0x1_0000, 0x1_1000), "rw-p", "");
        let symbols = [("_r_debug".to_owned(), 0x100)].into();
        fake.object(ObjectKind::Interpreter, "/lib/ld.so", 0x1_0000, &[], None)
            .symbols = Arc::new(symbols);
        let first = |fake: &Fake| by_loader(&Process::new(&fake.capture, fake, &mut Notes::default()));
        fake.words(0x1_0100, &[0, 0x1_0200]);
        assert_eq!(first(&fake), None);
        fake.words(0x1_0100, &[1, 0]);
        assert_eq!(first(&fake), None);
        fake.words(0x1_0100, &[2, 0x1_0200]);
        assert_eq!(first(&fake), Some(0x1_0200));
        let maps: Vec<u64> = (0..12).map(|index| 0x1_0200 + 0x40 * (index * 5 % 12)).collect();
        for length in 1..=maps.len() {
            for back in 0..length {
                let next = |index: usize| if index + 1 < length { maps[index + 1] } else { maps[back] };
                for (index, map) in maps.iter().enumerate() {
                    fake.words(map + 24, &[next(index)]);
                }
                let mut expected = maps[..length].to_vec();
                expected.sort_unstable();
                let process = Process::new(&fake.capture, &fake, &mut Notes::default());
                assert_eq!(chain(&process), expected);
            }
        }
    }
}
