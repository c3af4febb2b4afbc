//! Memory of allocators and runtimes other than glibc's malloc: which of them are in the process, by their files, symbols and
//! messages, and which mappings are theirs, by their own structures or names where they have some, else by shape.

mod cpython;
mod musl;

use std::collections::BTreeSet;

use crate::model::{Allocator, MallocFact, Name, ObjectKind, Role};

use super::interval::{Claims, Priority, certain, likely};
use super::process::{Area, Notes, Process};

/// Where Go's heap begins on 64-bit Linux, and how far it may go (`arenaHint` in runtime/malloc.go: 0x00c0 << 32 and up).
const GO_HEAP: std::ops::Range<u64> = 0xc0_0000_0000..0xd0_0000_0000;

/// Smallest piece tcmalloc asks the kernel for (`kMinSystemAlloc`, 128 pages of 8 KiB; system-alloc.cc).
const TCMALLOC_PIECE: u64 = 1 << 20;

/// An allocator, beginnings of file names and symbols or strings of executables that tell it.
type Traces = (Allocator, &'static [&'static [u8]], &'static [&'static str]);

const TRACES: [Traces; 7] = [
    (
        Allocator::Jemalloc,
        &[b"libjemalloc"],
        &["<jemalloc>: ", "_rjem_mallctl", "je_mallctl"],
    ),
    (Allocator::Mimalloc, &[b"libmimalloc"], &["mimalloc: ", "_mi_process_init"]),
    (
        Allocator::Tcmalloc,
        &[b"libtcmalloc"],
        &["tcmalloc: large alloc", "TCMALLOC_", "tc_malloc"],
    ),
    (
        Allocator::Snmalloc,
        &[b"libsnmalloc"],
        &["Failed to initialise snmalloc", "sn_rust_alloc"],
    ),
    (Allocator::CPython, &[b"libpython", b"python2", b"python3"], &[]),
    (Allocator::Jvm, &[b"libjvm.so"], &[]),
    (Allocator::Go, &[], &["\u{ff} Go buildinf:"]),
];

/// Beginnings of names that allocators give their memory (`PR_SET_VMA_ANON_NAME`).
const NAMES: [(Allocator, &[u8]); 6] = [
    (Allocator::Jemalloc, b"jemalloc"),
    (Allocator::Mimalloc, b"mimalloc"),
    (Allocator::Snmalloc, b"snmalloc"),
    (Allocator::Tcmalloc, b"tcmalloc"),
    (Allocator::CPython, b"cpython"),
    (Allocator::Go, b"Go: "),
];

/// The allocators and runtimes that are in the process.
pub(super) fn present(process: &Process<'_>) -> BTreeSet<Allocator> {
    let mut present = BTreeSet::new();
    for object in &process.capture.objects {
        let file = object.path.file_name_bytes();
        let soname = object.facts.as_ref().and_then(|facts| facts.soname.as_ref());
        let soname = soname.map(Name::as_bytes).unwrap_or_default();
        let begins = |name: &[u8], starts: &[&[u8]]| starts.iter().any(|start| name.starts_with(start));
        // Python's name counts only for the program itself: modules are called so too.
        let is_named = object.kind == ObjectKind::Executable || begins(file, &[b"lib", b"ld-"]);
        let named = |starts: &[&[u8]]| is_named && begins(file, starts) || begins(soname, starts);
        present.extend(TRACES.iter().filter(|(_, files, _)| named(files)).map(|(which, ..)| *which));
        // These are few, and most objects have none.
        for symbol in object.symbols.keys() {
            let told = TRACES.iter().filter(|(.., traces)| traces.contains(&symbol.as_str()));
            present.extend(told.map(|(which, ..)| *which));
        }
    }
    present
}

