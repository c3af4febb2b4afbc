//! What a whole region is by its name, its access bits and the addresses the kernel records: the floor below every
//! stronger claim. It reads no memory of the target.

use crate::model::{Confidence, Evidence, Name, Role};

use super::interval::{Claims, Priority, certain, likely};
use super::process::{Area, Process};

/// Claims every area that has no [`floor`], once or more: kernel regions, the brk heap, the main stack, files, shared memory.
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
        } else if floor(area).is_none() {
            let (role, subject, evidence, priority) = by_name(area);
            let item = claims.item(role, subject, None);
            claims.add((area.start, area.end), priority, item, evidence);
        }
    }
}

/// What private memory of no file and no name is where nobody claims it: most regions of a process with many, so that they are not
/// claimed one by one.
pub(super) fn floor(area: &Area<'_>) -> Option<(Role, Evidence)> {
    let is_plain = area.region.name.is_empty() && area.private_anonymous() && !area.flag(b"dp");
    is_plain.then(|| (Role::AnonMap, ownerless(area)))
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

type Label = (Role, Name, Evidence, Priority);

fn by_name(area: &Area<'_>) -> Label {
    let region = area.region;
    let name = region.name.as_bytes();
    let plain = |role, evidence| (role, Name::default(), evidence, Priority::Shape);
    if name == b"[vdso]" || name.starts_with(b"[vvar") || matches!(name, b"[uprobes]" | b"[vectors]" | b"[sigpage]") {
        return (
            Role::Platform,
            region.name.clone(),
            certain("made by the kernel"),
            Priority::Name,
        );
    }
    if let Some(inner) = name.strip_prefix(b"[anon:") {
        return by_anon_name(inner.strip_suffix(b"]").unwrap_or(inner), area);
    }
    if let Some(inner) = name.strip_prefix(b"[anon_shmem:") {
        let subject = Name::new(inner.strip_suffix(b"]").unwrap_or(inner));
        return (
            Role::SharedMap,
            subject,
            certain("shared memory named by the program"),
            Priority::Name,
        );
    }
    if area.private_anonymous() {
        return if area.flag(b"dp") && !area.inaccessible() {
            // MAP_DROPPABLE exists for the random state of vgetrandom, which libc allocates (glibc 2.41).
            plain(Role::Platform, likely("droppable memory, as libc's random state"))
        } else {
            plain(Role::AnonMap, ownerless(area))
        };
    }
    let file = region.name.file_name();
    let shared_file = [&b"/memfd:"[..], b"/SYSV", b"/dev/zero", b"/dev/shm/"]
        .iter()
        .any(|prefix| name.starts_with(prefix));
    if shared_file {
        // The kernel marks unlinked files, and all of these but POSIX ones are unlinked from birth.
        let subject = name.strip_prefix(b"/memfd:").unwrap_or(file.as_bytes());
        let subject = Name::new(subject.strip_suffix(b" (deleted)").unwrap_or(subject));
        return (
            Role::SharedMap,
            subject,
            certain("memfd, System V, POSIX or anonymous shared memory"),
            Priority::Name,
        );
    }
    if system_data(name) {
        return (
            Role::Platform,
            file,
            likely("data of libc, which differs from machine to machine"),
            Priority::Name,
        );
    }
    if name.starts_with(b"/") || (region.inode != 0 && !name.is_empty()) {
        return (
            Role::FileMap,
            file,
            certain("a mapped file that is no loaded object"),
            Priority::Shape,
        );
    }
    if region.perms.shared {
        return plain(Role::SharedMap, certain("a shared mapping"));
    }
    let text = "a region whose name is not known".into();
    (
        Role::Unclassified,
        region.name.clone(),
        Evidence {
            text,
            confidence: Confidence::Unknown,
        },
        Priority::Shape,
    )
}

/// Files that libc maps for its own use: locales and the character set cache. Their sizes are the machine's.
fn system_data(name: &[u8]) -> bool {
    name.starts_with(b"/usr/lib/locale/") || name.ends_with(b"/gconv/gconv-modules.cache") || name == b"/etc/ld.so.cache"
}

/// `PR_SET_VMA_ANON_NAME`: glibc's own names (setvmaname.h, with a leading space) are evidence, other names are words of
/// the program.
fn by_anon_name(inner: &[u8], area: &Area<'_>) -> Label {
    let text = "named by libc (decorate_maps)";
    let label = |role, evidence| (role, Name::default(), evidence, Priority::Name);
    let Some(glibc) = inner.strip_prefix(b" glibc: ") else {
        return (
            Role::AnonMap,
            Name::new(inner),
            likely("private memory named by the program"),
            Priority::Shape,
        );
    };
    if glibc == b"malloc arena" {
        label(Role::ThreadArena, certain(text))
    } else if glibc == b"malloc" {
        label(Role::MmapChunk, certain(text))
    } else if glibc.starts_with(b"pthread stack") {
        let role = if area.inaccessible() {
            Role::Guard
        } else {
            Role::ThreadStackLive
        };
        label(role, certain(text))
    } else if glibc.starts_with(b"pthread user stack") {
        label(Role::ThreadStackUser, certain(text))
    } else if glibc == b"unused stack" {
        label(Role::ThreadStackCached, certain(text))
    } else {
        label(Role::Platform, certain(text))
    }
}
