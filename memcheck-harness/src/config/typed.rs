//! A place to stop at as it is typed on the command line: `probe:ready`, `output:^listening`, or what the file would say.
//! Owns that spelling only; what a place may be is `at`'s.

use crate::error::{Error, Result};
use crate::model::At;

use super::at;
use super::cursor::{self, Table};
use super::diagnostic::Document;

/// How each kind of place is typed, for messages. What is in capitals is to be filled in, what is in brackets may be left out.
pub const PLACES: [&str; 21] = [
    "exec",
    "main",
    "exit",
    "probe:NAME",
    "function:SYMBOL",
    "returns:SYMBOL",
    "line:FILE:LINE",
    "syscall:NAME",
    "signal:NAME",
    "output:REGEX",
    "stdout:REGEX",
    "stderr:REGEX",
    "thread:start[:NAME]",
    "thread:end[:NAME]",
    "library:NAME",
    "touch:VARIABLE",
    "touch:guard",
    "touch:stack",
    "after:TIME",
    "idle",
    "step-done",
];

/// Reads `--at` or `--since`.
pub(super) fn place(text: &str) -> Result<At> {
    let line = format!("at = {}", toml(text));
    // No size in pages can stand in a place.
    let doc = Document::new("--at".to_owned(), &line, 1);
    let found = cursor::parse(&line, &doc).and_then(|tree| at::read(&Table::root(&doc, &tree).get("at")?));
    doc.check()?;
    found
        .map(|spot| spot.value)
        .ok_or_else(|| Error::config(format!("{text:?} is no place to stop at")))
}

fn toml(text: &str) -> String {
    let text = text.trim();
    if text.starts_with('{') {
        return text.to_owned();
    }
    let pair = |kind: &str, value: &str| format!("{kind} = {}", quoted(value));
    let inner = match text.split_once(':') {
        None => return quoted(text),
        Some((stream @ ("stdout" | "stderr"), pattern)) => format!("{}, {}", pair("output", pattern), pair("stream", stream)),
        Some(("thread", edge)) => match edge.split_once(':') {
            Some((edge, name)) => format!("{}, {}", pair("thread", edge), pair("name", name)),
            None => pair("thread", edge),
        },
        Some((kind, value)) if is_word(kind) => pair(kind, value),
        Some(_) => return quoted(text),
    };
    format!("{{ {inner} }}")
}

fn is_word(kind: &str) -> bool {
    !kind.is_empty() && kind.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_'))
}

/// A string in TOML: what is not plain is escaped (the TOML specification, "String").
fn quoted(text: &str) -> String {
    let mut out = String::from("\"");
    for c in text.chars() {
        match c {
            '"' | '\\' => out.extend(['\\', c]),
            c if c.is_control() => out.push_str(&format!("\\u{:04X}", u32::from(c))),
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    /// A kind that a file can name and messages do not is a line to be written in `PLACES`.
    #[test]
    fn every_kind_of_a_file_is_told() {
        let kind = |place: &'static str| match place.split(':').next() {
            Some("stdout" | "stderr") => "output",
            kind => kind.unwrap(),
        };
        let told: BTreeSet<&str> = super::PLACES.into_iter().map(kind).collect();
        assert_eq!(told, super::at::kinds().collect());
    }

    #[test]
    fn every_kind_can_be_typed() {
        for (text, place) in [
            ("exec", "exec"),
            ("main", "main"),
            ("exit", "exit"),
            ("idle", "idle"),
            ("step-done", "step-done"),
            ("probe:ready", "probe ready"),
            ("probe:libc:setjmp", "probe libc:setjmp"),
            ("function:ns::f", "function ns::f"),
            ("returns:f", "return of f"),
            ("line:src/a.c:7", "line src/a.c:7"),
            ("touch:x", "touch of x"),
            ("touch:guard", "touch of a guard page"),
            ("signal:SIGUSR1", "signal SIGUSR1"),
            ("output:^on \"[0-9]+\\.$", "output /^on \\\"[0-9]+\\\\.$/"),
            ("stderr:ready", "stderr /ready/"),
            ("library:libfoo", "library libfoo"),
            ("syscall:pause", "pause"),
            ("thread:start", "start of a thread"),
            ("thread:end:worker-1", "worker-1"),
            ("after:200ms", "200 ms"),
            ("{ syscall = \"prctl\", args = { 0 = 15 } }", "prctl"),
        ] {
            let found = super::place(text).unwrap().to_string();
            assert!(found.contains(place), "{text}: {found}");
        }
    }

    #[test]
    fn mistakes_say_what_to_type() {
        for (text, word) in [
            ("", "`at` must be"),
            ("exti", "did you mean `exit`?"),
            ("prob:x", "probe"),
            ("probe:", "probe"),
            ("line:a.c:0", "no line of a source"),
            ("syscall:pasue", "did you mean `pause`?"),
            ("signal:SIGKILL", "never delivered"),
            ("output:(", "no regular expression"),
            ("after:5", "duration"),
            ("{ probe = ", "TOML"),
            ("\u{1b}[31m:x", "`at` must be"),
        ] {
            let error = super::place(text).unwrap_err();
            let told = format!("{error} {}", error.problem().details.join(" "));
            assert!(told.contains(word), "{text}: {told}");
        }
    }
}
