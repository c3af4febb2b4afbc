//! One finished run in any of the formats. Every format sees the `RunReport` only.

use std::io;

use super::{Style, bench, exit, github, human, junit, markdown, results, sarif, summary, text};
use crate::model::RunReport;

/// Forms of a report.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// As a run prints it.
    Human,
    /// A results file.
    Json,
    /// Markdown for a job summary.
    Markdown,
    /// Markdown for a comment.
    Comment,
    /// JUnit XML.
    Junit,
    /// Annotations.
    Github,
    /// SARIF 2.1.0.
    Sarif,
    /// Bencher Metric Format.
    Bencher,
    /// `customSmallerIsBetter`.
    GhBenchmark,
    /// Every pending snapshot as one patch.
    Patch,
    /// `name=value` lines for `GITHUB_OUTPUT`: fixed words and numbers only.
    Outputs,
}

/// The bytes of a report. `prefix` is where the project lies in the repository, for formats that name files.
#[must_use]
pub fn render(report: &RunReport, format: Format, style: Style, prefix: &str) -> Vec<u8> {
    match format {
        Format::Human => guarded(&written(|out| human(report, style, out))),
        Format::Json => results::results(report),
        Format::Markdown => markdown::markdown(report, prefix, markdown::Size::Summary).into_bytes(),
        Format::Comment => markdown::markdown(report, prefix, markdown::Size::Comment).into_bytes(),
        Format::Junit => junit::junit(report),
        Format::Github => written(|out| github::github(report, prefix, out)),
        Format::Sarif => sarif::sarif(report, prefix),
        Format::Bencher => bench::bencher(report),
        Format::GhBenchmark => bench::gh_benchmark(report),
        Format::Patch => patch(report).into_bytes(),
        Format::Outputs => outputs(report).into_bytes(),
    }
}

/// Every pending snapshot of a run as one patch for `git apply`.
pub(super) fn patch(report: &RunReport) -> String {
    let cases = report.cases.iter();
    let sound = cases.filter(|case| {
        let path = case.snapshot.path.to_str().unwrap_or_default();
        is_sound(&case.snapshot.patch, path)
    });
    sound.map(|case| case.snapshot.patch.as_str()).collect()
}

/// True for a patch of this one snapshot. Results may come from a stranger's pull request: what goes to `git apply` must not
/// name another file, neither in its header nor after a hunk that ends early.
fn is_sound(patch: &str, path: &str) -> bool {
    let is_snapshot = github::is_relative(path)
        && path.ends_with(".snap")
        && (path.starts_with("memcheck/snapshots/") || path.contains("/memcheck/snapshots/"));
    let head = format!("diff --git a/{path} b/{path}\n");
    let change = format!("--- a/{path}\n+++ b/{path}\n@@ ");
    let new = format!("new file mode 100644\n--- /dev/null\n+++ b/{path}\n@@ ");
    let Some(rest) = patch.strip_prefix(&head) else { return false };
    let Some(hunks) = rest.strip_prefix(&change).or_else(|| rest.strip_prefix(&new)) else {
        return false;
    };
    let in_hunk = |line: &str| {
        let names_a_file = line.starts_with("--- ") || line.starts_with("+++ ");
        (line.starts_with([' ', '+', '-', '\\']) || line.starts_with("@@ ")) && !names_a_file && text::clean(line) == line
    };
    is_snapshot && hunks.lines().skip(1).all(in_hunk)
}

/// No line of a stranger's results begins a command of a log viewer.
fn guarded(bytes: &[u8]) -> Vec<u8> {
    let text = String::from_utf8_lossy(bytes);
    let lines = text
        .split_inclusive('\n')
        .map(|line| match line.trim_start().starts_with("::") {
            true => format!("| {line}"),
            false => line.to_owned(),
        });
    lines.collect::<String>().into_bytes()
}

fn outputs(report: &RunReport) -> String {
    let code = exit::code(report);
    let status = if report.complete { exit::word(code) } else { "incomplete" };
    let pending = report.cases.iter().filter(|case| !case.snapshot.patch.is_empty()).count();
    let regressions = summary::tally(report).failed;
    format!("status={status}\nregressions={regressions}\npending={pending}\n")
}

fn human(report: &RunReport, style: Style, out: &mut dyn io::Write) -> io::Result<()> {
    for case in &report.cases {
        human::case(report, case, style, out)?;
    }
    summary::summary(report, style, out)
}

fn written(write: impl FnOnce(&mut dyn io::Write) -> io::Result<()>) -> Vec<u8> {
    let mut out = Vec::new();
    // Writing to memory does not fail.
    let _ = write(&mut out);
    out
}

