//! Reads one stopped process: regions, status, limits, threads, objects. Parsers take bytes; reading is another function.
//! Nothing here interprets what it reads.

mod contents;
mod environment;
mod fast;
mod functions;
mod libc;
mod maps;
mod memory;
mod objects;
mod page;
mod pages;
mod procdir;
mod records;
mod smaps;
mod status;
mod tree;
#[cfg(test)]
mod tests;

use std::os::unix::ffi::OsStringExt;
use std::rc::Rc;

pub use contents::{ContentReader, Counted, Strings, content_reader};
pub use environment::{environment, page_bytes_here, today};
pub use libc::libc_of;
pub use maps::parse_maps;
pub use memory::{LiveMemory, PagesOnly};
pub use objects::ObjectCache;
pub use smaps::parse_smaps;
pub use tree::tree;

/// Parsers of small files, for `fuzz`.
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzzed {
    pub(crate) use super::status::{parse_auxv, parse_limits, parse_stat, parse_status};
}

use self::objects::Process;
use self::pages::Known;
use self::procdir::ProcDir;
use crate::error::{Error, Result};
use crate::model::{Capture, CaptureLevel, Class, MemoryMap, Name, PatchedPage, Reading, Recording, Region, Status, Thread};
use crate::sys::limits::STACK;
use crate::sys::process;
use crate::trace::{Attached, Cooperating, Stopped};

/// Reads everything of a stopped process, before anything reads its memory.
///
/// # Errors
/// Not permitted; the process is ending; its map changes although it is stopped (another process shares its memory).
pub fn read(stopped: &Stopped, objects: &mut ObjectCache) -> Result<Capture> {
    look(stopped, Reading::EVERYTHING, objects).map(|(capture, _)| capture)
}

/// As [`read`], as much as is asked for, and the process as a source for classification at this stop. What is read of that is
/// remembered for [`LiveMemory::into_recording`]; what was asked for at the stop before ([`note_pages`]) is fetched at once. A kernel that cannot do the fast level gives the full one.
///
/// # Errors
/// As [`read`].
pub fn look(stopped: &Stopped, reading: Reading, objects: &mut ObjectCache) -> Result<(Capture, LiveMemory)> {
    let how = (reading, stopped.image());
    if objects
        .start
        .as_ref()
        .is_none_or(|start| start.of != (stopped.pid(), stopped.image()))
    {
        objects.auxv = stopped.auxv().map(<[u8]>::to_vec);
    }
    let seen = see(stopped.pid(), stopped.unnamed(), stopped.patched(), how, objects)?;
    let capture = Capture {
        finished_stacks: stopped.finished_stacks(),
        joined_mappings: stopped.joined_mappings(),
        ..seen.capture
    };
    let mut memory = LiveMemory::open(seen.dir, seen.task, page_bytes_of_ours()?, true, seen.known).with_room(&objects.spare);
    if stopped.is_alone() {
        memory = memory.nothing_is_shared();
    }
    if let Some((of, pages)) = &objects.pages
        && *of == (stopped.pid(), stopped.image())
    {
        memory.expect_again(pages);
    }
    Ok((capture, memory))
}

/// The process as a source for classification, of which nothing is remembered.
///
/// # Errors
/// Not permitted, or the process is ending.
pub fn memory(stopped: &Stopped) -> Result<LiveMemory> {
    memory_with(stopped.pid(), stopped.threads(), false)
}

/// Notes what was asked for of a memory, for [`look`] at the next stop.
pub fn note_pages(stopped: &Stopped, memory: &LiveMemory, objects: &mut ObjectCache) {
    objects.pages = Some(((stopped.pid(), stopped.image()), memory.asked_for()));
}

/// As [`read`], of a process that somebody else started: nothing of ours is in it.
///
/// # Errors
/// As [`read`].
pub fn read_attached(attached: &Attached, objects: &mut ObjectCache) -> Result<Capture> {
    read_process(attached.pid(), attached.threads(), Vec::new(), objects)
}

/// As [`read`], of a process that stopped by itself and that nobody traces: by its mappings alone.
///
/// # Errors
/// As [`read`].
pub fn read_cooperating(stopped: &Cooperating, objects: &mut ObjectCache) -> Result<Capture> {
    let capture = read_process(stopped.pid(), &stopped.threads(), Vec::new(), objects)?;
    Ok(Capture {
        by_mappings: true,
        ..capture
    })
}

/// The pages of a process that nobody traces.
///
/// # Errors
/// As [`memory`].
pub fn pages_cooperating(stopped: &Cooperating) -> Result<PagesOnly> {
    memory_with(stopped.pid(), &stopped.threads(), false).map(PagesOnly)
}

/// As [`memory`], of a process that somebody else started.
///
/// # Errors
/// As [`memory`].
pub fn memory_attached(attached: &Attached) -> Result<LiveMemory> {
    memory_with(attached.pid(), attached.threads(), false)
}

