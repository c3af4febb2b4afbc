//! What is going on, for standard error: lines as cargo prints them; and lists and differences of other commands.

use std::io::{self, Write};

use super::Style;
use super::text::{Ink, clean, columns, guarded, paint, plural, wrap};
use crate::model::{Alone, Case};

/// One status line with a right-aligned verb of 12 columns: `    Building 3 cargo targets`.
///
/// # Errors
/// Those of the writer.
pub fn verb(style: Style, verb: &str, text: &str, out: &mut dyn Write) -> io::Result<()> {
    let ink = match verb {
        "Waiting" | "Skipping" | "Skipped" | "Pending" | "Unchanged" => Ink::Progress,
        "Warning" | "Outdated" | "Varies" => Ink::Warn,
        "Failed" | "Rejected" => Ink::Bad,
        _ => Ink::Good,
    };
    writeln!(out, "{} {}", paint(style, ink, &format!("{verb:>12}")), clean(text))
}

/// A case waits for others that must not run at the same time, in this run or another one.
///
/// # Errors
/// Those of the writer.
pub fn waiting(style: Style, case: &Case, out: &mut dyn Write) -> io::Result<()> {
    let name = &case.name;
    let text = match &case.alone {
        Alone::Serial => format!("{name} for all other cases to end: it runs alone"),
        Alone::Group(word) => format!("{name} for other cases of group {word}, or one that runs alone"),
        Alone::No => format!("{name} for a case that runs alone"),
    };
    verb(style, "Waiting", &text, out)
}

/// `warning: …`, wrapped.
///
/// # Errors
/// Those of the writer.
pub fn warning(style: Style, text: &str, out: &mut dyn Write) -> io::Result<()> {
    remark(style, "warning", Ink::Warn, text, out)
}

/// What fails the run though no case does.
pub(super) fn failure(style: Style, text: &str, out: &mut dyn Write) -> io::Result<()> {
    remark(style, "error", Ink::Bad, text, out)
}

pub(super) fn note(style: Style, text: &str, out: &mut dyn Write) -> io::Result<()> {
    remark(style, "note", Ink::Strong, text, out)
}

fn remark(style: Style, word: &str, ink: Ink, text: &str, out: &mut dyn Write) -> io::Result<()> {
    let indent = word.len() + 2;
    for (i, line) in wrap(&clean(text), columns(style).saturating_sub(indent)).iter().enumerate() {
        if i == 0 {
            writeln!(out, "{}: {line}", paint(style, ink, word))?;
        } else {
            writeln!(out, "{:indent$}{line}", "")?;
        }
    }
    Ok(())
}

/// A unified difference in colour, all of it, for `review`.
///
/// # Errors
/// Those of the writer.
pub fn diff(style: Style, text: &str, out: &mut dyn Write) -> io::Result<()> {
    diff_lines(style, text, usize::MAX, "", out)
}

pub(super) fn diff_lines(style: Style, text: &str, most: usize, indent: &str, out: &mut dyn Write) -> io::Result<()> {
    let lines = text.lines().count();
    for line in text.lines().take(most) {
        let ink = match line.as_bytes().first() {
            _ if line.starts_with("+++") || line.starts_with("---") => Ink::Strong,
            Some(b'+') => Ink::Good,
            Some(b'-') => Ink::Bad,
            Some(b'@') => Ink::Progress,
            _ => Ink::Plain,
        };
        writeln!(out, "{indent}{}", paint(style, ink, &guarded(line)))?;
    }
    if lines > most {
        writeln!(out, "{indent}… {}: -v", plural(lines - most, "further line"))?;
    }
    Ok(())
}

/// Rows in aligned columns, two spaces apart; the first row is a heading. The last column is not padded.
///
/// # Errors
/// Those of the writer.
pub fn listing(style: Style, rows: &[Vec<String>], out: &mut dyn Write) -> io::Result<()> {
    let rows: Vec<Vec<String>> = rows.iter().map(|row| row.iter().map(|cell| clean(cell)).collect()).collect();
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let widths: Vec<usize> = (0..columns)
        .map(|i| {
            rows.iter()
                .filter_map(|row| row.get(i))
                .map(|cell| cell.chars().count())
                .max()
                .unwrap_or(0)
        })
        .collect();
    for (i, row) in rows.iter().enumerate() {
        let mut line = String::new();
        for (cell, width) in row.iter().zip(&widths) {
            line.push_str(&format!("{cell:<width$}  "));
        }
        writeln!(
            out,
            "{}",
            paint(
                style,
                if i == 0 { Ink::Strong } else { Ink::Plain },
                &guarded(line.trim_end())
            )
        )?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Target;

    const PLAIN: Style = Style {
        color: false,
        width: 80,
        verbose: 0,
    };

    fn text(print: impl Fn(&mut Vec<u8>) -> io::Result<()>) -> String {
        let mut out = Vec::new();
        print(&mut out).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn verbs_are_aligned_as_cargos_are() {
        assert_eq!(text(|out| verb(PLAIN, "Running", "12 cases", out)), "     Running 12 cases\n");
        assert_eq!(
            text(|out| verb(PLAIN, "Building", "a\x1b[2Jb", out)),
            "    Building a\\x1b[2Jb\n"
        );
        let color = Style { color: true, ..PLAIN };
        assert!(text(|out| verb(color, "Running", "x", out)).starts_with("\x1b["));
    }

    #[test]
    fn a_waiting_case_says_for_whom() {
        let mut case = Case::new("one", "/", Target::Command { program: "x".to_owned() });
        let mut said = |alone| {
            case.alone = alone;
            text(|out| waiting(PLAIN, &case, out))
        };
        assert_eq!(said(Alone::No), "     Waiting one for a case that runs alone\n");
        assert_eq!(
            said(Alone::Serial),
            "     Waiting one for all other cases to end: it runs alone\n"
        );
        assert_eq!(
            said(Alone::Group("port".to_owned())),
            "     Waiting one for other cases of group port, or one that runs alone\n"
        );
    }

    #[test]
    fn columns_of_a_listing_are_aligned() {
        let rows = vec![
            vec!["case".to_owned(), "target".to_owned()],
            vec!["threads-unjoined".to_owned(), "C threads.c".to_owned()],
        ];
        assert_eq!(
            text(|out| listing(PLAIN, &rows, out)),
            "case              target\nthreads-unjoined  C threads.c\n"
        );
    }

    #[test]
    fn a_long_difference_is_cut_with_a_note() {
        assert_eq!(
            text(|out| diff_lines(PLAIN, "+a\n b\n-c", 2, "  ", out)),
            "  +a\n   b\n  … 1 further line: -v\n"
        );
    }
}
