//! Which thread allocates from which arena, and where its cache of freed chunks is: `thread_arena` and `tcache`, two
//! thread-local variables of libc, found by what they point at.

use std::collections::{BTreeMap, BTreeSet};

use super::super::loader::tls_bytes;
use super::super::process::{Area, Process};
use super::super::threads::Found;
use super::lists::{self, Cache};

/// Most static TLS searched in one thread.
const MAX_TLS: u64 = 1 << 20;

/// What a libc may keep in TLS: `tcache` lies this near to `thread_arena` (the whole of it is 0x90 bytes in 2.36).
const LIBC_TLS: u64 = 0x200;

/// Words from so far before to so far after it.
const SLOTS: usize = 2 * LIBC_TLS as usize / 8 + 1;

/// TLS beyond the objects' own: the surplus, alignment and the header of the block on machines where it lies above.
const SLACK: u64 = 0x200;

const NOT_FOUND: &str = "the caches of its threads were not found";

/// What is known of the threads' use of malloc.
#[derive(Default)]
pub(super) struct Attached {
    /// Live threads by arena. A thread that never allocated has none.
    pub(super) threads: BTreeMap<u64, Vec<i32>>,
    /// Chunks in the threads' caches.
    pub(super) cached: Vec<lists::Listed>,
    /// Whether the links of their lists are protected; absent when all are empty.
    pub(super) safe: Option<bool>,
    /// Why the caches are not known.
    pub(super) doubt: Option<String>,
}

/// Looks into the threads. `arenas` are the addresses of all arenas; `must_have`: this version of malloc has caches; absent:
/// nobody asks for what is in them.
pub(super) fn find(
    process: &Process<'_>,
    found: &Found<'_>,
    arenas: &BTreeSet<u64>,
    must_have: Option<bool>,
    left: &mut usize,
) -> Attached {
    let threads: Vec<(i32, u64)> = process
        .capture
        .threads
        .iter()
        .filter_map(|thread| Some((thread.tid, thread.tls_base?)))
        .collect();
    let slots = arena_slots(process, found.tls_below, &threads, arenas);
    if let (None, [slot]) = (must_have, &slots[..]) {
        return Attached {
            threads: by_arena(process, &threads, arenas, *slot),
            ..Attached::default()
        };
    }
    // The caches beside it tell the true one of several.
    let must_have = must_have.unwrap_or(false);
    let best = slots
        .into_iter()
        .map(|slot| caches(process, &threads, (arenas, must_have), slot, left))
        .max_by_key(|candidate| (candidate.score, candidate.attached));
    let Some(best) = best else {
        return Attached {
            doubt: Some(NOT_FOUND.to_owned()),
            ..Attached::default()
        };
    };
    best.result
}

fn at(base: u64, slot: i64) -> Option<u64> {
    base.checked_add_signed(slot)
}

/// Distances from the TLS base at which every live thread has an arena or nothing, and one at least has an arena.
fn arena_slots(process: &Process<'_>, below: bool, threads: &[(i32, u64)], arenas: &BTreeSet<u64>) -> Vec<i64> {
    let reach = tls_bytes(process).saturating_add(SLACK + LIBC_TLS).min(MAX_TLS);
    for (_, base) in threads {
        let range = if below {
            (base.saturating_sub(reach), *base)
        } else {
            (*base, base.saturating_add(reach))
        };
        let slots: Vec<i64> = process
            .search(range.0, range.1, |_, word| arenas.contains(&word))
            .into_iter()
            .map(|address| address.wrapping_sub(*base).cast_signed())
            .filter(|slot| {
                threads.iter().all(|(_, base)| {
                    let word = at(*base, *slot).and_then(|address| process.u64(address)).unwrap_or(0);
                    word == 0 || arenas.contains(&word)
                })
            })
            .collect();
        if !slots.is_empty() {
            return slots;
        }
    }
    Vec::new()
}

/// A place in the threads' storage that may point at their caches.
struct Slot {
    at: i64,
    score: usize,
    torn: bool,
    chunks: Vec<lists::Listed>,
    /// Some links are not protected; some are.
    ways: [bool; 2],
}

