//! What `accept`, `review` and `reject` did with a snapshot, or did not: a status line or a JSON line for each, and the last
//! line of the command.

use std::io::{self, Write};
use std::path::Path;

use serde_json::json;

use super::text::{clean, columns, wrap};
use super::{Style, json as machine, problem, progress};
use crate::model::Problem;

/// Column where the text after a verb begins.
const INDENT: usize = 13;

/// One thing that was done, or was not.
#[derive(Clone, Copy, Debug)]
pub struct Action<'a> {
    /// `Accepted`, `Rejected`, `Skipped`, `Outdated`, `Unchanged`, `Varies`, `Warning`, `Failed`.
    pub verb: &'a str,
    /// The case; absent for the environment of record.
    pub case: Option<&'a str>,
    /// The file it was done with, relative to the root.
    pub path: &'a Path,
    /// Why, or what follows from it; may be empty.
    pub remark: &'a str,
    /// What is wrong, of what failed.
    pub problem: Option<&'a Problem>,
}

/// Prints an action for people.
///
/// # Errors
/// Those of the writer.
pub fn action(action: &Action<'_>, style: Style, out: &mut dyn Write) -> io::Result<()> {
    if let Some(problem) = action.problem {
        return problem::error(problem, style, out);
    }
    let path = action.path.display();
    match action.verb {
        "Warning" => progress::warning(style, action.remark, out),
        verb if action.remark.is_empty() => progress::verb(style, verb, &path.to_string(), out),
        verb => {
            let line = format!("{path}: {}", action.remark);
            if INDENT + line.chars().count() <= columns(style) {
                return progress::verb(style, verb, &line, out);
            }
            progress::verb(style, verb, &format!("{path}:"), out)?;
            for line in wrap(&clean(action.remark), columns(style) - INDENT) {
                writeln!(out, "{:INDENT$}{line}", "")?;
            }
            Ok(())
        }
    }
}

/// Writes an action as one JSON line.
///
/// # Errors
/// Those of the writer.
pub fn action_json(action: &Action<'_>, out: &mut dyn Write) -> io::Result<()> {
    let value = json!({
        "reason": "action",
        "schema": machine::SCHEMA,
        "action": action.verb.to_lowercase(),
        "case": action.case,
        "path": action.path.to_string_lossy(),
        "remark": action.remark,
        "problem": action.problem.map(machine::problem_value),
    });
    machine::line(&value, out)
}

/// Writes the end of a command that measured nothing to report on: `text` is its last line for people.
///
/// # Errors
/// Those of the writer.
pub fn ended_json(command: &str, text: &str, exit_code: u8, out: &mut dyn Write) -> io::Result<()> {
    let value = json!({ "reason": command, "schema": machine::SCHEMA, "text": text, "exit_code": exit_code });
    machine::line(&value, out)
}

/// Writes an error that stands instead of results, or ends them early.
///
/// # Errors
/// Those of the writer.
pub fn error_json(problem: &Problem, out: &mut dyn Write) -> io::Result<()> {
    let value = json!({
        "reason": "error",
        "schema": machine::SCHEMA,
        "problem": machine::problem_value(problem),
        "exit_code": super::exit::of_problem(problem.kind),
        "text": problem.title,
    });
    machine::line(&value, out)
}

#[cfg(test)]
mod tests {
    use super::super::fixtures::print;
    use super::*;
    use crate::model::ProblemKind;

    const PLAIN: Style = Style {
        color: false,
        width: 80,
        verbose: 0,
    };

    fn accepted<'a>(remark: &'a str, problem: Option<&'a Problem>) -> Action<'a> {
        Action {
            verb: "Accepted",
            case: Some("pool"),
            path: Path::new("memcheck/snapshots/pool.snap"),
            remark,
            problem,
        }
    }

    #[test]
    fn one_line_each_in_both_forms() {
        assert_eq!(
            print(|out| action(&accepted("", None), PLAIN, out)),
            "    Accepted memcheck/snapshots/pool.snap\n"
        );
        assert_eq!(
            print(|out| action(&accepted("3 rows", None), PLAIN, out)),
            "    Accepted memcheck/snapshots/pool.snap: 3 rows\n"
        );
        let long = "so long a remark that it goes below the path, and on";
        assert_eq!(
            print(|out| action(&accepted(long, None), PLAIN, out)),
            format!("    Accepted memcheck/snapshots/pool.snap:\n             {long}\n")
        );
        let text = print(|out| action_json(&accepted("3 rows", None), out));
        let value: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!((&value["action"], &value["case"]), (&"accepted".into(), &"pool".into()));
        assert_eq!((&value["schema"], &value["problem"]), (&0.into(), &serde_json::Value::Null));
    }

    #[test]
    fn an_error_is_a_document_with_its_code() {
        let problem = Problem {
            kind: ProblemKind::Config,
            title: "no\u{1b}[2J".to_owned(),
            details: vec!["help".to_owned()],
        };
        let text = print(|out| error_json(&problem, out));
        assert!(!text.contains('\u{1b}') && text.lines().count() == 1, "{text}");
        let value: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!((&value["reason"], &value["exit_code"]), (&"error".into(), &2.into()));
        assert_eq!(value["problem"]["details"][0], "help");
        let shown = print(|out| action(&accepted("", Some(&problem)), PLAIN, out));
        assert_eq!(shown, "error: no\\x1b[2J\n  help\n");
    }
}
