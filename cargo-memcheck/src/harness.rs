//! Harness tests that packages name: each is run for its cases built in Rust, and its results join the report.

use memcheck_harness::build::{self, HarnessTest, TestEnd};
use memcheck_harness::config::Overrides;
use memcheck_harness::error::{Error, Result};
use memcheck_harness::harness::captures_beside;
use memcheck_harness::model::{CaseReport, Outcome, Package, ProblemKind, RunReport, Workspace};
use memcheck_harness::pipeline::Event;
use memcheck_harness::{pipeline, report};

use crate::cli::Invocation;
use crate::project::Project;
use crate::results::Keeper;
use crate::terminal::Progress;

/// Runs every harness test of the workspace. A test without complete results becomes a failed case: nothing is known of its own.
pub(crate) fn run(
    invocation: &Invocation,
    project: &Project,
    report: &mut RunReport,
    progress: &Progress<'_>,
    keeper: &Keeper,
) -> Result<()> {
    let Some(workspace) = &project.workspace else { return Ok(()) };
    for package in &workspace.packages {
        for test in &package.harness_tests {
            if report.interrupted.is_some() {
                return Ok(());
            }
            let cases = match results(invocation, project, workspace, package, test, progress, keeper) {
                Ok(found) => found.cases,
                Err(error) if matches!(error.kind(), ProblemKind::Interrupted(_)) => {
                    report.complete = false;
                    report.interrupted = project.cancel.signal();
                    return Ok(());
                }
                Err(error) => vec![failed(package, test, error)],
            };
            let total = report.cases.len() + cases.len();
            for case in cases {
                let case = unique(report, case);
                progress.show(&Event::Finished {
                    run: report,
                    case: &case,
                    done: report.cases.len() + 1,
                    total,
                });
                report.cases.push(case);
            }
        }
    }
    Ok(())
}

/// What a test that did its work ends with, in the words of the build.
const SUCCESS: &str = "exit code 0";

/// And one of whose cases one failed, as libtest has it.
const FAILURE: &str = "exit code 101";

/// Whether the workspace has cases that are built in Rust.
pub(crate) fn is_there(project: &Project) -> bool {
    let mut packages = project.workspace.iter().flat_map(|workspace| &workspace.packages);
    packages.any(|package| !package.harness_tests.is_empty())
}

/// An error about an unknown case, with how one that is built in Rust is approved.
pub(crate) fn approved_by_its_test(project: &Project, name: &str, error: Error) -> Error {
    let packages = project.workspace.iter().flat_map(|workspace| &workspace.packages);
    let tests = packages.flat_map(|package| package.harness_tests.iter().map(move |test| (&package.name, test)));
    tests.fold(error, |error, (package, test)| {
        error.detail(format!(
            "a case built in Rust:  INSTA_UPDATE=always cargo test -p {package} --test {test} -- --exact {name}"
        ))
    })
}

/// A case built in Rust.
pub(crate) struct Built {
    pub(crate) name: String,
    pub(crate) package: String,
    pub(crate) test: String,
}

/// The cases that harness tests build in Rust, as the tests list them: nothing is measured.
pub(crate) fn names(overrides: &Overrides, project: &Project, progress: &Progress<'_>) -> Result<Vec<Built>> {
    let mut found = Vec::new();
    let packages = project.workspace.iter().flat_map(|workspace| &workspace.packages);
    for (package, test) in packages.flat_map(|package| package.harness_tests.iter().map(move |test| (package, test))) {
        let Some(workspace) = &project.workspace else { break };
        let run = HarnessTest {
            package,
            name: test,
            args: ["--list", "--format", "terse"].map(Into::into).to_vec(),
            env: vec![
                // With results asked for, a test speaks of its own cases only; listing writes none.
                ("MEMCHECK_RESULTS", Some(project.plan.data_dir.join("results/list").into())),
                ("MEMCHECK_OVERRIDES", Some(overrides.to_text().into())),
            ],
        };
        let end = build::harness_test(&project.plan, workspace, &run, &project.cancel, &|event| {
            progress.show(&Event::Build(event));
        })?;
        if end.ending != SUCCESS {
            return Err(no_results(package, test, "it did not list its cases", &end));
        }
        let names = end.output.lines().filter_map(|line| line.strip_suffix(": test"));
        found.extend(names.map(|name| Built {
            name: name.to_owned(),
            package: package.name.clone(),
            test: test.clone(),
        }));
    }
    Ok(found)
}

