//! Symbol tables: values of a few named symbols without keeping a string table in memory, and all functions of a file.

use std::collections::BTreeMap;

use goblin::elf::dynamic::{DT_HASH, DT_SYMTAB};
use goblin::elf::section_header::{SHT_DYNSYM, SHT_SYMTAB};
use goblin::elf::sym::{STT_FUNC, Sym};

use super::Function;
use super::dynamic::Dynamic;
use super::hash::{self, GnuHash};
use super::header::{Elf, to_usize};
use super::reader::malformed;
use crate::error::Result;
use crate::model::{Class, Name};

/// Symbols and string bytes read at once.
pub(super) const CHUNK: u64 = 64 << 10;
/// Most symbols of a table, bytes of a string table, occurrences of wanted names in it.
pub(super) const MAX_SYMBOLS: u64 = 16 << 20;
const MAX_STRINGS: u64 = 256 << 20;
const MAX_OCCURRENCES: usize = 1 << 20;
/// Longer names are not taken: nobody writes them as a checkpoint. And most bytes of all names together.
const MAX_NAME: usize = 4096;
const MAX_NAMES: usize = 256 << 20;

/// Below this many bytes of names to each symbol, the whole string table is read rather than name by name.
const BYTES_PER_READ: u64 = 256;

/// Where a symbol table and its strings stand in the file.
#[derive(Clone, Copy, Debug)]
pub(super) struct Table {
    offset: u64,
    count: u64,
    strings: u64,
    strings_size: u64,
}

/// The dynamic symbols: by section header or, where those are stripped, as the loader finds them.
pub(super) fn dynsym(elf: &Elf<'_>, dynamic: &Dynamic) -> Result<Option<Table>> {
    match by_section(elf, SHT_DYNSYM)? {
        Some(table) => Ok(Some(table)),
        None => by_dynamic(elf, dynamic),
    }
}

/// The full symbol table, absent in a stripped file.
pub(super) fn symtab(elf: &Elf<'_>) -> Result<Option<Table>> {
    by_section(elf, SHT_SYMTAB)
}

pub(super) fn entry_size(elf: &Elf<'_>) -> u64 {
    // Elf64_Sym and Elf32_Sym of the ELF specification.
    if elf.class() == Class::Elf64 { 24 } else { 16 }
}

fn by_section(elf: &Elf<'_>, kind: u32) -> Result<Option<Table>> {
    let sections = elf.sections()?;
    let Some(header) = sections.iter().find(|s| s.sh_type == kind) else {
        return Ok(None);
    };
    let strings = usize::try_from(header.sh_link).ok().and_then(|index| sections.get(index));
    let strings = strings.ok_or_else(|| malformed("a symbol table without strings"))?;
    Ok(Some(Table {
        offset: header.sh_offset,
        count: header.sh_size / entry_size(elf),
        strings: strings.sh_offset,
        strings_size: strings.sh_size,
    }))
}

fn by_dynamic(elf: &Elf<'_>, dynamic: &Dynamic) -> Result<Option<Table>> {
    let table = dynamic.value(DT_SYMTAB).and_then(|address| elf.file_range(address));
    let (Some((offset, available)), Some((strings, strings_size))) = (table, dynamic.strings(elf)) else {
        return Ok(None);
    };
    let count = if let Some(address) = dynamic.value(DT_HASH) {
        hash::sysv_count(elf, address)?
    } else if let Some(table) = GnuHash::read(elf, dynamic)? {
        table.symbol_count(elf)?
    } else {
        return Ok(None);
    };
    let table = Table {
        offset,
        count: available / entry_size(elf),
        strings,
        strings_size,
    };
    let count = if count <= 1 {
        before_strings(elf, &table)
    } else {
        count.min(table.count)
    };
    Ok(Some(Table { count, ..table }))
}

