//! One finished run in any of the formats. Every format sees the `RunReport` only.

use std::io;

use super::{Style, bench, exit, github, human, junit, markdown, results, sarif, summary};
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
        Format::Human => written(|out| human(report, style, out)),
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
    report.cases.iter().map(|case| case.snapshot.patch.as_str()).collect()
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
