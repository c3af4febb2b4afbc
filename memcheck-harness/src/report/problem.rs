//! Why something could not be judged: the message of a case, and `error: …` of a command.

use std::io::{self, Write};

use super::Style;
use super::text::{Ink, clean, columns, guarded, paint, wrap};
use crate::model::{CaseReport, End, Name, Problem, ProblemKind};

/// Lines of the target's output that are shown.
const OUTPUT_LINES: usize = 20;
/// Characters of one such line.
const LINE_CHARS: usize = 400;

/// Prints `error: …` with its details indented.
///
/// # Errors
/// Those of the writer.
pub fn error(problem: &Problem, style: Style, out: &mut dyn Write) -> io::Result<()> {
    let (first, rest) = first_line(&problem.title);
    writeln!(out, "{}: {}", paint(style, Ink::Bad, "error"), clean(first))?;
    for line in rest {
        writeln!(out, "  {}", guarded(line))?;
    }
    details(problem, 2, style, out)
}

/// The part of a case's message that says why it could not be judged, what was reached and what the target printed.
pub(super) fn of_case(case: &CaseReport, style: Style, out: &mut dyn Write) -> io::Result<()> {
    let missing = Problem {
        kind: ProblemKind::NotJudged,
        title: format!(
            "{} of {} checkpoints were measured, and nothing says why",
            case.checkpoints.len(),
            case.checkpoints_planned
        ),
        details: Vec::new(),
    };
    let problem = case.problem.as_ref().unwrap_or(&missing);
    let head = match problem.kind {
        ProblemKind::NotJudged => "Could not judge:",
        ProblemKind::Check => "Check failed:",
        ProblemKind::Build => "Build failed:",
        ProblemKind::Config => "Configuration:",
        ProblemKind::Machine => "This machine cannot measure:",
        ProblemKind::Tool => "The tool failed:",
        ProblemKind::Interrupted(_) => "Interrupted:",
    };
    let title = match problem.kind {
        // The head says so already.
        ProblemKind::Interrupted(_) => problem.title.trim_start_matches("interrupted "),
        _ => &problem.title,
    };
    let (first, rest) = first_line(title);
    let lines = wrap(&clean(&format!("{head} {first}")), columns(style).saturating_sub(4));
    for (i, line) in lines.iter().enumerate() {
        match line.strip_prefix(head).filter(|_| i == 0) {
            Some(rest) => writeln!(out, "  {}{rest}", paint(style, Ink::Bad, head))?,
            None => writeln!(out, "    {line}")?,
        }
    }
    for line in rest {
        writeln!(out, "    {}", guarded(line))?;
    }
    details(problem, 4, style, out)?;
    if matches!(problem.kind, ProblemKind::Build | ProblemKind::Config) {
        return Ok(());
    }
    // What was never started came to nothing.
    if case.checkpoints.is_empty() && case.end.is_none() {
        return Ok(());
    }
    writeln!(out)?;
    reached(case, style, out)?;
    stream(
        "standard output",
        &case.output.stdout,
        case.output.stdout_dropped_bytes,
        style,
        out,
    )?;
    stream(
        "standard error",
        &case.output.stderr,
        case.output.stderr_dropped_bytes,
        style,
        out,
    )
}

fn first_line(title: &str) -> (&str, impl Iterator<Item = &str>) {
    let mut lines = title.lines();
    (lines.next().unwrap_or_default(), lines)
}

/// Details: prose is wrapped, anything that was laid out (several lines, indented, columns) stays as it is.
fn details(problem: &Problem, indent: usize, style: Style, out: &mut dyn Write) -> io::Result<()> {
    let pad = " ".repeat(indent);
    for detail in &problem.details {
        let laid_out = detail.contains('\n') || detail.starts_with([' ', '|']) || detail.contains("  ");
        let lines: Vec<String> = if laid_out {
            detail.lines().map(guarded).collect()
        } else {
            wrap(&guarded(detail), columns(style).saturating_sub(indent))
        };
        for line in lines {
            writeln!(out, "{pad}{}", line.trim_end())?;
        }
    }
    Ok(())
}

fn reached(case: &CaseReport, style: Style, out: &mut dyn Write) -> io::Result<()> {
    let names: Vec<&str> = case.checkpoints.iter().map(|checkpoint| checkpoint.name.as_str()).collect();
    let text = match names.as_slice() {
        [] => format!("none of {} checkpoints", case.checkpoints_planned),
        some => format!(
            "{} ({} of {} checkpoints)",
            some.join(", "),
            some.len(),
            case.checkpoints_planned
        ),
    };
    super::text::labelled(style, "Reached", 12, &text, out)?;
    if let Some(end) = &case.end {
        super::text::labelled(style, "Ended", 12, &ended(end), out)?;
    }
    Ok(())
}

/// How the target ended, as a phrase.
pub(super) fn ended(end: &End) -> String {
    match end {
        End::Exited(code) => format!("exit code {code}"),
        End::Signalled(signal) => format!("killed by {signal}"),
        End::Killed => "killed by us after the last checkpoint, as planned".to_owned(),
        End::TimedOut => "killed by us: the time limit was over".to_owned(),
    }
}

/// The last lines of a stream, each with a bar in front so that nothing in it can be taken for a line of ours.
fn stream(what: &str, bytes: &Name, dropped: u64, style: Style, out: &mut dyn Write) -> io::Result<()> {
    if bytes.is_empty() && dropped == 0 {
        return Ok(());
    }
    let body = bytes.as_bytes();
    let body = body.strip_suffix(b"\n").unwrap_or(body);
    let lines: Vec<&[u8]> = body.split(|byte| *byte == b'\n').collect();
    let hidden = lines.len().saturating_sub(OUTPUT_LINES);
    let mut remarks = Vec::new();
    if hidden > 0 {
        remarks.push(format!("last {OUTPUT_LINES} of {} lines", lines.len()));
    }
    if dropped > 0 {
        remarks.push(format!("{dropped} bytes before were dropped"));
    }
    let remark = match remarks.as_slice() {
        [] => String::new(),
        some => format!(" ({})", some.join("; ")),
    };
    writeln!(out)?;
    writeln!(
        out,
        "  {}{remark}",
        paint(style, Ink::Strong, &format!("The target's {what}"))
    )?;
    for line in &lines[hidden..] {
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        let spaced: Vec<u8> = line
            .iter()
            .flat_map(|byte| if *byte == b'\t' { b"    " } else { std::slice::from_ref(byte) })
            .copied()
            .collect();
        let text = clean(&Name::new(spaced).escaped());
        let cut = match text.char_indices().nth(LINE_CHARS) {
            Some((end, _)) => format!("{}…", &text[..end]),
            None => text,
        };
        writeln!(out, "  | {cut}")?;
    }
    Ok(())
}
