//! `cargo memcheck accept --from`: what a job left pending, approved at home. The artifact is a stranger's data: each file must be
//! the snapshot of a case of this project, say what the job's results say was measured, and come from the environment of record.
//! Unless all that was asked for is sound nothing is approved.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use memcheck_harness::artifact::{self, Artifact};
use memcheck_harness::compare::{self, Incoming};
use memcheck_harness::error::{Error, Result};
use memcheck_harness::model::{CaseReport, Comparison, Environment, RunReport, SNAPSHOT_DIR, Side};
use memcheck_harness::{pipeline, report};

use crate::actions::Actions;
use crate::cli::{Invocation, MessageFormat};
use crate::project::{self, Project};
use crate::{harness, terminal};

/// Shows what each pending snapshot of an artifact means, and approves it.
pub(crate) fn accept(invocation: &Invocation, from: &Path, names: &[String]) -> Result<ExitCode> {
    let artifact = artifact::read(from, report::MAX_RESULTS_BYTES)?;
    let results = results(from, &artifact)?;
    // The environment of memcheck.toml is the job's, not this machine's.
    let mut asked = invocation.clone();
    asked.overrides.here = project::facts(results.environment.facts.clone(), results.ci);
    let project = project::open(&asked)?;
    let mut actions = Actions::new("accept", invocation, &project.plan);
    of_environment(&project, &results, &artifact, from)?;
    let is_first = of_record(&project, &results, from)?;
    let mut found = Vec::new();
    for (path, bytes) in &artifact.pending {
        match one(&project, &results, is_first, path, bytes) {
            Ok(one) if names.is_empty() || one.case.as_ref().is_some_and(|case| names.contains(case)) => found.push(one),
            Ok(_) => {}
            Err(error) => actions.failed(None, Path::new(path), &error)?,
        }
    }
    for name in names {
        if !found.iter().any(|one| one.case.as_ref() == Some(name)) {
            let error = Error::config(format!("{} holds no pending snapshot of case `{name}`", from.display()));
            actions.failed(Some(name), from, &error)?;
        }
    }
    show(invocation, &found)?;
    if actions.code() != report::exit::OK {
        return actions.finish("nothing was accepted: not all of the artifact is sound");
    }
    let mut accepted = 0;
    for one in &found {
        let path = &one.incoming.target;
        if one.incoming.is_approved() {
            actions.done("Unchanged", one.case.as_deref(), path, "it is approved already")?;
            continue;
        }
        match compare::accept_incoming(&one.incoming) {
            Ok(()) => {
                accepted += 1;
                actions.done("Accepted", one.case.as_deref(), path, &one.remark)?;
            }
            Err(error) => actions.failed(one.case.as_deref(), path, &error)?,
        }
    }
    actions.finish(&match accepted {
        0 if found.is_empty() => "nothing was pending there".to_owned(),
        0 => "nothing was accepted".to_owned(),
        1 => "accepted 1 snapshot".to_owned(),
        many => format!("accepted {many} snapshots"),
    })
}

/// One pending file of the artifact that may be approved.
struct Found {
    /// Absent for the environment of record.
    case: Option<String>,
    incoming: Incoming,
    remark: String,
}

/// What the job measured: without it nobody knows where and of what its snapshots are.
fn results(from: &Path, artifact: &Artifact) -> Result<RunReport> {
    let Some(bytes) = &artifact.results else {
        return Err(Error::config(format!("{} holds no results.json", from.display()))
            .detail("pending snapshots are approved together with the results that say where they were measured:")
            .detail("keep target/memcheck-data/results.json beside the directory `pending`, as the action does"));
    };
    let read = report::read_results(bytes).map_err(|why| Error::config(format!("{}: results.json: {why}", from.display())))?;
    if !read.complete {
        return Err(Error::config(format!("{}: results.json is incomplete", from.display()))
            .detail("the run did not come to its end: its snapshots may be of half a suite"));
    }
    Ok(read)
}

/// The job read `memcheck.toml` as it is read here: as that of the same `[environment.NAME]`. Which one was chosen by hand there
/// is chosen by hand here too, not by the artifact.
fn of_environment(project: &Project, results: &RunReport, artifact: &Artifact, from: &Path) -> Result<()> {
    let here = project.plan.defaults.environment.as_deref();
    let names = &project.plan.defaults.environments;
    for path in artifact.pending.keys() {
        let file = path.rsplit('/').next().and_then(|name| name.strip_suffix(".snap.new"));
        let Some(file) = file else { continue };
        let name = file
            .split_once('@')
            .map(|(_, name)| name)
            .or_else(|| file.strip_prefix("environment."));
        let is_plain = || file == "environment" || results.cases.iter().any(|case| case.name == file);
        let there = match name {
            Some(name) if names.iter().any(|known| known == name) => Some(name),
            None if is_plain() => None,
            // Of nothing we know: refused by its own name.
            _ => continue,
        };
        if there != here {
            let called = |name: Option<&str>| name.map_or_else(|| "without a name".to_owned(), |name| format!("`{name}`"));
            return Err(Error::config(format!(
                "{path} belongs to the environment {}, and memcheck.toml is read for the one {}",
                called(there),
                called(here)
            ))
            .detail(format!(
                "choose the environment of the job: cargo memcheck accept --from {} --env {}",
                from.display(),
                there.unwrap_or("default")
            )));
        }
    }
    Ok(())
}

