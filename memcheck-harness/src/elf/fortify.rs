//! `FORTIFY_SOURCE` by names, as checksec counts it: which dynamic symbols are checked functions of the C library, and which have
//! a checked form there.

use std::collections::BTreeSet;
use std::fs::File;
use std::path::{Path, PathBuf};

use super::dynamic;
use super::header::Elf;
use super::reader::Reader;
use super::symbols;
use crate::error::Result;
use crate::model::{ElfFacts, Fortify, Name};

/// Where distributions keep the C library of a machine (`e_machine`): native, and for cross compilers.
const TRIPLES: [(u16, &str); 6] = [
    (62, "x86_64-linux-gnu"),
    (3, "i386-linux-gnu"),
    (40, "arm-linux-gnueabihf"),
    (40, "arm-linux-gnueabi"),
    (183, "aarch64-linux-gnu"),
    (243, "riscv64-linux-gnu"),
];

/// Those without a triple.
const PLAIN: [&str; 4] = [
    "/lib64/libc.so.6",
    "/usr/lib64/libc.so.6",
    "/lib/libc.so.6",
    "/usr/lib/libc.so.6",
];

/// glibc for files of this kind, if one is installed here.
pub(super) fn libc_of(facts: &ElfFacts) -> Option<PathBuf> {
    let by_triple = TRIPLES
        .iter()
        .filter(|(machine, _)| *machine == facts.machine)
        .flat_map(|(_, triple)| {
            [
                format!("/lib/{triple}"),
                format!("/usr/lib/{triple}"),
                format!("/usr/{triple}/lib"),
            ]
        })
        .map(|dir| PathBuf::from(dir).join("libc.so.6"));
    by_triple.chain(PLAIN.map(PathBuf::from)).find(|path| {
        let of_this_kind = |libc: ElfFacts| (libc.machine, libc.class) == (facts.machine, facts.class);
        File::open(path).is_ok_and(|file| super::facts(&file).is_ok_and(of_this_kind))
    })
}

/// Counts the names of a file against those of a C library.
pub(super) fn count(file: &File, libc: &Path, libc_file: &File) -> Result<Option<Fortify>> {
    let Some(names) = dynamic_names(file)? else {
        return Ok(None);
    };
    let checked: BTreeSet<String> = dynamic_names(libc_file)?
        .unwrap_or_default()
        .iter()
        .filter_map(|name| checked(name))
        .collect();
    let of_file: Vec<&str> = names.iter().map(|name| name.trim_start_matches('_')).collect();
    let fortified = of_file.iter().filter(|name| checked.contains(**name)).count() as u64;
    let plain: BTreeSet<String> = checked.iter().map(|name| name.replace("_chk", "")).collect();
    let open = of_file.iter().filter(|name| plain.contains(**name)).count() as u64;
    Ok(Some(Fortify {
        libc: Name::new(libc.as_os_str().as_encoded_bytes()),
        used: of_file.iter().any(|name| name.ends_with("_chk")),
        fortified,
        fortifiable: fortified + open,
    }))
}

/// `memcpy_chk` of `__memcpy_chk`: what stands after the last two underscores.
fn checked(name: &str) -> Option<String> {
    let (_, rest) = name.rsplit_once("__")?;
    rest.ends_with("_chk").then(|| rest.to_owned())
}

/// Names of all dynamic symbols, imports included; `None` for a file without.
fn dynamic_names(file: &File) -> Result<Option<Vec<String>>> {
    let elf = Elf::read(Reader::new(file, super::SYMBOLS_BUDGET)?)?;
    match symbols::dynsym(&elf, &dynamic::read(&elf)?)? {
        Some(table) => symbols::names(&elf, &table).map(Some),
        None => Ok(None),
    }
}
