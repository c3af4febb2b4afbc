//! `ptrace(2)` requests with typed arguments. Every one needs a tracee of the calling thread; all but `seize` and
//! `interrupt` need it to be stopped, and answer `ESRCH` when it is not or has just been killed.

use std::io;
use std::mem::{MaybeUninit, size_of};

/// Options of every tracee, children included: they die with us, and each new one is seized before it runs.
pub(crate) const OPTIONS: usize = (libc::PTRACE_O_TRACESYSGOOD
    | libc::PTRACE_O_TRACEFORK
    | libc::PTRACE_O_TRACEVFORK
    | libc::PTRACE_O_TRACECLONE
    | libc::PTRACE_O_TRACEEXEC
    | libc::PTRACE_O_TRACEVFORKDONE
    | libc::PTRACE_O_TRACESECCOMP
    | libc::PTRACE_O_EXITKILL) as usize;

/// `PTRACE_O_TRACEEXIT`, to be added where a filter is refused.
pub(crate) const TRACE_EXIT: usize = libc::PTRACE_O_TRACEEXIT as usize;

/// Bytes of a `siginfo_t` (kernel `include/uapi/asm-generic/siginfo.h`: `SI_MAX_SIZE`).
const SIGINFO_BYTES: usize = 128;

/// A `siginfo_t` as the kernel gave it, to be handed back unchanged.
#[derive(Clone, Copy)]
#[repr(C, align(8))]
pub(crate) struct SigInfo([u8; SIGINFO_BYTES]);

impl SigInfo {
    /// `si_signo`.
    pub(crate) fn signal(&self) -> i32 {
        self.word(0)
    }

    /// `si_code`: positive when the kernel made the signal (sigaction(2)).
    pub(crate) fn code(&self) -> i32 {
        self.word(8)
    }

    /// `si_addr` of a fault: where it happened.
    pub(crate) fn address(&self) -> u64 {
        let mut bytes = [0; 8];
        bytes.copy_from_slice(&self.0[16..24]);
        u64::from_ne_bytes(bytes)
    }

    /// Of a SIGCHLD by the kernel: the child, and the signal that killed it.
    pub(crate) fn killed_child(&self) -> Option<(i32, i32)> {
        matches!(self.code(), libc::CLD_KILLED | libc::CLD_DUMPED).then(|| (self.word(16), self.word(24)))
    }

    fn word(&self, at: usize) -> i32 {
        let mut bytes = [0; 4];
        bytes.copy_from_slice(&self.0[at..at + 4]);
        i32::from_ne_bytes(bytes)
    }
}

fn request(what: libc::c_uint, tid: i32, address: usize, data: usize) -> io::Result<libc::c_long> {
    // SAFETY: the callers below pass pointers only to live, writable places of the size that the request asks for; the
    // other requests take plain numbers.
    let result = unsafe { libc::ptrace(what as _, tid, address, data) };
    if result == -1 {
        return Err(io::Error::last_os_error());
    }
    Ok(result)
}

/// Makes a running process a tracee of this thread, with these options from the first moment.
pub(crate) fn seize(pid: i32, options: usize) -> io::Result<()> {
    request(libc::PTRACE_SEIZE, pid, 0, options).map(drop)
}

/// Replaces the options.
pub(crate) fn set_options(tid: i32, options: usize) -> io::Result<()> {
    request(libc::PTRACE_SETOPTIONS, tid, 0, options).map(drop)
}

/// Asks a running tracee to stop. The answer is a status of `wait`, perhaps another one than [`super::wait::Status::Interrupt`].
pub(crate) fn interrupt(tid: i32) -> io::Result<()> {
    request(libc::PTRACE_INTERRUPT, tid, 0, 0).map(drop)
}

/// Lets it run, delivering `signal` (0: none).
pub(crate) fn cont(tid: i32, signal: i32) -> io::Result<()> {
    request(libc::PTRACE_CONT, tid, 0, usize::try_from(signal).unwrap_or(0)).map(drop)
}

/// Lets it run on from the start of a system call, to the end of that call or to another stop before.
pub(crate) fn call(tid: i32) -> io::Result<()> {
    request(libc::PTRACE_SYSCALL, tid, 0, 0).map(drop)
}

/// As [`call`] from anywhere, delivering `signal` (0: none): it stops at the beginning and at the end of each system call.
pub(crate) fn cont_to_call(tid: i32, signal: i32) -> io::Result<()> {
    request(libc::PTRACE_SYSCALL, tid, 0, usize::try_from(signal).unwrap_or(0)).map(drop)
}

/// Where a thread stands that has stopped for a system call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum CallStop {
    /// Before it.
    Begin,
    /// Behind it, with its result in the registers.
    End,
    /// Before it, at a filter that asks for us.
    Filtered,
}

