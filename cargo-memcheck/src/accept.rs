//! `cargo memcheck accept`: pending snapshots become the approved ones; cases that have none yet are measured three times first.

use std::process::ExitCode;

use memcheck_harness::compare::{self, Pending};
use memcheck_harness::error::{Error, Result};
use memcheck_harness::model::{Case, Plan};
use memcheck_harness::pipeline::Recorded;
use memcheck_harness::{pipeline, report};

use crate::cli::Invocation;
use crate::project::{self, Project};
use crate::terminal;

/// How often a new case is measured before it is approved: what differs between the runs is written `varies`.
const RUNS_OF_A_NEW_CASE: usize = 3;

/// Accepts everything pending of the named cases (of all, without names).
pub(crate) fn accept(invocation: &Invocation, names: &[String]) -> Result<ExitCode> {
    let project = project::open(invocation)?;
    project::all_known(&project.plan, names)?;
    let (new, known): (Vec<Case>, Vec<Case>) = project
        .plan
        .cases
        .iter()
        .filter(|case| !case.snapshot.off)
        .cloned()
        .partition(|case| !compare::path(case).exists());
    let mut code = report::exit::OK;
    let mut accepted = 0;
    for (case, measured) in measure(invocation, &project, &new)? {
        match measured {
            Ok(recorded) => {
                approve(invocation, &project, case, &recorded)?;
                accepted += 1;
            }
            Err(error) => {
                if code == report::exit::OK {
                    code = report::exit::of_problem(error.kind());
                }
                let problem = error.detail(format!("{} was not accepted", case.name)).into_problem();
                terminal::say(|out| report::error(&problem, invocation.style, out))?;
            }
        }
    }
    // An environment of record says where snapshots were approved: without one there is nothing to put on record.
    let all_failed = accepted == 0 && code != report::exit::OK;
    for pending in compare::pending(&project.plan, project.options.comparing())? {
        if is_of(&pending, &known) || (names.is_empty() && pending.is_environment() && !all_failed) {
            compare::accept(&pending)?;
            let text = relative(&project.plan, &pending);
            terminal::say(|out| report::verb(invocation.style, "Accepted", &text, out))?;
            accepted += 1;
        }
    }
    let what = match accepted {
        0 if code != report::exit::OK => "nothing was accepted".to_owned(),
        0 => "nothing was pending".to_owned(),
        1 => "accepted 1 snapshot".to_owned(),
        n => format!("accepted {n} snapshots"),
    };
    terminal::say(|out| writeln!(out, "{what}"))?;
    Ok(ExitCode::from(code))
}

fn measure<'a>(invocation: &Invocation, project: &Project, new: &'a [Case]) -> Result<Vec<(&'a Case, Result<Recorded>)>> {
    if new.is_empty() {
        return Ok(Vec::new());
    }
    let plan = Plan {
        cases: new.to_vec(),
        ..project.plan.clone()
    };
    let progress = terminal::Progress::new(invocation);
    let options = pipeline::Options {
        write_pending: true,
        ..project.options.clone()
    };
    let recorded = pipeline::record(
        &plan,
        project.workspace.as_ref(),
        &options,
        RUNS_OF_A_NEW_CASE,
        &project.cancel,
        &|event| progress.show(&event),
    )?;
    progress.finish()?;
    if let Some(signal) = project.cancel.signal() {
        return Err(Error::interrupted(signal));
    }
    Ok(new.iter().zip(recorded).collect())
}

/// The one way a snapshot becomes approved: through a pending file.
fn approve(invocation: &Invocation, project: &Project, case: &Case, recorded: &Recorded) -> Result<()> {
    let outcome = compare::compare(
        &project.plan,
        case,
        &recorded.snapshot,
        None,
        compare::Options {
            write: true,
            pending_dir: None,
        },
    );
    if let Some(error) = outcome.pending_error {
        return Err(Error::tool(error));
    }
    let style = invocation.style;
    for pending in compare::pending(&project.plan, compare::Options::default())? {
        if pending.target == compare::path(case) {
            compare::accept(&pending)?;
            let text = relative(&project.plan, &pending);
            terminal::say(|out| report::verb(style, "Accepted", &text, out))?;
        }
    }
    for row in &outcome.varying {
        let text = format!("{}: {row} differs from run to run and is not gated", case.name);
        terminal::say(|out| report::verb(style, "Varies", &text, out))?;
    }
    for setting in &recorded.refused {
        let text = format!(
            "{}: this machine refused {setting}; the snapshot may not hold elsewhere",
            case.name
        );
        terminal::say(|out| report::warning(style, &text, out))?;
    }
    Ok(())
}

/// Makes this machine the environment of record: the one reviewed change after an upgrade of its image.
pub(crate) fn environment(invocation: &Invocation) -> Result<ExitCode> {
    let project = project::open(invocation)?;
    let progress = terminal::Progress::new(invocation);
    let here = pipeline::environment(&project.plan, project.workspace.as_ref(), &project.cancel, &|event| {
        progress.show(&event);
    })?;
    progress.finish()?;
    compare::propose_environment(&project.plan, &here, None)?;
    for pending in compare::pending(&project.plan, compare::Options::default())? {
        if pending.is_environment() {
            compare::accept(&pending)?;
            let text = relative(&project.plan, &pending);
            terminal::say(|out| report::verb(invocation.style, "Accepted", &text, out))?;
            return Ok(terminal::ok());
        }
    }
    terminal::say(|out| writeln!(out, "this machine is on record already"))?;
    Ok(terminal::ok())
}

/// True when the pending file belongs to one of the cases.
pub(crate) fn is_of(pending: &Pending, cases: &[Case]) -> bool {
    cases.iter().any(|case| compare::path(case) == pending.target)
}

/// The approved file's path relative to the root, for people.
pub(crate) fn relative(plan: &Plan, pending: &Pending) -> String {
    pending
        .target
        .strip_prefix(&plan.root)
        .unwrap_or(&pending.target)
        .display()
        .to_string()
}
