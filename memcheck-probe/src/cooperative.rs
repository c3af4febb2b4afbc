//! Markers that stop their process by themselves, for machines where nobody may trace: feature `cooperative`.
//!
//! `cargo memcheck --cooperative` sets `MEMCHECK_COOPERATE` to the number of an open descriptor. A marker of the session's leader
//! then writes its name there and raises `SIGSTOP`; the tool reads `/proc` and sends `SIGCONT`. Without the variable a marker
//! is one load of an atomic, after the first. Raw system calls only: no libc, nothing is allocated.

#![expect(
    unsafe_code,
    reason = "system calls without a libc are assembly; each block says why it is sound"
)]

use core::sync::atomic::{AtomicI32, Ordering};

/// Descriptor to write to; one of the two below otherwise.
static CHANNEL: AtomicI32 = AtomicI32::new(UNKNOWN);
const UNKNOWN: i32 = -2;
const NOBODY: i32 = -1;

/// The thread that is at a marker: others wait for it, so that each stop has one name.
static STOPPING: AtomicI32 = AtomicI32::new(0);

const KEY: &[u8] = b"MEMCHECK_COOPERATE=";
const SIGSTOP: usize = 19;

/// Longest name of a marker, and the line break behind it.
const LINE: usize = 129;

/// Stops the process, if somebody asked for it. `name` has been checked: 1 to 128 characters.
pub fn stop(name: &str) {
    let mut channel = CHANNEL.load(Ordering::Relaxed);
    if channel == UNKNOWN {
        channel = find();
        CHANNEL.store(channel, Ordering::Relaxed);
    }
    if channel == NOBODY {
        return;
    }
    let (process, thread) = (call(GETPID, 0, 0, 0), call(GETTID, 0, 0, 0));
    // Children have the variable and the descriptor, too; the tool waits for the one that it launched.
    if call(GETSID, 0, 0, 0) != process {
        return;
    }
    let me = i32::try_from(thread).unwrap_or(-1);
    loop {
        match STOPPING.compare_exchange(0, me, Ordering::Acquire, Ordering::Relaxed) {
            Ok(_) => break,
            // A signal handler of this very thread.
            Err(owner) if owner == me => return,
            Err(_) => {
                call(SCHED_YIELD, 0, 0, 0);
            }
        }
    }
    let mut line = [b'\n'; LINE];
    let bytes = name.as_bytes();
    let length = bytes.len().min(LINE - 1);
    line[..length].copy_from_slice(&bytes[..length]);
    let written = call(WRITE, channel as usize, line.as_ptr().expose_provenance(), length + 1);
    if written == (length + 1) as isize {
        call(TGKILL, process as usize, thread as usize, SIGSTOP);
    }
    STOPPING.store(0, Ordering::Release);
}

/// The descriptor that the environment names.
fn find() -> i32 {
    let file = open(b"/proc/self/environ\0");
    if file < 0 {
        return NOBODY;
    }
    let mut chunk = [0u8; 512];
    // How much of the key was matched in this variable; absent when it is another one.
    let (mut matched, mut number) = (Some(0), None);
    let found = 'found: loop {
        let count = call(READ, file as usize, chunk.as_mut_ptr().expose_provenance(), chunk.len());
        let Ok(count @ 1..) = usize::try_from(count) else {
            break number;
        };
        for &byte in &chunk[..count.min(chunk.len())] {
            match (byte, matched) {
                (0, _) if number.is_some() => break 'found number,
                (0, _) => matched = Some(0),
                (byte, Some(at)) if at < KEY.len() => matched = (byte == KEY[at]).then_some(at + 1),
                (b'0'..=b'9', Some(_)) => number = Some(number.unwrap_or(0) * 10 + i32::from(byte - b'0')),
                (_, Some(_)) => matched = None,
                (_, None) => {}
            }
        }
    };
    call(CLOSE, file as usize, 0, 0);
    found.unwrap_or(NOBODY)
}

#[cfg(target_arch = "x86_64")]
use x86_64::*;
#[cfg(target_arch = "x86_64")]
mod x86_64 {
    //! Kernel `arch/x86/entry/syscalls/syscall_64.tbl`.
    pub(super) const READ: usize = 0;
    pub(super) const WRITE: usize = 1;
    pub(super) const CLOSE: usize = 3;
    pub(super) const SCHED_YIELD: usize = 24;
    pub(super) const GETPID: usize = 39;
    pub(super) const GETSID: usize = 124;
    pub(super) const GETTID: usize = 186;
    pub(super) const TGKILL: usize = 234;
    const OPEN: usize = 2;
    const O_CLOEXEC: usize = 0o2_000_000;

    pub(super) fn open(path: &[u8]) -> isize {
        call(OPEN, path.as_ptr().expose_provenance(), O_CLOEXEC, 0)
    }

    pub(super) fn call(number: usize, a: usize, b: usize, c: usize) -> isize {
        let result;
        // SAFETY: the callers pass plain numbers, or the addresses of live buffers with their lengths; the kernel changes rcx
        // and r11 beside the result.
        unsafe {
            core::arch::asm!(
                "syscall",
                inlateout("rax") number => result,
                in("rdi") a, in("rsi") b, in("rdx") c,
                lateout("rcx") _, lateout("r11") _,
                options(nostack)
            );
        }
        result
    }
}

#[cfg(target_arch = "aarch64")]
use aarch64::*;
#[cfg(target_arch = "aarch64")]
mod aarch64 {
    //! Kernel `include/uapi/asm-generic/unistd.h`.
    pub(super) const READ: usize = 63;
    pub(super) const WRITE: usize = 64;
    pub(super) const CLOSE: usize = 57;
    pub(super) const SCHED_YIELD: usize = 124;
    pub(super) const GETPID: usize = 172;
    pub(super) const GETSID: usize = 156;
    pub(super) const GETTID: usize = 178;
    pub(super) const TGKILL: usize = 131;
    const OPENAT: usize = 56;
    const O_CLOEXEC: usize = 0o2_000_000;

    pub(super) fn open(path: &[u8]) -> isize {
        const AT_FDCWD: isize = -100;
        call(OPENAT, AT_FDCWD as usize, path.as_ptr().expose_provenance(), O_CLOEXEC)
    }

    pub(super) fn call(number: usize, a: usize, b: usize, c: usize) -> isize {
        let result;
        // SAFETY: the callers pass plain numbers, or the addresses of live buffers with their lengths.
        unsafe {
            core::arch::asm!(
                "svc 0",
                in("x8") number,
                inlateout("x0") a => result,
                in("x1") b, in("x2") c, in("x3") 0usize,
                options(nostack)
            );
        }
        result
    }
}
