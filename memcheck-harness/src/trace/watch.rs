//! Hardware watchpoints: debug registers of a thread that stop it after a write to up to eight bytes.

use std::io;

#[cfg(target_arch = "x86_64")]
use crate::sys::ptrace;

/// Sets one at an address that is never written, and takes it back.
#[cfg(target_arch = "x86_64")]
pub(super) fn attempt(tid: i32) -> io::Result<()> {
    // Some place of the lower half that is aligned to eight bytes: nothing need be mapped there.
    const ADDRESS: u64 = 0x1000;
    set(tid, ADDRESS, 8)?;
    clear(tid)
}

/// A watchpoint on writes to `bytes` (1, 2, 4 or 8) bytes at an address aligned to them: the control register's enable bit,
/// and below the length and kind of register 0 (Intel SDM volume 3, "Debug Control Register (DR7)").
#[cfg(target_arch = "x86_64")]
pub(super) fn set(tid: i32, address: u64, bytes: u64) -> io::Result<()> {
    const ENABLE: u64 = 1;
    const ON_WRITE: u64 = 0b01 << 16;
    let length: u64 = match bytes {
        1 => 0b00,
        2 => 0b01,
        4 => 0b11,
        8 => 0b10,
        _ => return Err(io::ErrorKind::InvalidInput.into()),
    };
    ptrace::set_debug_register(tid, 0, address)?;
    ptrace::set_debug_register(tid, 7, ENABLE | ON_WRITE | length << 18)
}

/// Takes it back.
#[cfg(target_arch = "x86_64")]
pub(super) fn clear(tid: i32) -> io::Result<()> {
    ptrace::set_debug_register(tid, 7, 0)
}

/// AArch64 has them too, through another interface that is not used yet.
#[cfg(not(target_arch = "x86_64"))]
pub(super) fn attempt(_tid: i32) -> io::Result<()> {
    Err(io::Error::new(io::ErrorKind::Unsupported, "used on x86-64 only"))
}