/// Calls `visit` with each symbol of the table until it says false.
fn each(elf: &Elf<'_>, table: &Table, mut visit: impl FnMut(&Sym) -> bool) -> Result<()> {
    if table.count > MAX_SYMBOLS {
        return Err(malformed("too many symbols"));
    }
    let size = entry_size(elf);
    let step = CHUNK / size;
    let mut index = 0;
    while index < table.count {
        let count = step.min(table.count - index);
        let at = table.offset.saturating_add(index * size);
        let bytes = elf.reader.bytes(at, count * size, CHUNK, "symbols")?;
        for symbol in Sym::parse(&bytes, 0, to_usize(count)?, elf.ctx).map_err(malformed)? {
            if !visit(&symbol) {
                return Ok(());
            }
        }
        index += count;
    }
    Ok(())
}

/// Where in the string table the names stand, as (offset, index of the name), ascending. Linkers let a name share the end of
/// a longer one, so every place counts where a name is followed by its NUL. The table passes through a small buffer.
fn occurrences(elf: &Elf<'_>, table: &Table, names: &[&str]) -> Result<Vec<(u64, usize)>> {
    let longest = names.iter().map(|name| name.len()).max().unwrap_or(0);
    let mut by_last = vec![Vec::new(); 256];
    for (index, name) in names.iter().enumerate() {
        if let Some(last) = name.as_bytes().last() {
            by_last[usize::from(*last)].push(index);
        }
    }
    let mut found = Vec::new();
    let mut buffer: Vec<u8> = Vec::new();
    let mut next = 0;
    while next < table.strings_size {
        let len = (CHUNK * 4).min(table.strings_size - next);
        let fresh = elf
            .reader
            .bytes(table.strings.saturating_add(next), len, len, "symbol names")?;
        // Keep the tail: a name may begin in the chunk before.
        let keep = buffer.len().min(longest);
        buffer.drain(..buffer.len() - keep);
        let buffer_at = next - keep as u64;
        buffer.extend_from_slice(&fresh);
        next += len;
        for (end, pair) in buffer.windows(2).enumerate().skip(keep.saturating_sub(1)) {
            if pair[1] != 0 {
                continue;
            }
            for &index in &by_last[usize::from(pair[0])] {
                if buffer[..=end].ends_with(names[index].as_bytes()) {
                    found.push((buffer_at + (end + 1 - names[index].len()) as u64, index));
                }
            }
        }
        if found.len() > MAX_OCCURRENCES {
            return Err(malformed("a string table that repeats itself"));
        }
    }
    found.sort_unstable();
    found.dedup();
    Ok(found)
}

/// The named dynamic symbols: the loader's own hash table finds the defined ones in a few reads; with `undefined`, imports
/// count too. Values are without bias (0 for imports), the first of several versions wins.
pub(super) fn find_dynamic(elf: &Elf<'_>, dynamic: &Dynamic, names: &[&str], undefined: bool) -> Result<Option<Found>> {
    let (Some(hash), Some(table)) = (GnuHash::read(elf, dynamic)?, loader_table(elf, dynamic)) else {
        let Some(table) = dynsym(elf, dynamic)? else {
            return Ok(None);
        };
        return find(elf, &table, names, undefined).map(Some);
    };
    // The loader's tables cover symbols up to the hashed ones; how many those are does not matter here.
    let imports = Table {
        count: match hash.first_hashed {
            0 | 1 => before_strings(elf, &table),
            first => first.min(table.count),
        },
        ..table
    };
    let mut found = if undefined {
        find(elf, &imports, names, true)?
    } else {
        Found::new()
    };
    for name in names.iter().filter(|name| !name.is_empty()) {
        let candidates = hash.candidates(elf, name)?;
        for index in candidates.into_iter().filter(|index| *index < table.count) {
            let symbol = symbol_at(elf, &table, index)?;
            if !found.contains_key(*name) && (symbol.st_shndx != 0 || undefined) && is_named(elf, &table, &symbol, name)? {
                found.insert((*name).to_owned(), symbol.st_value);
            }
        }
    }
    Ok(Some(found))
}

