//! `cargo memcheck list` and `metrics`: what there is, on standard output.

use std::process::ExitCode;

use memcheck_harness::error::Result;
use memcheck_harness::report;

use crate::cli::Invocation;
use crate::{project, terminal};

/// Cases and checkpoints.
pub(crate) fn list(invocation: &Invocation, filters: &[String]) -> Result<ExitCode> {
    let project = project::open(invocation)?;
    let mut rows = vec![["CASE", "CHECKPOINTS", "TARGET", "WHERE"].map(str::to_owned).to_vec()];
    rows.extend(project.plan.cases.iter().map(|case| {
        let checkpoints: Vec<&str> = case.checkpoints.iter().map(|checkpoint| checkpoint.name.as_str()).collect();
        vec![
            case.name.clone(),
            checkpoints.join(" "),
            case.target.to_string(),
            case.place.to_string(),
        ]
    }));
    terminal::print(|out| report::listing(invocation.output_style, &rows, out))?;
    if let Some(text) = &project.nothing_matches {
        terminal::say(|out| report::warning(invocation.style, text, out))?;
    }
    let nothing = project.plan.cases.is_empty() && !filters.is_empty();
    Ok(ExitCode::from(if nothing { report::exit::NOTHING } else { report::exit::OK }))
}

/// The table of metrics.
pub(crate) fn metrics(invocation: &Invocation) -> Result<ExitCode> {
    terminal::print(|out| report::metrics(invocation.output_style, out))?;
    Ok(terminal::ok())
}
