//! The `PROCMAP_QUERY` ioctl of `/proc/PID/maps` (Linux 6.11): one mapping of a kind, without the text of all others.
//!
//! Source: include/uapi/linux/fs.h of the kernel.

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd as _;

/// `PROCMAP_QUERY_VMA_EXECUTABLE`
const EXECUTABLE: u64 = 1 << 2;
/// `PROCMAP_QUERY_COVERING_OR_NEXT_VMA`
const COVERING_OR_NEXT: u64 = 1 << 4;
/// `PROCMAP_QUERY_FILE_BACKED_VMA`
const FILE_BACKED: u64 = 1 << 5;

/// `struct procmap_query`.
#[derive(Default)]
#[repr(C)]
struct Query {
    size: u64,
    flags: u64,
    addr: u64,
    start: u64,
    end: u64,
    vma_flags: u64,
    page_size: u64,
    offset: u64,
    inode: u64,
    dev_major: u32,
    dev_minor: u32,
    name_size: u32,
    build_id_size: u32,
    name_addr: u64,
    build_id_addr: u64,
}

/// `_IOWR('f', 17, struct procmap_query)` with the generic encoding; elsewhere the answer is ENOTTY, as of an old kernel.
const PROCMAP_QUERY: u32 = 3 << 30 | (size_of::<Query>() as u32) << 16 | (b'f' as u32) << 8 | 17;

/// `PATH_MAX`: no name of a mapping is longer.
const NAME_BYTES: usize = 4096;

/// A mapping of a file.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Mapping {
    /// First address.
    pub(crate) start: u64,
    /// One past the last address.
    pub(crate) end: u64,
    /// Offset in the file.
    pub(crate) offset: u64,
    /// Device: major and minor number.
    pub(crate) dev: (u32, u32),
    /// Inode on it.
    pub(crate) inode: u64,
    /// Path, not escaped.
    pub(crate) path: Vec<u8>,
}

/// The executable mappings of files, in address order. `maps` is the open `/proc/PID/maps`.
///
/// # Errors
/// `ENOTTY` on kernels without the ioctl; `ESRCH` when the process is gone.
pub(crate) fn executable_files(maps: &File) -> io::Result<Vec<Mapping>> {
    let mut found = Vec::new();
    let mut name = vec![0_u8; NAME_BYTES];
    let mut at = 0;
    loop {
        let mut query = Query {
            size: size_of::<Query>() as u64,
            flags: EXECUTABLE | FILE_BACKED | COVERING_OR_NEXT,
            addr: at,
            name_size: NAME_BYTES as u32,
            name_addr: name.as_mut_ptr() as u64,
            ..Query::default()
        };
        // SAFETY: the descriptor is open for the whole call; `query` is a live `procmap_query` of the size it states, and its name
        // points to `name_size` live, writable bytes that outlive the call. The kernel writes nothing else. The request is passed
        // as the type `ioctl` has here, bits unchanged.
        let result = unsafe { libc::ioctl(maps.as_raw_fd(), PROCMAP_QUERY as _, &raw mut query) };
        if result == -1 {
            let error = io::Error::last_os_error();
            return match error.raw_os_error() {
                Some(libc::ENOENT) => Ok(found),
                _ => Err(error),
            };
        }
        if query.end <= at {
            return Err(io::Error::other("PROCMAP_QUERY made no progress"));
        }
        // With the NUL at its end.
        let length = usize::try_from(query.name_size).unwrap_or(0).saturating_sub(1);
        found.push(Mapping {
            start: query.start,
            end: query.end,
            offset: query.offset,
            dev: (query.dev_major, query.dev_minor),
            inode: query.inode,
            path: name.get(..length).unwrap_or_default().to_vec(),
        });
        at = query.end;
    }
}
