//! Text for terminals: escaping, colour, wrapping, plurals. Every string that reaches a writer goes through [`clean`].

use std::io::{self, Write};

use anstyle::{AnsiColor, Style as Ansi};

use super::Style;
use crate::model::{EnvironmentStatus, Name};

/// Columns of a message when the terminal does not say.
const COLUMNS: usize = 80;

/// What a piece of text is, for its colour.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ink {
    Plain,
    Good,
    Bad,
    Warn,
    Strong,
    Dim,
    Progress,
}

/// The columns to wrap at: the terminal's, within reason.
pub(super) fn columns(style: Style) -> usize {
    match style.width {
        0 => COLUMNS,
        width => width.clamp(60, 100),
    }
}

/// One line made harmless: control characters and bidirectional controls are escaped as [`Name`] escapes them, tabs become
/// spaces. Backslashes stay, as parts may have been escaped before. `##[` is broken up: some log viewers obey it anywhere
/// in a line.
pub(super) fn clean(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for (i, part) in text.split('\\').enumerate() {
        if i > 0 {
            out.push('\\');
        }
        out.push_str(&Name::from(part.replace('\t', "    ").as_str()).escaped());
    }
    out.replace("##[", "#\\x23[")
}

/// [`clean`]ed text in colour, if colour is wanted.
pub(super) fn paint(style: Style, ink: Ink, text: &str) -> String {
    let text = clean(text);
    let ansi = match ink {
        Ink::Plain => return text,
        _ if !style.color => return text,
        Ink::Good => AnsiColor::Green.on_default().bold(),
        Ink::Bad => AnsiColor::Red.on_default().bold(),
        Ink::Warn => AnsiColor::Yellow.on_default().bold(),
        Ink::Progress => AnsiColor::Cyan.on_default().bold(),
        Ink::Strong => Ansi::new().bold(),
        Ink::Dim => Ansi::new().dimmed(),
    };
    format!("{ansi}{text}{ansi:#}")
}

/// Breaks text at spaces into lines of at most `width` characters; a longer word stands alone. Leading spaces of the text
/// are not kept. A line that begins with `::` gets a bar in front, as [`guarded`] does.
pub(super) fn wrap(text: &str, width: usize) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    let mut length = 0;
    for word in text.split_whitespace() {
        let letters = word.chars().count();
        match lines.last_mut() {
            Some(line) if length + 1 + letters <= width => {
                line.push(' ');
                line.push_str(word);
                length += 1 + letters;
            }
            _ => {
                lines.push(word.to_owned());
                length = letters;
            }
        }
    }
    for line in &mut lines {
        if line.starts_with("::") {
            line.insert_str(0, "| ");
        }
    }
    lines
}

/// `  Label     text`, wrapped, further lines below the text; a line break in the text is kept. `start` is the column of
/// the text.
pub(super) fn labelled(style: Style, label: &str, start: usize, text: &str, out: &mut dyn Write) -> io::Result<()> {
    let width = columns(style).saturating_sub(start);
    let lines: Vec<String> = text.lines().flat_map(|line| wrap(&clean(line), width)).collect();
    for (i, line) in lines.iter().enumerate() {
        let head = if i == 0 { clean(label) } else { String::new() };
        let head = format!("{head:<0$}", start.saturating_sub(2));
        writeln!(out, "  {}{line}", paint(style, Ink::Strong, &head))?;
    }
    Ok(())
}

/// `glibc 2.36 → 2.41, kernel 6.1 → 6.18`
#[must_use]
pub fn differences(status: &EnvironmentStatus) -> String {
    let all: Vec<String> = status
        .differences
        .iter()
        .map(|(name, recorded, here)| clean(&format!("{name} {recorded} → {here}")))
        .collect();
    all.join(", ")
}

/// A foreign line that could be taken for a command of a log viewer (`::error …`) gets a bar in front.
pub(super) fn guarded(line: &str) -> String {
    let line = clean(line);
    if line.trim_start().starts_with("::") {
        format!("| {line}")
    } else {
        line
    }
}

/// `1 case`, `2 cases`.
pub(super) fn plural(count: usize, noun: &str) -> String {
    format!("{count} {noun}{}", if count == 1 { "" } else { "s" })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_steers_the_terminal_and_cleaning_twice_changes_nothing() {
        let hostile = "a\x1b[31mb\rc\u{202e}d\\x41\te\n##[error]";
        let once = clean(hostile);
        assert_eq!(once, "a\\x1b[31mb\\x0dc\\xe2\\x80\\xaed\\x41    e\\x0a#\\x23[error]");
        assert_eq!(clean(&once), once);
        assert_eq!(guarded("  ::error::x"), "|   ::error::x");
    }

    #[test]
    fn wrapping_keeps_words_whole() {
        assert_eq!(wrap("one two three", 7), ["one two", "three"]);
        assert_eq!(wrap("unbreakable a", 3), ["unbreakable", "a"]);
        assert!(wrap("", 3).is_empty());
        assert_eq!(wrap("a ::error::b", 3), ["a", "| ::error::b"]);
    }
}
