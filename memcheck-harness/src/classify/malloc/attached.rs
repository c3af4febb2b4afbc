//! Which thread allocates from which arena, and where its cache of freed chunks is: `thread_arena` and `tcache`, two
//! thread-local variables of libc, found by what they point at.

use std::collections::{BTreeMap, BTreeSet};

use super::super::loader::tls_bytes;
use super::super::process::Process;
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

/// A place in the threads' storage where something that may be a cache was found.
#[derive(Default)]
struct Slot {
    score: usize,
    chunks: Vec<lists::Listed>,
    /// What may be an empty cache that all threads share, and was not looked at yet: that takes a page.
    shared: Vec<u64>,
    /// Some links are not protected; some are.
    ways: [bool; 2],
}

impl Slot {
    /// What it is worth, at most.
    fn worth(&self) -> (usize, usize) {
        (self.score + self.shared.len(), self.chunks.len())
    }

    /// What one thread has there, if it can be a cache. False when its thread was stopped while it changed it.
    fn take(&mut self, cache: Cache) -> bool {
        self.score += 1;
        match cache {
            Cache::Sound(entries, safe) => {
                self.chunks.extend(entries);
                if let Some(safe) = safe {
                    self.ways[usize::from(safe)] = true;
                }
                true
            }
            Cache::Torn | Cache::Other => false,
        }
    }

