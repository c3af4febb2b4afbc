//! An ELF file that is not run: what `readelf -l` and `checksec` tell of it and what it would take when loaded; and two of them
//! side by side.

use std::fmt::Write as _;
use std::io::{self, Write};

use serde_json::{Value, json};

use super::Style;
use super::json::line;
use super::text::{Ink, clean, labelled, paint};
use crate::model::{Class, ElfFile, ElfType, MemoryMap, Name, Relro, Segment, SegmentKind, machine_name};

/// Column of the facts.
const FACTS: usize = 16;

/// Names of program headers that are no [`SegmentKind`] of their own, for all machines (ELF specification, glibc's `elf/elf.h`).
const COMMON: [(u32, &str); 6] = [
    (0, "NULL"),
    (5, "SHLIB"),
    (6, "PHDR"),
    (0x6474_e550, "GNU_EH_FRAME"),
    (0x6474_e553, "GNU_PROPERTY"),
    (0x6474_e554, "GNU_SFRAME"),
];

/// Prints a file: its facts, hardening, program headers, and with `layout` what they take when loaded.
///
/// # Errors
/// Those of the writer.
pub fn elf_file(file: &ElfFile, layout: &MemoryMap, style: Style, out: &mut dyn Write) -> io::Result<()> {
    writeln!(out, "{}", paint(style, Ink::Strong, &file.path.to_string()))?;
    for (name, value) in facts(file) {
        labelled(style, name, FACTS, &value, out)?;
    }
    writeln!(out)?;
    if file.facts.segments.is_empty() {
        return writeln!(out, "  no program headers: nothing of it can be loaded");
    }
    let text = format!(
        "  {:<14}{:>12}{:>20}{:>12}{:>12}  {:<5} {:>8}",
        "header", "offset", "address", "in file", "in memory", "flags", "align"
    );
    writeln!(out, "{}", paint(style, Ink::Dim, &text))?;
    for segment in &file.facts.segments {
        let cells = cells(file.facts.machine, segment);
        writeln!(
            out,
            "  {:<14}{:>12}{:>20}{:>12}{:>12}  {:<5} {:>8}",
            cells[0], cells[1], cells[2], cells[3], cells[4], cells[5], cells[6]
        )?;
    }
    if layout.pieces.is_empty() || file.facts.is_split_off() {
        return Ok(());
    }
    writeln!(out)?;
    let text = format!(
        "  {:<20}{:>6}{:>11}   (KiB, pages of {} bytes)",
        "when loaded", "count", "reserved", layout.page_bytes
    );
    writeln!(out, "{}", paint(style, Ink::Dim, &text))?;
    for (role, sum) in layout.by_role() {
        writeln!(out, "  {:<20}{:>6}{:>11}", role.name(), sum.count, sum.reserved >> 10)?;
    }
    let all = layout.sum(|_| true);
    let total = format!("  {:<20}{:>6}{:>11}", "total", all.count, all.reserved >> 10);
    writeln!(out, "{}", paint(style, Ink::Strong, &total))
}

/// The machine form: one line, `"reason":"elf"`.
///
/// # Errors
/// Those of the writer.
pub fn elf_file_json(file: &ElfFile, layout: &MemoryMap, out: &mut dyn Write) -> io::Result<()> {
    let roles: serde_json::Map<String, Value> = layout
        .by_role()
        .into_iter()
        .map(|(role, sum)| {
            (
                role.name().to_owned(),
                json!({ "count": sum.count, "reserved": sum.reserved }),
            )
        })
        .collect();
    let mut value = value(file);
    if let Some(value) = value.as_object_mut() {
        value.insert("reason".to_owned(), "elf".into());
        value.insert("schema".to_owned(), 0.into());
        value.insert(
            "loaded".to_owned(),
            json!({ "page_bytes": layout.page_bytes, "roles": roles }),
        );
    }
    line(&value, out)
}

/// What differs in the facts and program headers of two files, one line each; nothing where all is equal.
///
/// # Errors
/// Those of the writer.
pub fn elf_differences(before: &ElfFile, now: &ElfFile, style: Style, out: &mut dyn Write) -> io::Result<()> {
    let rows = differences(before, now);
    if rows.is_empty() {
        return Ok(());
    }
    writeln!(
        out,
        "{}",
        paint(style, Ink::Strong, &format!("{} → {}", before.path, now.path))
    )?;
    for (name, was, is) in &rows {
        labelled(style, name, FACTS, &format!("{was} → {is}"), out)?;
    }
    writeln!(out)
}

/// The machine form: one line, `"reason":"compare-elf"`, with both files in full.
///
/// # Errors
/// Those of the writer.
pub fn elf_differences_json(before: &ElfFile, now: &ElfFile, out: &mut dyn Write) -> io::Result<()> {
    let changed: Vec<Value> = differences(before, now)
        .into_iter()
        .map(|(name, was, is)| json!({ "fact": name, "before": was, "now": is }))
        .collect();
    let value = json!({
        "reason": "compare-elf",
        "schema": 0,
        "before": value(before),
        "now": value(now),
        "changed": changed,
    });
    line(&value, out)
}

