//! `State`: one `malloc_state` of glibc. Its layout is told by its own 127 bins, not by a table of versions; and the main arena
//! is found by the ring of arenas, a symbol, or the self-reference that an arena's `next` is when it is alone.

use std::collections::BTreeSet;

use crate::model::{Object, ObjectKind};

use super::super::process::{Area, Process};

/// Distances from `malloc_state` to its bins: 2.43 (no fastbins), up to 2.26, 2.27 to 2.42 (`have_fastchunks`). malloc/malloc.c.
const BINS: [u64; 3] = [0x18, 0x68, 0x70];

/// Number of bins (`NBINS` 128, the first does not exist).
pub(super) const BIN_COUNT: usize = 127;

/// From the bins to `next`: 254 words of bins and the 16 bytes of `binmap`.
const NEXT: u64 = 0x800;

/// Number of fastbins (`NFASTBINS` with the default `MAX_FAST_SIZE`), which end 16 bytes below the bins.
const FASTBINS: usize = 10;

/// Bins that must be sound for an address to be an arena. All are when it is at rest.
const ENOUGH: usize = 120;

/// Most arenas followed on the ring.
const MAX_ARENAS: usize = 1 << 14;

/// Most memory of a C library's or a static program's data searched for the main arena.
const MAX_SEARCH: u64 = 64 << 20;

/// A `malloc_state`. Addresses and bytes.
#[derive(Clone, Debug)]
pub(super) struct State {
    pub(super) address: u64,
    /// Address of the first bin's `fd`.
    pub(super) bins: u64,
    /// One past the structure.
    pub(super) end: u64,
    /// The main arena: its chunks say so.
    pub(super) is_main: bool,
    /// Somebody is inside malloc with this arena.
    pub(super) locked: bool,
    pub(super) top: u64,
    pub(super) next: u64,
    /// Number of threads attached, where this version counts them.
    pub(super) attached: Option<u64>,
    /// Bytes the arena has from the system.
    pub(super) system_bytes: u64,
    /// Heads of the fastbins; all 0 where there are none.
    pub(super) fast: [u64; FASTBINS],
}

impl State {
    /// Reads the state at an address. `heaps_bytes`: what its heaps sum to, for a secondary arena.
    fn read(process: &Process<'_>, address: u64, offset: u64, heaps_bytes: Option<u64>) -> Option<Self> {
        let bins = address.checked_add(offset)?;
        let [top, _] = process.words::<2>(bins.checked_sub(16)?)?;
        let [next, _, first, second, third] = process.words::<5>(bins.checked_add(NEXT)?)?;
        // `attached_threads` came with 2.23, and before in some distributions: a small number, where bytes would be pages.
        let counts = match heaps_bytes {
            Some(bytes) => first != bytes && second == bytes,
            None => first < 4096 && second <= third,
        };
        Some(Self {
            address,
            bins,
            is_main: heaps_bytes.is_none(),
            end: bins + NEXT + if counts { 0x28 } else { 0x20 },
            locked: process.u32(address)? != 0,
            top,
            next,
            attached: counts.then_some(first),
            system_bytes: if counts { second } else { first },
            fast: if offset == BINS[0] {
                [0; FASTBINS]
            } else {
                process.words::<FASTBINS>(bins.checked_sub(0x60)?)?
            },
        })
    }

    /// `top` of an arena that has no memory yet points at its first bin (`initial_top`), or nowhere before the first call.
    pub(super) fn is_empty(&self) -> bool {
        self.system_bytes == 0 && (self.top == 0 || self.top == self.bins - 16)
    }

    /// 2.27 and later: threads have caches of freed chunks. 2.26 looks like 2.25, which has none.
    pub(super) fn has_caches(&self) -> bool {
        self.bins.checked_sub(self.address) != Some(BINS[1])
    }

    /// Addresses of the bins' heads as chunks.
    pub(super) fn heads(&self) -> impl Iterator<Item = u64> {
        let first = self.bins - 16;
        (0..BIN_COUNT as u64).map(move |i| first + 16 * i)
    }
}

