//! Finished results → human text, JSON, Markdown, annotations, JUnit, SARIF and figures for trackers. The only module that prints, into a given writer.
//!
//! A writer's broken pipe comes back as `io::ErrorKind::BrokenPipe`: the caller treats it as success.

pub mod exit;

mod action;
mod comparison;
mod comparison_json;
mod contents;
mod docs;
mod doctor;
mod elf_file;
mod gated;
mod bench;
mod captures;
mod finding;
mod github;
mod hardening;
mod human;
mod json;
mod junit;
mod limits;
mod markdown;
mod markup;
mod listed_json;
mod metrics;
mod planted;
mod problem;
mod progress;
mod render;
mod revision;
mod show;
mod show_json;
mod show_malloc;
mod stacks;
mod results;
mod sarif;
mod scaling;
mod series;
mod summary;
mod table;
mod text;
mod unsteady;
mod waiver;
mod whole;

#[cfg(test)]
pub(crate) mod fixtures;

use crate::model::{CaseReport, Outcome, RunReport};

pub use action::{Action, action, action_json, ended_json, error_json};
pub use captures::{Digest, MAX_CAPTURES_BYTES, NamedCapture, capture_line, read_captures};
pub use comparison::comparison;
pub use comparison_json::comparison_json;
pub use contents::{Where, contents, contents_json};
pub use docs::{metrics_markdown, reference_markdown};
pub use doctor::{doctor, doctor_json};
pub use elf_file::{elf_differences, elf_differences_json, elf_file, elf_file_json};
pub use exit::{code as exit_code, of_comparison};
pub use human::{case, case_counted};
pub use json::json;
pub use limits::{limits, limits_exit_code, limits_json, line_diff};
pub use listed_json::{listed_in_rust_json, listed_json, metrics_json, unreferenced_json};
pub use metrics::metrics;
pub use planted::{planted, planted_json};
pub use problem::error;
pub use progress::{diff, listing, verb, waiting, warning};
pub use render::{Format, render};
pub use results::{MAX_RESULTS_BYTES, read_results, results};
pub use show::show;
pub use show_json::show_json;
pub use summary::{last_line, summary};
pub use text::differences;
pub use waiver::{waiver_text, waivers};

/// How to print.
#[derive(Clone, Copy, Debug, Default)]
pub struct Style {
    /// Escape sequences for colour.
    pub color: bool,
    /// Columns of the terminal; 0 when unknown (80 then).
    pub width: usize,
    /// Number of `-v`.
    pub verbose: u8,
}

/// The outcome of a case, failing closed: checkpoints that are missing without a stated problem are one.
#[must_use]
pub fn outcome(report: &RunReport, case: &CaseReport) -> Outcome {
    if case.checkpoints.len() < case.checkpoints_planned {
        return Outcome::Problem;
    }
    report.outcome(case)
}
