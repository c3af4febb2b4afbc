//! Breakpoints in one memory: what is planted where and for whom, and which pages were touched.

use std::collections::{BTreeMap, BTreeSet};
use std::io;

use crate::sys::ptrace;

use super::arch::{self, BREAKPOINT, Code, LENGTH};

/// Who waits at a breakpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Owner {
    /// The program's entry point: libraries are mapped now.
    Entry,
    /// The loader has changed the list of libraries.
    Loader,
    /// libc's start function, whose first argument is `main`.
    StartMain,
    /// A point of the user's, by index.
    Point(usize),
    /// The place that a call of a point's function returns to.
    Return(usize),
}

/// See the module. All of it belongs to one program image; a new image starts empty.
#[derive(Debug, Default)]
pub(super) struct Breakpoints {
    planted: BTreeMap<u64, BTreeSet<Owner>>,
    /// What stood at every address that ever held a breakpoint.
    originals: BTreeMap<u64, Code>,
    /// Semaphores of probes that were counted up: for whom, and the mapping of code that they belong to.
    raised: BTreeMap<(Owner, u64), u64>,
    pages: BTreeSet<u64>,
}

/// The instruction bytes at an address of a stopped thread's memory.
pub(super) fn read_code(tid: i32, address: u64) -> io::Result<Code> {
    let bytes = ptrace::peek(tid, address & !7)?.to_ne_bytes();
    let at = offset_in_word(address);
    bytes
        .get(at..at + LENGTH)
        .and_then(|code| code.try_into().ok())
        .ok_or_else(|| io::ErrorKind::InvalidInput.into())
}

/// Replaces the instruction bytes at an address.
pub(super) fn write_code(tid: i32, address: u64, code: Code) -> io::Result<()> {
    replace_code(tid, address, code, |_| true).map(drop)
}

/// Replaces the instruction bytes at an address if `wanted` says so of those that stand there; gives these.
fn replace_code(tid: i32, address: u64, code: Code, wanted: impl FnOnce(Code) -> bool) -> io::Result<Code> {
    let word = address & !7;
    let mut bytes = ptrace::peek(tid, word)?.to_ne_bytes();
    let at = offset_in_word(address);
    let place = bytes.get_mut(at..at + LENGTH).ok_or(io::ErrorKind::InvalidInput)?;
    let there = Code::try_from(&*place).map_err(|_| io::ErrorKind::InvalidInput)?;
    if wanted(there) {
        place.copy_from_slice(&code);
        ptrace::poke(tid, word, u64::from_ne_bytes(bytes))?;
    }
    Ok(there)
}

fn offset_in_word(address: u64) -> usize {
    usize::try_from(address & 7).unwrap_or(0)
}

impl Breakpoints {
    /// Plants a breakpoint for one more owner, through any stopped thread of that memory. False when the code that stands there is
    /// not the expected one, and is left alone.
    pub(super) fn plant(
        &mut self,
        tid: i32,
        address: u64,
        owner: Owner,
        page_bytes: u64,
        is_expected: impl Fn(Code) -> bool,
    ) -> io::Result<bool> {
        if !self.planted.contains_key(&address) {
            let original = replace_code(tid, address, BREAKPOINT, &is_expected)?;
            if !is_expected(original) {
                return Ok(false);
            }
            self.originals.insert(address, original);
            self.pages.insert(address & !(page_bytes - 1));
        }
        self.planted.entry(address).or_default().insert(owner);
        Ok(true)
    }

    /// Counts up a 16-bit semaphore for an owner, once; `code` is the first address of the code it belongs to.
    pub(super) fn raise(&mut self, tid: i32, address: u64, owner: Owner, code: u64) -> io::Result<()> {
        if self.raised.insert((owner, address), code).is_none() {
            let count = ptrace::load_u16(tid, address)?;
            ptrace::store_u16(tid, address, count.wrapping_add(1))?;
        }
        Ok(())
    }

