//! What the loader would map of a file that is not running: its segments by role, by its program headers alone.

use crate::model::{Confidence, ElfFacts, Evidence, Item, MemoryMap, Name, Perms, Piece, Role, RoleSum, Segment, SegmentKind};

/// Segments that are looked at: linkers write about ten.
const MAX_SEGMENTS: usize = 128;

/// Roles of the segments of a file: of a library, or of a program.
struct Roles {
    headers: Role,
    text: Role,
    rodata: Role,
    relro: Role,
    data: Role,
    bss: Role,
}

const LIBRARY: Roles = Roles {
    headers: Role::LibHeaders,
    text: Role::LibText,
    rodata: Role::LibRodata,
    relro: Role::LibRelro,
    data: Role::LibData,
    bss: Role::LibBss,
};

const PROGRAM: Roles = Roles {
    headers: Role::ExeHeaders,
    text: Role::ExeText,
    rodata: Role::ExeRodata,
    relro: Role::ExeRelro,
    data: Role::ExeData,
    bss: Role::ExeBss,
};

/// The address space of a file, as glibc's loader lays it out from address 0 (whole pages; both ends of RELRO rounded down:
/// elf/dl-map-segments.h and `_dl_protect_relro` in elf/dl-reloc.c). What of it would be anonymous or resident is not known.
#[must_use]
pub fn layout(facts: &ElfFacts, name: &Name, page_bytes: u64) -> MemoryMap {
    let page = page_bytes.max(1);
    let down = |at: u64| at / page * page;
    let up = |at: u64| at.checked_next_multiple_of(page).unwrap_or(u64::MAX);
    let of = |kind: SegmentKind| {
        facts
            .segments
            .iter()
            .take(MAX_SEGMENTS)
            .filter(move |segment| segment.kind == kind)
    };
    let text_at = of(SegmentKind::Load)
        .filter(|load| load.flags & 1 != 0)
        .map(|load| load.vaddr)
        .min();
    let relro = of(SegmentKind::GnuRelro)
        .next()
        .map(|relro| (down(relro.vaddr), down(relro.vaddr.saturating_add(relro.memsz))));
    let roles = if facts.is_program() { PROGRAM } else { LIBRARY };
    let mut map = MemoryMap {
        page_bytes: page,
        hardening: Some(facts.hardening),
        ..MemoryMap::default()
    };
    for load in of(SegmentKind::Load) {
        let (start, file_end, end) = ends(load, down, up);
        let role = match load.flags {
            flags if flags & 2 != 0 => roles.data,
            flags if flags & 1 != 0 => roles.text,
            _ if text_at.is_some_and(|text| load.vaddr < text) => roles.headers,
            _ => roles.rodata,
        };
        let (from, to) = match relro.filter(|_| role == roles.data) {
            Some((from, to)) => (from.clamp(start, file_end), to.clamp(start, file_end)),
            None => (start, start),
        };
        add(&mut map, name, role, (start, from), load.flags);
        add(&mut map, name, roles.relro, (from, to), load.flags & !2);
        add(&mut map, name, role, (to.max(from), file_end), load.flags);
        add(&mut map, name, roles.bss, (file_end, end), load.flags);
    }
    let RoleSum { reserved, .. } = map.sum(|_| true);
    map.process.reserved = Some(reserved);
    map.process.mappings = Some(map.pieces.len() as u64);
    map
}

fn ends(load: &Segment, down: impl Fn(u64) -> u64, up: impl Fn(u64) -> u64) -> (u64, u64, u64) {
    let start = down(load.vaddr);
    let file_end = if load.filesz == 0 {
        start
    } else {
        up(load.vaddr.saturating_add(load.filesz))
    };
    (start, file_end, up(load.vaddr.saturating_add(load.memsz)).max(file_end))
}

fn add(map: &mut MemoryMap, name: &Name, role: Role, (start, end): (u64, u64), flags: u32) {
    if start >= end {
        return;
    }
    map.items.push(Item {
        role,
        subject: name.clone(),
        tid: None,
    });
    map.pieces.push(Piece {
        start,
        end,
        role,
        item: map.items.len() - 1,
        perms: Perms {
            read: flags & 4 != 0,
            write: flags & 2 != 0,
            execute: flags & 1 != 0,
            shared: false,
        },
        resident_bytes: None,
        anon_bytes: None,
        swap_bytes: None,
        proportional_bytes: None,
        committed: None,
        noreserve: None,
        evidence: Evidence {
            text: "program header".into(),
            confidence: Confidence::Certain,
        },
    });
}