#[cfg(test)]
mod tests {
    use super::super::fixtures::{broken, case, problem, run, snapshot, unjoined};
    use super::*;
    use crate::model::{Job, Name, ProblemKind, Revised, RevisedKind, Revision, SnapshotStatus, Switch};

    const FORMATS: [Format; 11] = [
        Format::Human,
        Format::Json,
        Format::Markdown,
        Format::Comment,
        Format::Junit,
        Format::Github,
        Format::Sarif,
        Format::Bencher,
        Format::GhBenchmark,
        Format::Patch,
        Format::Outputs,
    ];

    /// A run in which everything that somebody else can choose is hostile. A results file from a stranger may say anything.
    fn hostile(text: &str) -> RunReport {
        let mut cases = vec![
            broken(case("a")),
            problem(case("b"), ProblemKind::NotJudged),
            snapshot(case("c"), SnapshotStatus::Differs),
            snapshot(case("d"), SnapshotStatus::New),
        ];
        cases.extend(unjoined().cases);
        for (index, case) in cases.iter_mut().enumerate() {
            case.name = format!("{index}{text}");
            case.package = Some(text.to_owned());
            case.place.file = text.to_owned();
            case.place.line = 3;
            case.target = text.to_owned();
            case.notes = vec![text.to_owned()];
            case.output.stdout = Name::new([text.as_bytes(), b"\xff\n::error::x\n```\n"].concat());
            case.output.stderr = Name::from(text);
            case.snapshot.path = text.into();
            case.snapshot.diff = format!("-{text}\n+{text}\n{text}\n");
            case.snapshot.patch = format!("diff --git a/x b/x\n--- a/x\n+++ b/x\n@@ -1 +1 @@\n{text}\n");
            case.snapshot.text = text.to_owned();
            case.snapshot.varying = vec![text.to_owned()];
            case.snapshot.pending_error = Some(text.to_owned());
            for setting in &mut case.settings {
                setting.value = text.to_owned();
                setting.refused = Some(text.to_owned());
            }
            if let Some(problem) = &mut case.problem {
                problem.title = text.to_owned();
                problem.details = vec![text.to_owned(), format!("{text}\n{text}")];
            }
            for checkpoint in &mut case.checkpoints {
                checkpoint.name = text.to_owned();
                checkpoint.at = text.to_owned();
                checkpoint
                    .map
                    .threads
                    .iter_mut()
                    .for_each(|thread| thread.name = Some(Name::from(text)));
                checkpoint
                    .map
                    .items
                    .iter_mut()
                    .for_each(|item| item.subject = Name::from(text));
                for limit in &mut checkpoint.limits {
                    limit.origin.file = text.to_owned();
                    limit.rule = text.to_owned();
                    limit.reason = text.to_owned();
                }
                checkpoint.changes.iter_mut().for_each(|change| change.row = text.to_owned());
                for cause in &mut checkpoint.causes {
                    cause.cause = text.to_owned();
                    cause.cost = text.to_owned();
                    cause.remedies = vec![text.to_owned()];
                }
            }
        }
        let mut report = run(cases);
        report.environment.facts.insert("libc".to_owned(), text.to_owned());
        report.environment_status.differences = vec![("libc".to_owned(), text.to_owned(), text.to_owned())];
        report.ci = true;
        report.revision = Some(Revision {
            base: text.to_owned(),
            unknown: text.contains("error").then(|| text.to_owned()),
            entries: [RevisedKind::Limit, RevisedKind::Snapshot]
                .map(|kind| Revised {
                    file: text.to_owned(),
                    kind,
                    what: text.to_owned(),
                    old: Some(text.to_owned()),
                    new: Some(text.to_owned()),
                    diff: format!("-{text}\n+{text}\n```\n::error::x\n"),
                })
                .to_vec(),
        });
        report.switches = vec![Switch {
            file: text.to_owned(),
            key: text.to_owned(),
            value: text.to_owned(),
        }];
        report.job = Some(Job {
            run: 1,
            repository: text.to_owned(),
            artifact: text.to_owned(),
        });
        report
    }

    /// Lines outside of fenced blocks.
    fn prose(markdown: &str) -> Vec<&str> {
        let mut fence = String::new();
        let mut lines = Vec::new();
        for line in markdown.lines() {
            let ticks: String = line.chars().take_while(|c| *c == '`').collect();
            if fence.is_empty() && ticks.len() >= 3 {
                fence = ticks;
            } else if !fence.is_empty() {
                if line == fence {
                    fence.clear();
                }
            } else {
                lines.push(line);
            }
        }
        assert!(fence.is_empty(), "a block is not closed");
        lines
    }

