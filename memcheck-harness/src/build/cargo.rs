//! Cargo targets: cases grouped into as few invocations as possible, executables taken from cargo's messages.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;

use cargo_metadata::Message;

use super::child::{self, Capture, Finished, Keep};
use super::discover::{kind, listed};
use super::tools::Tools;
use super::{Program, near};
use crate::error::{Error, Result};
use crate::model::{Cancel, Case, Package, PackageTarget, Plan, ProblemKind, Profile, Target, TargetKind, Workspace};

/// Messages of one invocation: a line of about 1 KiB for each crate, and what build scripts print.
const MESSAGES_MAX_BYTES: usize = 256 << 20;

/// What goes into one invocation of cargo, in the order in which they run.
///
/// Bins are built apart from examples, tests and benches: those bring in dev-dependencies, whose features cargo would unify
/// into the bins, and the measured program would not be the one that is shipped. Bins come last, so that
/// `target/<profile>/` holds the shippable ones afterwards.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Group {
    bins: bool,
    profile: Profile,
    triple: Option<String>,
    /// With features of its own, a package is built alone: `--features` then means this package under every resolver.
    alone: Option<String>,
    features: Vec<String>,
    /// The target may lack a required feature, which fails the whole invocation: keep it from the others.
    doubtful: bool,
}

/// A target of a member of the workspace.
#[derive(Clone, Copy, Debug)]
struct Found<'a> {
    package: &'a Package,
    target: &'a PackageTarget,
}

/// Builds the cargo targets among the plan's cases; the result is by index of the case.
pub(super) fn build(
    plan: &Plan,
    workspace: Option<&Workspace>,
    tools: &Tools,
    cancel: &Cancel,
) -> Result<BTreeMap<usize, Result<Program>>> {
    let mut results = BTreeMap::new();
    let mut groups: BTreeMap<Group, Vec<(usize, Found<'_>)>> = BTreeMap::new();
    for (index, case) in plan.cases.iter().enumerate() {
        let Target::Cargo {
            features,
            profile,
            triple,
            kind,
            ..
        } = &case.target
        else {
            continue;
        };
        match find(case, workspace) {
            Err(error) => {
                results.insert(index, Err(error));
            }
            Ok(found) => {
                let doubtful = missing_features(found.target, features).next().is_some();
                let mut features = features.clone();
                features.sort();
                features.dedup();
                let group = Group {
                    bins: *kind == TargetKind::Bin,
                    profile: profile.clone(),
                    triple: triple.clone(),
                    alone: (doubtful || !features.is_empty()).then(|| found.package.name.clone()),
                    features,
                    doubtful,
                };
                groups.entry(group).or_default().push((index, found));
            }
        }
    }
    let Some(workspace) = workspace.filter(|_| !groups.is_empty()) else {
        return Ok(results);
    };
    let rustc = rustc_version(&workspace.root, tools, cancel)?;
    for (group, members) in groups {
        let artifacts = run(&group, &members, &workspace.root, plan, tools, cancel);
        if let Err(error) = &artifacts
            && matches!(error.kind(), ProblemKind::Interrupted(_))
        {
            return Err(error.clone());
        }
        let toolchain = rustc.as_ref().map(|rustc| {
            let triple = group.triple.as_ref().map(|triple| format!(", {triple}")).unwrap_or_default();
            format!("{rustc}, {}{triple}", profile_name(&group.profile))
        });
        for (index, found) in members {
            let program = artifacts
                .clone()
                .map_err(|error| explain(error, found, &group))
                .and_then(|artifacts| executable(&artifacts, found, &group))
                .map(|path| Program {
                    path,
                    label: format!("{} {}", found.target.kind.name(), found.target.name),
                    toolchain: toolchain.clone(),
                    argv0: found.target.name.clone(),
                    fresh: true,
                });
            results.insert(index, program);
        }
    }
    Ok(results)
}

/// The member and target that a case means: its package, else the only one that has the target, else the case's own.
fn find<'a>(case: &Case, workspace: Option<&'a Workspace>) -> Result<Found<'a>> {
    let Target::Cargo { kind, name, package, .. } = &case.target else {
        return Err(Error::tool(format!("case {} has no cargo target", case.name)));
    };
    let what = format!("{} `{name}`", kind.name());
    let Some(workspace) = workspace else {
        return Err(
            Error::config(format!("{what} is a cargo target, but there is no Cargo.toml here"))
                .detail("for other programs: target = { c = … }, { path = … } or { command = … }"),
        );
    };
    if let Some(wanted) = package
        && !workspace.packages.iter().any(|package| package.name == *wanted)
    {
        let error = Error::config(format!("the workspace has no package `{wanted}`"));
        return Err(with_hint(
            error,
            wanted,
            workspace.packages.iter().map(|package| package.name.as_str()),
        ));
    }
    let candidates: Vec<Found<'a>> = workspace
        .packages
        .iter()
        .filter(|found| package.as_ref().is_none_or(|wanted| found.name == *wanted))
        .flat_map(|package| package.targets.iter().map(move |target| Found { package, target }))
        .filter(|found| found.target.kind == *kind)
        .collect();
    let matching: Vec<Found<'a>> = candidates
        .iter()
        .filter(|found| found.target.name == *name)
        .copied()
        .collect();
    let owner = |found: &&Found<'a>| Some(&found.package.name) == case.package.as_ref();
    match (matching.as_slice(), matching.iter().find(owner)) {
        ([one], _) | (_, Some(one)) => Ok(*one),
        ([], None) => {
            let error = Error::config(match package {
                Some(package) => format!("package `{package}` has no {what}"),
                None => format!("the workspace has no {what}"),
            });
            Err(with_hint(
                error,
                name,
                candidates.iter().map(|found| found.target.name.as_str()),
            ))
        }
        (several, None) => {
            let packages: Vec<&str> = several.iter().map(|found| found.package.name.as_str()).collect();
            Err(
                Error::config(format!("{what} exists in several packages: {}", packages.join(", "))).detail(format!(
                    "say which: target = {{ {} = \"{name}\", package = \"{}\" }}",
                    kind.name(),
                    packages[0]
                )),
            )
        }
    }
}

