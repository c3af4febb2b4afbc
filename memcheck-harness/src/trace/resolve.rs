//! Names to addresses: which functions and probes of a file a point means. Pure; addresses are as in the file.

use std::collections::BTreeSet;

use crate::elf::{Function, ProbeSite};
use crate::model::{ElfFacts, SegmentKind};

/// What a function's name means in one file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Found {
    /// Nothing.
    Nowhere,
    /// These entries: several when the compiler made several copies.
    At(BTreeSet<u64>),
    /// The end of more than one function's path; some of them.
    Ambiguous(Vec<String>),
}

/// Names that are shown of an ambiguity.
const SHOWN: usize = 5;

/// Exactly the symbol (with or without its version: `f`, `f@V1`), else exactly the demangled path (with or without rustc's
/// hash), else that path without generic arguments, which means all instances, else the end of a path after `::`.
pub(super) fn function(functions: &[Function], name: &str) -> Found {
    let entries = |wanted: &dyn Fn(&Function) -> bool| -> BTreeSet<u64> {
        functions.iter().filter(|one| wanted(one)).map(|one| one.address).collect()
    };
    let exact: [&dyn Fn(&Function) -> bool; 4] = [
        &|one| one.raw == name || is_version_of(&one.raw, name),
        &|one| one.name == name,
        &|one| with_hash(one).is_some_and(|path| path == name),
        &|one| without_generics(&one.name) == name,
    ];
    if let Some(found) = exact.into_iter().map(entries).find(|found| !found.is_empty()) {
        return Found::At(found);
    }
    let ends = |path: &str| path.strip_suffix(name).is_some_and(|rest| rest.ends_with("::"));
    let is_end =
        |one: &Function| ends(&one.name) || ends(&without_generics(&one.name)) || with_hash(one).is_some_and(|path| ends(&path));
    let names: BTreeSet<String> = functions
        .iter()
        .filter(|one| is_end(one))
        .map(|one| without_generics(&one.name))
        .collect();
    match names.len() {
        0 => Found::Nowhere,
        1 => Found::At(entries(&is_end)),
        _ => Found::Ambiguous(names.into_iter().take(SHOWN).collect()),
    }
}

/// `f@V1` and `f@@V2` (the default) are versions of `f`, and `f@V2` names the default as well (ld's symbol versioning).
fn is_version_of(raw: &str, name: &str) -> bool {
    let Some((base, version)) = raw.split_once('@') else {
        return false;
    };
    match name.split_once('@') {
        None => base == name,
        Some((wanted, wanted_version)) => {
            base == wanted && version.trim_start_matches('@') == wanted_version.trim_start_matches('@')
        }
    }
}

/// The path with the hash that rustc's legacy mangling ends in: `17h` and 16 hexadecimal digits.
fn with_hash(function: &Function) -> Option<String> {
    let hash = function.raw.strip_suffix('E')?.rsplit_once("17h")?.1;
    let is_hash = hash.len() == 16 && hash.bytes().all(|byte| byte.is_ascii_hexdigit());
    is_hash.then(|| format!("{}::h{hash}", function.name))
}

/// `a::grow::<u32>` as `a::grow`, `<a::Pool<T>>::grow` as `<a::Pool>::grow`. Angle brackets that begin a path are none of an
/// argument list.
fn without_generics(name: &str) -> String {
    let mut out = String::with_capacity(name.len());
    let mut depth = 0_usize;
    let mut before = '\0';
    for letter in name.chars() {
        let opens =
            letter == '<' && (depth > 0 || out.ends_with(|last: char| last == ':' || last == '_' || last.is_alphanumeric()));
        if opens {
            if depth == 0 && out.ends_with("::") {
                out.truncate(out.len() - 2);
            }
            depth += 1;
        } else if letter == '>' && depth > 0 && before != '-' {
            depth -= 1;
        } else if depth == 0 {
            out.push(letter);
        }
        before = letter;
    }
    out
}

/// All sites of a probe.
pub(super) fn probe(sites: &[ProbeSite], provider: &str, name: &str) -> BTreeSet<u64> {
    sites
        .iter()
        .filter(|site| site.provider == provider && site.name == name)
        .map(|site| site.address)
        .collect()
}

/// True when the address lies in a segment that is mapped executable (`PF_X`).
pub(super) fn is_code(facts: &ElfFacts, address: u64) -> bool {
    facts.segments.iter().any(|segment| {
        segment.kind == SegmentKind::Load
            && segment.flags & 1 != 0
            && address >= segment.vaddr
            && address - segment.vaddr < segment.memsz
    })
}

/// True when a 16-bit variable at the address lies in a segment that is mapped writable (`PF_W`).
pub(super) fn is_data(facts: &ElfFacts, address: u64) -> bool {
    facts.segments.iter().any(|segment| {
        segment.kind == SegmentKind::Load
            && segment.flags & 2 != 0
            && address >= segment.vaddr
            && address.checked_add(2).is_some_and(|end| end - segment.vaddr <= segment.memsz)
    })
}

