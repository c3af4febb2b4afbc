//! `Known`: what reading the regions has told of their pages already, so that nobody asks the kernel a second time.

use crate::model::{PageRun, Region};
use crate::sys::pagemap::{FILE, GUARD, PFNZERO, PRESENT, PageRegion, SWAPPED};

// Bits of an entry of /proc/PID/pagemap (Documentation/admin-guide/mm/pagemap.rst of the kernel).
const PM_EXCLUSIVE: u64 = 1 << 56;
const PM_GUARD: u64 = 1 << 58;
const PM_FILE: u64 = 1 << 61;
const PM_SWAP: u64 = 1 << 62;
pub(super) const PM_PRESENT: u64 = 1 << 63;

/// What is known of a process that stands still.
#[derive(Debug, Default)]
pub(super) struct Known {
    /// Private memory that may be read, in order, none touching the next. Shared memory may be a device.
    readable: Vec<(u64, u64)>,
    /// Regions of it, some of whose pages are in memory and few enough to be scanned for one of them; in order.
    partial: Vec<(u64, u64)>,
    /// What it costs to scan all regions that come before one, and where that lies; in order, and an empty one behind all.
    before: Vec<(u64, u64, u64)>,
    pages: Pages,
}

/// Bytes of the largest region that is scanned as a whole when one of its pages is asked for.
pub(super) const MAX_PARTIAL: u64 = 1 << 20;
/// What lies between two ranges is scanned with them when that costs less than another call, which takes as long as some 35 pages
/// that are asked whether they are of a file: so many bytes, each region counting as four pages.
const MAX_BETWEEN: u64 = 128 << 10;
const REGION_COST: u64 = 16 << 10;
/// A page that is not there costs so much less than one that is.
const TABLE_SHARE: u64 = 16;

#[derive(Debug)]
enum Pages {
    /// Ranges all of whose pages are in memory, in order, none touching the next.
    Resident(Vec<(u64, u64)>),
    /// Every run of pages there is, in order.
    Scanned(Vec<PageRegion>),
}

impl Default for Pages {
    fn default() -> Self {
        Self::Resident(Vec::new())
    }
}

impl Known {
    /// By the figures of the regions: where as much is resident as there is, every page is.
    pub(super) fn by_figures(regions: &[Region]) -> Self {
        let (mut resident, mut readable) = (Ranges::default(), Ranges::default());
        let mut partial = Vec::new();
        let mut sum = 0_u64;
        let mut before = Vec::with_capacity(regions.len() + 1);
        for region in regions {
            let size = region.size_bytes();
            let there = region.usage.map_or(0, |usage| usage.resident_bytes);
            let may_be_read = is_readable(region);
            if may_be_read {
                readable.add(region);
            }
            if there == size {
                resident.add(region);
            } else if 0 < there && there < size && size <= MAX_PARTIAL && may_be_read {
                partial.push((region.start, region.end));
            }
            before.push((region.start, region.end, sum));
            // The kernel also walks what is left of the tables of pages that are gone.
            let tables = size / TABLE_SHARE;
            sum = sum.saturating_add(there).saturating_add(tables).saturating_add(REGION_COST);
        }
        before.push((u64::MAX, u64::MAX, sum));
        Self {
            readable: readable.0,
            before,
            partial,
            pages: Pages::Resident(resident.0),
        }
    }

    /// By a scan of all pages.
    pub(super) fn by_scan(regions: &[Region], runs: Vec<PageRegion>) -> Self {
        Self {
            readable: Ranges::of(regions, is_readable),
            partial: Vec::new(),
            before: Vec::new(),
            pages: Pages::Scanned(runs),
        }
    }

    /// The region of an address, where it is best scanned as a whole.
    pub(super) fn partial(&self, address: u64) -> Option<(u64, u64)> {
        let after = self.partial.partition_point(|(_, end)| *end <= address);
        self.partial.get(after).copied().filter(|(start, _)| *start <= address)
    }

