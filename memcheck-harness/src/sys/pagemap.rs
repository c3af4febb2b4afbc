//! The `PAGEMAP_SCAN` ioctl of `/proc/PID/pagemap` (Linux 6.7): which pages of a range are of which kind, in one call.
//!
//! Source: include/uapi/linux/fs.h and Documentation/admin-guide/mm/pagemap.rst of the kernel.

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;

/// `PAGE_IS_FILE`: of a file or of shared memory.
pub(crate) const FILE: u64 = 1 << 2;
/// `PAGE_IS_PRESENT`
pub(crate) const PRESENT: u64 = 1 << 3;
/// `PAGE_IS_SWAPPED`
pub(crate) const SWAPPED: u64 = 1 << 4;
/// `PAGE_IS_PFNZERO`: the zero page, which `smaps` does not count.
pub(crate) const PFNZERO: u64 = 1 << 5;
/// `PAGE_IS_GUARD`: `MADV_GUARD_INSTALL` (category since Linux 6.15).
pub(crate) const GUARD: u64 = 1 << 8;

/// `struct page_region`: consecutive pages of the same categories.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub(crate) struct PageRegion {
    /// First address.
    pub(crate) start: u64,
    /// One past the last address.
    pub(crate) end: u64,
    /// Bits of the categories asked for.
    pub(crate) categories: u64,
}

/// `struct pm_scan_arg`.
#[derive(Default)]
#[repr(C)]
struct ScanArg {
    size: u64,
    flags: u64,
    start: u64,
    end: u64,
    walk_end: u64,
    vec: u64,
    vec_len: u64,
    max_pages: u64,
    category_inverted: u64,
    category_mask: u64,
    category_anyof_mask: u64,
    return_mask: u64,
}

/// `_IOWR('f', 16, struct pm_scan_arg)` with the generic encoding: direction 3 << 30, size 96 << 16, type << 8, number. The
/// architectures with another encoding (MIPS, PowerPC, SPARC) answer ENOTTY, which the caller takes for an old kernel.
const PAGEMAP_SCAN: u32 = 3 << 30 | (size_of::<ScanArg>() as u32) << 16 | (b'f' as u32) << 8 | 16;
/// Regions per call: 12 KiB of buffer.
const BATCH: u64 = 512;
/// And in the first call.
const FIRST: usize = 32;
/// Pages are never smaller.
const SMALLEST_PAGE: u64 = 4096;

/// The pages of `[start, end)` (page-aligned) that have any of the categories `any_of`, with the bits of `wanted`, in order.
///
/// # Errors
/// `ENOTTY` on kernels without the ioctl, `EINVAL` for a category they do not know or an address that is not the target's.
pub(crate) fn scan(pagemap: &File, start: u64, end: u64, any_of: u64, wanted: u64) -> io::Result<Vec<PageRegion>> {
    let mut found = Vec::new();
    scan_into(pagemap, (start, end), any_of, wanted, &mut found)?;
    Ok(found)
}

/// As [`scan`], adding to what was found before.
///
/// # Errors
/// As [`scan`].
pub(crate) fn scan_into(
    pagemap: &File,
    (start, end): (u64, u64),
    any_of: u64,
    wanted: u64,
    found: &mut Vec<PageRegion>,
) -> io::Result<()> {
    // A range of few pages has few regions.
    let most = (end.saturating_sub(start) / SMALLEST_PAGE).clamp(1, BATCH);
    // Most ranges have few all the same.
    let mut few = [PageRegion::default(); FIRST];
    let mut many = Vec::new();
    let mut at = start;
    while at < end {
        let room = usize::try_from(most).unwrap_or(1);
        let batch = if at == start {
            &mut few[..room.min(FIRST)]
        } else {
            many.resize(room, PageRegion::default());
            &mut many[..]
        };
        let mut arg = ScanArg {
            size: size_of::<ScanArg>() as u64,
            start: at,
            end,
            vec: batch.as_mut_ptr() as u64,
            vec_len: batch.len() as u64,
            category_anyof_mask: any_of,
            return_mask: wanted,
            ..ScanArg::default()
        };
        // SAFETY: the descriptor is open for the whole call; `arg` is a live `pm_scan_arg` of the size it states, and `vec`
        // points to `vec_len` live, writable `page_region`s that outlive the call. The kernel writes nothing else. The
        // request is passed as the type `ioctl` has here (unsigned long with glibc, int with musl), bits unchanged.
        let count = unsafe { libc::ioctl(pagemap.as_raw_fd(), PAGEMAP_SCAN as _, &raw mut arg) };
        let count = usize::try_from(count).map_err(|_| io::Error::last_os_error())?;
        found.extend_from_slice(
            batch
                .get(..count)
                .ok_or_else(|| io::Error::other("PAGEMAP_SCAN overran its buffer"))?,
        );
        if arg.walk_end <= at {
            return Err(io::Error::other("PAGEMAP_SCAN made no progress"));
        }
        at = arg.walk_end;
    }
    Ok(())
}
