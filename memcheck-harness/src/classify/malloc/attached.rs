//! Which thread allocates from which arena, and where its cache of freed chunks is: `thread_arena` and `tcache`, two
//! thread-local variables of libc, found by what they point at.

use super::super::loader::tls_bytes;
use super::super::process::{Place, Process};
use super::super::threads::Found;
use super::lists::{self, Cache};

/// Most static TLS searched in one thread.
const MAX_TLS: u64 = 1 << 20;

/// What a libc may keep in TLS: `tcache` lies this near to `thread_arena` (the whole of it is 0x90 bytes in 2.36).
const LIBC_TLS: u64 = 0x200;

/// Words from so far before to so far after it, which is the one in the middle.
const SLOTS: usize = 2 * LIBC_TLS as usize / 8 + 1;
const MIDDLE: usize = SLOTS / 2;

/// TLS beyond the objects' own: the surplus, alignment and the header of the block on machines where it lies above.
const SLACK: u64 = 0x200;

const NOT_FOUND: &str = "the caches of its threads were not found";

/// The addresses of all arenas.
pub(super) struct Addresses {
    sorted: Vec<u64>,
    first: u64,
    span: u64,
}

impl Addresses {
    pub(super) fn new(all: impl Iterator<Item = u64>) -> Self {
        let mut sorted: Vec<u64> = all.collect();
        sorted.sort_unstable();
        let first = sorted.first().copied().unwrap_or(0);
        let span = sorted.last().map_or(0, |last| last - first);
        Self { sorted, first, span }
    }

    fn has(&self, word: u64) -> bool {
        // Nearly every word is far from all of them.
        word.wrapping_sub(self.first) <= self.span && self.sorted.binary_search(&word).is_ok()
    }
}

/// What is known of the threads' use of malloc.
#[derive(Default)]
pub(super) struct Attached {
    /// Live threads with their arenas, by arena, those of one in the order of the capture. A thread that never allocated has none.
    threads: Vec<(u64, i32)>,
    /// Chunks in the threads' caches.
    pub(super) cached: Vec<lists::Listed>,
    /// Whether the links of their lists are protected; absent when all are empty.
    pub(super) safe: Option<bool>,
    /// Why the caches are not known.
    pub(super) doubt: Option<String>,
}

impl Attached {
    /// The threads that use an arena.
    pub(super) fn of(&self, arena: u64) -> Vec<i32> {
        let before = self.threads.partition_point(|(of, _)| *of < arena);
        let of_it = self.threads.iter().skip(before).take_while(|(of, _)| *of == arena);
        of_it.map(|(_, tid)| *tid).collect()
    }
}

