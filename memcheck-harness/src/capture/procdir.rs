//! One open directory of `/proc` (`/proc/PID` or `/proc/PID/task/TID`): everything is read below it, so that all answers are
//! about one process even if its number were given to another.

use std::cell::{Cell, OnceCell, RefCell};
use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt;

use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, openat, readlinkat};
use nix::sys::stat::{FileStat, Mode, fstatat};

use super::pages::Known;
use super::smaps::Parser;
use super::{fast, maps};
use crate::error::{Error, Result};
use crate::model::{CaptureLevel, Region};
use crate::sys::process;

/// The small files of /proc are a few KiB; `auxv` and `status` too.
const MAX_SMALL_FILE: u64 = 1 << 20;
/// Room for a small file of usual size, so that one read has it all.
const SMALL_FILE: usize = 4 << 10;
/// The kernel hands out at most a page per read of `maps` and `smaps`; a larger buffer only saves moving the rest of a line.
const MAP_BUFFER: usize = 16 << 10;
/// The kernel makes records in a buffer of one page until as much is there as is asked for. One that does not fit is thrown away and
/// made again for the next read (`seq_read_iter` in fs/seq_file.c): of `smaps` that would be each sixth. So much less than a page
/// is asked for that the last one fits; it is 720 to 800 bytes long, and begins before that much is there.
const SMAPS_RECORD: u64 = 696;
/// A name is at most a page of the kernel's; a line beyond this is none of its.
const MAX_LINE: usize = 1 << 20;

/// The directory, and those of its files that are read at every checkpoint: the kernel makes their text anew each time it is read
/// from its beginning. They stay about the program that ran when they were opened.
#[derive(Debug)]
pub(super) struct ProcDir {
    dir: OwnedFd,
    pid: i32,
    maps: OnceCell<File>,
    smaps: OnceCell<File>,
    status: OnceCell<File>,
    pagemap: OnceCell<Option<File>>,
    /// How many there were when they were read last.
    regions: Cell<usize>,
    /// For their text.
    buffer: RefCell<Vec<u8>>,
}

impl ProcDir {
    /// `/proc/PID`, or `/proc/PID/task/TID`, which still shows the memory when the thread PID itself is a zombie.
    pub(super) fn open(pid: i32, tid: Option<i32>) -> Result<Self> {
        let path = tid.map_or_else(|| format!("/proc/{pid}"), |tid| format!("/proc/{pid}/task/{tid}"));
        let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        let dir = nix::fcntl::open(path.as_str(), flags, Mode::empty()).map_err(|errno| failed(pid, "open", &path, errno))?;
        Ok(Self {
            dir,
            pid,
            maps: OnceCell::new(),
            smaps: OnceCell::new(),
            status: OnceCell::new(),
            pagemap: OnceCell::new(),
            regions: Cell::new(0),
            buffer: RefCell::default(),
        })
    }

    /// Opens a file below.
    pub(super) fn file(&self, name: &str) -> Result<File> {
        self.try_file(name).map_err(|errno| failed(self.pid, "open", name, errno))
    }

    /// Opens a file below; never a terminal of ours, never waiting for a pipe.
    pub(super) fn try_file<P: ?Sized + nix::NixPath>(&self, name: &P) -> nix::Result<File> {
        let flags = OFlag::O_RDONLY | OFlag::O_CLOEXEC | OFlag::O_NONBLOCK | OFlag::O_NOCTTY;
        openat(&self.dir, name, flags, Mode::empty()).map(File::from)
    }

    /// What a link or file below is, without opening it.
    pub(super) fn stat<P: ?Sized + nix::NixPath>(&self, name: &P) -> nix::Result<FileStat> {
        fstatat(&self.dir, name, AtFlags::empty())
    }

    /// What a link below points to.
    pub(super) fn link(&self, name: &str) -> Result<OsString> {
        readlinkat(&self.dir, name).map_err(|errno| failed(self.pid, "read", name, errno))
    }

    /// A small file, whole. Most are one record, which the kernel hands out at once to whoever has room for it and one byte more.
    pub(super) fn read(&self, name: &str) -> Result<Vec<u8>> {
        let mut file = self.file(name)?;
        let mut bytes = vec![0; SMALL_FILE];
        let mut count = file.read(&mut bytes).map_err(|error| io_failed(self.pid, name, &error))?;
        if count == bytes.len() {
            let rest = file.take(MAX_SMALL_FILE).read_to_end(&mut bytes);
            count += rest.map_err(|error| io_failed(self.pid, name, &error))?;
        }
        bytes.truncate(count);
        Ok(bytes)
    }

    /// `status`, whole.
    pub(super) fn status(&self) -> Result<Vec<u8>> {
        let file = self
            .kept(&self.status, "status")
            .map_err(|errno| failed(self.pid, "open", "status", errno))?;
        let mut bytes = vec![0; SMALL_FILE];
        let mut filled = 0;
        loop {
            match file.read_at(&mut bytes[filled..], filled as u64) {
                Ok(count) => filled += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(io_failed(self.pid, "status", &error)),
            }
            // It is one record, which the kernel hands out as far as there is room (seq_read_iter in fs/seq_file.c).
            if filled < bytes.len() || bytes.len() as u64 > MAX_SMALL_FILE {
                bytes.truncate(filled);
                return Ok(bytes);
            }
            bytes.resize(2 * filled, 0);
        }
    }

