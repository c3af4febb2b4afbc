//! `cargo memcheck`: measure and judge.

use std::collections::BTreeSet;
use std::process::ExitCode;

use memcheck_harness::config::Overrides;
use memcheck_harness::error::{Error, Result};
use memcheck_harness::model::RunReport;
use memcheck_harness::pipeline::Event;
use memcheck_harness::{config, pipeline, report};

use crate::cli::{self, Invocation, MessageFormat, RunOptions};
use crate::project::Project;
use crate::results::{Keeper, RESULTS};
use crate::{first, github, harness, orphans, project, revision, terminal};

/// Builds, measures, judges, reports; without a `memcheck.toml` it measures and shows only.
pub(crate) fn run(invocation: &Invocation, run: &RunOptions) -> Result<ExitCode> {
    let Some(mut project) = project::find(invocation)? else {
        return first::contact(invocation, run);
    };
    project.options.write_pending &= !run.no_pending;
    let progress = terminal::Progress::new(invocation);
    if let Some(mut text) = selects_nothing(invocation, &mut project, &progress) {
        if let Some(command) = cli::near_command(&invocation.overrides.filters) {
            text = format!("{text}; {command}");
        }
        // A name that was mistyped is no run: the results of the last one stay.
        progress.finish()?;
        project.options.write_pending = false;
        let report = pipeline::run(&project.plan, None, &project.options, &project.cancel, &|_| ())?;
        terminal::say(|out| report::warning(invocation.style, &text, out))?;
        return end(invocation, run, &project, &report, Ok(()));
    }
    forget_pending(invocation, &project)?;
    let keeper = Keeper::begin(&project)?;
    let mut report = measured(invocation, &project, &progress, &keeper)?;
    progress.finish()?;
    // A test that left no results may have cases whose snapshots are there.
    if report.interrupted.is_none() && report.cases.iter().all(|case| !case.name.starts_with("test ")) {
        let built: BTreeSet<&str> = report.cases.iter().map(|case| case.name.as_str()).collect();
        orphans::tell(invocation, &project, &built)?;
    }
    revision::tell(invocation, &project, run.since.as_deref(), &mut report)?;
    report.job = invocation.github.as_ref().and_then(|github| github.job.clone());
    let kept = keeper.finish(&mut report);
    end(invocation, run, &project, &report, kept)
}

/// Names were given, and neither a case of the file nor one that a test builds in Rust has one of them: what to say then.
fn selects_nothing(invocation: &Invocation, project: &mut Project, progress: &terminal::Progress<'_>) -> Option<String> {
    let text = project.nothing_matches.take()?;
    if !harness::is_there(project) {
        return Some(text);
    }
    // A test that cannot be asked is told by the run.
    let built = harness::names(&Overrides::default(), project, progress).ok()?;
    if built
        .iter()
        .any(|built| project::is_selected(&invocation.overrides, &built.name))
    {
        return None;
    }
    project.names.extend(built.into_iter().map(|built| built.name));
    Some(config::nothing_matches(&project.names, &invocation.overrides.filters))
}

/// What is said at the end, and the exit code.
fn end(invocation: &Invocation, run: &RunOptions, project: &Project, report: &RunReport, kept: Result<()>) -> Result<ExitCode> {
    if invocation.format == MessageFormat::Json {
        terminal::print(|out| report::json(report, out))?;
    }
    if report.complete && report.not_selected == 0 && report.partition.is_none() {
        for text in config::unmet_policies(&project.plan.defaults.unmet, &report.cases) {
            terminal::say(|out| report::warning(invocation.style, &text, out))?;
        }
    }
    terminal::say(|out| report::summary(report, invocation.style, out))?;
    kept?;
    let directory = &project.plan.data_dir;
    github::tell(invocation, report, directory, &directory.join(RESULTS))?;
    let code = report::exit_code(report);
    if code == report::exit::NOTHING && run.pass_without_cases && report.cases.is_empty() {
        return Ok(terminal::ok());
    }
    Ok(ExitCode::from(code))
}

/// What an earlier job left pending in a target directory that was kept is not this one's.
fn forget_pending(invocation: &Invocation, project: &Project) -> Result<()> {
    let directory = project::job_pending(&project.plan);
    if !invocation.ci || project.options.pending_dir.as_ref() != Some(&directory) {
        return Ok(());
    }
    match std::fs::remove_dir_all(&directory) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(Error::file("remove", &directory, &error)),
        _ => Ok(()),
    }
}

/// Runs the cases of the file and those of harness tests.
pub(crate) fn measured(
    invocation: &Invocation,
    project: &Project,
    progress: &terminal::Progress<'_>,
    keeper: &Keeper,
) -> Result<RunReport> {
    let measured = pipeline::run(
        &project.plan,
        project.workspace.as_ref(),
        &project.options,
        &project.cancel,
        &|event| {
            if let Event::Finished { case, .. } = &event {
                keeper.keep(case);
            }
            progress.show(&event);
        },
    );
    let mut report = measured.inspect_err(|error| keeper.stopped(error))?;
    harness::run(invocation, project, &mut report, progress, keeper)?;
    report.waivers = pipeline::waivers(&project.plan, &project.options, &report);
    Ok(report)
}
