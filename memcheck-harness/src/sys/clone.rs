//! A child process that shares our memory until it calls `execve`: the cost does not grow with ours, as that of `fork` does.
//!
//! The child runs one function on a stack of its own, makes raw system calls only, and reports the step that failed through
//! the memory it shares with us. It waits for [`Child::release`] before it does anything, so that it can be seized first.

use std::ffi::{CString, c_char, c_void};
use std::io;
use std::mem::size_of;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::sync::atomic::{AtomicI32, AtomicU32, Ordering};
use std::sync::{Mutex, PoisonError};

use super::raw::syscall;

/// `ADDR_NO_RANDOMIZE` (personality(2)).
const ADDR_NO_RANDOMIZE: usize = 0x0004_0000;
/// How often a program that is open for writing is tried again, and how far apart: half a second in all.
const BUSY_TRIES: i32 = 100;
const BUSY_NAP_NANOSECONDS: i64 = 5_000_000;
const STACK_BYTES: usize = 128 << 10;
const GUARD_BYTES: usize = 64 << 10;
/// Stacks kept for further children: as many as are made at the same time, within reason.
const SPARE_STACKS: usize = 64;

/// Operations on a futex of one process alone (futex(2)).
const WAIT: libc::c_int = libc::FUTEX_WAIT | libc::FUTEX_PRIVATE_FLAG;
const WAKE: libc::c_int = libc::FUTEX_WAKE | libc::FUTEX_PRIVATE_FLAG;

static SPARE: Mutex<Vec<Stack>> = Mutex::new(Vec::new());

/// What the child does to itself before it runs the program.
#[derive(Debug)]
pub(crate) struct Plan {
    /// Path for `execve`.
    pub(crate) program: CString,
    /// `argv`, with `argv[0]`.
    pub(crate) arguments: Vec<CString>,
    /// `envp`.
    pub(crate) environment: Vec<CString>,
    /// Working directory.
    pub(crate) directory: CString,
    /// Files that become 0, 1 and 2; their own numbers are above 2.
    pub(crate) streams: [OwnedFd; 3],
    /// A descriptor that stays open in the program, under its number.
    pub(crate) channel: Option<OwnedFd>,
    /// Turn address-space randomisation off.
    pub(crate) no_randomize: bool,
    /// (resource, soft, hard)
    pub(crate) limits: Vec<(u32, u64, u64)>,
    /// CPU mask.
    pub(crate) cpus: Option<Vec<u64>>,
    /// Be killed when the thread that made it ends (`PR_SET_PDEATHSIG`, prctl(2)).
    pub(crate) dies_with_parent: bool,
    /// The seccomp filter to run under; empty: none.
    pub(crate) filter: Vec<libc::sock_filter>,
}

/// Steps whose failure ends the child.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(i32)]
pub(crate) enum Step {
    /// Changing the working directory.
    Directory = 1,
    /// Installing 0, 1 and 2.
    Streams = 2,
    /// `execve`.
    Execute = 3,
}

/// What the child says of itself; error numbers, 0 for success.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Report {
    /// The step that ended it.
    pub(crate) failed: Option<(Step, i32)>,
    /// `personality`
    pub(crate) no_randomize: i32,
    /// One per entry of [`Plan::limits`].
    pub(crate) limits: Vec<i32>,
    /// `sched_setaffinity`
    pub(crate) cpus: i32,
    /// `seccomp`
    pub(crate) filter: i32,
}

struct Shared {
    plan: Plan,
    argument_pointers: Vec<*const c_char>,
    environment_pointers: Vec<*const c_char>,
    /// 1 once it may go on: a futex.
    go: AtomicU32,
    /// Our process.
    parent: i32,
    step: AtomicI32,
    error: AtomicI32,
    no_randomize: AtomicI32,
    limits: Vec<AtomicI32>,
    cpus: AtomicI32,
    filter: AtomicI32,
}

/// A child that has not run its program yet, or whose end has not been collected. Dropping it kills and collects it: the
/// memory it runs in must outlive it.
pub(crate) struct Child {
    pid: i32,
    shared: Box<Shared>,
    /// Absent only in `drop`.
    stack: Option<Stack>,
    gone: bool,
}

