//! The files a run leaves for machines: `results.json` and `captures.jsonl` below `target/memcheck-data/`. From the start of a
//! run until its end there is a results file that says "incomplete", so that none of an earlier run is taken for this one's.

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufWriter, Write as _};
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};

use memcheck_harness::compare::write_whole;
use memcheck_harness::error::{Error, Result};
use memcheck_harness::model::{CaseReport, ProblemKind, RunReport};
use memcheck_harness::report::{self, Digest};

use crate::project::Project;

/// Name of the results file.
pub(crate) const RESULTS: &str = "results.json";
/// Name of the file with the raw captures.
pub(crate) const CAPTURES: &str = "captures.jsonl";

/// Keeps what a run measures.
pub(crate) struct Keeper {
    directory: PathBuf,
    temporary: PathBuf,
    state: Mutex<State>,
}

struct State {
    /// Absent when it could not be created.
    out: Option<BufWriter<File>>,
    digest: Digest,
    /// The first failure to write, told at the end.
    failed: Option<Error>,
}

impl Keeper {
    /// Before anything is measured. Where nothing can be written the run goes on, and [`Keeper::finish`] tells why.
    ///
    /// # Errors
    /// Results of an earlier run are there, and can neither be replaced nor removed.
    pub(crate) fn begin(project: &Project) -> Result<Self> {
        let directory = project.plan.data_dir.clone();
        let mut failed = None;
        let results = directory.join(RESULTS);
        if let Err(error) = write_whole(&results, &report::results(&incomplete(None))) {
            match fs::remove_file(&results) {
                Err(left) if left.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => failed = Some(error),
            }
        }
        // Of an earlier run; a file that is not there is fine.
        let _ = fs::remove_file(directory.join(CAPTURES));
        let temporary = directory.join(format!(".captures.{}.tmp", std::process::id()));
        // What a killed run of our number left.
        let _ = fs::remove_file(&temporary);
        let file = OpenOptions::new().write(true).create_new(true).open(&temporary);
        let out = match file {
            Ok(file) => Some(BufWriter::new(file)),
            Err(error) => {
                failed.get_or_insert_with(|| Error::file("create", &temporary, &error));
                None
            }
        };
        Ok(Self {
            directory,
            temporary,
            state: Mutex::new(State {
                out,
                digest: Digest::new(),
                failed,
            }),
        })
    }

    /// The captures of a finished case.
    pub(crate) fn keep(&self, case: &CaseReport) {
        for checkpoint in &case.checkpoints {
            if let Some(kept) = &checkpoint.capture {
                self.line(&report::capture_line(&case.name, &checkpoint.name, kept));
            }
        }
    }

    /// A line of the file of captures, its end included.
    pub(crate) fn line(&self, line: &[u8]) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if state.failed.is_some() {
            return;
        }
        state.digest.add(line);
        if let Some(Err(error)) = state.out.as_mut().map(|out| out.write_all(line)) {
            state.failed = Some(Error::file("write", &self.temporary, &error));
        }
    }

    /// After everything was measured: the captures first, the results last.
    pub(crate) fn finish(&self, report: &mut RunReport) -> Result<()> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(error) = state.failed.take() {
            return Err(error);
        }
        let path = self.directory.join(CAPTURES);
        let flushed = state
            .out
            .as_mut()
            .map_or(Ok(()), |out| out.flush().and_then(|()| out.get_ref().sync_all()));
        flushed
            .and_then(|()| fs::rename(&self.temporary, &path))
            .map_err(|error| Error::file("write", &path, &error))?;
        report.captures = Some(state.digest.file());
        write_whole(&self.directory.join(RESULTS), &report::results(report))
    }

    /// The run ended before there was a report: the results stay incomplete, and say which signal it was.
    pub(crate) fn stopped(&self, error: &Error) {
        if let ProblemKind::Interrupted(signal) = error.kind() {
            // The error itself is told; a results file without the signal is incomplete all the same.
            let _ = write_whole(&self.directory.join(RESULTS), &report::results(&incomplete(Some(signal))));
        }
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        // After `finish` it is not there any more.
        let _ = fs::remove_file(&self.temporary);
    }
}

/// What there is to say before anything was measured.
fn incomplete(interrupted: Option<i32>) -> RunReport {
    RunReport {
        schema: RunReport::SCHEMA,
        tool_version: env!("CARGO_PKG_VERSION").to_owned(),
        interrupted,
        ..RunReport::default()
    }
}