    /// What must be scanned to know of these pages whether they are in memory, and of these ranges which of theirs are: few ranges, in
    /// order and apart.
    pub(super) fn unknown(&self, pages: impl Iterator<Item = u64>, scans: &[(u64, u64)]) -> Vec<(u64, u64)> {
        let Pages::Resident(_) = &self.pages else { return Vec::new() };
        let partial = pages
            .filter(|page| self.is_resident(*page).is_none())
            .filter_map(|page| self.partial(page));
        let mut wanted: Vec<(u64, u64)> = partial
            .chain(scans.iter().copied())
            .filter(|(start, end)| start < end)
            .collect();
        wanted.sort_unstable();
        let mut out: Vec<(u64, u64)> = Vec::new();
        for (start, end) in wanted {
            match out.last_mut() {
                Some(last) if start <= last.1 || self.cost(last.1, start) <= MAX_BETWEEN => last.1 = last.1.max(end),
                _ => out.push((start, end)),
            }
        }
        out
    }

    /// What it costs, by these measures, to scan what lies between two addresses; of a region that lies there in part, no more than if
    /// all of that part were in memory.
    fn cost(&self, from: u64, to: u64) -> u64 {
        let first = self.before.partition_point(|(_, end, _)| *end <= from);
        let behind = self.before.partition_point(|(start, ..)| *start < to);
        let before = |index: usize| self.before.get(index).map_or(0, |(.., cost)| *cost);
        let too_much = |index: usize| {
            let (start, end, _) = self.before.get(index)?;
            let inside = (*end).min(to).saturating_sub((*start).max(from));
            let is_cut = *start < from || to < *end;
            is_cut.then(|| {
                before(index + 1)
                    .saturating_sub(before(index))
                    .saturating_sub(inside.saturating_add(REGION_COST))
            })
        };
        let last = behind.saturating_sub(1);
        let ends = [first, last].into_iter().take(if first < last { 2 } else { 1 });
        let too_much: u64 = ends.filter(|end| *end < behind).filter_map(too_much).sum();
        before(behind).saturating_sub(before(first)).saturating_sub(too_much)
    }

    /// Where the memory that may be read ends, from an address inside; 0 outside.
    pub(super) fn readable_until(&self, address: u64) -> u64 {
        let after = self.readable.partition_point(|(_, end)| *end <= address);
        let inside = self.readable.get(after).filter(|(start, _)| *start <= address);
        inside.map_or(0, |(_, end)| *end)
    }

    /// Whether a page is in memory; `None` where that is not known.
    pub(super) fn is_resident(&self, address: u64) -> Option<bool> {
        match &self.pages {
            Pages::Resident(ranges) => {
                let range = ranges.get(ranges.partition_point(|(_, end)| *end <= address))?;
                (range.0 <= address).then_some(true)
            }
            Pages::Scanned(runs) => {
                let run = runs.get(runs.partition_point(|run| run.end <= address));
                Some(run.is_some_and(|run| run.start <= address && run.categories & PRESENT != 0))
            }
        }
    }

    /// The runs of a range, where all are known.
    pub(super) fn runs(&self, start: u64, end: u64) -> Option<Vec<PageRun>> {
        let Pages::Scanned(runs) = &self.pages else { return None };
        Some(joined(clipped(runs, start, end).filter_map(|run| run_of_scan(&run))))
    }
}

/// The runs inside a range.
pub(super) fn clipped(runs: &[PageRegion], start: u64, end: u64) -> impl Iterator<Item = PageRegion> {
    let from = runs.partition_point(|run| run.end <= start);
    let inside = runs
        .get(from..)
        .unwrap_or_default()
        .iter()
        .take_while(move |run| run.start < end);
    inside.map(move |run| PageRegion {
        start: run.start.max(start),
        end: run.end.min(end),
        ..*run
    })
}

fn is_readable(region: &Region) -> bool {
    region.perms.read && !region.perms.shared
}

/// Regions as ranges, neighbours as one.
#[derive(Default)]
struct Ranges(Vec<(u64, u64)>);

impl Ranges {
    fn add(&mut self, region: &Region) {
        match self.0.last_mut() {
            Some(last) if last.1 == region.start => last.1 = region.end,
            _ => self.0.push((region.start, region.end)),
        }
    }

