//! ELF notes: the build-id and USDT probe sites (`.note.stapsdt`, which stands in no segment and so needs section headers).

use goblin::elf::note::NT_GNU_BUILD_ID;
use goblin::elf::program_header::{PF_X, PT_LOAD, PT_NOTE};
use goblin::elf::section_header::SHT_NOTE;

use super::ProbeSite;
use super::header::Elf;
use crate::error::Result;
use crate::model::{Class, Name};

const MAX_NOTES: u64 = 16 << 20;
/// A build-id is a hash: 20 bytes by SHA-1, never more than this.
const MAX_BUILD_ID: usize = 64;
const MAX_PROBE_NAME: usize = 1024;
/// `NT_STAPSDT` (SystemTap's "UserSpaceProbeImplementation").
const NT_STAPSDT: u32 = 3;

/// One note.
struct Note<'a> {
    owner: &'a [u8],
    kind: u32,
    content: &'a [u8],
}

/// The notes of a segment or section, up to the first that does not fit. Sizes are 4-byte words in both classes; owner and
/// content are padded to `align` (4, or 8 where the header says so: gABI "Note Section", and glibc's and ld's practice).
fn notes<'a>(elf: &Elf<'_>, bytes: &'a [u8], align: u64) -> Vec<Note<'a>> {
    let align = if align == 8 { 8 } else { 4 };
    let mut found = Vec::new();
    let mut at = 0_usize;
    while let Some(head) = bytes.get(at..).and_then(|rest| rest.get(..12)) {
        let word = |i: usize| {
            head.get(i..i + 4)
                .and_then(|w| elf.word(w))
                .and_then(|w| usize::try_from(w).ok())
        };
        let (Some(owner_len), Some(content_len), Some(kind)) = (word(0), word(4), word(8)) else {
            break;
        };
        // 32-bit sizes cannot overflow a 64-bit offset; on a 32-bit machine the saturated end is simply not there.
        let owner_at = at + 12;
        let content_at = owner_at.saturating_add(owner_len).next_multiple_of(align);
        let end = content_at.saturating_add(content_len);
        let owner = bytes.get(owner_at..owner_at.saturating_add(owner_len));
        let (Some(owner), Some(content)) = (owner, bytes.get(content_at..end)) else {
            break;
        };
        found.push(Note {
            owner: owner.strip_suffix(b"\0").unwrap_or(owner),
            kind: u32::try_from(kind).unwrap_or(u32::MAX),
            content,
        });
        at = end.next_multiple_of(align);
    }
    found
}

/// `NT_GNU_BUILD_ID` as lower-case hexadecimal digits, from `PT_NOTE` or else from note sections.
pub(super) fn build_id(elf: &Elf<'_>) -> Result<Option<String>> {
    let segments = elf.segments.iter().filter(|s| s.p_type == PT_NOTE);
    for (offset, size, align) in segments.map(|s| (s.p_offset, s.p_filesz, s.p_align)) {
        let bytes = elf.reader.bytes(offset, size, MAX_NOTES, "notes")?;
        if let Some(id) = build_id_in(&notes(elf, &bytes, align)) {
            return Ok(Some(id));
        }
    }
    let wanted: [&[u8]; 1] = [b".note.gnu.build-id"];
    for section in elf.sections_named(&wanted)? {
        let header = &section.header;
        let bytes = elf.reader.bytes(header.sh_offset, header.sh_size, MAX_NOTES, "notes")?;
        if let Some(id) = build_id_in(&notes(elf, &bytes, header.sh_addralign)) {
            return Ok(Some(id));
        }
    }
    Ok(None)
}

fn build_id_in(notes: &[Note<'_>]) -> Option<String> {
    let note = notes.iter().find(|n| n.owner == b"GNU" && n.kind == NT_GNU_BUILD_ID)?;
    let fits = !note.content.is_empty() && note.content.len() <= MAX_BUILD_ID;
    fits.then(|| note.content.iter().map(|byte| format!("{byte:02x}")).collect())
}

/// All probe sites that can be hit: whose address lies in executable code and whose instruction is the marker's nop. Linkers
/// leave notes of functions they dropped, with an address of 0 or of something else.
pub(super) fn probes(elf: &Elf<'_>) -> Result<Vec<ProbeSite>> {
    let wanted: [&[u8]; 2] = [b".note.stapsdt", b".stapsdt.base"];
    let sections = elf.sections_named(&wanted)?;
    let base = sections.iter().find(|s| s.name == wanted[1]).map(|s| s.header.sh_addr);
    let mut sites = Vec::new();
    for section in sections.iter().filter(|s| s.name == wanted[0]) {
        let header = &section.header;
        if header.sh_type != SHT_NOTE {
            continue;
        }
        let bytes = elf.reader.bytes(header.sh_offset, header.sh_size, MAX_NOTES, "USDT notes")?;
        for note in notes(elf, &bytes, header.sh_addralign) {
            if note.owner != b"stapsdt" || note.kind != NT_STAPSDT {
                continue;
            }
            if let Some(site) = site(elf, note.content, base).filter(|site| is_marker(elf, site.address)) {
                sites.push(site);
            }
        }
    }
    sites.sort_by(|a, b| (a.address, &a.provider, &a.name).cmp(&(b.address, &b.provider, &b.name)));
    sites.dedup();
    Ok(sites)
}

/// Decodes one note: address, link-time address of `.stapsdt.base`, semaphore, then three strings. When prelink moved the
/// file, the base section tells by how much.
fn site(elf: &Elf<'_>, content: &[u8], base: Option<u64>) -> Option<ProbeSite> {
    let size = if elf.class() == Class::Elf64 { 8 } else { 4 };
    let word = |i: usize| elf.word(content.get(i * size..(i + 1) * size)?);
    let moved = base.map_or(0, |base| base.wrapping_sub(word(1).unwrap_or(base)));
    let semaphore = word(2)?;
    let mut strings = content.get(3 * size..)?.split(|&b| b == 0);
    let mut text = || {
        let bytes = strings.next().filter(|s| !s.is_empty() && s.len() <= MAX_PROBE_NAME)?;
        Some(Name::new(bytes).escaped().into_owned())
    };
    Some(ProbeSite {
        provider: text()?,
        name: text()?,
        address: word(0)?.wrapping_add(moved),
        semaphore: if semaphore == 0 { 0 } else { semaphore.wrapping_add(moved) },
    })
}

/// True when the address is in an executable `PT_LOAD` and holds a nop (on machines whose nop we know: x86, AArch64).
fn is_marker(elf: &Elf<'_>, address: u64) -> bool {
    use goblin::elf::header::{EM_386, EM_AARCH64, EM_X86_64};
    let nop: &[u8] = match elf.header.e_machine {
        EM_X86_64 | EM_386 => &[0x90],
        EM_AARCH64 => &[0x1f, 0x20, 0x03, 0xd5],
        _ => &[],
    };
    let inside = elf.segments.iter().any(|s| {
        s.p_type == PT_LOAD && s.p_flags & PF_X != 0 && address.checked_sub(s.p_vaddr).is_some_and(|inside| inside < s.p_filesz)
    });
    let Some((offset, _)) = elf.file_range(address).filter(|_| inside) else {
        return false;
    };
    elf.reader
        .bytes(offset, nop.len() as u64, 4, "code at a probe")
        .is_ok_and(|bytes| bytes == nop)
}