/// Which of the stops of a system call this is (`PTRACE_GET_SYSCALL_INFO`, Linux 5.3).
///
/// # Errors
/// It is none; this kernel does not tell.
pub(crate) fn call_stop(tid: i32) -> io::Result<CallStop> {
    const GET_SYSCALL_INFO: libc::c_uint = 0x420e;
    // `struct ptrace_syscall_info` begins with `op`; the kernel writes as much as there is room for.
    let mut info = [0u64; 12];
    request(GET_SYSCALL_INFO, tid, size_of_val(&info), info.as_mut_ptr().addr_exposed())?;
    match info[0].to_ne_bytes()[0] {
        1 => Ok(CallStop::Begin),
        2 => Ok(CallStop::End),
        3 => Ok(CallStop::Filtered),
        _ => Err(io::ErrorKind::InvalidInput.into()),
    }
}

/// Leaves it in its group-stop, from which `SIGCONT` wakes it.
pub(crate) fn listen(tid: i32) -> io::Result<()> {
    request(libc::PTRACE_LISTEN, tid, 0, 0).map(drop)
}

/// Lets it go, delivering `signal` (0: none); a process in a group-stop stays stopped.
pub(crate) fn detach(tid: i32, signal: i32) -> io::Result<()> {
    request(libc::PTRACE_DETACH, tid, 0, usize::try_from(signal).unwrap_or(0)).map(drop)
}

/// Lets it run one instruction.
pub(crate) fn step(tid: i32) -> io::Result<()> {
    request(libc::PTRACE_SINGLESTEP, tid, 0, 0).map(drop)
}

/// The message of an event stop.
pub(crate) fn event_message(tid: i32) -> io::Result<u64> {
    let mut message: libc::c_ulong = 0;
    request(libc::PTRACE_GETEVENTMSG, tid, 0, (&raw mut message).addr_exposed())?;
    Ok(message)
}

/// The siginfo of a signal-delivery-stop.
pub(crate) fn signal_info(tid: i32) -> io::Result<SigInfo> {
    let mut info = SigInfo([0; SIGINFO_BYTES]);
    request(libc::PTRACE_GETSIGINFO, tid, 0, (&raw mut info).addr_exposed())?;
    Ok(info)
}

/// Replaces the siginfo of a signal-delivery-stop.
pub(crate) fn set_signal_info(tid: i32, info: &SigInfo) -> io::Result<()> {
    request(libc::PTRACE_SETSIGINFO, tid, 0, (&raw const *info).addr_exposed()).map(drop)
}

/// The mask of blocked signals, one bit each from signal 1.
pub(crate) fn signal_mask(tid: i32) -> io::Result<u64> {
    let mut mask = 0u64;
    request(libc::PTRACE_GETSIGMASK, tid, size_of::<u64>(), (&raw mut mask).addr_exposed())?;
    Ok(mask)
}

/// Replaces it.
pub(crate) fn set_signal_mask(tid: i32, mask: u64) -> io::Result<()> {
    request(
        libc::PTRACE_SETSIGMASK,
        tid,
        size_of::<u64>(),
        (&raw const mask).addr_exposed(),
    )
    .map(drop)
}

/// Fills `registers` from a register set (`NT_*` of elf.h); returns how many words there are.
pub(crate) fn registers(tid: i32, set: i32, registers: &mut [u64]) -> io::Result<usize> {
    let mut vector = libc::iovec {
        iov_base: registers.as_mut_ptr().cast(),
        iov_len: size_of_val(registers),
    };
    let set = usize::try_from(set).unwrap_or(0);
    request(libc::PTRACE_GETREGSET, tid, set, (&raw mut vector).addr_exposed())?;
    Ok(vector.iov_len / size_of::<u64>())
}

/// Replaces a register set.
pub(crate) fn set_registers(tid: i32, set: i32, registers: &[u64]) -> io::Result<()> {
    let mut vector = libc::iovec {
        iov_base: registers.as_ptr().cast_mut().cast(),
        iov_len: size_of_val(registers),
    };
    let set = usize::try_from(set).unwrap_or(0);
    request(libc::PTRACE_SETREGSET, tid, set, (&raw mut vector).addr_exposed()).map(drop)
}

/// One word of a stopped tracee's memory, whatever its protection.
pub(crate) fn peek(tid: i32, address: u64) -> io::Result<u64> {
    // libc's wrapper answers with the word itself, so that -1 is no failure: the raw call stores it (ptrace(2), "C
    // library/kernel differences").
    let mut word = MaybeUninit::<u64>::zeroed();
    // SAFETY: PTRACE_PEEKDATA of the raw call writes one word to the address in its fourth argument.
    let (result, word) = unsafe {
        let result = libc::syscall(
            libc::SYS_ptrace,
            libc::PTRACE_PEEKDATA as libc::c_long,
            libc::c_long::from(tid),
            address,
            word.as_mut_ptr(),
        );
        (result, word.assume_init())
    };
    if result == -1 {
        return Err(io::Error::last_os_error());
    }
    Ok(word)
}

