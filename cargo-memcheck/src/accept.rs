//! `cargo memcheck accept`: what a case takes now becomes approved. Every case is measured again first: a pending file that was
//! made from another state is not taken unseen, and a new case is never approved after one run.

use std::path::Path;
use std::process::ExitCode;

use memcheck_harness::compare::{self, Approved, Options, Pending};
use memcheck_harness::error::{Error, Result};
use memcheck_harness::model::{Case, EnvironmentStatus, Package, Plan, SnapshotStatus, Target};
use memcheck_harness::pipeline::{Recorded, Recording};
use memcheck_harness::{normalize, pipeline, report};

use crate::actions::Actions;
use crate::cli::Invocation;
use crate::project::{self, Project};
use crate::{harness, terminal};

/// How often a case is measured before it is approved: what differs between the runs is written `varies`.
pub(crate) const RUNS: usize = 3;

/// A case that may be approved, with what was there before its target ran.
struct Candidate {
    case: Case,
    approved: Option<Approved>,
    pending: Option<Pending>,
}

/// Accepts what is new or pending of the named cases (of all, without names). A named case is approved as it is now, whether
/// something is pending or not; without names and with nothing pending, cases are only compared.
pub(crate) fn accept(invocation: &Invocation, names: &[String]) -> Result<ExitCode> {
    let project = project::open(invocation)?;
    let built = built(&project, names)?;
    for name in names {
        if !built.iter().any(|pending| pending.case() == Some(name)) {
            project::all_known(&project, std::slice::from_ref(name))
                .map_err(|error| harness::approved_by_its_test(&project, name, error))?;
        }
    }
    let mut actions = Actions::new("accept", invocation, &project.plan);
    let candidates = candidates(&project, &mut actions)?;
    let mut tally = Tally::default();
    accept_built(&built, &mut actions, &mut tally)?;
    let is_waiting = |candidate: &Candidate| candidate.approved.is_none() || candidate.pending.is_some();
    let is_asked = |candidate: &Candidate| !names.is_empty() || is_waiting(candidate);
    let on_record = compare::environment_path(&project.plan);
    let environment = waiting(&project)?.into_iter().any(|pending| pending.target == on_record);
    let compares_only =
        !candidates.iter().any(is_asked) && !environment && tally.accepted == 0 && actions.code() == report::exit::OK;
    let chosen: Vec<Candidate> = candidates
        .into_iter()
        .filter(|candidate| compares_only || is_asked(candidate))
        .collect();
    let recording = record(invocation, &project, &chosen, if compares_only { 1 } else { RUNS })?;
    let recorded = recording.as_ref().map_or([].as_slice(), |recording| &recording.cases);
    for (candidate, recorded) in chosen.iter().zip(recorded) {
        let settled = recorded.as_ref().map_err(Clone::clone).and_then(|recorded| {
            let step = Step {
                project: &project,
                candidate,
                recorded,
                is_of_record: recording
                    .as_ref()
                    .is_none_or(|recording| recording.environment.differences.is_empty()),
                compares_only,
            };
            settle(&step, &mut actions, &mut tally)
        });
        if let Err(error) = settled {
            tally.left += 1;
            let error = error.detail(format!("{} was not accepted", candidate.case.name));
            actions.failed(Some(&candidate.case.name), &compare::path(&candidate.case), &error)?;
        }
    }
    let status = recording.as_ref().map(|recording| &recording.environment);
    accept_environment(&project, names, status, &mut actions, &mut tally)?;
    if let Some(status) = status.filter(|status| !status.differences.is_empty() && tally.accepted > 0) {
        let text = format!(
            "this is not the environment of record ({}): what is accepted here may not hold there; to put this machine on record: \
             cargo memcheck accept --environment",
            report::differences(status)
        );
        actions.done("Warning", None, &compare::environment_path(&project.plan), &text)?;
    }
    let text = tally.text(compares_only, chosen.len());
    actions.finish(&text)
}

/// What came out, for the last line.
#[derive(Default)]
struct Tally {
    accepted: usize,
    unchanged: usize,
    left: usize,
}

