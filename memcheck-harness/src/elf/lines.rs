//! Line tables (DWARF `.debug_line`, found through the units of `.debug_info`): which addresses a line of a source begins at.

use std::collections::{BTreeMap, BTreeSet};

use gimli::{DwarfSections, EndianSlice, RunTimeEndian, SectionId};

use super::header::Elf;
use super::reader::malformed;
use crate::error::{Error, Result};
use crate::model::Name;

/// Most bytes of one debug section.
const MAX_SECTION: u64 = 512 << 20;
/// Most bytes of one that is compressed: a thousandth of them may be enough to make so many.
const MAX_INFLATED: u64 = 128 << 20;
/// `PATH_MAX` of Linux, and the checksum behind the name.
const MAX_LINK: u64 = 4096 + 8;
/// Most places kept of one source: a line table can name a million in as many bytes.
const MAX_PLACES: usize = 1 << 22;
/// `SHF_COMPRESSED` (gABI).
const SHF_COMPRESSED: u64 = 1 << 11;
/// `ch_type` of a section that was compressed as zlib does it (gABI).
const ELFCOMPRESS_ZLIB: u64 = 1;

type Slice<'a> = EndianSlice<'a, RunTimeEndian>;
type Dwarf<'a> = gimli::Dwarf<Slice<'a>>;
type Unit<'a> = gimli::Unit<Slice<'a>>;

fn broken(error: gimli::Error) -> Error {
    malformed(format_args!("line tables: {error}"))
}

/// What of the debug information leads to lines.
const WANTED: [SectionId; 7] = [
    SectionId::DebugAbbrev,
    SectionId::DebugInfo,
    SectionId::DebugLine,
    SectionId::DebugLineStr,
    SectionId::DebugStr,
    SectionId::DebugStrOffsets,
    SectionId::DebugAddr,
];

fn section(elf: &Elf<'_>, id: SectionId) -> Result<Vec<u8>> {
    if !WANTED.contains(&id) {
        return Ok(Vec::new());
    }
    let wanted: [&[u8]; 1] = [id.name().as_bytes()];
    let sections = elf.sections_named(&wanted)?;
    let Some(header) = sections.first().map(|section| &section.header) else {
        return Ok(Vec::new());
    };
    // SHT_NOBITS: the file keeps the name of what was split off.
    if header.sh_type == goblin::elf::section_header::SHT_NOBITS {
        return Ok(Vec::new());
    }
    let bytes = elf.reader.bytes(header.sh_offset, header.sh_size, MAX_SECTION, id.name())?;
    if header.sh_flags & SHF_COMPRESSED == 0 {
        return Ok(bytes);
    }
    inflated(elf, &bytes, id.name())
}

/// What a compressed section holds: behind a header (`Elf64_Chdr`, gABI "Section Compression") with the algorithm and the size.
fn inflated(elf: &Elf<'_>, bytes: &[u8], what: &str) -> Result<Vec<u8>> {
    let number = |at: usize, length: usize| {
        let bytes = bytes.get(at..at + length).ok_or_else(|| malformed(what))?;
        let fold = |number: u64, byte: &u8| number << 8 | u64::from(*byte);
        Ok::<u64, Error>(if elf.ctx.le.is_little() {
            bytes.iter().rev().fold(0, fold)
        } else {
            bytes.iter().fold(0, fold)
        })
    };
    let (size, behind) = if elf.ctx.container.is_big() {
        (number(8, 8)?, 24)
    } else {
        (number(4, 4)?, 12)
    };
    if number(0, 4)? != ELFCOMPRESS_ZLIB {
        return Err(
            Error::not_judged("its debug information is compressed by another algorithm than zlib, which is not read")
                .detail("link with -gz=zlib or without -gz (rustc: -C link-arg=-Wl,--compress-debug-sections=zlib)"),
        );
    }
    if size > MAX_INFLATED {
        return Err(Error::not_judged(format!(
            "{what} comes to {size} bytes unpacked, more than are read ({MAX_INFLATED})"
        )));
    }
    elf.reader.spend(size, what)?;
    let (size, packed) = (
        usize::try_from(size).map_err(malformed)?,
        bytes.get(behind..).unwrap_or_default(),
    );
    match miniz_oxide::inflate::decompress_to_vec_zlib_with_limit(packed, size) {
        Ok(bytes) if bytes.len() == size => Ok(bytes),
        _ => Err(malformed(format_args!("{what} does not unpack to the size that it states"))),
    }
}

/// Every place where code of a line of the source begins: (line, address).
pub(super) fn of_source(elf: &Elf<'_>, source: &str) -> Result<Vec<(u64, u64)>> {
    let sections = DwarfSections::load(|id| section(elf, id))?;
    let endian = if elf.ctx.le.is_little() {
        RunTimeEndian::Little
    } else {
        RunTimeEndian::Big
    };
    let dwarf = sections.borrow(|bytes| EndianSlice::new(bytes, endian));
    let wanted: Vec<&[u8]> = components(source.as_bytes()).collect();
    let mut found = Vec::new();
    // Units may share a table (type units; what dwz has merged): each is read once.
    let mut read = BTreeSet::new();
    let mut units = dwarf.units();
    while let Some(header) = units.next().map_err(broken)? {
        // A unit of a kind that we do not know (a newer version of DWARF) has no lines for us.
        if let Ok(unit) = dwarf.unit(header)
            && unit
                .line_program
                .as_ref()
                .is_some_and(|program| read.insert(program.header().offset().0))
        {
            of_unit(&dwarf, &unit, &wanted, &mut found).map_err(broken)?;
            if found.len() >= MAX_PLACES {
                return Err(malformed("line tables: more places of one source than we are ready to keep"));
            }
        }
    }
    Ok(found)
}

