//! `ElfFile`: an ELF file that nobody runs, with everything its headers and symbol tables tell about it.

use serde::{Deserialize, Serialize};

use super::{ElfFacts, Name};

/// What one file tells.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ElfFile {
    /// As it was named.
    pub path: Name,
    /// Size of the file in bytes.
    pub file_bytes: u64,
    /// Header facts.
    pub facts: ElfFacts,
    /// Entries of the full symbol table (`SHT_SYMTAB`), the empty first one included; absent in a stripped file.
    pub symbols: Option<u64>,
    /// Use of checked functions; absent for a file without dynamic symbols, and where no C library of its machine is found.
    pub fortify: Option<Fortify>,
}

/// `FORTIFY_SOURCE` as checksec counts it: by the names of the dynamic symbols alone.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fortify {
    /// The C library whose checked functions count.
    pub libc: Name,
    /// Some symbol ends in `_chk`.
    pub used: bool,
    /// Symbols that are a checked function of that library (`__memcpy_chk`).
    pub fortified: u64,
    /// Those, and symbols that have a checked form there but are used without (`memcpy`).
    pub fortifiable: u64,
}

/// The name of an `e_machine` (System V ABI).
#[must_use]
pub fn machine_name(machine: u16) -> String {
    match machine {
        2 => "SPARC",
        3 => "x86",
        8 => "MIPS",
        20 => "PowerPC",
        21 => "PowerPC 64",
        22 => "S/390",
        40 => "ARM",
        43 => "SPARC 64",
        62 => "x86-64",
        183 => "AArch64",
        243 => "RISC-V",
        258 => "LoongArch",
        _ => return format!("ELF machine {machine}"),
    }
    .to_owned()
}
