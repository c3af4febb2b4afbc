//! What the tracer reads under `/proc`: threads of a process, kinship, signal dispositions, the auxiliary vector, mapped
//! files. Parsers take bytes; reading is another function.

use std::collections::BTreeSet;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _};
use std::os::unix::fs::{FileExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use nix::fcntl::OFlag;

use crate::elf::Stamp;
use crate::model::Name;
use crate::sys::{process, procmap};

use super::maps;

/// Room for a small file of usual size.
const SMALL_FILE: usize = 8 << 10;

/// More than the name of a thread can have (`TASK_COMM_LEN` is 16), the line's end included.
const MAX_COMM: usize = 80;

/// Address of the program's entry point in the auxiliary vector (getauxval(3)).
pub(super) const AT_ENTRY: u64 = 9;

/// Address of the vdso there.
pub(super) const AT_SYSINFO_EHDR: u64 = 33;

/// Where a process stands among others (`/proc/PID/stat`, proc_pid_stat(5)).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Kin {
    /// `R`, `S`, `Z`, …
    pub(super) state: u8,
    /// Its parent.
    pub(super) parent: i32,
    /// Its process group.
    pub(super) group: i32,
    /// Its session.
    pub(super) session: i32,
    /// `PF_*` of the kernel's `include/linux/sched.h`.
    pub(super) flags: u64,
}

/// `PF_KTHREAD`: a thread of the kernel's own (the same bit since Linux 2.6.27).
const PF_KTHREAD: u64 = 0x0020_0000;

impl Kin {
    /// A thread of the kernel's own, without memory of its own.
    pub(super) fn is_kernel_thread(&self) -> bool {
        self.flags & PF_KTHREAD != 0
    }
}

/// An executable mapping of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct MappedFile {
    /// First address.
    pub(super) start: u64,
    /// One past the last address.
    pub(super) end: u64,
    /// Offset in the file.
    pub(super) offset: u64,
    /// Device.
    pub(super) dev: (u32, u32),
    /// Inode on it.
    pub(super) inode: u64,
    /// Path as the kernel names it, escapes and all.
    pub(super) path: Name,
}

/// The name does not end before the last `)`: it may hold any bytes.
fn parse_stat(text: &[u8]) -> Option<Kin> {
    let after = text.iter().rposition(|&byte| byte == b')')? + 1;
    let mut fields = std::str::from_utf8(text.get(after..)?).ok()?.split_ascii_whitespace();
    Some(Kin {
        state: *fields.next()?.as_bytes().first()?,
        parent: fields.next()?.parse().ok()?,
        group: fields.next()?.parse().ok()?,
        session: fields.next()?.parse().ok()?,
        // The terminal and its process group come first.
        flags: fields.nth(2)?.parse().ok()?,
    })
}

/// Of a process or thread; absent when it is gone.
pub(super) fn kin(tid: i32) -> Option<Kin> {
    parse_stat(&small(format!("/proc/{tid}/stat"))?)
}

/// True when a thread has ended and only its status is left.
pub(super) fn is_zombie(tid: i32) -> bool {
    kin(tid).is_some_and(|kin| matches!(kin.state, b'Z' | b'X'))
}

/// True when a thread of a process has not ended.
pub(super) fn is_alive(pid: i32) -> bool {
    let runs = |tid: &i32| kin(*tid).is_some_and(|kin| !matches!(kin.state, b'Z' | b'X'));
    threads(pid).iter().any(runs)
}

/// A file of `/proc` that is one record: the kernel hands it out at once to whoever has room for all of it.
fn small(path: String) -> Option<Vec<u8>> {
    let mut file = File::open(path).ok()?;
    let mut bytes = vec![0; SMALL_FILE];
    let count = file.read(&mut bytes).ok()?;
    if count == bytes.len() {
        file.take(u64::MAX).read_to_end(&mut bytes).ok()?;
    } else {
        bytes.truncate(count);
    }
    Some(bytes)
}

fn status_field<'a>(text: &'a str, key: &str) -> Option<&'a str> {
    text.lines()
        .find_map(|line| line.strip_prefix(key)?.strip_prefix(':'))
        .map(str::trim)
}

fn status(tid: i32) -> Option<String> {
    // The name of a thread may be no UTF-8.
    Some(String::from_utf8_lossy(&small(format!("/proc/{tid}/status"))?).into_owned())
}

