//! `matrix = { … }`: one case as several runs, each a case of its own called `<case>.<run>`. Owns its keys, the names of the
//! runs, and which number a run stands for.

use crate::model::{MatrixRun, Profile};

use super::case::Written;
use super::cursor::{Form, Spot, Table, Value};
use super::diagnostic::{Diagnostic, Document, Span, quote};
use super::settings;

/// More runs of one case are a mistake.
const MAX_RUNS: usize = 64;
/// What the runs count when nobody says.
const UNIT: &str = "unit";

/// A matrix as written.
#[derive(Clone, Debug)]
pub(super) struct Matrix {
    span: Span,
    unit: String,
    axes: Vec<Axis>,
}

/// One of the things that differ between runs.
#[derive(Clone, Debug)]
struct Axis {
    steps: Vec<Step>,
    /// The number that each step stands for; absent when one is none.
    numbers: Option<Vec<u64>>,
}

/// What one value of an axis changes.
#[derive(Clone, Debug)]
struct Step {
    /// Its part of the name.
    name: String,
    change: Change,
}

#[derive(Clone, Debug)]
enum Change {
    Args(Vec<String>),
    Env(String, String),
    Profile(Spot<Profile>),
}

/// Reads a matrix.
pub(super) fn read(value: &Value<'_>) -> Option<Matrix> {
    let table = value.table("matrix")?;
    table.only(&["args", "env", "profile", "unit"], &[]);
    let mut axes = Vec::new();
    axes.extend(table.get("args").and_then(|value| args(&value)));
    axes.extend(table.get("env").map(|value| env(&value)).unwrap_or_default());
    axes.extend(table.get("profile").and_then(|value| profiles(&value)));
    let written = ["args", "env", "profile"].iter().any(|key| table.get(key).is_some());
    if !written {
        return value.fail(
            "the matrix has no runs",
            "write for example { args = [[\"1\"], [\"10\"], [\"100\"]] }",
        );
    }
    let runs = axes.iter().map(|axis| axis.steps.len()).try_fold(1_usize, usize::checked_mul);
    if runs.is_none_or(|runs| runs > MAX_RUNS) {
        return value.fail(format!("more than {MAX_RUNS} runs of one case"), "");
    }
    let unit = match table.get("unit") {
        Some(value) => unit(&value)?,
        None => UNIT.to_owned(),
    };
    (!axes.is_empty()).then(|| Matrix {
        span: table.span.clone(),
        unit,
        axes,
    })
}

/// A word for what the number counts.
fn unit(value: &Value<'_>) -> Option<String> {
    let text = value.word("\"thread\"")?;
    let fits = text.chars().count() <= 20 && text.chars().all(|c| c.is_alphanumeric() || matches!(c, '-' | ' '));
    if !fits {
        return value.fail(
            format!("{} is no word for what is counted", quote(text)),
            "write for example \"thread\"",
        );
    }
    Some(text.to_owned())
}

fn args(value: &Value<'_>) -> Option<Axis> {
    let example = "[[\"1\"], [\"10\"]]";
    let mut lists = Vec::new();
    for item in value.list(example)? {
        if matches!(item.form(), Form::Text(_) | Form::Whole) {
            return item.fail("each run has a list of arguments", format!("write {example}"));
        }
        lists.push(item.texts("[\"1\"]").into_iter().map(|arg| arg.value).collect::<Vec<_>>());
    }
    let numbers = lists.iter().map(|list| list.last()?.parse().ok()).collect();
    let steps = lists.into_iter().map(|list| Step {
        name: list.join("-"),
        change: Change::Args(list),
    });
    axis(value, steps.collect(), numbers)
}