    /// Counts them down again. What is not there any more needs nothing.
    fn lower(&mut self, tid: i32, owner: Owner) {
        self.raised.retain(|(other, address), _| {
            if *other != owner {
                return true;
            }
            if let Ok(count) = ptrace::load_u16(tid, *address) {
                let _ = ptrace::store_u16(tid, *address, count.saturating_sub(1));
            }
            false
        });
    }

    /// The code at these addresses is gone, and with it everything that was planted there.
    pub(super) fn forget(&mut self, start: u64, end: u64) {
        self.planted.retain(|address, _| !(start..end).contains(address));
        self.originals.retain(|address, _| !(start..end).contains(address));
        self.pages.retain(|page| !(start..end).contains(page));
        self.raised.retain(|_, code| *code != start);
    }

    /// Takes an owner away from everywhere; breakpoints that nobody waits at any more are taken out. What is not there any
    /// more (an unloaded library, a killed process) is left alone.
    pub(super) fn retire(&mut self, tid: i32, owner: Owner) -> io::Result<()> {
        let mut result = Ok(());
        self.lower(tid, owner);
        self.planted.retain(|address, owners| {
            if !owners.remove(&owner) || !owners.is_empty() {
                return true;
            }
            if let Some(original) = self.originals.get(address)
                && let Err(error) = replace_code(tid, *address, *original, |code| code == BREAKPOINT)
                && read_code(tid, *address).is_ok()
            {
                result = Err(error);
            }
            false
        });
        result
    }

    /// Takes everything out.
    pub(super) fn remove_all(&mut self, tid: i32) -> io::Result<()> {
        let owners: BTreeSet<Owner> = self.planted.values().flatten().copied().collect();
        let raised: BTreeSet<Owner> = self.raised.keys().map(|(owner, _)| *owner).collect();
        owners.union(&raised).try_for_each(|owner| self.retire(tid, *owner))
    }

    /// Who waits at an address; absent when no breakpoint is planted there.
    pub(super) fn owners(&self, address: u64) -> Option<Vec<Owner>> {
        Some(self.planted.get(&address)?.iter().copied().collect())
    }

    /// True when a breakpoint is planted there.
    pub(super) fn is_planted(&self, address: u64) -> bool {
        self.planted.contains_key(&address)
    }

    /// What stood, or stands below the breakpoint, at an address that ever held one.
    pub(super) fn original(&self, address: u64) -> Option<Code> {
        self.originals.get(&address).copied()
    }

    /// Eight bytes of code as they are in the file.
    pub(super) fn instruction(&self, tid: i32, address: u64) -> io::Result<[u8; 8]> {
        let mut bytes = ptrace::peek(tid, address)?.to_ne_bytes();
        for (at, original) in self.originals.range(address..address.saturating_add(8)) {
            let offset = usize::try_from(at - address).unwrap_or(8);
            for (byte, value) in bytes.iter_mut().skip(offset).zip(original) {
                *byte = *value;
            }
        }
        Ok(bytes)
    }

    /// What there is in a copy of this memory after `clean_copy`: no breakpoint, in pages that were written to.
    pub(super) fn cleaned(&self) -> Self {
        Self {
            pages: self.pages.clone(),
            ..Self::default()
        }
    }

    /// Takes every breakpoint out of a copy of this memory, through a stopped thread that has it.
    pub(super) fn clean_copy(&self, tid: i32) -> io::Result<()> {
        for (address, original) in &self.originals {
            replace_code(tid, *address, *original, |code| code == BREAKPOINT)?;
        }
        Ok(())
    }

    /// Puts every breakpoint back that `clean_copy` took out of this very memory.
    pub(super) fn put_back(&self, tid: i32) -> io::Result<()> {
        self.planted
            .keys()
            .try_for_each(|address| write_code(tid, *address, BREAKPOINT))
    }

    /// Pages that hold or held a breakpoint.
    pub(super) fn pages(&self) -> impl Iterator<Item = u64> {
        self.pages.iter().copied()
    }
}

/// True when the breakpoint replaced an instruction that does nothing and has been passed by its trap.
pub(super) fn is_passed(original: Code) -> bool {
    arch::TRAP_OFFSET > 0 && arch::is_nop(original)
}