/// The process a thread belongs to.
pub(super) fn process_of(tid: i32) -> Option<i32> {
    status_field(&status(tid)?, "Tgid")?.parse().ok()
}

/// Who traces a thread: a process id, 0 for nobody; absent when the thread is gone.
pub(super) fn tracer_of(tid: i32) -> Option<i32> {
    status_field(&status(tid)?, "TracerPid")?.parse().ok()
}

/// The effective user of a process, and the owner of its directory in `/proc`: root instead of that user when the process is
/// not dumpable (proc_pid(5)).
pub(super) fn users(pid: i32) -> Option<(u32, u32)> {
    let effective = status_field(&status(pid)?, "Uid")?
        .split_ascii_whitespace()
        .nth(1)?
        .parse()
        .ok()?;
    Some((effective, fs::metadata(format!("/proc/{pid}")).ok()?.uid()))
}

/// True when the signal is neither caught nor ignored by the process of this thread (`SigCgt`, `SigIgn`).
pub(super) fn is_default(tid: i32, signal: i32) -> bool {
    let Some(text) = status(tid) else {
        return false;
    };
    let bit = 1u64 << (signal - 1).clamp(0, 63);
    ["SigCgt", "SigIgn"].iter().all(|key| {
        status_field(&text, key)
            .and_then(|value| u64::from_str_radix(value, 16).ok())
            .is_some_and(|mask| mask & bit == 0)
    })
}

/// The lowest page of a range that is in memory or swapped out (bits 63 and 62 of an entry of `pagemap`, proc_pid_pagemap(5)).
pub(super) fn first_used_page(tid: i32, start: u64, end: u64, page_bytes: u64) -> Option<u64> {
    let file = File::open(format!("/proc/{tid}/pagemap")).ok()?;
    let is_used = |page: &u64| {
        let mut entry = [0; 8];
        let read = file.read_exact_at(&mut entry, page / page_bytes * 8);
        read.is_ok() && u64::from_ne_bytes(entry) >> 62 != 0
    };
    (start..end).step_by(usize::try_from(page_bytes).ok()?).find(is_used)
}

/// What is asked of a process at every stop: opening the file costs more than all else there. It stays about that process, whatever it
/// runs, and knows nothing when it is gone.
#[derive(Debug)]
pub(super) struct Leader {
    /// Whose.
    pub(super) pid: i32,
    threads: File,
}

impl Leader {
    /// Opens the file of a process.
    pub(super) fn open(pid: i32) -> io::Result<Self> {
        let threads = OpenOptions::new()
            .read(true)
            .custom_flags((OFlag::O_PATH | OFlag::O_DIRECTORY).bits())
            .open(format!("/proc/{pid}/task"))?;
        Ok(Self { pid, threads })
    }

    /// True when it has no thread but its first: its directory of threads has as many links as there are threads, and two (kernel
    /// `fs/proc/base.c`, `proc_task_getattr`).
    pub(super) fn is_alone(&self) -> bool {
        self.threads.metadata().is_ok_and(|found| found.nlink() == 3)
    }
}

/// Thread ids of a process; empty when it is gone.
pub(super) fn threads(pid: i32) -> BTreeSet<i32> {
    let Ok(entries) = fs::read_dir(format!("/proc/{pid}/task")) else {
        return BTreeSet::new();
    };
    entries
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .collect()
}

/// The name of a thread.
pub(super) fn name(pid: i32, tid: i32) -> Option<Name> {
    let file = if pid == tid {
        comm(pid)
    } else {
        File::open(format!("/proc/{pid}/task/{tid}/comm"))
    };
    name_in(&file.ok()?)
}

/// The file with the name of the first thread of a process.
fn comm(pid: i32) -> io::Result<File> {
    File::open(format!("/proc/{pid}/comm"))
}

/// The name that such a file has now: the kernel writes its text anew each time it is read from its beginning.
fn name_in(comm: &File) -> Option<Name> {
    let mut text = [0; MAX_COMM];
    let count = comm.read_at(&mut text, 0).ok()?;
    let mut bytes = text.get(..count)?.to_vec();
    if bytes.last() == Some(&b'\n') {
        bytes.pop();
    }
    Some(Name::new(bytes))
}