/// How many symbols a table can have that the hash table tells nothing of: for a file that exports none, the linker writes that
/// the first hashed one is the very first (binutils, `bfd_elf_size_dynsym_hash_dynstr` in bfd/elflink.c). Linkers put the strings
/// behind the symbols.
fn before_strings(elf: &Elf<'_>, table: &Table) -> u64 {
    let room = table.strings.checked_sub(table.offset).map(|bytes| bytes / entry_size(elf));
    room.map_or(table.count, |room| room.min(table.count))
}

/// Name → value.
pub(super) type Found = BTreeMap<String, u64>;

/// The dynamic symbols as the loader finds them; `count` is what the segment has room for.
fn loader_table(elf: &Elf<'_>, dynamic: &Dynamic) -> Option<Table> {
    let (offset, available) = elf.file_range(dynamic.value(DT_SYMTAB)?)?;
    let (strings, strings_size) = dynamic.strings(elf)?;
    Some(Table {
        offset,
        count: available / entry_size(elf),
        strings,
        strings_size,
    })
}

fn symbol_at(elf: &Elf<'_>, table: &Table, index: u64) -> Result<Sym> {
    let size = entry_size(elf);
    let bytes = elf
        .reader
        .bytes(table.offset.saturating_add(index * size), size, size, "symbol")?;
    let mut found = Sym::parse(&bytes, 0, 1, elf.ctx).map_err(malformed)?;
    found.pop().ok_or_else(|| malformed("symbol"))
}

fn is_named(elf: &Elf<'_>, table: &Table, symbol: &Sym, name: &str) -> Result<bool> {
    let (at, len) = (symbol.st_name as u64, name.len() as u64 + 1);
    if at.checked_add(len).is_none_or(|end| end > table.strings_size) {
        return Ok(false);
    }
    let bytes = elf.reader.bytes(table.strings.saturating_add(at), len, len, "symbol name")?;
    Ok(bytes.strip_suffix(b"\0") == Some(name.as_bytes()))
}

/// Values of the named symbols of one table; with `undefined`, imports count too (their value is 0). The first of several
/// versions of a name wins.
pub(super) fn find(elf: &Elf<'_>, table: &Table, names: &[&str], undefined: bool) -> Result<Found> {
    if table.strings_size / BYTES_PER_READ > table.count {
        return find_one_by_one(elf, table, names, undefined);
    }
    let places = occurrences(elf, table, names)?;
    let mut found = Found::new();
    if places.is_empty() {
        return Ok(found);
    }
    each(elf, table, |symbol| {
        if symbol.st_shndx != 0 || undefined {
            let at = places.partition_point(|(offset, _)| *offset < symbol.st_name as u64);
            for (_, index) in places[at..].iter().take_while(|(offset, _)| *offset == symbol.st_name as u64) {
                found.entry(names[*index].to_owned()).or_insert(symbol.st_value);
            }
        }
        found.len() < names.len()
    })?;
    Ok(found)
}

/// The same for few symbols with a large string table: reads the name of each.
fn find_one_by_one(elf: &Elf<'_>, table: &Table, names: &[&str], undefined: bool) -> Result<Found> {
    let longest = names.iter().map(|name| name.len()).max().unwrap_or(0) as u64 + 1;
    let mut found = Found::new();
    let mut failed = None;
    each(elf, table, |symbol| {
        let rest = table.strings_size.saturating_sub(symbol.st_name as u64);
        if rest == 0 || (symbol.st_shndx == 0 && !undefined) {
            return true;
        }
        let at = table.strings.saturating_add(symbol.st_name as u64);
        match elf.reader.up_to(at, longest.min(rest), "symbol name") {
            Ok(bytes) => {
                let end = bytes.iter().position(|&b| b == 0);
                if let Some(name) = names
                    .iter()
                    .find(|name| !name.is_empty() && end.is_some_and(|end| name.as_bytes() == &bytes[..end]))
                {
                    found.entry((*name).to_owned()).or_insert(symbol.st_value);
                }
            }
            Err(error) => failed = Some(error),
        }
        failed.is_none() && found.len() < names.len()
    })?;
    failed.map_or(Ok(found), Err)
}