/// Writes one word, also into text: the page becomes a private copy.
pub(crate) fn poke(tid: i32, address: u64, word: u64) -> io::Result<()> {
    let address = usize::try_from(address).map_err(|_| io::ErrorKind::InvalidInput)?;
    let word = usize::try_from(word).map_err(|_| io::ErrorKind::InvalidInput)?;
    request(libc::PTRACE_POKEDATA, tid, address, word).map(drop)
}

/// Sets a debug register of a stopped thread (x86-64: 0 to 3 are addresses, 6 the status, 7 the control register).
///
/// # Errors
/// `EINVAL`, `ENOSPC`: no such watchpoint, or no register left; `ENODEV` and the like on machines without.
#[cfg(target_arch = "x86_64")]
pub(crate) fn set_debug_register(tid: i32, number: usize, value: u64) -> io::Result<()> {
    let value = usize::try_from(value).map_err(|_| io::ErrorKind::InvalidInput)?;
    request(libc::PTRACE_POKEUSER, tid, debug_register(number), value).map(drop)
}

/// Reads a debug register of a stopped thread.
///
/// # Errors
/// As [`set_debug_register`].
#[cfg(target_arch = "x86_64")]
pub(crate) fn get_debug_register(tid: i32, number: usize) -> io::Result<u64> {
    let mut value = 0u64;
    // SAFETY: PTRACE_PEEKUSER of the raw call writes one word to the address in its fourth argument (as `peek`).
    let result = unsafe {
        libc::syscall(
            libc::SYS_ptrace,
            libc::PTRACE_PEEKUSER as libc::c_long,
            libc::c_long::from(tid),
            debug_register(number),
            &raw mut value,
        )
    };
    if result == -1 {
        return Err(io::Error::last_os_error());
    }
    Ok(value)
}

/// Offset of `u_debugreg[number]` in the user area (sys/user.h).
#[cfg(target_arch = "x86_64")]
fn debug_register(number: usize) -> usize {
    std::mem::offset_of!(libc::user, u_debugreg) + number * size_of::<u64>()
}

/// Writes one word as the program itself could: never into memory that it may not write.
pub(crate) fn store(pid: i32, address: u64, word: u64) -> io::Result<()> {
    store_bytes(pid, address, &word.to_ne_bytes())
}

/// Writes two bytes in the same way, and nothing beside them.
pub(crate) fn store_u16(pid: i32, address: u64, value: u16) -> io::Result<()> {
    store_bytes(pid, address, &value.to_ne_bytes())
}

fn store_bytes(pid: i32, address: u64, bytes: &[u8]) -> io::Result<()> {
    let local = libc::iovec {
        iov_base: bytes.as_ptr().cast_mut().cast(),
        iov_len: bytes.len(),
    };
    let remote = libc::iovec {
        iov_base: std::ptr::without_provenance_mut(usize::try_from(address).map_err(|_| io::ErrorKind::InvalidInput)?),
        iov_len: bytes.len(),
    };
    // SAFETY: the local vector points to `bytes`, which is only read; the remote one is an address of another process.
    match unsafe { libc::process_vm_writev(pid, &raw const local, 1, &raw const remote, 1, 0) } {
        -1 => Err(io::Error::last_os_error()),
        count if usize::try_from(count) == Ok(bytes.len()) => Ok(()),
        _ => Err(io::ErrorKind::WriteZero.into()),
    }
}

/// Two bytes of a stopped tracee's memory.
pub(crate) fn load_u16(tid: i32, address: u64) -> io::Result<u16> {
    let word = peek(tid, address & !7)?.to_ne_bytes();
    let at = usize::try_from(address & 7).unwrap_or(0);
    match word.get(at..at + 2) {
        Some(bytes) => Ok(u16::from_ne_bytes([bytes[0], bytes[1]])),
        // A semaphore is aligned to two bytes (sys/sdt.h).
        None => Err(io::ErrorKind::InvalidInput.into()),
    }
}

/// Numbers for pointers that only the kernel follows.
trait AddrExposed {
    fn addr_exposed(self) -> usize;
}

impl<T> AddrExposed for *mut T {
    fn addr_exposed(self) -> usize {
        self.expose_provenance()
    }
}

impl<T> AddrExposed for *const T {
    fn addr_exposed(self) -> usize {
        self.expose_provenance()
    }
}