/// How often a thread has gone to sleep or was put aside; absent when it does not sleep now. A leader that has ended sleeps.
pub(super) fn asleep(pid: i32, tid: i32) -> Option<u64> {
    let text = small(format!("/proc/{pid}/task/{tid}/status"))?;
    let text = String::from_utf8_lossy(&text);
    let field = |name: &str| text.lines().find_map(|line| line.strip_prefix(name)).map(str::trim);
    let sleeps = field("State:")?.starts_with(['S', 'Z']);
    let number = |name| field(name)?.parse::<u64>().ok();
    let switches = number("voluntary_ctxt_switches:")?.checked_add(number("nonvoluntary_ctxt_switches:")?)?;
    sleeps.then_some(switches)
}

/// The thread whose name is set by writing to this open file of a process, if that is what it is for
/// (`/proc/PID/task/TID/comm`).
pub(super) fn task_of_comm(tid: i32, descriptor: u64) -> Option<i32> {
    let path = fs::read_link(format!("/proc/{tid}/fd/{descriptor}")).ok()?;
    let mut parts = path.to_str()?.strip_prefix("/proc/")?.strip_suffix("/comm")?.split('/');
    let (first, task) = (parts.next()?, parts.next());
    let number = match task {
        Some("task") => parts.next()?,
        Some(_) => return None,
        None => first,
    };
    number.parse().ok()
}

/// Stack pointer and program counter of a thread that waits in the kernel (`/proc/PID/task/TID/syscall`); absent when it
/// runs.
pub(super) fn blocked_at(pid: i32, tid: i32) -> Option<(u64, u64)> {
    parse_syscall(&fs::read_to_string(format!("/proc/{pid}/task/{tid}/syscall")).ok()?)
}

fn parse_syscall(text: &str) -> Option<(u64, u64)> {
    let mut fields = text.split_ascii_whitespace().rev();
    let mut hex = || u64::from_str_radix(fields.next()?.strip_prefix("0x")?, 16).ok();
    let (pc, sp) = (hex()?, hex()?);
    Some((sp, pc))
}

/// A value of the auxiliary vector of a 64-bit process.
pub(super) fn auxiliary(pid: i32, kind: u64) -> Option<u64> {
    find_auxiliary(&auxiliary_vector(pid)?, kind)
}

/// The auxiliary vector of a process.
pub(super) fn auxiliary_vector(pid: i32) -> Option<Vec<u8>> {
    small(format!("/proc/{pid}/auxv"))
}

/// A value of such a vector.
pub(super) fn find_auxiliary(bytes: &[u8], kind: u64) -> Option<u64> {
    let (pairs, _) = bytes.as_chunks::<16>();
    pairs.iter().find_map(|pair| {
        let (key, value) = pair.split_at(8);
        (key == kind.to_ne_bytes()).then(|| value.try_into().ok().map(u64::from_ne_bytes))?
    })
}

/// Executable mappings of files, in address order; empty when the process is gone.
pub(super) fn executable_files(tid: i32) -> Vec<MappedFile> {
    let Ok(maps) = File::open(format!("/proc/{tid}/maps")) else {
        return Vec::new();
    };
    match procmap::executable_files(&maps) {
        Ok(found) => found.into_iter().filter_map(of_query).collect(),
        Err(_) => of_text(maps),
    }
}

/// As the text of the mappings tells it; absent when it is no file.
fn of_query(found: procmap::Mapping) -> Option<MappedFile> {
    let is_file = found.inode != 0 && found.path.first() == Some(&b'/');
    // The text escapes the character that ends its lines, and no other (kernel `fs/proc/task_mmu.c`).
    let path = if found.path.contains(&b'\n') {
        found
            .path
            .split(|&byte| byte == b'\n')
            .collect::<Vec<_>>()
            .join(&b"\\012"[..])
    } else {
        found.path
    };
    is_file.then(|| MappedFile {
        start: found.start,
        end: found.end,
        offset: found.offset,
        dev: found.dev,
        inode: found.inode,
        path: Name::new(path),
    })
}

