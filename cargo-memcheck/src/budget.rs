//! `cargo memcheck budget`: the limits beside what is measured now, and changing them in `memcheck.toml`.

use std::process::ExitCode;

use memcheck_harness::config::{self, Edits, Overrides, Source};
use memcheck_harness::empty::Empties;
use memcheck_harness::error::{Error, Result};
use memcheck_harness::model::{EmptyProgram, LimitResult, RunReport, Subject};
use memcheck_harness::{budget, capture, compare, report};

use crate::cli::{BudgetOptions, Invocation, MessageFormat};
use crate::project::{self, Project};
use crate::results::Keeper;
use crate::{measure, terminal};

/// Shows or changes limits.
pub(crate) fn budget(invocation: &Invocation, options: &BudgetOptions) -> Result<ExitCode> {
    let mut project = project::open(invocation)?;
    if let BudgetOptions::Set(limits) = options {
        return set(invocation, &project, limits);
    }
    project::all_known(&project, &invocation.overrides.filters)?;
    project.options.write_pending = false;
    let keeper = Keeper::begin(&project)?;
    // The table says it all.
    let progress = terminal::Progress::without_cases(invocation);
    let mut run = measure::measured(invocation, &project, &progress, &keeper)?;
    progress.finish()?;
    let kept = keeper.finish(&mut run);
    let rooms = budget::room(&run.cases);
    let empties = empty_programs(&project, &run);
    let tightening = matches!(options, BudgetOptions::Tighten);
    terminal::print(|out| match invocation.format {
        MessageFormat::Human => report::limits(&run, &rooms, &empties, tightening, invocation.output_style, out),
        MessageFormat::Json => report::limits_json(&run, &rooms, &empties, out),
    })?;
    kept?;
    let code = report::limits_exit_code(&run);
    if tightening {
        if run.cases.iter().any(|case| case.problem.is_some()) || run.interrupted.is_some() || run.not_selected > 0 {
            return Err(Error::not_judged("nothing was tightened: not every case could be judged")
                .detail("a limit may hold for a case that was not measured; run  cargo memcheck  to see why"));
        }
        let file = project.plan.file.display().to_string();
        let lower = rooms
            .iter()
            .filter(|room| room.origin.file == file && room.tight() < room.limit);
        let edits: Edits = lower
            .map(|room| (room.origin.clone(), config::written(&room.metric, room.tight())))
            .collect();
        change(invocation, &edits, "Tightened")?;
    }
    Ok(ExitCode::from(code))
}

/// What a limit on own memory has for a program that does nothing, for each way in which those with such a limit are built. One
/// that cannot be built or measured has no row.
fn empty_programs(project: &Project, run: &RunReport) -> Vec<EmptyProgram> {
    let is_own = |limit: &LimitResult| matches!(limit.metric.subject(), Subject::Own(_));
    let mut empties = Empties::default();
    let mut found: Vec<EmptyProgram> = Vec::new();
    for case in &run.cases {
        let mut limits = case.checkpoints.iter().flat_map(|checkpoint| &checkpoint.limits);
        let planned = project.plan.cases.iter().find(|planned| planned.name == case.name);
        if let Some(planned) = planned.filter(|_| limits.any(is_own))
            && let Some(Ok(empty)) = empties.of(&project.plan, planned, &project.options, &project.cancel)
            && !found.contains(&empty)
        {
            found.push(empty);
        }
    }
    found
}

fn set(invocation: &Invocation, project: &Project, limits: &[String]) -> Result<ExitCode> {
    let page_bytes = capture::page_bytes_here().ok_or_else(|| Error::machine("the size of a page is unknown"))?;
    let mut edits = Edits::new();
    for text in limits {
        edits.extend(config::set(&project.plan, text, page_bytes)?);
    }
    change(invocation, &edits, "Changed")?;
    Ok(terminal::ok())
}

/// Writes memcheck.toml with other values in the same places, once the whole still has a meaning, and prints what changed.
fn change(invocation: &Invocation, edits: &Edits, verb: &str) -> Result<()> {
    let source = config::locate(&invocation.start)?.ok_or_else(|| project::no_configuration(invocation))?;
    let file = source
        .path
        .strip_prefix(&source.root)
        .unwrap_or(&source.path)
        .display()
        .to_string();
    if let Some(place) = edits.keys().find(|place| place.file != file) {
        return Err(Error::config(format!(
            "a limit is not written in {file} but at {place}: change it there"
        )));
    }
    let text = config::edited(&source.text, edits)?;
    if text == source.text {
        return terminal::say(|out| report::verb(invocation.style, "Unchanged", &format!("{file}: no limit would change"), out));
    }
    let edited = Source { text, ..source.clone() };
    let page_bytes = capture::page_bytes_here().ok_or_else(|| Error::machine("the size of a page is unknown"))?;
    let workspace = memcheck_harness::build::discover(&source.root)?;
    config::plan(&edited, workspace.as_ref(), &Overrides::default(), page_bytes)
        .map_err(|error| error.detail("nothing was written: memcheck.toml would be wrong then"))?;
    compare::write_whole(&source.path, edited.text.as_bytes())?;
    let diff = report::line_diff(&file, &source.text, &edited.text);
    terminal::say(|out| {
        report::verb(invocation.style, verb, &file, out)?;
        report::diff(invocation.style, &diff, out)
    })
}