fn with_hint<'a>(error: Error, wanted: &str, names: impl Iterator<Item = &'a str>) -> Error {
    let names: BTreeSet<&str> = names.collect();
    let names: Vec<&str> = names.into_iter().collect();
    error.detail(match near::hint(wanted, names.iter().copied()) {
        Some(hint) => hint,
        None if names.len() > 20 => format!("there are {} others", names.len()),
        None => format!("there are: {}", listed(&names)),
    })
}

/// Required features that the case does not ask for. They may be on by default: cargo knows.
fn missing_features<'a>(target: &'a PackageTarget, features: &'a [String]) -> impl Iterator<Item = &'a str> {
    let wanted = |feature: &&String| !features.contains(feature);
    target.required_features.iter().filter(wanted).map(String::as_str)
}

fn profile_name(profile: &Profile) -> &str {
    match profile {
        Profile::Named(name) => name,
        Profile::Injected => "memcheck",
    }
}

#[expect(clippy::disallowed_methods, reason = "build starts programs")]
fn command(group: &Group, members: &[(usize, Found<'_>)], root: &Path, plan: &Plan, tools: &Tools) -> Command {
    let mut command = Command::new(&tools.cargo);
    // The root's directory, so that its .cargo/config.toml holds as it does for the user.
    command
        .current_dir(root)
        .args(["build", "--message-format=json-render-diagnostics"]);
    if let (Some(_), [(_, found), ..]) = (&group.alone, members) {
        command.arg("--manifest-path").arg(found.package.dir.join("Cargo.toml"));
    }
    let packages: BTreeSet<&str> = members.iter().map(|(_, found)| found.package.name.as_str()).collect();
    for package in packages {
        command.args(["--package", package]);
    }
    let targets: BTreeSet<(TargetKind, &str)> = members
        .iter()
        .map(|(_, found)| (found.target.kind, found.target.name.as_str()))
        .collect();
    for (kind, name) in targets {
        command.args([&format!("--{}", kind.name()), name]);
    }
    if group.profile == Profile::Injected {
        // The shipped code, with names and lines for the reports: neither changes what is loaded.
        for setting in [
            "profile.memcheck.inherits=\"release\"",
            "profile.memcheck.debug=\"line-tables-only\"",
            "profile.memcheck.strip=\"none\"",
        ] {
            command.args(["--config", setting]);
        }
    }
    command.args(["--profile", profile_name(&group.profile)]);
    if let Some(triple) = &group.triple {
        command.args(["--target", triple]);
    }
    if !group.features.is_empty() {
        command.arg("--features").arg(group.features.join(","));
    }
    command.args(&plan.defaults.cargo_args);
    command
}

/// Executables of one invocation: (manifest, kind, name) → path.
type Artifacts = BTreeMap<(PathBuf, TargetKind, String), PathBuf>;

fn run(
    group: &Group,
    members: &[(usize, Found<'_>)],
    root: &Path,
    plan: &Plan,
    tools: &Tools,
    cancel: &Cancel,
) -> Result<Artifacts> {
    let command = command(group, members, root, plan, tools);
    let shown = child::shown(&command);
    let finished = child::run(command, tools.cargo_output, Keep::First(MESSAGES_MAX_BYTES), cancel).map_err(|failure| {
        let remedy = "install Rust, or set CARGO to the path of cargo";
        super::command::not_started(&tools.cargo.display().to_string(), failure, remedy)
    })?;
    if !finished.status.success() {
        let error = Error::build(format!("cargo build failed: {}", child::ending(finished.status)));
        let error = match tools.cargo_output {
            Capture::Stdout => error.detail("cargo's messages stand above"),
            Capture::Both => child::with_lines(error, human_lines(&finished)),
        };
        return Err(error.detail(format!("command: {shown}")));
    }
    let mut artifacts = Artifacts::new();
    for message in Message::parse_stream(finished.output.as_slice()) {
        // What is no message of cargo's is text of a build script or of cargo itself.
        if let Ok(Message::CompilerArtifact(artifact)) = message
            && let (Some(path), Some(kind)) = (&artifact.executable, kind(&artifact.target))
        {
            artifacts.insert((artifact.manifest_path.into(), kind, artifact.target.name), path.into());
        }
    }
    Ok(artifacts)
}

/// What people read of a merged output: everything but the messages.
fn human_lines(finished: &Finished) -> Vec<String> {
    child::lines(finished, usize::MAX, false)
        .into_iter()
        .filter(|line| !line.starts_with("{\"reason\""))
        .take(200)
        .collect()
}

fn executable(artifacts: &Artifacts, found: Found<'_>, group: &Group) -> Result<PathBuf> {
    let key = (
        found.package.dir.join("Cargo.toml"),
        found.target.kind,
        found.target.name.clone(),
    );
    let what = format!(
        "{} `{}` of package {}",
        found.target.kind.name(),
        found.target.name,
        found.package.name
    );
    match artifacts.get(&key) {
        Some(path) if path.is_file() => Ok(path.clone()),
        Some(path) => Err(Error::build(format!(
            "cargo says it built {what}, but {} does not exist",
            path.display()
        ))),
        None => Err(explain(
            Error::build(format!("cargo built no program for {what}")),
            found,
            group,
        )),
    }
}

/// Names the required features that may be the reason of a failure.
fn explain(error: Error, found: Found<'_>, group: &Group) -> Error {
    let missing: Vec<&str> = missing_features(found.target, &group.features).collect();
    if missing.is_empty() {
        return error;
    }
    let all: Vec<String> = found
        .target
        .required_features
        .iter()
        .map(|feature| format!("\"{feature}\""))
        .collect();
    error
        .detail(format!(
            "{} `{}` requires the features: {}",
            found.target.kind.name(),
            found.target.name,
            missing.join(", ")
        ))
        .detail(format!(
            "unless they are on by default: target = {{ {} = \"{}\", features = [{}] }}",
            found.target.kind.name(),
            found.target.name,
            all.join(", ")
        ))
}

/// "rustc 1.95.0 (59807616e 2026-04-14)"; absent when rustc cannot be asked.
#[expect(clippy::disallowed_methods, reason = "build starts programs")]
fn rustc_version(root: &Path, tools: &Tools, cancel: &Cancel) -> Result<Option<String>> {
    let mut command = Command::new(&tools.rustc);
    command.arg("-V").current_dir(root);
    child::first_line(command, cancel)
}
