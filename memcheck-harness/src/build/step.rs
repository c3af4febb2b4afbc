//! One command of a case that drives its target: from start to end, with what it said.

use std::path::Path;
use std::process::Command;

use super::child::{self, Capture, Failure, Group, Keep};
use crate::error::{Error, Result};
use crate::model::{Cancel, Name, StepSpec};

/// Bytes kept of its output.
const OUTPUT_BYTES: usize = 16 << 10;
/// Lines of its output that are shown.
const OUTPUT_LINES: usize = 20;

/// Runs a step to its end. It finds the target's process id in `MEMCHECK_PID`. What it leaves running in its process group goes
/// with the second value.
///
/// # Errors
/// It could not be started, or failed; `cancel` was set, and its process group is gone.
pub(crate) fn step(step: &StepSpec, directory: &Path, pid: i32, cancel: &Cancel) -> (Result<()>, Option<Group>) {
    let Some((program, arguments)) = step.run.split_first() else {
        return (Ok(()), None);
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
    let (finished, group) = match child::run_held(command, Capture::Both, Keep::Last(OUTPUT_BYTES), cancel) {
        Ok(ended) => ended,
        Err(Failure::Start(error)) => {
            let error = Error::not_judged(format!("{what} could not be started: {error}"))
                .detail(format!("it is looked for on PATH, or relative to {}", directory.display()));
            return (Err(error), None);
        }
        Err(Failure::Interrupted(signal)) => return (Err(Error::interrupted(signal)), None),
    };
    if finished.status.success() {
        return (Ok(()), Some(group));
    }
    let text = String::from_utf8_lossy(&finished.output);
    let lines: Vec<&str> = text.lines().collect();
    let shown = lines.iter().skip(lines.len().saturating_sub(OUTPUT_LINES));
    let how = match finished.status.code() {
        Some(code) => format!("exited with code {code}"),
        None => format!("ended with {}", finished.status),
    };
    let error = Error::not_judged(format!("{what} {how}"));
    let error = shown.fold(error, |error, line| error.detail(format!("  {}", Name::from(*line))));
    (Err(error), Some(group))
}
