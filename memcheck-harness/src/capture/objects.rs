//! The ELF files a process has mapped: which regions belong to which, where they lie, and their header facts. A file is
//! identified by device and inode; a path alone is never believed, as another file may stand there by now.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs::File;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::Arc;

use nix::errno::Errno;
use nix::sys::stat::{SFlag, major, minor};
use nix::sys::statfs::{BTRFS_SUPER_MAGIC, OVERLAYFS_SUPER_MAGIC, fstatfs};

use super::procdir::ProcDir;
use crate::elf;
use crate::model::{ElfFacts, Name, Object, ObjectKind, Perms, Region, Segment, SegmentKind};
use crate::sys::process;

// Types of the auxiliary vector (getauxval(3)).
const AT_PHDR: u64 = 3;
const AT_BASE: u64 = 7;
const AT_ENTRY: u64 = 9;

/// What classification looks up in C libraries and static executables: glibc's description of its threads for debuggers
/// (nptl_db/structs.def), its thread lists (nptl/descr.h, sysdeps/nptl/dl-*stack*), the loader's list of objects (elf/link.h), and
/// malloc's two global states.
const SYMBOLS: [&str; 23] = [
    "_thread_db_sizeof_pthread",
    "_thread_db_pthread_list",
    "_thread_db_pthread_nextevent",
    "_thread_db_pthread_cancelhandling",
    "_thread_db_const_thread_area",
    "_thread_db_list_t_prev",
    "_thread_db_rtld_global__dl_stack_used",
    "_thread_db_rtld_global__dl_stack_user",
    "_thread_db__rtld_global",
    "_thread_db__dl_stack_used",
    "_thread_db__dl_stack_user",
    "_rtld_global",
    "_rtld_global_ro",
    "_r_debug",
    "stack_used",
    "stack_cache",
    "__stack_user",
    "_dl_stack_used",
    "_dl_stack_user",
    "_dl_stack_cache",
    "main_arena",
    "mp_",
    "__malloc_context",
];

/// How the names of glibc's description of its threads for debuggers begin.
const DESCRIPTION: &str = "_thread_db_";

/// What an allocator or a runtime linked into an executable leaves there, stripped or not: a message, or Go's mark. They stand
/// among the symbols, as what they say is the same: it is in here.
const STRINGS: [&str; 6] = [
    "<jemalloc>: ",
    "mimalloc: ",
    "tcmalloc: large alloc",
    "TCMALLOC_",
    "Failed to initialise snmalloc",
    "\u{ff} Go buildinf:",
];

/// Beginnings of the file names (or sonames) of C libraries, thread libraries and loaders.
const C_LIBRARIES: [&[u8]; 5] = [b"libc.so", b"libc-", b"libpthread", b"ld-", b"ld.so"];

/// Device and inode, as `maps` prints them.
pub(super) type FileId = ((u32, u32), u64);

/// Process, and the number of its program; absent where nobody counts.
pub(super) type ProgramId = (i32, Option<u64>);

/// ELF facts of objects already seen, by device and inode: shared by the checkpoints of a run.
#[derive(Debug, Default)]
pub struct ObjectCache {
    files: BTreeMap<FileId, Cached>,
    /// Those of the process that was read last.
    mapped: Option<Mapped>,
    /// Of the program that was read last.
    pub(super) start: Option<super::Start>,
    /// The auxiliary vector of the process that is read now, where the tracer knows it.
    pub(super) auxv: Option<Vec<u8>>,
    /// That of the process that was read last.
    pub(super) opened: Option<super::Opened>,
    /// What was asked for at the last stop, of a process with a program.
    pub(super) pages: Option<(ProgramId, super::memory::Likely)>,
    /// Room for pages that were read.
    pub(super) spare: super::page::Spare,
    /// Names of functions that were asked for.
    pub(super) functions: super::functions::Names,
}

#[derive(Debug)]
struct Cached {
    /// The process in which the file was last looked at: while that has it mapped, the inode is this file.
    pid: i32,
    content: Arc<Content>,
}

/// Facts and symbols, or why there are none.
#[derive(Debug)]
struct Content {
    facts: Result<Arc<ElfFacts>, String>,
    symbols: Arc<BTreeMap<String, u64>>,
    constants: Arc<BTreeMap<String, [u32; 3]>>,
}

