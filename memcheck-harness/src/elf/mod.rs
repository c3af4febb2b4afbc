//! ELF files by bounded reads: header facts, symbols, USDT notes. Pure parsing over a reader; knows no process.

mod dynamic;
mod fortify;
mod hash;
mod header;
mod layout;
mod lines;
mod notes;
mod reader;
mod remembered;
mod strings;
mod symbols;
#[cfg(test)]
pub(crate) mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;

use goblin::elf::dynamic::{DT_RPATH, DT_RUNPATH, DT_SONAME};
use goblin::elf::program_header::{PF_X, PT_GNU_RELRO, PT_GNU_STACK, PT_INTERP};
use goblin::elf::sym::{STT_FUNC, STT_OBJECT};

pub use self::layout::layout;
pub(crate) use self::remembered::{Stamp, known, remembered};

use self::dynamic::Dynamic;
use self::header::Elf;
use self::reader::Reader;
use crate::error::Result;
use crate::model::{ElfFacts, ElfFile, ElfType, Hardening, Name, Relro};

/// What one call may read of a file in all, in bytes. Real files stay far below: a 300 MB program with debug information has
/// tables of some tens of MiB.
const FACTS_BUDGET: u64 = 128 << 20;
const SYMBOLS_BUDGET: u64 = 768 << 20;
/// `PATH_MAX` of Linux: no interpreter has a longer name.
const MAX_INTERPRETER: u64 = 4096;
/// What compilers make code call or read when a stack protector is on (checksec's list).
const CANARY: [&str; 3] = ["__stack_chk_fail", "__stack_chk_guard", "__intel_security_cookie"];

/// A USDT probe site.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProbeSite {
    /// Provider, `memcheck` for our markers.
    pub provider: String,
    /// Name.
    pub name: String,
    /// Address of the nop as in the file (adjusted for prelink), without bias.
    pub address: u64,
    /// Address of the semaphore without bias, 0 for none.
    pub semaphore: u64,
}

/// A function symbol, or (from [`variables`]) a variable.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Function {
    /// Demangled name without hash.
    pub name: String,
    /// Name as in the file.
    pub raw: String,
    /// Address without bias.
    pub address: u64,
    /// Size in bytes; 0 when unknown.
    pub size: u64,
}

/// The lines of one source file that have code: line → the first address of it in each function, without bias. Empty when the
/// file has no line tables, or none for that source. `source` is a path or the end of one (`pool.rs`, `src/pool.rs`).
///
/// # Errors
/// As [`facts`]; line tables that contradict themselves, or are compressed otherwise than by zlib.
pub fn lines(file: &File, source: &str) -> Result<BTreeMap<u64, BTreeSet<u64>>> {
    let elf = Elf::read(Reader::new(file, SYMBOLS_BUDGET)?)?;
    let found = lines::of_source(&elf, source)?;
    if found.is_empty() {
        return Ok(BTreeMap::new());
    }
    let starts: BTreeSet<u64> = functions(file)
        .unwrap_or_default()
        .into_iter()
        .map(|one| one.address)
        .collect();
    Ok(lines::first_in_each(&found, &starts))
}

/// Name of the file that the debug information was split off to (`.gnu_debuglink`).
///
/// # Errors
/// As [`facts`].
pub fn debug_link(file: &File) -> Result<Option<Name>> {
    lines::debug_link(&Elf::read(Reader::new(file, FACTS_BUDGET)?)?)
}

/// All defined variables (`STT_OBJECT`), by address and name.
///
/// # Errors
/// As [`functions`].
pub fn variables(file: &File) -> Result<Vec<Function>> {
    named(file, STT_OBJECT)
}