fn results(
    invocation: &Invocation,
    project: &Project,
    workspace: &Workspace,
    package: &Package,
    test: &str,
    progress: &Progress<'_>,
    keeper: &Keeper,
) -> Result<RunReport> {
    let directory = project.plan.data_dir.join("results");
    let path = directory.join(format!("{}.{test}.{}.json", package.name, std::process::id()));
    std::fs::create_dir_all(&directory).map_err(|error| Error::file("create", &directory, &error))?;
    let update = if project.options.write_pending { "new" } else { "no" };
    let run = HarnessTest {
        package,
        name: test,
        args: vec!["--test-threads".into(), project.options.jobs.to_string().into()],
        env: vec![
            ("MEMCHECK_RESULTS", Some(path.clone().into())),
            ("MEMCHECK_OVERRIDES", Some(invocation.overrides.to_text().into())),
            ("INSTA_UPDATE", Some(update.into())),
            ("INSTA_PENDING_DIR", project.options.pending_dir.clone().map(Into::into)),
            ("INSTA_FORCE_PASS", None),
        ],
    };
    let end = build::harness_test(&project.plan, workspace, &run, &project.cancel, &|event| {
        progress.show(&Event::Build(event));
    })?;
    let bytes = std::fs::read(&path);
    // It is read once; a file that stays behind carries the number of a process and is taken for nobody's.
    let _ = std::fs::remove_file(&path);
    let captures = std::fs::read(captures_beside(&path)).unwrap_or_default();
    let _ = std::fs::remove_file(captures_beside(&path));
    let read = bytes.map_err(|error| format!("it left none ({error})"));
    let read = read.and_then(|bytes| report::read_results(&bytes)).and_then(of_this_version);
    let read = read.and_then(|read| ends_as_it_says(project, &end.ending, read));
    let read = read.map_err(|why| no_results(package, test, &why, &end))?;
    captures
        .split_inclusive(|byte| *byte == b'\n')
        .for_each(|line| keeper.line(line));
    Ok(read)
}

/// Writer and reader must be of one version, and the test must have come to its end.
fn of_this_version(read: RunReport) -> std::result::Result<RunReport, String> {
    let here = env!("CARGO_PKG_VERSION");
    if read.tool_version != here {
        return Err(format!(
            "they were written by memcheck-harness {}, this is {here}",
            read.tool_version
        ));
    }
    if !read.complete {
        return Err("they are incomplete: the test did not come to its end".to_owned());
    }
    Ok(read)
}

/// A test program that fails has a case that fails: what else went wrong in it may have cost a case.
fn ends_as_it_says(project: &Project, ending: &str, read: RunReport) -> std::result::Result<RunReport, String> {
    let fails = |case: &CaseReport| !matches!(report::outcome(&read, case), Outcome::Pass | Outcome::Warning);
    let expired = || {
        let waivers = pipeline::waivers(&project.plan, &project.options, &read);
        let judged = RunReport { waivers, ..read.clone() };
        judged.expired_waivers().next().is_some()
    };
    if ending == SUCCESS || (ending == FAILURE && (read.cases.iter().any(fails) || expired())) {
        return Ok(read);
    }
    Err("its cases say one thing and its end another".to_owned())
}

fn no_results(package: &Package, test: &str, why: &str, end: &TestEnd) -> Error {
    let error = Error::tool(format!("no results of test {test} of package {}: {why}", package.name))
        .detail(format!("it ended with {}; the end of what it printed:", end.ending));
    let lines: Vec<&str> = end.output.lines().collect();
    let last = lines.iter().skip(lines.len().saturating_sub(20));
    last.fold(error, |error, line| error.detail(format!("  {line}")))
}

/// What stands for a test of which nothing is known.
fn failed(package: &Package, test: &str, error: Error) -> CaseReport {
    CaseReport {
        package: Some(package.name.clone()),
        target: format!("test {test}"),
        problem: Some(error.into_problem()),
        is_part: true,
        ..CaseReport::named(format!("test {test}"))
    }
}

/// Two cases of one name would share a snapshot: the second cannot be judged. (Within one test the harness itself refuses.)
fn unique(report: &RunReport, mut case: CaseReport) -> CaseReport {
    if case.problem.is_none() && report.cases.iter().any(|other| other.name == case.name) {
        let error = Error::config(format!("two cases are called `{}`", case.name));
        case.problem = Some(error.detail(format!("the second stands at {}", case.place)).into_problem());
    }
    case
}