    /// Looks at what was left. False when something of it is no cache.
    fn settle(&mut self, process: &Process<'_>) -> bool {
        let shared = std::mem::take(&mut self.shared);
        let count = shared.len();
        let empty = shared.into_iter().filter(|at| is_common_empty(process, *at)).count();
        self.score += empty;
        empty == count
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
    let places = || (arena_slot - reach..=arena_slot + reach).step_by(8).enumerate();
    // Most places hold no cache of any thread: of those, no more is known than that some thread has something else there.
    let mut torn = [false; SLOTS];
    let mut slots: BTreeMap<usize, Slot> = BTreeMap::new();
    for (tid, base) in threads {
        let uses = users.contains(tid);
        let words = at(*base, arena_slot - reach).and_then(|first| process.words::<SLOTS>(first));
        for (index, place) in places().filter(|(_, place)| *place != arena_slot) {
            let known = words.as_ref().and_then(|words| words.get(index).copied());
            let word = known.or_else(|| at(*base, place).and_then(|address| process.u64(address)));
            let is_torn = match look(process, word.unwrap_or(0), left) {
                // A thread gets its arena and its cache together, and gives them back together.
                Look::Nothing => uses,
                Look::Shared(at) => {
                    slots.entry(index).or_default().shared.push(at);
                    false
                }
                // The thread has something else there.
                Look::At(Cache::Other) => true,
                Look::At(cache) => !slots.entry(index).or_default().take(cache),
            };
            if let Some(known) = torn.get_mut(index) {
                *known |= is_torn;
            }
        }
    }
    // What is worth less than another one for sure need not be looked at.
    let sure = slots
        .values()
        .map(|slot| (slot.score, slot.chunks.len()))
        .max()
        .unwrap_or_default();
    let (mut best, mut is_torn) = (Slot::default(), false);
    for (index, mut slot) in slots {
        let mut torn = torn.get(index).copied().unwrap_or(false);
        if slot.worth() >= sure {
            torn |= !slot.settle(process);
        }
        if (slot.score, slot.chunks.len()) > (best.score, best.chunks.len()) {
            (best, is_torn) = (slot, torn);
        }
    }
    let Slot {
        score,
        chunks: cached,
        ways,
        ..
    } = best;
    let doubt = if (is_torn && score > 0) || ways == [true, true] {
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

/// What a word in a thread's storage may be.
enum Look {
    Nothing,
    /// In the read-only data of a file, where from 2.42 the empty cache lies that threads without one point at.
    Shared(u64),
    At(Cache),
}

fn look(process: &Process<'_>, word: u64, left: &mut usize) -> Look {
    if word == 0 {
        return Look::Nothing;
    }
    let area = if word.is_multiple_of(8) { process.area_at(word) } else { None };
    match area {
        // A cache is written to.
        Some(area) if area.region.inode != 0 && !area.region.perms.write => Look::Shared(word),
        // And allocated.
        Some(_) if !process.is_static_data(word) => Look::At(lists::cache(process, word, left)),
        _ => Look::At(Cache::Other),
    }
}

/// The empty cache of 2.42 that all threads share.
fn is_common_empty(process: &Process<'_>, at: u64) -> bool {
    process.words::<80>(at).is_some_and(|words| words == [0; 80])
}

#[cfg(test)]
mod tests {
    use super::super::super::fake::Fake;
    use super::super::super::process::Notes;
    use super::*;
    use crate::model::ObjectKind;

    const ARENA: u64 = 0x40_0000;
    const BASES: [u64; 2] = [0x1_1000, 0x1_1800];

    /// Two threads with an arena; the first one's cache holds one chunk, the second has none and points at what all share.
    fn two_threads(shared: &[u64]) -> Fake {
        let mut fake = Fake::new();
        fake.region((0x1_0000, 0x1_2000), "rw-p", "");
        fake.region((0x2_0000, 0x2_4000), "rw-p", "");
        fake.region((0x3_0000, 0x3_1000), "r--p", "/lib/libc.so.6");
        for (base, cache) in BASES.into_iter().zip([0x2_0010, 0x3_0000]) {
            fake.words(base - 0x40, &[ARENA]);
            fake.words(base - 0x48, &[cache]);
            // As the tables of a locale: in the same data, and no cache.
            fake.words(base - 0x80, &[0x3_0800]);
        }
        fake.words(0x2_0008, &[0x291, 1]);
        fake.words(0x2_0010 + 0x80, &[0x2_0300]);
        // The end of a list, protected.
        fake.words(0x2_0300, &[0x2_0300 >> 12]);
        fake.words(0x3_0000, shared);
        fake.words(0x3_0800, &[7; 80]);
        fake
    }

    fn found(fake: &Fake) -> Candidate {
        let process = Process::new(&fake.capture, fake, &mut Notes::default());
        let threads = [(1, BASES[0]), (2, BASES[1])];
        caches(&process, &threads, (&BTreeSet::from([ARENA]), true), -0x40, &mut 1000)
    }

    #[test]
    fn a_thread_may_point_at_the_empty_cache_that_all_share() {
        let found = found(&two_threads(&[0]));
        assert_eq!((found.score, found.attached, found.result.doubt), (2, 2, None));
        assert_eq!(found.result.cached, [(0x2_02f0, Some(32))]);
        assert_eq!(found.result.safe, Some(true));
    }

    #[test]
    fn what_a_loaded_object_holds_is_not_allocated() {
        let mut fake = Fake::new();
        let loads = [(4, 0, 0x1000, 0x1000), (6, 0x1000, 0x1000, 0x3000)];
        fake.object(ObjectKind::Library, "/w/lib.so", 0x5_0000, &loads, None);
        fake.region((0x5_0000, 0x5_1000), "r--p", "/w/lib.so");
        fake.region((0x5_1000, 0x5_2000), "rw-p", "/w/lib.so");
        fake.region((0x5_2000, 0x5_8000), "rw-p", "");
        let process = Process::new(&fake.capture, &fake, &mut Notes::default());
        let told = [0x4_f000, 0x5_1008, 0x5_2008, 0x5_3ff8, 0x5_4000, 0x5_8000].map(|at| process.is_static_data(at));
        assert_eq!(told, [false, true, true, true, false, false]);
    }

    #[test]
    fn a_file_that_is_mapped_in_part_owns_nothing_above_it() {
        let mut fake = two_threads(&[0]);
        let loads = [(4, 0, 0x100_0000, 0x100_0000)];
        fake.object(ObjectKind::Library, "/w/read.so", 0x1_f000, &loads, None);
        fake.region((0x1_f000, 0x2_0000), "r--p", "/w/read.so");
        let found = found(&fake);
        assert_eq!((found.score, found.result.doubt), (2, None));
    }

    #[test]
    fn what_lies_there_and_is_not_empty_is_no_cache() {
        let found = found(&two_threads(&[0, 5]));
        assert_eq!(found.score, 1);
        assert!(found.result.doubt.is_some());
    }
}
