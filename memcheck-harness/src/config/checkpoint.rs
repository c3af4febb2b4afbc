//! `[[case.checkpoint]]`: name, `at`, `hit`, whether it is part of the snapshot, its budget.
//! Owns the kinds of `at` and which orders of checkpoints are possible.

use crate::model::At;

use super::budget::{self, Budget};
use super::cursor::{Form, Spot, Table, Value};
use super::diagnostic::{Diagnostic, Document, Span, quote};
use super::name;
use super::suggest;

/// Kinds of `at` that newer versions know.
const LATER: [&str; 12] = [
    "returns",
    "line",
    "syscall",
    "signal",
    "output",
    "tty",
    "thread",
    "library",
    "touch",
    "after",
    "idle",
    "step-done",
];

/// A checkpoint as written.
#[derive(Clone, Debug)]
pub(super) struct Written {
    /// Where `[[case.checkpoint]]` stands.
    pub(super) span: Span,
    pub(super) name: Spot<String>,
    pub(super) at: Spot<At>,
    pub(super) hit: Spot<u64>,
    pub(super) snapshot: bool,
    pub(super) budget: Budget,
}

/// Reads one checkpoint.
pub(super) fn read(table: &Table<'_>) -> Option<Written> {
    table.only(&["name", "at", "hit", "snapshot", "budget"], &["every", "limit", "settle"]);
    let named = match table.get("name") {
        Some(value) => name::checkpoint(&value),
        None => {
            table.missing("name", "name = \"ready\"");
            None
        }
    };
    let at = match table.get("at") {
        Some(value) => at(&value),
        None => named.clone().map(|named| Spot {
            value: At::Probe {
                provider: "memcheck".to_owned(),
                name: named.value,
            },
            span: named.span,
        }),
    };
    let hit = match table.get("hit") {
        Some(value) => value.whole(1, u64::MAX).map(|hit| value.spot(hit)),
        None => Some(Spot {
            value: 1,
            span: table.span.clone(),
        }),
    };
    let snapshot = table.get("snapshot").map_or(Some(true), |value| value.flag());
    let budget = table.get("budget").map(|value| budget::read(&value)).unwrap_or_default();
    Some(Written {
        span: table.span.clone(),
        name: named?,
        at: at?,
        hit: hit?,
        snapshot: snapshot?,
        budget,
    })
}

fn at(value: &Value<'_>) -> Option<Spot<At>> {
    let at = match value.form() {
        Form::Text("exec") => At::Exec,
        Form::Text("main") => At::Main,
        Form::Text("exit") => At::Exit,
        Form::Text(text) if LATER.contains(&text) => {
            return value.fail(
                format!("at = \"{text}\" is not supported by this version"),
                "use a probe, a function or \"exit\"",
            );
        }
        Form::Text(text) => {
            let label = suggest::did_you_mean(text, ["exec", "main", "exit"]);
            let example = Some(format!("write {{ probe = {text:?} }}")).filter(|_| !text.is_empty() && text.len() <= 60);
            let label = label.or(example).unwrap_or_default();
            return value.fail(
                format!("`at` must be \"exec\", \"main\", \"exit\" or a table, not {}", quote(text)),
                label,
            );
        }
        Form::Table => place(&value.table("at")?)?,
        _ => return value.wrong("\"exec\", \"main\", \"exit\" or a table such as { probe = \"ready\" }"),
    };
    Some(value.spot(at))
}

fn place(table: &Table<'_>) -> Option<At> {
    table.only(&["probe", "function"], &LATER);
    match (table.get("probe"), table.get("function")) {
        (Some(_), Some(function)) => function.fail("`at` gives both `probe` and `function`", "give one of them"),
        (Some(value), None) => {
            let text = value.word("\"ready\"")?;
            let (provider, name) = text.split_once(':').unwrap_or(("memcheck", text));
            if provider.is_empty() || name.is_empty() || text.chars().any(|c| c.is_control() || c.is_whitespace()) {
                return value.fail(format!("{} is no probe", quote(text)), "write \"name\" or \"provider:name\"");
            }
            Some(At::Probe {
                provider: provider.to_owned(),
                name: name.to_owned(),
            })
        }
        (None, Some(value)) => Some(At::Function(value.word("\"pool_grow\"")?.to_owned())),
        (None, None) => {
            if table.entries().is_empty() {
                let title = "`at` does not say where to stop";
                table.doc.report(Diagnostic::at(
                    table.span.clone(),
                    title,
                    "write for example { probe = \"ready\" }",
                ));
            }
            None
        }
    }
}

/// Reports names that are given twice and orders that no run can have.
pub(super) fn check_order(doc: &Document<'_>, checkpoints: &[Written]) {
    for (i, checkpoint) in checkpoints.iter().enumerate() {
        let earlier = checkpoints.get(..i).unwrap_or_default();
        let report = |span: &Span, title: String, label: String| doc.report(Diagnostic::at(span.clone(), title, label));
        if let Some(first) = earlier.iter().find(|other| other.name.value == checkpoint.name.value) {
            let label = format!("the first one stands in line {}", doc.place(&first.name.span).line);
            report(
                &checkpoint.name.span,
                format!("two checkpoints are called `{}`", checkpoint.name.value),
                label,
            );
            continue;
        }
        let at = &checkpoint.at;
        let once = matches!(at.value, At::Exec | At::Main | At::Exit);
        if once && checkpoint.hit.value > 1 {
            let title = format!("`{}` is reached once, `hit` must be 1", at.value);
            report(&checkpoint.hit.span, title, "remove `hit`".to_owned());
        } else if let Some(other) = earlier
            .iter()
            .find(|other| other.at.value == at.value && (once || other.hit.value >= checkpoint.hit.value))
        {
            let title = format!(
                "checkpoint `{}` cannot come after `{}`",
                checkpoint.name.value, other.name.value
            );
            let label = if once {
                format!("`{}` is reached once", at.value)
            } else {
                format!("the same place: add hit = {}", other.hit.value.saturating_add(1))
            };
            report(&at.span, title, label);
        } else if at.value == At::Exec && i > 0 {
            let title = "`exec` comes before everything else".to_owned();
            report(&at.span, title, "make it the first checkpoint".to_owned());
        } else if let Some(exit) = earlier.iter().find(|other| other.at.value == At::Exit) {
            let title = format!("nothing comes after `exit`, but checkpoint `{}` does", checkpoint.name.value);
            let label = format!("move it before `{}`", exit.name.value);
            report(&checkpoint.name.span, title, label);
        }
    }
}