/// Header facts: a few small reads, whatever the size of the file.
///
/// # Errors
/// Not a regular file, not an ELF file, or headers that contradict themselves. Not knowing the canary is no error.
pub fn facts(file: &File) -> Result<ElfFacts> {
    let elf = Elf::read(Reader::new(file, FACTS_BUDGET)?)?;
    let dynamic = dynamic::read(&elf)?;
    let needed = dynamic.needed(&elf)?;
    let interpreter = interpreter(&elf)?;
    let is_static = interpreter.is_none() && needed.is_empty();
    Ok(ElfFacts {
        class: elf.class(),
        machine: elf.header.e_machine,
        elf_type: elf.elf_type(),
        entry: elf.header.e_entry,
        segments: elf.segments.iter().map(header::segment).collect(),
        interpreter,
        soname: dynamic.string(&elf, DT_SONAME)?,
        needed,
        rpath: dynamic.string(&elf, DT_RPATH)?,
        runpath: dynamic.string(&elf, DT_RUNPATH)?,
        // Section headers, where these two look second, are no part of what runs: a broken table hides them, no more.
        build_id: notes::build_id(&elf).unwrap_or_default(),
        hardening: Hardening {
            relro: match elf.segment(PT_GNU_RELRO) {
                None => Relro::No,
                Some(_) if dynamic.binds_now() => Relro::Full,
                Some(_) => Relro::Partial,
            },
            nx: elf.segment(PT_GNU_STACK).is_some_and(|stack| stack.p_flags & PF_X == 0),
            pie: elf.elf_type() == ElfType::Dyn && dynamic.marks_executable(),
            canary: canary(&elf, &dynamic, is_static).unwrap_or_default(),
        },
    })
}

/// Everything a file tells that nobody runs. `FORTIFY_SOURCE` is judged by the C library of its machine, if there is one here.
///
/// # Errors
/// As [`facts`]. Symbol tables that contradict themselves hide what they would tell, no more.
pub fn describe(file: &File, path: &Name) -> Result<ElfFile> {
    let facts = facts(file)?;
    let elf = Elf::read(Reader::new(file, FACTS_BUDGET)?)?;
    let libc = fortify::libc_of(&facts).and_then(|path| Some((File::open(&path).ok()?, path)));
    Ok(ElfFile {
        path: path.clone(),
        file_bytes: elf.reader.len(),
        symbols: symbols::symtab(&elf).unwrap_or_default().map(|table| table.count()),
        fortify: libc.and_then(|(libc, path)| fortify::count(file, &path, &libc).unwrap_or_default()),
        facts,
    })
}

fn interpreter(elf: &Elf<'_>) -> Result<Option<Name>> {
    let Some(header) = elf.segment(PT_INTERP) else {
        return Ok(None);
    };
    let bytes = elf
        .reader
        .bytes(header.p_offset, header.p_filesz, MAX_INTERPRETER, "interpreter")?;
    Ok(bytes.split(|&b| b == 0).next().map(Name::new))
}

/// A dynamically linked file imports the function; a static one only tells by its full symbol table, and a stripped static
/// one does not tell.
fn canary(elf: &Elf<'_>, dynamic: &Dynamic, is_static: bool) -> Result<Option<bool>> {
    let imported = symbols::find_dynamic(elf, dynamic, &CANARY, true)?.map(|found| !found.is_empty());
    if imported == Some(true) || (imported == Some(false) && !is_static) {
        return Ok(imported);
    }
    let Some(table) = symbols::symtab(elf)? else {
        return Ok(None);
    };
    Ok(Some(!symbols::find(elf, &table, &CANARY, true)?.is_empty()))
}

/// True when a file takes this function from a library. One that is linked statically takes none.
///
/// # Errors
/// As [`facts`].
pub fn imports(file: &File, name: &str) -> Result<bool> {
    let elf = Elf::read(Reader::new(file, FACTS_BUDGET)?)?;
    let found = symbols::find_dynamic(&elf, &dynamic::read(&elf)?, &[name], true)?;
    Ok(found.is_some_and(|found| !found.is_empty()))
}

