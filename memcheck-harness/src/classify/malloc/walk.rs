//! The walk from chunk to chunk through one span of an arena's memory. Each chunk's header gives its size; whether it is in use
//! stands in the header of the next one (malloc/malloc.c, "malloc_chunk details").

use crate::model::ArenaUse;

use super::super::process::Process;
use super::lists::{Listed, size};

/// Smallest chunk (`MINSIZE`), and the size of a header alone, which only a fence has.
const HEADER: u64 = 16;

/// Most chunks of one process: 1 GiB of the smallest ones. Beyond it the figures are not known.
pub(super) const MAX_CHUNKS: u64 = 1 << 25;

const PREV_INUSE: u64 = 1;
const IS_MMAPPED: u64 = 2;
/// Of another arena than the main one. A live chunk says the truth here, and so does one in a cache or fastbin; one in a bin of
/// another arena may have lost it, and so has the top.
const NON_MAIN_ARENA: u64 = 4;

/// Sorted freed chunks that look live, those found on the way, and how many chunks may still be looked at.
pub(super) struct Marks {
    chunks: Vec<Listed>,
    found: usize,
    pub(super) chunks_left: u64,
}

impl Marks {
    /// `None` when an address is there twice: two lists hold one chunk.
    pub(super) fn new(mut chunks: Vec<Listed>) -> Option<Self> {
        chunks.sort_unstable();
        let once = chunks.windows(2).all(|pair| pair[0].0 != pair[1].0);
        once.then_some(Self {
            chunks,
            found: 0,
            chunks_left: MAX_CHUNKS,
        })
    }

    /// Every address was a chunk of some arena.
    pub(super) fn all_found(&self) -> bool {
        self.found == self.chunks.len()
    }
}

/// The sums of an arena while it is walked.
#[derive(Default)]
pub(super) struct Sums {
    pub(super) usage: ArenaUse,
    /// Number and bytes of the free chunks that are in no cache and no fastbin: what the bins must hold.
    pub(super) binned: (u64, u64),
    run: u64,
}

impl Sums {
    fn take(&mut self, bytes: u64, free: bool) {
        self.run = if free { self.run.saturating_add(bytes) } else { 0 };
        self.usage.largest_free_bytes = self.usage.largest_free_bytes.max(self.run);
        let (count, sum) = if free {
            (&mut self.usage.free_count, &mut self.usage.free_bytes)
        } else {
            (&mut self.usage.used_count, &mut self.usage.used_bytes)
        };
        *count += 1;
        *sum = sum.saturating_add(bytes);
    }
}

/// Walks `[start, end)`. The span that holds the arena's `top` must lead to it, and the top to the end; any other ends with a
/// fence: a chunk that is none, then a header of size 0.
pub(super) fn span(
    process: &Process<'_>,
    (start, end): (u64, u64),
    (top, is_main): (u64, bool),
    marks: &mut Marks,
    sums: &mut Sums,
) -> Result<(), String> {
    let has_top = (start..end).contains(&top);
    let mut mark = marks.chunks.partition_point(|(address, _)| *address < start);
    let mut before: Option<(u64, u64, bool)> = None;
    let mut at = start;
    sums.run = 0;
    loop {
        let header = at.checked_add(8).filter(|_| at < end);
        let word = header
            .ok_or("its chunks do not lead to their end")
            .and_then(|at| process.u64(at).ok_or("the header of a chunk is not in memory"))?;
        let (bytes, last) = (size(word), at == top);
        if !has_top && bytes == 0 {
            // The chunk before is the fence's first half; it is 16 bytes, or 32 where no free chunk fitted before it.
            return match before {
                Some((_, bytes, _)) if bytes <= 2 * HEADER => Ok(()),
                _ => Err("the end of a heap has no fence".to_owned()),
            };
        }
        if let Some((chunk, bytes, says_main)) = before {
            let binned = word & PREV_INUSE == 0;
            while marks.chunks.get(mark).is_some_and(|(address, _)| *address < chunk) {
                mark += 1;
            }
            let listed = marks.chunks.get(mark).filter(|(address, _)| *address == chunk);
            let cached = listed.is_some();
            marks.found += usize::from(cached);
            if cached && binned {
                return Err("a chunk is both cached and free".to_owned());
            }
            if listed.is_some_and(|(_, wanted)| wanted.is_some_and(|wanted| wanted != bytes)) {
                return Err("a chunk is on a list for another size".to_owned());
            }
            if says_main != is_main && bytes > HEADER && (is_main || !binned) {
                return Err("a chunk says that it is of another arena".to_owned());
            }
            if binned {
                sums.binned.0 += 1;
                sums.binned.1 = sums.binned.1.saturating_add(bytes);
            }
            if cached {
                sums.usage.cached_bytes = sums.usage.cached_bytes.saturating_add(bytes);
            }
            // Left over by an older heap's top when it was fenced; no allocation is as small.
            if bytes > HEADER {
                sums.take(bytes, binned || cached);
            }
        }
        let fits = at.checked_add(bytes).is_some_and(|next| next <= end);
        if bytes < HEADER || bytes % HEADER != 0 || word & IS_MMAPPED != 0 || !fits {
            return Err("the header of a chunk is broken".to_owned());
        }
        if last {
            sums.usage.top_bytes = bytes;
            sums.run = sums.run.saturating_add(bytes);
            sums.usage.largest_free_bytes = sums.usage.largest_free_bytes.max(sums.run);
            return if at + bytes == end {
                Ok(())
            } else {
                Err("its top does not end where its memory does".to_owned())
            };
        }
        marks.chunks_left = marks
            .chunks_left
            .checked_sub(1)
            .ok_or_else(|| format!("the process has more than {MAX_CHUNKS} chunks, and walking stops there"))?;
        before = Some((at, bytes, word & NON_MAIN_ARENA == 0));
        at += bytes;
    }
}
