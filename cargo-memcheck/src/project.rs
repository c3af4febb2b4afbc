//! From where we stand to a plan: locate `memcheck.toml`, ask cargo about the workspace, read the configuration.

use std::collections::BTreeMap;
use std::path::PathBuf;

use memcheck_harness::config::{Overrides, Source};
use memcheck_harness::error::{Error, Result};
use memcheck_harness::model::{Cancel, Plan, Workspace};
use memcheck_harness::pipeline::Options;
use memcheck_harness::{build, capture, config};

use crate::cli::Invocation;

/// A plan and the workspace it belongs to.
pub(crate) struct Project {
    pub(crate) plan: Plan,
    pub(crate) workspace: Option<Workspace>,
    pub(crate) options: Options,
    pub(crate) cancel: Cancel,
    /// Names were given and none of them is a case: what to say about it.
    pub(crate) nothing_matches: Option<String>,
    /// Names of all cases of the file, when names were given and one of them is no case's.
    pub(crate) names: Vec<String>,
}

/// Reads everything that comes before building.
pub(crate) fn open(invocation: &Invocation) -> Result<Project> {
    find(invocation)?.ok_or_else(|| no_configuration(invocation))
}

/// As [`open`]; `None` without a `memcheck.toml`.
pub(crate) fn find(invocation: &Invocation) -> Result<Option<Project>> {
    let Some(source) = config::locate(&invocation.start)? else {
        return Ok(None);
    };
    let workspace = build::discover(&source.root)?;
    read(invocation, &source, workspace).map(Some)
}

/// The error for a place without a `memcheck.toml`.
pub(crate) fn no_configuration(invocation: &Invocation) -> Error {
    Error::config(format!("no memcheck.toml in {} or above", invocation.start.display()))
        .detail("a first one:")
        .detail("    [[case]]")
        .detail("    name = \"start\"")
        .detail("    target = { bin = \"NAME\" }      # or { c = \"FILE.c\" }, { path = \"PROGRAM\" }, { command = \"PROGRAM\" }")
        .detail("    [[case.checkpoint]]")
        .detail("    name = \"main\"")
        .detail("    at = \"main\"")
        .detail("cargo memcheck init             writes one for a cargo project")
        .detail("cargo memcheck init --c         writes one for a C project, and memcheck.h")
        .detail("cargo memcheck show -- PROGRAM  shows the memory of any program without one")
}

/// The plan of a configuration.
pub(crate) fn read(invocation: &Invocation, source: &Source, workspace: Option<Workspace>) -> Result<Project> {
    let cancel = Cancel::new();
    memcheck_harness::interrupt::on_signals(&cancel)?;
    read_with(invocation, source, workspace, cancel)
}

/// As [`read`], sharing the wish to stop with what goes on already.
pub(crate) fn read_with(
    invocation: &Invocation,
    source: &Source,
    workspace: Option<Workspace>,
    cancel: Cancel,
) -> Result<Project> {
    let page_bytes = capture::page_bytes_here()
        .ok_or_else(|| Error::machine("the size of a page is unknown: /proc is not mounted or not readable"))?;
    let overrides = Overrides {
        here: match &invocation.overrides.here {
            none if none.is_empty() => facts(capture::environment().facts, invocation.ci),
            given => given.clone(),
        },
        ..invocation.overrides.clone()
    };
    let plan = config::plan(source, workspace.as_ref(), &overrides, page_bytes)?;
    let filters = &invocation.overrides.filters;
    let is_known = |filter: &String| plan.cases.iter().any(|case| case.name.contains(filter));
    let names = if filters.iter().all(is_known) {
        Vec::new()
    } else {
        let all = config::plan(source, workspace.as_ref(), &Overrides::default(), page_bytes)?;
        all.cases.into_iter().map(|case| case.name).collect()
    };
    let matches = |name: &String| is_selected(&invocation.overrides, name);
    let nothing_matches = (plan.cases.is_empty() && !names.is_empty() && !names.iter().any(matches))
        .then(|| config::nothing_matches(&names, filters));
    let options = Options {
        jobs: invocation.jobs,
        write_pending: true,
        // A job leaves its tree as it was checked out, and what is pending in one place to be kept.
        pending_dir: invocation
            .pending_dir
            .clone()
            .or_else(|| invocation.ci.then(|| job_pending(&plan))),
        inherited: invocation.inherited.clone(),
        ci: invocation.ci,
        today: capture::today(),
    };
    Ok(Project {
        plan,
        workspace,
        options,
        cancel,
        nothing_matches,
        names,
    })
}

/// Where a job's pending snapshots go when nobody says.
pub(crate) fn job_pending(plan: &Plan) -> PathBuf {
    plan.data_dir.join("pending")
}

/// What `[environment.NAME]` may match: the facts of a machine, and whether `CI` is set.
pub(crate) fn facts(mut facts: BTreeMap<String, String>, ci: bool) -> BTreeMap<String, String> {
    facts.insert("CI".to_owned(), ci.to_string());
    facts
}

/// Whether a case of this name is among those that were asked for.
pub(crate) fn is_selected(overrides: &Overrides, name: &str) -> bool {
    let matches = |filter: &String| {
        if overrides.exact {
            name == filter
        } else {
            name.contains(filter.as_str())
        }
    };
    overrides.filters.is_empty() || overrides.filters.iter().any(matches)
}

/// Each name must be a case of the plan: a typing error must not pass for "nothing to do".
pub(crate) fn all_known(project: &Project, names: &[String]) -> Result<()> {
    let cases = &project.plan.cases;
    match names.iter().find(|name| !cases.iter().any(|case| case.is_called(name))) {
        None => Ok(()),
        Some(unknown) => {
            let error = Error::config(format!("there is no case `{unknown}`"));
            let there: Vec<String> = cases.iter().map(|case| case.name.clone()).collect();
            let error = match config::did_you_mean(unknown, &[there, project.names.clone()].concat()) {
                Some(hint) => error.detail(hint),
                None => error,
            };
            Err(error.detail("cargo memcheck list  names them"))
        }
    }
}
