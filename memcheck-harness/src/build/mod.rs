//! Workspace discovery and builds: cargo targets, C fixtures, build commands, programs on PATH → `Binary`.
//! Owns the order of builds, the lock around them, and what is known of a finished program. Launches no target.

mod base;
mod c;
mod cargo;
mod changed;
mod child;
mod command;
mod compiler;
mod discover;
mod harness_test;
mod hash;
mod header;
mod lock;
mod near;
mod program;
mod step;
mod tools;

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::path::{Path, PathBuf};

use crate::error::{Error, Result};
use crate::model::{Binary, Cancel, Case, Environment, Name, Package, Plan, ProblemKind, Target, Workspace};

pub use self::base::{Base, base, last_change};
pub use self::changed::{Changed, ChangedFile, changed};
pub use self::harness_test::TestEnd;
use self::tools::Tools;
pub(crate) use step::step;

/// `memcheck.h`: the marker for C and C++, as it is put on the include path of C targets.
pub use memcheck_probe::HEADER;

/// What is missing for building a case's target, as far as looking for the compiler tells: nothing is started.
pub(crate) fn missing_compiler(case: &Case, root: &Path) -> Option<String> {
    let Target::C { compiler, .. } = &case.target else {
        return None;
    };
    compiler::missing(compiler.as_deref(), root, &Tools::from_environment())
}

/// Progress of a build, for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BuildEvent {
    /// Waiting for another run that builds in the same place.
    Waiting,
    /// Something is being built: a verb and what ("Compiling", "examples/c/threads.c (cc)"). Cargo's own builds are not
    /// among them: cargo shows their progress itself.
    Started {
        /// A status word.
        verb: &'static str,
        /// What.
        what: String,
    },
}

/// Asks cargo (`$CARGO`, else `cargo`) about the workspace around `dir`; `None` when there is no `Cargo.toml` upwards.
///
/// # Errors
/// Cargo is missing or refuses the manifest (its own words are in the details), or `[package.metadata.memcheck]` is wrong.
pub fn discover(dir: &Path) -> Result<Option<Workspace>> {
    discover::workspace(dir, &Tools::from_environment())
}

/// Builds everything the plan's cases need; one entry per case, in plan order. Cargo renders its progress and diagnostics on
/// the inherited standard error; everything else is captured and shown only in errors. Built files are synced to disk, since
/// pages of a file that still wait for being written count as dirty in whoever maps them.
///
/// # Errors
/// Interrupted, or the lock below `plan.data_dir` cannot be taken. What concerns single cases is in their entry.
pub fn build(
    plan: &Plan,
    workspace: Option<&Workspace>,
    cancel: &Cancel,
    progress: &dyn Fn(BuildEvent),
) -> Result<Vec<Result<Binary>>> {
    build_with(plan, workspace, &Tools::from_environment(), cancel, progress)
}

/// A harness test and how it is to be run.
#[derive(Clone, Debug)]
pub struct HarnessTest<'a> {
    /// Its package.
    pub package: &'a Package,
    /// Its name.
    pub name: &'a str,
    /// Its arguments.
    pub args: Vec<OsString>,
    /// Variables to set, or (without a value) to take away.
    pub env: Vec<(&'a str, Option<OsString>)>,
}

/// Builds a harness test (in the dev profile, as `cargo test` does) and runs it to its end. How it ends is no error.
///
/// # Errors
/// It cannot be built or started, or a signal asked to stop.
pub fn harness_test(
    plan: &Plan,
    workspace: &Workspace,
    test: &HarnessTest<'_>,
    cancel: &Cancel,
    progress: &dyn Fn(BuildEvent),
) -> Result<TestEnd> {
    harness_test::run(plan, workspace, test, cancel, progress)
}

