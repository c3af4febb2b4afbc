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
    pages: Pages,
}

/// Bytes of the largest region that is scanned as a whole when one of its pages is asked for.
const MAX_PARTIAL: u64 = 1 << 20;

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
        let is_resident = |region: &&Region| region.usage.is_some_and(|usage| usage.resident_bytes == region.size_bytes());
        let is_partial = |region: &&Region| {
            let resident = region.usage.map_or(0, |usage| usage.resident_bytes);
            let some = 0 < resident && resident < region.size_bytes();
            some && region.size_bytes() <= MAX_PARTIAL && region.perms.read && !region.perms.shared
        };
        let partial = regions.iter().filter(is_partial);
        Self {
            readable: readable(regions),
            partial: partial.map(|region| (region.start, region.end)).collect(),
            pages: Pages::Resident(ranges(regions.iter().filter(is_resident))),
        }
    }

    /// By a scan of all pages.
    pub(super) fn by_scan(regions: &[Region], runs: Vec<PageRegion>) -> Self {
        Self {
            readable: readable(regions),
            partial: Vec::new(),
            pages: Pages::Scanned(runs),
        }
    }

    /// The region of an address, where it is best scanned as a whole.
    pub(super) fn partial(&self, address: u64) -> Option<(u64, u64)> {
        let after = self.partial.partition_point(|(_, end)| *end <= address);
        self.partial.get(after).copied().filter(|(start, _)| *start <= address)
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
        let from = runs.partition_point(|run| run.end <= start);
        let inside = runs.get(from..)?.iter().take_while(|run| run.start < end);
        let clipped = inside.map(|run| PageRegion {
            start: run.start.max(start),
            end: run.end.min(end),
            ..*run
        });
        Some(joined(clipped.filter_map(|run| run_of_scan(&run))))
    }
}

fn readable(regions: &[Region]) -> Vec<(u64, u64)> {
    ranges(regions.iter().filter(|region| region.perms.read && !region.perms.shared))
}

/// Regions as ranges, neighbours as one.
fn ranges<'r>(regions: impl Iterator<Item = &'r Region>) -> Vec<(u64, u64)> {
    let mut ranges: Vec<(u64, u64)> = Vec::new();
    for region in regions {
        match ranges.last_mut() {
            Some(last) if last.1 == region.start => last.1 = region.end,
            _ => ranges.push((region.start, region.end)),
        }
    }
    ranges
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