impl Tally {
    fn text(&self, compares_only: bool, measured: usize) -> String {
        let plural = |count: usize, noun: &str| format!("{count} {noun}{}", if count == 1 { "" } else { "s" });
        let are = |count: usize| if count == 1 { "is" } else { "are" };
        let text = match (self.accepted, self.unchanged) {
            _ if compares_only && measured == 0 => "nothing was pending, and no case has a snapshot".to_owned(),
            _ if compares_only && self.left == 0 => format!(
                "nothing was pending: measured again, {} {} as approved",
                plural(measured, "case"),
                are(measured)
            ),
            _ if compares_only => "nothing was pending, nothing was accepted".to_owned(),
            (0, 0) => "nothing was accepted".to_owned(),
            (0, unchanged) => format!(
                "nothing to accept: measured again, {} {} as approved",
                plural(unchanged, "case"),
                are(unchanged)
            ),
            (accepted, _) => format!("accepted {}", plural(accepted, "snapshot")),
        };
        match self.left {
            0 => text,
            left if self.accepted + self.unchanged > 0 => format!("{text}, {left} not accepted"),
            _ => text,
        }
    }
}

fn waiting(project: &Project) -> Result<Vec<Pending>> {
    compare::pending(&project.plan, project.options.comparing())
}

/// The cases that have a snapshot, with what is approved and pending. What is damaged is told and left out.
fn candidates(project: &Project, actions: &mut Actions<'_>) -> Result<Vec<Candidate>> {
    let pending = waiting(project)?;
    let mut found = Vec::new();
    for case in project.plan.cases.iter().filter(|case| compare::has_snapshot(case)) {
        let path = compare::path(case);
        let of_case = pending.iter().find(|pending| pending.target == path);
        let approved = compare::approved(case);
        for other in pending.iter().filter(|other| is_of(case, other) && other.target != path) {
            let remark = format!(
                "it belongs to another environment; to accept it: cargo memcheck accept --env {} {}",
                other.environment().unwrap_or("default"),
                case.name
            );
            actions.done("Skipped", Some(&case.name), &other.path, &remark)?;
        }
        let damage = of_case.and_then(|pending| pending.damage.clone()).map(Error::from);
        match (approved, damage) {
            (Err(error), _) | (Ok(Some(_)), Some(error)) => actions.failed(Some(&case.name), &path, &error)?,
            // Of a case that was never approved the pending file is made anew anyway.
            (Ok(approved), _) => found.push(Candidate {
                case: case.clone(),
                approved,
                pending: of_case.filter(|pending| pending.damage.is_none()).cloned(),
            }),
        }
    }
    if harness::is_there(project) {
        return Ok(found);
    }
    for orphan in pending.iter().filter(|pending| is_orphan(project, pending)) {
        let case = orphan.case().unwrap_or_default();
        let error = Error::not_judged(format!("{} belongs to no case", orphan.path.display())).detail(format!(
            "there is no case `{case}` there (any more); drop it: cargo memcheck reject"
        ));
        actions.failed(orphan.case(), &orphan.path, &error)?;
    }
    Ok(found)
}

/// A pending file of no case of the file.
fn is_orphan(project: &Project, pending: &Pending) -> bool {
    !pending.is_environment() && !project.plan.cases.iter().any(|case| is_of(case, pending))
}

/// A pending file of the case, in whatever environment.
fn is_of(case: &Case, pending: &Pending) -> bool {
    pending.case() == Some(&case.name) && pending.target.parent() == compare::path(case).parent()
}

