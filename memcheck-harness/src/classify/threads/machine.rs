//! Where things stand in the thread descriptors of each machine and libc: every offset that differs between architectures, and
//! nothing else. Words of libc for debuggers (`_thread_db_*`) go before the values written here.
//!
//! glibc: `struct pthread` in nptl/descr.h, read in 2.12 to 2.43 and found equal in the debug information of 2.31, 2.36 and
//! 2.41 for both machines. musl: `struct pthread` in src/internal/pthread_impl.h of 1.2.

use crate::model::Class;

use super::super::process::Process;
use super::lists::{field, ring, sized};

/// `EM_X86_64` and `EM_AARCH64` of the ELF specification.
const X86_64: u16 = 62;
const AARCH64: u16 = 183;

/// Offsets inside glibc's `struct pthread`, 64-bit.
#[derive(Clone, Copy, Debug)]
pub(super) struct Layout {
    /// `list`.
    pub(super) list: u64,
    /// `tid`, 32 bits: 0 when the kernel has cleared it, -1 when the thread was joined.
    pub(super) tid: u64,
    /// `stackblock`; then `stackblock_size` and `guardsize`.
    pub(super) stack: u64,
    /// `cancelhandling`, 32 bits.
    pub(super) cancelhandling: u64,
    /// Where `start_routine` may stand, the likeliest first: it lies 0x28 before `nextevent`, which moved once.
    pub(super) start: [u64; 2],
    /// `user_stack`, 8 bits, up to 2.41: the program supplied the stack.
    pub(super) user_stack: u64,
    /// x86-64 stores the descriptor's own address at 0 and 0x10 (`tcbhead_t`: `tcb`, `self`).
    pub(super) self_pointer: bool,
    /// Distance from the descriptor to the TLS base: 0 on x86-64, the descriptor's size on AArch64.
    pub(super) to_tls: u64,
}

/// Offsets inside musl's `struct pthread`, which its own address begins. It keeps no start routine: that stands at the top of
/// the new stack, where the thread may overwrite it.
pub(super) struct Musl {
    /// `prev`, then `next`: the ring of threads that run.
    pub(super) ring: u64,
    /// `tid`, then `errno_val` and `detach_state`, each 32 bits.
    pub(super) tid: u64,
    /// `detach_state`.
    pub(super) detach_state: u64,
    /// `map_base`, `map_size`, `stack` (its top), `stack_size`, `guard_size`.
    pub(super) map: u64,
}

/// The layout of glibc on the machine of the process; absent for machines and word sizes that are not understood.
pub(super) fn glibc(process: &Process<'_>) -> Option<Layout> {
    if is_32_bit(process) {
        return None;
    }
    let (list, stack, self_pointer, start, user_stack) = match process.machine()? {
        X86_64 => (0x2c0, 0x690, true, [0x638, 0x640], 0x612),
        AARCH64 => (0xc0, 0x490, false, [0x438, 0x440], 0x412),
        _ => return None,
    };
    let nextevent = field(process, "_thread_db_pthread_nextevent");
    let list = field(process, "_thread_db_pthread_list").unwrap_or(list);
    Some(Layout {
        list,
        tid: list + 0x10,
        // `stackblock` follows `nextevent` at a fixed distance in every version.
        stack: nextevent.map_or(stack, |nextevent| ((nextevent + 8 + 15) & !15) + 32),
        // From `list` to here nothing changed from 2.12 to 2.41: 0x2c0 and 0x308 on x86-64.
        cancelhandling: field(process, "_thread_db_pthread_cancelhandling").unwrap_or(list + 0x48),
        start: field(process, "_thread_db_pthread_start_routine")
            .or_else(|| nextevent.and_then(|nextevent| nextevent.checked_sub(0x28)))
            .map_or(start, |known| [known, known]),
        user_stack,
        self_pointer,
        to_tls: if self_pointer { 0 } else { descriptor_bytes(process, list) },
    })
}

/// The layout of musl on the machine of the process. On AArch64 the descriptor lies below the TLS base and its own address is
/// not at its start: not understood yet.
pub(super) fn musl(process: &Process<'_>) -> Option<Musl> {
    (!is_32_bit(process) && process.machine() == Some(X86_64)).then_some(Musl {
        ring: 0x10,
        tid: 0x30,
        detach_state: 0x38,
        map: 0x48,
    })
}

fn is_32_bit(process: &Process<'_>) -> bool {
    process
        .executable()
        .and_then(|object| object.facts.as_ref())
        .is_some_and(|facts| facts.class == Class::Elf32)
}

/// AArch64: the size of a descriptor, which ends at the TLS base. Without libc's word for it, the one of the known sizes
/// (2.36, 2.41, 2.31) that puts a linked list where a descriptor has one.
fn descriptor_bytes(process: &Process<'_>, list: u64) -> u64 {
    let base = process
        .capture
        .threads
        .iter()
        .find_map(|thread| thread.tls_base.filter(|base| *base != 0));
    let is_linked = |bytes: &u64| base.is_some_and(|base| ring(process, base.wrapping_sub(*bytes).wrapping_add(list)));
    sized(process, "_thread_db_sizeof_pthread")
        .or_else(|| [0x740, 0x720, 0x700].into_iter().find(is_linked))
        .unwrap_or(0x740)
}
