//! Small calls about processes and descriptors: signals to them, shared address spaces, CPUs, limits, polling.

use std::ffi::CStr;
use std::io;
use std::os::fd::{AsFd as _, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::time::{Duration, Instant};

/// `KCMP_VM` (kcmp(2)).
const KCMP_VM: libc::c_long = 1;

/// Words of the largest CPU mask that we ask for: 65536 CPUs.
const MAX_CPU_WORDS: usize = 1024;

/// Bytes of a page.
pub(crate) fn page_bytes() -> u64 {
    // SAFETY: no pointers; this name is known everywhere.
    u64::try_from(unsafe { libc::sysconf(libc::_SC_PAGESIZE) }).unwrap_or(4096)
}

/// True when we run as root.
pub(crate) fn is_root() -> bool {
    user() == 0
}

/// Our effective user.
pub(crate) fn user() -> u32 {
    // SAFETY: no arguments, cannot fail.
    unsafe { libc::geteuid() }
}

/// Sends a signal to a process (or, negative, to a process group). Only for ids that we have not collected yet: they
/// cannot name another process.
pub(crate) fn kill(pid: i32, signal: i32) -> io::Result<()> {
    // SAFETY: plain numbers.
    if unsafe { libc::kill(pid, signal) } == -1 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

/// Sends a signal to one thread.
pub(crate) fn kill_thread(pid: i32, tid: i32, signal: i32) -> io::Result<()> {
    // SAFETY: plain numbers.
    if unsafe { libc::syscall(libc::SYS_tgkill, pid, tid, signal) } == -1 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

/// A process that is held by more than its id, which may be given to a stranger (pidfd_open(2), Linux 5.3).
pub(crate) struct Held(OwnedFd);

/// Holds a process.
///
/// # Errors
/// `ESRCH`: it is gone; `ENOSYS`, `EPERM`: the kernel or a filter does not know the call.
pub(crate) fn hold(pid: i32) -> io::Result<Held> {
    // SAFETY: plain numbers; the result is a new descriptor that nobody else owns, close-on-exec.
    unsafe {
        match i32::try_from(libc::syscall(libc::SYS_pidfd_open, pid, 0)) {
            Ok(number @ 0..) => Ok(Held(OwnedFd::from_raw_fd(number))),
            _ => Err(io::Error::last_os_error()),
        }
    }
}

impl Held {
    /// Sends a signal to it.
    ///
    /// # Errors
    /// `ESRCH`: it is gone; `EPERM`: it is another user's.
    pub(crate) fn kill(&self, signal: i32) -> io::Result<()> {
        let no_info = std::ptr::null::<libc::siginfo_t>();
        // SAFETY: the descriptor is open; without an info the kernel fills in that of kill(2).
        match unsafe { libc::syscall(libc::SYS_pidfd_send_signal, self.0.as_raw_fd(), signal, no_info, 0) } {
            -1 => Err(io::Error::last_os_error()),
            _ => Ok(()),
        }
    }

    /// Waits until it has ended; false when the time is over first.
    pub(crate) fn ends_within(&self, milliseconds: i32) -> bool {
        let over = Instant::now() + Duration::from_millis(u64::try_from(milliseconds).unwrap_or(0));
        loop {
            let left = over.saturating_duration_since(Instant::now()).as_millis();
            match readable(&[self.0.as_fd()], i32::try_from(left).unwrap_or(i32::MAX)) {
                // A tick.
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                ready => return ready.is_ok_and(|ready| ready.first() == Some(&true)),
            }
        }
    }
}

/// Whether two threads share their address space. `None` when this kernel cannot tell (no `kcmp`).
pub(crate) fn same_memory(one: i32, other: i32) -> Option<bool> {
    // SAFETY: plain numbers.
    match unsafe { libc::syscall(libc::SYS_kcmp, one, other, KCMP_VM, 0, 0) } {
        0 => Some(true),
        -1 => None,
        _ => Some(false),
    }
}

/// The CPUs that this thread may use, as a mask of 64-bit words. `None` when the kernel does not say.
pub(crate) fn allowed_cpus() -> Option<Vec<u64>> {
    let mut mask = vec![0u64; MAX_CPU_WORDS];
    // SAFETY: the mask has the size that is given; the raw call returns the number of bytes it wrote.
    let bytes = unsafe { libc::syscall(libc::SYS_sched_getaffinity, 0, size_of_val(&*mask), mask.as_mut_ptr()) };
    mask.truncate(usize::try_from(bytes).ok()?.div_ceil(8));
    Some(mask)
}

/// Soft and hard limit of a resource of our own; the largest value means unlimited.
pub(crate) fn limit(resource: u32) -> io::Result<(u64, u64)> {
    let mut limit = libc::rlimit {
        rlim_cur: 0,
        rlim_max: 0,
    };
    // SAFETY: `limit` is a valid place for the result.
    if unsafe { libc::getrlimit(resource as _, &raw mut limit) } == -1 {
        return Err(io::Error::last_os_error());
    }
    Ok((limit.rlim_cur, limit.rlim_max))
}

/// As [`limit`], of another process.
///
/// # Errors
/// It is gone; it runs as another user and we are not privileged (prlimit(2)).
pub(crate) fn limit_of(pid: i32, resource: u32) -> io::Result<(u64, u64)> {
    let mut limit = libc::rlimit64 {
        rlim_cur: 0,
        rlim_max: 0,
    };
    // SAFETY: nothing is set, and `limit` is a valid place for the result.
    if unsafe { libc::prlimit64(pid, resource as _, std::ptr::null(), &raw mut limit) } == -1 {
        return Err(io::Error::last_os_error());
    }
    Ok((limit.rlim_cur, limit.rlim_max))
}

/// The same open file under a number of at least 3, so that it survives when 0, 1 and 2 are replaced. Close-on-exec.
pub(crate) fn above_standard(file: OwnedFd) -> io::Result<OwnedFd> {
    if file.as_raw_fd() > 2 {
        return Ok(file);
    }
    // SAFETY: the descriptor is open; the result is a new one that nobody else owns.
    unsafe {
        match libc::fcntl(file.as_raw_fd(), libc::F_DUPFD_CLOEXEC, 3) {
            -1 => Err(io::Error::last_os_error()),
            number => Ok(OwnedFd::from_raw_fd(number)),
        }
    }
}

/// Waits until one of the files can be read or is at its end; negative `milliseconds` wait for ever. Says which.
pub(crate) fn readable(files: &[BorrowedFd<'_>], milliseconds: i32) -> io::Result<Vec<bool>> {
    let mut polled: Vec<libc::pollfd> = files
        .iter()
        .map(|file| libc::pollfd {
            fd: file.as_raw_fd(),
            events: libc::POLLIN,
            revents: 0,
        })
        .collect();
    let count = libc::nfds_t::try_from(polled.len()).unwrap_or(0);
    // SAFETY: the array has `count` entries.
    match unsafe { libc::poll(polled.as_mut_ptr(), count, milliseconds) } {
        -1 => Err(io::Error::last_os_error()),
        _ => Ok(polled.iter().map(|one| one.revents != 0).collect()),
    }
}

/// The `st_dev` of a device as `/proc/PID/maps` writes it: major and minor number (makedev(3)).
pub(crate) fn device((major, minor): (u32, u32)) -> u64 {
    libc::makedev(major, minor)
}

/// Bytes of the platform strings that the kernel puts on the stack of every new program, ends included (`AT_PLATFORM`,
/// `AT_BASE_PLATFORM`; kernel `fs/binfmt_elf.c`, `create_elf_tables`).
pub(crate) fn platform_bytes() -> usize {
    [libc::AT_PLATFORM, libc::AT_BASE_PLATFORM]
        .into_iter()
        .map(|kind| {
            // SAFETY: getauxval returns 0 or the address of a string that lives as long as the process.
            unsafe {
                match libc::getauxval(kind) {
                    0 => 0,
                    address => {
                        let address = std::ptr::with_exposed_provenance::<libc::c_char>(usize::try_from(address).unwrap_or(0));
                        CStr::from_ptr(address).count_bytes() + 1
                    }
                }
            }
        })
        .sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[expect(clippy::disallowed_methods, reason = "a process that nobody traces")]
    fn an_end_is_awaited_through_all_ticks() {
        let mut child = std::process::Command::new("sleep").arg("0.4").spawn().unwrap();
        let held = hold(i32::try_from(child.id()).unwrap()).unwrap();
        let ticker = crate::sys::timer::Ticker::new().unwrap();
        ticker.every(10);
        assert!(!held.ends_within(50));
        assert!(held.ends_within(20_000));
        drop(ticker);
        assert!(child.wait().unwrap().success());
    }

    #[test]
    fn facts_about_ourselves() {
        let cpus: u32 = allowed_cpus().unwrap().iter().map(|word| word.count_ones()).sum();
        assert!(cpus >= 1);
        let (soft, hard) = limit(libc::RLIMIT_NOFILE).unwrap();
        assert!(soft > 0 && soft <= hard);
        assert_eq!(limit_of(0, libc::RLIMIT_NOFILE as _).unwrap(), (soft, hard));
        let us = i32::try_from(std::process::id()).unwrap();
        assert!(same_memory(us, us).unwrap_or(true));
        assert!((1..64).contains(&platform_bytes()));
    }

    #[test]
    fn a_process_that_is_held_is_that_process() {
        let ours = hold(i32::try_from(std::process::id()).unwrap()).unwrap();
        ours.kill(0).unwrap();
        assert!(!ours.ends_within(0));
        assert_eq!(hold(1 << 30).err().unwrap().raw_os_error(), Some(libc::ESRCH));
    }
}