/// Address of a mapping minus the address in the file of what it maps; absent when no executable segment has that offset.
pub(super) fn bias(facts: &ElfFacts, start: u64, offset: u64, page_bytes: u64) -> Option<u64> {
    let floor = |address: u64| address & !(page_bytes - 1);
    let segment = facts.segments.iter().find(|segment| {
        segment.kind == SegmentKind::Load
            && segment.flags & 1 != 0
            && offset >= floor(segment.offset)
            && offset < segment.offset.saturating_add(segment.filesz)
    })?;
    let in_segment = offset - floor(segment.offset);
    Some(start.wrapping_sub(floor(segment.vaddr).wrapping_add(in_segment)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn functions() -> Vec<Function> {
        [
            ("app::pool::grow", "_ZN3app4pool4grow17h0123456789abcdefE", 16),
            ("app::pool::grow", "_ZN3app4pool4grow17hfedcba9876543210E", 32),
            ("app::list::new", "_ZN3app4list3new17h0123456789abcdefE", 48),
            ("app::pool::new", "_ZN3app4pool3new17h0123456789abcdefE", 64),
            ("main", "main", 80),
            ("app::main", "_ZN3app4main17h0123456789abcdefE", 96),
        ]
        .map(|(name, raw, address)| Function {
            name: name.to_owned(),
            raw: raw.to_owned(),
            address,
            size: 16,
        })
        .into()
    }

    #[test]
    fn names_are_exact_first_and_then_the_end_of_a_path() {
        let at = |addresses: &[u64]| Found::At(addresses.iter().copied().collect());
        for (name, found) in [
            ("main", at(&[80])),
            ("app::main", at(&[96])),
            ("app::pool::grow", at(&[16, 32])),
            ("pool::grow", at(&[16, 32])),
            ("grow", at(&[16, 32])),
            ("_ZN3app4pool4grow17hfedcba9876543210E", at(&[32])),
            ("pool::new", at(&[64])),
            ("row", Found::Nowhere),
            ("", Found::Nowhere),
        ] {
            assert_eq!(function(&functions(), name), found, "{name}");
        }
        assert_eq!(
            function(&functions(), "new"),
            Found::Ambiguous(vec!["app::list::new".to_owned(), "app::pool::new".to_owned()])
        );
    }

    #[test]
    fn instances_versions_and_hashes() {
        let functions = [
            ("app::grow::<u32>", "_RINvCs1_3app4growmE", 1),
            ("app::grow::<alloc::vec::Vec<fn(u8) -> u8>>", "_RINvCs1_3app4growhE", 2),
            ("<app::Pool<T>>::shrink", "_RNvMCs1_3app6shrinkE", 3),
            ("<app::Pool as core::ops::Drop>::drop", "_RNvXCs1_3app4dropE", 4),
            ("app::old", "_ZN3app3old17h0123456789abcdefE", 5),
            ("app::old", "_ZN3app3old17hfedcba9876543210E", 6),
            ("reg", "reg@V1", 7),
            ("reg", "reg@@V2", 8),
        ]
        .map(|(name, raw, address)| Function {
            name: name.to_owned(),
            raw: raw.to_owned(),
            address,
            size: 1,
        });
        for (name, found) in [
            ("app::grow", &[1, 2][..]),
            ("grow", &[1, 2]),
            ("app::grow::<u32>", &[1]),
            ("<app::Pool>::shrink", &[3]),
            ("<app::Pool as core::ops::Drop>::drop", &[4]),
            ("app::old", &[5, 6]),
            ("app::old::h0123456789abcdef", &[5]),
            ("old::hfedcba9876543210", &[6]),
            ("reg@V1", &[7]),
            ("reg@V2", &[8]),
            ("reg@@V2", &[8]),
            ("reg", &[7, 8]),
        ] {
            assert_eq!(
                function(&functions, name),
                Found::At(found.iter().copied().collect()),
                "{name}"
            );
        }
        assert_eq!(function(&functions, "reg@V3"), Found::Nowhere);
    }

    #[test]
    fn the_bias_follows_from_any_executable_mapping() {
        let file = std::fs::File::open("/proc/self/exe").unwrap();
        let facts = crate::elf::facts(&file).unwrap();
        let pid = i32::try_from(std::process::id()).unwrap();
        let entry = super::super::proc::auxiliary(pid, super::super::proc::AT_ENTRY).unwrap();
        let mapped = super::super::proc::executable_files(pid)
            .into_iter()
            .find(|file| (file.start..file.end).contains(&entry))
            .unwrap();
        let bias = bias(&facts, mapped.start, mapped.offset, crate::sys::process::page_bytes()).unwrap();
        assert_eq!(bias, entry.wrapping_sub(facts.entry));
        assert!(is_code(&facts, facts.entry));
        assert!(!is_code(&facts, 0));
    }
}