/// Where the kernel cannot be asked for one mapping.
fn of_text(maps: File) -> Vec<MappedFile> {
    let mut bytes = Vec::with_capacity(SMALL_FILE);
    if maps.take(u64::MAX).read_to_end(&mut bytes).is_err() {
        return Vec::new();
    }
    // Most mappings are not executable, and need not be understood.
    let is_code = |line: &&[u8]| {
        let access = line.iter().position(|&byte| byte == b' ');
        access.is_some_and(|at| line.get(at + 3) == Some(&b'x'))
    };
    bytes
        .split(|&byte| byte == b'\n')
        .filter(is_code)
        .filter_map(parse_mapping)
        .collect()
}

/// One line of `/proc/PID/maps`; absent when it is no executable mapping of a file.
fn parse_mapping(line: &[u8]) -> Option<MappedFile> {
    let line = maps::line(line)?;
    let mut rest = line.rest;
    let mut field = || {
        let end = rest.iter().position(|&byte| byte == b' ').unwrap_or(rest.len());
        let (field, tail) = rest.split_at(end);
        rest = tail.get(1..).unwrap_or_default();
        std::str::from_utf8(field).ok()
    };
    let hex = |text: &str| u64::from_str_radix(text, 16).ok();
    let offset = hex(field()?)?;
    let (major, minor) = field()?.split_once(':')?;
    let inode = field()?.parse().ok()?;
    let path = rest.trim_ascii_start();
    (line.access[2] == b'x' && inode != 0 && path.first() == Some(&b'/')).then_some(MappedFile {
        start: line.start,
        end: line.end,
        offset,
        dev: (u32::from_str_radix(major, 16).ok()?, u32::from_str_radix(minor, 16).ok()?),
        inode,
        path: Name::new(path),
    })
}

/// The first bytes of the `brk` heap, at most `limit`; empty when there is none.
pub(super) fn heap(pid: i32, limit: usize) -> Vec<u8> {
    use std::os::unix::fs::FileExt as _;
    let maps = fs::read(format!("/proc/{pid}/maps")).unwrap_or_default();
    let bounds = maps::lines(&maps)
        .find(|line| line.rest.ends_with(b" [heap]"))
        .map(|line| (line.start, line.end));
    let (Some((start, end)), Ok(memory)) = (bounds, File::open(format!("/proc/{pid}/mem"))) else {
        return Vec::new();
    };
    let length = usize::try_from(end.saturating_sub(start)).unwrap_or(limit).min(limit);
    let mut bytes = vec![0; length];
    let read = memory.read_at(&mut bytes, start).unwrap_or(0);
    bytes.truncate(read);
    bytes
}

/// What tells the content of the file that is mapped, without opening it.
pub(super) fn stamp_of(tid: i32, mapped: &MappedFile) -> Option<Stamp> {
    use std::os::unix::ffi::OsStrExt as _;
    let link = format!("/proc/{tid}/map_files/{:x}-{:x}", mapped.start, mapped.end);
    let path = Path::new(std::ffi::OsStr::from_bytes(mapped.path.as_bytes()));
    Stamp::of_mapped(path, (process::device(mapped.dev), mapped.inode), Path::new(&link))
}

/// Opens the very file that is mapped, or says why that is not possible.
pub(super) fn open_mapped(tid: i32, mapped: &MappedFile) -> Result<File, String> {
    // The link follows the mapping itself, whatever became of the path; it needs CAP_SYS_ADMIN or CAP_CHECKPOINT_RESTORE.
    let link = format!("/proc/{tid}/map_files/{:x}-{:x}", mapped.start, mapped.end);
    if let Ok(file) = File::open(link) {
        return Ok(file);
    }
    let path = in_root(tid, &mapped.path);
    // A path that is no regular file any more must not be opened: a pipe would block.
    let found = fs::metadata(&path).map_err(|error| error.to_string())?;
    let same_device = found.dev() == process::device(mapped.dev);
    // File systems without a device of their own (btrfs, overlay) show another number in maps than in stat.
    if !found.is_file() || found.ino() != mapped.inode || !(same_device || mapped.dev.0 == 0) {
        return Err("the file was replaced or deleted since it was mapped".to_owned());
    }
    File::open(&path).map_err(|error| error.to_string())
}