/// Makes the child; it waits to be released.
///
/// # Errors
/// `EAGAIN`, `ENOMEM`: no room for another process.
pub(crate) fn create(plan: Plan) -> io::Result<Child> {
    let pointers = |strings: &[CString]| {
        let mut all: Vec<*const c_char> = strings.iter().map(|one| one.as_ptr()).collect();
        all.push(std::ptr::null());
        all
    };
    let shared = Box::new(Shared {
        argument_pointers: pointers(&plan.arguments),
        environment_pointers: pointers(&plan.environment),
        go: AtomicU32::new(0),
        parent: i32::try_from(std::process::id()).unwrap_or(0),
        step: AtomicI32::new(0),
        error: AtomicI32::new(0),
        no_randomize: AtomicI32::new(0),
        limits: plan.limits.iter().map(|_| AtomicI32::new(0)).collect(),
        cpus: AtomicI32::new(0),
        filter: AtomicI32::new(0),
        plan,
    });
    let stack = Stack::spare().map_or_else(Stack::new, Ok)?;
    let argument = (&raw const *shared).cast_mut().cast::<c_void>();
    let all = u64::MAX;
    let mut before = 0u64;
    // SAFETY: the raw rt_sigprocmask takes masks of 8 bytes. All signals, libc's internal ones too, stay blocked while the
    // child shares our handlers. The stack and `shared` live until the child has run its program or is collected (`Child`
    // owns both and sees to it in `drop`); the child touches nothing of ours but these.
    let (pid, error) = unsafe {
        libc::syscall(
            libc::SYS_rt_sigprocmask,
            libc::SIG_SETMASK,
            &raw const all,
            &raw mut before,
            8,
        );
        let pid = libc::clone(child_main, stack.top(), libc::CLONE_VM | libc::SIGCHLD, argument);
        let error = io::Error::last_os_error();
        libc::syscall(
            libc::SYS_rt_sigprocmask,
            libc::SIG_SETMASK,
            &raw const before,
            std::ptr::null_mut::<u64>(),
            8,
        );
        (pid, error)
    };
    if pid == -1 {
        return Err(error);
    }
    Ok(Child {
        pid,
        shared,
        stack: Some(stack),
        gone: false,
    })
}

impl Child {
    /// Its process id.
    pub(crate) fn pid(&self) -> i32 {
        self.pid
    }

    /// Lets it go on to `execve`.
    pub(crate) fn release(&self) -> io::Result<()> {
        let go = &self.shared.go;
        go.store(1, Ordering::SeqCst);
        // SAFETY: wakes whoever waits at this address of our own, which is the child alone.
        let woken = unsafe { libc::syscall(libc::SYS_futex, go.as_ptr(), WAKE, 1) };
        if woken == -1 {
            return Err(io::Error::last_os_error());
        }
        Ok(())
    }

    /// What it said of itself.
    pub(crate) fn report(&self) -> Report {
        let shared = &*self.shared;
        let error = shared.error.load(Ordering::SeqCst);
        let failed = match shared.step.load(Ordering::SeqCst) {
            1 => Some((Step::Directory, error)),
            2 => Some((Step::Streams, error)),
            3 => Some((Step::Execute, error)),
            _ => None,
        };
        Report {
            failed,
            no_randomize: shared.no_randomize.load(Ordering::SeqCst),
            limits: shared.limits.iter().map(|one| one.load(Ordering::SeqCst)).collect(),
            cpus: shared.cpus.load(Ordering::SeqCst),
            filter: shared.filter.load(Ordering::SeqCst),
        }
    }

    /// To be called when the caller has seen it run its program, or has collected its end: it is nobody's memory any more.
    pub(crate) fn went_away(mut self) {
        self.gone = true;
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        if !self.gone {
            let _ = super::process::kill(self.pid, libc::SIGKILL);
            // Stops on the way do not matter: a killed tracee leaves them by itself.
            loop {
                match super::wait::one(self.pid, true) {
                    Ok(Some(super::wait::Status::Exited(_) | super::wait::Status::Killed(_))) => break,
                    Err(error) if error.kind() != io::ErrorKind::Interrupted => break,
                    _ => {}
                }
            }
        }
        if let Some(stack) = self.stack.take() {
            stack.keep();
        }
    }
}

impl std::fmt::Debug for Child {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Child({})", self.pid)
    }
}

