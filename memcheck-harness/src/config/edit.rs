//! Changed limits in `memcheck.toml`: single values are replaced where they stand, so that comments, order and layout stay.
//! Owns which value stands behind a limit; measuring and writing the file are others'.

use std::collections::BTreeMap;

use crate::error::{Error, Result};
use crate::model::{ByteSize, Metric, Place, Plan, Unit};

use super::added;
use super::diagnostic::quote;

/// New values by the place where the old ones stand.
pub type Edits = BTreeMap<Place, String>;

/// A value of a metric as `memcheck.toml` has it: `"64 KiB"`, or `4`.
#[must_use]
pub fn written(metric: &Metric, value: u64) -> String {
    match metric.unit() {
        Unit::Bytes => format!("\"{}\"", ByteSize(value)),
        Unit::Count => value.to_string(),
    }
}

/// What `--set '[case[/checkpoint]:]metric=16MiB'` changes: every `max` that these checkpoints have of the metric.
///
/// # Errors
/// The text is no such assignment; no limit is written; one holds for other checkpoints too, or is not written in the file.
pub fn set(plan: &Plan, text: &str, page_bytes: u64) -> Result<Edits> {
    let wrong = |what: &str, help: &str| {
        let error = Error::config(format!("--set {}: {what}", quote(text)));
        if help.is_empty() {
            error
        } else {
            error.detail(format!("  help: {help}"))
        }
    };
    let Some((left, right)) = text.split_once('=').filter(|(left, _)| !left.contains(['<', '>'])) else {
        return Err(wrong("there is no `=`", "write [case[/checkpoint]:]metric=16MiB"));
    };
    let bound = format!("{left}<={right}");
    let wanted = added::parse(&bound, page_bytes).map_err(|(what, help)| wrong(&what, &help))?;
    let mut edits = Edits::new();
    let mut elsewhere = Vec::new();
    let mut other_metrics = Vec::new();
    for case in &plan.cases {
        for checkpoint in &case.checkpoints {
            let others = checkpoint.limits.iter().filter(|(metric, _)| **metric != wanted.metric);
            other_metrics
                .extend(others.filter_map(|(metric, limit)| Some((limit.max.as_ref()?.place.clone(), metric.to_string()))));
            let Some(max) = checkpoint.limits.get(&wanted.metric).and_then(|limit| limit.max.as_ref()) else {
                continue;
            };
            let is_meant =
                wanted.case.is_none_or(|name| case.name == name) && wanted.checkpoint.is_none_or(|name| checkpoint.name == name);
            if is_meant {
                edits.insert(max.place.clone(), written(&wanted.metric, wanted.value));
            } else {
                elsewhere.push((max.place.clone(), format!("{}/{}", case.name, checkpoint.name)));
            }
        }
    }
    if edits.is_empty() {
        let help = format!(
            "write budget.{} = {} there first",
            wanted.metric,
            written(&wanted.metric, wanted.value)
        );
        return Err(wrong("no such limit is written for these checkpoints", &help));
    }
    if let Some((place, metric)) = other_metrics.iter().find(|(place, _)| edits.contains_key(place)) {
        return Err(wrong(
            &format!("the limit at {place} is a pattern, and holds for {metric} too"),
            "change the pattern in the file, or write one by name beside it",
        ));
    }
    for (place, other) in &elsewhere {
        if edits.contains_key(place) {
            let what = format!("the limit at {place} holds for {other} too");
            return Err(wrong(
                &what,
                "leave the case out to change it for all, or write one of its own",
            ));
        }
    }
    Ok(edits)
}

/// The text with the values replaced.
///
/// # Errors
/// At one of the places stands no value of one line that could be replaced.
pub fn edited(text: &str, edits: &Edits) -> Result<String> {
    let mut lines: Vec<String> = text.split_inclusive('\n').map(str::to_owned).collect();
    // From the right, so that places before stay right.
    for (place, value) in edits.iter().rev() {
        let range = (place.line as usize).checked_sub(1).and_then(|index| {
            let line = lines.get(index)?;
            let column = (place.column as usize).checked_sub(1)?;
            let start = line.char_indices().nth(column)?.0;
            Some((index, start, start + token(line.get(start..)?)?))
        });
        let Some((index, start, end)) = range else {
            return Err(Error::config(format!(
                "{place}: there is no value of one line that could be replaced"
            )));
        };
        lines[index].replace_range(start..end, value);
    }
    Ok(lines.concat())
}

/// Length of the string or number at the beginning of a text.
fn token(text: &str) -> Option<usize> {
    let first = text.chars().next()?;
    if text.starts_with("\"\"\"") || text.starts_with("'''") {
        return None;
    }
    if first == '"' || first == '\'' {
        let mut escaped = false;
        for (at, c) in text.char_indices().skip(1) {
            match c {
                _ if escaped => escaped = false,
                '\\' if first == '"' => escaped = true,
                '\n' => return None,
                c if c == first => return Some(at + 1),
                _ => {}
            }
        }
        return None;
    }
    let end = text.find(|c: char| !c.is_ascii_alphanumeric() && !matches!(c, '_' | '+'));
    Some(end.unwrap_or(text.len())).filter(|length| *length > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(line: u32, column: u32) -> Place {
        Place {
            file: "memcheck.toml".to_owned(),
            line,
            column,
        }
    }

    #[test]
    fn values_change_and_nothing_else_does() {
        let text = "# é: first\nbudget.own.anon = \"8 MiB\"   # why\r\n\t a = { max = 1_0, b = '4 KiB' }";
        let edits = [((2, 19), "\"4 KiB\""), ((3, 15), "7"), ((3, 24), "\"0 B\"")];
        let edits: Edits = edits
            .map(|((line, column), value)| (place(line, column), value.to_owned()))
            .into();
        assert_eq!(
            edited(text, &edits).unwrap(),
            "# é: first\nbudget.own.anon = \"4 KiB\"   # why\r\n\t a = { max = 7, b = \"0 B\" }"
        );
    }

    #[test]
    fn what_is_no_value_of_one_line_is_refused() {
        for (line, column, text) in [
            (9, 1, "a"),
            (1, 9, "a"),
            (1, 0, "a"),
            (0, 1, "a"),
            (1, 1, "\"open\n\""),
            (1, 1, "\"\"\"x\"\"\""),
            (1, 1, "[1]"),
        ] {
            let edits: Edits = [(place(line, column), "1".to_owned())].into();
            assert!(edited(text, &edits).is_err(), "{line}:{column} {text}");
        }
        assert_eq!(token("\"a\\\"b\" # c"), Some(6));
    }
}