/// Names the functions that the threads of a classified process were started with, as far as symbol tables tell.
///
/// # Errors
/// Not permitted, or the process is ending.
pub fn name_starts(capture: &Capture, map: &mut MemoryMap, objects: &mut ObjectCache) -> Result<()> {
    if map.threads.iter().all(|thread| thread.start_address.is_none()) {
        return Ok(());
    }
    functions::name_starts(capture, map, objects, &|| {
        live_directory(capture.pid, &capture.threads).map(|(dir, _)| dir)
    })
}

pub(crate) fn read_process(pid: i32, threads: &[Thread], patched: Vec<PatchedPage>, cache: &mut ObjectCache) -> Result<Capture> {
    read_process_at(pid, threads, patched, (Reading::EVERYTHING, None), cache)
}

/// What a program is started with: it stays as it is until another one is loaded. (Only a process that writes its own, by
/// `prctl(PR_SET_MM)`, changes it, as tools do that restore processes from files.)
#[derive(Debug)]
struct Start {
    of: objects::ProgramId,
    auxv: Vec<(u64, u64)>,
    stat: status::Stat,
    /// Its path as the kernel knew it at the first stop.
    exe: Name,
}

/// A directory that stays open from stop to stop.
#[derive(Debug)]
struct Opened {
    /// Process and program.
    of: (i32, u64),
    /// The thread whose it is.
    task: i32,
    dir: Rc<ProcDir>,
}

/// What was read of a process, and how to read more.
struct Seen {
    capture: Capture,
    dir: Rc<ProcDir>,
    task: i32,
    known: Known,
}

pub(crate) fn read_process_at(
    pid: i32,
    threads: &[Thread],
    patched: Vec<PatchedPage>,
    how: (Reading, Option<u64>),
    cache: &mut ObjectCache,
) -> Result<Capture> {
    see(pid, threads, patched, how, cache).map(|seen| seen.capture)
}

/// `image` tells one program of the process from the next, where somebody counts.
fn see(
    pid: i32,
    threads: &[Thread],
    patched: Vec<PatchedPage>,
    (reading, image): (Reading, Option<u64>),
    cache: &mut ObjectCache,
) -> Result<Seen> {
    let told = cache.auxv.take();
    let (dir, task) = opened(pid, threads, image, cache)?;
    // The figures of smaps come first: nothing that follows may change them.
    let (regions, known, (status, name)) = consistent(pid, &dir, reading.level)?;
    let stack_limit_bytes = stack_limit(pid, &dir)?;
    let start = match cache.start.take() {
        Some(known) if image.is_some() && known.of == (pid, image) => known,
        _ => Start {
            of: (pid, image),
            auxv: match told {
                Some(read) => status::parse_auxv(&read, class(&regions)),
                None => status::parse_auxv(&dir.read("auxv")?, class(&regions)),
            },
            stat: status::parse_stat(&dir.read("stat")?)?,
            exe: Name::new(dir.link("exe")?.into_vec()),
        },
    };
    let page_bytes = page_bytes(&start.auxv)?;
    let process = Process {
        dir: &dir,
        pid,
        regions: &regions,
        auxv: &start.auxv,
        page_bytes,
    };
    let objects = objects::objects(&process, image, cache);
    let (auxv, stat, exe) = (start.auxv.clone(), start.stat, start.exe.clone());
    cache.start = Some(start);
    let capture = Capture {
        page_bytes,
        pid,
        exe,
        objects,
        regions,
        status,
        stack_limit_bytes,
        auxv,
        start_brk: stat.start_brk,
        start_stack: stat.start_stack,
        threads: named(threads, task, name),
        patched,
        finished_stacks: None,
        joined_mappings: 0,
        tree: None,
        // Nothing else tells what may be read without changing what is measured.
        without_chunks: !reading.chunks,
        by_mappings: dir.pagemap().is_none(),
        recording: Recording::default(),
    };
    Ok(Seen {
        capture,
        dir,
        task,
        known,
    })
}

/// As [`look`], of a process that nobody traces.
#[cfg(test)]
pub(crate) fn look_of(pid: i32, threads: &[Thread], reading: Reading) -> Result<(Capture, LiveMemory)> {
    let seen = see(pid, threads, Vec::new(), (reading, None), &mut ObjectCache::default())?;
    let memory = LiveMemory::open(seen.dir, seen.task, page_bytes_of_ours()?, true, seen.known);
    Ok((seen.capture, memory))
}

#[cfg(test)]
pub(crate) fn memory_of(pid: i32, threads: &[Thread]) -> Result<LiveMemory> {
    memory_with(pid, threads, true)
}

fn memory_with(pid: i32, threads: &[Thread], records: bool) -> Result<LiveMemory> {
    let (dir, task) = live_directory(pid, threads)?;
    Ok(LiveMemory::open(
        Rc::new(dir),
        task,
        page_bytes_of_ours()?,
        records,
        Known::default(),
    ))
}

