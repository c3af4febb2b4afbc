//! The share of each piece in the figures of its region: whole regions take `smaps` as it is, cut ones are apportioned by a
//! scan of their pages, and only when the scan agrees with `smaps`.

use std::collections::BTreeSet;

use crate::model::{MemoryMap, PageRun, Piece, Usage};

use super::process::{Area, Notes, Process};

/// Gives the pieces of an area their figures.
pub(super) fn fill(process: &Process<'_>, area: &Area<'_>, pieces: &mut [Piece], notes: &mut Notes) {
    let Some(usage) = &area.region.usage else { return };
    // Shared memory that is swapped out has no trace in the page tables, where the fast level looks.
    let tells_swap = usage.detail.is_some() || area.private_anonymous();
    let proportional = usage.detail.as_ref().map(|detail| detail.proportional_bytes);
    // Nearly all: they take what stands there.
    if let [piece] = pieces {
        piece.resident_bytes = Some(usage.resident_bytes);
        piece.anon_bytes = Some(usage.anon_bytes);
        piece.swap_bytes = tells_swap.then_some(usage.swap_bytes);
        piece.proportional_bytes = proportional;
    } else {
        apportion(process, area, pieces, usage, notes);
        for piece in pieces {
            piece.swap_bytes = piece.swap_bytes.filter(|_| tells_swap);
            piece.proportional_bytes = proportional.filter(|bytes| *bytes == 0);
        }
    }
}

/// What the pages of a region sum to, and a figure of its pieces.
struct Share {
    what: &'static str,
    total: u64,
    is_counted: fn(&PageRun) -> bool,
    figure: fn(&mut Piece) -> &mut Option<u64>,
}

/// Asks the kernel, once; only where neither nothing nor everything is of a kind.
fn apportion(process: &Process<'_>, area: &Area<'_>, pieces: &mut [Piece], usage: &Usage, notes: &mut Notes) {
    let shares = [
        Share {
            what: "resident",
            total: usage.resident_bytes,
            is_counted: |run| run.resident,
            figure: |piece| &mut piece.resident_bytes,
        },
        Share {
            what: "anonymous",
            total: usage.anon_bytes,
            is_counted: |run| run.anon,
            figure: |piece| &mut piece.anon_bytes,
        },
        Share {
            what: "swapped",
            total: usage.swap_bytes,
            is_counted: |run| run.swapped,
            figure: |piece| &mut piece.swap_bytes,
        },
    ];
    for Share {
        what,
        total,
        is_counted,
        figure,
    } in shares
    {
        let all = total == area.size();
        if total == 0 || all {
            for piece in &mut *pieces {
                let bytes = if all { piece.reserved_bytes() } else { 0 };
                *figure(piece) = Some(bytes);
            }
            continue;
        }
        let Some(runs) = process.runs(area) else {
            notes.add("This kernel does not tell which pages are in memory: the parts of regions that hold several things have no figures.");
            continue;
        };
        let mut sum = 0_u64;
        for piece in &mut *pieces {
            let bytes = bytes_in(&runs, piece.start, piece.end, is_counted);
            sum = sum.saturating_add(bytes);
            *figure(piece) = Some(bytes);
        }
        if sum != total {
            notes.add(disagreement(pieces, what, sum, total));
            for piece in &mut *pieces {
                *figure(piece) = None;
            }
        }
    }
}

fn disagreement(pieces: &[Piece], what: &str, sum: u64, total: u64) -> String {
    let roles: BTreeSet<&str> = pieces.iter().map(|piece| piece.role.name()).collect();
    let roles = Vec::from_iter(roles).join(", ");
    format!(
        "The {what} pages of a region that holds {roles} sum to {sum} bytes, smaps says {total}: its parts have no {what} figure."
    )
}

/// Bytes of the matching runs inside a range.
fn bytes_in(runs: &[PageRun], start: u64, end: u64, kind: fn(&PageRun) -> bool) -> u64 {
    let from = runs.partition_point(|run| run.end <= start);
    runs.iter()
        .skip(from)
        .take_while(|run| run.start < end)
        .filter(|run| kind(run))
        .fold(0, |sum, run| sum.saturating_add(run.end.min(end) - run.start.max(start)))
}

/// Pages that hold a breakpoint of ours and are private copies because of it.
pub(super) fn breakpoint_pages(process: &Process<'_>) -> Vec<u64> {
    let mut pages: Vec<u64> = process
        .capture
        .patched
        .iter()
        .map(|page| process.down(page.address))
        .collect();
    pages.sort_unstable();
    pages.dedup();
    pages.retain(|page| {
        let Some(area) = process.area_at(*page) else { return false };
        // Memory of no file is anonymous without our doing, and where nothing is anonymous this page is not.
        if area.region.inode == 0 || area.region.usage.is_some_and(|usage| usage.anon_bytes == 0) {
            return false;
        }
        // Where all is anonymous, this page is.
        if area
            .region
            .usage
            .is_some_and(|usage| usage.anon_bytes == area.region.size_bytes())
        {
            return true;
        }
        let by_scan = process
            .runs_of_page(area, *page)
            .map(|runs| bytes_in(&runs, *page, page.saturating_add(process.page), |run| run.anon) > 0);
        by_scan.unwrap_or_else(|| area.region.usage.is_some_and(|usage| usage.anon_bytes >= process.page))
    });
    pages
}

/// Takes the anonymous bytes of our breakpoints out of the pieces they lie in; address space and residency stay.
pub(super) fn take_out_breakpoints(pages: &[u64], map: &mut MemoryMap) {
    for page in pages {
        let index = map.pieces.partition_point(|piece| piece.end <= *page);
        if let Some(piece) = map.pieces.get_mut(index).filter(|piece| piece.start <= *page) {
            piece.anon_bytes = piece.anon_bytes.map(|bytes| bytes.saturating_sub(map.page_bytes));
        }
    }
}