fn env(value: &Value<'_>) -> Vec<Axis> {
    let entries = value.table("env").map(|table: Table<'_>| table.entries()).unwrap_or_default();
    let axes = entries.into_iter().filter_map(|(key, value)| {
        if key.value.is_empty() || key.value.contains(['=', '\0']) {
            return value.fail(format!("{} cannot be a variable's name", quote(key.value)), "");
        }
        let texts = value.texts("[\"1\", \"2\"]");
        let numbers = texts.iter().map(|text| text.value.parse().ok()).collect();
        let steps = texts.into_iter().map(|text| Step {
            name: text.value.clone(),
            change: Change::Env(key.value.to_owned(), text.value),
        });
        axis(&value, steps.collect(), numbers)
    });
    axes.collect()
}

fn profiles(value: &Value<'_>) -> Option<Axis> {
    let steps = value.texts("[\"dev\", \"release\"]").into_iter().map(|text| Step {
        name: text.value.clone(),
        change: Change::Profile(Spot {
            value: settings::profile(&text.value),
            span: text.span,
        }),
    });
    axis(value, steps.collect(), None)
}

fn axis(value: &Value<'_>, steps: Vec<Step>, numbers: Option<Vec<u64>>) -> Option<Axis> {
    if steps.is_empty() {
        return value.fail("the matrix has no runs here", "write at least one");
    }
    Some(Axis { steps, numbers })
}

/// The part of a name that a value stands for: `[a-z0-9.-]`.
fn part(text: &str) -> String {
    let lower = text.chars().flat_map(char::to_lowercase);
    let plain = lower.map(|c| if c.is_ascii_alphanumeric() || c == '.' { c } else { '-' });
    let name: String = plain.collect();
    let name = name.trim_matches(['.', '-']);
    if name.is_empty() { "none".to_owned() } else { name.to_owned() }
}

/// The runs of a case, in the order of the file; the case itself when it has no matrix.
pub(super) fn expand(doc: &Document<'_>, mut case: Written) -> Vec<Written> {
    let Some(matrix) = case.matrix.take() else {
        return vec![case];
    };
    let numbered = matrix.axes.iter().position(|axis| axis.numbers.is_some());
    let of = numbered
        .and_then(|axis| matrix.axes.get(axis))
        .map_or(0, |axis| axis.steps.len());
    let mut runs: Vec<(Written, MatrixRun, Vec<String>)> = vec![(
        case.clone(),
        MatrixRun {
            case: case.name.value.clone(),
            line: case.name.value.clone(),
            unit: matrix.unit.clone(),
            number: None,
            of,
        },
        Vec::new(),
    )];
    for (index, axis) in matrix.axes.iter().enumerate() {
        let mut more = Vec::new();
        for (written, run, names) in &runs {
            for (at, step) in axis.steps.iter().enumerate() {
                let (mut written, mut run, mut names) = (written.clone(), run.clone(), names.clone());
                written.change(&step.change);
                names.push(part(&step.name));
                if numbered == Some(index) {
                    run.number = axis.numbers.as_ref().and_then(|numbers| numbers.get(at).copied());
                } else {
                    run.line = format!("{}.{}", run.line, part(&step.name));
                }
                more.push((written, run, names));
            }
        }
        runs = more;
    }
    let mut seen: Vec<String> = Vec::new();
    for (_, _, names) in &runs {
        let name = names.join(".");
        if seen.contains(&name) {
            let title = format!("two runs of the matrix would be called `{}.{name}`", case.name.value);
            doc.report(Diagnostic::at(
                matrix.span.clone(),
                title,
                "make their values differ in letters or digits",
            ));
            return Vec::new();
        }
        seen.push(name);
    }
    let named = runs.into_iter().map(|(mut written, run, names)| {
        written.name.value = format!("{}.{}", case.name.value, names.join("."));
        written.run = Some(run);
        written
    });
    named.collect()
}

impl Written {
    fn change(&mut self, change: &Change) {
        match change {
            Change::Args(args) => self.args.extend(args.iter().cloned()),
            Change::Env(name, value) => {
                self.settings.env.insert(name.clone(), value.clone());
            }
            Change::Profile(profile) => self.settings.profile = Some(profile.clone()),
        }
    }
}