struct Stack {
    base: *mut c_void,
}

// SAFETY: the mapping belongs to whoever holds this, on any thread.
unsafe impl Send for Stack {}

impl Stack {
    /// One that an earlier child has left.
    fn spare() -> Option<Self> {
        SPARE.lock().unwrap_or_else(PoisonError::into_inner).pop()
    }

    /// For a further child: the last one is gone, with its program or for good.
    fn keep(self) {
        let mut spare = SPARE.lock().unwrap_or_else(PoisonError::into_inner);
        if spare.len() < SPARE_STACKS {
            spare.push(self);
        }
    }

    fn new() -> io::Result<Self> {
        // SAFETY: a new private mapping; its lowest part is made inaccessible.
        unsafe {
            let base = libc::mmap(
                std::ptr::null_mut(),
                STACK_BYTES + GUARD_BYTES,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE,
                -1,
                0,
            );
            if base == libc::MAP_FAILED {
                return Err(io::Error::last_os_error());
            }
            let stack = Self { base };
            if libc::mprotect(base, GUARD_BYTES, libc::PROT_NONE) != 0 {
                return Err(io::Error::last_os_error());
            }
            Ok(stack)
        }
    }

    fn top(&self) -> *mut c_void {
        // SAFETY: one past the end of the mapping, aligned to a page.
        unsafe { self.base.byte_add(STACK_BYTES + GUARD_BYTES) }
    }
}

impl Drop for Stack {
    fn drop(&mut self) {
        // SAFETY: the mapping is ours, and its only user is gone (see `Child`).
        unsafe { libc::munmap(self.base, STACK_BYTES + GUARD_BYTES) };
    }
}

/// One raw call with up to five arguments.
///
/// # Safety
/// As [`syscall`].
unsafe fn call(number: libc::c_long, a: usize, b: usize, c: usize, d: usize, e: usize) -> isize {
    // SAFETY: the caller's.
    unsafe { syscall(number, [a, b, c, d, e, 0]) }
}

/// The error number of a result, 0 for success.
#[expect(clippy::cast_possible_truncation, reason = "error numbers are below 4096")]
fn errno(result: isize) -> i32 {
    if (-4095..0).contains(&result) {
        result.wrapping_neg() as i32
    } else {
        0
    }
}