/// The name as text, escaped where it could steer a terminal.
fn printable(bytes: &[u8]) -> String {
    // Nearly all names are plain ASCII, and there are hundreds of thousands of them.
    let plain = bytes.iter().all(|&byte| byte.is_ascii_graphic() && byte != b'\\');
    match std::str::from_utf8(bytes) {
        Ok(text) if plain => text.to_owned(),
        _ => Name::new(bytes).escaped().into_owned(),
    }
}

/// The demangled name of the function an address lies in, by one pass over the table.
pub(super) fn function_at(elf: &Elf<'_>, table: &Table, address: u64) -> Result<Option<String>> {
    let mut best: Option<Sym> = None;
    each(elf, table, |symbol| {
        let reaches = symbol.st_value == address || address.wrapping_sub(symbol.st_value) < symbol.st_size;
        let nearer = best.as_ref().is_none_or(|best| symbol.st_value > best.st_value);
        if symbol.st_type() == STT_FUNC && symbol.st_shndx != 0 && reaches && nearer {
            best = Some(*symbol);
        }
        true
    })?;
    let Some(symbol) = best else { return Ok(None) };
    let rest = table.strings_size.saturating_sub(symbol.st_name as u64).min(MAX_NAME as u64);
    let at = table.strings.saturating_add(symbol.st_name as u64);
    let bytes = elf.reader.up_to(at, rest, "symbol name")?;
    let Some(end) = bytes.iter().position(|&b| b == 0).filter(|end| *end > 0) else {
        return Ok(None);
    };
    Ok(Some(demangled(printable(&bytes[..end]))))
}

/// The name without its hash, where it is a Rust symbol.
fn demangled(raw: String) -> String {
    match rustc_demangle::try_demangle(&raw) {
        Ok(demangled) => format!("{demangled:#}"),
        Err(_) => raw,
    }
}

/// All defined symbols of one kind (`STT_FUNC`, `STT_OBJECT`) in one table, appended to `out`; `total` counts the bytes of all
/// names so far.
pub(super) fn named(elf: &Elf<'_>, table: &Table, kind: u8, out: &mut Vec<Function>, total: &mut usize) -> Result<()> {
    let strings = elf
        .reader
        .bytes(table.strings, table.strings_size, MAX_STRINGS, "symbol names")?;
    each(elf, table, |symbol| {
        if symbol.st_type() != kind || symbol.st_shndx == 0 {
            return true;
        }
        let rest = strings.get(symbol.st_name..).unwrap_or_default();
        let rest = &rest[..rest.len().min(MAX_NAME + 1)];
        let Some(end) = rest.iter().position(|&b| b == 0).filter(|end| *end > 0) else {
            return true;
        };
        let raw = printable(&rest[..end]);
        let name = rustc_demangle::try_demangle(&raw).map_or_else(|_| raw.clone(), |demangled| format!("{demangled:#}"));
        *total += raw.len() + name.len();
        out.push(Function {
            name,
            raw,
            address: symbol.st_value,
            size: symbol.st_size,
        });
        *total <= MAX_NAMES
    })?;
    if *total > MAX_NAMES {
        return Err(malformed("more function names than we are ready to keep"));
    }
    Ok(())
}

/// The names of all symbols of one table, imports included, as in the file.
pub(super) fn names(elf: &Elf<'_>, table: &Table) -> Result<Vec<String>> {
    let strings = elf
        .reader
        .bytes(table.strings, table.strings_size, MAX_STRINGS, "symbol names")?;
    let (mut found, mut total) = (Vec::new(), 0);
    each(elf, table, |symbol| {
        let rest = strings.get(symbol.st_name..).unwrap_or_default();
        let rest = &rest[..rest.len().min(MAX_NAME + 1)];
        if let Some(end) = rest.iter().position(|&b| b == 0).filter(|end| *end > 0) {
            total += end;
            found.push(printable(&rest[..end]));
        }
        total <= MAX_NAMES
    })?;
    if total > MAX_NAMES {
        return Err(malformed("more names than we are ready to keep"));
    }
    Ok(found)
}

impl Table {
    /// Number of entries, the empty first one included.
    pub(super) fn count(&self) -> u64 {
        self.count
    }
}
