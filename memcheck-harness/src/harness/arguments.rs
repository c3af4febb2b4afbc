//! The arguments of a test program: what cargo and nextest pass, as libtest-mimic understands it. It knows one filter and not
//! all of libtest's flags; the others are translated, dropped, or handled here.

use std::ffi::OsString;

use libtest_mimic::Arguments;

/// Flags of libtest without a meaning here (they ask for an order or for times).
const DROPPED: [&str; 5] = [
    "--shuffle",
    "--shuffle-seed",
    "--report-time",
    "--ensure-time",
    "--exclude-should-panic",
];
/// The one among them whose value may be the next argument.
const DROPPED_WITH_VALUE: &str = "--shuffle-seed";
/// Options whose value may be the next argument.
const WITH_VALUE: [&str; 6] = ["--test-threads", "--skip", "--color", "--format", "--logfile", "-Z"];

/// What was asked for.
#[derive(Debug)]
pub(super) struct Asked {
    /// For libtest-mimic.
    pub(super) arguments: Arguments,
    /// More than one filter: a case is wanted when one of them matches. libtest-mimic then gets none.
    pub(super) filters: Vec<String>,
}

impl Asked {
    /// Parses the arguments, the program's name first. Usage errors and `--help` end the process, as in every test program.
    pub(super) fn parse(args: impl Iterator<Item = OsString>) -> Self {
        let (args, filters) = translate(args);
        Self {
            arguments: Arguments::from_iter(args),
            filters,
        }
    }

    /// Whether one of several filters matches (without them, libtest-mimic decides).
    pub(super) fn wants(&self, name: &str) -> bool {
        let matches = |filter: &String| {
            if self.arguments.exact {
                name == filter
            } else {
                name.contains(filter.as_str())
            }
        };
        self.filters.is_empty() || self.filters.iter().any(matches)
    }
}

/// Arguments for libtest-mimic, and the filters if there are several.
fn translate(args: impl Iterator<Item = OsString>) -> (Vec<OsString>, Vec<String>) {
    let mut args = args.peekable();
    let mut kept: Vec<OsString> = args.next().into_iter().collect();
    let mut filters: Vec<OsString> = Vec::new();
    let mut only_filters = false;
    while let Some(arg) = args.next() {
        let text = arg.to_str().unwrap_or_default();
        let name = text.split('=').next().unwrap_or_default();
        if only_filters || !text.starts_with('-') || text == "-" {
            filters.push(arg);
        } else if text == "--" {
            only_filters = true;
        } else if text == "--no-capture" {
            kept.push("--nocapture".into());
        } else if DROPPED.contains(&name) {
            if text == DROPPED_WITH_VALUE {
                args.next();
            }
        } else if WITH_VALUE.contains(&text) {
            kept.push(arg);
            kept.extend(args.next());
        } else {
            kept.push(arg);
        }
    }
    if filters.len() > 1 {
        return (
            kept,
            filters.iter().map(|filter| filter.to_string_lossy().into_owned()).collect(),
        );
    }
    if let Some(filter) = filters.pop() {
        kept.extend(["--".into(), filter]);
    }
    (kept, Vec::new())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(args: &[&str]) -> Asked {
        Asked::parse(std::iter::once(&"memory").chain(args).map(OsString::from))
    }

    #[test]
    fn flags_of_libtest_are_translated_or_dropped() {
        let asked = asked(&[
            "--no-capture",
            "--report-time",
            "--shuffle-seed",
            "7",
            "--shuffle",
            "--skip",
            "a",
            "--test-threads=2",
            "pool",
        ]);
        assert!(asked.arguments.nocapture);
        assert_eq!(asked.arguments.skip, ["a"]);
        assert_eq!(asked.arguments.test_threads, Some(2));
        assert_eq!(asked.arguments.filter.as_deref(), Some("pool"));
        assert!(asked.filters.is_empty() && asked.wants("anything"));
    }

    #[test]
    fn nextest_asks_for_one_exact_name() {
        let asked = asked(&["threads-none", "--nocapture", "--exact"]);
        assert!(asked.arguments.exact && asked.arguments.nocapture);
        assert_eq!(asked.arguments.filter.as_deref(), Some("threads-none"));
        assert!(
            super::tests::asked(&["--list", "--format", "terse", "--ignored"])
                .arguments
                .list
        );
    }

    #[test]
    fn several_filters_are_alternatives() {
        let several = asked(&["threads", "pool", "--ignored"]);
        assert_eq!(several.arguments.filter, None);
        assert!(several.arguments.ignored);
        assert!(several.wants("my-pool") && several.wants("threads-2") && !several.wants("crash"));
        let exact = asked(&["--exact", "--", "threads", "-x"]);
        assert!(exact.wants("threads") && exact.wants("-x") && !exact.wants("threads-2"));
    }
}
