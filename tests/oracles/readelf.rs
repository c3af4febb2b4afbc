//! `elf::facts`, `symbols`, `functions` and `probes` against readelf, on every file of `elf_files`.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::path::{Path, PathBuf};

use memcheck_harness::elf;
use memcheck_harness::model::{ElfFacts, ElfType, Name, Relro, Segment, SegmentKind};

use crate::elf_files;
use crate::tools::{built, hex, run};

fn readelf(option: &str, file: &Path) -> String {
    run("readelf", &[option.as_ref(), "-W".as_ref(), file.as_os_str()])
}

/// What stands in `[…]`.
fn bracketed(line: &str) -> Option<Name> {
    let (_, rest) = line.split_once('[')?;
    Some(Name::from(rest.rsplit_once(']')?.0))
}

/// The name in the table, where we keep one.
fn kind_name(kind: SegmentKind) -> Option<&'static str> {
    match kind {
        SegmentKind::Load => Some("LOAD"),
        SegmentKind::Dynamic => Some("DYNAMIC"),
        SegmentKind::Interp => Some("INTERP"),
        SegmentKind::Note => Some("NOTE"),
        SegmentKind::Tls => Some("TLS"),
        SegmentKind::GnuStack => Some("GNU_STACK"),
        SegmentKind::GnuRelro => Some("GNU_RELRO"),
        SegmentKind::Other(_) => None,
    }
}

fn segments_are_equal(facts: &ElfFacts, text: &str) {
    let table = text.split_once("Program Headers:").unwrap().1;
    let table = table.split_once("Section to Segment").map_or(table, |(table, _)| table);
    let rows: Vec<(&str, [u64; 5], String)> = table
        .lines()
        .filter_map(|line| {
            let words: Vec<&str> = line.split_whitespace().collect();
            let [kind, offset, vaddr, _, filesz, memsz, flags @ .., align] = &words[..] else {
                return None;
            };
            let is_row = offset.starts_with("0x") && memsz.starts_with("0x") && align.starts_with("0x");
            is_row.then(|| {
                (
                    *kind,
                    [offset, vaddr, filesz, memsz, align].map(|word| hex(word)),
                    flags.concat(),
                )
            })
        })
        .collect();
    assert_eq!(rows.len(), facts.segments.len(), "{text}");
    for ((kind, numbers, flags), segment) in rows.into_iter().zip(&facts.segments) {
        let Segment {
            offset,
            vaddr,
            filesz,
            memsz,
            align,
            ..
        } = *segment;
        assert_eq!(numbers, [offset, vaddr, filesz, memsz, align], "{kind}");
        let bits = [(4, 'R'), (2, 'W'), (1, 'E')];
        let ours: String = bits
            .into_iter()
            .filter(|(bit, _)| segment.flags & bit != 0)
            .map(|(_, c)| c)
            .collect();
        assert_eq!(flags, ours, "{kind}");
        match kind_name(segment.kind) {
            Some(name) => assert_eq!(kind, name),
            None => assert!(!["LOAD", "DYNAMIC", "INTERP", "NOTE", "TLS", "GNU_STACK", "GNU_RELRO"].contains(&kind)),
        }
    }
}

fn header_is_equal(facts: &ElfFacts, text: &str) {
    let is = match facts.elf_type {
        ElfType::Exec => "EXEC",
        ElfType::Dyn => "DYN",
        ElfType::Other(_) => "another type",
    };
    assert!(text.contains(&format!("Elf file type is {is} ")), "{is}: {text}");
    assert!(
        text.contains(&format!("Entry point {:#x}\n", facts.entry)),
        "{:#x}: {text}",
        facts.entry
    );
    let interpreter = text
        .lines()
        .find_map(|line| line.split_once("program interpreter: ")?.1.strip_suffix(']'));
    assert_eq!(facts.interpreter.as_ref().and_then(Name::as_str), interpreter);
}

fn dynamic_is_equal(facts: &ElfFacts, text: &str) {
    let all = |tag: &str| -> Vec<Name> { text.lines().filter(|line| line.contains(tag)).filter_map(bracketed).collect() };
    assert_eq!(facts.needed, all("(NEEDED)"));
    assert_eq!(facts.soname, all("(SONAME)").pop());
    assert_eq!(facts.rpath, all("(RPATH)").pop());
    assert_eq!(facts.runpath, all("(RUNPATH)").pop());
    let flag = |tag: &str, flag: &str| {
        let lines = text.lines().filter(|line| line.contains(tag));
        lines.flat_map(str::split_whitespace).any(|word| word == flag)
    };
    let now = text.contains("(BIND_NOW)") || flag("(FLAGS)", "BIND_NOW") || flag("(FLAGS_1)", "NOW");
    let relro = match facts.segments.iter().any(|segment| segment.kind == SegmentKind::GnuRelro) {
        false => Relro::No,
        true if now => Relro::Full,
        true => Relro::Partial,
    };
    assert_eq!(facts.hardening.relro, relro);
    let pie = facts.elf_type == ElfType::Dyn && (text.contains("(DEBUG)") || flag("(FLAGS_1)", "PIE"));
    assert_eq!(facts.hardening.pie, pie);
}

