//! `cargo memcheck list` and `metrics`: what there is, on standard output.

use std::collections::BTreeSet;
use std::process::ExitCode;

use memcheck_harness::error::{Error, Result};
use memcheck_harness::model::Children;
use memcheck_harness::{config, report};

use crate::cli::{Invocation, MessageFormat, Part};
use crate::{harness, orphans, project, terminal};

/// Cases and checkpoints, those of the file and those that harness tests build in Rust.
pub(crate) fn list(invocation: &Invocation, filters: &[String]) -> Result<ExitCode> {
    let project = project::open(invocation)?;
    let progress = terminal::Progress::new(invocation);
    let built = harness::names(&invocation.overrides, &project, &progress);
    progress.finish()?;
    if let Some(signal) = project.cancel.signal() {
        return Err(Error::interrupted(signal));
    }
    // A test that cannot be asked hides its own cases, not those of the file.
    let (built, failed) = match built {
        Ok(built) => (built, None),
        Err(error) => (Vec::new(), Some(error)),
    };
    match invocation.format {
        MessageFormat::Human => {
            let mut rows = vec![["CASE", "CHECKPOINTS", "TARGET", "WHERE"].map(str::to_owned).to_vec()];
            rows.extend(project.plan.cases.iter().map(|case| {
                let mut checkpoints: Vec<&str> = case.checkpoints.iter().map(|checkpoint| checkpoint.name.as_str()).collect();
                if case.children == Children::Capture {
                    checkpoints.push("(the end of each child)");
                }
                vec![
                    case.name.clone(),
                    checkpoints.join(" "),
                    case.target.to_string(),
                    case.place.to_string(),
                ]
            }));
            rows.extend(built.iter().map(|built| {
                let place = format!("test {} of {}", built.test, built.package);
                vec![built.name.clone(), String::new(), String::new(), place]
            }));
            terminal::print(|out| report::listing(invocation.output_style, &rows, out))?;
        }
        MessageFormat::Json => terminal::print(|out| {
            for case in &project.plan.cases {
                report::listed_json(case, out)?;
            }
            for built in &built {
                report::listed_in_rust_json(&built.name, &built.package, &built.test, out)?;
            }
            Ok(())
        })?,
    }
    if let Some(error) = failed {
        return Err(error);
    }
    let names: BTreeSet<&str> = built.iter().map(|built| built.name.as_str()).collect();
    orphans::tell(invocation, &project, &names)?;
    let nothing = project.plan.cases.is_empty() && built.is_empty() && !filters.is_empty();
    if let Some(text) = project.nothing_matches.as_ref().filter(|_| nothing) {
        terminal::say(|out| report::warning(invocation.style, text, out))?;
    }
    Ok(ExitCode::from(if nothing { report::exit::NOTHING } else { report::exit::OK }))
}

/// The table of metrics.
pub(crate) fn metrics(invocation: &Invocation) -> Result<ExitCode> {
    terminal::print(|out| match invocation.format {
        MessageFormat::Human => report::metrics(invocation.output_style, out),
        MessageFormat::Json => report::metrics_json(out),
    })?;
    Ok(terminal::ok())
}

/// Prints a part of the guide.
pub(crate) fn docs(part: Part) -> Result<ExitCode> {
    terminal::print(|out| match part {
        Part::Reference => report::reference_markdown(&config::reference(), out),
        Part::Metrics => report::metrics_markdown(out),
    })?;
    Ok(terminal::ok())
}
