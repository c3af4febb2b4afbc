//! `Error`: "could not judge", sorted by what the user can do about it. A budget that is exceeded is a result, no error.

use std::fmt;
use std::io;
use std::path::Path;

use crate::model::{Problem, ProblemKind};

/// Why a step could not do its work. `kind` decides the exit code, `title` is a lower-case fragment or sentence that fits
/// after "error: ", `details` are further lines (places, remedies).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Error(Box<Problem>);

/// The crate's result.
pub type Result<T> = std::result::Result<T, Error>;

impl Error {
    /// Any kind.
    #[must_use]
    pub fn new(kind: ProblemKind, title: impl Into<String>) -> Self {
        Self(Box::new(Problem {
            kind,
            title: title.into(),
            details: Vec::new(),
        }))
    }

    /// The user's configuration or usage is wrong.
    #[must_use]
    pub fn config(title: impl Into<String>) -> Self {
        Self::new(ProblemKind::Config, title)
    }

    /// A target could not be built.
    #[must_use]
    pub fn build(title: impl Into<String>) -> Self {
        Self::new(ProblemKind::Build, title)
    }

    /// The case could not be judged.
    #[must_use]
    pub fn not_judged(title: impl Into<String>) -> Self {
        Self::new(ProblemKind::NotJudged, title)
    }

    /// This machine does not let us measure.
    #[must_use]
    pub fn machine(title: impl Into<String>) -> Self {
        Self::new(ProblemKind::Machine, title)
    }

    /// The tool failed.
    #[must_use]
    pub fn tool(title: impl Into<String>) -> Self {
        Self::new(ProblemKind::Tool, title)
    }

    /// A signal asked us to stop.
    #[must_use]
    pub fn interrupted(signal: i32) -> Self {
        Self::new(ProblemKind::Interrupted(signal), format!("interrupted by signal {signal}"))
    }

    /// Could not do `what` ("read", "write") with a file.
    #[must_use]
    pub fn file(what: &str, path: &Path, error: &io::Error) -> Self {
        Self::tool(format!("could not {what} {}: {error}", path.display()))
    }

    /// The same error with one more line below it.
    #[must_use]
    pub fn detail(mut self, line: impl Into<String>) -> Self {
        self.0.details.push(line.into());
        self
    }

    /// What kind it is.
    #[must_use]
    pub fn kind(&self) -> ProblemKind {
        self.0.kind
    }

    /// The error as data for a report.
    #[must_use]
    pub fn into_problem(self) -> Problem {
        *self.0
    }

    /// The error as data for a report.
    #[must_use]
    pub fn problem(&self) -> &Problem {
        &self.0
    }
}

impl From<Problem> for Error {
    fn from(problem: Problem) -> Self {
        Self(Box::new(problem))
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.title)?;
        for line in &self.0.details {
            write!(f, "\n{line}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Error {}