fn page_bytes_of_ours() -> Result<u64> {
    environment::page_bytes_here().ok_or_else(no_page_size)
}

/// As [`live_directory`], that of the stop before where it is still right.
fn opened(pid: i32, threads: &[Thread], image: Option<u64>, cache: &mut ObjectCache) -> Result<(Rc<ProcDir>, i32)> {
    let stands_still = |task: i32| {
        threads
            .iter()
            .any(|thread| thread.tid == task && thread.program_counter.is_some())
    };
    if let Some(known) = &cache.opened
        && image.is_some_and(|image| known.of == (pid, image))
        && stands_still(known.task)
    {
        return Ok((Rc::clone(&known.dir), known.task));
    }
    let (dir, task) = live_directory(pid, threads)?;
    let dir = Rc::new(dir);
    cache.opened = image.map(|image| Opened {
        of: (pid, image),
        task,
        dir: Rc::clone(&dir),
    });
    Ok((dir, task))
}

/// The directory of the process or, when its first thread has ended and others live, of one of those: `/proc/PID` of a
/// zombie shows no memory.
fn live_directory(pid: i32, threads: &[Thread]) -> Result<(ProcDir, i32)> {
    let dir = ProcDir::open(pid, None)?;
    // A thread that stands still for us, with its registers, is no zombie.
    let stands_still = |thread: &Thread| thread.tid == pid && thread.program_counter.is_some();
    if threads.iter().any(stands_still) || dir.has_memory()? {
        return Ok((dir, pid));
    }
    for tid in threads.iter().map(|thread| thread.tid).filter(|tid| *tid != pid) {
        // A thread that ended meanwhile is no error while another lives.
        if let Ok(dir) = ProcDir::open(pid, Some(tid))
            && dir.has_memory().unwrap_or(false)
        {
            return Ok((dir, tid));
        }
    }
    Err(Error::not_judged(format!(
        "process {pid} has no memory any more: it ended, or was killed, while it was measured"
    )))
}

/// The soft stack limit in bytes; `None` when unlimited.
fn stack_limit(pid: i32, dir: &ProcDir) -> Result<Option<u64>> {
    match process::limit_of(pid, STACK) {
        Ok((soft, _)) => Ok(Some(soft).filter(|soft| *soft != u64::MAX)),
        // Another user's process, which may be read all the same.
        Err(_) => status::parse_limits(&dir.read("limits")?),
    }
}

/// The threads, with the name of the one that this is the `status` of, where nobody has told it.
fn named(threads: &[Thread], task: i32, name: Option<Name>) -> Vec<Thread> {
    let mut threads = threads.to_vec();
    let unnamed = threads.iter_mut().find(|thread| thread.tid == task && thread.name.is_empty());
    if let Some(thread) = unnamed {
        thread.name = name.unwrap_or_default();
    }
    threads
}

/// What `status` says, and of whom.
type Told = (Status, Option<Name>);

/// What `status` says, and regions that add up to that. The process is stopped, so a difference means that the text was torn or that
/// somebody else changes the map: one more try tells.
fn consistent(pid: i32, dir: &ProcDir, level: CaptureLevel) -> Result<(Vec<Region>, Known, Told)> {
    for _ in 0..2 {
        let (regions, known) = dir.regions(level)?;
        let told = dir.status(|text| Ok((status::parse_status(text)?, status::name(text))))?;
        if told.0.reserved_bytes == sum_of(&regions) {
            return Ok((regions, known, told));
        }
    }
    Err(Error::not_judged(format!(
        "the memory map of process {pid} changes although the process is stopped"
    ))
    .detail("another process may share its memory (clone with CLONE_VM): measure where it does not run"))
}

/// What `VmSize` counts: all regions but the vsyscall page, which belongs to no process (fs/proc/task_mmu.c, "gate vma").
fn sum_of(regions: &[Region]) -> Option<u64> {
    let own = regions
        .iter()
        .filter(|region| region.inode != 0 || region.name.as_bytes() != b"[vsyscall]");
    own.map(Region::size_bytes).try_fold(0_u64, u64::checked_add)
}

/// 64-bit processes have their stack, and more, above 4 GiB; 32-bit ones can have nothing there.
fn class(regions: &[Region]) -> Class {
    let high = regions
        .iter()
        .any(|region| region.name.as_bytes() != b"[vsyscall]" && region.end > 1 << 32);
    if high { Class::Elf64 } else { Class::Elf32 }
}

fn page_bytes(auxv: &[(u64, u64)]) -> Result<u64> {
    environment::page_bytes(auxv)
        .or_else(environment::page_bytes_here)
        .ok_or_else(no_page_size)
}

fn no_page_size() -> Error {
    Error::machine("the kernel does not tell its page size (AT_PAGESZ in /proc/self/auxv)")
}
