//! Waiting for traced processes. Statuses are decoded by hand: nix refuses real-time signals and loses the status with them.

use std::io;
use std::mem::MaybeUninit;

/// `__WNOTHREAD` (wait(2)): only children and tracees of the calling thread.
const WNOTHREAD: libc::c_int = 0x2000_0000;

/// `PTRACE_EVENT_STOP` (ptrace(2)).
const PTRACE_EVENT_STOP: i32 = 128;

/// What a wait status means for a thread that was seized (ptrace(2), "Stopped states").
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Status {
    /// It is gone, with this exit code.
    Exited(i32),
    /// It is gone, killed by this signal.
    Killed(i32),
    /// Signal-delivery-stop: the signal has not reached the program yet.
    Signal(i32),
    /// Group-stop: the whole process was stopped by a signal.
    Group,
    /// The stop of `PTRACE_INTERRUPT`, of a new tracee, or after `SIGCONT`; nothing happened in the program.
    Interrupt,
    /// The end of a system call, for a thread that was let go with [`super::ptrace::call`].
    Call,
    /// A `PTRACE_EVENT_*` stop.
    Event(Event),
}

/// `PTRACE_EVENT_*`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Event {
    /// `fork`, `clone` (with any exit signal): the event message is the new thread id.
    Clone,
    /// `vfork`: as `Clone`, and the caller waits in the kernel until the child has called `execve` or ended.
    Vfork,
    /// That wait is over.
    VforkDone,
    /// A new program was loaded; the event message is the former thread id.
    Exec,
    /// The thread is about to go; its memory is still there.
    Exit,
    /// A seccomp filter said `SECCOMP_RET_TRACE`; the event message is the filter's data.
    Seccomp,
}

fn decode(status: i32) -> Status {
    let signal = (status >> 8) & 0xff;
    if status & 0x7f == 0 {
        return Status::Exited(signal);
    }
    if status & 0xff != 0x7f {
        return Status::Killed(status & 0x7f);
    }
    match status >> 16 {
        0 if signal == libc::SIGTRAP | 0x80 => Status::Call,
        0 => Status::Signal(signal),
        libc::PTRACE_EVENT_FORK | libc::PTRACE_EVENT_CLONE => Status::Event(Event::Clone),
        libc::PTRACE_EVENT_VFORK => Status::Event(Event::Vfork),
        libc::PTRACE_EVENT_VFORK_DONE => Status::Event(Event::VforkDone),
        libc::PTRACE_EVENT_EXEC => Status::Event(Event::Exec),
        libc::PTRACE_EVENT_EXIT => Status::Event(Event::Exit),
        libc::PTRACE_EVENT_SECCOMP => Status::Event(Event::Seccomp),
        PTRACE_EVENT_STOP if super::names::stops_by_default(signal) => Status::Group,
        // An event that we did not ask for only wants to go on.
        _ => Status::Interrupt,
    }
}

/// Takes the next status of one child or tracee of this thread. `None`: nothing yet (only with `block` false).
///
/// # Errors
/// `EINTR` (the tick, or another signal), `ECHILD` (not ours, or already collected).
pub(crate) fn one(tid: i32, block: bool) -> io::Result<Option<Status>> {
    let mut status = 0;
    let flags = libc::__WALL | WNOTHREAD | if block { 0 } else { libc::WNOHANG };
    // SAFETY: `status` is a valid place for the result.
    match unsafe { libc::waitpid(tid, &raw mut status, flags) } {
        -1 => Err(io::Error::last_os_error()),
        0 => Ok(None),
        _ => Ok(Some(decode(status))),
    }
}

/// What a child that nobody traces did next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Child {
    /// Stopped by this signal, all threads of it.
    Stopped(i32),
    /// Gone, with this exit code.
    Exited(i32),
    /// Gone, killed by this signal.
    Killed(i32),
}

/// Waits for a child that is not traced to stop or end. A stop is taken; an end stays to be collected by [`one`], and with it
/// the id stays the child's.
///
/// # Errors
/// `EINTR`; `ECHILD` when it is not ours.
pub(crate) fn untraced(pid: i32) -> io::Result<Child> {
    loop {
        let (code, status) = changed(pid, libc::WEXITED | libc::WSTOPPED | libc::WNOWAIT)?;
        match code {
            libc::CLD_EXITED => return Ok(Child::Exited(status)),
            libc::CLD_KILLED | libc::CLD_DUMPED => return Ok(Child::Killed(status)),
            _ => {
                if let (libc::CLD_STOPPED, signal) = changed(pid, libc::WSTOPPED | libc::WNOHANG)? {
                    return Ok(Child::Stopped(signal));
                }
                // Continued or killed since.
            }
        }
    }
}

/// `si_code` and `si_status` of waitid(2); zeros when there was nothing.
fn changed(pid: i32, flags: libc::c_int) -> io::Result<(i32, i32)> {
    let id = libc::id_t::try_from(pid).map_err(|_| io::ErrorKind::InvalidInput)?;
    let mut info = MaybeUninit::<libc::siginfo_t>::zeroed();
    // SAFETY: `info` is a valid place for the result; zeroed bytes are a valid siginfo_t, and its fields are those of a child.
    unsafe {
        match libc::waitid(libc::P_PID, id, info.as_mut_ptr(), flags | libc::__WALL | WNOTHREAD) {
            -1 => Err(io::Error::last_os_error()),
            _ => {
                let info = info.assume_init();
                Ok((info.si_code, info.si_status()))
            }
        }
    }
}

