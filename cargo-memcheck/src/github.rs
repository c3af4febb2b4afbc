//! What a job on GitHub shows of a run by itself: annotations in the log, and the job's summary.

use std::fs::OpenOptions;
use std::io::Write as _;

use memcheck_harness::error::{Error, Result};
use memcheck_harness::model::RunReport;
use memcheck_harness::report::{self, Format};

use crate::cli::Invocation;
use crate::terminal;

/// Writes both, where the run is in such a job and `--no-ci` was not given.
pub(crate) fn tell(invocation: &Invocation, report: &RunReport) -> Result<()> {
    let Some(github) = &invocation.github else { return Ok(()) };
    let render = |format| report::render(report, format, invocation.style, &invocation.prefix);
    // The runner reads commands from both streams; standard output may be somebody's JSON.
    terminal::say(|out| out.write_all(&render(Format::Github)))?;
    let Some(path) = &github.summary else { return Ok(()) };
    // The runner's own file, shared by what the step runs: to be appended to.
    let written = OpenOptions::new()
        .append(true)
        .create(true)
        .open(path)
        .and_then(|mut file| file.write_all(&render(Format::Markdown)));
    written.map_err(|error| Error::file("write", path, &error))
}
