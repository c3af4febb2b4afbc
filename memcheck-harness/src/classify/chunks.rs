//! Large allocations that glibc's malloc served with a mapping of their own, by the header at their first page.
//! The label is certain where they are as many and as large as malloc's own books say, and likely otherwise.

use crate::model::{Name, Role};

use super::interval::{Claims, Priority, certain, likely};
use super::process::{Area, Notes, Process};

/// Pages looked at in all in search of headers inside merged regions.
const MAX_PAGES: usize = 1 << 14;

/// Smallest chunk believed at a page where nothing says that a mapping begins: two words of data may look like a header.
const MIN_UNANCHORED: u64 = 64 << 10;

/// Claims mmapped chunks in whatever private memory nobody stronger has claimed. Stacks do not count: a program may have
/// allocated its thread's stack. `books`: how many there are, and their bytes, by malloc's own account.
pub(super) fn claim(process: &Process<'_>, books: Option<(u64, u64)>, claims: &mut Claims, notes: &mut Notes) {
    if books == Some((0, 0)) {
        return;
    }
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
    let mut budget = MAX_PAGES;
    let mut found = Vec::new();
    for area in process.areas.iter().filter(|area| area.plain_memory()) {
        // malloc never maps with MAP_NORESERVE; other allocators do, for gigabytes.
        let named = area.region.name.as_bytes();
        if area.flag(b"nr") || !(named.is_empty() || named == b"[anon: glibc: malloc]") {
            continue;
        }
        search(process, area, &blocked, &mut budget, &mut found);
    }
    if budget == 0 {
        notes.add("Too much anonymous memory to search all of it for large allocations: some may be counted as anon-map.");
    }
    let sum = found.iter().fold((0_u64, 0_u64), |(count, bytes), (start, end)| {
        (count + 1, bytes.saturating_add(end - start))
    });
    let evidence = if books == Some(sum) {
        certain("header of a malloc chunk with its own mapping, and malloc counts as many bytes in as many chunks")
    } else {
        likely("header of a malloc chunk with its own mapping")
    };
    if let Some((count, bytes)) = books.filter(|books| *books != sum) {
        notes.add(format!(
            "malloc counts {count} allocations with their own mapping, {bytes} bytes; {} of {} bytes were found.",
            sum.0, sum.1
        ));
    }
    for (start, end) in found {
        let item = claims.item(Role::MmapChunk, Name::default(), None);
        claims.add((start, end), Priority::Chunk, item, evidence.clone());
    }
}

fn search(process: &Process<'_>, area: &Area<'_>, blocked: &[(u64, u64)], budget: &mut usize, found: &mut Vec<(u64, u64)>) {
    let mut at = area.start;
    // A mapping begins here: the start of the region, or the end of something known.
    let mut anchored = true;
    while at < area.end && *budget > 0 {
        let next_block = blocked.partition_point(|(_, end)| *end <= at);
        let (block_start, block_end) = blocked.get(next_block).copied().unwrap_or((u64::MAX, u64::MAX));
        if block_start <= at {
            (at, anchored) = (block_end, true);
            continue;
        }
        let end = area.end.min(block_start);
        *budget -= 1;
        match header(process, at, end).filter(|total| anchored || *total >= MIN_UNANCHORED) {
            Some(total) => {
                found.push((at, at + total));
                (at, anchored) = (at + total, true);
            }
            None => {
                anchored = false;
                match next_used(process, area, at) {
                    Some(next) if next < end => at = next,
                    _ => at = end,
                }
            }
        }
    }
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
