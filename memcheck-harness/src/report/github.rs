//! Annotations for GitHub Actions: workflow commands, one line each, at most eight, placed on the line of `memcheck.toml` or of
//! the fixture. One function escapes everything that goes into them.
//! Form and escapes: `docs/actions/reference/workflow-commands-for-github-actions` and `toolkit/packages/core/src/command.ts`.

use std::io::{self, Write};

use super::finding::{Finding, Level, findings};
use super::text::{clean, plural};
use crate::model::RunReport;

/// GitHub shows at most ten of a kind and step.
const MOST: usize = 8;
/// Characters of one text: a name may have thousands.
const TEXT_CHARS: usize = 1000;

/// Writes the annotations. `prefix` is where the project lies in the repository.
///
/// # Errors
/// Those of the writer.
pub(super) fn github(report: &RunReport, prefix: &str, out: &mut dyn Write) -> io::Result<()> {
    let all = findings(report);
    let shown = if all.len() > MOST { MOST - 1 } else { all.len() };
    for finding in &all[..shown] {
        writeln!(out, "{}", annotation(finding, prefix))?;
    }
    if all.len() > shown {
        let text = format!("and {} more: see the job summary", all.len() - shown);
        writeln!(out, "::error title=cargo memcheck::{}", message(&text))?;
    }
    Ok(())
}

fn annotation(finding: &Finding, prefix: &str) -> String {
    let word = match finding.level {
        Level::Error => "error",
        Level::Warning => "warning",
        Level::Note => "notice",
    };
    let mut place = String::new();
    if finding.place.line > 0 && is_relative(&finding.place.file) {
        place = format!(
            "file={},line={},",
            property(&inside(prefix, &finding.place.file)),
            finding.place.line
        );
    }
    let title = property(&shortened(&finding.title));
    let text: Vec<String> = finding.text.lines().filter(|line| !line.is_empty()).map(clean).collect();
    format!("::{word} {place}title={title}::{}", message(&shortened(&text.join("\n"))))
}

/// A path in the repository: one that leads out of it is shown by nobody.
pub(super) fn is_relative(file: &str) -> bool {
    !file.is_empty() && !file.starts_with('/') && file.split('/').all(|part| part != "..")
}

pub(super) fn inside(prefix: &str, file: &str) -> String {
    match prefix.trim_end_matches('/') {
        "" => file.to_owned(),
        prefix => format!("{prefix}/{file}"),
    }
}

/// At most so many characters as anybody reads.
fn shortened(text: &str) -> String {
    match text.char_indices().nth(TEXT_CHARS) {
        None => text.to_owned(),
        Some((at, _)) => format!(
            "{} … ({} cut)",
            &text[..at],
            plural(text.chars().count() - TEXT_CHARS, "character")
        ),
    }
}

/// The text of a command; its line ends are kept as `%0A`.
fn message(text: &str) -> String {
    let lines: Vec<String> = text.split('\n').map(|line| clean(line).replace('%', "%25")).collect();
    lines.join("%0A")
}

/// The value of a property.
fn property(text: &str) -> String {
    clean(text).replace('%', "%25").replace(':', "%3A").replace(',', "%2C")
}

#[cfg(test)]
mod tests {
    use super::super::fixtures::{broken, case, print, run, unjoined};
    use super::*;

    fn lines(report: &RunReport, prefix: &str) -> Vec<String> {
        print(|out| github(report, prefix, out)).lines().map(str::to_owned).collect()
    }

    #[test]
    fn an_annotation_stands_on_the_line_of_the_limit() {
        let lines = lines(&unjoined(), "sub/project");
        assert_eq!(lines.len(), 2);
        assert!(
            lines[0].starts_with(
                "::error file=sub/project/memcheck.toml,line=8,title=threads-unjoined%3A a memory budget is exceeded::thread-stack.exited.count is 2 at spawned, limit 1 (memcheck.toml:8)%0A"
            ),
            "{}",
            lines[0]
        );
        assert!(
            lines[1].starts_with("::error title=threads-unjoined%3A memory differs"),
            "no line, no place: {}",
            lines[1]
        );
    }

    #[test]
    fn at_most_eight_and_the_rest_is_counted() {
        let many = |count: usize| run((0..count).map(|i| broken(case(&format!("c{i}")))).collect());
        assert_eq!(lines(&many(8), "").len(), 8);
        let lines = lines(&many(30), "");
        assert_eq!(lines.len(), 8);
        assert_eq!(lines[7], "::error title=cargo memcheck::and 23 more: see the job summary");
        assert!(super::super::fixtures::print(|out| github(&many(0), "", out)).starts_with("::error title="));
    }
}