/// Facts that differ, then program headers that came, went or changed: what, before, now.
fn differences(before: &ElfFile, now: &ElfFile) -> Vec<(String, String, String)> {
    let (old, new) = (facts(before), facts(now));
    let names = old.iter().chain(&new).map(|(name, _)| *name);
    let mut seen: Vec<&str> = Vec::new();
    for name in names {
        if !seen.contains(&name) {
            seen.push(name);
        }
    }
    let of = |facts: &[(&str, String)], name: &str| {
        let found = facts.iter().find(|(known, _)| *known == name);
        found.map_or("none".to_owned(), |(_, value)| value.clone())
    };
    let mut rows: Vec<(String, String, String)> = seen
        .into_iter()
        .map(|name| (name.to_owned(), of(&old, name), of(&new, name)))
        .filter(|(_, was, is)| was != is)
        .collect();
    let (old, new) = (headers(before), headers(now));
    let mut keys: Vec<&String> = Vec::new();
    for (key, _) in old.iter().chain(&new) {
        if !keys.contains(&key) {
            keys.push(key);
        }
    }
    let text = |headers: &[(String, String)], key: &String| {
        let found = headers.iter().find(|(known, _)| known == key);
        found.map_or("none".to_owned(), |(_, text)| text.clone())
    };
    rows.extend(
        keys.into_iter()
            .map(|key| (key.clone(), text(&old, key), text(&new, key)))
            .filter(|(_, was, is)| was != is),
    );
    rows
}

/// Each program header under its name (`LOAD RW`, a second one of that name `LOAD RW 2`) with its sizes.
fn headers(file: &ElfFile) -> Vec<(String, String)> {
    let mut found: Vec<(String, String)> = Vec::new();
    for segment in &file.facts.segments {
        let cells = cells(file.facts.machine, segment);
        let name = if segment.kind == SegmentKind::Load {
            format!("{} {}", cells[0], cells[5].replace(' ', ""))
        } else {
            cells[0].clone()
        };
        let same = found
            .iter()
            .filter(|(known, _)| known.split_once(" #").map_or(&known[..], |(k, _)| k) == name);
        let name = match same.count() {
            0 => name,
            more => format!("{name} #{}", more + 1),
        };
        let text = format!(
            "{} bytes in the file, {} in memory, {}",
            segment.filesz,
            segment.memsz,
            cells[5].replace(' ', "")
        );
        found.push((name, text));
    }
    found
}

/// Kind, offset, address, sizes, flags as readelf writes them, alignment.
fn cells(machine: u16, segment: &Segment) -> [String; 7] {
    let flags: String = [(4, 'R'), (2, 'W'), (1, 'E')]
        .into_iter()
        .map(|(bit, letter)| if segment.flags & bit == 0 { ' ' } else { letter })
        .collect();
    [
        kind(machine, segment.kind),
        format!("{:#x}", segment.offset),
        format!("{:#x}", segment.vaddr),
        segment.filesz.to_string(),
        segment.memsz.to_string(),
        flags,
        format!("{:#x}", segment.align),
    ]
}

fn kind(machine: u16, kind: SegmentKind) -> String {
    match kind {
        SegmentKind::Load => "LOAD".to_owned(),
        SegmentKind::Dynamic => "DYNAMIC".to_owned(),
        SegmentKind::Interp => "INTERP".to_owned(),
        SegmentKind::Note => "NOTE".to_owned(),
        SegmentKind::Tls => "TLS".to_owned(),
        SegmentKind::GnuStack => "GNU_STACK".to_owned(),
        SegmentKind::GnuRelro => "GNU_RELRO".to_owned(),
        // Of processors the same number means different things.
        SegmentKind::Other(0x7000_0001) if machine == 40 => "EXIDX".to_owned(),
        SegmentKind::Other(number) => COMMON
            .iter()
            .find(|(known, _)| *known == number)
            .map_or(format!("{number:#x}"), |(_, name)| (*name).to_owned()),
    }
}

