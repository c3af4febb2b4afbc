//! `cargo memcheck review` and `reject`: pending snapshots one by one, or dropped.

use std::io::{BufRead as _, IsTerminal as _};
use std::process::ExitCode;

use memcheck_harness::compare::{self, Pending};
use memcheck_harness::error::{Error, Result};
use memcheck_harness::report;

use crate::accept::{is_of, relative};
use crate::cli::Invocation;
use crate::{project, terminal};

/// Shows each pending change and asks what to do.
pub(crate) fn review(invocation: &Invocation, names: &[String]) -> Result<ExitCode> {
    let (project, pending) = pending(invocation, names)?;
    if !pending.is_empty() && !std::io::stdin().is_terminal() {
        return Err(Error::config("review asks questions, and standard input is no terminal")
            .detail("take all pending changes: cargo memcheck accept; drop them: cargo memcheck reject"));
    }
    let total = pending.len();
    for (index, change) in pending.iter().enumerate() {
        let title = format!("{} ({} of {total})", relative(&project.plan, change), index + 1);
        terminal::say(|out| {
            report::verb(invocation.style, "Reviewing", &title, out)?;
            report::diff(invocation.style, &compare::change(change), out)
        })?;
        match ask()? {
            Answer::Accept => compare::accept(change)?,
            Answer::Reject => compare::reject(change)?,
            Answer::Skip => {}
            Answer::Quit => break,
        }
    }
    terminal::say(|out| {
        writeln!(
            out,
            "{} pending",
            compare::pending(&project.plan, project.options.comparing()).map_or(0, |left| left.len())
        )
    })?;
    Ok(terminal::ok())
}

/// Drops pending changes.
pub(crate) fn reject(invocation: &Invocation, names: &[String]) -> Result<ExitCode> {
    let (project, pending) = pending(invocation, names)?;
    for change in &pending {
        compare::reject(change)?;
        let text = relative(&project.plan, change);
        terminal::say(|out| report::verb(invocation.style, "Rejected", &text, out))?;
    }
    if pending.is_empty() {
        terminal::say(|out| writeln!(out, "nothing was pending"))?;
    }
    Ok(terminal::ok())
}

fn pending(invocation: &Invocation, names: &[String]) -> Result<(project::Project, Vec<Pending>)> {
    let project = project::open(invocation)?;
    project::all_known(&project.plan, names)?;
    let mut pending = compare::pending(&project.plan, project.options.comparing())?;
    pending.retain(|change| names.is_empty() || is_of(change, &project.plan.cases));
    Ok((project, pending))
}

enum Answer {
    Accept,
    Reject,
    Skip,
    Quit,
}

fn ask() -> Result<Answer> {
    let mut line = String::new();
    loop {
        terminal::say(|out| {
            write!(out, "accept (a), reject (r), skip (s), quit (q)? ")?;
            out.flush()
        })?;
        line.clear();
        let read = std::io::stdin()
            .lock()
            .read_line(&mut line)
            .map_err(|e| Error::tool(format!("could not read the answer: {e}")))?;
        match line.trim() {
            "a" | "accept" => return Ok(Answer::Accept),
            "r" | "reject" => return Ok(Answer::Reject),
            "s" | "skip" => return Ok(Answer::Skip),
            "q" | "quit" => return Ok(Answer::Quit),
            _ if read == 0 => return Ok(Answer::Quit),
            _ => {}
        }
    }
}
