//! A cargo workspace without `memcheck.toml`: every bin is measured and shown, nothing is written, nothing is gated.

use std::process::ExitCode;
use std::time::Duration;

use memcheck_harness::config::Source;
use memcheck_harness::empty::Empties;
use memcheck_harness::error::{Error, Result};
use memcheck_harness::model::{At, Cancel, CaseReport, CheckpointSpec, End, ExpectedEnd, Place, ProblemKind, Workspace};
use memcheck_harness::{build, init, interrupt, pipeline, report};

use crate::cli::{Invocation, MessageFormat, RunOptions};
use crate::project::{self, Project};
use crate::{show, terminal};

/// How long a program may run before its exit is given up: a server never comes to it.
const PATIENCE: Duration = Duration::from_secs(3);
/// When a program that still runs is shown.
const RUNNING: Duration = Duration::from_secs(2);
/// What that place is called.
const STILL: &str = "running";

/// Measures what `init` would write down, as information.
pub(crate) fn contact(invocation: &Invocation, run: &RunOptions) -> Result<ExitCode> {
    let Some(workspace) = build::discover(&invocation.start)? else {
        return Err(project::no_configuration(invocation));
    };
    if invocation.ci {
        return Err(
            Error::config("no memcheck.toml: under CI a run that gates nothing is a failure")
                .detail("cargo memcheck init  writes a first one; commit it with its snapshots"),
        );
    }
    if !invocation.overrides.budgets.is_empty() {
        return Err(Error::config("--budget needs a memcheck.toml: nothing is gated without one")
            .detail("cargo memcheck init  writes it"));
    }
    let cancel = Cancel::new();
    interrupt::on_signals(&cancel)?;
    let mut project = plan(invocation, workspace, cancel)?;
    for case in &mut project.plan.cases {
        // What still runs then is shown there.
        if let Some(exit) = case.checkpoints.iter().position(|checkpoint| checkpoint.at == At::Exit) {
            case.checkpoints.insert(exit, CheckpointSpec::new(STILL, At::After(RUNNING)));
        }
    }
    let progress = terminal::Progress::new(invocation);
    let mut cases = pipeline::observe(
        &project.plan,
        project.workspace.as_ref(),
        &project.options,
        &project.cancel,
        &|event| progress.show(&event),
    )?;
    progress.finish()?;
    let mut empties = Empties::default();
    for case in &mut cases {
        forgive(case);
        let planned = project.plan.cases.iter().find(|planned| planned.name == case.name);
        let empty = planned
            .filter(|_| !case.checkpoints.is_empty())
            .and_then(|planned| show::empty_program(&mut empties, &project, planned, case));
        terminal::print(|out| match invocation.format {
            MessageFormat::Human => report::show(case, None, empty.as_ref(), invocation.output_style, out),
            MessageFormat::Json => report::show_json(case, None, empty.as_ref(), out),
        })?;
    }
    if let Some(signal) = project.cancel.signal() {
        return Err(Error::interrupted(signal));
    }
    if let Some(text) = &project.nothing_matches {
        terminal::say(|out| report::warning(invocation.style, text, out))?;
    }
    terminal::say(|out| writeln!(out, "{}", last_line(&cases, project.plan.cases_in_file)))?;
    Ok(ExitCode::from(code(&cases, run.pass_without_cases)))
}

/// Every bin at `main` and at its exit: what `init` would write down, each with a short time and any end.
pub(crate) fn plan(invocation: &Invocation, workspace: Workspace, cancel: Cancel) -> Result<Project> {
    let source = Source {
        root: workspace.root.clone(),
        path: workspace.root.join("memcheck.toml"),
        text: init::for_cargo(&workspace),
    };
    let mut project = project::read_with(invocation, &source, Some(workspace), cancel)?;
    for case in &mut project.plan.cases {
        case.exit = Some(ExpectedEnd::Any);
        case.timeout = PATIENCE;
        // There is no file that these places could be looked up in.
        case.place = Place::default();
        case.target_place = Place::default();
        for checkpoint in &mut case.checkpoints {
            checkpoint.place.clone_from(&Place {
                file: "tried without a memcheck.toml".to_owned(),
                ..Place::default()
            });
        }
    }
    Ok(project)
}

/// Either the end or the place before it is missing: that is no failure here, but it is explained.
fn forgive(case: &mut CaseReport) {
    let reached = |name: &str| case.checkpoints.iter().any(|checkpoint| checkpoint.name == name);
    let still = reached(STILL);
    if reached("exit") || (case.end == Some(End::TimedOut) && still) {
        case.problem = None;
        case.checkpoints_planned = case.checkpoints.len();
    }
    if case.end == Some(End::TimedOut) && still {
        // That we ended it says nothing of the program.
        case.end = None;
        case.notes.push(format!(
            "{} was still running after {} s: its last table shows it then, and it was ended. What does not end by itself needs a \
             checkpoint of its own: cargo memcheck init writes an example.",
            case.name,
            RUNNING.as_secs()
        ));
    }
}

fn last_line(cases: &[CaseReport], bins: usize) -> String {
    let plural = |count: usize, noun: &str| format!("{count} {noun}{}", if count == 1 { "" } else { "s" });
    let stops: usize = cases.iter().map(|case| case.checkpoints.len()).sum();
    match (stops, cases.len()) {
        (0, 0) if bins == 0 => {
            "nothing was measured: the workspace has no bin; to measure something else: cargo memcheck init".to_owned()
        }
        (0, 0) => format!("nothing was measured: {} not selected", plural(bins, "bin")),
        (stops, bins) => format!(
            "measured {} in {}: nothing is gated without a memcheck.toml; to begin: cargo memcheck init; \
             what a change grew: cargo memcheck compare",
            plural(stops, "checkpoint"),
            plural(bins, "program")
        ),
    }
}

/// A failed build or machine counts; a program that could not be judged does only when nothing else was measured.
fn code(cases: &[CaseReport], pass_without_cases: bool) -> u8 {
    let problems = || {
        cases
            .iter()
            .filter_map(|case| case.problem.as_ref().map(|problem| problem.kind))
    };
    let measured = cases.iter().any(|case| !case.checkpoints.is_empty());
    let heavy = [
        ProblemKind::Config,
        ProblemKind::Build,
        ProblemKind::Machine,
        ProblemKind::Tool,
    ];
    match heavy.into_iter().find(|kind| problems().any(|problem| problem == *kind)) {
        Some(kind) => report::exit::of_problem(kind),
        None if measured => report::exit::OK,
        None if cases.is_empty() && pass_without_cases => report::exit::OK,
        None if cases.is_empty() => report::exit::NOTHING,
        None => report::exit::NOT_JUDGED,
    }
}