/// Name and value of each fact, those of checksec in its words.
fn facts(file: &ElfFile) -> Vec<(&'static str, String)> {
    let facts = &file.facts;
    let bits = match facts.class {
        Class::Elf32 => "32",
        Class::Elf64 => "64",
    };
    let what = match facts.elf_type {
        _ if facts.is_split_off() => "debug information of another file, whose headers these are".to_owned(),
        ElfType::Exec => "program at fixed addresses (EXEC)".to_owned(),
        ElfType::Dyn if facts.is_program() => "position-independent program (DYN)".to_owned(),
        ElfType::Dyn => "library (DYN)".to_owned(),
        ElfType::Other(1) => "object file (REL)".to_owned(),
        ElfType::Other(4) => "core dump (CORE)".to_owned(),
        ElfType::Other(number) => format!("ELF type {number}"),
    };
    let names = |names: &[Name]| names.iter().map(Name::to_string).collect::<Vec<_>>().join(", ");
    let mut found = vec![
        ("kind", format!("{what}, {bits}-bit {}", machine_name(facts.machine))),
        ("file", format!("{} bytes", file.file_bytes)),
        ("entry", format!("{:#x}", facts.entry)),
    ];
    found.extend(facts.interpreter.as_ref().map(|name| ("interpreter", name.to_string())));
    found.extend(facts.soname.as_ref().map(|name| ("soname", name.to_string())));
    found.extend((!facts.needed.is_empty()).then(|| ("needed", names(&facts.needed))));
    found.extend(facts.build_id.as_ref().map(|id| ("build-id", id.clone())));
    // What is linked later has none of it yet, and debug information has left it behind.
    if !matches!(facts.elf_type, ElfType::Other(_)) && !facts.is_split_off() {
        found.extend(hardening(file));
    }
    found.push((
        "symbols",
        file.symbols.map_or("stripped".to_owned(), |count| count.to_string()),
    ));
    for (_, value) in &mut found {
        *value = clean(value);
    }
    found
}

/// What checksec tells, but for the symbols.
fn hardening(file: &ElfFile) -> Vec<(&'static str, String)> {
    let facts = &file.facts;
    let hardening = facts.hardening;
    let mut found = Vec::new();
    let yes = |has: bool| if has { "yes" } else { "no" }.to_owned();
    found.push((
        "RELRO",
        match hardening.relro {
            Relro::No => "none",
            Relro::Partial => "partial",
            Relro::Full => "full",
        }
        .to_owned(),
    ));
    found.push((
        "canary",
        hardening.canary.map_or("not known: static and stripped".to_owned(), yes),
    ));
    found.push(("NX", yes(hardening.nx)));
    found.push((
        "PIE",
        match facts.elf_type {
            ElfType::Dyn if !facts.is_program() => "no: a library".to_owned(),
            _ => yes(hardening.pie),
        },
    ));
    found.push(("RPATH", facts.rpath.as_ref().map_or("none".to_owned(), Name::to_string)));
    found.push(("RUNPATH", facts.runpath.as_ref().map_or("none".to_owned(), Name::to_string)));
    found.push(("FORTIFY", fortify(file)));
    found
}

/// "yes: 7 of 12 functions that have a checked form, by the names in /lib/…/libc.so.6".
fn fortify(file: &ElfFile) -> String {
    let Some(fortify) = &file.fortify else {
        return "not known: no dynamic symbols, or no C library of this machine here".to_owned();
    };
    let mut text = if fortify.used { "yes" } else { "no" }.to_owned();
    let (checked, all) = (fortify.fortified, fortify.fortifiable);
    // A string takes all that is written.
    let _ = write!(
        text,
        ": {checked} of {all} functions that have a checked form, by the names in {}",
        fortify.libc
    );
    text
}

fn value(file: &ElfFile) -> Value {
    let facts = &file.facts;
    let segments: Vec<Value> = facts
        .segments
        .iter()
        .map(|segment| {
            json!({
                "kind": kind(facts.machine, segment.kind),
                "flags": segment.flags,
                "offset": segment.offset,
                "vaddr": segment.vaddr,
                "filesz": segment.filesz,
                "memsz": segment.memsz,
                "align": segment.align,
            })
        })
        .collect();
    let name = |name: &Option<Name>| name.as_ref().map(Name::to_string);
    let hardening = if facts.is_split_off() {
        json!({ "symbols": file.symbols })
    } else {
        json!({
            "relro": match facts.hardening.relro { Relro::No => "none", Relro::Partial => "partial", Relro::Full => "full" },
            "canary": facts.hardening.canary,
            "nx": facts.hardening.nx,
            "pie": facts.hardening.pie,
            "symbols": file.symbols,
            "fortify": file.fortify.as_ref().map(|fortify| json!({
                "used": fortify.used,
                "fortified": fortify.fortified,
                "fortifiable": fortify.fortifiable,
                "libc": fortify.libc.to_string(),
            })),
        })
    };
    json!({
        "path": file.path.to_string(),
        "file_bytes": file.file_bytes,
        "bits": match facts.class { Class::Elf32 => 32, Class::Elf64 => 64 },
        "machine": machine_name(facts.machine),
        "type": match facts.elf_type { ElfType::Exec => 2, ElfType::Dyn => 3, ElfType::Other(other) => other },
        "program": facts.is_program(),
        "entry": facts.entry,
        "interpreter": name(&facts.interpreter),
        "soname": name(&facts.soname),
        "needed": facts.needed.iter().map(Name::to_string).collect::<Vec<_>>(),
        "rpath": name(&facts.rpath),
        "runpath": name(&facts.runpath),
        "build_id": facts.build_id,
        "segments": segments,
        "split_off": facts.is_split_off(),
        "hardening": hardening,
    })
}
