//! Names of signals as a user writes them, for `exit` and for checkpoints.

use super::cursor::Value;
use super::diagnostic::quote;
use super::suggest;

/// Signals that end a process or can be sent to it, by the names of signal(7).
const SIGNALS: [&str; 31] = [
    "SIGABRT",
    "SIGALRM",
    "SIGBUS",
    "SIGCHLD",
    "SIGCONT",
    "SIGFPE",
    "SIGHUP",
    "SIGILL",
    "SIGINT",
    "SIGIO",
    "SIGKILL",
    "SIGPIPE",
    "SIGPROF",
    "SIGPWR",
    "SIGQUIT",
    "SIGSEGV",
    "SIGSTKFLT",
    "SIGSTOP",
    "SIGSYS",
    "SIGTERM",
    "SIGTRAP",
    "SIGTSTP",
    "SIGTTIN",
    "SIGTTOU",
    "SIGURG",
    "SIGUSR1",
    "SIGUSR2",
    "SIGVTALRM",
    "SIGWINCH",
    "SIGXCPU",
    "SIGXFSZ",
];

/// The name of a signal.
pub(super) fn read(value: &Value<'_>) -> Option<String> {
    let name = value.word("\"SIGSEGV\"")?;
    if SIGNALS.contains(&name) || is_real_time(name) {
        return Some(name.to_owned());
    }
    let full = format!("SIG{}", name.to_ascii_uppercase());
    let hint = match SIGNALS.iter().find(|known| **known == full) {
        Some(known) => format!("did you mean `{known}`?"),
        None => suggest::did_you_mean(name, SIGNALS).unwrap_or_default(),
    };
    value.fail(format!("there is no signal {}", quote(name)), hint)
}

/// `SIGRTMIN`, `SIGRTMIN+n`, `SIGRTMAX`, `SIGRTMAX-n` with n up to 30 (glibc leaves 34 to 64 to programs).
fn is_real_time(name: &str) -> bool {
    let rest = match (name.strip_prefix("SIGRTMIN"), name.strip_prefix("SIGRTMAX")) {
        (Some(""), _) | (_, Some("")) => return true,
        (Some(rest), _) => rest.strip_prefix('+'),
        (_, Some(rest)) => rest.strip_prefix('-'),
        _ => None,
    };
    rest.is_some_and(|n| n.len() <= 2 && n.bytes().all(|b| b.is_ascii_digit()) && n.parse::<u8>().is_ok_and(|n| n <= 30))
}