    #[test]
    fn foreign_text_is_harmless_in_every_format() {
        let long = "x".repeat(10_000);
        for text in [
            "a\n::error::b",
            "::error file=a::b\r::stop-commands::c",
            "##[error]a",
            "<script>alert(1)</script></details>",
            "`````\n# a | b [c](javascript:d) ![e](f) @user #1",
            "]]><x/>&amp;",
            "\u{1b}[31m\u{1b}]0;t\u{7}\u{9b}2J",
            "\u{202e}evil\u{2066}\u{200f}\u{feff}",
            "%0A::error::a,title=b",
            "a\u{fffe}\u{0}\u{8}\u{7f}\u{85}\u{2028}",
            "../../etc/passwd",
            long.as_str(),
        ] {
            let report = hostile(text);
            for format in FORMATS {
                let bytes = render(&report, format, Style::default(), "sub");
                let out = String::from_utf8(bytes).unwrap();
                let steers = |c: &char| {
                    *c != '\n'
                        && (c.is_control()
                            || matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{feff}'))
                };
                assert_eq!(out.chars().find(steers), None, "{format:?} of {text:?}");
                let command = |line: &&str| line.trim_start().starts_with("::");
                let commands: Vec<&str> = out.lines().filter(command).collect();
                match format {
                    Format::Github => {
                        assert_eq!(commands.len(), out.lines().count(), "{out}");
                        assert!(
                            commands.len() <= 8
                                && commands
                                    .iter()
                                    .all(|line| line.starts_with("::error ") || line.starts_with("::warning ")),
                            "{out}"
                        );
                        for line in &commands {
                            let properties = line.split_once(' ').map_or("", |(_, rest)| rest);
                            let properties = properties.split("::").next().unwrap_or_default();
                            let names: Vec<&str> = properties
                                .split(',')
                                .filter_map(|part| part.split_once('='))
                                .map(|(name, _)| name)
                                .collect();
                            let known = ["file", "line", "title"];
                            assert!(
                                known
                                    .iter()
                                    .all(|name| names.iter().filter(|other| *other == name).count() <= 1),
                                "{line}"
                            );
                            let leads_out = |part: &str| part.starts_with("file=") && part.contains("..");
                            assert!(!properties.split(',').any(leads_out), "{line}");
                        }
                    }
                    _ => assert!(commands.is_empty(), "{format:?} of {text:?}: {commands:?}"),
                }
                assert!(!out.contains("##["), "{format:?} of {text:?}");
                match format {
                    Format::Markdown | Format::Comment => {
                        for line in prose(&out) {
                            for bad in ["<script", "](", "@user", "<x", "|b", "# a"] {
                                assert!(!line.contains(bad), "{bad} in {line}");
                            }
                        }
                        assert!(out.len() < if format == Format::Comment { 65_536 } else { 1 << 20 });
                    }
                    Format::Junit => assert!(
                        !out.contains("<script") && !out.contains("<x") && !out.contains("]]>"),
                        "{out}"
                    ),
                    Format::Json | Format::Sarif | Format::Bencher | Format::GhBenchmark => {
                        let value: serde_json::Value = serde_json::from_str(&out).unwrap();
                        assert!(!value.is_null());
                    }
                    Format::Patch => assert_eq!(out, "", "a patch of foreign paths is none of ours"),
                    Format::Human | Format::Github | Format::Outputs => {}
                }
            }
        }
    }

    #[test]
    fn a_patch_speaks_of_its_own_snapshot_and_nothing_else() {
        let path = "p/memcheck/snapshots/a.snap";
        let good = format!("diff --git a/{path} b/{path}\n--- a/{path}\n+++ b/{path}\n@@ -1,2 +1,2 @@\n x\n-y\n+z\n");
        assert!(is_sound(&good, path));
        let new =
            format!("diff --git a/{path} b/{path}\nnew file mode 100644\n--- /dev/null\n+++ b/{path}\n@@ -0,0 +1 @@\n+---\n");
        assert!(is_sound(&new, path));
        let second = format!("{good}--- a/Makefile\n+++ b/Makefile\n@@ -1 +1 @@\n-a\n+b\n");
        let third = format!("{good}diff --git a/x b/x\n");
        for bad in [
            second.as_str(),
            third.as_str(),
            "",
            &good.replace("+++ b/p", "+++ b/q"),
            &good.replace("+z", "+\u{1b}[2J"),
        ] {
            assert!(!is_sound(bad, path), "{bad}");
        }
        for path in [
            "../memcheck/snapshots/a.snap",
            "/memcheck/snapshots/a.snap",
            "Makefile",
            "memcheck/snapshots/a.rs",
        ] {
            assert!(!is_sound(&good.replace("p/memcheck/snapshots/a.snap", path), path), "{path}");
        }
    }
}
