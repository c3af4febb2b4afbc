//! Why this machine may refuse to let us trace: what Yama, seccomp and privileges say, in words. Parsers take text; reading
//! is another function.

use std::fs;

use crate::sys::process;

/// `kernel.yama.ptrace_scope` (Documentation/admin-guide/LSM/Yama.rst of the kernel).
const YAMA: &str = "/proc/sys/kernel/yama/ptrace_scope";

/// What is known of the rules for tracing here.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Rules {
    /// Yama's scope; absent without Yama.
    pub(crate) yama: Option<u32>,
    /// A seccomp filter is on this process.
    pub(crate) filtered: bool,
    /// We may trace what Yama keeps from others (`CAP_SYS_PTRACE`).
    pub(crate) privileged: bool,
    /// `/proc/sys` is mounted read-only: no setting can be changed from here.
    pub(crate) read_only: bool,
}

/// A setting that every kernel has.
const ANY_SETTING: &str = "/proc/sys/kernel/randomize_va_space";

/// `CAP_SYS_PTRACE` (capabilities(7)).
const CAP_SYS_PTRACE: u64 = 1 << 19;

/// Of this process, now.
pub(crate) fn rules() -> Rules {
    let status = fs::read("/proc/self/status").unwrap_or_default();
    Rules {
        read_only: settings_are_read_only(),
        yama: fs::read_to_string(YAMA).ok().and_then(|text| text.trim().parse().ok()),
        ..parse_status(&String::from_utf8_lossy(&status))
    }
}

/// Whether a setting of the machine could be opened for writing, whoever we are; nothing is written.
fn settings_are_read_only() -> bool {
    let opened = fs::OpenOptions::new().write(true).open(ANY_SETTING);
    opened.is_err_and(|error| error.kind() == std::io::ErrorKind::ReadOnlyFilesystem)
}

fn parse_status(text: &str) -> Rules {
    let field = |key: &str| {
        text.lines()
            .find_map(|line| line.strip_prefix(key)?.strip_prefix(':'))
            .map(str::trim)
    };
    Rules {
        yama: None,
        read_only: false,
        filtered: field("Seccomp") == Some("2"),
        privileged: field("CapEff")
            .and_then(|hex| u64::from_str_radix(hex, 16).ok())
            .is_some_and(|set| set & CAP_SYS_PTRACE != 0),
    }
}

impl Rules {
    /// What most likely refuses to let us trace a child of ours, and what to do: cause, remedy.
    pub(crate) fn refusal(self) -> (String, String) {
        let (cause, remedy) = match self.yama {
            Some(3) => (
                "Yama forbids all tracing until the next boot (kernel.yama.ptrace_scope = 3)",
                "boot without that setting: it cannot be taken back on a running machine",
            ),
            Some(2) if !self.privileged => {
                return (
                    "Yama lets nobody trace without CAP_SYS_PTRACE (kernel.yama.ptrace_scope = 2)".to_owned(),
                    format!("run as root, or: {}", self.sysctl(1)),
                );
            }
            _ if self.filtered => (
                "a seccomp filter is on this process, as container runtimes and sandboxes install one",
                "allow ptrace there: docker run --cap-add SYS_PTRACE, or --security-opt seccomp=PROFILE that allows ptrace",
            ),
            _ => (
                "neither Yama nor a seccomp filter explains it: a security module (AppArmor, SELinux) may",
                "allow ptrace of one's own children in its profile (SELinux: setsebool deny_ptrace 0)",
            ),
        };
        (cause.to_owned(), remedy.to_owned())
    }

    /// The command that sets Yama's rule, and where it can be run.
    pub(crate) fn sysctl(self, value: u8) -> String {
        let command = format!("sudo sysctl kernel.yama.ptrace_scope={value}");
        if self.read_only {
            format!("{command}  on the host (/proc/sys is read-only here)")
        } else {
            command
        }
    }

    /// Whom else we may attach to: what, and whether that is all of this user's processes.
    pub(crate) fn attaching(self) -> (String, bool) {
        let root = process::user() == 0;
        let (what, all) = match self.yama {
            Some(3) => ("nobody may (kernel.yama.ptrace_scope = 3)", false),
            Some(1 | 2) if !self.privileged => ("not without CAP_SYS_PTRACE (kernel.yama.ptrace_scope is not 0)", false),
            _ if root && self.privileged => ("all processes", true),
            _ if root => ("root's processes only, for want of CAP_SYS_PTRACE", true),
            _ => ("processes of this user that are dumpable", true),
        };
        (what.to_owned(), all)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STATUS: &str = "Name:\tx\nCapPrm:\t0000000000000000\nCapEff:\t000001ffffffffff\nNoNewPrivs:\t0\nSeccomp:\t0\n\
                          Seccomp_filters:\t0\n";

    #[test]
    fn status_tells_privileges_and_filters() {
        let rules = parse_status(STATUS);
        assert!(rules.privileged && !rules.filtered);
        let rules = parse_status("CapEff:\t0000000000000000\nSeccomp:\t2\nSeccomp_filters:\t1\n");
        assert!(!rules.privileged && rules.filtered);
        assert_eq!(parse_status(""), Rules::default());
    }

    #[test]
    fn each_rule_has_its_own_words() {
        let rules = |yama, filtered, privileged| Rules {
            yama,
            filtered,
            privileged,
            read_only: false,
        };
        let in_container = Rules {
            read_only: true,
            ..rules(Some(2), true, false)
        };
        assert!(in_container.refusal().1.contains("on the host (/proc/sys is read-only here)"));
        assert!(rules(Some(3), true, true).refusal().0.contains("ptrace_scope = 3"));
        assert!(rules(Some(2), true, false).refusal().1.contains("sysctl"));
        assert!(rules(Some(2), true, true).refusal().0.contains("seccomp"));
        assert!(rules(None, true, false).refusal().1.contains("SYS_PTRACE"));
        assert!(rules(Some(1), false, false).refusal().0.contains("security module"));
        assert!(!rules(Some(1), false, false).attaching().1);
        assert!(rules(Some(1), false, true).attaching().1);
        assert!(rules(Some(0), false, false).attaching().1);
    }
}
