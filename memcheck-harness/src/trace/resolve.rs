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

/// Exactly the symbol, else exactly the demangled path, else its end after `::`.
pub(super) fn function(functions: &[Function], name: &str) -> Found {
    let entries = |wanted: &dyn Fn(&Function) -> bool| -> BTreeSet<u64> {
        functions.iter().filter(|one| wanted(one)).map(|one| one.address).collect()
    };
    for exact in [entries(&|one| one.raw == name), entries(&|one| one.name == name)] {
        if !exact.is_empty() {
            return Found::At(exact);
        }
    }
    let is_end = |one: &Function| one.name.strip_suffix(name).is_some_and(|path| path.ends_with("::"));
    let names: BTreeSet<&str> = functions
        .iter()
        .filter(|one| is_end(one))
        .map(|one| one.name.as_str())
        .collect();
    match names.len() {
        0 => Found::Nowhere,
        1 => Found::At(entries(&is_end)),
        _ => Found::Ambiguous(names.into_iter().take(SHOWN).map(str::to_owned).collect()),
    }
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
