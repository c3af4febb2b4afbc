//! `cargo memcheck review` and `reject`: pending snapshots one by one, or dropped.

use std::io::{BufRead as _, IsTerminal as _};
use std::process::ExitCode;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::time::Duration;

use memcheck_harness::compare::{self, Pending};
use memcheck_harness::error::{Error, Result};
use memcheck_harness::model::Cancel;
use memcheck_harness::report;

use crate::accept::relative;
use crate::actions::Actions;
use crate::cli::Invocation;
use crate::{project, terminal};

/// How often a wish to stop is looked for while an answer is awaited.
const POLL: Duration = Duration::from_millis(20);

/// Shows each pending change and asks what to do.
pub(crate) fn review(invocation: &Invocation, names: &[String]) -> Result<ExitCode> {
    let (project, pending) = pending(invocation, names)?;
    if !pending.is_empty() && !std::io::stdin().is_terminal() {
        return Err(Error::config("review asks questions, and standard input is no terminal")
            .detail("take all pending changes: cargo memcheck accept; drop them: cargo memcheck reject"));
    }
    let mut actions = Actions::new("review", invocation, &project.plan);
    let answers = answers();
    let total = pending.len();
    for (index, change) in pending.iter().enumerate() {
        if let Some(damage) = &change.damage {
            actions.failed(change.case(), &change.path, &Error::from(damage.clone()))?;
            continue;
        }
        let title = format!("{} ({} of {total})", relative(&project.plan, &change.target), index + 1);
        terminal::say(|out| {
            report::verb(invocation.style, "Reviewing", &title, out)?;
            report::diff(invocation.style, &compare::change(change), out)
        })?;
        let (verb, done) = match ask(&answers, &project.cancel)? {
            Answer::Accept => ("Accepted", compare::accept(change)),
            Answer::Reject => ("Rejected", compare::reject(change)),
            Answer::Skip => ("Skipped", Ok(())),
            Answer::Quit => break,
        };
        match done {
            Ok(()) => actions.done(verb, change.case(), file_of(verb, change), "")?,
            Err(error) => actions.failed(change.case(), &change.path, &error)?,
        }
    }
    let left = compare::pending(&project.plan, project.options.comparing()).map_or(0, |left| left.len());
    actions.finish(&format!("{left} pending"))
}

/// Drops pending changes.
pub(crate) fn reject(invocation: &Invocation, names: &[String]) -> Result<ExitCode> {
    let (project, pending) = pending(invocation, names)?;
    let mut actions = Actions::new("reject", invocation, &project.plan);
    let mut rejected = 0;
    for change in &pending {
        match compare::reject(change) {
            Ok(()) => {
                rejected += 1;
                actions.done("Rejected", change.case(), &change.path, "")?;
            }
            Err(error) => actions.failed(change.case(), &change.path, &error)?,
        }
    }
    let text = match rejected {
        0 if pending.is_empty() => "nothing was pending".to_owned(),
        0 => "nothing was rejected".to_owned(),
        1 => "rejected 1 pending snapshot".to_owned(),
        many => format!("rejected {many} pending snapshots"),
    };
    actions.finish(&text)
}

/// The file an action is told of: accepting makes the approved one, everything else is done with the pending one.
fn file_of<'a>(verb: &str, change: &'a Pending) -> &'a std::path::Path {
    if verb == "Accepted" { &change.target } else { &change.path }
}

/// Names may be those of cases that are gone: their pending files are still there to be dropped.
fn pending(invocation: &Invocation, names: &[String]) -> Result<(project::Project, Vec<Pending>)> {
    let project = project::open(invocation)?;
    let mut pending = compare::pending(&project.plan, project.options.comparing())?;
    let is_of = |change: &Pending, name: &String| change.case() == Some(name.as_str());
    let unknown: Vec<String> = names
        .iter()
        .filter(|name| !pending.iter().any(|change| is_of(change, name)))
        .cloned()
        .collect();
    project::all_known(&project, &unknown)?;
    pending.retain(|change| names.is_empty() || names.iter().any(|name| is_of(change, name)));
    Ok((project, pending))
}

enum Answer {
    Accept,
    Reject,
    Skip,
    Quit,
}

/// Lines of standard input, read by a thread of their own: a read that waits cannot be told to stop.
fn answers() -> Receiver<std::io::Result<String>> {
    let (sender, receiver) = mpsc::sync_channel(0);
    std::thread::spawn(move || {
        loop {
            let mut line = String::new();
            let read = std::io::stdin().lock().read_line(&mut line);
            let is_last = !matches!(read, Ok(bytes) if bytes > 0);
            if sender.send(read.map(|_| line)).is_err() || is_last {
                return;
            }
        }
    });
    receiver
}

fn ask(answers: &Receiver<std::io::Result<String>>, cancel: &Cancel) -> Result<Answer> {
    loop {
        terminal::say(|out| {
            write!(out, "accept (a), reject (r), skip (s), quit (q)? ")?;
            out.flush()
        })?;
        let line = loop {
            match answers.recv_timeout(POLL) {
                Ok(line) => break line.map_err(|e| Error::tool(format!("could not read the answer: {e}")))?,
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return Ok(Answer::Quit),
            }
            if let Some(signal) = cancel.signal() {
                terminal::say(|out| writeln!(out))?;
                return Err(Error::interrupted(signal));
            }
        };
        match line.trim() {
            "a" | "accept" => return Ok(Answer::Accept),
            "r" | "reject" => return Ok(Answer::Reject),
            "s" | "skip" => return Ok(Answer::Skip),
            "q" | "quit" => return Ok(Answer::Quit),
            _ if line.is_empty() => return Ok(Answer::Quit),
            _ => {}
        }
    }
}
