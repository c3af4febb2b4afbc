//! `cargo memcheck show FILE [CASE[@CHECKPOINT]]`: the tables of a recorded run, from its results or its raw captures.

use std::path::Path;
use std::process::ExitCode;

use memcheck_harness::error::{Error, Result};
use memcheck_harness::model::CaseReport;
use memcheck_harness::{replay, report};

use crate::cli::{Invocation, MessageFormat};
use crate::report::{bounded, read};
use crate::show::ShowOptions;
use crate::terminal;

/// Prints the tables, if what was asked for is such a file.
pub(crate) fn show(invocation: &Invocation, show: &ShowOptions) -> Result<Option<ExitCode>> {
    let Some(name) = show.case.as_ref().filter(|name| is_file(name)) else {
        return match &show.of {
            Some(_) => Err(Error::config("only a recorded file is followed by the case to show")
                .detail("cargo memcheck show target/memcheck-data/results.json CASE@CHECKPOINT")),
            None => Ok(None),
        };
    };
    if !show.at.is_empty() || show.fixed || !show.program.is_empty() {
        return Err(Error::config(
            "what was recorded cannot be stopped elsewhere: --since, and CASE@CHECKPOINT after the file",
        ));
    }
    let path = Path::new(name);
    let mut cases = if name.ends_with('l') {
        let bytes = bounded(path, report::MAX_CAPTURES_BYTES)?;
        let captures = report::read_captures(&bytes, None).map_err(|why| Error::config(format!("{name}: {why}")))?;
        replay::cases(&captures)
    } else {
        read(path)?.cases
    };
    if let Some(of) = &show.of {
        choose(&mut cases, of, show.since.as_deref(), name)?;
    }
    let since = show.since.as_deref();
    if let Some(since) = since
        && let Some(case) = cases.iter().find(|case| !case.checkpoints.iter().any(|c| c.name == since))
    {
        return Err(Error::config(format!("case {} has no checkpoint `{since}`", case.name)));
    }
    for case in &cases {
        terminal::print(|out| match invocation.format {
            MessageFormat::Human => report::show(case, since, None, invocation.output_style, out),
            MessageFormat::Json => report::show_json(case, since, None, out),
        })?;
    }
    Ok(Some(terminal::ok()))
}

fn is_file(name: &str) -> bool {
    (name.ends_with(".json") || name.ends_with(".jsonl")) && Path::new(name).is_file()
}

/// Leaves the case, and the checkpoint where one is named.
fn choose(cases: &mut Vec<CaseReport>, of: &str, since: Option<&str>, file: &str) -> Result<()> {
    let (name, checkpoint) = of
        .split_once('@')
        .map_or((of, None), |(name, checkpoint)| (name, Some(checkpoint)));
    let there: Vec<String> = cases
        .iter()
        .flat_map(|case| case.checkpoints.iter().map(|c| format!("{}@{}", case.name, c.name)))
        .take(40)
        .collect();
    cases.retain(|case| case.name == name);
    for case in cases.iter_mut() {
        case.checkpoints
            .retain(|c| checkpoint.is_none_or(|wanted| c.name == wanted) || since == Some(c.name.as_str()));
    }
    let found = |c: &memcheck_harness::model::CheckpointReport| checkpoint.is_none_or(|wanted| c.name == wanted);
    if cases.iter().flat_map(|case| &case.checkpoints).any(found) {
        return Ok(());
    }
    Err(Error::config(format!("{file} has no {of}")).detail(format!("it has: {}", there.join(", "))))
}
