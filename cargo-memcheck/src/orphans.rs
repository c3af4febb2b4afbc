//! Approved snapshots without a case are named, by `run` and `list`, when all cases were looked at.

use std::collections::BTreeSet;

use memcheck_harness::compare;
use memcheck_harness::error::Result;
use memcheck_harness::report;

use crate::cli::{Invocation, MessageFormat};
use crate::project::Project;
use crate::terminal;

/// `built` are the names of all cases that harness tests build in Rust.
pub(crate) fn tell(invocation: &Invocation, project: &Project, built: &BTreeSet<&str>) -> Result<()> {
    let overrides = &invocation.overrides;
    if !overrides.filters.is_empty() || !overrides.packages.is_empty() || overrides.partition.is_some() {
        return Ok(());
    }
    let mut names = built.clone();
    names.extend(project.plan.cases.iter().map(|case| case.name.as_str()));
    let packages = project.workspace.iter().flat_map(|workspace| &workspace.packages);
    let directories = project
        .plan
        .cases
        .iter()
        .map(|case| case.package_dir.as_path())
        .chain(packages.map(|package| package.dir.as_path()))
        .chain([project.plan.root.as_path()]);
    for path in compare::orphans(directories, &names, &project.plan.defaults.environments) {
        let path = path.strip_prefix(&project.plan.root).unwrap_or(&path);
        if invocation.format == MessageFormat::Json {
            terminal::print(|out| report::unreferenced_json(path, out))?;
        }
        let text = format!(
            "{} belongs to no case (or environment): delete it, or give it back its name",
            path.display()
        );
        terminal::say(|out| report::warning(invocation.style, &text, out))?;
    }
    Ok(())
}