/// What the child does. No allocation, no lock, no libc call, nothing that could panic.
#[expect(clippy::cast_sign_loss, reason = "descriptors and flags are not negative")]
extern "C" fn child_main(argument: *mut c_void) -> libc::c_int {
    // SAFETY: `create` passed a `Shared` that outlives this function. The calls get plain numbers or pointers into it, or
    // to locals; those that are not allowed to fail end the child.
    unsafe {
        let shared = &*argument.cast::<Shared>();
        let plan = &shared.plan;
        let fail = |step: Step, error: i32| -> ! {
            shared.error.store(error, Ordering::SeqCst);
            shared.step.store(step as i32, Ordering::SeqCst);
            loop {
                call(libc::SYS_exit_group, 127, 0, 0, 0, 0);
            }
        };

        // Nobody lets us go when our parent has ended: its thread from now on, or all of it before.
        let dies = |signal: libc::c_int| call(libc::SYS_prctl, libc::PR_SET_PDEATHSIG as usize, signal as usize, 0, 0, 0);
        dies(libc::SIGKILL);
        if call(libc::SYS_getppid, 0, 0, 0, 0, 0) != shared.parent as isize {
            loop {
                call(libc::SYS_exit_group, 127, 0, 0, 0, 0);
            }
        }
        while shared.go.load(Ordering::SeqCst) == 0 {
            call(
                libc::SYS_futex,
                shared.go.as_ptr().expose_provenance(),
                WAIT as usize,
                0,
                0,
                0,
            );
        }
        if !plan.dies_with_parent {
            dies(0);
        }

        call(libc::SYS_setsid, 0, 0, 0, 0, 0);
        // Handlers of our parent must not run here, and ignored signals would stay ignored in the program (execve(2)).
        let default = [0usize; 8];
        let mut signal = 1usize;
        while signal <= 64 {
            call(
                libc::SYS_rt_sigaction,
                signal,
                (&raw const default).expose_provenance(),
                0,
                8,
                0,
            );
            signal += 1;
        }

        if plan.no_randomize {
            let now = call(libc::SYS_personality, 0xffff_ffff, 0, 0, 0, 0);
            let result = if errno(now) != 0 {
                now
            } else {
                call(libc::SYS_personality, now as usize | ADDR_NO_RANDOMIZE, 0, 0, 0, 0)
            };
            shared.no_randomize.store(errno(result), Ordering::SeqCst);
        }
        for ((resource, soft, hard), error) in plan.limits.iter().zip(&shared.limits) {
            let limit = [*soft, *hard];
            let result = call(
                libc::SYS_prlimit64,
                0,
                *resource as usize,
                (&raw const limit).expose_provenance(),
                0,
                0,
            );
            error.store(errno(result), Ordering::SeqCst);
        }
        if let Some(mask) = &plan.cpus {
            let bytes = mask.len().wrapping_mul(size_of::<u64>());
            let result = call(libc::SYS_sched_setaffinity, 0, bytes, mask.as_ptr().expose_provenance(), 0, 0);
            shared.cpus.store(errno(result), Ordering::SeqCst);
        }

        let result = call(libc::SYS_chdir, plan.directory.as_ptr().expose_provenance(), 0, 0, 0, 0);
        if errno(result) != 0 {
            fail(Step::Directory, errno(result));
        }
        for (number, stream) in plan.streams.iter().enumerate() {
            let result = call(libc::SYS_dup3, stream.as_raw_fd() as usize, number, 0, 0, 0);
            if errno(result) != 0 {
                fail(Step::Streams, errno(result));
            }
        }
        // Descriptors that our parent left open by mistake are none of the program's. The table is our own copy.
        let closed = call(
            libc::SYS_close_range,
            3,
            u32::MAX as usize,
            libc::CLOSE_RANGE_CLOEXEC as usize,
            0,
            0,
        );
        if errno(closed) != 0 {
            let mut open = 3usize;
            while open < 65536 {
                call(libc::SYS_fcntl, open, libc::F_SETFD as usize, libc::FD_CLOEXEC as usize, 0, 0);
                open += 1;
            }
        }

        if let Some(channel) = &plan.channel {
            call(libc::SYS_fcntl, channel.as_raw_fd() as usize, libc::F_SETFD as usize, 0, 0, 0);
        }

        let nothing = 0u64;
        call(
            libc::SYS_rt_sigprocmask,
            libc::SIG_SETMASK as usize,
            (&raw const nothing).expose_provenance(),
            0,
            8,
            0,
        );
        if !plan.filter.is_empty() {
            let program = libc::sock_fprog {
                len: plan.filter.len() as u16,
                filter: plan.filter.as_ptr().cast_mut(),
            };
            let install = || {
                call(
                    libc::SYS_seccomp,
                    libc::SECCOMP_SET_MODE_FILTER as usize,
                    0,
                    (&raw const program).expose_provenance(),
                    0,
                    0,
                )
            };
            let mut result = install();
            if errno(result) == libc::EACCES {
                // Without CAP_SYS_ADMIN a filter needs the promise that no privileges are gained (seccomp(2)).
                call(libc::SYS_prctl, libc::PR_SET_NO_NEW_PRIVS as usize, 1, 0, 0, 0);
                result = install();
            }
            shared.filter.store(errno(result), Ordering::SeqCst);
        }
        // A child that another thread makes holds a copy of every descriptor until its own exec: also the one with which we, a
        // moment ago, wrote the very program that is to run here (ETXTBSY). That passes within milliseconds.
        let pause: [i64; 2] = [0, BUSY_NAP_NANOSECONDS];
        let mut tries = 0;
        let result = loop {
            let result = call(
                libc::SYS_execve,
                plan.program.as_ptr().expose_provenance(),
                shared.argument_pointers.as_ptr().expose_provenance(),
                shared.environment_pointers.as_ptr().expose_provenance(),
                0,
                0,
            );
            if errno(result) != libc::ETXTBSY || tries == BUSY_TRIES {
                break result;
            }
            tries += 1;
            call(libc::SYS_nanosleep, (&raw const pause).expose_provenance(), 0, 0, 0, 0);
        };
        fail(Step::Execute, errno(result))
    }
}
