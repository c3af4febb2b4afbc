//! ELF header, program headers and section headers, wherever in the file they stand (post-link tools move them far from the
//! first page). Both classes, both byte orders.

use goblin::container::Ctx;
use goblin::elf::header::{EI_CLASS, ELFCLASS64, ELFMAG, Header};
use goblin::elf::program_header::{self as ph, ProgramHeader};
use goblin::elf::section_header::SectionHeader;
use goblin::elf::{Elf as GoblinElf, header};

use super::reader::{Reader, malformed};
use crate::error::{Error, Result};
use crate::model::{Class, ElfType, Segment, SegmentKind};

/// Most program headers, section headers and bytes of section names we take.
const MAX_SEGMENTS: u64 = 1 << 16;
const MAX_SECTIONS: u64 = 1 << 18;
const MAX_SECTION_NAMES: u64 = 16 << 20;
/// `PN_XNUM` (gABI "Program Header"): the count did not fit and stands in `sh_info` of section 0.
const PN_XNUM: u16 = 0xffff;
/// `SHN_XINDEX` (gABI "Sections"): the index did not fit and stands in `sh_link` of section 0.
const SHN_XINDEX: u16 = 0xffff;

/// A file with its ELF header and program headers read.
#[derive(Debug)]
pub(super) struct Elf<'a> {
    pub(super) reader: Reader<'a>,
    pub(super) ctx: Ctx,
    pub(super) header: Header,
    pub(super) segments: Vec<ProgramHeader>,
}

/// A section header with its name.
#[derive(Debug)]
pub(super) struct Section {
    pub(super) name: Vec<u8>,
    pub(super) header: SectionHeader,
}

impl<'a> Elf<'a> {
    /// Reads the ELF header and the program headers.
    pub(super) fn read(reader: Reader<'a>) -> Result<Self> {
        let start = reader.up_to(0, 64, "ELF header")?;
        if !start.starts_with(ELFMAG) {
            return Err(Error::not_judged("not an ELF file"));
        }
        let header = GoblinElf::parse_header(&start).map_err(malformed)?;
        let ctx = Ctx::new(
            header.container().map_err(malformed)?,
            header.endianness().map_err(malformed)?,
        );
        let mut elf = Self {
            reader,
            ctx,
            header,
            segments: Vec::new(),
        };
        elf.segments = elf.read_segments()?;
        Ok(elf)
    }

    fn read_segments(&self) -> Result<Vec<ProgramHeader>> {
        let count = match self.header.e_phnum {
            0 => return Ok(Vec::new()),
            PN_XNUM => u64::from(self.first_section()?.sh_info),
            n => u64::from(n),
        };
        let size = ProgramHeader::size(self.ctx) as u64;
        if u64::from(self.header.e_phentsize) != size {
            return Err(malformed("program headers of an unknown size"));
        }
        let bytes = self
            .reader
            .bytes(self.header.e_phoff, count * size, MAX_SEGMENTS * size, "program headers")?;
        ProgramHeader::parse(&bytes, 0, to_usize(count)?, self.ctx).map_err(malformed)
    }

    fn first_section(&self) -> Result<SectionHeader> {
        let size = self.section_size()?;
        let bytes = self.reader.bytes(self.header.e_shoff, size, size, "section header 0")?;
        let mut found = SectionHeader::parse_from(&bytes, 0, 1, self.ctx).map_err(malformed)?;
        found.pop().ok_or_else(|| malformed("no section header 0"))
    }

    fn section_size(&self) -> Result<u64> {
        let size = SectionHeader::size(self.ctx) as u64;
        if u64::from(self.header.e_shentsize) == size {
            Ok(size)
        } else {
            Err(malformed("section headers of an unknown size"))
        }
    }

    /// The section headers, without names; empty when the file has none.
    pub(super) fn sections(&self) -> Result<Vec<SectionHeader>> {
        if self.header.e_shoff == 0 {
            return Ok(Vec::new());
        }
        let size = self.section_size()?;
        let count = match self.header.e_shnum {
            0 => self.first_section()?.sh_size,
            n => u64::from(n),
        };
        if count > MAX_SECTIONS {
            return Err(malformed("too many sections"));
        }
        if count == 0 {
            return Ok(Vec::new());
        }
        let bytes = self
            .reader
            .bytes(self.header.e_shoff, count * size, MAX_SECTIONS * size, "section headers")?;
        SectionHeader::parse_from(&bytes, 0, to_usize(count)?, self.ctx).map_err(malformed)
    }

