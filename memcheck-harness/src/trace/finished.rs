//! `watch = "stacks"`: how deep the stack of a thread was used, taken while the thread is about to give its pages back.
//!
//! glibc's `advise_stack_range` (nptl/pthread_create.c) calls `madvise(stackblock, …, MADV_DONTNEED)` on the dying thread's own
//! stack, up to `PTHREAD_STACK_MIN` below its stack pointer. The call stops for us before it does anything.

use std::collections::BTreeMap;
use std::fs::File;

use crate::model::{FinishedStack, Name};
use crate::sys::pagemap::{self, GUARD, PFNZERO, PRESENT, SWAPPED};

use super::arch::{self, Registers};
use super::proc;
use super::session::Session;

/// Most bytes between the end of the range that is given back and the stack pointer: `PTHREAD_STACK_MIN` is 16 KiB on x86-64,
/// 128 KiB on AArch64.
const MAX_KEPT: u64 = 256 << 10;

/// Bits of an entry of /proc/PID/pagemap: in swap, present.
const ENTRY_USED: u64 = 3 << 62;
const ENTRIES: usize = 4096;

/// Stacks by the TLS base of their thread.
pub(super) type Finished = BTreeMap<u64, FinishedStack>;

impl Session {
    /// A thread of a followed process stands before a call that stops: is it `madvise(…, MADV_DONTNEED)` on its own stack?
    pub(super) fn discard(&mut self, tid: i32) {
        let (true, Ok(registers)) = (self.watches_stacks, Registers::read(tid)) else {
            return;
        };
        let call = registers.call();
        let (start, bytes) = (call.args[0], call.args[1]);
        if call.number.cast_signed() != libc::SYS_madvise || call.args[2] != u64::from(libc::MADV_DONTNEED.cast_unsigned()) {
            return;
        }
        let Some(tls_base) = arch::tls_base(tid, &registers) else {
            return;
        };
        let sp = registers.sp();
        if !is_below(start, bytes, sp) {
            return;
        }
        if let Some(lowest) = lowest_used(tid, start, sp, self.page_bytes) {
            let stack = FinishedStack {
                tls_base,
                tid,
                name: proc::name(tid, tid).unwrap_or_else(|| Name::from("")),
                lowest,
            };
            self.image(tid).finished.insert(tls_base, stack);
        }
    }
}

/// The range ends below the stack pointer, and not far below: it is the unused part of the stack the thread runs on.
fn is_below(start: u64, bytes: u64, sp: u64) -> bool {
    start
        .checked_add(bytes)
        .is_some_and(|end| bytes > 0 && end <= sp && sp - end <= MAX_KEPT)
}

/// The first page from `start` up to the one of the stack pointer that is in memory or in swap.
fn lowest_used(tid: i32, start: u64, sp: u64, page: u64) -> Option<u64> {
    let pagemap = File::open(format!("/proc/{tid}/pagemap")).ok()?;
    let (start, end) = (start - start % page, (sp - sp % page).checked_add(page)?);
    let wanted = PRESENT | SWAPPED;
    let scanned = pagemap::scan(&pagemap, start, end, wanted, wanted | PFNZERO | GUARD)
        .or_else(|_| pagemap::scan(&pagemap, start, end, wanted, wanted | PFNZERO));
    match scanned {
        Ok(runs) => runs
            .into_iter()
            .find(|run| run.categories & (PFNZERO | GUARD) == 0)
            .map(|run| run.start),
        Err(_) => by_entries(&pagemap, start, end, page),
    }
}

/// The same on kernels without the ioctl (before Linux 6.7), where zero pages cannot be told.
fn by_entries(pagemap: &File, start: u64, end: u64, page: u64) -> Option<u64> {
    use std::os::unix::fs::FileExt as _;
    let mut buffer = vec![0_u8; ENTRIES * 8];
    let (mut at, last) = (start / page, end / page);
    while at < last {
        let count = usize::try_from(last - at).unwrap_or(usize::MAX).min(ENTRIES);
        let bytes = buffer.get_mut(..count * 8)?;
        pagemap.read_exact_at(bytes, at * 8).ok()?;
        let entries = bytes.as_chunks::<8>().0.iter().map(|entry| u64::from_ne_bytes(*entry));
        if let Some(index) = entries.into_iter().position(|entry| entry & ENTRY_USED != 0) {
            return Some((at + index as u64) * page);
        }
        at += count as u64;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_part_of_the_own_stack_below_the_stack_pointer_counts() {
        let sp = 0x7000_0000;
        assert!(is_below(0x6f80_0000, 0x80_0000 - 0x4000, sp));
        assert!(is_below(0x6f80_0000, 0x80_0000, sp));
        assert!(!is_below(0x6f80_0000, 0x80_1000, sp), "reaches above the stack pointer");
        assert!(!is_below(0x1000_0000, 0x80_0000, sp), "a range elsewhere");
        assert!(!is_below(sp, 0, sp));
        assert!(!is_below(u64::MAX - 1, 4096, sp));
    }

    #[test]
    fn both_ways_find_the_first_page_that_was_touched() {
        let page = crate::sys::process::page_bytes();
        let bytes = usize::try_from(64 * page).unwrap();
        let mut block = vec![0_u8; bytes];
        let start = (block.as_ptr().addr() as u64).next_multiple_of(page);
        let offset = usize::try_from(start - block.as_ptr().addr() as u64 + 20 * page).unwrap();
        block[offset] = 1;
        let end = start + 40 * page;
        let pagemap = File::open("/proc/self/pagemap").unwrap();
        let found = by_entries(&pagemap, start, end, page).unwrap();
        assert!((start..=start + 20 * page).contains(&found));
        assert_eq!(
            lowest_used(std::process::id().cast_signed(), start, end - page, page),
            Some(found)
        );
        assert_eq!(block[offset], 1);
    }
}
