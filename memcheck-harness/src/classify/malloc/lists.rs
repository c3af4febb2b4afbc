//! Lists of freed chunks: bins, fastbins and the caches of threads. In the heap itself a chunk in a fastbin or in a cache looks
//! like a live one, so these are asked for by address.

use super::super::process::Process;
use super::state::{BIN_COUNT, State};

/// Most entries of all lists together.
pub(super) const MAX_ENTRIES: usize = 1 << 23;

/// Lists of one size each; what a cache has beyond them (from 2.42) holds ranges of sizes.
const SMALL_LISTS: usize = 64;

/// Size word of a chunk without its three flags.
pub(super) fn size(word: u64) -> u64 {
    word & !7
}

/// Number and bytes of the chunks in the bins of an arena.
pub(super) fn binned(process: &Process<'_>, state: &State, left: &mut usize) -> Result<(u64, u64), String> {
    let broken = || "a list of free chunks does not close".to_owned();
    let (mut count, mut bytes) = (0_u64, 0_u64);
    if state.top == 0 {
        return Ok((0, 0));
    }
    let mut words = [[0; 8]; 2 * BIN_COUNT];
    let is_read = process.read(state.bins, words.as_flattened_mut());
    for (head, [first, _]) in state.heads().zip(words.as_chunks::<2>().0) {
        let mut at = match is_read {
            true => u64::from_le_bytes(*first),
            false => process.u64(head + 16).ok_or_else(broken)?,
        };
        while at != head {
            *left = left.checked_sub(1).ok_or_else(too_many)?;
            let [word, next] = at.checked_add(8).and_then(|at| process.words::<2>(at)).ok_or_else(broken)?;
            count += 1;
            bytes = bytes.saturating_add(size(word));
            at = next;
        }
    }
    Ok((count, bytes))
}

pub(super) fn too_many() -> String {
    "it has too many free chunks to follow".to_owned()
}

/// Chunks in the fastbins of all arenas, of all sizes. `safe`: whether links are protected, where the caches of
/// threads have told. One process has one way: were each list tried both ways by itself, a link that was overwritten with 0
/// would end a list of the older kind.
pub(super) fn fast<'s>(
    process: &Process<'_>,
    states: impl Iterator<Item = &'s State>,
    safe: Option<bool>,
    left: &mut usize,
) -> Result<Vec<Listed>, String> {
    let heads: Vec<(usize, u64)> = states.flat_map(|state| state.fast.into_iter().enumerate()).collect();
    [true, false]
        .into_iter()
        .filter(|way| safe.is_none_or(|known| known == *way))
        .find_map(|safe| {
            let mut found = Vec::new();
            for (index, head) in &heads {
                // A head is an address as it is; only links inside chunks are protected, from 2.32.
                chain(process, *head, (16, safe), (usize::MAX, left), |chunk| {
                    found.push((chunk, bytes_of(*index)))
                })?;
            }
            Some(found)
        })
        .ok_or_else(|| "a fastbin cannot be followed".to_owned())
}

/// A freed chunk that looks live, and how large it must be by the list that it is on; absent where a list holds several sizes.
pub(super) type Listed = (u64, Option<u64>);

/// The size of all chunks of the n-th fastbin or list of a cache (`fastbin_index`, `csize2tidx` in malloc/malloc.c).
fn bytes_of(index: usize) -> Option<u64> {
    (index < SMALL_LISTS).then_some(32 + 16 * index as u64)
}

/// Follows a singly linked list whose link lies `link` bytes into an element, and adds its elements; how many. With safe-linking
/// (`PROTECT_PTR`, 2.32) a link is xored with its own address shifted by a page. `None` when it leads nowhere, or on for longer
/// than `most` elements or than `left` allows: the list is then no list. What was looked at counts either way, so that forged lists
/// cost bounded time.
fn chain(
    process: &Process<'_>,
    head: u64,
    (link, safe): (u64, bool),
    (most, left): (usize, &mut usize),
    mut element: impl FnMut(u64),
) -> Option<usize> {
    let mut count = 0;
    let mut at = head;
    while at != 0 {
        *left = left.checked_sub(1)?;
        if !at.is_multiple_of(16) || count == most {
            return None;
        }
        element(at);
        count += 1;
        let position = at.checked_add(link)?;
        let word = process.u64(position)?;
        at = if safe { word ^ (position >> 12) } else { word };
    }
    Some(count)
}