    /// The sections whose name is one of `wanted`, in file order.
    pub(super) fn sections_named(&self, wanted: &[&[u8]]) -> Result<Vec<Section>> {
        let headers = self.sections()?;
        let index = match self.header.e_shstrndx {
            SHN_XINDEX => headers.first().map_or(0, |first| first.sh_link as usize),
            n => usize::from(n),
        };
        let Some(table) = headers.get(index).filter(|_| index != 0) else {
            return Ok(Vec::new());
        };
        let names = self
            .reader
            .bytes(table.sh_offset, table.sh_size, MAX_SECTION_NAMES, "section names")?;
        let name_of = |header: &SectionHeader| -> Option<&[u8]> {
            let rest = names.get(header.sh_name..)?;
            wanted
                .iter()
                .find(|name| rest.get(name.len()) == Some(&0) && rest.starts_with(name))
                .copied()
        };
        Ok(headers
            .iter()
            .filter_map(|header| {
                Some(Section {
                    name: name_of(header)?.to_vec(),
                    header: header.clone(),
                })
            })
            .collect())
    }

    /// Where in the file the bytes at an address stand, and how many follow in the same segment.
    pub(super) fn file_range(&self, vaddr: u64) -> Option<(u64, u64)> {
        let segment = self
            .segments
            .iter()
            .filter(|s| s.p_type == ph::PT_LOAD)
            .find(|s| vaddr.checked_sub(s.p_vaddr).is_some_and(|inside| inside < s.p_filesz))?;
        let inside = vaddr - segment.p_vaddr;
        Some((segment.p_offset.checked_add(inside)?, segment.p_filesz - inside))
    }

    /// As [`file_range`](Self::file_range), of a segment that nothing writes to: not the program, and not the loader either.
    pub(super) fn read_only_range(&self, vaddr: u64) -> Option<(u64, u64)> {
        let holds = |s: &&ProgramHeader| s.p_type == ph::PT_LOAD && vaddr.wrapping_sub(s.p_vaddr) < s.p_memsz;
        let segment = self.segments.iter().find(holds)?;
        self.file_range(vaddr).filter(|_| segment.p_flags & ph::PF_W == 0)
    }

    /// The first program header of a type.
    pub(super) fn segment(&self, p_type: u32) -> Option<&ProgramHeader> {
        self.segments.iter().find(|s| s.p_type == p_type)
    }

    /// Word size.
    pub(super) fn class(&self) -> Class {
        if self.header.e_ident[EI_CLASS] == ELFCLASS64 {
            Class::Elf64
        } else {
            Class::Elf32
        }
    }

    /// `e_type`.
    pub(super) fn elf_type(&self) -> ElfType {
        match self.header.e_type {
            header::ET_EXEC => ElfType::Exec,
            header::ET_DYN => ElfType::Dyn,
            other => ElfType::Other(other),
        }
    }

    /// An unsigned integer of the file's byte order: `bytes` must hold 4 or 8 of them.
    pub(super) fn word(&self, bytes: &[u8]) -> Option<u64> {
        let little = self.ctx.is_little_endian();
        if let Ok(four) = <[u8; 4]>::try_from(bytes) {
            return Some(u64::from(if little {
                u32::from_le_bytes(four)
            } else {
                u32::from_be_bytes(four)
            }));
        }
        let eight = <[u8; 8]>::try_from(bytes).ok()?;
        Some(if little {
            u64::from_le_bytes(eight)
        } else {
            u64::from_be_bytes(eight)
        })
    }
}

/// The model's form of a program header.
pub(super) fn segment(header: &ProgramHeader) -> Segment {
    Segment {
        kind: match header.p_type {
            ph::PT_LOAD => SegmentKind::Load,
            ph::PT_DYNAMIC => SegmentKind::Dynamic,
            ph::PT_INTERP => SegmentKind::Interp,
            ph::PT_NOTE => SegmentKind::Note,
            ph::PT_TLS => SegmentKind::Tls,
            ph::PT_GNU_STACK => SegmentKind::GnuStack,
            ph::PT_GNU_RELRO => SegmentKind::GnuRelro,
            other => SegmentKind::Other(other),
        },
        flags: header.p_flags,
        offset: header.p_offset,
        vaddr: header.p_vaddr,
        filesz: header.p_filesz,
        memsz: header.p_memsz,
        align: header.p_align,
    }
}

/// A count of the file as one of ours.
pub(super) fn to_usize(n: u64) -> Result<usize> {
    usize::try_from(n).map_err(|_| malformed("a count beyond this machine's word"))
}