    fn of(regions: &[Region], is_it: impl Fn(&Region) -> bool) -> Vec<(u64, u64)> {
        let mut ranges = Self::default();
        regions
            .iter()
            .filter(|region| is_it(region))
            .for_each(|region| ranges.add(region));
        ranges.0
    }
}

/// What the ioctl says, in our words; `None` for zero pages, which nobody counts.
pub(super) fn run_of_scan(region: &PageRegion) -> Option<PageRun> {
    let has = |category| region.categories & category != 0;
    let resident = has(PRESENT) && !has(PFNZERO);
    let run = PageRun {
        start: region.start,
        end: region.end,
        resident,
        anon: resident && !has(FILE),
        swapped: has(SWAPPED) && !has(GUARD),
        guard: has(GUARD),
    };
    (run.resident || run.swapped || run.guard).then_some(run)
}

/// What an entry of `pagemap` says. The outer `None`: a page of no file that is not ours alone may be the zero page (not
/// counted) or one shared after a fork (counted); without the ioctl nobody can tell.
pub(super) fn run_of_entry(entry: u64, start: u64, end: u64) -> Option<Option<PageRun>> {
    let has = |bit| entry & bit != 0;
    if has(PM_PRESENT) && !has(PM_FILE) && !has(PM_EXCLUSIVE) {
        return None;
    }
    let run = PageRun {
        start,
        end,
        resident: has(PM_PRESENT),
        anon: has(PM_PRESENT) && !has(PM_FILE),
        swapped: has(PM_SWAP) && !has(PM_GUARD),
        guard: has(PM_GUARD),
    };
    Some((run.resident || run.swapped || run.guard).then_some(run))
}

