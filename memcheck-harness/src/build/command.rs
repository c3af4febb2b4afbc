//! Programs that somebody else builds: `{ path = …, build = … }` and `{ command = … }`.

use std::collections::BTreeMap;
use std::env::split_paths;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::child::{self, Capture, Failure, Keep};
use super::tools::Tools;
use super::{BuildEvent, Program, near};
use crate::error::{Error, Result};
use crate::model::{Cancel, Plan};

/// Lines of a failed build command that are shown.
const SHOWN_LINES: usize = 60;

/// Runs build commands, each distinct one once, and finds programs.
pub(super) struct Commands<'a> {
    plan: &'a Plan,
    tools: &'a Tools,
    cancel: &'a Cancel,
    progress: &'a dyn Fn(BuildEvent),
    ran: BTreeMap<&'a str, Result<()>>,
}

impl<'a> Commands<'a> {
    pub(super) fn new(plan: &'a Plan, tools: &'a Tools, cancel: &'a Cancel, progress: &'a dyn Fn(BuildEvent)) -> Self {
        Self {
            plan,
            tools,
            cancel,
            progress,
            ran: BTreeMap::new(),
        }
    }

    /// The program at a path relative to the root, after its build command.
    pub(super) fn built(&mut self, path: &'a Path, build: Option<&'a str>) -> Result<Program> {
        if let Some(build) = build {
            self.run(build)?;
        }
        let full = self.plan.root.join(path);
        if !full.exists() {
            // A build that succeeded did not fail: what is wrong is where the program is said to be.
            let title = match build {
                Some(build) => format!("{} does not exist, though `{build}` succeeded", path.display()),
                None => format!("{} does not exist", path.display()),
            };
            let mut error = Error::config(title).detail(format!("paths are relative to {}", self.plan.root.display()));
            if let Some(hint) = near_files(&full) {
                error = error.detail(hint);
            }
            if build.is_none() {
                error = error.detail(format!(
                    "build it first, or let the tool do it: target = {{ path = \"{}\", build = \"make …\" }}",
                    path.display()
                ));
            }
            return Err(error);
        }
        Ok(Program {
            path: full,
            label: path.display().to_string(),
            toolchain: None,
            argv0: path.display().to_string(),
            fresh: true,
        })
    }

    fn run(&mut self, build: &'a str) -> Result<()> {
        if let Some(result) = self.ran.get(build) {
            return result.clone();
        }
        let result = self.run_once(build);
        self.ran.insert(build, result.clone());
        result
    }

    #[expect(clippy::disallowed_methods, reason = "build starts programs")]
    fn run_once(&self, build: &str) -> Result<()> {
        (self.progress)(BuildEvent::Started {
            verb: "Building",
            what: build.to_owned(),
        });
        let mut command = Command::new("sh");
        command.args(["-c", build]).current_dir(&self.plan.root);
        let finished =
            child::run(command, Capture::Both, Keep::Last(256 << 10), self.cancel).map_err(|failure| failure.into_error("sh"))?;
        if finished.status.success() {
            return Ok(());
        }
        let lines = child::lines(&finished, SHOWN_LINES, true);
        let said = if lines.iter().all(|line| line.trim().is_empty()) {
            " and printed nothing"
        } else {
            "; its last lines:"
        };
        let error = Error::build(format!("build command `{build}` failed: {}", child::ending(finished.status)))
            .detail(format!("it ran in {} with sh -c{said}", self.plan.root.display()));
        Err(child::with_lines(error, lines))
    }

    /// A program on PATH; with a `/` in its name, a path relative to the root.
    pub(super) fn lookup(&self, program: &str) -> Result<Program> {
        let path = if program.contains('/') {
            let path = self.plan.root.join(program);
            if !path.exists() {
                let error = Error::config(format!("command {program} does not exist"));
                return Err(match near_files(&path) {
                    Some(hint) => error.detail(hint),
                    None => error,
                });
            }
            path
        } else {
            search(program, self.tools)?
        };
        Ok(Program {
            path,
            label: program.to_owned(),
            toolchain: None,
            argv0: program.to_owned(),
            fresh: false,
        })
    }
}

/// Walks PATH as a shell does, but for its relative and empty entries: what they mean depends on where one stands.
pub(super) fn search(program: &str, tools: &Tools) -> Result<PathBuf> {
    let mut not_executable = None;
    for dir in split_paths(&tools.search).filter(|dir| dir.is_absolute()) {
        let candidate = dir.join(program);
        match candidate.metadata() {
            Ok(metadata) if metadata.is_file() && metadata.permissions().mode() & 0o111 != 0 => return Ok(candidate),
            Ok(metadata) if metadata.is_file() => not_executable = not_executable.or(Some(candidate)),
            Ok(_) | Err(_) => {}
        }
    }
    let error = Error::config(format!("command {program} is not on PATH"));
    Err(match not_executable {
        Some(path) => error.detail(format!("{} exists but is not executable", path.display())),
        None => error.detail("install it, or give its path: target = { path = \"…\" }"),
    })
}

/// "did you mean …?" for a path that does not exist: files of similar names in the same directory.
pub(super) fn near_files(path: &Path) -> Option<String> {
    let wanted = path.file_name()?.to_str()?;
    let names: Vec<String> = std::fs::read_dir(path.parent()?)
        .ok()?
        .take(10_000)
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .collect();
    near::hint(wanted, names.iter().map(String::as_str))
}

/// Start failures of a program that was looked up before: the error names it.
pub(super) fn not_started(program: &str, failure: Failure, remedy: &str) -> Error {
    match failure {
        Failure::Start(_) => failure.into_error(program).detail(remedy.to_owned()),
        Failure::Interrupted(_) => failure.into_error(program),
    }
}
