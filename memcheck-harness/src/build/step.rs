//! One command of a case that drives its target: from start to end, with what it said.

use std::path::Path;
use std::process::Command;

use super::child::{self, Capture, Failure, Keep};
use crate::error::{Error, Result};
use crate::model::{Cancel, Name, StepSpec};

/// Bytes kept of its output.
const OUTPUT_BYTES: usize = 16 << 10;
/// Lines of its output that are shown.
const OUTPUT_LINES: usize = 20;

/// Runs a step to its end. It finds the target's process id in `MEMCHECK_PID`.
///
/// # Errors
/// It could not be started, or failed; `cancel` was set, and its process group is gone.
pub(crate) fn step(step: &StepSpec, directory: &Path, pid: i32, cancel: &Cancel) -> Result<()> {
    let Some((program, arguments)) = step.run.split_first() else {
        return Ok(());
    };
    let what = format!("step `{}` after `{}` ({})", step.run.join(" "), step.after, step.place);
    #[expect(
        clippy::disallowed_methods,
        reason = "programs are started by build and trace only: this is build"
    )]
    let mut command = Command::new(program);
    command
        .args(arguments)
        .current_dir(directory)
        .env("MEMCHECK_PID", pid.to_string());
    match child::run(command, Capture::Both, Keep::Last(OUTPUT_BYTES), cancel) {
        Ok(finished) if finished.status.success() => Ok(()),
        Ok(finished) => {
            let text = String::from_utf8_lossy(&finished.output);
            let lines: Vec<&str> = text.lines().collect();
            let shown = lines.iter().skip(lines.len().saturating_sub(OUTPUT_LINES));
            let how = match finished.status.code() {
                Some(code) => format!("exited with code {code}"),
                None => format!("ended with {}", finished.status),
            };
            let error = Error::not_judged(format!("{what} {how}"));
            Err(shown.fold(error, |error, line| error.detail(format!("  {}", Name::from(*line)))))
        }
        Err(Failure::Start(error)) => Err(Error::not_judged(format!("{what} could not be started: {error}"))
            .detail(format!("it is looked for on PATH, or relative to {}", directory.display()))),
        Err(Failure::Interrupted(signal)) => Err(Error::interrupted(signal)),
    }
}