/// Bins at an address that are a list head: empty, or with neighbours that point back.
fn sound_bins(process: &Process<'_>, bins: u64) -> usize {
    let mut words = [[0; 8]; 2 * BIN_COUNT];
    if !process.read(bins, words.as_flattened_mut()) {
        return 0;
    }
    let mut head = bins.wrapping_sub(16);
    let mut sound = 0;
    for pair in words.as_chunks::<2>().0 {
        let [fd, bk] = pair.map(u64::from_le_bytes);
        let points_back = |at: u64, by: u64| at.checked_add(by).and_then(|at| process.u64(at)) == Some(head);
        sound += usize::from((fd == head && bk == head) || (points_back(fd, 24) && points_back(bk, 16)));
        head = head.wrapping_add(16);
    }
    sound
}

/// The bins' distance for an arena: where most are sound. An offset wrong by one bin still shows most empty bins as sound.
fn offset(process: &Process<'_>, address: u64) -> Option<u64> {
    let scored = BINS.map(|offset| (sound_bins(process, address.wrapping_add(offset)), offset));
    let (sound, offset) = scored.into_iter().max()?;
    (sound >= ENOUGH).then_some(offset)
}

/// The arenas of a process: the main one, and the secondary ones of which the heaps are known.
pub(super) struct Arenas {
    pub(super) main: State,
    /// In the order asked for; `None` for one whose state cannot be read.
    pub(super) secondary: Vec<Option<State>>,
    /// Why the ring of arenas does not hold exactly these.
    pub(super) doubt: Option<String>,
}

/// Finds the main arena and reads all states. `secondary`: address and Σ `heap_info.size` of each secondary arena.
pub(super) fn find(process: &Process<'_>, secondary: &[(u64, u64)]) -> Option<Arenas> {
    let (main, offset) = by_ring(process, secondary)
        .or_else(|| by_symbol(process))
        .or_else(|| by_self_reference(process))?;
    let main = State::read(process, main, offset, None)?;
    let states = secondary
        .iter()
        .map(|(address, bytes)| State::read(process, *address, offset, Some(*bytes)))
        .collect();
    let doubt = ring_doubt(process, &main, offset, secondary);
    Some(Arenas {
        main,
        secondary: states,
        doubt,
    })
}

/// Follows `next` from a secondary arena until it leaves those that are known: to the main one.
fn by_ring(process: &Process<'_>, secondary: &[(u64, u64)]) -> Option<(u64, u64)> {
    let known: BTreeSet<u64> = secondary.iter().map(|(address, _)| *address).collect();
    secondary.iter().find_map(|(first, _)| {
        let offset = offset(process, *first)?;
        let mut at = *first;
        for _ in 0..=known.len() {
            at = process.u64(at.checked_add(offset)?.checked_add(NEXT)?)?;
            if !known.contains(&at) {
                let sound = sound_bins(process, at.checked_add(offset)?);
                return (sound >= ENOUGH).then_some((at, offset));
            }
        }
        None
    })
}

fn by_symbol(process: &Process<'_>) -> Option<(u64, u64)> {
    let address = process.symbol("main_arena")?;
    match offset(process, address) {
        Some(offset) => Some((address, offset)),
        None => BINS
            .into_iter()
            .find(|offset| untouched(process, address, *offset))
            .map(|offset| (address, offset)),
    }
}

/// Nobody has called malloc yet: the arena is as it was linked, its bins zero and its `next` itself.
fn untouched(process: &Process<'_>, address: u64, offset: u64) -> bool {
    let Some(bins) = address.checked_add(offset) else {
        return false;
    };
    let next = bins.checked_add(NEXT).and_then(|at| process.words::<5>(at));
    next.is_some_and(|[next, free, attached, system, _]| next == address && free == 0 && attached <= 1 && system == 0)
        && process.words::<254>(bins).is_some_and(|words| words == [0; 254])
}

