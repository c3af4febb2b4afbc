//! `[[waiver]]`: a limit that is lifted for a while. Owns its keys; a waiver without a reason or an end is a mistake.

use crate::model::{Date, ElfKey, Waived, Waiver};

use super::budget;
use super::cursor::{Form, Spot, Table, Value};
use super::diagnostic::{Diagnostic, Document, quote};
use super::name;
use super::own;
use super::suggest::{self, listed};

const KEYS: [&str; 8] = [
    "case",
    "checkpoint",
    "metric",
    "object",
    "ceiling",
    "expires",
    "issue",
    "reason",
];

/// A waiver, and where it names its case.
pub(super) type Written = Spot<Waiver>;

/// Reads all waivers of the file. `cases` are the names of its cases with those of their checkpoints; a case that is not among
/// them may be built in Rust.
pub(super) fn read(root: &Table<'_>, cases: &[(&str, Vec<&str>)]) -> Vec<Written> {
    let Some(value) = root.get("waiver") else { return Vec::new() };
    if let Form::Table = value.form() {
        value.fail::<()>("`waiver` must be a list of tables", "write [[waiver]]");
        return Vec::new();
    }
    let items = value.list("[[waiver]]").unwrap_or_default();
    items.iter().filter_map(|item| waiver(item, cases)).collect()
}

/// Reports waivers of none of the cases: all that there are.
pub(super) fn check<'a>(doc: &Document<'_>, waivers: &[Written], cases: impl Iterator<Item = &'a str> + Clone) {
    for Spot { value: waiver, span } in waivers {
        let case = waiver.case.as_str();
        if cases.clone().any(|name| name == case) {
            continue;
        }
        let hint = suggest::did_you_mean(case, cases.clone()).unwrap_or_else(|| format!("cases are {}", listed(cases.clone())));
        let title = format!("no case is called {}, which this waiver is of", quote(case));
        doc.report(Diagnostic::at(span.clone(), title, hint));
    }
}

fn waiver(value: &Value<'_>, cases: &[(&str, Vec<&str>)]) -> Option<Written> {
    let table = value.table("[[waiver]]")?;
    table.only(&KEYS, &[]);
    let needed = |key: &str, example: &str| {
        let value = table.get(key);
        if value.is_none() {
            table.missing(key, example);
        }
        value
    };
    // Every one is looked at before any mistake ends it.
    let case = needed("case", "case = \"server\"").and_then(|value| name::case(&value));
    let metric = needed("metric", "metric = \"own.anon\"").and_then(|value| {
        let name = value.word("\"own.anon\"")?;
        if let Some(key) = ElfKey::named(name) {
            return Some(Waived::Header(key));
        }
        match budget::metric(name) {
            Ok(metric) => Some(Waived::Metric(metric)),
            Err(mut diagnostic) => {
                diagnostic.span = Some(value.span.clone());
                value.doc.report(diagnostic);
                None
            }
        }
    });
    let ceiling = needed("ceiling", "ceiling, the highest value that is let pass");
    let ceiling = ceiling.zip(metric.as_ref());
    let ceiling = ceiling.and_then(|(value, metric)| match metric {
        Waived::Metric(metric) => budget::amount(metric, &value),
        Waived::Header(key) => weakness(*key, &value),
    });
    let expires = needed("expires", "expires = 2027-01-31").and_then(|value| date(&value));
    let reason = needed("reason", "reason = \"why it is let pass\"").and_then(|value| reason(&value));
    let issue = match table.get("issue") {
        Some(value) => Some(value.word("\"#123\"")?.to_owned()),
        None => None,
    };
    let (case, metric) = (case?, metric?);
    let is_header = matches!(metric, Waived::Header(_));
    if let Some(value) = table.get("checkpoint").filter(|_| is_header) {
        return value.fail(
            "headers are those of a whole case, not of a checkpoint",
            "remove it; `object` names single files",
        );
    }
    let object = match table.get("object") {
        Some(value) if !is_header => {
            return value.fail("`object` goes with demands on headers", "metric = \"elf.relro\" or the like");
        }
        Some(value) => Some(object(&value)?),
        None => None,
    };
    let checkpoint = match table.get("checkpoint") {
        Some(value) => Some(checkpoint(&value, &case.value, cases)?),
        None => None,
    };
    let span = case.span.clone();
    let waiver = Waiver {
        case: case.value,
        checkpoint,
        metric,
        object,
        ceiling: ceiling?,
        expires: expires?,
        issue,
        reason: reason?,
        place: table.doc.place(&table.span),
    };
    Some(Spot { value: waiver, span })
}

/// How weak headers may be: the least that is let pass.
fn weakness(key: ElfKey, value: &Value<'_>) -> Option<u64> {
    match key {
        ElfKey::Wx => value.whole(0, 1 << 20),
        ElfKey::Relro => value.choice(&[("partial", 1), ("none", 2)]),
        ElfKey::Nx | ElfKey::Pie | ElfKey::Canary => match value.flag()? {
            false => Some(1),
            true => value.fail("a waiver of what there must be lets it be absent", "write false"),
        },
    }
}

fn object(value: &Value<'_>) -> Option<String> {
    let text = value.word("\"libvendor*\"")?;
    match own::mistake(text) {
        Some(why) => value.fail(format!("{} is no pattern of files: {why}", quote(text)), ""),
        None => Some(text.to_owned()),
    }
}

fn checkpoint(value: &Value<'_>, case: &str, cases: &[(&str, Vec<&str>)]) -> Option<String> {
    let name = value.word("\"ready\"")?;
    let Some((_, names)) = cases.iter().find(|(other, _)| *other == case) else {
        return Some(name.to_owned());
    };
    let known = names
        .iter()
        .any(|known| *known == name || name.strip_prefix(known).is_some_and(|rest| rest.starts_with('.')));
    if known {
        return Some(name.to_owned());
    }
    let hint = suggest::did_you_mean(name, names.iter().copied());
    let hint = hint.unwrap_or_else(|| format!("checkpoints are {}", listed(names.iter().copied())));
    value.fail(format!("case `{case}` has no checkpoint {}", quote(name)), hint)
}

fn date(value: &Value<'_>) -> Option<Date> {
    let text = value.date_text()?;
    match Date::parse(&text) {
        Some(date) => Some(date),
        None => value.fail(format!("{} is no day", quote(&text)), "write for example 2027-01-31"),
    }
}

fn reason(value: &Value<'_>) -> Option<String> {
    let text = value.text("\"why it is let pass\"")?.trim();
    if text.is_empty() {
        return value.fail("a waiver needs a reason", "say why, for whoever reads it later");
    }
    Some(text.to_owned())
}