/// Where and of whom.
pub(super) struct Process<'a> {
    pub(super) dir: &'a ProcDir,
    pub(super) pid: i32,
    pub(super) regions: &'a [Region],
    pub(super) auxv: &'a [(u64, u64)],
    pub(super) page_bytes: u64,
}

/// The objects of a program, by the mappings of files that it had.
#[derive(Debug)]
struct Mapped {
    of: ProgramId,
    files: Vec<(u64, u64, u64, FileId, Perms, Name)>,
    objects: Vec<Object>,
}

impl Mapped {
    /// These regions map the same files at the same places.
    fn is_of(&self, regions: &[Region]) -> bool {
        let mut known = self.files.iter();
        let mut mapped = regions.iter().filter(|region| region.inode != 0);
        let is_same = |((start, end, offset, id, perms, name), region): (&(u64, u64, u64, FileId, Perms, Name), &Region)| {
            (*start, *end, *offset) == (region.start, region.end, region.offset)
                && (*id, *perms) == ((region.dev, region.inode), region.perms)
                && *name == region.name
        };
        known.by_ref().zip(mapped.by_ref()).all(is_same) && known.next().is_none() && mapped.next().is_none()
    }
}

/// The objects of a process in address order. A program whose files are mapped as at the stop before has the same.
pub(super) fn objects(process: &Process<'_>, image: Option<u64>, cache: &mut ObjectCache) -> Vec<Object> {
    let of = (process.pid, image);
    if let Some(known) = &cache.mapped
        && image.is_some()
        && known.of == of
        && known.is_of(process.regions)
    {
        return known.objects.clone();
    }
    let objects = look_up(process, cache);
    let files = process.regions.iter().filter(|region| region.inode != 0);
    let file = |region: &Region| {
        let id = (region.dev, region.inode);
        (region.start, region.end, region.offset, id, region.perms, region.name.clone())
    };
    cache.mapped = image.map(|_| Mapped {
        of,
        files: files.map(file).collect(),
        objects: objects.clone(),
    });
    objects
}

fn look_up(process: &Process<'_>, cache: &mut ObjectCache) -> Vec<Object> {
    let mut files: BTreeMap<FileId, Vec<&Region>> = BTreeMap::new();
    for region in process.regions.iter().filter(|region| region.inode != 0) {
        files.entry((region.dev, region.inode)).or_default().push(region);
    }
    let exe = process.executable();
    let mut found: Vec<(u64, Object)> = Vec::new();
    for (id, regions) in files {
        let runs = regions.iter().any(|region| region.perms.execute);
        if !runs && regions.iter().all(|region| region.offset != 0) {
            continue;
        }
        let content = cache.content(process, id, &regions, Some(id) == exe);
        for load in loads(&regions, content.facts.as_deref().ok(), process.page_bytes) {
            // A file that is no program and runs nothing is data, and so is an ELF file that somebody reads through a mapping.
            if !load.regions.iter().any(|region| region.perms.execute) && !load.is_by_segments {
                continue;
            }
            let Some(first) = load.regions.first() else {
                continue;
            };
            let contains = |kind| {
                process
                    .auxv(kind)
                    .is_some_and(|at| load.regions.iter().any(|region| region.contains(at)))
            };
            found.push((
                first.start,
                Object {
                    path: first.name.clone(),
                    dev: id.0,
                    inode: id.1,
                    kind: if Some(id) == exe {
                        ObjectKind::Executable
                    } else if contains(AT_BASE) {
                        ObjectKind::Interpreter
                    } else {
                        ObjectKind::Library
                    },
                    bias: load.bias,
                    facts: content.facts.as_ref().ok().cloned(),
                    facts_missing: content.facts.as_ref().err().cloned(),
                    symbols: Arc::clone(&content.symbols),
                    constants: Arc::clone(&content.constants),
                },
            ));
        }
    }
    found.sort_by_key(|(start, _)| *start);
    found.into_iter().map(|(_, object)| object).collect()
}