/// With no other arena, `next` of the main one points at its own beginning, at one of three distances.
fn by_self_reference(process: &Process<'_>) -> Option<(u64, u64)> {
    let mut best: Option<(usize, u64, u64)> = None;
    let mut left = MAX_SEARCH;
    let is_static = |object: &&Object| {
        let alone = object.facts.as_ref().is_some_and(|facts| facts.interpreter.is_none());
        object.kind == ObjectKind::Executable && alone
    };
    let programs: Vec<&Object> = process.capture.objects.iter().filter(is_static).collect();
    for area in &process.areas {
        let perms = area.region.perms;
        if !(perms.write && !perms.shared && (is_library_data(process, area) || is_static_data(process, &programs, area.start))) {
            continue;
        }
        let end = area.end.min(area.start.saturating_add(left));
        left -= end - area.start;
        let found = process.search(area.start, end, |at, word| {
            // One comparison a word: which of the distances it is, is asked below.
            at.wrapping_sub(word).wrapping_sub(NEXT) <= BINS[2]
        });
        for at in found {
            let (Some(bins), Some(address)) = (at.checked_sub(NEXT), process.u64(at)) else {
                continue;
            };
            let Some(offset) = bins.checked_sub(address).filter(|offset| BINS.contains(offset)) else {
                continue;
            };
            let sound = sound_bins(process, bins);
            let is_enough = sound >= ENOUGH || !untouched(process, address, offset);
            let score = if is_enough { sound } else { ENOUGH };
            if score >= ENOUGH && best.is_none_or(|(most, ..)| score > most) {
                best = Some((score, address, offset));
            }
        }
    }
    best.map(|(_, address, offset)| (address, offset))
}

/// Data of a file whose name is a C library's.
fn is_library_data(process: &Process<'_>, area: &Area<'_>) -> bool {
    let region = area.region;
    let is_libc = |name: &[u8]| name.starts_with(b"libc.so") || name.starts_with(b"libc-");
    let by_soname = || {
        process.capture.objects.iter().any(|object| {
            let soname = object.facts.as_ref().and_then(|facts| facts.soname.as_ref());
            (object.dev, object.inode) == (region.dev, region.inode) && soname.is_some_and(|name| is_libc(name.as_bytes()))
        })
    };
    region.inode != 0 && (is_libc(region.name.file_name_bytes()) || by_soname())
}

/// Data or bss of a static executable.
fn is_static_data(process: &Process<'_>, programs: &[&Object], at: u64) -> bool {
    programs.iter().any(|program| {
        let inside = |vaddr: u64, memsz: u64| {
            let start = process.down(program.bias.wrapping_add(vaddr));
            (start..process.up(start.saturating_add(memsz).saturating_add(process.page))).contains(&at)
        };
        let mut segments = program.facts.iter().flat_map(|facts| &facts.segments);
        segments.any(|segment| inside(segment.vaddr, segment.memsz))
    })
}

/// The ring from the main arena must visit the known secondary arenas, each once, and no other.
fn ring_doubt(process: &Process<'_>, main: &State, offset: u64, secondary: &[(u64, u64)]) -> Option<String> {
    let mut expected: BTreeSet<u64> = secondary.iter().map(|(address, _)| *address).collect();
    let mut at = main.next;
    for _ in 0..MAX_ARENAS {
        if at == main.address {
            let missing = expected.len();
            return (missing > 0).then(|| format!("{missing} arenas are not on malloc's ring"));
        }
        if !expected.remove(&at) {
            return Some("malloc's ring of arenas leads to one that was not found".to_owned());
        }
        let Some(next) = at
            .checked_add(offset)
            .and_then(|bins| bins.checked_add(NEXT))
            .and_then(|next| process.u64(next))
        else {
            break;
        };
        at = next;
    }
    Some("malloc's ring of arenas cannot be followed".to_owned())
}
