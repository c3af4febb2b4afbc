//! Hardening, symbols and FORTIFY against checksec, on every file of `elf_files`.

use std::fs::File;
use std::path::Path;

use memcheck_harness::elf;
use memcheck_harness::model::{ElfType, Name, Relro};

use crate::elf_files;
use crate::tools::run;

/// checksec's words for a file: RELRO, canary, NX, PIE, RPATH, RUNPATH, symbols, FORTIFY, fortified, fortifiable.
fn ours(path: &Path) -> [String; 10] {
    let file = elf::describe(&File::open(path).unwrap(), &Name::new(path.as_os_str().as_encoded_bytes())).unwrap();
    let facts = &file.facts;
    // No dynamic symbols: nothing is known, which checksec calls none.
    let (used, fortified, fortifiable) = file.fortify.as_ref().map_or((false, 0, 0), |fortify| {
        (fortify.used, fortify.fortified, fortify.fortifiable)
    });
    let hardening = facts.hardening;
    [
        match hardening.relro {
            Relro::No => "No RELRO",
            Relro::Partial => "Partial RELRO",
            Relro::Full => "Full RELRO",
        },
        // A static program without symbols does not tell; checksec then says no.
        match hardening.canary {
            Some(true) => "Canary found",
            Some(false) | None => "No Canary found",
        },
        if hardening.nx { "NX enabled" } else { "NX disabled" },
        match facts.elf_type {
            ElfType::Exec => "No PIE",
            _ if hardening.pie => "PIE enabled",
            _ => "DSO",
        },
        if facts.rpath.is_some() { "RPATH" } else { "No RPATH" },
        if facts.runpath.is_some() { "RUNPATH" } else { "No RUNPATH" },
        if file.symbols.is_some() { "Symbols" } else { "No Symbols" },
        if used { "Yes" } else { "No" },
        &fortified.to_string(),
        &fortifiable.to_string(),
    ]
    .map(str::to_owned)
}

fn compare(path: &Path) {
    let text = run("checksec", &[&format!("--file={}", path.display()), "--format=csv"]);
    let theirs: Vec<&str> = text.trim().split(',').take(10).collect();
    assert_eq!(
        theirs.len(),
        10,
        "checksec 2 is expected (Debian package checksec); it said {text:?}"
    );
    for (ours, theirs) in ours(path).iter().zip(theirs) {
        assert!(
            ours.eq_ignore_ascii_case(theirs),
            "{}: {ours:?}, checksec says {text:?}",
            path.display()
        );
    }
}

#[test]
fn everything_that_checksec_tells() {
    let files = elf_files::all();
    std::thread::scope(|scope| {
        for half in files.chunks(files.len().div_ceil(2)) {
            scope.spawn(move || half.iter().for_each(|path| compare(path)));
        }
    });
}
