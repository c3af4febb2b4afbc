//! `cargo memcheck accept --environment`: this machine becomes the environment of record, and the snapshots that differ for no
//! other reason go with it. What differs for another reason stays as it is approved.
//!
//! How that is known: the commit that approved a snapshot is checked out, built and measured here as well. Where it gives the
//! same as the working tree, the code has no part in the difference from what is approved: the environment has. Where it gives
//! something else, the case would differ in the old environment too. Where that cannot be measured, it is not known.

use std::collections::BTreeMap;
use std::process::ExitCode;

use memcheck_harness::compare::{self, Approved, Options, Pending};
use memcheck_harness::error::{Error, Result};
use memcheck_harness::model::{Case, Plan, SnapshotStatus};
use memcheck_harness::pipeline::{self, Recorded, Recording};
use memcheck_harness::{build, normalize, report};

use crate::accept::{RUNS, approve};
use crate::actions::Actions;
use crate::base::{Planned, at_base};
use crate::cli::Invocation;
use crate::project::{self, Project};
use crate::{harness, terminal};

/// A case that differs from what is approved.
struct Differing<'a> {
    case: &'a Case,
    approved: Approved,
    recorded: &'a Recorded,
}

/// Why a case is not taken.
enum Refused {
    /// It differs in the old environment as well.
    ByItself(String),
    /// Nobody can tell.
    Unknown(String),
}

/// Makes this machine the environment of record.
pub(crate) fn environment(invocation: &Invocation) -> Result<ExitCode> {
    let project = project::open(invocation)?;
    let mut actions = Actions::new("accept", invocation, &project.plan);
    // The case's own file decides whether it has a snapshot; those without are none of this command's.
    let plan = of_cases(&project.plan, |case| {
        compare::has_snapshot(case) && compare::approved(case).is_ok_and(|approved| approved.is_some())
    });
    let recording = recorded(invocation, &project, &plan, RUNS)?;
    let here = facts(invocation, &project)?;
    let status = compare::environment(&project.plan, &here, Options::default())?;
    let is_new = !status.is_of_record() || status.recorded != file_name(&project.plan);
    let differing = differing(&plan, &recording, &mut actions)?;
    let mut taken = 0;
    let mut refused = 0;
    for (case, verdict) in verdicts(invocation, &project, &differing, is_new)? {
        let name = Some(case.case.name.as_str());
        let path = compare::path(case.case);
        match verdict {
            Ok(why) => {
                approve(&project.plan, case.case, case.recorded, Some(&case.approved))?;
                taken += 1;
                actions.done("Accepted", name, &path, &why)?;
            }
            Err(why) => {
                refused += 1;
                actions.count(report::exit::SNAPSHOT);
                let why = match why {
                    Refused::ByItself(why) => format!("it differs under the old environment as well: {why}"),
                    Refused::Unknown(why) => format!("whether the environment is the reason is not known: {why}"),
                };
                let remark = format!("{why}; to approve it as it is now: cargo memcheck accept {}", case.case.name);
                actions.done("Refused", name, &path, &remark)?;
            }
        }
    }
    if harness::is_there(&project) {
        let remark = "cases that tests build in Rust are not looked at here: cargo memcheck accept takes what they leave";
        actions.done("Note", None, &compare::environment_path(&project.plan), remark)?;
    }
    let words = [
        (taken, "taken with it"),
        (refused, "refused"),
        (plan.cases.len().saturating_sub(taken + refused), "as approved"),
    ];
    let cases: Vec<String> = words
        .iter()
        .filter(|(count, _)| *count > 0)
        .map(|(count, what)| format!("{count} {what}"))
        .collect();
    let tail = if cases.is_empty() {
        String::new()
    } else {
        format!("; cases: {}", cases.join(", "))
    };
    if !is_new {
        return actions.finish(&format!("this machine is on record already{tail}"));
    }
    compare::propose_environment(&project.plan, &here, None)?;
    let record = compare::environment_path(&project.plan);
    let pending = compare::pending(&project.plan, Options::default())?;
    if let Some(pending) = pending.iter().find(|pending: &&Pending| pending.target == record) {
        compare::accept(pending)?;
        actions.done("Accepted", None, &record, &report::differences(&status))?;
    }
    actions.finish(&format!("this machine is on record now{tail}"))
}

fn file_name(plan: &Plan) -> Option<String> {
    let path = compare::environment_path(plan);
    path.file_name().map(|name| name.to_string_lossy().into_owned())
}

fn of_cases(plan: &Plan, wanted: impl Fn(&Case) -> bool) -> Plan {
    Plan {
        cases: plan.cases.iter().filter(|case| wanted(case)).cloned().collect(),
        ..plan.clone()
    }
}

/// The facts of this machine and of all compilers of the plan.
fn facts(invocation: &Invocation, project: &Project) -> Result<memcheck_harness::model::Environment> {
    let progress = terminal::Progress::new(invocation);
    let here = pipeline::environment(&project.plan, project.workspace.as_ref(), &project.cancel, &|event| {
        progress.show(&event);
    })?;
    progress.finish()?;
    Ok(here)
}

/// Measures without judging or writing.
fn recorded(invocation: &Invocation, project: &Project, plan: &Plan, times: usize) -> Result<Recording> {
    let progress = terminal::Progress::new(invocation);
    let options = pipeline::Options {
        write_pending: false,
        ..project.options.clone()
    };
    let recording = pipeline::record(plan, project.workspace.as_ref(), &options, times, &project.cancel, &|event| {
        progress.show(&event);
    })?;
    progress.finish()?;
    match project.cancel.signal() {
        Some(signal) => Err(Error::interrupted(signal)),
        None => Ok(recording),
    }
}

