//! `--budget '[case[/checkpoint]:]metric<=16MiB'`: limits from the command line.
//! Owns their syntax and that they only ever make a plan stricter.

use crate::error::{Error, Result};
use crate::model::{Bound, ByteSize, Case, Metric, Name, Place, Unit};

use super::budget;
use super::diagnostic::quote;
use super::suggest;

/// One limit from the command line.
pub(super) struct Added<'a> {
    pub(super) case: Option<&'a str>,
    pub(super) checkpoint: Option<&'a str>,
    pub(super) metric: Metric,
    is_max: bool,
    pub(super) value: u64,
}

/// Adds every limit to the checkpoints it speaks of: the smaller of two maxima holds, the larger of two minima.
pub(super) fn add(typed: &[String], cases: &mut [Case], page_bytes: u64) -> Result<()> {
    for text in typed {
        let added = parse(text, page_bytes).and_then(|added| apply(&added, cases));
        if let Err((what, help)) = added {
            let error = Error::config(format!("--budget {}: {what}", quote(text)));
            return Err(if help.is_empty() {
                error
            } else {
                error.detail(format!("  help: {help}"))
            });
        }
    }
    Ok(())
}

/// What is wrong, and what to do (may be empty).
pub(super) type Mistake = (String, String);

pub(super) fn parse(text: &str, page_bytes: u64) -> std::result::Result<Added<'_>, Mistake> {
    let (left, is_max, right) = if let Some((left, right)) = text.split_once("<=") {
        (left, true, right)
    } else if let Some((left, right)) = text.split_once(">=") {
        (left, false, right)
    } else {
        let help = "write [case[/checkpoint]:]metric<=16MiB, or >= for a minimum".to_owned();
        return Err(("there is neither `<=` nor `>=`".to_owned(), help));
    };
    let (scope, name) = left
        .rsplit_once(':')
        .map_or((None, left), |(scope, name)| (Some(scope), name));
    let (case, checkpoint) = match scope.map(|scope| scope.split_once('/').map_or((scope, None), |(a, b)| (a, Some(b)))) {
        Some((case, checkpoint)) => (Some(case.trim()), checkpoint.map(str::trim)),
        None => (None, None),
    };
    let metric = budget::metric(name.trim()).map_err(|diagnostic| {
        let help = Some(diagnostic.label).filter(|label| !label.is_empty());
        (diagnostic.title, help.unwrap_or_else(|| diagnostic.help.join("; ")))
    })?;
    let right = right.trim();
    let value = match metric.unit() {
        Unit::Count => right.parse::<u64>().map_err(|_| {
            let what = format!("`{metric}` counts things: {} is no number", quote(right));
            (what, format!("write for example {metric}<=4"))
        })?,
        Unit::Bytes => {
            let size = ByteSize::parse(right, page_bytes).map_err(|error| {
                let short: String = error.to_string().chars().take(200).collect();
                (Name::from(short.as_str()).to_string(), String::new())
            })?;
            size.0
        }
    };
    Ok(Added {
        case,
        checkpoint,
        metric,
        is_max,
        value,
    })
}

fn apply(added: &Added<'_>, cases: &mut [Case]) -> std::result::Result<(), Mistake> {
    let in_case = |case: &Case| added.case.is_none_or(|name| case.name == name);
    if let Some(name) = added.case
        && !cases.iter().any(in_case)
    {
        let hint = suggest::did_you_mean(name, cases.iter().map(|case| case.name.as_str()));
        return Err((format!("there is no case {}", quote(name)), hint.unwrap_or_default()));
    }
    let mut found = false;
    for case in cases.iter_mut().filter(|case| in_case(case)) {
        for checkpoint in &mut case.checkpoints {
            if added.checkpoint.is_some_and(|name| checkpoint.name != name) {
                continue;
            }
            found = true;
            let limit = checkpoint.limits.entry(added.metric.clone()).or_default();
            let place = Place {
                file: "--budget".to_owned(),
                line: 0,
                column: 0,
            };
            let bound = Bound {
                value: added.value,
                place,
            };
            if added.is_max {
                limit.max = Some(limit.max.take().filter(|max| max.value < added.value).unwrap_or(bound));
            } else {
                limit.min = Some(limit.min.take().filter(|min| min.value > added.value).unwrap_or(bound));
            }
            if let (Some(max), Some(min)) = (&limit.max, &limit.min)
                && max.value < min.value
            {
                let (max_text, min_text) = (added.metric.show(max.value), added.metric.show(min.value));
                let what = format!(
                    "`{}` at {}/{} would have to be at least {min_text} ({}) and at most {max_text} ({})",
                    added.metric, case.name, checkpoint.name, min.place, max.place
                );
                return Err((what, String::new()));
            }
        }
    }
    if !found {
        let name = added.checkpoint.unwrap_or_default();
        let names = cases.iter().filter(|case| in_case(case)).flat_map(|case| &case.checkpoints);
        let hint = suggest::did_you_mean(name, names.map(|checkpoint| checkpoint.name.as_str()));
        return Err((format!("there is no checkpoint {}", quote(name)), hint.unwrap_or_default()));
    }
    Ok(())
}