/// Values of the named symbols (`.dynsym` first, then `.symtab`), those that are defined. Of several versions the first
/// counts. Values are without bias.
///
/// # Errors
/// As [`facts`].
pub fn symbols(file: &File, names: &[&str]) -> Result<BTreeMap<String, u64>> {
    let elf = Elf::read(Reader::new(file, SYMBOLS_BUDGET)?)?;
    let mut found = symbols::find_dynamic(&elf, &dynamic::read(&elf)?, names, false)?.unwrap_or_default();
    let missing: Vec<&str> = names.iter().filter(|name| !found.contains_key(**name)).copied().collect();
    if let Some(table) = symbols::symtab(&elf)?.filter(|_| !missing.is_empty()) {
        found.append(&mut symbols::find(&elf, &table, &missing, false)?);
    }
    Ok(found)
}

/// The first three 32-bit words, in the file's byte order, at those of these addresses (without bias) that the file loads read-only:
/// what stands there in the file stands there in memory. A word beyond what is loaded is 0.
///
/// # Errors
/// As [`facts`].
pub fn constants(file: &File, addresses: &BTreeMap<String, u64>) -> Result<BTreeMap<String, [u32; 3]>> {
    let elf = Elf::read(Reader::new(file, FACTS_BUDGET)?)?;
    let mut found = BTreeMap::new();
    for (name, address) in addresses {
        let Some((offset, available)) = elf.read_only_range(*address) else {
            continue;
        };
        let bytes = elf.reader.up_to(offset, available.min(12), "constants")?;
        let mut words = [0; 3];
        for (word, bytes) in words.iter_mut().zip(bytes.as_chunks::<4>().0) {
            *word = if elf.ctx.is_little_endian() {
                u32::from_le_bytes(*bytes)
            } else {
                u32::from_be_bytes(*bytes)
            };
        }
        found.insert(name.clone(), words);
    }
    Ok(found)
}

/// Which of the strings the file holds in what it loads, with their addresses without bias: `strings` says where it looks.
///
/// # Errors
/// As [`facts`].
pub fn strings(file: &File, wanted: &[&str]) -> Result<BTreeMap<String, u64>> {
    strings::find(&Elf::read(Reader::new(file, FACTS_BUDGET)?)?, wanted)
}

/// All defined functions, by address and name.
///
/// # Errors
/// As [`facts`], and a file with more names than we are ready to keep.
pub fn functions(file: &File) -> Result<Vec<Function>> {
    named(file, STT_FUNC)
}

fn named(file: &File, kind: u8) -> Result<Vec<Function>> {
    let elf = Elf::read(Reader::new(file, SYMBOLS_BUDGET)?)?;
    let mut found = Vec::new();
    let mut name_bytes = 0;
    for table in [symbols::symtab(&elf)?, symbols::dynsym(&elf, &dynamic::read(&elf)?)?]
        .into_iter()
        .flatten()
    {
        symbols::named(&elf, &table, kind, &mut found, &mut name_bytes)?;
    }
    found.sort_by(|a, b| (a.address, &a.raw).cmp(&(b.address, &b.raw)));
    found.dedup_by(|a, b| (a.address, &a.raw) == (b.address, &b.raw));
    Ok(found)
}

/// The demangled name of the function an address (without bias) lies in: the nearest symbol that reaches it, or that begins
/// there and has no size.
///
/// # Errors
/// As [`facts`].
pub fn function_at(file: &File, address: u64) -> Result<Option<String>> {
    let elf = Elf::read(Reader::new(file, SYMBOLS_BUDGET)?)?;
    for table in [symbols::symtab(&elf)?, symbols::dynsym(&elf, &dynamic::read(&elf)?)?]
        .into_iter()
        .flatten()
    {
        if let Some(name) = symbols::function_at(&elf, &table, address)? {
            return Ok(Some(name));
        }
    }
    Ok(None)
}

/// All USDT probes that can be hit, by address.
///
/// # Errors
/// As [`facts`].
pub fn probes(file: &File) -> Result<Vec<ProbeSite>> {
    notes::probes(&Elf::read(Reader::new(file, FACTS_BUDGET)?)?)
}
