//! `Object`: a mapped ELF file and the header facts of it that classification and reports need.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::Name;

/// Word size of an ELF file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Class {
    /// 32-bit.
    Elf32,
    /// 64-bit.
    Elf64,
}

/// `e_type`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ElfType {
    /// `ET_EXEC`: fixed addresses.
    Exec,
    /// `ET_DYN`: position-independent executable or shared object.
    Dyn,
    /// Anything else, by number.
    Other(u16),
}

/// `p_type` of the program headers we use.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[expect(missing_docs, reason = "each variant is PT_<its name>")]
#[serde(rename_all = "kebab-case")]
pub enum SegmentKind {
    Load,
    Dynamic,
    Interp,
    Note,
    Tls,
    GnuStack,
    GnuRelro,
    Other(u32),
}

/// One program header. Addresses are as in the file, without the load bias; sizes in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[expect(missing_docs, reason = "the ELF specification's own field names")]
pub struct Segment {
    pub kind: SegmentKind,
    /// `PF_X` 1, `PF_W` 2, `PF_R` 4.
    pub flags: u32,
    pub offset: u64,
    pub vaddr: u64,
    pub filesz: u64,
    pub memsz: u64,
    pub align: u64,
}

/// Read-only after relocation: as checksec prints it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Relro {
    /// No `PT_GNU_RELRO`.
    No,
    /// `PT_GNU_RELRO`, lazy binding.
    Partial,
    /// `PT_GNU_RELRO` and immediate binding.
    Full,
}

/// What checksec tells of a file (see each field for the rule).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hardening {
    /// `PT_GNU_RELRO` with or without `DT_BIND_NOW`, `DF_BIND_NOW`, `DF_1_NOW`.
    pub relro: Relro,
    /// `PT_GNU_STACK` present and not executable.
    pub nx: bool,
    /// `ET_DYN` with `DT_DEBUG` or `DF_1_PIE`.
    pub pie: bool,
    /// `__stack_chk_fail` or `__stack_chk_guard` among the symbols; absent when no symbol table could be read.
    pub canary: Option<bool>,
}

/// Header facts of one ELF file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ElfFacts {
    /// 32 or 64 bit.
    pub class: Class,
    /// `e_machine` (62 x86-64, 183 AArch64, 40 ARM, 3 i386).
    pub machine: u16,
    /// `e_type`.
    pub elf_type: ElfType,
    /// `e_entry`, without bias.
    pub entry: u64,
    /// Program headers in file order.
    pub segments: Vec<Segment>,
    /// `PT_INTERP`.
    pub interpreter: Option<Name>,
    /// `DT_SONAME`.
    pub soname: Option<Name>,
    /// `DT_NEEDED`, in order.
    pub needed: Vec<Name>,
    /// `DT_RPATH`.
    pub rpath: Option<Name>,
    /// `DT_RUNPATH`.
    pub runpath: Option<Name>,
    /// `NT_GNU_BUILD_ID` as lower-case hexadecimal digits.
    pub build_id: Option<String>,
    /// checksec's facts.
    pub hardening: Hardening,
}

impl ElfFacts {
    /// A program, as opposed to a library or an object file: it has fixed addresses, is marked as one, or has an interpreter and
    /// no name as a library (glibc's libc.so.6 has both, and tells its version when it is run).
    #[must_use]
    pub fn is_program(&self) -> bool {
        match self.elf_type {
            ElfType::Exec => true,
            ElfType::Dyn => self.hardening.pie || (self.interpreter.is_some() && self.soname.is_none()),
            ElfType::Other(_) => false,
        }
    }

    /// Debug information that was split off from a file (`objcopy --only-keep-debug`): the headers are that file's, what they speak
    /// of is not here.
    #[must_use]
    pub fn is_split_off(&self) -> bool {
        let is_code = |segment: &&Segment| segment.kind == SegmentKind::Load && segment.flags & 1 != 0 && segment.memsz > 0;
        let mut code = self.segments.iter().filter(is_code).peekable();
        code.peek().is_some() && code.all(|segment| segment.filesz == 0)
    }
}

/// What an object is to the process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ObjectKind {
    /// The program itself.
    Executable,
    /// The dynamic loader.
    Interpreter,
    /// Any other loaded object.
    Library,
}

/// A mapped ELF file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Object {
    /// Path as the kernel names it.
    pub path: Name,
    /// Device and inode of the mapping: the identity, as paths can lie.
    pub dev: (u32, u32),
    /// See `dev`.
    pub inode: u64,
    /// Its part in the process.
    pub kind: ObjectKind,
    /// Address of the object minus the address in the file.
    pub bias: u64,
    /// Header facts; absent when the file could not be read any more or is another file now (the note says which).
    pub facts: Option<Arc<ElfFacts>>,
    /// Why `facts` are absent.
    pub facts_missing: Option<String>,
    /// Symbols, and strings of executables, that classification may need (`_thread_db_*`, `_rtld_global`, `stack_used`,
    /// `<jemalloc>: ` …): value or address without bias.
    pub symbols: Arc<BTreeMap<String, u64>>,
    /// What libc says there of its own structures, by symbol: the words of its description for debuggers, which lies in memory that
    /// is never written, so that the file tells it whether the page is in memory or not. Absent in recordings of older versions.
    #[serde(default, skip_serializing_if = "no_constants")]
    pub constants: Arc<BTreeMap<String, [u32; 3]>>,
}

fn no_constants(constants: &Arc<BTreeMap<String, [u32; 3]>>) -> bool {
    constants.is_empty()
}
