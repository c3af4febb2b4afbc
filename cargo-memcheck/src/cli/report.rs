//! The arguments of `cargo memcheck report`, and what they mean.

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use memcheck_harness::report::Format;

use super::{MessageFormat, NoTests};

#[derive(Clone, Debug, Default, Args)]
pub(super) struct ReportArgs {
    /// Results files (a run leaves target/memcheck-data/results.json)
    #[arg(value_name = "FILE", required = true)]
    files: Vec<PathBuf>,
    /// How to write the report
    #[arg(long, value_name = "FORMAT", value_enum)]
    format: Option<ReportFormat>,
    /// Make one run of the results of all shards; a shard that is missing, doubled or incomplete is a failure
    #[arg(long)]
    merge: bool,
    /// Classify the recorded captures again, and judge by memcheck.toml and snapshots as they are here
    #[arg(long)]
    replay: bool,
    /// Write to this file instead of standard output
    #[arg(short, long, value_name = "PATH")]
    output: Option<PathBuf>,
    /// Succeed when no case was selected
    #[arg(long, value_name = "ACTION", value_enum, default_value = "fail")]
    no_tests: NoTests,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum ReportFormat {
    /// As a run prints it (the default)
    Human,
    /// A results file
    Json,
    /// For a job summary
    Markdown,
    /// Markdown short enough for a comment
    Comment,
    /// JUnit XML
    Junit,
    /// Annotations for GitHub Actions
    Github,
    /// SARIF 2.1.0
    Sarif,
    /// Bencher Metric Format
    Bencher,
    /// customSmallerIsBetter of github-action-benchmark
    GhBenchmark,
    /// Every pending snapshot, for git apply
    Patch,
    /// Lines for GITHUB_OUTPUT
    Outputs,
}

/// What to do with which results.
#[derive(Clone, Debug)]
pub(crate) struct ReportOptions {
    pub(crate) files: Vec<PathBuf>,
    pub(crate) format: Format,
    pub(crate) merge: bool,
    pub(crate) replay: bool,
    pub(crate) output: Option<PathBuf>,
    pub(crate) pass_without_cases: bool,
}

/// What was typed, understood.
pub(super) fn report_options(args: ReportArgs, messages: MessageFormat) -> ReportOptions {
    ReportOptions {
        files: args.files,
        format: match args.format.unwrap_or(match messages {
            MessageFormat::Human => ReportFormat::Human,
            MessageFormat::Json => ReportFormat::Json,
        }) {
            ReportFormat::Human => Format::Human,
            ReportFormat::Json => Format::Json,
            ReportFormat::Markdown => Format::Markdown,
            ReportFormat::Comment => Format::Comment,
            ReportFormat::Junit => Format::Junit,
            ReportFormat::Github => Format::Github,
            ReportFormat::Sarif => Format::Sarif,
            ReportFormat::Bencher => Format::Bencher,
            ReportFormat::GhBenchmark => Format::GhBenchmark,
            ReportFormat::Patch => Format::Patch,
            ReportFormat::Outputs => Format::Outputs,
        },
        merge: args.merge,
        replay: args.replay,
        output: args.output,
        pass_without_cases: args.no_tests == NoTests::Pass,
    }
}
