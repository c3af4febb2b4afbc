//! What a job on GitHub shows of a run by itself: annotations in the log, the job's summary, the step's outputs; and the files
//! beside the results that it may keep: the comment and the patch.

use std::fs::OpenOptions;
use std::io::Write as _;
use std::path::Path;

use memcheck_harness::compare::write_whole;
use memcheck_harness::error::{Error, Result};
use memcheck_harness::model::RunReport;
use memcheck_harness::report::{self, Format};

use crate::cli::{Github, Invocation};
use crate::terminal;

/// Markdown of a run, short enough for a comment.
pub(crate) const COMMENT: &str = "summary.md";
/// Every pending snapshot of a run, for `git apply`.
pub(crate) const PATCH: &str = "snapshots.patch";

/// Writes all of it, where the run is in such a job and `--no-ci` was not given. `directory` is where the results are.
pub(crate) fn tell(invocation: &Invocation, report: &RunReport, directory: &Path, results: &Path) -> Result<()> {
    let Some(github) = &invocation.github else { return Ok(()) };
    let render = |format| report::render(report, format, invocation.style, &invocation.prefix);
    // The runner reads commands from both streams; standard output may be somebody's JSON.
    terminal::say(|out| out.write_all(&render(Format::Github)))?;
    write_whole(&directory.join(COMMENT), &render(Format::Comment))?;
    write_whole(&directory.join(PATCH), &render(Format::Patch))?;
    append(github.summary.as_deref(), &render(Format::Markdown))?;
    append(
        github.output.as_deref(),
        &outputs(github, &render(Format::Outputs), directory, results),
    )
}

/// The step's outputs: fixed words and numbers, and where the files are.
fn outputs(github: &Github, figures: &[u8], directory: &Path, results: &Path) -> Vec<u8> {
    let mut lines = figures.to_vec();
    if github.output.is_none() {
        return lines;
    }
    let paths = [
        ("directory", directory.to_path_buf()),
        ("results", results.to_path_buf()),
        ("summary", directory.join(COMMENT)),
    ];
    for (name, path) in paths {
        // A line of its own each: a path with a line break in it could set others.
        if let Some(text) = path.to_str().filter(|text| !text.contains(char::is_control)) {
            lines.extend_from_slice(format!("{name}={text}\n").as_bytes());
        }
    }
    lines
}

/// The runner's own files, shared by what the step runs: to be appended to.
fn append(path: Option<&Path>, bytes: &[u8]) -> Result<()> {
    let Some(path) = path else { return Ok(()) };
    let written = OpenOptions::new()
        .append(true)
        .create(true)
        .open(path)
        .and_then(|mut file| file.write_all(bytes));
    written.map_err(|error| Error::file("write", path, &error))
}
