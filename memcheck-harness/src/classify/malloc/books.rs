//! `mp_`, glibc's books of the whole process: where the main heap begins, and how many allocations have mappings of their own.
//! Found beside the main arena by what it must say.

use super::super::process::Process;
use super::state::State;

/// How far from the main arena `mp_` may lie: both are data of malloc.c (0xa0 to 0x9c0 seen in glibc 2.23 to 2.43).
const NEAR: u64 = 0x1400;

/// (`n_mmaps`, `mmapped_mem`, `sbrk_base`) inside `mp_`: 2.43, 2.35 to 2.42, 2.24 to 2.34, 2.17 to 2.23. malloc/malloc.c.
const LAYOUTS: [(u64, u64, u64); 4] = [(0x44, 0x58, 0x68), (0x3c, 0x50, 0x60), (0x28, 0x38, 0x48), (0x28, 0x38, 0x50)];

/// `DEFAULT_MMAP_MAX` and the default of `arena_test` on 64-bit.
const MMAP_MAX: u64 = 65536;
const ARENA_TEST: u64 = 8;

/// What malloc counts of the allocations with their own mapping.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Mmapped {
    pub(super) count: u64,
    pub(super) bytes: u64,
    /// There may be fewer bytes.
    pub(super) is_most: bool,
}

/// `sbrk_base`: where the main heap begins; absent while it is empty.
pub(super) fn mmapped(process: &Process<'_>, main: &State, sbrk_base: Option<u64>) -> Option<Mmapped> {
    let near = (main.address.saturating_sub(NEAR), main.address.saturating_add(NEAR));
    // Both are initialised data: one region, unless the program has cut it.
    let region = process.area_at(main.address)?;
    let inside = (near.0.max(region.start), near.1.min(region.end));
    let found = find(process, inside, sbrk_base).filter(|(is_usual, _)| *is_usual);
    found.or_else(|| find(process, near, sbrk_base)).map(|(_, answer)| answer)
}

/// Whether the defaults stand there, and what is counted; `None` where nothing in the range, or more than one thing, can be `mp_`.
fn find(process: &Process<'_>, (start, end): (u64, u64), sbrk_base: Option<u64>) -> Option<(bool, Mmapped)> {
    // The word that says where the heap begins; while it is empty, the word that holds a default.
    let wanted = sbrk_base.unwrap_or(ARENA_TEST);
    let [mut unusual, mut usual] = [Answer::None; 2];
    for anchor in process.search(start, end, |_, word| word == wanted) {
        for layout in LAYOUTS {
            let at = if sbrk_base.is_some() { layout.2 } else { 0x18 };
            if let Some(mp) = anchor.checked_sub(at)
                && let Some((is_usual, answer)) = read(process, mp, layout, sbrk_base)
            {
                if is_usual { &mut usual } else { &mut unusual }.add(answer);
            }
        }
    }
    // Defaults may have been changed (mallopt); then what remains must agree.
    match (usual, unusual) {
        (Answer::One(answer), _) => Some((true, answer)),
        (Answer::None, Answer::One(answer)) => Some((false, answer)),
        _ => None,
    }
}

/// What was found in several places.
#[derive(Clone, Copy)]
enum Answer {
    None,
    One(Mmapped),
    /// They say different things.
    Torn,
}

impl Answer {
    fn add(&mut self, told: Mmapped) {
        *self = match *self {
            Self::None => Self::One(told),
            Self::One(known) if known == told => *self,
            _ => Self::Torn,
        }
    }
}

/// Whether the defaults stand there, and what is counted; `None` for what cannot be `mp_`.
fn read(process: &Process<'_>, mp: u64, layout: (u64, u64, u64), sbrk_base: Option<u64>) -> Option<(bool, Mmapped)> {
    let (count_at, bytes_at, base_at) = layout;
    let at = mp.checked_add(count_at)?;
    let counts = process.u64(at)?;
    let (count, count_max) = (counts & 0xffff_ffff, counts >> 32);
    let (is_test, is_max) = (process.u64(mp.checked_add(0x18)?)? == ARENA_TEST, count_max == MMAP_MAX);
    let usual = is_test && is_max;
    // One of the two defaults must stand there, or it is another structure.
    let changed = sbrk_base.is_some() && (is_test || is_max);
    if !(usual || changed) {
        return None;
    }
    let most = u64::from(process.u32(at.checked_add(8)?)?);
    let [bytes, most_bytes] = process.words::<2>(mp.checked_add(bytes_at)?)?;
    let base = process.u64(mp.checked_add(base_at)?)?;
    let told = told(count, bytes, layout == LAYOUTS[0], process.page)?;
    let sound = base == sbrk_base.unwrap_or(0) && count <= most && most <= count_max && bytes <= most_bytes;
    sound.then_some((usual, told))
}

/// What the two words say. `drifts`: 2.43 counts 16 bytes too many each time it moves or resizes a mapping (`mremap_chunk` takes the
/// chunk's size without its header). How often it has, nobody knows: after 256 times it is a whole page.
fn told(count: u64, bytes: u64, drifts: bool, page: u64) -> Option<Mmapped> {
    let whole = bytes - bytes.checked_rem(page)?;
    let (bytes, is_most) = match (drifts && bytes.is_multiple_of(16), count) {
        (false, _) => (bytes, false),
        (true, 0) => (0, false),
        (true, _) => (whole, true),
    };
    let is_sound = bytes.is_multiple_of(page) && bytes >= count.checked_mul(page)? && (count == 0) == (bytes == 0);
    is_sound.then_some(Mmapped { count, bytes, is_most })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_that_drift_are_the_most_there_can_be() {
        let told = |count, bytes, drifts| told(count, bytes, drifts, 4096).map(|told| (told.count, told.bytes, told.is_most));
        assert_eq!(told(2, 3 * 4096, false), Some((2, 3 * 4096, false)));
        assert_eq!(told(0, 0, false), Some((0, 0, false)));
        for wrong in [
            told(2, 3 * 4096 + 16, false),
            told(0, 4096, false),
            told(1, 0, false),
            told(2, 4096, false),
        ] {
            assert_eq!(wrong, None);
        }
        // 1, 255, 256 and 257 times too many.
        for (times, most) in [(0, 3), (1, 3), (255, 3), (256, 4), (257, 4)] {
            assert_eq!(told(2, 3 * 4096 + 16 * times, true), Some((2, most * 4096, true)), "{times}");
        }
        // All are freed, and what was too many stays.
        assert_eq!(told(0, 16 * 300, true), Some((0, 0, false)));
        assert_eq!(told(2, 3 * 4096 + 8, true), None);
        assert_eq!(told(4, 3 * 4096 + 16, true), None);
    }
}