/// The job ran in the environment of record, or there is none yet (true).
fn of_record(project: &Project, results: &RunReport, from: &Path) -> Result<bool> {
    if !compare::environment_path(&project.plan).exists() {
        return Ok(true);
    }
    let status = compare::environment(&project.plan, &results.environment, compare::Options::default())?;
    if status.differences.is_empty() {
        return Ok(false);
    }
    Err(Error::config(format!(
        "{} was measured in another environment than that of record: {}",
        from.display(),
        report::differences(&status)
    ))
    .detail("its snapshots would not hold there")
    .detail("to put the job's environment on record: let it run  cargo memcheck accept --environment"))
}

/// A file of the artifact against the project and the results.
fn one(project: &Project, results: &RunReport, is_first: bool, path: &str, bytes: &[u8]) -> Result<Found> {
    let plan = &project.plan;
    let Some(relative) = path.strip_suffix(".new") else {
        return Err(Error::config(format!("{path} is no pending snapshot")));
    };
    let target = plan.root.join(relative);
    if target == compare::environment_path(plan) {
        if !is_first {
            return Err(Error::config(format!("{path} would replace the environment of record"))
                .detail("that is a change of its own: cargo memcheck accept --environment, on such a machine"));
        }
        let incoming = compare::incoming(&target, bytes)?;
        return Ok(Found {
            case: None,
            incoming,
            remark: "the first environment of record".to_owned(),
        });
    }
    let measured = results.cases.iter().find(|case| case.snapshot.path == Path::new(relative));
    let is_own = plan
        .cases
        .iter()
        .any(|case| compare::has_snapshot(case) && compare::path(case) == target);
    let Some(measured) = measured.filter(|case| is_own || is_built_in_rust(project, case, &target)) else {
        return Err(Error::config(format!("{path} belongs to no case of this project"))
            .detail("check out the commit that the job measured: cargo memcheck list  names the cases there are"));
    };
    let incoming = compare::incoming(&target, bytes)?;
    if incoming.text != measured.snapshot.text {
        return Err(Error::not_judged(format!("{path} is not what the results say was measured"))
            .detail("the two are of different runs, or one was changed"));
    }
    let is_over = measured.violations() > 0;
    Ok(Found {
        case: Some(measured.name.clone()),
        incoming,
        remark: if is_over {
            "a budget is exceeded there too: accepting does not lift it".to_owned()
        } else {
            String::new()
        },
    })
}

/// A case that is not in the file: its snapshot lies in a package whose tests build cases.
fn is_built_in_rust(project: &Project, case: &CaseReport, target: &Path) -> bool {
    let mut packages = project.workspace.iter().flat_map(|workspace| &workspace.packages);
    harness::is_there(project)
        && target.file_name().is_some_and(|name| {
            let environment = project.plan.defaults.environment.as_ref();
            let environment = environment.map_or_else(String::new, |name| format!("@{name}"));
            *name == *format!("{}{environment}.snap", case.name)
        })
        && packages.any(|package| !package.harness_tests.is_empty() && target.parent() == Some(&package.dir.join(SNAPSHOT_DIR)))
}

/// What each change means, from the two texts alone: nothing is believed of the results.
fn show(invocation: &Invocation, found: &[Found]) -> Result<()> {
    let side = |word: &str| Side {
        word: word.to_owned(),
        label: format!("the {word} snapshots"),
        environment: Environment::default(),
    };
    let changed: Vec<&Found> = found.iter().filter(|one| !one.incoming.is_approved()).collect();
    let states: BTreeMap<PathBuf, _> = changed
        .iter()
        .filter_map(|one| Some((one.incoming.target.clone(), one.incoming.states()?)))
        .collect();
    let comparison = Comparison {
        schema: 0,
        tool_version: env!("CARGO_PKG_VERSION").to_owned(),
        before: side("approved"),
        now: side("pending"),
        same_machine: false,
        cases: states
            .values()
            .map(|(approved, now)| pipeline::snapshots(approved, now))
            .collect(),
        notes: Vec::new(),
        interrupted: None,
    };
    if invocation.format == MessageFormat::Json && !comparison.cases.is_empty() {
        terminal::print(|out| report::comparison_json(&comparison, out))?;
    }
    terminal::say(|out| {
        if !comparison.cases.is_empty() {
            report::comparison(&comparison, invocation.style, out)?;
        }
        for one in changed {
            let path = &one.incoming.target;
            // A new one is told in full when asked for; what changed is shown as reviewers will see it.
            if states.contains_key(path) || invocation.style.verbose > 0 || one.incoming.approved.is_some() {
                report::diff(invocation.style, &one.incoming.change(), out)?;
            }
        }
        Ok(())
    })
}
