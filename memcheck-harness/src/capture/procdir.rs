//! One open directory of `/proc` (`/proc/PID` or `/proc/PID/task/TID`): everything is read below it, so that all answers are
//! about one process even if its number were given to another.

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::OwnedFd;

use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, openat, readlinkat};
use nix::sys::stat::{FileStat, Mode, fstatat};

use super::smaps::Parser;
use super::{fast, maps, parse_maps};
use crate::error::{Error, Result};
use crate::model::{CaptureLevel, Region};

/// The small files of /proc are a few KiB; `auxv` and `status` too.
const MAX_SMALL_FILE: u64 = 1 << 20;
/// The kernel hands out at most a page per read of `smaps`; a larger buffer only saves moving the rest of a line.
const SMAPS_BUFFER: usize = 64 << 10;
/// A name is at most a page of the kernel's; a line beyond this is none of its.
const MAX_LINE: usize = 1 << 20;

/// The directory.
#[derive(Debug)]
pub(super) struct ProcDir {
    dir: OwnedFd,
    pid: i32,
}

impl ProcDir {
    /// `/proc/PID`, or `/proc/PID/task/TID`, which still shows the memory when the thread PID itself is a zombie.
    pub(super) fn open(pid: i32, tid: Option<i32>) -> Result<Self> {
        let path = tid.map_or_else(|| format!("/proc/{pid}"), |tid| format!("/proc/{pid}/task/{tid}"));
        let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        let dir = nix::fcntl::open(path.as_str(), flags, Mode::empty()).map_err(|errno| failed(pid, "open", &path, errno))?;
        Ok(Self { dir, pid })
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

    /// A small file, whole.
    pub(super) fn read(&self, name: &str) -> Result<Vec<u8>> {
        let mut bytes = Vec::new();
        let read = self.file(name)?.take(MAX_SMALL_FILE).read_to_end(&mut bytes);
        read.map_err(|error| io_failed(self.pid, name, &error))?;
        Ok(bytes)
    }

    /// True when the process or thread has an address space: the map of a zombie is empty.
    pub(super) fn has_memory(&self) -> Result<bool> {
        match self.file("maps")?.read(&mut [0; 64]) {
            Ok(count) => Ok(count > 0),
            Err(error) if error.raw_os_error() == Some(libc::ESRCH) => Ok(false),
            Err(error) => Err(io_failed(self.pid, "maps", &error)),
        }
    }

    /// The regions with figures; without them on kernels that have no `smaps` (`CONFIG_PROC_PAGE_MONITOR` off). Empty for a
    /// process or thread that has no memory any more.
    pub(super) fn regions(&self, level: CaptureLevel) -> Result<Vec<Region>> {
        if level == CaptureLevel::Fast {
            let mut regions = parse_maps(&self.whole("maps")?)?;
            if let Ok(pagemap) = self.try_file("pagemap")
                && fast::measure(&pagemap, &mut regions).is_ok()
            {
                return Ok(regions);
            }
        }
        match self.try_file("smaps") {
            Ok(file) => self.smaps(file),
            Err(Errno::ENOENT) => parse_maps(&self.whole("maps")?),
            Err(errno) => Err(failed(self.pid, "open", "smaps", errno)),
        }
    }

    fn whole(&self, name: &str) -> Result<Vec<u8>> {
        let mut bytes = Vec::new();
        match self.file(name)?.read_to_end(&mut bytes) {
            Ok(_) => Ok(bytes),
            // The thread is gone between opening and reading.
            Err(error) if error.raw_os_error() == Some(libc::ESRCH) => Ok(Vec::new()),
            Err(error) => Err(io_failed(self.pid, name, &error)),
        }
    }

    fn smaps(&self, mut file: File) -> Result<Vec<Region>> {
        let mut parser = Parser::default();
        let mut buffer = vec![0; SMAPS_BUFFER];
        let mut filled = 0;
        loop {
            if filled == buffer.len() {
                if filled >= MAX_LINE {
                    return Err(maps::torn("smaps", "a line without end"));
                }
                buffer.resize(filled * 2, 0);
            }
            let count = match file.read(&mut buffer[filled..]) {
                Ok(count) => count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                // The thread is gone between opening and reading.
                Err(error) if error.raw_os_error() == Some(libc::ESRCH) => return Ok(Vec::new()),
                Err(error) => return Err(io_failed(self.pid, "smaps", &error)),
            };
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
            return Err(maps::torn("smaps", "the last line is cut"));
        }
        Ok(parser.finish())
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