impl Process<'_> {
    fn auxv(&self, kind: u64) -> Option<u64> {
        self.auxv
            .iter()
            .find(|(k, _)| *k == kind)
            .map(|(_, value)| *value)
            .filter(|value| *value != 0)
    }

    /// The file that holds the program headers or the entry the kernel started; else the one behind `/proc/PID/exe`.
    fn executable(&self) -> Option<FileId> {
        let at = |kind| {
            let address = self.auxv(kind)?;
            let region = self
                .regions
                .iter()
                .find(|region| region.contains(address) && region.inode != 0)?;
            Some((region.dev, region.inode))
        };
        at(AT_PHDR).or_else(|| at(AT_ENTRY)).or_else(|| {
            let stat = self.dir.stat("exe").ok()?;
            file_id(stat.st_dev, stat.st_ino)
        })
    }
}

fn file_id(dev: u64, inode: u64) -> Option<FileId> {
    Some(((u32::try_from(major(dev)).ok()?, u32::try_from(minor(dev)).ok()?), inode))
}

/// One loading of a file: a file can be mapped twice at different places.
struct Load<'a> {
    regions: Vec<&'a Region>,
    bias: u64,
    /// The first region is the first segment, no more and no less: what a loader does.
    is_by_segments: bool,
}

/// Cuts the regions of one file (in address order) into loadings.
fn loads<'a>(regions: &[&'a Region], facts: Option<&ElfFacts>, page: u64) -> Vec<Load<'a>> {
    let segments: Vec<&Segment> = facts.map_or(Vec::new(), |facts| {
        facts
            .segments
            .iter()
            .filter(|segment| segment.kind == SegmentKind::Load)
            .collect()
    });
    let down = |value: u64| value - value % page;
    let up = |value: u64| value.checked_next_multiple_of(page).unwrap_or(u64::MAX);
    // Address span of the file, without bias.
    let low = segments.iter().map(|segment| down(segment.vaddr)).min();
    let high = segments
        .iter()
        .map(|segment| up(segment.vaddr.saturating_add(segment.memsz)))
        .max();
    let mut loads: Vec<Load<'a>> = Vec::new();
    for &region in regions {
        let continues = loads.last().is_some_and(|load| match (high, load.regions.last()) {
            (Some(high), _) => region.start < load.bias.wrapping_add(high),
            (None, Some(before)) => region.offset >= before.offset,
            (None, None) => false,
        });
        if let Some(load) = loads.last_mut().filter(|_| continues) {
            load.regions.push(region);
            continue;
        }
        let segment = segments.iter().find(|segment| down(segment.offset) == region.offset);
        let in_file = segment.map_or(region.offset, |segment| down(segment.vaddr));
        loads.push(Load {
            regions: vec![region],
            bias: region.start.wrapping_sub(in_file),
            is_by_segments: segment.is_some_and(|segment| {
                let in_memory = up(segment.vaddr.saturating_add(segment.filesz)).wrapping_sub(down(segment.vaddr));
                Some(in_file) == low && region.size_bytes() <= in_memory
            }),
        });
    }
    loads
}

impl ObjectCache {
    fn content(&mut self, process: &Process<'_>, id: FileId, regions: &[&Region], is_exe: bool) -> Arc<Content> {
        if let Some(known) = self.files.get(&id).filter(|known| known.pid == process.pid) {
            return Arc::clone(&known.content);
        }
        let by_path = regions.first().is_some_and(|region| is_c_library(&region.name));
        let question = format!("content of {by_path} {is_exe}");
        let read_now = || {
            let file = open(process.dir, id, regions, is_exe)?;
            elf::remembered(&file, &question, || Ok(read(&file, by_path, is_exe))).map_err(|error| error.problem().title.clone())
        };
        let known = regions.first().and_then(|region| known(process.pid, region, &question));
        let found = known.map_or_else(read_now, Ok);
        let content = found.unwrap_or_else(|why| {
            Arc::new(Content {
                facts: Err(why),
                symbols: Arc::default(),
                constants: Arc::default(),
            })
        });
        let cached = Cached {
            pid: process.pid,
            content: Arc::clone(&content),
        };
        self.files.insert(id, cached);
        content
    }
}

