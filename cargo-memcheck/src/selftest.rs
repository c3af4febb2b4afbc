//! `cargo memcheck self-test`: plants one regression of each kind and fails unless each is told by its right cause and size.

use std::process::ExitCode;

use memcheck_harness::error::{Error, Result};
use memcheck_harness::model::{Cancel, Role};
use memcheck_harness::pipeline::Options;
use memcheck_harness::{interrupt, report, selftest};

use crate::cli::{Invocation, MessageFormat};
use crate::terminal;

/// Builds, measures and compares the bundled programs in a directory of their own.
pub(crate) fn run(invocation: &Invocation, blind: Option<&str>) -> Result<ExitCode> {
    let blind = match blind {
        None => None,
        Some(name) => Some(
            name.parse::<Role>()
                .map_err(|_| Error::config(format!("`{name}` is no role")))?,
        ),
    };
    let cancel = Cancel::new();
    interrupt::on_signals(&cancel)?;
    let options = Options {
        jobs: invocation.jobs,
        write_pending: false,
        pending_dir: None,
        inherited: invocation.inherited.clone(),
        ci: invocation.ci,
        today: memcheck_harness::capture::today(),
    };
    let progress = terminal::Progress::new(invocation);
    let found = selftest::run(blind, &options, &cancel, &|event| progress.show(&event))?;
    progress.finish()?;
    terminal::print(|out| match invocation.format {
        MessageFormat::Human => report::planted(&found, invocation.output_style, out),
        MessageFormat::Json => report::planted_json(&found, out),
    })?;
    let all = found.iter().all(|plant| plant.caught);
    Ok(ExitCode::from(if all { report::exit::OK } else { report::exit::TOOL }))
}
