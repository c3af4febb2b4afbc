//! What `cargo memcheck doctor` found, for people and for machines.

use std::io::{self, Write};

use serde_json::json;

use super::Style;
use super::json::line;
use super::text::{Ink, clean, columns, paint, plural, wrap};
use crate::model::{Finding, Standing};

/// Columns before the text of a finding.
const INDENT: usize = 25;

/// Prints each finding with what follows and what to do, and then the verdict.
///
/// # Errors
/// Those of the writer.
pub fn doctor(findings: &[Finding], style: Style, out: &mut dyn Write) -> io::Result<()> {
    for finding in findings {
        let (word, ink) = match finding.standing {
            Standing::Works => ("works", Ink::Good),
            Standing::Limited => ("limited", Ink::Warn),
            Standing::Refused => ("REFUSED", Ink::Bad),
        };
        write!(
            out,
            "  {} {:<14} ",
            paint(style, ink, &format!("{word:<7}")),
            clean(&finding.name)
        )?;
        paragraph(&finding.found, "", style, out)?;
        for (label, text) in [("so: ", &finding.consequence), ("fix: ", &finding.fix)] {
            if !text.is_empty() {
                write!(out, "{:INDENT$}", "")?;
                paragraph(text, label, style, out)?;
            }
        }
    }
    writeln!(out)?;
    let count = |standing| findings.iter().filter(|finding| finding.standing == standing).count();
    let limits = count(Standing::Limited);
    let verdict = match (count(Standing::Refused), limits) {
        (0, 0) => "this machine can measure everything".to_owned(),
        (0, _) => format!("this machine can measure, with {}", plural(limits, "limit")),
        _ => "this machine cannot measure".to_owned(),
    };
    writeln!(out, "{}", paint(style, Ink::Strong, &verdict))
}

fn paragraph(text: &str, label: &str, style: Style, out: &mut dyn Write) -> io::Result<()> {
    let width = columns(style).max(INDENT + 30) - INDENT;
    for (i, line) in wrap(&clean(&format!("{label}{text}")), width).iter().enumerate() {
        if i == 0 {
            writeln!(out, "{line}")?;
        } else {
            writeln!(out, "{:INDENT$}{line}", "")?;
        }
    }
    Ok(())
}

/// One object, `"reason":"doctor"`.
///
/// # Errors
/// Those of the writer.
pub fn doctor_json(findings: &[Finding], can_measure: bool, out: &mut dyn Write) -> io::Result<()> {
    let findings: Vec<_> = findings
        .iter()
        .map(|finding| {
            json!({
                "name": finding.name,
                "standing": match finding.standing {
                    Standing::Works => "works",
                    Standing::Limited => "limited",
                    Standing::Refused => "refused",
                },
                "found": finding.found,
                "consequence": finding.consequence,
                "fix": finding.fix,
            })
        })
        .collect();
    line(
        &json!({ "reason": "doctor", "schema": 0, "can_measure": can_measure, "findings": findings }),
        out,
    )
}

#[cfg(test)]
mod tests {
    use super::super::fixtures::print;
    use super::*;

    #[test]
    fn limits_and_refusals_come_with_what_follows() {
        let findings = [
            Finding::works("user", "root"),
            Finding::limited("aslr", "cannot be turned off", "rows are not compared", "allow it"),
            Finding::refused("ptrace", "no", "nothing can be measured", ""),
        ];
        let text = print(|out| doctor(&findings, Style::default(), out));
        assert!(text.contains("  works   user           root\n"), "{text}");
        assert!(text.contains("  limited aslr           cannot be turned off\n"), "{text}");
        assert!(
            text.contains("so: rows are not compared\n") && text.contains("fix: allow it\n"),
            "{text}"
        );
        assert!(text.ends_with("\nthis machine cannot measure\n"), "{text}");
        let some = print(|out| doctor(&findings[..2], Style::default(), out));
        assert!(some.ends_with("\nthis machine can measure, with 1 limit\n"), "{some}");
        let json = print(|out| doctor_json(&findings, false, out));
        assert!(
            json.contains("\"can_measure\":false") && json.contains("\"standing\":\"refused\""),
            "{json}"
        );
    }
}
