//! Large allocations that glibc's malloc served with a mapping of their own, by the header at their first page.
//! The label is certain where they are as many and as large as malloc's own books say, and likely otherwise.

use crate::model::{Name, Role};

use super::interval::{Claims, Priority, certain, likely};
use super::process::{Area, Notes, Process};

/// Pages looked at in all in search of headers inside merged regions: where nobody knows how many there are, and where malloc's
/// books say that some are missing.
const MAX_PAGES: usize = 1 << 14;
const MAX_PAGES_MISSING: usize = 1 << 17;

/// Smallest chunk believed at a page where nothing says that a mapping begins: two words of data may look like a header.
const MIN_UNANCHORED: u64 = 64 << 10;

/// First address and one past the last.
type Range = (u64, u64);

/// Claims mmapped chunks in whatever private memory nobody stronger has claimed. Stacks do not count: a program may have
/// allocated its thread's stack. `books`: how many there are, and their bytes, by malloc's own account; `is_most`: there may be fewer.
pub(super) fn claim(process: &Process<'_>, (books, is_most): (Option<(u64, u64)>, bool), claims: &mut Claims, notes: &mut Notes) {
    if books == Some((0, 0)) {
        return;
    }
    let (mut found, gaps) = anchored(process, &blocked(claims));
    let agrees = |found| books.is_some_and(|books| agree(books, is_most, found));
    if !agrees(sum(&found)) {
        let inside = inside(process, &gaps, books, &found);
        if inside.is_cut {
            notes.add("Too much anonymous memory to search all of it for large allocations: some may be counted as anon-map.");
        }
        // Data may look like a header; the more of them there are, the less is believed, and malloc's books decide.
        let with_closed = [&found[..], &inside.closed].concat();
        let all = [&with_closed[..], &inside.loose].concat();
        found = match books {
            None => all,
            Some(books) => {
                let fits = |ranges: &Vec<Range>| sum(ranges).0 <= books.0 && sum(ranges).1 <= books.1;
                let equal = |ranges: &&Vec<Range>| agree(books, is_most, sum(ranges));
                let chosen = [&with_closed, &all].into_iter().find(equal).cloned();
                chosen.unwrap_or_else(|| [all, with_closed].into_iter().find(fits).unwrap_or(found))
            }
        };
        found.sort_unstable();
    }
    let sum = sum(&found);
    let evidence = if books == Some(sum) {
        certain("header of a malloc chunk with its own mapping, and malloc counts as many bytes in as many chunks")
    } else {
        likely("header of a malloc chunk with its own mapping")
    };
    if let Some((count, bytes)) = books.filter(|_| !agrees(sum)) {
        let most = if is_most { "at most " } else { "" };
        notes.add(format!(
            "malloc counts {count} allocations with their own mapping, {most}{bytes} bytes; {} of {} bytes were found.",
            sum.0, sum.1
        ));
    }
    for (start, end) in found {
        let item = claims.item(Role::MmapChunk, Name::default(), None);
        claims.add((start, end), Priority::Chunk, item, evidence.clone());
    }
}

/// As many chunks were found as malloc counts, and as many bytes as that allows.
fn agree(books: (u64, u64), is_most: bool, found: (u64, u64)) -> bool {
    found.0 == books.0 && (found.1 == books.1 || is_most && found.1 < books.1)
}

/// Number and bytes.
fn sum(ranges: &[Range]) -> (u64, u64) {
    ranges.iter().fold((0, 0), |(count, bytes), (start, end)| {
        (count + 1, bytes.saturating_add(end - start))
    })
}

/// What somebody else is known to own, sorted.
fn blocked(claims: &Claims) -> Vec<Range> {
    let strong = |priority| {
        matches!(
            priority,
            Priority::Segment | Priority::Relro | Priority::SignalStack | Priority::Loader | Priority::Arena
        )
    };
    let mut blocked = claims.ranges(strong);
    blocked.extend(
        [
            Role::ThreadStackLive,
            Role::ThreadStackExited,
            Role::ThreadStackCached,
            Role::MainStack,
        ]
        .iter()
        .flat_map(|role| claims.ranges_of(*role)),
    );
    blocked.sort_unstable();
    blocked
}

/// What lies between two things that are known, from the end of the chunks found there.
struct Gap<'p> {
    area: &'p Area<'p>,
    from: u64,
    to: u64,
}

