//! `cargo memcheck report`: results files of finished runs, rendered, merged, judged again. Launches nothing.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use memcheck_harness::config::{self, Overrides};
use memcheck_harness::error::{Error, Result};
use memcheck_harness::model::RunReport;
use memcheck_harness::report::{self, Format, NamedCapture};
use memcheck_harness::{build, capture, compare, merge, replay};

use crate::cli::{Invocation, ReportOptions};
use crate::results::CAPTURES;
use crate::{github, project, terminal};

/// Reads, merges, judges again if asked, and renders. Without `--merge` and `--replay` the exit code says only whether that
/// worked; with them it is the verdict's.
pub(crate) fn report(invocation: &Invocation, options: &ReportOptions) -> Result<ExitCode> {
    if options.files.len() > 1 && !options.merge {
        return Err(Error::config("several results files are one run only with --merge"));
    }
    let mut parts = Vec::new();
    for file in &options.files {
        let mut part = read(file)?;
        if options.replay {
            part = again(invocation, file, &part)?;
        }
        parts.push((file.display().to_string(), part));
    }
    let mut whole = if options.merge {
        merge::merge(&parts)
    } else {
        let Some((_, only)) = parts.pop() else {
            return Err(Error::config("report needs a results file").detail("a run leaves target/memcheck-data/results.json"));
        };
        only
    };
    if let Some(job) = invocation.github.as_ref().and_then(|github| github.job.clone()) {
        whole.job = Some(job);
    }
    let bytes = report::render(&whole, options.format, invocation.output_style, &invocation.prefix);
    match &options.output {
        Some(path) => compare::write_whole(&absolute(path)?, &bytes)?,
        None => terminal::print(|out| out.write_all(&bytes))?,
    }
    if !(options.merge || options.replay) {
        return Ok(terminal::ok());
    }
    // The one run that shards are is told as any run is.
    if let (true, Some(path)) = (options.merge && options.format == Format::Json, &options.output) {
        let path = absolute(path)?;
        github::tell(invocation, &whole, path.parent().unwrap_or(Path::new("/")), &path)?;
    }
    if options.format != Format::Human || options.output.is_some() {
        terminal::say(|out| report::summary(&whole, invocation.style, out))?;
    }
    let code = report::exit_code(&whole);
    if code == report::exit::NOTHING && options.pass_without_cases && whole.cases.is_empty() {
        return Ok(terminal::ok());
    }
    Ok(ExitCode::from(code))
}

fn absolute(path: &Path) -> Result<PathBuf> {
    std::path::absolute(path).map_err(|error| Error::file("resolve", path, &error))
}

/// A results file. It may come from anywhere: nothing in it is taken for a path to follow.
pub(crate) fn read(path: &Path) -> Result<RunReport> {
    let bytes = bounded(path, report::MAX_RESULTS_BYTES)?;
    report::read_results(&bytes).map_err(|why| Error::config(format!("{}: {why}", path.display())))
}

/// The captures that a run left beside its results.
pub(crate) fn captures(results: &Path, of: &RunReport) -> Result<Vec<NamedCapture>> {
    let path = results.with_file_name(CAPTURES);
    let Some(file) = &of.captures else {
        return Err(Error::config(format!("{} speaks of no captures", results.display()))
            .detail("they are kept by a run; results that were merged have none: replay the shards with --merge --replay"));
    };
    let bytes = bounded(&path, report::MAX_CAPTURES_BYTES)?;
    report::read_captures(&bytes, Some(file)).map_err(|why| Error::config(format!("{}: {why}", path.display())))
}

/// A file that may be too large to be one of ours.
pub(crate) fn bounded(path: &Path, most: u64) -> Result<Vec<u8>> {
    use std::io::Read as _;
    let failed = |error| Error::config(format!("{} cannot be read: {error}", path.display()));
    let file = std::fs::File::open(path).map_err(failed)?;
    if !file.metadata().map_err(failed)?.is_file() {
        return Err(Error::config(format!("{} is no regular file", path.display())));
    }
    let mut bytes = Vec::new();
    file.take(most + 1).read_to_end(&mut bytes).map_err(failed)?;
    Ok(bytes)
}

/// The run judged by today's memcheck.toml and snapshots.
fn again(invocation: &Invocation, file: &Path, recorded: &RunReport) -> Result<RunReport> {
    let captures = captures(file, recorded)?;
    let source = config::locate(&invocation.start)?.ok_or_else(|| project::no_configuration(invocation))?;
    let workspace = build::discover(&source.root)?;
    // Sizes in pages mean those of the machine that measured.
    let page_bytes = captures
        .first()
        .map(|first| first.kept.capture.page_bytes)
        .or_else(capture::page_bytes_here)
        .unwrap_or(4096);
    // The environment is the one it was recorded in, not this machine's.
    let overrides = Overrides {
        environment: invocation.overrides.environment.clone(),
        here: project::facts(recorded.environment.facts.clone(), recorded.ci),
        ..Overrides::default()
    };
    let plan = config::plan(&source, workspace.as_ref(), &overrides, page_bytes)?;
    replay::replay(&plan, recorded, &captures)
}