    /// `pagemap`, which not every kernel has and not everybody may read.
    pub(super) fn pagemap(&self) -> Option<&File> {
        self.pagemap.get_or_init(|| self.try_file("pagemap").ok()).as_ref()
    }

    /// A file that is opened once.
    fn kept<'d>(&'d self, place: &'d OnceCell<File>, name: &str) -> nix::Result<&'d File> {
        if let Some(file) = place.get() {
            return Ok(file);
        }
        let file = self.try_file(name)?;
        Ok(place.get_or_init(|| file))
    }

    /// True when the process or thread has an address space: that of a zombie is gone, and has no pages (`statm`, proc(5)).
    pub(super) fn has_memory(&self) -> Result<bool> {
        let mut text = [0; 8];
        match self.file("statm")?.read(&mut text) {
            Ok(count) => Ok(!text[..count].starts_with(b"0 ") && count > 0),
            Err(error) if error.raw_os_error() == Some(libc::ESRCH) => Ok(false),
            Err(error) => Err(io_failed(self.pid, "statm", &error)),
        }
    }

    /// The regions with figures; without them on kernels that have no `smaps` (`CONFIG_PROC_PAGE_MONITOR` off). Empty for a
    /// process or thread that has no memory any more. With them, what is known of their pages by now.
    pub(super) fn regions(&self, level: CaptureLevel) -> Result<(Vec<Region>, Known)> {
        let maps = || {
            let opened = self.kept(&self.maps, "maps");
            self.map("maps", opened.map_err(|errno| failed(self.pid, "open", "maps", errno))?)
        };
        if level == CaptureLevel::Fast
            && let Some(pagemap) = self.pagemap()
        {
            let mut regions = maps()?;
            if let Ok(runs) = fast::measure(pagemap, &mut regions) {
                let known = Known::by_scan(&regions, runs);
                return Ok((regions, known));
            }
        }
        let regions = match self.kept(&self.smaps, "smaps") {
            Ok(file) => self.map("smaps", file)?,
            Err(Errno::ENOENT) => maps()?,
            Err(errno) => return Err(failed(self.pid, "open", "smaps", errno)),
        };
        let known = Known::by_figures(&regions);
        Ok((regions, known))
    }

    /// Parses `maps` or `smaps` as it is read, from the beginning.
    fn map(&self, name: &'static str, file: &File) -> Result<Vec<Region>> {
        let mut at = 0;
        let mut parser = Parser::new(name, self.regions.get());
        let at_once = match process::page_bytes().checked_sub(SMAPS_RECORD) {
            Some(bytes) if name == "smaps" => usize::try_from(bytes).unwrap_or(usize::MAX),
            _ => usize::MAX,
        };
        let mut buffer = self.buffer.borrow_mut();
        let room = buffer.len().max(MAP_BUFFER);
        buffer.resize(room, 0);
        let mut filled = 0;
        loop {
            if filled == buffer.len() {
                if filled >= MAX_LINE {
                    return Err(maps::torn(name, "a line without end"));
                }
                buffer.resize(filled * 2, 0);
            }
            let room = at_once.min(buffer.len() - filled);
            let count = match file.read_at(&mut buffer[filled..filled + room], at) {
                Ok(count) => count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                // The thread is gone between opening and reading.
                Err(error) if error.raw_os_error() == Some(libc::ESRCH) => return Ok(Vec::new()),
                Err(error) => return Err(io_failed(self.pid, name, &error)),
            };
            at += count as u64;
            filled += count;
            let whole = buffer[..filled]
                .iter()
                .rposition(|&b| b == b'\n')
                .map_or(0, |newline| newline + 1);
            parser.lines(&buffer[..whole])?;
            buffer.copy_within(whole..filled, 0);
            filled -= whole;
            if count == 0 {
                break;
            }
        }
        if filled > 0 {
            return Err(maps::torn(name, "the last line is cut"));
        }
        let regions = parser.finish();
        self.regions.set(regions.len());
        Ok(regions)
    }
}

fn io_failed(pid: i32, name: &str, error: &io::Error) -> Error {
    failed(
        pid,
        "read",
        name,
        error.raw_os_error().map_or(Errno::UnknownErrno, Errno::from_raw),
    )
}

fn failed(pid: i32, what: &str, name: &str, errno: Errno) -> Error {
    match errno {
        Errno::EACCES | Errno::EPERM => Error::machine(format!("not permitted to {what} {name} of process {pid}"))
            .detail("the target runs as another user, dropped its dumpable flag (prctl PR_SET_DUMPABLE) or gained privileges")
            .detail("run the tool as the user of the target, or as root; in a container, allow ptrace (SYS_PTRACE)"),
        Errno::ENOENT | Errno::ESRCH => Error::not_judged(format!("process {pid} ended while it was measured")),
        _ => Error::not_judged(format!("could not {what} {name} of process {pid}: {}", errno.desc())),
    }
}