/// What is remembered of the file that is mapped there, without opening it. Only regular files were ever read.
fn known(pid: i32, region: &Region, question: &str) -> Option<Arc<Content>> {
    let link = format!("/proc/{pid}/map_files/{:x}-{:x}", region.start, region.end);
    let path = Path::new(OsStr::from_bytes(region.name.as_bytes()));
    let stamp = elf::Stamp::of_mapped(path, (process::device(region.dev), region.inode), Path::new(&link))?;
    elf::known(stamp, question)
}

fn is_c_library(name: &Name) -> bool {
    C_LIBRARIES.iter().any(|start| name.file_name().as_bytes().starts_with(start))
}

fn read(file: &File, is_named_so: bool, is_exe: bool) -> Content {
    let facts = elf::facts(file).map_err(|error| error.problem().title.clone());
    let wanted = facts.as_ref().is_ok_and(|facts| {
        is_named_so || facts.soname.as_ref().is_some_and(is_c_library) || (is_exe && facts.interpreter.is_none())
    });
    // A symbol table that cannot be read is one without the symbols: what depends on them is then not known.
    let mut symbols = if wanted {
        elf::symbols(file, &SYMBOLS).unwrap_or_default()
    } else {
        BTreeMap::new()
    };
    let described = symbols.iter().filter(|(name, _)| name.starts_with(DESCRIPTION));
    let described: BTreeMap<String, u64> = described.map(|(name, address)| (name.clone(), *address)).collect();
    let constants = if described.is_empty() {
        BTreeMap::new()
    } else {
        elf::constants(file, &described).unwrap_or_default()
    };
    if is_exe {
        symbols.append(&mut elf::strings(file, &STRINGS).unwrap_or_default());
    }
    Content {
        facts: facts.map(Arc::new),
        symbols: Arc::new(symbols),
        constants: Arc::new(constants),
    }
}

/// Opens the mapped file itself; else says why not.
///
/// `map_files` and `exe` lead to the file whatever became of its path; the first needs a capability. A path only counts if
/// the file there has the device and inode of the mapping.
pub(super) fn open(dir: &ProcDir, id: FileId, regions: &[&Region], is_exe: bool) -> Result<File, String> {
    let Some(first) = regions.first() else {
        return Err("not mapped".to_owned());
    };
    let by_mapping = format!("map_files/{:x}-{:x}", first.start, first.end);
    if let Ok((file, _)) = open_regular(dir, by_mapping.as_bytes()) {
        return Ok(file);
    }
    if is_exe {
        // On stacked filesystems, `maps` may show the identity of a lower layer: then the link is all there is, and enough.
        if let Ok((file, found)) = open_regular(dir, b"exe")
            && (found == Some(id) || is_stacked(&file))
        {
            return Ok(file);
        }
    }
    let mut path = b"root/".to_vec();
    path.extend_from_slice(first.name.as_bytes());
    match open_regular(dir, &path) {
        Ok((file, found)) if found == Some(id) || (found.is_some_and(|found| found.1 == id.1) && is_stacked(&file)) => Ok(file),
        Ok(_) => Err("another file stands at its path now".to_owned()),
        Err(Errno::ENOENT | Errno::ENOTDIR) => Err("the file was deleted or moved".to_owned()),
        Err(errno) => Err(format!("could not open the file: {}", errno.desc())),
    }
}

/// Opens a regular file: opening a device could do something, opening a pipe could wait.
fn open_regular(dir: &ProcDir, path: &[u8]) -> nix::Result<(File, Option<FileId>)> {
    let path = OsStr::from_bytes(path);
    if dir.stat(path)?.st_mode & SFlag::S_IFMT.bits() != SFlag::S_IFREG.bits() {
        return Err(Errno::EINVAL);
    }
    let file = dir.try_file(path)?;
    let meta = file.metadata().map_err(|_| Errno::EIO)?;
    Ok((file, file_id(meta.dev(), meta.ino())))
}

/// Filesystems whose `st_dev` is not the device `maps` shows (overlayfs, btrfs): there the inode alone must do.
fn is_stacked(file: &File) -> bool {
    fstatfs(file).is_ok_and(|fs| [OVERLAYFS_SUPER_MAGIC, BTRFS_SUPER_MAGIC].contains(&fs.filesystem_type()))
}
