//! Names of cases and checkpoints: they become file names, heads in snapshots and words on the command line.
//! Owns what a name may hold.

use super::cursor::{Spot, Value};
use super::diagnostic::quote;

const MAX_CHARS: usize = 100;

/// The name of a case: `[a-z0-9][a-z0-9.-]*`.
pub(super) fn case(value: &Value<'_>) -> Option<Spot<String>> {
    let name = checked(value, "case", ".-")?;
    // `environment.snap` and `environment.NAME.snap` lie beside the snapshots of the cases.
    if name.value == "environment" || name.value.starts_with("environment.") {
        return value.fail(
            format!("a case cannot be called {}", quote(&name.value)),
            "environment.snap holds the environment of record",
        );
    }
    Some(name)
}

/// The name of a checkpoint: `[a-z0-9][a-z0-9._-]*`.
pub(super) fn checkpoint(value: &Value<'_>) -> Option<Spot<String>> {
    let name = checked(value, "checkpoint", "._-")?;
    if name.value == "approved" || name.value == "base" {
        return value.fail(
            format!("a checkpoint cannot be called {}", quote(&name.value)),
            "the word has a meaning of its own in `over`",
        );
    }
    Some(name)
}

fn checked(value: &Value<'_>, what: &str, marks: &str) -> Option<Spot<String>> {
    let text = value.word("\"ready\"")?;
    if text.chars().count() > MAX_CHARS {
        return value.fail(
            format!("the name of a {what} has at most {MAX_CHARS} characters"),
            format!("this one has {}", text.chars().count()),
        );
    }
    let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    if text.starts_with(plain) && text.chars().all(|c| plain(c) || marks.contains(c)) {
        return Some(value.spot(text.to_owned()));
    }
    let label = match possible(text, marks) {
        Some(name) => format!("write for example \"{name}\""),
        None => String::new(),
    };
    let marks: Vec<String> = marks.chars().map(|c| format!("`{c}`")).collect();
    let title = format!(
        "{} is no name of a {what}: lower-case letters, digits, {}, a letter or digit first",
        quote(text),
        marks.join(", ")
    );
    value.fail(title, label)
}

/// A name close to a text that is none.
fn possible(text: &str, marks: &str) -> Option<String> {
    let name: String = text
        .chars()
        .flat_map(char::to_lowercase)
        .map(|c| {
            if c.is_ascii_alphanumeric() || marks.contains(c) {
                c
            } else {
                '-'
            }
        })
        .collect();
    let name = name.trim_matches(|c: char| !c.is_ascii_alphanumeric());
    (!name.is_empty()).then(|| name.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_possible_name_is_close_to_the_text() {
        assert_eq!(possible("Threads Unjoined", ".-").as_deref(), Some("threads-unjoined"));
        assert_eq!(possible("api::server", ".-").as_deref(), Some("api--server"));
        assert_eq!(possible("-x_y", "._-").as_deref(), Some("x_y"));
        assert_eq!(possible("日本", ".-"), None);
    }
}
