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
const SMAPS: &str = "smaps";
/// Room for the text of a small process, and how much of a longer one is read before it is parsed.
const MAX_TEXT: usize = 64 << 10;
/// The kernel makes records in a buffer of one page until as much is there as is asked for. One that does not fit is thrown away and
/// made again for the next read (`seq_read_iter` in fs/seq_file.c): of `smaps` that would be each sixth. So much less than a page
/// is asked for that the last one fits; it is 720 to 800 bytes long, and begins before that much is there.
const SMAPS_RECORD: usize = 696;
/// Where it is known how long the next records are, whole ones are asked for, as many as the buffer holds with some room: it may not be
/// filled to the last byte (`seq_has_overflowed`), nor so that a number might not fit.
const SMAPS_ROOM: usize = 64;
/// No record of a region without a name is longer.
const MAX_RECORD: usize = 1024;
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
    /// For that of `status`.
    small: RefCell<Vec<u8>>,
    /// What was learnt of the last text of `smaps`.
    parser: RefCell<Option<Parser>>,
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
            small: RefCell::default(),
            parser: RefCell::default(),
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

    /// What `status` tells, as a whole.
    pub(super) fn status<T>(&self, understand: impl FnOnce(&[u8]) -> Result<T>) -> Result<T> {
        let file = self
            .kept(&self.status, "status")
            .map_err(|errno| failed(self.pid, "open", "status", errno))?;
        let mut bytes = self.small.borrow_mut();
        let room = bytes.len().max(SMALL_FILE);
        bytes.resize(room, 0);
        let mut filled = 0;
        loop {
            match file.read_at(&mut bytes[filled..], filled as u64) {
                Ok(count) => filled += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(io_failed(self.pid, "status", &error)),
            }
            // It is one record, which the kernel hands out as far as there is room (seq_read_iter in fs/seq_file.c).
            if filled < bytes.len() || bytes.len() as u64 > MAX_SMALL_FILE {
                return understand(&bytes[..filled]);
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
        let regions = match self.kept(&self.smaps, SMAPS) {
            Ok(file) => self.map(SMAPS, file)?,
            Err(Errno::ENOENT) => maps()?,
            Err(errno) => return Err(failed(self.pid, "open", "smaps", errno)),
        };
        let known = Known::by_figures(&regions);
        Ok((regions, known))
    }

    /// Parses `maps` or `smaps` from the beginning: a short one as a whole, a longer one as it is read.
    fn map(&self, name: &'static str, file: &File) -> Result<Vec<Region>> {
        let mut parser = match self.parser.take().filter(|_| name == SMAPS) {
            Some(parser) => parser.again(self.regions.get()),
            None => Parser::new(name, self.regions.get()),
        };
        let page_bytes = usize::try_from(process::page_bytes()).unwrap_or(0);
        let usual = page_bytes.checked_sub(SMAPS_RECORD).filter(|_| name == SMAPS);
        let mut buffer = self.buffer.take();
        if buffer.is_empty() {
            buffer = vec![0; MAX_TEXT];
        }
        let (mut at, mut filled) = (0_u64, 0_usize);
        loop {
            // Of a text that is longer than the buffer nothing is known.
            let known = usual.filter(|_| at == filled as u64);
            let coming = known.and_then(|_| parser.coming(filled, page_bytes.saturating_sub(SMAPS_ROOM)));
            let at_once = coming.map(|coming| coming.bytes).or(usual).unwrap_or(usize::MAX);
            let until = buffer.len().min(filled.saturating_add(at_once));
            let count = match file.read_at(&mut buffer[filled..until], at) {
                Ok(count) => count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                // The thread is gone between opening and reading.
                Err(error) if error.raw_os_error() == Some(libc::ESRCH) => return Ok(Vec::new()),
                Err(error) => return Err(io_failed(self.pid, name, &error)),
            };
            at += count as u64;
            filled += count;
            // Who gets less than there is room for, or all there was, asks no more where the last of all regions is there.
            let may_be_last = filled < until || coming.is_some_and(|coming| coming.is_all);
            if count == 0 || (may_be_last && name == SMAPS && is_last(&buffer[..filled])) {
                break;
            }
            if filled < buffer.len() {
                continue;
            }
            let whole = lines_end(&buffer);
            parser.lines(&buffer[..whole])?;
            buffer.copy_within(whole.., 0);
            filled -= whole;
            if filled == buffer.len() {
                if filled >= MAX_LINE {
                    return Err(maps::torn(name, "a line without end"));
                }
                buffer.resize(filled * 2, 0);
            }
        }
        if lines_end(&buffer[..filled]) < filled {
            return Err(maps::torn(name, "the last line is cut"));
        }
        parser.lines(&buffer[..filled])?;
        let is_whole = at == filled as u64;
        let regions = parser.finish(&mut buffer, if is_whole { filled } else { 0 });
        self.regions.set(regions.len());
        self.buffer.replace(buffer);
        if name == SMAPS {
            self.parser.replace(Some(parser));
        }
        Ok(regions)
    }
}

/// The text ends with the whole record of the vsyscall page, which on x86-64 lies above all memory of any process (`VSYSCALL_ADDR`) and
/// so comes last (fs/proc/task_mmu.c, "gate vma"). `VmFlags` is the last line of each record.
fn is_last(text: &[u8]) -> bool {
    let from = text.len().saturating_sub(MAX_RECORD);
    let tail = text.get(from..).unwrap_or_default();
    // Part of a line tells nothing: a file may be named as that page is.
    let is_cut = from > 0 && text.get(from - 1) != Some(&b'\n');
    let begin = tail
        .iter()
        .position(|&b| b == b'\n')
        .filter(|_| is_cut)
        .map_or(0, |newline| newline + 1);
    let tail = &tail[begin..];
    let mut lines = tail.strip_suffix(b"\n").unwrap_or_default().rsplit(|&b| b == b'\n');
    let is_whole = lines.next().is_some_and(|line| line.starts_with(b"VmFlags:"));
    // Figures begin with a capital letter.
    is_whole
        && lines
            .find(|line| !line.first().is_some_and(u8::is_ascii_uppercase))
            .is_some_and(|line| line.starts_with(b"ffffffffff600000-"))
}

/// Where the last whole line ends.
fn lines_end(bytes: &[u8]) -> usize {
    bytes.iter().rposition(|&b| b == b'\n').map_or(0, |newline| newline + 1)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_whole_record_of_the_vsyscall_page_is_the_last() {
        let record =
            |start: &str| format!("{start}-ffffffffff601000 --xp 00000000 00:00 0 [vsyscall]\nSize: 4 kB\nVmFlags: ex \n");
        let before = "7ffe0000-7fff0000 rw-p 00000000 00:00 0 \nSize: 64 kB\nVmFlags: rd wr \n";
        let last = format!("{before}{}", record("ffffffffff600000"));
        assert!(is_last(last.as_bytes()));
        assert!(!is_last(before.as_bytes()));
        assert!(!is_last(format!("{before}{}", record("ffffffffff500000")).as_bytes()));
        assert!(!is_last(format!("{last}{before}").as_bytes()));
        for cut in before.len()..last.len() {
            assert!(!is_last(&last.as_bytes()[..cut]), "{cut}");
        }
        assert!(!is_last(b""));
        for fill in 0..1200 {
            let name = format!("/w/{}ffffffffff600000-ffffffffff601000 --xp", "x".repeat(fill));
            let named = format!(
                "1000-2000 r--p 00000000 fe:00 7 {name}\n{}VmFlags: rd \n",
                "Size: 4 kB\n".repeat(60)
            );
            assert!(!is_last(named.as_bytes()), "{fill}");
        }
    }

    /// Whatever the text before was, a text is read as if there had been none.
    #[test]
    fn records_of_other_lengths_and_places_are_read_as_they_stand() {
        let dir = ProcDir::open(std::process::id().cast_signed(), None).unwrap();
        let figures = "Size:                  4 kB\n".to_owned() + &"Future:                0 kB\n".repeat(22);
        let record = |page: u64, name: &str| {
            let start = page * 4096;
            let head = format!("{start:012x}-{:012x} rw-p 00000000 00:00 0 {name}\n", start + 4096);
            head + &figures + "VmFlags: rd wr \n"
        };
        let last = "ffffffffff600000-ffffffffff601000 --xp 00000000 00:00 0 [vsyscall]\nSize: 4 kB\nVmFlags: ex \n";
        let all = |pages: &[u64], name: &str| pages.iter().map(|page| record(*page, name)).collect::<String>();
        let many: Vec<u64> = (1..40).collect();
        let few: Vec<u64> = (1..40).filter(|page| page % 7 != 3).collect();
        let (long, longer) = ("x".repeat(500), "y".repeat(5000));
        let texts = [
            all(&many, "") + last,
            all(&many, "") + last,
            all(&few, "") + last,
            all(&few, &long) + last,
            all(&few, &longer) + last,
            all(&[1, 2], "") + &record(3, &longer) + &all(&[4, 5, 6], "") + last,
            all(&[1, 2], "") + &record(3, &long) + &all(&[4, 5, 6], ""),
            all(&[1, 2, 3], ""),
            all(&[1, 2, 3], "") + last,
            String::new(),
            all(&many, ""),
        ];
        let file = tempfile::NamedTempFile::new().unwrap();
        for text in &texts {
            std::fs::write(file.path(), text).unwrap();
            let regions = dir.map(SMAPS, file.as_file()).unwrap();
            assert!(regions == super::super::parse_smaps(text.as_bytes()).unwrap());
            assert_eq!(regions.len(), text.matches("VmFlags").count());
        }
    }
}
