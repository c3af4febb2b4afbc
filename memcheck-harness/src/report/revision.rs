//! What a change edits of the things by which it is judged, in words: told also when all is well, since a raised limit and an
//! accepted snapshot are how a regression passes.

use std::collections::BTreeMap;
use std::io::{self, Write};

use super::markup::{block, code};
use super::text::{clean, plural};
use super::{Style, progress};
use crate::model::{Revised, RevisedKind, Revision, RunReport};

/// Entries of a terminal before the rest is only counted, without `-v`.
const LINES: usize = 20;
/// Rows of a Markdown table.
const ROWS: usize = 40;
/// Lines of all differences of snapshots in Markdown.
const DIFF_LINES: usize = 400;
/// Characters of one value.
const VALUE_CHARS: usize = 80;

/// For people: a line for each entry.
///
/// # Errors
/// Those of the writer.
pub(super) fn revision(report: &RunReport, style: Style, out: &mut dyn Write) -> io::Result<()> {
    if !report.switches.is_empty() {
        progress::warning(style, &switches(report), out)?;
    }
    let Some(revision) = &report.revision else { return Ok(()) };
    if revision.unknown.is_some() || revision.entries.is_empty() {
        let tell = if revision.unknown.is_some() {
            progress::warning
        } else {
            progress::note
        };
        return tell(style, &head(revision), out);
    }
    progress::note(style, &format!("{}:", head(revision)), out)?;
    let most = if style.verbose > 0 { usize::MAX } else { LINES };
    for entry in revision.entries.iter().take(most) {
        writeln!(out, "  {:<12}{}", entry.kind.word(), clean(&line(entry)))?;
    }
    if revision.entries.len() > most {
        writeln!(out, "  … {}: -v", plural(revision.entries.len() - most, "further edit"))?;
    }
    Ok(())
}

/// A section of a summary or comment; empty where no base was asked for and nothing else decides.
pub(super) fn markdown(report: &RunReport) -> String {
    let mut out = String::new();
    if !report.switches.is_empty() {
        out.push_str(&format!("**Outside of memcheck.toml:** {}\n\n", code(&switches(report))));
    }
    let Some(revision) = &report.revision else { return out };
    out.push_str("### What this change edits\n\n");
    if revision.entries.is_empty() {
        let mark = if revision.unknown.is_some() { "**Not known.** " } else { "" };
        return out + &format!("{mark}{}.\n\n", code(&head(revision)));
    }
    out.push_str(&format!(
        "{}.\n\n| kind | where | base | now |\n|---|---|---|---|\n",
        code(&head(revision))
    ));
    for entry in revision.entries.iter().take(ROWS) {
        let (place, old, new) = cells(entry);
        let cells = [code(&place), code(&old), code(&new)];
        out.push_str(&format!("| {} | {} |\n", entry.kind.word(), cells.join(" | ")));
    }
    if revision.entries.len() > ROWS {
        out.push_str(&format!(
            "\n{} in the results.\n",
            plural(revision.entries.len() - ROWS, "more edit")
        ));
    }
    out.push('\n');
    let mut diffs = String::new();
    for entry in revision.entries.iter().filter(|entry| !entry.diff.is_empty()) {
        diffs.push_str(&format!("{}\n{}\n", entry.file, entry.diff));
    }
    if !diffs.is_empty() {
        out.push_str(&format!(
            "<details><summary>Approved snapshots, base against now</summary>\n\n{}\n</details>\n\n",
            block("diff", &diffs, DIFF_LINES)
        ));
    }
    out
}

/// `since base 1a2b (merge-base with main) this change edits 1 limit and 2 snapshots`
fn head(revision: &Revision) -> String {
    if let Some(why) = &revision.unknown {
        return format!("what this change edits of limits, waivers and snapshots could not be told: {why}");
    }
    let mut counts: BTreeMap<RevisedKind, usize> = BTreeMap::new();
    for entry in &revision.entries {
        *counts.entry(entry.kind).or_default() += 1;
    }
    if counts.is_empty() {
        return format!("since {} no limit, tolerance, waiver or snapshot was edited", revision.base);
    }
    let parts: Vec<String> = counts.into_iter().map(|(kind, count)| counted(count, kind)).collect();
    let list = match parts.split_last() {
        Some((last, [])) => last.clone(),
        Some((last, first)) => format!("{} and {last}", first.join(", ")),
        None => String::new(),
    };
    format!("since {} this change edits {list}", revision.base)
}

fn counted(count: usize, kind: RevisedKind) -> String {
    let (one, many) = match kind {
        RevisedKind::Tolerance => ("tolerance", "tolerances"),
        RevisedKind::Waiver => ("value of a waiver", "values of waivers"),
        RevisedKind::Case => ("case or checkpoint", "cases or checkpoints"),
        RevisedKind::Environment => ("environment of record", "environments of record"),
        RevisedKind::Switch => ("setting of another tool", "settings of other tools"),
        RevisedKind::Code => ("test with limits in Rust", "tests with limits in Rust"),
        RevisedKind::Limit | RevisedKind::Setting | RevisedKind::Snapshot => return plural(count, kind.word()),
    };
    format!("{count} {}", if count == 1 { one } else { many })
}

