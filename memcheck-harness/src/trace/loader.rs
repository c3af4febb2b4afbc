//! The dynamic loader of the main process: which executable mappings of libraries are known, and where it stops for
//! debuggers when it changes them.

use std::collections::BTreeSet;
use std::io::IoSliceMut;

use nix::sys::uio::{RemoteIoVec, process_vm_readv};
use nix::unistd::Pid;

use crate::model::{ElfFacts, SegmentKind};
use crate::sys::ptrace;

use super::proc::MappedFile;

/// Start, end, device, inode.
type Mapping = (u64, u64, (u32, u32), u64);

/// See the module. All of it belongs to one program image.
#[derive(Debug, Default)]
pub(super) struct Loader {
    /// Where the program begins.
    pub(super) entry: u64,
    /// Address and bytes of the program's dynamic section; absent for static programs.
    dynamic: Option<(u64, u64)>,
    /// Executable mappings that were searched.
    known: BTreeSet<Mapping>,
    /// Memory to be watched once the loader has done its work: the point, address and bytes of a variable (else the stack).
    pub(super) touched: Vec<(usize, Option<(u64, u64)>)>,
    /// Points that the program itself has: those but probes are not looked for in libraries.
    pub(super) in_program: BTreeSet<usize>,
}

/// `DT_DEBUG`: the loader puts the address of its `r_debug` there (gABI, and `link.h`).
const DT_DEBUG: u64 = 21;
const DT_NULL: u64 = 0;
/// Most bytes of a dynamic section looked through: real ones have some thirty entries.
const MAX_SECTION: u64 = 64 << 10;
/// Pages are never smaller.
const SMALLEST_PAGE: u64 = 4096;
/// Offset of `r_brk` in a 64-bit `struct r_debug`: after `int r_version` with its padding, and `r_map`.
const R_BRK: u64 = 16;

impl Loader {
    /// Of a program that was just loaded and not run yet.
    pub(super) fn new(facts: &ElfFacts, bias: u64) -> Self {
        let dynamic = facts.segments.iter().find(|segment| segment.kind == SegmentKind::Dynamic);
        Self {
            entry: facts.entry.wrapping_add(bias),
            dynamic: dynamic.map(|segment| (segment.vaddr.wrapping_add(bias), segment.memsz)),
            ..Self::default()
        }
    }

    /// False for a static program.
    pub(super) fn is_there(&self) -> bool {
        self.dynamic.is_some()
    }

    /// The function that the loader calls before and after every change of the list of libraries; to be read when it has run.
    /// Its section is resident by then: the loader itself has written to it.
    pub(super) fn breakpoint(&self, tid: i32) -> Option<u64> {
        let (address, bytes) = self.dynamic?;
        let end = address.checked_add(bytes.min(MAX_SECTION))?;
        let mut from = address;
        let r_debug = loop {
            // Not further than the loader has read: what follows the last entry may lie on a page that is not resident.
            let to = end.min((from | (SMALLEST_PAGE - 1)) + 1);
            let entries = entries(tid, from, to)?;
            if let Some(found) = entries.iter().find(|(tag, _)| [DT_NULL, DT_DEBUG].contains(tag)) {
                break Some(found.1).filter(|value| *value != 0)?;
            }
            if to >= end {
                return None;
            }
            from = to;
        };
        ptrace::peek(tid, r_debug.checked_add(R_BRK)?)
            .ok()
            .filter(|address| *address != 0)
    }

    /// Drops what is not mapped any more, and gives those ranges back.
    pub(super) fn replace(&mut self, mapped: &[MappedFile]) -> Vec<(u64, u64)> {
        let now: BTreeSet<Mapping> = mapped.iter().map(key).collect();
        let gone = self.known.difference(&now).map(|one| (one.0, one.1)).collect();
        self.known.retain(|one| now.contains(one));
        gone
    }

    /// True for a mapping that was not known; it is then.
    pub(super) fn take_new(&mut self, mapped: &MappedFile) -> bool {
        self.known.insert(key(mapped))
    }
}

/// Entries of a dynamic section: tags and values.
fn entries(tid: i32, from: u64, to: u64) -> Option<Vec<(u64, u64)>> {
    let mut bytes = vec![0; usize::try_from(to - from).ok()?];
    let remote = RemoteIoVec {
        base: usize::try_from(from).ok()?,
        len: bytes.len(),
    };
    let read = process_vm_readv(Pid::from_raw(tid), &mut [IoSliceMut::new(&mut bytes)], &[remote]).ok()?;
    if read != bytes.len() {
        return None;
    }
    let words: Vec<u64> = bytes
        .as_chunks::<8>()
        .0
        .iter()
        .map(|word| u64::from_ne_bytes(*word))
        .collect();
    Some(words.as_chunks::<2>().0.iter().map(|[tag, value]| (*tag, *value)).collect())
}

fn key(mapped: &MappedFile) -> Mapping {
    (mapped.start, mapped.end, mapped.dev, mapped.inode)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Name;

    #[test]
    fn only_what_changed_is_new_or_gone() {
        let mapped = |start: u64, inode| MappedFile {
            start,
            end: start + 0x1000,
            offset: 0,
            dev: (0, 1),
            inode,
            path: Name::from("/lib/x.so"),
        };
        let mut loader = Loader::default();
        assert!(loader.replace(&[mapped(0x1000, 1)]).is_empty());
        assert!(loader.take_new(&mapped(0x1000, 1)) && !loader.take_new(&mapped(0x1000, 1)));
        assert!(loader.replace(&[mapped(0x1000, 1), mapped(0x4000, 2)]).is_empty());
        // Another file at the same place is another mapping.
        assert_eq!(loader.replace(&[mapped(0x1000, 3)]), [(0x1000, 0x2000)]);
        assert!(loader.take_new(&mapped(0x1000, 3)));
    }
}