fn in_root(tid: i32, path: &Name) -> PathBuf {
    use std::os::unix::ffi::OsStrExt as _;
    let inside = std::ffi::OsStr::from_bytes(path.as_bytes());
    Path::new(&format!("/proc/{tid}/root")).join(Path::new(inside).strip_prefix("/").unwrap_or(Path::new("")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_parentheses_does_not_shift_the_fields() {
        let kin = parse_stat(b"12 (a) Z 9 (x)) S 3 4 5 0 -1 4194304 9").unwrap();
        assert_eq!((kin.state, kin.parent, kin.group, kin.session), (b'S', 3, 4, 5));
        assert!(!kin.is_kernel_thread());
        assert!(parse_stat(b"2 (kthreadd) S 0 0 0 0 -1 2129984 0").unwrap().is_kernel_thread());
        assert_eq!(parse_stat(b"12 (a"), None);
        assert_eq!(parse_stat(b""), None);
    }

    #[test]
    fn only_executable_mappings_of_files_are_kept() {
        let mapped = parse_mapping(b"7f00-8f00 r-xp 00002000 fe:01 42                 /usr/lib/a b.so").unwrap();
        assert_eq!((mapped.start, mapped.end, mapped.offset), (0x7f00, 0x8f00, 0x2000));
        assert_eq!((mapped.dev, mapped.inode), ((0xfe, 1), 42));
        assert_eq!(mapped.path, Name::from("/usr/lib/a b.so"));
        assert_eq!(parse_mapping(b"7f00-8f00 r--p 00002000 fe:01 42   /usr/lib/a.so"), None);
        assert_eq!(parse_mapping(b"7f00-8f00 r-xp 00000000 00:00 0    [vdso]"), None);
        assert_eq!(parse_mapping(b"7f00-8f00 rwxp 00000000 00:00 0 "), None);
        assert_eq!(parse_mapping(b"7f00"), None);
    }

    #[test]
    fn what_the_kernel_answers_is_told_as_in_its_text() {
        let found = |inode, path: &[u8]| procmap::Mapping {
            start: 0x7f00,
            end: 0x8f00,
            offset: 0x2000,
            dev: (0xfe, 1),
            inode,
            path: path.to_vec(),
        };
        let text = parse_mapping(b"7f00-8f00 r-xp 00002000 fe:01 42                 /a\\012\\012b\\x");
        assert_eq!(of_query(found(42, b"/a\n\nb\\x")), text);
        assert!(text.is_some());
        assert_eq!(of_query(found(0, b"/a")), None);
        assert_eq!(of_query(found(3, b"anon_inode:x")), None);
    }

    #[test]
    fn a_blocked_thread_shows_its_stack_pointer() {
        assert_eq!(
            parse_syscall("56 0x1 0x2 0x3 0x4 0x5 0x6 0x7ffc 0x401000\n"),
            Some((0x7ffc, 0x40_1000))
        );
        assert_eq!(parse_syscall("running\n"), None);
    }

    #[test]
    #[expect(clippy::disallowed_methods, reason = "a process that nobody traces")]
    fn a_process_without_further_threads_is_alone() {
        let (go, ready) = (std::sync::Barrier::new(2), std::sync::Barrier::new(2));
        std::thread::scope(|scope| {
            scope.spawn(|| {
                ready.wait();
                go.wait();
            });
            ready.wait();
            assert!(!Leader::open(i32::try_from(std::process::id()).unwrap()).unwrap().is_alone());
            go.wait();
        });
        let mut child = std::process::Command::new("sleep").arg("60").spawn().unwrap();
        let leader = Leader::open(i32::try_from(child.id()).unwrap()).unwrap();
        assert!(leader.is_alone());
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(!leader.is_alone(), "it is gone");
        assert!(Leader::open(0).is_err());
    }

    #[test]
    fn our_own_process_is_understood() {
        let pid = i32::try_from(std::process::id()).unwrap();
        assert!(threads(pid).contains(&pid));
        assert_eq!(process_of(pid), Some(pid));
        assert!(auxiliary(pid, AT_ENTRY).is_some());
        let exe = fs::metadata("/proc/self/exe").unwrap();
        let mapped = executable_files(pid)
            .into_iter()
            .find(|file| file.inode == exe.ino())
            .unwrap();
        let text = of_text(File::open("/proc/self/maps").unwrap());
        assert!(text.len() > 1, "{text:?}");
        assert_eq!(executable_files(pid), text);
        assert_eq!(open_mapped(pid, &mapped).unwrap().metadata().unwrap().ino(), exe.ino());
        assert!(!is_zombie(pid));
    }
}