fn of_unit(dwarf: &Dwarf<'_>, unit: &Unit<'_>, wanted: &[&[u8]], found: &mut Vec<(u64, u64)>) -> gimli::Result<()> {
    let Some(program) = unit.line_program.clone() else {
        return Ok(());
    };
    let mut is_wanted: BTreeMap<u64, bool> = BTreeMap::new();
    let mut before: Option<u64> = None;
    let mut rows = program.rows();
    while let Some((header, row)) = rows.next_row()? {
        let line = row.line().map(|line| line.get());
        if row.end_sequence() {
            before = None;
            continue;
        }
        let index = row.file_index();
        let matches = match is_wanted.get(&index) {
            Some(known) => *known,
            None => {
                let path = match header.file(index) {
                    Some(file) => path_of(dwarf, unit, header, file)?,
                    None => Vec::new(),
                };
                let matches = ends_with(&path, wanted);
                is_wanted.insert(index, matches);
                matches
            }
        };
        let line = line.filter(|_| matches);
        // A line that goes on is one place; `is_stmt` marks where a debugger would stop.
        if let Some(line) = line.filter(|line| before != Some(*line) && row.is_stmt()) {
            if found.len() >= MAX_PLACES {
                return Ok(());
            }
            found.push((line, row.address()));
        }
        if line.is_none() || row.is_stmt() {
            before = line;
        }
    }
    Ok(())
}

/// The directory of a file and its name; a relative directory is meant below that of the compilation.
fn path_of(
    dwarf: &Dwarf<'_>,
    unit: &Unit<'_>,
    header: &gimli::LineProgramHeader<Slice<'_>>,
    file: &gimli::FileEntry<Slice<'_>>,
) -> gimli::Result<Vec<u8>> {
    let mut path = Vec::new();
    if let Some(directory) = file.directory(header) {
        let directory = dwarf.attr_string(unit, directory)?.slice().to_vec();
        if !directory.starts_with(b"/")
            && let Some(compilation) = &unit.comp_dir
        {
            path.extend_from_slice(compilation.slice());
            path.push(b'/');
        }
        path.extend(directory);
        path.push(b'/');
    }
    path.extend_from_slice(dwarf.attr_string(unit, file.path_name())?.slice());
    Ok(path)
}

fn components(path: &[u8]) -> impl DoubleEndedIterator<Item = &[u8]> {
    path.split(|&byte| byte == b'/')
        .filter(|part| !part.is_empty() && *part != b".")
}

/// True when the last components of the path are those.
fn ends_with(path: &[u8], wanted: &[&[u8]]) -> bool {
    let mut parts = components(path).rev();
    !wanted.is_empty() && wanted.iter().rev().all(|part| parts.next() == Some(part))
}

/// Of each line the lowest address in each function: a line that is divided, as the head of a loop is, is passed once a time.
pub(super) fn first_in_each(found: &[(u64, u64)], functions: &BTreeSet<u64>) -> BTreeMap<u64, BTreeSet<u64>> {
    let mut first: BTreeMap<(u64, Option<u64>), u64> = BTreeMap::new();
    for &(line, address) in found {
        let function = functions.range(..=address).next_back().copied();
        let lowest = first.entry((line, function)).or_insert(address);
        *lowest = address.min(*lowest);
    }
    let mut lines: BTreeMap<u64, BTreeSet<u64>> = BTreeMap::new();
    for ((line, _), address) in first {
        lines.entry(line).or_default().insert(address);
    }
    lines
}

/// The name in `.gnu_debuglink` (its checksum follows, and is not looked at: build-ids are compared where there are any).
pub(super) fn debug_link(elf: &Elf<'_>) -> Result<Option<Name>> {
    let wanted: [&[u8]; 1] = [b".gnu_debuglink"];
    let sections = elf.sections_named(&wanted)?;
    let Some(header) = sections.first().map(|section| &section.header) else {
        return Ok(None);
    };
    let bytes = elf.reader.bytes(header.sh_offset, header.sh_size, MAX_LINK, "debug link")?;
    let name = bytes.split(|&byte| byte == 0).next().unwrap_or_default();
    // A file beside the program, never one elsewhere.
    let is_name = !name.is_empty() && !name.contains(&b'/');
    Ok(is_name.then(|| Name::new(name)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sources_are_named_by_the_end_of_their_path() {
        let wanted = |text: &'static str| components(text.as_bytes()).collect::<Vec<_>>();
        assert!(ends_with(b"/home/u/app/./src/pool.rs", &wanted("src/pool.rs")));
        assert!(ends_with(b"/home/u/app/src/pool.rs", &wanted("./pool.rs")));
        assert!(!ends_with(b"/home/u/app/src/whirlpool.rs", &wanted("pool.rs")));
        assert!(!ends_with(b"pool.rs", &wanted("src/pool.rs")));
        assert!(!ends_with(b"pool.rs", &wanted("")));
    }

    #[test]
    fn a_divided_line_begins_once_in_each_function() {
        let functions = BTreeSet::from([100, 200]);
        let lines = first_in_each(&[(7, 130), (7, 110), (7, 210), (8, 120), (9, 50)], &functions);
        assert_eq!(lines[&7], BTreeSet::from([110, 210]));
        assert_eq!((&lines[&8], &lines[&9]), (&BTreeSet::from([120]), &BTreeSet::from([50])));
    }
}