/// Pending files of cases that are built in Rust (the named ones, or all), beside the tests that build them.
fn built(project: &Project, names: &[String]) -> Result<Vec<Pending>> {
    let packages = project.workspace.iter().flat_map(|workspace| &workspace.packages);
    let any = |package: &Package| Case::new("", &package.dir, Target::Command { program: String::new() });
    let beside = Plan {
        cases: packages
            .filter(|package| !package.harness_tests.is_empty())
            .map(any)
            .collect(),
        cases_in_file: 0,
        ..project.plan.clone()
    };
    if beside.cases.is_empty() {
        return Ok(Vec::new());
    }
    let is_asked = |pending: &Pending| names.is_empty() || names.iter().any(|name| pending.case() == Some(name));
    let is_in_file = |pending: &Pending| project.names.iter().any(|name| pending.case() == Some(name));
    let mut found = compare::pending(&beside, project.options.comparing())?;
    found.retain(|pending| is_orphan(project, pending) && is_asked(pending) && !is_in_file(pending));
    Ok(found)
}

/// Only their tests measure them, so they are taken as they are.
fn accept_built(built: &[Pending], actions: &mut Actions<'_>, tally: &mut Tally) -> Result<()> {
    for pending in built {
        match compare::accept(pending) {
            Ok(()) => {
                tally.accepted += 1;
                let remark = "as it was pending: its case is built in Rust, and was not measured again";
                actions.done("Accepted", pending.case(), &pending.target, remark)?;
            }
            Err(error) => actions.failed(pending.case(), &pending.path, &error)?,
        }
    }
    Ok(())
}

fn record(invocation: &Invocation, project: &Project, chosen: &[Candidate], times: usize) -> Result<Option<Recording>> {
    if chosen.is_empty() {
        return Ok(None);
    }
    let plan = Plan {
        cases: chosen.iter().map(|candidate| candidate.case.clone()).collect(),
        ..project.plan.clone()
    };
    let progress = terminal::Progress::new(invocation);
    let options = pipeline::Options {
        write_pending: true,
        ..project.options.clone()
    };
    let recording = pipeline::record(
        &plan,
        project.workspace.as_ref(),
        &options,
        times,
        &project.cancel,
        &|event| progress.show(&event),
    )?;
    progress.finish()?;
    match project.cancel.signal() {
        Some(signal) => Err(Error::interrupted(signal)),
        None => Ok(Some(recording)),
    }
}

/// One measured case and what its fate depends on.
struct Step<'a> {
    project: &'a Project,
    candidate: &'a Candidate,
    recorded: &'a Recorded,
    is_of_record: bool,
    compares_only: bool,
}

fn settle(step: &Step<'_>, actions: &mut Actions<'_>, tally: &mut Tally) -> Result<()> {
    let Candidate { case, approved, pending } = step.candidate;
    let plan = &step.project.plan;
    let outcome = compare::compare(plan, case, &step.recorded.snapshot, approved.as_ref(), Options::default());
    let path = compare::path(case);
    let name = Some(case.name.as_str());
    let rows = if outcome.rows == 1 {
        "1 row".to_owned()
    } else {
        format!("{} rows", outcome.rows)
    };
    match (outcome.status, pending) {
        // Three runs that are as approved do not outdate what others showed: the row varies.
        (SnapshotStatus::Same | SnapshotStatus::Differs, Some(pending)) if pending.says_varies(case, &step.recorded.snapshot) => {
            compare::accept(pending)?;
            tally.accepted += 1;
            actions.done("Accepted", name, &path, "")?;
            return varies(&normalize::varying(&normalize::parse(&pending.text)?), name, &path, actions);
        }
        (SnapshotStatus::Same, Some(pending)) => {
            compare::reject(pending)?;
            tally.unchanged += 1;
            let remark = "measured again, the case is as approved; the pending file is dropped";
            return actions.done("Outdated", name, &pending.path, remark);
        }
        (SnapshotStatus::Same, None) => {
            tally.unchanged += 1;
            if step.compares_only {
                return Ok(());
            }
            return actions.done("Unchanged", name, &path, "measured again, the case is as approved");
        }
        (SnapshotStatus::Differs, None) if step.compares_only => {
            tally.left += 1;
            actions.count(report::exit::SNAPSHOT);
            let differ = if outcome.rows == 1 { "differs" } else { "differ" };
            let remark = format!(
                "measured now, {rows} {differ}; to approve that: cargo memcheck accept {}",
                case.name
            );
            return actions.done("Skipped", name, &path, &remark);
        }
        (SnapshotStatus::Differs, Some(pending)) if !step.is_of_record && !compare::is_current(pending, &outcome.text) => {
            // It may come from the environment of record: a job's artifact. Here nobody can tell.
            compare::accept(pending)?;
            tally.accepted += 1;
            let remark = "as it was pending: it could not be checked by measuring, as this is not the environment of record";
            return actions.done("Accepted", name, &path, remark);
        }
        (SnapshotStatus::Differs, Some(pending)) if !compare::is_current(pending, &outcome.text) => {
            let options = Options {
                write: true,
                ..step.project.options.comparing()
            };
            let again = compare::compare(plan, case, &step.recorded.snapshot, approved.as_ref(), options);
            if let Some(error) = again.pending_error {
                return Err(Error::tool(error));
            }
            tally.left += 1;
            actions.count(report::exit::SNAPSHOT);
            let remark = format!(
                "it was made from another state, and was not accepted; what is measured now is pending instead: look at it with \
                 cargo memcheck review {0}, or accept again",
                case.name
            );
            return actions.done("Outdated", name, &pending.path, &remark);
        }
        _ => {}
    }
    approve(plan, case, step.recorded, approved.as_ref())?;
    if let Some(pending) = pending {
        compare::reject(pending)?;
    }
    tally.accepted += 1;
    let remark = match (outcome.status, pending) {
        (SnapshotStatus::Differs, None) => format!("{rows}; nothing was pending, so it is approved as measured now"),
        _ => String::new(),
    };
    actions.done("Accepted", name, &path, &remark)?;
    varies(&outcome.varying, name, &path, actions)?;
    for setting in &step.recorded.refused {
        let text = format!(
            "{}: this machine refused {setting}; the snapshot may not hold elsewhere",
            case.name
        );
        actions.done("Warning", name, &path, &text)?;
    }
    Ok(())
}