fn notes_are_equal(facts: &ElfFacts, file: &File, text: &str) {
    let field = |line: &str, name: &str| line.trim_start().strip_prefix(name).map(str::trim).map(str::to_owned);
    let build_id = text.lines().find_map(|line| field(line, "Build ID:"));
    assert_eq!(facts.build_id, build_id);

    let (mut sites, mut provider, mut name) = (Vec::new(), String::new(), String::new());
    for line in text.lines() {
        if let Some(text) = field(line, "Provider:") {
            provider = text;
        } else if let Some(text) = field(line, "Name:") {
            name = text;
        } else if let Some(text) = field(line, "Location:") {
            let numbers: Vec<u64> = text.split(", ").map(|part| hex(part.rsplit(' ').next().unwrap())).collect();
            sites.push((numbers[0], provider.clone(), name.clone(), numbers[2]));
        }
    }
    sites.sort();
    // Notes of code that the linker dropped have an address of 0.
    sites.retain(|site| site.0 != 0);
    let ours: Vec<_> = elf::probes(file)
        .unwrap()
        .into_iter()
        .map(|site| (site.address, site.provider, site.name, site.semaphore))
        .collect();
    assert_eq!(ours, sites);
}

/// A row of a symbol table.
struct Symbol {
    value: u64,
    kind: String,
    defined: bool,
    /// Without version.
    name: String,
}

fn symbols_of(text: &str) -> Vec<Symbol> {
    text.lines()
        .filter_map(|line| {
            let words: Vec<&str> = line.split_whitespace().collect();
            let [number, value, _, kind, _, _, rest @ ..] = &words[..] else {
                return None;
            };
            number.strip_suffix(':')?.parse::<u32>().ok()?;
            // Other than default visibility adds words in brackets (`[VARIANT_PCS]`).
            let rest: Vec<&&str> = rest
                .iter()
                .filter(|word| !word.starts_with('[') && !word.starts_with('('))
                .collect();
            let (section, name) = (rest.first()?, rest.get(1)?);
            Some(Symbol {
                value: hex(value),
                kind: (*kind).to_owned(),
                defined: **section != "UND",
                name: name.split('@').next()?.to_owned(),
            })
        })
        .filter(|symbol| !symbol.name.is_empty())
        .collect()
}

fn symbols_are_equal(path: &Path, file: &File) {
    let mut dynamic = symbols_of(&readelf("--dyn-syms", path));
    // They have no names of their own: readelf shows those of the sections.
    dynamic.retain(|symbol| symbol.kind != "SECTION");
    let mut values: BTreeMap<&str, BTreeSet<u64>> = BTreeMap::new();
    for symbol in dynamic.iter().filter(|symbol| symbol.defined) {
        values.entry(&symbol.name).or_default().insert(symbol.value);
    }
    let names: Vec<&str> = values.keys().copied().collect();
    let found = elf::symbols(file, &names).unwrap();
    for (name, values) in &values {
        let value = found.get(*name).unwrap_or_else(|| panic!("{name} was not found"));
        assert!(values.contains(value), "{name}: {value:x} is none of {values:x?}");
    }
    assert_eq!(found.len(), values.len());

    let all = symbols_of(&readelf("-s", path));
    let mut imports: Vec<&str> = all.iter().filter(|s| !s.defined).map(|s| &s.name[..]).collect();
    imports.retain(|name| !all.iter().any(|s| s.defined && s.name == *name));
    assert_eq!(
        elf::symbols(file, &imports).unwrap(),
        BTreeMap::new(),
        "imports have no value"
    );

    let is_function = |s: &&Symbol| s.defined && s.kind == "FUNC";
    let theirs: BTreeSet<(u64, &str)> = all.iter().filter(is_function).map(|s| (s.value, &s.name[..])).collect();
    let functions = elf::functions(file).unwrap();
    let ours: BTreeSet<(u64, &str)> = functions
        .iter()
        .map(|f| (f.address, f.raw.split('@').next().unwrap_or_default()))
        .collect();
    let different: Vec<_> = ours.symmetric_difference(&theirs).take(10).collect();
    assert!(different.is_empty(), "{different:x?}");

    let canary = ["__stack_chk_fail", "__stack_chk_guard"];
    let has = all.iter().any(|symbol| canary.contains(&&symbol.name[..]));
    let facts = elf::facts(file).unwrap();
    // Only what is linked against nothing and has no full symbol table (the loader itself) may leave it open.
    let cannot_tell = facts.interpreter.is_none() && facts.needed.is_empty() && all.len() == dynamic.len();
    assert_eq!(facts.hardening.canary, (!cannot_tell || has).then_some(has));
}

fn compare(path: &PathBuf) {
    let file = File::open(path).unwrap();
    let facts = elf::facts(&file).unwrap();
    let headers = readelf("-l", path);
    header_is_equal(&facts, &headers);
    segments_are_equal(&facts, &headers);
    dynamic_is_equal(&facts, &readelf("-d", path));
    // Wide notes would stand several on a line.
    let notes = run("readelf", &["-n".as_ref(), path.as_os_str()]);
    notes_are_equal(&facts, &file, &notes);
    symbols_are_equal(path, &file);
}

#[test]
fn facts_symbols_functions_and_probes() {
    let mut files = elf_files::all();
    files.extend(["threads", "truth", "requests"].map(|name| built(name).to_path_buf()));
    for path in &files {
        let compared = std::panic::catch_unwind(|| compare(path));
        assert!(compared.is_ok(), "{} (see above)", path.display());
    }
}

#[test]
fn the_three_builds_differ_in_relro_as_asked() {
    let relro = |name| {
        elf::facts(&File::open(elf_files::build(name)).unwrap())
            .unwrap()
            .hardening
            .relro
    };
    assert_eq!(
        ["norelro", "relro", "relro-now"].map(relro),
        [Relro::No, Relro::Partial, Relro::Full]
    );
}