impl Slot {
    const fn new(at: i64) -> Self {
        Self {
            at,
            score: 0,
            torn: false,
            chunks: Vec::new(),
            ways: [false; 2],
        }
    }

    /// What one thread has there. `uses`: it has an arena.
    fn look(&mut self, process: &Process<'_>, word: u64, uses: bool, left: &mut usize) {
        if word == 0 {
            // A thread gets its arena and its cache together, and gives them back together.
            self.torn |= uses;
            return;
        }
        let Some(area) = process.area_at(word) else {
            // No address: the thread has something else there.
            self.torn = true;
            return;
        };
        if is_common_empty(process, area, word) {
            self.score += 1;
        } else {
            match lists::cache(process, word, left) {
                Cache::Sound(entries, safe) => {
                    self.score += 1;
                    self.chunks.extend(entries);
                    if let Some(safe) = safe {
                        self.ways[usize::from(safe)] = true;
                    }
                }
                Cache::Torn => {
                    self.score += 1;
                    self.torn = true;
                }
                Cache::Other => self.torn = true,
            }
        }
    }
}

struct Candidate {
    score: usize,
    attached: usize,
    result: Attached,
}

/// The threads' arenas by one slot.
fn by_arena(process: &Process<'_>, threads: &[(i32, u64)], arenas: &BTreeSet<u64>, slot: i64) -> BTreeMap<u64, Vec<i32>> {
    let mut found: BTreeMap<u64, Vec<i32>> = BTreeMap::new();
    for (tid, base) in threads {
        if let Some(arena) = at(*base, slot).and_then(|address| process.u64(address))
            && arenas.contains(&arena)
        {
            found.entry(arena).or_default().push(*tid);
        }
    }
    found
}

/// The threads' arenas by one slot, and the caches by the best slot near it.
fn caches(
    process: &Process<'_>,
    threads: &[(i32, u64)],
    (arenas, must_have): (&BTreeSet<u64>, bool),
    arena_slot: i64,
    left: &mut usize,
) -> Candidate {
    let by_arena = by_arena(process, threads, arenas, arena_slot);
    let users: BTreeSet<i32> = by_arena.values().flatten().copied().collect();
    let reach = i64::try_from(LIBC_TLS).unwrap_or(0);
    let mut slots: Vec<Slot> = (arena_slot - reach..=arena_slot + reach).step_by(8).map(Slot::new).collect();
    for (tid, base) in threads {
        let first = slots.first().and_then(|slot| at(*base, slot.at));
        let words = first.and_then(|first| process.words::<SLOTS>(first));
        for (index, slot) in slots.iter_mut().enumerate().filter(|(_, slot)| slot.at != arena_slot) {
            let known = words.as_ref().and_then(|words| words.get(index).copied());
            let word = known.or_else(|| at(*base, slot.at).and_then(|address| process.u64(address)));
            slot.look(process, word.unwrap_or(0), users.contains(tid), left);
        }
    }
    let mut best = Slot::new(arena_slot);
    for slot in slots {
        if (slot.score, slot.chunks.len()) > (best.score, best.chunks.len()) {
            best = slot;
        }
    }
    let Slot {
        score,
        chunks: cached,
        torn,
        ways,
        ..
    } = best;
    let doubt = if (torn && score > 0) || ways == [true, true] {
        Some("a thread was stopped while it changed its cache of freed chunks")
    } else if must_have && score == 0 {
        Some(NOT_FOUND)
    } else {
        None
    };
    Candidate {
        score,
        attached: by_arena.values().map(Vec::len).sum(),
        result: Attached {
            threads: by_arena,
            cached,
            safe: [false, true].into_iter().find(|safe| ways[usize::from(*safe)]),
            doubt: doubt.map(str::to_owned),
        },
    }
}

/// From 2.42 a thread without a cache points at an empty one in libc's own read-only data, that all threads share.
fn is_common_empty(process: &Process<'_>, area: &Area<'_>, at: u64) -> bool {
    let of_file = area.region.inode != 0 && !area.region.perms.write;
    of_file && process.words::<80>(at).is_some_and(|words| words == [0; 80])
}