/// Neighbouring runs of one kind as one.
pub(super) fn joined(runs: impl Iterator<Item = PageRun>) -> Vec<PageRun> {
    let mut out: Vec<PageRun> = Vec::new();
    for run in runs {
        match out.last_mut() {
            Some(last)
                if last.end == run.start
                    && (PageRun {
                        start: run.start,
                        end: run.end,
                        ..*last
                    }) == run =>
            {
                last.end = run.end
            }
            _ => out.push(run),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::capture::{parse_maps, parse_smaps};

    #[test]
    fn entries_without_an_owner_are_not_guessed() {
        assert_eq!(run_of_entry(PM_PRESENT, 0, 1), None);
        assert_eq!(run_of_entry(0, 0, 1), Some(None));
        let anon = run_of_entry(PM_PRESENT | PM_EXCLUSIVE, 0, 1).flatten().unwrap();
        assert!(anon.resident && anon.anon);
        let file = run_of_entry(PM_PRESENT | PM_FILE, 0, 1).flatten().unwrap();
        assert!(file.resident && !file.anon);
    }

    #[test]
    fn figures_tell_of_regions_that_are_resident_as_a_whole() {
        let text = b"1000-3000 rw-p 00000000 00:00 0 \nSize: 8 kB\nRss: 8 kB\n3000-5000 r--s 00000000 00:00 0 \nSize: 8 kB\n\
            Rss: 8 kB\n5000-7000 rw-p 00000000 00:00 0 \nSize: 8 kB\nRss: 4 kB\n7000-8000 ---p 00000000 00:00 0 \nSize: 4 kB\n";
        let known = Known::by_figures(&parse_smaps(text).unwrap());
        let resident = [0, 0x1000, 0x4000, 0x5000, 0x7000, 0x8000].map(|at| known.is_resident(at));
        assert_eq!(resident, [None, Some(true), Some(true), None, None, None]);
        let until = [0x800, 0x2000, 0x3000, 0x5800, 0x7000].map(|at| known.readable_until(at));
        assert_eq!(until, [0, 0x3000, 0, 0x7000, 0]);
        assert_eq!(known.runs(0x1000, 0x3000), None);
        let partial = [0x1000, 0x4fff, 0x5000, 0x6fff, 0x7000].map(|at| known.partial(at));
        assert_eq!(partial, [None, None, Some((0x5000, 0x7000)), Some((0x5000, 0x7000)), None]);
    }

    #[test]
    fn what_is_not_known_is_scanned_in_few_calls() {
        // Two regions that are there in part, little between them, then one of 40 pages in between, then one more.
        let region = |start: u64, pages: u64, resident: u64| {
            let end = start + pages * 0x1000;
            let sizes = (pages * 4, resident * 4);
            format!(
                "{start:x}-{end:x} rw-p 00000000 00:00 0 \nSize: {} kB\nRss: {} kB\n",
                sizes.0, sizes.1
            )
        };
        let text = [
            region(0x10_0000, 4, 1),
            region(0x20_0000, 2, 2),
            region(0x30_0000, 4, 3),
            region(0x40_0000, 40, 40),
            region(0x50_0000, 4, 1),
        ]
        .concat();
        let known = Known::by_figures(&parse_smaps(text.as_bytes()).unwrap());
        // A large region without a page may have had some.
        let purged = [
            region(0x10_0000, 4, 1),
            region(0x20_0000, 0x1000, 0),
            region(0x200_0000, 4, 1),
        ]
        .concat();
        let apart = Known::by_figures(&parse_smaps(purged.as_bytes()).unwrap());
        assert_eq!(apart.unknown([0x10_0000, 0x200_0000].into_iter(), &[]).len(), 2);
        let unknown = |pages: &[u64], scans: &[(u64, u64)]| known.unknown(pages.iter().copied(), scans);
        assert_eq!(unknown(&[0x20_0000, 0x40_0000], &[]), [], "all is resident");
        assert_eq!(
            unknown(&[0x10_1000, 0x10_2000, 0x30_0000, 0x50_0000], &[]),
            [(0x10_0000, 0x30_4000), (0x50_0000, 0x50_4000)]
        );
        assert_eq!(
            unknown(&[0x10_0000], &[(0x40_f000, 0x41_0000)]),
            [(0x10_0000, 0x10_4000), (0x40_f000, 0x41_0000)]
        );
        // Of the large one little lies between.
        assert_eq!(unknown(&[0x30_0000], &[(0x40_8000, 0x40_9000)]), [(0x30_0000, 0x40_9000)]);
        assert_eq!(unknown(&[0x50_0000], &[(0x42_0000, 0x42_1000)]), [(0x42_0000, 0x50_4000)]);
        assert_eq!(
            unknown(&[0x50_0000], &[(0x40_8000, 0x40_9000), (0, 0)]),
            [(0x40_8000, 0x40_9000), (0x50_0000, 0x50_4000)]
        );
    }

    #[test]
    fn a_scan_tells_of_every_page() {
        let regions = parse_maps(b"1000-9000 rw-p 00000000 00:00 0 \n").unwrap();
        let run = |start, end, categories| PageRegion { start, end, categories };
        let runs = vec![
            run(0x1000, 0x3000, PRESENT),
            run(0x3000, 0x4000, PRESENT | PFNZERO),
            run(0x5000, 0x6000, SWAPPED),
            run(0x6000, 0x7000, SWAPPED | GUARD),
            run(0x7000, 0x8000, PRESENT | FILE),
            run(0x8000, 0x9000, PRESENT | FILE),
        ];
        let known = Known::by_scan(&regions, runs);
        let resident = [0x1000, 0x3000, 0x4000, 0x5000, 0x6000, 0x8000].map(|at| known.is_resident(at));
        assert_eq!(resident, [true, true, false, false, false, true].map(Some));
        let runs = known.runs(0x2000, 0x9000).unwrap();
        let told: Vec<_> = runs
            .iter()
            .map(|run| (run.start, run.end, run.resident, run.anon, run.swapped, run.guard))
            .collect();
        assert_eq!(
            told,
            [
                (0x2000, 0x3000, true, true, false, false),
                (0x5000, 0x6000, false, false, true, false),
                (0x6000, 0x7000, false, false, false, true),
                (0x7000, 0x9000, true, false, false, false),
            ]
        );
        assert_eq!(known.runs(0x9000, 0xa000), Some(Vec::new()));
    }
}