fn differing<'a>(plan: &'a Plan, recording: &'a Recording, actions: &mut Actions<'_>) -> Result<Vec<Differing<'a>>> {
    let mut found = Vec::new();
    for (case, recorded) in plan.cases.iter().zip(&recording.cases) {
        let recorded = match recorded {
            Ok(recorded) => recorded,
            Err(error) => {
                actions.failed(Some(&case.name), &compare::path(case), error)?;
                continue;
            }
        };
        let Some(approved) = compare::approved(case)? else { continue };
        let outcome = compare::compare(plan, case, &recorded.snapshot, Some(&approved), Options::default());
        if outcome.status != SnapshotStatus::Same {
            found.push(Differing {
                case,
                approved,
                recorded,
            });
        }
    }
    Ok(found)
}

/// One verdict for each case: why it is taken, or why it is not.
fn verdicts<'d, 'a>(
    invocation: &Invocation,
    project: &Project,
    differing: &'d [Differing<'a>],
    is_new: bool,
) -> Result<Vec<(&'d Differing<'a>, std::result::Result<String, Refused>)>> {
    let mut verdicts = Vec::new();
    // One build for all cases of one commit.
    let mut commits: BTreeMap<String, Vec<&Differing<'_>>> = BTreeMap::new();
    for one in differing {
        if !is_new {
            let why = "this machine is the one on record".to_owned();
            verdicts.push((one, Err(Refused::ByItself(why))));
            continue;
        }
        match build::last_change(&project.plan.root, &compare::approved_path(one.case), &project.cancel) {
            Ok(Some((commit, true))) => verdicts.push((one, Ok(same_as(&commit, "the working tree is that commit")))),
            Ok(Some((commit, false))) => commits.entry(commit).or_default().push(one),
            Ok(None) => verdicts.push((one, Err(Refused::Unknown("its snapshot is not committed".to_owned())))),
            Err(error) => verdicts.push((one, Err(Refused::Unknown(error.problem().title.clone())))),
        }
    }
    for (commit, cases) in commits {
        match then(invocation, project, &commit, &cases) {
            Ok(found) => verdicts.extend(cases.into_iter().zip(found)),
            Err(error) if project.cancel.signal().is_some() => return Err(error),
            Err(error) => {
                let why = format!("{} cannot be measured here: {}", short(&commit), error.problem().title);
                verdicts.extend(cases.into_iter().map(|one| (one, Err(Refused::Unknown(why.clone())))));
            }
        }
    }
    verdicts.sort_by_key(|(one, _)| differing.iter().position(|other| std::ptr::eq(other, *one)));
    Ok(verdicts)
}

/// The commit that approved the cases, measured here and now.
fn then(
    invocation: &Invocation,
    project: &Project,
    commit: &str,
    cases: &[&Differing<'_>],
) -> Result<Vec<std::result::Result<String, Refused>>> {
    let progress = terminal::Progress::new(invocation);
    let base = build::base(
        &project.plan.root,
        &project.plan.data_dir,
        Some(commit),
        None,
        &project.cancel,
        &|event| progress.show(&pipeline::Event::Build(event)),
    )?;
    progress.finish()?;
    let head = Planned {
        project: project::open(invocation)?,
        written: Some(String::new()),
    };
    let measured = at_base(invocation, &head, &base).and_then(|(there, _)| {
        let wanted = |case: &Case| cases.iter().any(|one| one.case.name == case.name);
        let plan = of_cases(&there.project.plan, wanted);
        let recording = recorded(invocation, &there.project, &plan, RUNS)?;
        Ok((plan, recording))
    });
    base.remove()?;
    let (plan, recording) = measured?;
    let of = |name: &str| {
        let at = plan.cases.iter().position(|case| case.name == name)?;
        recording.cases.get(at)
    };
    let verdicts = cases.iter().map(|one| match of(&one.case.name) {
        None => Err(Refused::Unknown(format!("{} has no such case", short(commit)))),
        Some(Err(error)) => Err(Refused::Unknown(format!(
            "{} cannot be measured here: {}",
            short(commit),
            error.problem().title
        ))),
        Some(Ok(then)) => verdict(&project.plan, one, then, commit),
    });
    Ok(verdicts.collect())
}

/// Held against each other as a run is held against what is approved: with the same tolerances.
fn verdict(plan: &Plan, one: &Differing<'_>, then: &Recorded, commit: &str) -> std::result::Result<String, Refused> {
    let reference = Approved {
        text: normalize::render(&then.snapshot),
        snapshot: Ok(then.snapshot.clone()),
    };
    let outcome = compare::compare(plan, one.case, &one.recorded.snapshot, Some(&reference), Options::default());
    if outcome.status == SnapshotStatus::Same {
        return Ok(same_as(commit, "built and run here, it gives the same"));
    }
    Err(Refused::ByItself(format!(
        "{}, which approved it, gives something else here ({} of the snapshot)",
        short(commit),
        if outcome.rows == 1 {
            "1 row".to_owned()
        } else {
            format!("{} rows", outcome.rows)
        }
    )))
}

fn same_as(commit: &str, how: &str) -> String {
    format!("approved by {}: {how}, so the difference is the environment's", short(commit))
}

fn short(commit: &str) -> &str {
    commit.get(..12).unwrap_or(commit)
}
