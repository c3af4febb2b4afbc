//! What a whole region is by its name, its access bits and the addresses the kernel records: claims, and the floor below them
//! all. It reads no memory of the target.

use crate::model::{Confidence, Evidence, Name, Role};

use super::interval::{Claims, Priority, certain, likely};
use super::process::{Area, Process};

/// Claims what the kernel's names or the addresses it records say for certain: its own regions, the brk heap, the main stack,
/// shared memory, memory that libc named. What other regions look like is their [`floor`].
pub(super) fn claim(process: &Process<'_>, claims: &mut Claims) {
    let heap = claims.item(Role::MainHeap, Name::default(), None);
    let main_stack = claims.item(Role::MainStack, Name::default(), None);
    let main_stack_at = main_stack_address(process);
    for area in &process.areas {
        let name = area.region.name.as_bytes();
        if name == b"[heap]" {
            // Without ASLR the brk area follows .bss directly, and older kernels give both one name: fs/proc/task_mmu.c.
            let start = process
                .capture
                .start_brk
                .map_or(area.start, |brk| area.start.max(process.down(brk)));
            let bss = claims.item(Role::ExeBss, Name::default(), None);
            claims.add(
                (area.start, start.min(area.end)),
                Priority::Shape,
                bss,
                likely("named [heap], but below start_brk"),
            );
            claims.add(
                (start, area.end),
                Priority::Name,
                heap,
                certain("named [heap], from start_brk"),
            );
        } else if main_stack_at.is_some_and(|at| area.region.contains(at)) {
            claims.add(
                (area.start, area.end),
                Priority::Name,
                main_stack,
                certain("holds the stack of the main thread"),
            );
        } else if let Some((role, subject, evidence)) = named(area) {
            let item = claims.item(role, subject, None);
            claims.add((area.start, area.end), Priority::Name, item, evidence);
        }
    }
}

type Label = (Role, Name, Evidence);

/// What an area is where nobody claims it: most regions of a process, so that they are not claimed one by one.
pub(super) fn floor(area: &Area<'_>) -> Label {
    let region = area.region;
    let name = region.name.as_bytes();
    let plain = |role, evidence| (role, Name::default(), evidence);
    if let Some(inner) = anon_name(name) {
        return (Role::AnonMap, Name::new(inner), likely("private memory named by the program"));
    }
    if area.private_anonymous() {
        return if area.flag(b"dp") && !area.inaccessible() {
            // MAP_DROPPABLE exists for the random state of vgetrandom, which libc allocates (glibc 2.41).
            plain(Role::Platform, likely("droppable memory, as libc's random state"))
        } else {
            plain(Role::AnonMap, ownerless(area))
        };
    }
    if name.starts_with(b"/") || (region.inode != 0 && !name.is_empty()) {
        return (
            Role::FileMap,
            region.name.file_name(),
            certain("a mapped file that is no loaded object"),
        );
    }
    if region.perms.shared {
        return plain(Role::SharedMap, certain("a shared mapping"));
    }
    let text = "a region whose name is not known".into();
    let confidence = Confidence::Unknown;
    (Role::Unclassified, region.name.clone(), Evidence { text, confidence })
}

fn ownerless(area: &Area<'_>) -> Evidence {
    likely(if area.inaccessible() {
        "private memory without access: address space only"
    } else {
        "private memory of no file and of no known owner"
    })
}

/// An address of the main stack: `startstack` of `/proc/PID/stat`, else the region named `[stack]`, else the stack pointer
/// of the thread that has the process's id. Only private memory of no file can be a stack.
fn main_stack_address(process: &Process<'_>) -> Option<u64> {
    let named = |area: &Area<'_>| area.region.name.as_bytes() == b"[stack]";
    let can_be = |at: &u64| {
        process
            .area_at(*at)
            .is_some_and(|area| named(area) || (area.plain_memory() && area.region.name.is_empty()))
    };
    let by_name = || process.areas.iter().find(|area| named(area)).map(|area| area.start);
    let by_pointer = || {
        let main = process
            .capture
            .threads
            .iter()
            .find(|thread| thread.tid == process.capture.pid)?;
        main.stack_pointer
    };
    process
        .capture
        .start_stack
        .filter(can_be)
        .or_else(by_name)
        .or_else(|| by_pointer().filter(can_be))
}

/// What the name of an area says for certain, or nearly so.
fn named(area: &Area<'_>) -> Option<Label> {
    let name = area.region.name.as_bytes();
    if name.is_empty() {
        return None;
    }
    if name == b"[vdso]" || name.starts_with(b"[vvar") || matches!(name, b"[uprobes]" | b"[vectors]" | b"[sigpage]") {
        return Some((Role::Platform, area.region.name.clone(), certain("made by the kernel")));
    }
    if let Some(inner) = anon_name(name) {
        return by_libc_name(inner, area);
    }
    if let Some(inner) = name.strip_prefix(b"[anon_shmem:") {
        let subject = Name::new(inner.strip_suffix(b"]").unwrap_or(inner));
        return Some((Role::SharedMap, subject, certain("shared memory named by the program")));
    }
    if area.private_anonymous() {
        return None;
    }
    let shared_file = [&b"/memfd:"[..], b"/SYSV", b"/dev/zero", b"/dev/shm/"]
        .iter()
        .any(|prefix| name.starts_with(prefix));
    if shared_file {
        // The kernel marks unlinked files, and all of these but POSIX ones are unlinked from birth.
        let subject = name.strip_prefix(b"/memfd:").unwrap_or(area.region.name.file_name_bytes());
        let subject = Name::new(subject.strip_suffix(b" (deleted)").unwrap_or(subject));
        let why = certain("memfd, System V, POSIX or anonymous shared memory");
        return Some((Role::SharedMap, subject, why));
    }
    system_data(name).then(|| {
        let why = likely("data of libc, which differs from machine to machine");
        (Role::Platform, area.region.name.file_name(), why)
    })
}

/// Files that libc maps for its own use: locales and the character set cache. Their sizes are the machine's.
fn system_data(name: &[u8]) -> bool {
    name.starts_with(b"/usr/lib/locale/") || name.ends_with(b"/gconv/gconv-modules.cache") || name == b"/etc/ld.so.cache"
}

/// The name that private memory of no file was given with `PR_SET_VMA_ANON_NAME`.
fn anon_name(name: &[u8]) -> Option<&[u8]> {
    let inner = name.strip_prefix(b"[anon:")?;
    Some(inner.strip_suffix(b"]").unwrap_or(inner))
}

/// glibc's own names (setvmaname.h, with a leading space) are evidence, other names are words of the program.
fn by_libc_name(inner: &[u8], area: &Area<'_>) -> Option<Label> {
    let glibc = inner.strip_prefix(b" glibc: ")?;
    let role = match glibc {
        b"malloc arena" => Role::ThreadArena,
        b"malloc" => Role::MmapChunk,
        b"unused stack" => Role::ThreadStackCached,
        _ if glibc.starts_with(b"pthread stack") && area.inaccessible() => Role::Guard,
        _ if glibc.starts_with(b"pthread stack") => Role::ThreadStackLive,
        _ if glibc.starts_with(b"pthread user stack") => Role::ThreadStackUser,
        _ => Role::Platform,
    };
    Some((role, Name::default(), certain("named by libc (decorate_maps)")))
}
