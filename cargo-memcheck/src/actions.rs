//! The course of a command that works on several snapshots: tells each action as it happens, in the form that was asked for,
//! and keeps the exit codes for the end.

use std::path::Path;
use std::process::ExitCode;

use memcheck_harness::error::{Error, Result};
use memcheck_harness::model::Plan;
use memcheck_harness::report::{self, Action, exit};

use crate::cli::{Invocation, MessageFormat};
use crate::terminal;

/// What was done so far.
pub(crate) struct Actions<'a> {
    invocation: &'a Invocation,
    root: &'a Path,
    /// The command's name, for its last document.
    command: &'static str,
    codes: Vec<u8>,
}

impl<'a> Actions<'a> {
    pub(crate) fn new(command: &'static str, invocation: &'a Invocation, plan: &'a Plan) -> Self {
        Self {
            invocation,
            root: &plan.root,
            command,
            codes: Vec::new(),
        }
    }

    /// Something was done with a file.
    pub(crate) fn done(&self, verb: &str, case: Option<&str>, path: &Path, remark: &str) -> Result<()> {
        self.tell(&Action {
            verb,
            case,
            path: path.strip_prefix(self.root).unwrap_or(path),
            remark,
            problem: None,
        })
    }

    /// Something could not be done: said, and counted into the exit code. The others go on.
    pub(crate) fn failed(&mut self, case: Option<&str>, path: &Path, error: &Error) -> Result<()> {
        self.codes.push(exit::of_problem(error.kind()));
        self.tell(&Action {
            verb: "Failed",
            case,
            path: path.strip_prefix(self.root).unwrap_or(path),
            remark: "",
            problem: Some(error.problem()),
        })
    }

    /// A further reason not to end with 0.
    pub(crate) fn count(&mut self, code: u8) {
        self.codes.push(code);
    }

    /// The exit code so far.
    pub(crate) fn code(&self) -> u8 {
        exit::worst(self.codes.iter().copied())
    }

    /// The last line.
    pub(crate) fn finish(self, text: &str) -> Result<ExitCode> {
        let code = self.code();
        if self.invocation.format == MessageFormat::Json {
            terminal::print(|out| report::ended_json(self.command, text, code, out))?;
        }
        terminal::say(|out| writeln!(out, "{text}"))?;
        Ok(ExitCode::from(code))
    }

    fn tell(&self, action: &Action<'_>) -> Result<()> {
        if self.invocation.format == MessageFormat::Json {
            terminal::print(|out| report::action_json(action, out))?;
        }
        terminal::say(|out| report::action(action, self.invocation.style, out))
    }
}