/// Looks into the threads. `arenas` are the addresses of all arenas; `must_have`: this version of malloc has caches; absent:
/// nobody asks for what is in them.
pub(super) fn find(
    process: &Process<'_>,
    found: &Found<'_>,
    arenas: &Addresses,
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
            threads: by_arena(&threads, &arenas_of(process, &threads, arenas, *slot)),
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
fn arena_slots(process: &Process<'_>, below: bool, threads: &[(i32, u64)], arenas: &Addresses) -> Vec<i64> {
    let reach = tls_bytes(process).saturating_add(SLACK + LIBC_TLS).min(MAX_TLS);
    for (_, base) in threads {
        let range = if below {
            (base.saturating_sub(reach), *base)
        } else {
            (*base, base.saturating_add(reach))
        };
        let slots: Vec<i64> = process
            .search(range.0, range.1, |_, word| arenas.has(word))
            .into_iter()
            .map(|address| address.wrapping_sub(*base).cast_signed())
            .filter(|slot| {
                threads.iter().all(|(_, base)| {
                    let word = at(*base, *slot).and_then(|address| process.u64(address)).unwrap_or(0);
                    word == 0 || arenas.has(word)
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
    /// Threads that have there what may be an empty cache that all share, and was not looked at yet: that takes a page.
    shared: usize,
    /// Some links are not protected; some are.
    ways: [bool; 2],
}

impl Slot {
    /// What it is worth, at most.
    fn worth(&self) -> (usize, usize) {
        (self.score + self.shared, self.chunks.len())
    }

    /// What one thread has there, if it can be a cache. False when its thread was stopped while it changed it.
    fn take(&mut self, cache: Cache) -> bool {
        self.score += 1;
        match cache {
            Cache::Sound(entries, safe) => {
                if self.chunks.is_empty() {
                    self.chunks = entries;
                } else {
                    self.chunks.extend(entries);
                }
                if let Some(safe) = safe {
                    self.ways[usize::from(safe)] = true;
                }
                true
            }
            Cache::Torn | Cache::Other => false,
        }
    }

    /// Looks at what was left, at a distance from the TLS base. False when something of it is no cache.
    fn settle(&mut self, looker: &mut Looker<'_>, threads: &[(i32, u64)], distance: i64) -> bool {
        if self.shared == 0 {
            return true;
        }
        let word = |(_, base): &(i32, u64)| at(*base, distance).and_then(|address| looker.process.u64(address));
        let mut words: Vec<u64> = threads.iter().filter_map(word).collect();
        words.retain(|word| *word != 0 && looker.is_shared(*word));
        words.retain(|word| is_common_empty(looker.process, *word));
        self.score += words.len();
        std::mem::take(&mut self.shared) == words.len()
    }
}

struct Candidate {
    score: usize,
    attached: usize,
    result: Attached,
}

/// The arena of each thread by one slot.
fn arenas_of(process: &Process<'_>, threads: &[(i32, u64)], arenas: &Addresses, slot: i64) -> Vec<Option<u64>> {
    let arena = |(_, base): &(i32, u64)| {
        let word = at(*base, slot).and_then(|address| process.u64(address));
        word.filter(|word| arenas.has(*word))
    };
    threads.iter().map(arena).collect()
}

fn by_arena(threads: &[(i32, u64)], arenas: &[Option<u64>]) -> Vec<(u64, i32)> {
    let uses = |((tid, _), arena): (&(i32, u64), &Option<u64>)| Some(((*arena)?, *tid));
    let mut found: Vec<(u64, i32)> = threads.iter().zip(arenas).filter_map(uses).collect();
    found.sort_by_key(|(arena, _)| *arena);
    found
}

/// The words around a place in a thread's storage; 0 where there are none.
fn around(process: &Process<'_>, base: u64, slot: i64) -> [u64; SLOTS] {
    let reach = LIBC_TLS.cast_signed();
    let words = at(base, slot.saturating_sub(reach)).and_then(|first| process.words::<SLOTS>(first));
    words.unwrap_or_else(|| {
        let mut places = (-reach..=reach).step_by(8).map(|distance| slot.checked_add(distance));
        let mut place = || at(base, places.next()??);
        std::array::from_fn(|_| place().and_then(|address| process.u64(address)).unwrap_or(0))
    })
}

/// The threads' arenas by one slot, and the caches by the best slot near it.
fn caches(
    process: &Process<'_>,
    threads: &[(i32, u64)],
    (arenas, must_have): (&Addresses, bool),
    arena_slot: i64,
    left: &mut usize,
) -> Candidate {
    let used = arenas_of(process, threads, arenas, arena_slot);
    let mut looker = Looker { process, last: None };
    // Most places hold no cache of any thread: of those, no more is known than that some thread has something else there.
    let mut torn = [false; SLOTS];
    // By their places.
    let mut slots: Vec<(usize, Slot)> = Vec::with_capacity(8);
    for ((_, base), arena) in threads.iter().zip(&used) {
        let uses = arena.is_some();
        for (index, (word, torn)) in around(process, *base, arena_slot).into_iter().zip(&mut torn).enumerate() {
            if index == MIDDLE {
                continue;
            }
            *torn |= match looker.look(word, left) {
                // A thread gets its arena and its cache together, and gives them back together.
                Look::Nothing => uses,
                Look::Shared => {
                    slot_at(&mut slots, index).shared += 1;
                    false
                }
                // The thread has something else there.
                Look::At(Cache::Other) => true,
                Look::At(cache) => !slot_at(&mut slots, index).take(cache),
            };
        }
    }
    // What is worth less than another one for sure need not be looked at.
    let sure = slots
        .iter()
        .map(|(_, slot)| (slot.score, slot.chunks.len()))
        .max()
        .unwrap_or_default();
    let (mut best, mut is_torn) = (Slot::default(), false);
    for (index, mut slot) in slots {
        let mut torn = torn.get(index).copied().unwrap_or(false);
        if slot.worth() >= sure {
            let distance = i64::try_from(8 * index).unwrap_or(0) - LIBC_TLS.cast_signed();
            torn |= !slot.settle(&mut looker, threads, arena_slot.saturating_add(distance));
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
    let threads = by_arena(threads, &used);
    Candidate {
        score,
        attached: threads.len(),
        result: Attached {
            threads,
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
    Shared,
    At(Cache),
}

/// The slot of a place.
fn slot_at(slots: &mut Vec<(usize, Slot)>, place: usize) -> &mut Slot {
    // One thread's come in order.
    let index = slots.partition_point(|(known, _)| *known < place);
    if slots.get(index).is_none_or(|(known, _)| *known != place) {
        slots.insert(index, (place, Slot::default()));
    }
    &mut slots[index].1
}

/// Looks at words: they point again and again into the same few areas.
struct Looker<'p> {
    process: &'p Process<'p>,
    last: Option<Place<'p>>,
}

impl<'p> Looker<'p> {
    fn place(&mut self, word: u64) -> Option<Place<'p>> {
        let holds = |place: &Place<'_>| (place.area.start..place.area.end).contains(&word);
        if !word.is_multiple_of(8) {
            return None;
        }
        let place = self.last.filter(holds).or_else(|| self.process.place(word))?;
        self.last = Some(place);
        Some(place)
    }

    fn is_shared(&mut self, word: u64) -> bool {
        self.place(word).is_some_and(|place| is_constant(&place))
    }

    fn look(&mut self, word: u64, left: &mut usize) -> Look {
        if word == 0 {
            return Look::Nothing;
        }
        match self.place(word) {
            // A cache is written to.
            Some(place) if is_constant(&place) => Look::Shared,
            // And allocated, by somebody who aligns it.
            Some(place) if word.is_multiple_of(16) && !self.process.is_static_data(&place, word) => {
                Look::At(lists::cache(self.process, word, left))
            }
            _ => Look::At(Cache::Other),
        }
    }
}

/// Of a file, and not written to.
fn is_constant(place: &Place<'_>) -> bool {
    place.area.region.inode != 0 && !place.area.region.perms.write
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
        caches(
            &process,
            &threads,
            (&Addresses::new([ARENA].into_iter()), true),
            -0x40,
            &mut 1000,
        )
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
        let told = [0x4_f000, 0x5_1008, 0x5_2008, 0x5_3ff8, 0x5_4000, 0x5_8000].map(|at| {
            let place = process.place(at);
            place.is_some_and(|place| process.is_static_data(&place, at))
        });
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
    fn a_chunk_that_was_freed_twice_ends_its_list() {
        let mut fake = two_threads(&[0]);
        // It leads to itself, protected and as it is.
        for link in [0x2_0300 ^ (0x2_0300 >> 12), 0x2_0300] {
            fake.words(0x2_0300, &[link]);
            let process = Process::new(&fake.capture, &fake, &mut Notes::default());
            let mut left = 1000;
            assert!(matches!(lists::cache(&process, 0x2_0010, &mut left), Cache::Torn));
            assert!(left > 990, "{left}");
        }
        assert!(found(&fake).result.doubt.is_some());
    }

    #[test]
    fn what_lies_there_and_is_not_empty_is_no_cache() {
        let found = found(&two_threads(&[0, 5]));
        assert_eq!(found.score, 1);
        assert!(found.result.doubt.is_some());
    }
}
