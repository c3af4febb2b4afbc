//! The dynamic section, through `PT_DYNAMIC` and `PT_LOAD` as the loader finds it: section headers are not needed and not
//! believed.

use goblin::elf::dynamic::{self as dt, Dynamic as GoblinDynamic};
use goblin::elf::program_header::{PT_DYNAMIC, ProgramHeader};

use super::header::Elf;
use super::reader::malformed;
use crate::error::Result;
use crate::model::Name;

/// Most bytes of a dynamic section, of one string in it, and most `DT_NEEDED` entries we take.
const MAX_DYNAMIC: u64 = 1 << 20;
const MAX_STRING: u64 = 4096;
const MAX_NEEDED: usize = 4096;

/// Tags and values up to `DT_NULL`.
#[derive(Debug, Default)]
pub(super) struct Dynamic {
    entries: Vec<(u64, u64)>,
}

/// Reads the dynamic section; empty when the file has none.
pub(super) fn read(elf: &Elf<'_>) -> Result<Dynamic> {
    let Some(header) = elf.segment(PT_DYNAMIC) else {
        return Ok(Dynamic::default());
    };
    let bytes = elf
        .reader
        .bytes(header.p_offset, header.p_filesz, MAX_DYNAMIC, "dynamic section")?;
    // goblin wants the segment inside a whole file; this one says that our bytes are the file.
    let whole = ProgramHeader {
        p_offset: 0,
        ..header.clone()
    };
    let parsed = GoblinDynamic::parse(&bytes, std::slice::from_ref(&whole), elf.ctx).map_err(malformed)?;
    let entries = parsed
        .into_iter()
        .flat_map(|found| found.dyns)
        .map(|entry| (entry.d_tag, entry.d_val));
    Ok(Dynamic {
        entries: entries.take_while(|(tag, _)| *tag != dt::DT_NULL).collect(),
    })
}

impl Dynamic {
    /// The first value of a tag.
    pub(super) fn value(&self, tag: u64) -> Option<u64> {
        self.entries.iter().find(|(t, _)| *t == tag).map(|(_, value)| *value)
    }

    /// `DT_BIND_NOW`, `DF_BIND_NOW` or `DF_1_NOW`: all symbols bound at start.
    pub(super) fn binds_now(&self) -> bool {
        self.value(dt::DT_BIND_NOW).is_some()
            || self.value(dt::DT_FLAGS).is_some_and(|flags| flags & dt::DF_BIND_NOW != 0)
            || self.value(dt::DT_FLAGS_1).is_some_and(|flags| flags & dt::DF_1_NOW != 0)
    }

    /// `DT_DEBUG` (only executables have it) or `DF_1_PIE`.
    pub(super) fn marks_executable(&self) -> bool {
        self.value(dt::DT_DEBUG).is_some() || self.value(dt::DT_FLAGS_1).is_some_and(|flags| flags & dt::DF_1_PIE != 0)
    }

    /// The string a tag points to.
    pub(super) fn string(&self, elf: &Elf<'_>, tag: u64) -> Result<Option<Name>> {
        self.value(tag).map(|index| self.string_at(elf, index)).transpose()
    }

    /// `DT_NEEDED`, in order.
    pub(super) fn needed(&self, elf: &Elf<'_>) -> Result<Vec<Name>> {
        let all = self.entries.iter().filter(|(tag, _)| *tag == dt::DT_NEEDED);
        all.take(MAX_NEEDED).map(|(_, index)| self.string_at(elf, *index)).collect()
    }

    fn string_at(&self, elf: &Elf<'_>, index: u64) -> Result<Name> {
        let (table, size) = self.strings(elf).ok_or_else(|| malformed("no dynamic string table"))?;
        let rest = size
            .checked_sub(index)
            .ok_or_else(|| malformed("a name beyond the string table"))?;
        // Most names are short; one that is not costs a second read.
        for wanted in [64, MAX_STRING] {
            let bytes = elf
                .reader
                .up_to(table.saturating_add(index), wanted.min(rest), "dynamic strings")?;
            if let Some(end) = bytes.iter().position(|&b| b == 0) {
                return Ok(Name::new(&bytes[..end]));
            }
        }
        Err(malformed("a name without end"))
    }

    /// File offset and size of the dynamic string table.
    pub(super) fn strings(&self, elf: &Elf<'_>) -> Option<(u64, u64)> {
        let (offset, available) = elf.file_range(self.value(dt::DT_STRTAB)?)?;
        Some((offset, self.value(dt::DT_STRSZ)?.min(available)))
    }
}
