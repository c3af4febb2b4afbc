//! Names and default actions of signals (signal(7)).

pub(crate) use libc::{SIGBUS, SIGCHLD, SIGCONT, SIGFPE, SIGILL, SIGKILL, SIGSEGV, SIGSTOP, SIGTRAP};

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
/// The last one.
const SIGRTMAX: i32 = 64;

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

/// The number of a signal, as [`signal_name`] writes it, or counted down from `SIGRTMAX`.
pub(crate) fn signal_number(name: &str) -> Option<i32> {
    if let Some(index) = NAMES.iter().position(|known| *known == name) {
        return i32::try_from(index + 1).ok();
    }
    let (first, rest, sign) = match (name.strip_prefix("SIGRTMIN"), name.strip_prefix("SIGRTMAX")) {
        (Some(rest), _) => (SIGRTMIN, rest, '+'),
        (_, Some(rest)) => (SIGRTMAX, rest, '-'),
        _ => return None,
    };
    let offset = match rest.strip_prefix(sign) {
        None if rest.is_empty() => 0,
        digits => digits?.parse::<i32>().ok()?,
    };
    let number = if sign == '+' { first + offset } else { first - offset };
    (SIGRTMIN..=SIGRTMAX).contains(&number).then_some(number)
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
    fn numbers_are_those_of_the_names() {
        for number in (1..=31).chain(34..=64) {
            assert_eq!(signal_number(&signal_name(number)), Some(number));
        }
        assert_eq!(signal_number("SIGRTMAX"), Some(64));
        assert_eq!(signal_number("SIGRTMAX-2"), Some(62));
        for wrong in ["", "SIG", "SIGRTMIN+31", "SIGRTMIN-1", "SIGRTMAX+1", "SIGRTMIN+-1"] {
            assert_eq!(signal_number(wrong), None, "{wrong}");
        }
    }

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