fn switches(report: &RunReport) -> String {
    let all: Vec<String> = report
        .switches
        .iter()
        .map(|switch| format!("{} = {} ({})", switch.key, cut(&switch.value), switch.file))
        .collect();
    format!(
        "cargo builds or runs through settings that memcheck.toml does not hold, and that this run cannot undo: {}",
        all.join(", ")
    )
}

fn line(entry: &Revised) -> String {
    let (place, old, new) = cells(entry);
    format!("{place}: {old} → {new}")
}

/// Where, what it was, what it is.
fn cells(entry: &Revised) -> (String, String, String) {
    let place = if entry.what.is_empty() {
        entry.file.clone()
    } else {
        format!("{} {}", entry.file, entry.what)
    };
    let is_text = matches!(
        entry.kind,
        RevisedKind::Snapshot | RevisedKind::Environment | RevisedKind::Code
    );
    let side = |value: &Option<String>, lines: char| match value {
        None => "none".to_owned(),
        Some(_) if is_text && entry.diff.is_empty() => "edited".to_owned(),
        Some(_) if is_text => {
            let marks = entry
                .diff
                .lines()
                .filter(|line| line.starts_with(lines) && !line.starts_with(&lines.to_string().repeat(3)));
            format!("{lines}{}", plural(marks.count(), "line"))
        }
        Some(value) => cut(value),
    };
    (place, side(&entry.old, '-'), side(&entry.new, '+'))
}

fn cut(text: &str) -> String {
    match text.char_indices().nth(VALUE_CHARS) {
        None => text.to_owned(),
        Some((at, _)) => format!("{}…", &text[..at]),
    }
}

#[cfg(test)]
mod tests {
    use super::super::fixtures::{case, print, run};
    use super::super::{Format, render, summary};
    use super::*;
    use crate::model::Switch;

    fn entry(kind: RevisedKind, what: &str, old: Option<&str>, new: Option<&str>, diff: &str) -> Revised {
        Revised {
            file: "memcheck.toml".to_owned(),
            kind,
            what: what.to_owned(),
            old: old.map(str::to_owned),
            new: new.map(str::to_owned),
            diff: diff.to_owned(),
        }
    }

    fn revised(entries: Vec<Revised>) -> RunReport {
        let mut report = run(vec![case("a")]);
        report.revision = Some(Revision {
            base: "base 1a2b".to_owned(),
            unknown: None,
            entries,
        });
        report
    }

    #[test]
    fn a_green_run_tells_what_was_raised() {
        let report = revised(vec![
            entry(
                RevisedKind::Limit,
                "budget.own.anon",
                Some("\"16 MiB\""),
                Some("\"32 MiB\""),
                "",
            ),
            entry(
                RevisedKind::Snapshot,
                "",
                Some("a\n"),
                Some("b\n"),
                "--- approved\n+++ measured\n@@ -1 +1 @@\n-a\n+b\n",
            ),
            entry(RevisedKind::Limit, "budget.threads.count", Some("4"), None, ""),
        ]);
        let text = print(|out| summary(&report, Style::default(), out));
        assert!(
            text.starts_with(
                "note: since base 1a2b this change edits 2 limits and 1 snapshot:\n  limit       memcheck.toml budget.own.anon: \"16 MiB\" → \"32 MiB\"\n  snapshot    memcheck.toml: -1 line → +1 line\n  limit       memcheck.toml budget.threads.count: 4 → none\n"
            ),
            "{text}"
        );
        for format in [Format::Markdown, Format::Comment] {
            let text = String::from_utf8(render(&report, format, Style::default(), "")).unwrap();
            assert!(
                text.contains("cargo memcheck: passed") && text.contains("### What this change edits"),
                "{text}"
            );
            assert!(
                text.contains("16 MiB&#34;</code> | <code>&#34;32 MiB") && text.contains("\n-a\n+b\n"),
                "{text}"
            );
        }
        let json = String::from_utf8(render(&report, Format::Json, Style::default(), "")).unwrap();
        assert!(
            json.contains("\"kind\":\"limit\"") && json.contains("\"old\":\"\\\"16 MiB\\\"\""),
            "{json}"
        );
    }

    #[test]
    fn nothing_edited_and_nothing_known_are_different_things() {
        let said = |report: &RunReport| print(|out| summary(report, Style::default(), out));
        assert!(said(&revised(Vec::new())).starts_with("note: since base 1a2b no limit, tolerance, waiver or snapshot was"));
        let mut report = revised(Vec::new());
        report.revision.as_mut().unwrap().unknown = Some("this clone is shallow".to_owned());
        let text = said(&report);
        assert!(
            text.starts_with("warning: what this change edits of limits") && text.contains("shallow"),
            "{text}"
        );
        assert!(markdown(&report).contains("**Not known.**"));
        report.revision = None;
        report.switches = vec![Switch {
            file: ".cargo/config.toml".to_owned(),
            key: "build.rustc-wrapper".to_owned(),
            value: "\"x\"".to_owned(),
        }];
        let words = said(&report).split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(words.contains("build.rustc-wrapper = \"x\" (.cargo/config.toml)"), "{words}");
        assert!(markdown(&report).contains("**Outside of memcheck.toml:**"));
    }
}