/// True when the kernel holds this thread as a child or tracee of the calling thread: alive, or ended and not yet collected.
/// Nothing is collected. Unlike a look at `/proc` it cannot be fooled by an id that was given to a stranger meanwhile.
pub(crate) fn is_ours(tid: i32) -> bool {
    let Ok(id) = libc::id_t::try_from(tid) else {
        return false;
    };
    let mut info = MaybeUninit::<libc::siginfo_t>::zeroed();
    let flags = libc::WEXITED | libc::WSTOPPED | libc::WNOWAIT | libc::WNOHANG | libc::__WALL | WNOTHREAD;
    // SAFETY: `info` is a valid place for the result, which is not read.
    unsafe { libc::waitid(libc::P_PID, id, info.as_mut_ptr(), flags) == 0 }
}

/// Waits until a child of this thread has ended, and leaves its status, and with it its id, to be collected. False: it stopped, as
/// one that has made us its tracer (`PTRACE_TRACEME`); the stops of those are told to whoever waits (wait(2), "Linux notes").
///
/// # Errors
/// `EINTR`; `ECHILD` when it is not ours.
pub(crate) fn has_ended(pid: i32) -> io::Result<bool> {
    let (code, _) = changed(pid, libc::WEXITED | libc::WNOWAIT)?;
    Ok(matches!(code, libc::CLD_EXITED | libc::CLD_KILLED | libc::CLD_DUMPED))
}

/// The signal that a child has stopped for; the stop is taken. `None`: it has not, or not any more.
///
/// # Errors
/// `ECHILD` when it is not ours.
pub(crate) fn stopped(pid: i32) -> io::Result<Option<i32>> {
    let (code, status) = changed(pid, libc::WSTOPPED | libc::WNOHANG)?;
    Ok(matches!(code, libc::CLD_TRAPPED | libc::CLD_STOPPED).then_some(status & 0x7f))
}

/// Collects a tracee of any thread of ours if it has ended. Its stops are left alone.
pub(crate) fn collect_ended(tid: i32) {
    let Ok(id) = libc::id_t::try_from(tid) else { return };
    let flags = libc::WEXITED | libc::WNOHANG | libc::__WALL;
    // SAFETY: `info` is a valid place for the results; zeroed bytes are a valid siginfo_t.
    unsafe {
        let mut info = MaybeUninit::<libc::siginfo_t>::zeroed();
        let found = libc::waitid(libc::P_PID, id, info.as_mut_ptr(), flags | libc::WNOWAIT) == 0;
        let code = info.assume_init().si_code;
        if found && matches!(code, libc::CLD_EXITED | libc::CLD_KILLED | libc::CLD_DUMPED) {
            libc::waitid(libc::P_PID, id, info.as_mut_ptr(), flags);
        }
    }
}

/// The id of any child or tracee of this thread that has a status to collect, without collecting it: a status that belongs
/// to somebody else on this thread stays theirs. `None`: nothing yet (only with `block` false).
///
/// # Errors
/// `EINTR`; `ECHILD` when this thread has no children and no tracees at all.
pub(crate) fn peek(block: bool) -> io::Result<Option<i32>> {
    let mut info = MaybeUninit::<libc::siginfo_t>::zeroed();
    let flags = libc::WEXITED | libc::WSTOPPED | libc::WNOWAIT | libc::__WALL | WNOTHREAD | if block { 0 } else { libc::WNOHANG };
    // SAFETY: `info` is a valid place for the result; zeroed bytes are a valid siginfo_t, and `si_pid` is set by waitid(2),
    // or stays 0 when there was nothing.
    let (result, pid) = unsafe {
        let result = libc::waitid(libc::P_ALL, 0, info.as_mut_ptr(), flags);
        (result, info.assume_init().si_pid())
    };
    if result == -1 {
        return Err(io::Error::last_os_error());
    }
    Ok((pid != 0).then_some(pid))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_of_status_is_decoded() {
        let stop = |signal: i32, event: i32| (event << 16) | (signal << 8) | 0x7f;
        for (raw, status) in [
            (3 << 8, Status::Exited(3)),
            (9, Status::Killed(9)),
            (0x80 | 11, Status::Killed(11)),
            (stop(11, 0), Status::Signal(11)),
            (stop(64, 0), Status::Signal(64)),
            (stop(34, 0), Status::Signal(34)),
            (stop(19, 128), Status::Group),
            (stop(22, 128), Status::Group),
            (stop(5, 128), Status::Interrupt),
            (stop(5 | 0x80, 0), Status::Call),
            (stop(5, 1), Status::Event(Event::Clone)),
            (stop(5, 2), Status::Event(Event::Vfork)),
            (stop(5, 3), Status::Event(Event::Clone)),
            (stop(5, 4), Status::Event(Event::Exec)),
            (stop(5, 5), Status::Event(Event::VforkDone)),
            (stop(5, 6), Status::Event(Event::Exit)),
            (stop(5, 7), Status::Event(Event::Seccomp)),
        ] {
            assert_eq!(decode(raw), status, "{raw:#x}");
        }
    }
}
