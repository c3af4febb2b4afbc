//! JUnit XML in the form that nextest writes and GitLab, Jenkins and GitHub's readers take: one suite, a test case for each
//! case, failures for what was judged and found wrong, errors for what could not be judged.

use std::fmt::Write as _;

use super::finding::{Finding, Rule, findings};
use super::text::clean;
use super::{exit, problem};
use crate::model::{CaseReport, Outcome, RunReport};

/// Characters of one text: a name may have thousands.
const TEXT_CHARS: usize = 20_000;
/// Characters of a name.
const NAME_CHARS: usize = 500;

/// The bytes of a JUnit file.
#[must_use]
pub(super) fn junit(report: &RunReport) -> Vec<u8> {
    let found = findings(report);
    let general: Vec<&Finding> = found.iter().filter(|finding| finding.case.is_empty()).collect();
    let outcome = |case: &CaseReport| super::outcome(report, case);
    let errors = report.cases.iter().filter(|case| is_error(report, case)).count() + general.len();
    let failures = report
        .cases
        .iter()
        .filter(|case| !is_error(report, case) && !matches!(outcome(case), Outcome::Pass | Outcome::Warning))
        .count();
    let tests = report.cases.len() + general.len();
    let seconds = seconds(report.cases.iter().map(|case| case.duration.as_millis()).sum());
    let mut out = String::from("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n");
    // Writing to a String cannot fail.
    let _ = writeln!(
        out,
        "<testsuites name=\"cargo memcheck\" tests=\"{tests}\" failures=\"{failures}\" errors=\"{errors}\" time=\"{seconds}\">"
    );
    let _ = writeln!(
        out,
        "    <testsuite name=\"memcheck\" tests=\"{tests}\" disabled=\"0\" errors=\"{errors}\" failures=\"{failures}\" time=\"{seconds}\">"
    );
    for case in &report.cases {
        let mine: Vec<&Finding> = found.iter().filter(|finding| finding.case == case.name).collect();
        test_case(report, case, &mine, &mut out);
    }
    for finding in general {
        let _ = writeln!(
            out,
            "        <testcase name=\"cargo memcheck\" classname=\"memcheck\" time=\"0.000\">"
        );
        element("error", finding, &mut out);
        out.push_str("        </testcase>\n");
    }
    out.push_str("    </testsuite>\n</testsuites>\n");
    out.into_bytes()
}

/// What could not be judged is an error, not a failure; a check in Rust was judged.
fn is_error(report: &RunReport, case: &CaseReport) -> bool {
    super::outcome(report, case) == Outcome::Problem
        && case
            .problem
            .as_ref()
            .is_none_or(|problem| exit::of_problem(problem.kind) != exit::BUDGET)
}

fn test_case(report: &RunReport, case: &CaseReport, found: &[&Finding], out: &mut String) {
    let outcome = super::outcome(report, case);
    let class = case.package.as_deref().unwrap_or("memcheck");
    let _ = write!(
        out,
        "        <testcase name=\"{}\" classname=\"{}\" time=\"{}\"",
        attribute(&case.name),
        attribute(class),
        seconds(case.duration.as_millis())
    );
    if matches!(outcome, Outcome::Pass | Outcome::Warning) {
        out.push_str("/>\n");
        return;
    }
    out.push_str(">\n");
    let word = if is_error(report, case) { "error" } else { "failure" };
    // Readers take the first: the worst, with the others below it.
    if let Some(first) = found.first() {
        let rest: Vec<String> = found.iter().map(|finding| finding.text.clone()).collect();
        let whole = Finding {
            text: rest.join("\n"),
            ..(*first).clone()
        };
        element(word, &whole, out);
    }
    stream("system-out", &case.output.stdout.to_string(), out);
    let end = case
        .end
        .as_ref()
        .map_or(String::new(), |end| format!("{}\n", problem::ended(end)));
    stream("system-err", &format!("{end}{}", case.output.stderr), out);
    out.push_str("        </testcase>\n");
}

fn element(word: &str, finding: &Finding, out: &mut String) {
    let kind = if finding.rule == Rule::NotJudged {
        "not-judged"
    } else {
        finding.rule.id().trim_start_matches("memcheck/")
    };
    let first = finding.text.lines().next().unwrap_or_default();
    let _ = writeln!(
        out,
        "            <{word} message=\"{}\" type=\"{kind}\">{}</{word}>",
        attribute(first),
        content(&finding.text)
    );
}

fn stream(name: &str, text: &str, out: &mut String) {
    if !text.trim().is_empty() {
        let _ = writeln!(out, "            <{name}>{}</{name}>", content(text));
    }
}

fn seconds(millis: u128) -> String {
    format!("{}.{:03}", millis / 1000, millis % 1000)
}

fn attribute(text: &str) -> String {
    escaped(&clean(&cut(text, NAME_CHARS)))
}

/// Lines are kept, everything else that is no plain text is escaped.
fn content(text: &str) -> String {
    let lines: Vec<String> = cut(text, TEXT_CHARS)
        .lines()
        .map(|line| escaped(&super::text::guarded(line)))
        .collect();
    lines.join("\n")
}

fn cut(text: &str, most: usize) -> String {
    match text.char_indices().nth(most) {
        None => text.to_owned(),
        Some((at, _)) => format!("{} … (cut)", &text[..at]),
    }
}

/// XML 1.0 allows no control characters, and `clean` left none; neither does it allow U+FFFE and U+FFFF.
fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&apos;"),
            '\u{fffe}' | '\u{ffff}' => out.push('\u{fffd}'),
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::super::fixtures::{broken, case, problem as failing, run, unjoined};
    use super::*;
    use crate::model::ProblemKind;

    fn text(report: &RunReport) -> String {
        String::from_utf8(junit(report)).unwrap()
    }

    #[test]
    fn failures_and_errors_are_told_apart() {
        let xml = text(&run(vec![
            case("a"),
            broken(case("b")),
            failing(case("c"), ProblemKind::NotJudged),
        ]));
        assert!(
            xml.contains("<testsuites name=\"cargo memcheck\" tests=\"3\" failures=\"1\" errors=\"1\" time=\"0.063\">"),
            "{xml}"
        );
        assert!(
            xml.contains("<testcase name=\"a\" classname=\"memcheck\" time=\"0.021\"/>"),
            "{xml}"
        );
        assert!(
            xml.contains("<failure message=\"main-heap.count is 1 at start, limit 0 (memcheck.toml:3)\" type=\"budget\">"),
            "{xml}"
        );
        assert!(
            xml.contains("<error message=\"checkpoint `spawned` was not reached\" type=\"not-judged\">"),
            "{xml}"
        );
    }

    #[test]
    fn what_would_end_an_element_is_escaped() {
        let mut report = unjoined();
        report.cases[0].output.stdout = crate::model::Name::from("]]><x>&\u{1b}[31m\n::error::a");
        let xml = text(&report);
        assert!(xml.contains("<system-out>]]&gt;&lt;x&gt;&amp;"), "{xml}");
        assert!(!xml.contains('\u{1b}'));
    }

    #[test]
    fn nothing_measured_is_an_error() {
        assert!(text(&run(vec![])).contains("tests=\"1\" failures=\"0\" errors=\"1\""));
    }
}