/// What a word in a thread's storage points at.
pub(super) enum Cache {
    /// No cache.
    Other,
    /// A cache with these chunks, and whether its links are protected; absent when it is empty.
    Sound(Vec<Listed>, Option<bool>),
    /// A cache whose counts and lists differ: its thread was stopped while it changed it.
    Torn,
}

/// Reads a `tcache_perthread_struct` at the address of an allocation. Counts of 64 lists in bytes (2.26 to 2.29) or half words
/// (2.30 to 2.41); from 2.42 free slots of 76 lists.
pub(super) fn cache(process: &Process<'_>, at: u64, left: &mut usize) -> Cache {
    let Some(word) = at
        .checked_sub(8)
        .filter(|_| at.is_multiple_of(16))
        .and_then(|at| process.u64(at))
    else {
        return Cache::Other;
    };
    // A remainder too small for a chunk stays with the allocation: 16 bytes more.
    match size(word) {
        0x250 | 0x260 => lists::<8, 64, 1>(process, at, left),
        0x290 | 0x2a0 => lists::<16, 64, 2>(process, at, left),
        0x300 | 0x310 => lists::<19, 76, 2>(process, at, left),
        _ => Cache::Other,
    }
}

/// `WIDTH`: bytes of a count.
fn lists<const COUNT_WORDS: usize, const LISTS: usize, const WIDTH: usize>(
    process: &Process<'_>,
    at: u64,
    left: &mut usize,
) -> Cache {
    let entries_at = at.checked_add(8 * COUNT_WORDS as u64);
    let (Some(counts), Some(heads)) = (
        process.words::<COUNT_WORDS>(at),
        entries_at.and_then(|at| process.words::<LISTS>(at)),
    ) else {
        return Cache::Other;
    };
    let counts: [usize; LISTS] = std::array::from_fn(|index| {
        let in_word = 8 / WIDTH;
        let word = counts
            .get(index / in_word)
            .map_or(0, |word| word >> (8 * WIDTH * (index % in_word)));
        usize::from(word as u16 & (u16::MAX >> (16 - 8 * WIDTH)))
    });
    let plausible = |head: &u64| *head == 0 || (head.is_multiple_of(16) && process.u64(*head).is_some());
    if !heads.iter().all(plausible) {
        return Cache::Other;
    }
    let mut chunks: Vec<Listed> = Vec::new();
    for safe in [true, false] {
        chunks.clear();
        let mut lengths = [0; LISTS];
        let all = heads.iter().zip(&mut lengths).enumerate().all(|(index, (head, length))| {
            // From the allocation to its chunk.
            let add = |entry: u64| chunks.push((entry.wrapping_sub(16), bytes_of(index)));
            // A chunk that was freed twice leads to itself. No list is longer than its count, or than a count can be.
            let counted = counts.get(index).filter(|_| LISTS == 64);
            let most = counted.copied().unwrap_or(usize::from(u16::MAX));
            let followed = chain(process, *head, (0, safe), (most, left), add);
            *length = followed.unwrap_or(0);
            followed.is_some()
        });
        let agrees = if LISTS == 64 {
            lengths == counts
        } else {
            let mut slots = lengths.iter().zip(&counts).map(|(length, free)| length + free);
            let first = slots.next();
            slots.all(|slots| Some(slots) == first)
        };
        if all && agrees {
            let safe = (!chunks.is_empty()).then_some(safe);
            return Cache::Sound(chunks, safe);
        }
    }
    if heads.iter().any(|head| *head != 0) {
        Cache::Torn
    } else {
        Cache::Other
    }
}
