//! The share of each piece in the figures of its region: whole regions take `smaps` as it is, cut ones are apportioned by a
//! scan of their pages, and only when the scan agrees with `smaps`.

use std::collections::BTreeSet;
use std::rc::Rc;

use crate::model::{MemoryMap, PageRun, Piece, Usage};

use super::process::{Notes, Process};

/// Resident, anonymous and swapped bytes.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
struct Figures {
    resident: Option<u64>,
    anon: Option<u64>,
    swap: Option<u64>,
}

/// Gives the pieces their figures: each lies in one area, and both are in order.
pub(super) fn measure(process: &Process<'_>, mut pieces: &mut [Piece], notes: &mut Notes) {
    for area in &process.areas {
        let count = pieces.iter().take_while(|piece| piece.end <= area.end).count();
        let Some((cuts, rest)) = pieces.split_at_mut_checked(count) else {
            return;
        };
        pieces = rest;
        let region = area.region;
        if let Some(usage) = &region.usage {
            // Shared memory that is swapped out has no trace in the page tables, where the fast level looks.
            let tells_swap = usage.detail.is_some() || area.private_anonymous();
            let proportional = usage.detail.map(|detail| detail.proportional_bytes);
            // Nearly all: they take what stands there.
            if let [cut] = cuts {
                cut.resident_bytes = Some(usage.resident_bytes);
                cut.anon_bytes = Some(usage.anon_bytes);
                cut.swap_bytes = tells_swap.then_some(usage.swap_bytes);
                cut.proportional_bytes = proportional;
            } else {
                let figures = apportion(cuts, usage, &|| process.runs(area), notes);
                for (cut, figures) in cuts.iter_mut().zip(figures) {
                    cut.resident_bytes = figures.resident;
                    cut.anon_bytes = figures.anon;
                    cut.swap_bytes = figures.swap.filter(|_| tells_swap);
                    cut.proportional_bytes = proportional.filter(|bytes| *bytes == 0);
                }
            }
        }
        if let Some(flags) = &region.flags {
            let (committed, noreserve) = (flags.has(b"ac"), flags.has(b"nr"));
            for cut in cuts {
                cut.committed = Some(committed);
                cut.noreserve = Some(noreserve);
            }
        }
    }
}

/// `runs` asks the kernel, once; only where neither nothing nor everything is of a kind.
fn apportion(cuts: &[Piece], usage: &Usage, runs: &dyn Fn() -> Option<Rc<[PageRun]>>, notes: &mut Notes) -> Vec<Figures> {
    let mut share = |total: u64, what: &str, kind: fn(&PageRun) -> bool| -> Vec<Option<u64>> {
        let size: u64 = cuts.iter().map(|cut| cut.end - cut.start).sum();
        if total == 0 {
            return vec![Some(0); cuts.len()];
        }
        if total == size {
            return cuts.iter().map(|cut| Some(cut.end - cut.start)).collect();
        }
        let Some(runs) = runs() else {
            notes.add("This kernel does not tell which pages are in memory: the parts of regions that hold several things have no figures.");
            return vec![None; cuts.len()];
        };
        let shares: Vec<u64> = cuts.iter().map(|cut| bytes_in(&runs, cut.start, cut.end, kind)).collect();
        let sum = shares.iter().fold(0_u64, |sum, bytes| sum.saturating_add(*bytes));
        if sum == total {
            return shares.into_iter().map(Some).collect();
        }
        let roles: BTreeSet<&str> = cuts.iter().map(|cut| cut.role.name()).collect();
        let roles = Vec::from_iter(roles).join(", ");
        notes.add(format!(
            "The {what} pages of a region that holds {roles} sum to {sum} bytes, smaps says {total}: its parts have no {what} figure."
        ));
        vec![None; cuts.len()]
    };
    let resident = share(usage.resident_bytes, "resident", |run| run.resident);
    let anon = share(usage.anon_bytes, "anonymous", |run| run.anon);
    let swap = share(usage.swap_bytes, "swapped", |run| run.swapped);
    resident
        .into_iter()
        .zip(anon)
        .zip(swap)
        .map(|((resident, anon), swap)| Figures { resident, anon, swap })
        .collect()
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