/// Claims what belongs to the allocators that are present. `glibc`: it is in the process; `malloc`: its main arena, where that
/// was found.
pub(super) fn claim(
    process: &Process<'_>,
    present: &BTreeSet<Allocator>,
    glibc: bool,
    malloc: Option<&MallocFact>,
    claims: &mut Claims,
    notes: &mut Notes,
) {
    let mut claimer = Claimer { process, claims };
    claimer.by_names();
    // Those that map without reserving; two of them cannot be told apart.
    let lavish = [Allocator::Jemalloc, Allocator::Mimalloc, Allocator::Snmalloc];
    let lavish: Vec<Allocator> = lavish.into_iter().filter(|which| present.contains(which)).collect();
    match lavish[..] {
        [which] => claimer.noreserve(which),
        [] => {}
        _ => notes.add("More than one allocator that maps with MAP_NORESERVE is in the process: their memory is anon-map."),
    }
    if present.contains(&Allocator::Tcmalloc) {
        let heap_is_free = malloc.is_none_or(|malloc| malloc.main.usage.is_some_and(|usage| usage.used_count == 0));
        claimer.tcmalloc(heap_is_free);
    }
    // musl's structure proves itself.
    if !glibc {
        musl::claim(process, claimer.claims);
    }
    if present.contains(&Allocator::CPython) {
        cpython::claim(process, claimer.claims);
    }
    if present.contains(&Allocator::Jvm) {
        claimer.all_anonymous(Allocator::Jvm, "anonymous memory of a process with a Java virtual machine");
    }
    if present.contains(&Allocator::Go) {
        let alone = process
            .executable()
            .and_then(|object| object.facts.as_ref())
            .is_some_and(|facts| facts.interpreter.is_none());
        if alone {
            claimer.all_anonymous(Allocator::Go, "anonymous memory of a Go program without a C library");
        }
        claimer.go();
    }
}

struct Claimer<'p, 'c> {
    process: &'p Process<'p>,
    claims: &'c mut Claims,
}

impl Claimer<'_, '_> {
    fn take(&mut self, which: Allocator, range: (u64, u64), why: &'static str, sure: bool) {
        let item = self.claims.item(Role::Allocator(which), Name::default(), None);
        let evidence = if sure { certain(why) } else { likely(why) };
        self.claims.add(range, Priority::Name, item, evidence);
    }

    fn by_names(&mut self) {
        for area in &self.process.areas {
            let Some(inner) = area.region.name.as_bytes().strip_prefix(b"[anon:") else {
                continue;
            };
            let inner = inner.strip_prefix(b" ").unwrap_or(inner);
            if let Some((which, _)) = NAMES.iter().find(|(_, start)| inner.starts_with(start)) {
                self.take(*which, (area.start, area.end), "named by the allocator", true);
            }
        }
    }

    /// Regions mapped with `MAP_NORESERVE`, and inaccessible ones of that kind that touch them.
    fn noreserve(&mut self, which: Allocator) {
        let of_this_kind =
            |area: &Area<'_>| area.flag(b"nr") && area.region.name.is_empty() && (area.plain_memory() || area.inaccessible());
        let areas: Vec<&Area<'_>> = self.process.areas.iter().filter(|area| of_this_kind(area)).collect();
        for group in areas.chunk_by(|a, b| a.end == b.start) {
            if !group.iter().any(|area| area.plain_memory()) {
                continue;
            }
            for area in group {
                let why = "mapped with MAP_NORESERVE, as this allocator does and malloc does not";
                self.take(which, (area.start, area.end), why, false);
            }
        }
    }

    fn tcmalloc(&mut self, heap_is_free: bool) {
        for area in &self.process.areas {
            if area.region.name.as_bytes() == b"[heap]" && heap_is_free {
                let start = self
                    .process
                    .capture
                    .start_brk
                    .map_or(area.start, |brk| area.start.max(self.process.down(brk)));
                let why = "the brk heap, which tcmalloc takes first and glibc does not use here";
                self.take(Allocator::Tcmalloc, (start, area.end), why, false);
            } else if area.plain_memory() && area.region.name.is_empty() && area.size() % TCMALLOC_PIECE == 0 && !heap_is_free {
                let why = "whole MiB of anonymous memory in a process with tcmalloc";
                self.take(Allocator::Tcmalloc, (area.start, area.end), why, false);
            }
        }
    }

    fn all_anonymous(&mut self, which: Allocator, why: &'static str) {
        for area in &self.process.areas {
            if area.private_anonymous() && area.region.name.is_empty() {
                self.take(which, (area.start, area.end), why, false);
            }
        }
    }

    fn go(&mut self) {
        for area in &self.process.areas {
            if area.private_anonymous() && area.region.name.is_empty() && GO_HEAP.contains(&area.start) {
                let why = "in the address range where Go's heap lies";
                self.take(Allocator::Go, (area.start, area.end), why, false);
            }
        }
    }
}