/// Names the rows that are not gated from now on.
fn varies(rows: &[String], name: Option<&str>, path: &Path, actions: &mut Actions<'_>) -> Result<()> {
    for row in rows {
        let remark = format!("{row} differs from run to run and is not gated");
        actions.done("Varies", name, path, &remark)?;
    }
    Ok(())
}

/// The one way a snapshot becomes approved: through a pending file beside it.
pub(crate) fn approve(plan: &Plan, case: &Case, recorded: &Recorded, approved: Option<&Approved>) -> Result<()> {
    let options = Options {
        write: true,
        pending_dir: None,
    };
    let outcome = compare::compare(plan, case, &recorded.snapshot, approved, options);
    if let Some(error) = outcome.pending_error {
        return Err(Error::tool(error));
    }
    let path = compare::path(case);
    let pending = compare::pending(plan, Options::default())?;
    match pending.iter().find(|pending| pending.target == path) {
        Some(pending) => compare::accept(pending),
        None => Err(Error::tool(format!("the pending file of {} is gone", path.display()))),
    }
}

/// An environment of record says where snapshots were approved: where none was accepted there is nothing to put on record.
fn accept_environment(
    project: &Project,
    names: &[String],
    status: Option<&EnvironmentStatus>,
    actions: &mut Actions<'_>,
    tally: &mut Tally,
) -> Result<()> {
    let is_first = status.is_some_and(|status| status.recorded.is_none()) && tally.accepted > 0;
    let all_failed = tally.accepted == 0 && actions.code() != report::exit::OK;
    if !is_first && (!names.is_empty() || all_failed) {
        return Ok(());
    }
    let record = compare::environment_path(&project.plan);
    for pending in waiting(project)?.iter().filter(|pending| pending.target == record) {
        match compare::accept(pending) {
            Ok(()) => {
                tally.accepted += 1;
                actions.done("Accepted", None, &pending.target, "")?;
            }
            Err(error) => actions.failed(None, &pending.target, &error)?,
        }
    }
    Ok(())
}

/// A file's path relative to the root, for people.
pub(crate) fn relative(plan: &Plan, path: &Path) -> String {
    path.strip_prefix(&plan.root).unwrap_or(path).display().to_string()
}
