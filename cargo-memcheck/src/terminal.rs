//! The only file that writes to standard output and standard error.

use std::io::{self, Write};
use std::process::ExitCode;
use std::sync::{Mutex, PoisonError};

use memcheck_harness::build::BuildEvent;
use memcheck_harness::error::Error;
use memcheck_harness::model::ProblemKind;
use memcheck_harness::pipeline::Event;
use memcheck_harness::report::{self, Style, exit};

use crate::cli::{Invocation, MessageFormat};

/// Prints an error and gives its exit code. Who reads JSON gets it as a document too.
pub(crate) fn fail(error: &Error, style: Style, format: MessageFormat) -> ExitCode {
    // Nothing is left to do when standard error is gone.
    let _ = report::error(error.problem(), style, &mut io::stderr().lock());
    if format == MessageFormat::Json {
        document(error);
    }
    ExitCode::from(exit::of_problem(error.kind()))
}

/// An error as a document on standard output, for whoever reads that.
pub(crate) fn document(error: &Error) {
    // Nothing is left to do when standard output is gone.
    let _ = report::error_json(error.problem(), &mut io::stdout().lock());
}

/// Writes to standard output; a closed pipe is success, a full disk is not.
pub(crate) fn print(write: impl FnOnce(&mut dyn Write) -> io::Result<()>) -> Result<(), Error> {
    let mut out = io::stdout().lock();
    written(write(&mut out).and_then(|()| out.flush()), "standard output")
}

/// Writes to standard error, likewise.
pub(crate) fn say(write: impl FnOnce(&mut dyn Write) -> io::Result<()>) -> Result<(), Error> {
    let mut out = io::stderr().lock();
    written(write(&mut out), "standard error")
}

fn written(result: io::Result<()>, where_to: &str) -> Result<(), Error> {
    match result {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(Error::new(
            ProblemKind::Tool,
            format!("could not write to {where_to}: {error}"),
        )),
        _ => Ok(()),
    }
}

/// Shows the events of a run on standard error as they come.
pub(crate) struct Progress<'a> {
    invocation: &'a Invocation,
    /// Cases are told as they come.
    cases: bool,
    /// The first failure to write, told at the end.
    failed: Mutex<Option<Error>>,
}

impl<'a> Progress<'a> {
    pub(crate) fn new(invocation: &'a Invocation) -> Self {
        Self {
            invocation,
            cases: true,
            failed: Mutex::new(None),
        }
    }

    /// Tells of builds only, where the cases are told later.
    pub(crate) fn without_cases(invocation: &'a Invocation) -> Self {
        Self {
            cases: false,
            ..Self::new(invocation)
        }
    }

    /// One event.
    pub(crate) fn show(&self, event: &Event<'_>) {
        let style = self.invocation.style;
        let result = match event {
            Event::Build(BuildEvent::Waiting) => {
                say(|out| report::verb(style, "Waiting", "for another run that builds here", out))
            }
            Event::Build(BuildEvent::Started { verb, what }) => say(|out| report::verb(style, verb, what, out)),
            Event::Measuring(count) => {
                let cases = if *count == 1 {
                    "1 case".to_owned()
                } else {
                    format!("{count} cases")
                };
                say(|out| report::verb(style, "Measuring", &cases, out))
            }
            Event::Waiting(case) => say(|out| report::waiting(style, case, out)),
            // The tables come when all is measured.
            Event::Stopped { .. } => Ok(()),
            Event::Finished { .. } if !self.cases => Ok(()),
            Event::Finished { run, case, done, total } => match self.invocation.format {
                MessageFormat::Human => say(|out| report::case_counted(run, case, Some((*done, *total)), style, out)),
                MessageFormat::Json => Ok(()),
            },
        };
        if let Err(error) = result {
            self.failed
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .get_or_insert(error);
        }
    }

    /// The first failure to write.
    pub(crate) fn finish(self) -> Result<(), Error> {
        match self.failed.into_inner().unwrap_or_else(PoisonError::into_inner) {
            Some(error) => Err(error),
            None => Ok(()),
        }
    }
}

/// The exit code for "all well".
pub(crate) fn ok() -> ExitCode {
    ExitCode::from(exit::OK)
}