/// Facts about the compilers of what was built: `built-with.gcc` → `12.2.0`. Two versions of one compiler stand side by side.
#[must_use]
pub fn facts<'a>(binaries: impl Iterator<Item = &'a Binary>) -> BTreeMap<String, String> {
    let mut versions: BTreeMap<String, BTreeSet<&str>> = BTreeMap::new();
    for toolchain in binaries.filter_map(|binary| binary.toolchain.as_deref()) {
        // "rustc 1.95.0, release": the profile is the configuration's, not the machine's.
        let compiler = toolchain.split_once(',').map_or(toolchain, |(compiler, _)| compiler);
        let (name, version) = compiler.split_once(' ').unwrap_or((compiler, ""));
        versions
            .entry(format!("{}{name}", Environment::BUILT_WITH))
            .or_default()
            .insert(version.trim());
    }
    versions
        .into_iter()
        .map(|(name, versions)| (name, versions.into_iter().collect::<Vec<_>>().join(", ")))
        .collect()
}

/// What a step of this module found out about one target.
#[derive(Clone, Debug)]
struct Program {
    path: PathBuf,
    label: String,
    toolchain: Option<String>,
    /// `argv[0]` when the launch is to be repeatable: without directories that differ between machines, since programs copy it
    /// to their heap.
    argv0: String,
    /// Built just now or by the user, and so possibly not on disk yet.
    fresh: bool,
}

fn build_with(
    plan: &Plan,
    workspace: Option<&Workspace>,
    tools: &Tools,
    cancel: &Cancel,
    progress: &dyn Fn(BuildEvent),
) -> Result<Vec<Result<Binary>>> {
    let builds = |case: &Case| !matches!(case.target, Target::Command { .. } | Target::Built { build: None, .. });
    let _lock = if plan.cases.iter().any(builds) {
        Some(lock::acquire(&plan.data_dir, cancel, progress)?)
    } else {
        None
    };
    let mut from_cargo = cargo::build(plan, workspace, tools, cancel)?;
    let mut compilers = c::Compilers::new(plan, tools, cancel, progress);
    let mut commands = command::Commands::new(plan, tools, cancel, progress);
    // Several cases often share a target; it is built, or fails, once.
    let mut done: Vec<(&Target, Result<Program>)> = Vec::new();
    let mut binaries = Vec::with_capacity(plan.cases.len());
    for (index, case) in plan.cases.iter().enumerate() {
        let program = match (
            from_cargo.remove(&index),
            done.iter().find(|(target, _)| **target == case.target),
        ) {
            (Some(program), _) => program,
            (None, Some((_, program))) => program.clone(),
            (None, None) => {
                let program = match &case.target {
                    Target::Cargo { name, .. } => Err(Error::tool(format!("cargo target {name} was forgotten"))),
                    Target::C {
                        sources,
                        cflags,
                        ldflags,
                        compiler,
                    } => compilers.build(sources, cflags, ldflags, compiler.as_deref()),
                    Target::Built { path, build } => commands.built(path, build.as_deref()),
                    Target::Command { program } => commands.lookup(program),
                };
                done.push((&case.target, program.clone()));
                program
            }
        };
        match program.and_then(|program| finish(program, case)) {
            Err(error) if matches!(error.kind(), ProblemKind::Interrupted(_)) => return Err(error),
            Err(error) => binaries.push(Err(at_case(error, case))),
            Ok(binary) => binaries.push(Ok(binary)),
        }
    }
    Ok(binaries)
}

/// Looks into the file and turns it into what the launch needs.
fn finish(program: Program, case: &Case) -> Result<Binary> {
    let kind = program::inspect(&program.path)?;
    if program.fresh {
        program::sync(&program.path);
    }
    let (script, label) = match kind {
        program::Kind::Elf => (false, program.label),
        program::Kind::Script { interpreter } => (
            true,
            format!("{} (a script: {} is what runs)", program.label, interpreter.display()),
        ),
    };
    let argv0 = if case.as_is && !matches!(case.target, Target::Command { .. }) {
        Name::new(program.path.as_os_str().as_encoded_bytes())
    } else {
        Name::from(program.argv0.as_str())
    };
    Ok(Binary {
        path: program.path,
        label,
        script,
        toolchain: program.toolchain,
        argv0,
    })
}

/// Adds where the target was written.
fn at_case(error: Error, case: &Case) -> Error {
    if case.target_place.file.is_empty() {
        return error;
    }
    let place = case.target_place.to_string();
    error.detail(format!("target of case {} at {place}", case.name))
}

#[cfg(test)]
mod tests;
