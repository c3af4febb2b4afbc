//! The fast level: `maps`, then the pages of all regions by a few `PAGEMAP_SCAN` calls. Gives what `smaps` says of resident,
//! anonymous and swapped bytes in a fraction of its time; no flags and no other figure.
//!
//! Asking whether a page is of a file makes the kernel look at each page's own record, which costs three times as much. So
//! neighbouring regions that can hold no page of a file are scanned together without that question, others with it.
//!
//! What this level cannot tell is left to `smaps`: pages of hugetlbfs, which the kernel counts apart, and swapped pages where a
//! kernel does not tell guards from them. Shared memory in swap has no trace in the page tables: no swap figure comes from here.

use std::fs::File;
use std::io;

use crate::model::{Region, Usage};
use crate::sys::pagemap::{self, FILE, GUARD, PFNZERO, PRESENT, PageRegion, SWAPPED};

/// The smallest huge page: 2 MiB on x86-64, 64 KiB elsewhere (Documentation/admin-guide/mm/hugetlbpage.rst).
const SMALLEST_HUGE: u64 = if cfg!(target_arch = "x86_64") { 2 << 20 } else { 64 << 10 };

/// Bytes of memory of no file that are scanned as if they could be of one.
const SMALL: u64 = 192 << 10;

/// Fills in the figures, and gives all runs of pages there are, in order. Fails where the kernel has no such call (before Linux
/// 6.7), and where it cannot tell what `smaps` would say: the regions are then as they were.
pub(super) fn measure(pagemap: &File, regions: &mut [Region]) -> io::Result<Vec<PageRegion>> {
    let mut is_huge = false;
    for region in regions.iter_mut() {
        is_huge |= may_be_huge(region);
        region.usage = Some(Usage::default());
    }
    let measured = if is_huge {
        Err(io::Error::from(io::ErrorKind::Unsupported))
    } else {
        scan_all(pagemap, regions)
    };
    if measured.is_err() {
        regions.iter_mut().for_each(|region| region.usage = None);
    }
    measured
}

/// Adds what is found to the figures.
fn scan_all(pagemap: &File, regions: &mut [Region]) -> io::Result<Vec<PageRegion>> {
    let mut all: Vec<PageRegion> = Vec::new();
    let mut guard = GUARD;
    let countable = regions.partition_point(|region| region.start < 1 << 63);
    let mut rest = regions.get_mut(..countable).unwrap_or_default();
    for (count, extra) in groups(rest) {
        let group;
        (group, rest) = rest.split_at_mut(count);
        if let (Some(from), Some(to)) = (group.first(), group.last()) {
            let wanted = PRESENT | SWAPPED;
            let before = all.len();
            let mut scan = |guard| {
                let range = (from.start, to.end);
                pagemap::scan_into(pagemap, range, wanted, wanted | PFNZERO | extra | guard, &mut all)
            };
            match scan(guard) {
                // A category that this kernel does not know (before 6.15), though it may have guards (6.13): both are entries
                // of swap.
                Err(error) if guard != 0 && error.raw_os_error() == Some(libc::EINVAL) => {
                    guard = 0;
                    scan(guard)?
                }
                scanned => scanned?,
            }
            let runs = all.get(before..).unwrap_or_default();
            if guard == 0 && runs.iter().any(|run| run.categories & SWAPPED != 0) {
                return Err(io::Error::from(io::ErrorKind::Unsupported));
            }
            add(group, runs);
        }
    }
    Ok(all)
}

/// How many regions are scanned together, and what is asked of their pages besides. A call costs as much as that question of some
/// fifty pages: less memory of no file than that is scanned with its neighbours.
fn groups(regions: &[Region]) -> Vec<(usize, u64)> {
    let mut groups: Vec<(usize, u64)> = Vec::new();
    for group in regions.chunk_by(|a, b| needs_file(a) == needs_file(b)) {
        let is_file = group.first().is_some_and(needs_file);
        let bytes = group
            .last()
            .zip(group.first())
            .map_or(0, |(last, first)| last.end - first.start);
        match groups.last_mut() {
            Some((count, FILE)) if is_file || bytes <= SMALL => *count += group.len(),
            _ => groups.push((group.len(), if is_file { FILE } else { 0 })),
        }
    }
    groups
}

