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
    let mut search = Search::new();
    let found = 'found: loop {
        let count = call(READ, file as usize, chunk.as_mut_ptr().expose_provenance(), chunk.len());
        let Ok(count @ 1..) = usize::try_from(count) else {
            break search.ended();
        };
        for &byte in &chunk[..count.min(chunk.len())] {
            if let Some(found) = search.read(byte) {
                break 'found found;
            }
        }
    };
    call(CLOSE, file as usize, 0, 0);
    found
}

/// The variable in an environment that comes byte by byte, each variable with a NUL at its end.
struct Search {
    /// How much of the key was matched in this variable; absent when it is another one.
    matched: Option<usize>,
    /// What the digits behind the key say; absent without one, and when they are no descriptor.
    number: Option<i32>,
}

impl Search {
    const fn new() -> Self {
        Self {
            matched: Some(0),
            number: None,
        }
    }

    /// The answer, once the variable is over.
    fn read(&mut self, byte: u8) -> Option<i32> {
        match (byte, self.matched) {
            (0, Some(at)) if at >= KEY.len() => return Some(self.ended()),
            (0, _) => *self = Self::new(),
            (byte, Some(at)) if at < KEY.len() => self.matched = (byte == KEY[at]).then_some(at + 1),
            (b'0'..=b'9', Some(at)) => {
                let before = if at == KEY.len() { Some(0) } else { self.number };
                self.number = before.and_then(|number| number.checked_mul(10)?.checked_add(i32::from(byte - b'0')));
                self.matched = Some(KEY.len() + 1);
            }
            (_, Some(_)) => {
                self.number = None;
                self.matched = Some(KEY.len() + 1);
            }
            (_, None) => {}
        }
        None
    }

    /// The answer at the end of the environment.
    fn ended(&self) -> i32 {
        self.number.unwrap_or(NOBODY)
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    fn found(environment: &[u8]) -> i32 {
        let mut search = Search::new();
        let mut bytes = environment.iter();
        bytes.find_map(|byte| search.read(*byte)).unwrap_or_else(|| search.ended())
    }

    #[test]
    fn the_variable_is_found_among_others() {
        assert_eq!(found(b"A=1\0MEMCHECK_COOPERATE=12\0B=3\0"), 12);
        assert_eq!(found(b"MEMCHECK_COOPERATE=7"), 7);
        assert_eq!(
            found(b"MEMCHECK_COOPERATE=0\0MEMCHECK_COOPERATE=9\0"),
            0,
            "the first, as getenv(3)"
        );
        for none in [
            &b""[..],
            b"A=1\0",
            b"AMEMCHECK_COOPERATE=1\0",
            b"MEMCHECK_COOPERATED=1\0",
            b"MEMCHECK_COOPERATE\0",
        ] {
            assert_eq!(found(none), NOBODY);
        }
    }

    #[test]
    fn what_is_no_descriptor_asks_for_nothing() {
        for value in [
            "",
            "x",
            "12x",
            "x12",
            "1 2",
            "-1",
            "2147483648",
            "4294967296",
            "99999999999999999999",
            "1x2",
        ] {
            let mut search = Search::new();
            let all = KEY.iter().chain(value.as_bytes()).chain(&[0]);
            let mut answers = all.filter_map(|byte| search.read(*byte));
            assert_eq!(answers.next(), Some(NOBODY), "{value}");
        }
        assert_eq!(found(b"MEMCHECK_COOPERATE=2147483647\0"), i32::MAX);
    }
}
