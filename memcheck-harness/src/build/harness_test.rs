//! A harness test (`[package.metadata.memcheck] tests`): built as any test, and run to its end. What it leaves in its results
//! file is the caller's to read.

use std::process::Command;

use super::child::{self, Capture, Failure, Keep};
use super::tools::Tools;
use super::{BuildEvent, HarnessTest, build_with};
use crate::error::{Error, Result};
use crate::model::{Cancel, Case, Plan, Profile, Target, TargetKind, Workspace};

/// Bytes kept of what the test prints: it is shown only when there are no results.
const OUTPUT_BYTES: usize = 16 << 10;

/// How a test ended, for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TestEnd {
    /// "exit code 101"
    pub ending: String,
    /// The end of what it printed.
    pub output: String,
}

/// See [`super::harness_test`].
pub(super) fn run(
    plan: &Plan,
    workspace: &Workspace,
    test: &HarnessTest<'_>,
    cancel: &Cancel,
    progress: &dyn Fn(BuildEvent),
) -> Result<TestEnd> {
    let tools = Tools::from_environment();
    let (package, name) = (test.package, test.name);
    let target = Target::Cargo {
        kind: TargetKind::Test,
        name: name.to_owned(),
        package: Some(package.name.clone()),
        features: Vec::new(),
        profile: Profile::Named("dev".to_owned()),
        triple: None,
    };
    let mut case = Case::new(name, &package.dir, target);
    case.package = Some(package.name.clone());
    let alone = Plan {
        root: plan.root.clone(),
        file: plan.file.clone(),
        is_cargo: plan.is_cargo,
        data_dir: plan.data_dir.clone(),
        defaults: plan.defaults.clone(),
        cases: vec![case],
        cases_in_file: 1,
        partition: None,
    };
    let mut built = build_with(&alone, Some(workspace), &tools, cancel, progress)?;
    let binary = built
        .pop()
        .unwrap_or_else(|| Err(Error::tool(format!("test {name} was forgotten"))))?;
    #[expect(clippy::disallowed_methods, reason = "build starts programs")]
    let mut command = Command::new(&binary.path);
    // As cargo test does: the package is where the test runs and what it belongs to.
    command
        .args(&test.args)
        .current_dir(&package.dir)
        .env("CARGO", &tools.cargo)
        .env("CARGO_MANIFEST_DIR", &package.dir);
    for (name, value) in &test.env {
        match value {
            Some(value) => command.env(name, value),
            None => command.env_remove(name),
        };
    }
    let finished = child::run(command, Capture::Both, Keep::Last(OUTPUT_BYTES), cancel).map_err(|failure| match failure {
        Failure::Start(error) => Error::tool(format!("could not run test {name}: {error}")),
        Failure::Interrupted(signal) => Error::interrupted(signal),
    })?;
    Ok(TestEnd {
        ending: child::ending(finished.status),
        output: String::from_utf8_lossy(&finished.output).into_owned(),
    })
}
