//! Names and default actions of signals (signal(7)).

pub(crate) use libc::{SIGBUS, SIGFPE, SIGILL, SIGKILL, SIGSEGV, SIGTRAP};

/// Signals by number on x86-64 and AArch64 (kernel `include/uapi/asm-generic/signal.h`; the two agree).
const NAMES: [&str; 31] = [
    "SIGHUP",
    "SIGINT",
    "SIGQUIT",
    "SIGILL",
    "SIGTRAP",
    "SIGABRT",
    "SIGBUS",
    "SIGFPE",
    "SIGKILL",
    "SIGUSR1",
    "SIGSEGV",
    "SIGUSR2",
    "SIGPIPE",
    "SIGALRM",
    "SIGTERM",
    "SIGSTKFLT",
    "SIGCHLD",
    "SIGCONT",
    "SIGSTOP",
    "SIGTSTP",
    "SIGTTIN",
    "SIGTTOU",
    "SIGURG",
    "SIGXCPU",
    "SIGXFSZ",
    "SIGVTALRM",
    "SIGPROF",
    "SIGWINCH",
    "SIGIO",
    "SIGPWR",
    "SIGSYS",
];

/// First real-time signal as glibc counts them (it keeps 32 and 33 for itself).
const SIGRTMIN: i32 = 34;

/// The usual name of a signal: `SIGSEGV`, `SIGRTMIN+2`; `signal 32` for those that libc keeps for itself.
pub(crate) fn signal_name(signal: i32) -> String {
    let known = usize::try_from(signal - 1).ok().and_then(|index| NAMES.get(index));
    match (known, signal) {
        (Some(name), _) => (*name).to_owned(),
        (None, SIGRTMIN) => "SIGRTMIN".to_owned(),
        (None, 35..=64) => format!("SIGRTMIN+{}", signal - SIGRTMIN),
        (None, _) => format!("signal {signal}"),
    }
}

/// True when the default action of a signal is to end the process (signal(7): Term and Core).
pub(crate) fn ends_by_default(signal: i32) -> bool {
    !matches!(
        signal,
        libc::SIGCHLD
            | libc::SIGCONT
            | libc::SIGSTOP
            | libc::SIGTSTP
            | libc::SIGTTIN
            | libc::SIGTTOU
            | libc::SIGURG
            | libc::SIGWINCH
    )
}

/// True for the signals that stop a process by default.
pub(crate) fn stops_by_default(signal: i32) -> bool {
    matches!(signal, libc::SIGSTOP | libc::SIGTSTP | libc::SIGTTIN | libc::SIGTTOU)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_agree_with_libc() {
        for (number, name) in [
            (libc::SIGHUP, "SIGHUP"),
            (libc::SIGKILL, "SIGKILL"),
            (libc::SIGSEGV, "SIGSEGV"),
            (libc::SIGTERM, "SIGTERM"),
            (libc::SIGCHLD, "SIGCHLD"),
            (libc::SIGTTOU, "SIGTTOU"),
            (libc::SIGSYS, "SIGSYS"),
            (libc::SIGRTMIN(), "SIGRTMIN"),
            (libc::SIGRTMIN() + 3, "SIGRTMIN+3"),
            (32, "signal 32"),
            (0, "signal 0"),
        ] {
            assert_eq!(signal_name(number), name);
        }
    }

    #[test]
    fn default_actions_are_those_of_signal_7() {
        assert!(ends_by_default(libc::SIGTERM) && ends_by_default(libc::SIGRTMIN()) && ends_by_default(libc::SIGPIPE));
        assert!(!ends_by_default(libc::SIGCHLD) && !ends_by_default(libc::SIGTSTP));
        assert!(stops_by_default(libc::SIGTTIN) && !stops_by_default(libc::SIGCONT));
    }
}