/// Pages of a file or of shared memory can be here. The kernel's own pages (`[vdso]`) look like those of a file.
fn needs_file(region: &Region) -> bool {
    region.inode != 0 || region.perms.shared || region.name.as_bytes().starts_with(b"[v")
}

/// A file whose region could be one of hugetlbfs, by its bounds (`hugetlb_file_setup` and `hugetlbfs_file_mmap` in fs/hugetlbfs/inode.c
/// take whole huge pages only).
fn may_be_huge(region: &Region) -> bool {
    region.inode != 0 && (region.start | region.end).is_multiple_of(SMALLEST_HUGE)
}

/// Gives each run of pages to the regions it lies in; both ascend.
fn add(regions: &mut [Region], runs: &[PageRegion]) {
    let mut index = 0;
    for run in runs {
        let has = |category| run.categories & category != 0;
        let resident = has(PRESENT) && !has(PFNZERO);
        if has(GUARD) || (!resident && !has(SWAPPED)) {
            continue;
        }
        while regions.get(index).is_some_and(|region| region.end <= run.start) {
            index += 1;
        }
        let overlapping = regions.get_mut(index..).unwrap_or_default().iter_mut();
        for region in overlapping.take_while(|region| region.start < run.end) {
            let bytes = run.end.min(region.end).saturating_sub(run.start.max(region.start));
            let Some(usage) = &mut region.usage else { continue };
            if resident {
                usage.resident_bytes += bytes;
                if !has(FILE) {
                    usage.anon_bytes += bytes;
                }
            } else {
                usage.swap_bytes += bytes;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::capture::parse_maps;

    #[test]
    fn a_run_that_covers_several_regions_is_shared_out() {
        let text = b"1000-3000 rw-p 00000000 00:00 0 \n3000-4000 r--p 00000000 00:00 0 \n8000-9000 rw-p 00000000 00:00 0 \n";
        let mut regions = parse_maps(text).unwrap();
        regions.iter_mut().for_each(|region| region.usage = Some(Usage::default()));
        let run = |start, end, categories| PageRegion { start, end, categories };
        let runs = [
            run(0x1000, 0x2000, SWAPPED | GUARD),
            run(0x2000, 0x4000, PRESENT),
            run(0x8000, 0x8800, SWAPPED),
            run(0x8800, 0x9000, PRESENT | PFNZERO),
        ];
        add(&mut regions, &runs);
        let got: Vec<_> = regions
            .iter()
            .filter_map(|region| region.usage)
            .map(|usage| (usage.resident_bytes, usage.anon_bytes, usage.swap_bytes))
            .collect();
        assert_eq!(got, [(0x1000, 0x1000, 0), (0x1000, 0x1000, 0), (0, 0, 0x800)]);
    }

    #[test]
    fn a_little_memory_between_files_is_scanned_with_them() {
        let text = b"1000-3000 rw-p 00000000 00:00 0 \n3000-4000 r--p 00000000 fe:00 7  /a\n4000-9000 rw-p 00000000 00:00 0 \n\
            9000-a000 rw-p 00000000 00:00 0 \nb000-c000 r--p 00000000 fe:00 7  /a\n100000-140000 rw-p 00000000 00:00 0 \n\
            150000-151000 rw-s 00000000 00:00 0 \n";
        assert_eq!(groups(&parse_maps(text).unwrap()), [(1, 0), (4, FILE), (1, 0), (1, FILE)]);
        assert_eq!(groups(&[]), []);
    }

    #[test]
    fn only_whole_huge_pages_of_a_file_are_left_to_smaps() {
        let text = b"200000-40000000 rw-s 00000000 00:11 7  /memfd:h (deleted)\n40000000-80000000 rw-p 00000000 00:00 0 \n\
            80000000-80201000 rw-s 00000000 00:11 7  /memfd:h (deleted)\n";
        let huge: Vec<bool> = parse_maps(text).unwrap().iter().map(may_be_huge).collect();
        assert_eq!(huge, [true, false, false]);
    }
}