/// The chunks that begin where a mapping does: at the start of a region, at the end of something known, or of another chunk.
fn anchored<'p>(process: &'p Process<'p>, blocked: &[Range]) -> (Vec<Range>, Vec<Gap<'p>>) {
    let (mut found, mut gaps) = (Vec::new(), Vec::new());
    for area in process.areas.iter().filter(|area| area.plain_memory()) {
        // malloc never maps with MAP_NORESERVE; other allocators do, for gigabytes.
        let named = area.region.name.as_bytes();
        let of_malloc = matches!(named, b"" | b"[anon: glibc: malloc]" | b"/anon_hugepage (deleted)");
        if area.flag(b"nr") || !of_malloc {
            continue;
        }
        let mut at = area.start;
        while at < area.end {
            let next = blocked.partition_point(|(_, end)| *end <= at);
            let (block_start, block_end) = blocked.get(next).copied().unwrap_or((u64::MAX, u64::MAX));
            if block_start <= at {
                at = block_end;
                continue;
            }
            let to = area.end.min(block_start);
            at = chain(process, at, to, &mut found);
            if at < to {
                gaps.push(Gap { area, from: at, to });
            }
            at = to;
        }
    }
    (found, gaps)
}

/// Follows chunks that lie one behind the other; the address of what is none.
fn chain(process: &Process<'_>, mut at: u64, to: u64, found: &mut Vec<Range>) -> u64 {
    while at < to
        && let Some(total) = header(process, at, to)
    {
        found.push((at, at + total));
        at += total;
    }
    at
}

/// What looks like chunks where nothing says that a mapping begins.
#[derive(Default)]
struct Inside {
    /// Those that end where something known begins.
    closed: Vec<Range>,
    /// The others.
    loose: Vec<Range>,
    /// There was more than is looked at.
    is_cut: bool,
}

/// Looks at each page of the gaps that has contents, until there are as many chunks as the books say.
fn inside(process: &Process<'_>, gaps: &[Gap<'_>], books: Option<(u64, u64)>, known: &[Range]) -> Inside {
    let mut inside = Inside::default();
    let mut left = if books.is_some() { MAX_PAGES_MISSING } else { MAX_PAGES };
    let (count, bytes) = sum(known);
    for gap in gaps {
        let (more, more_bytes) = sum(&inside.closed);
        if books == Some((count + more, bytes.saturating_add(more_bytes))) {
            break;
        }
        let mut next = next_used(process, gap.area, gap.from);
        while let Some(at) = next.filter(|at| *at < gap.to) {
            if left == 0 {
                inside.is_cut = true;
                return inside;
            }
            left -= 1;
            if header(process, at, gap.to).is_none_or(|total| total < MIN_UNANCHORED) {
                next = next_used(process, gap.area, at);
                continue;
            }
            let mut chunks = Vec::new();
            let end = chain(process, at, gap.to, &mut chunks);
            if end == gap.to {
                inside.closed.append(&mut chunks);
            } else {
                inside.loose.append(&mut chunks);
            }
            next = next_used(process, gap.area, end);
        }
    }
    inside
}

/// The next page after this one that has contents: malloc wrote a header into the first page of each chunk.
fn next_used(process: &Process<'_>, area: &Area<'_>, at: u64) -> Option<u64> {
    let after = at.checked_add(process.page).filter(|after| *after < area.end)?;
    let runs = process.runs(area)?;
    let run = runs
        .get(runs.partition_point(|run| run.end <= after)..)?
        .iter()
        .find(|run| run.resident)?;
    Some(process.down(run.start).max(after))
}

/// Bytes of the chunk whose header stands at a page: `prev_size` 0, size a page multiple, only `IS_MMAPPED` (2) set.
/// From 2.43 the size word leaves out the 16 bytes of the header and `prev_size` may say "huge page" (1).
fn header(process: &Process<'_>, at: u64, end: u64) -> Option<u64> {
    let [prev_size, word] = process.words::<2>(at)?;
    let size = word & !15;
    let total = if size % process.page == process.page - 16 {
        size.checked_add(16)?
    } else {
        size
    };
    let fits = total > 0 && total % process.page == 0 && at.checked_add(total)? <= end;
    (word & 15 == 2 && prev_size <= 1 && fits).then_some(total)
}
