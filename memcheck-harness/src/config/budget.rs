//! `budget.<metric> = …`: what is written at one level, and the effective limits of a checkpoint out of all levels.
//! A role may be a pattern: `budget.allocator."*".anon`. Owns the keys `max`, `min`, `max_growth`, `over`, `max_per_round`, `max_per_unit`, `max_constant`;
//! judging is the `budget` module's.

use std::collections::BTreeMap;

use crate::model::{Bound, Growth, GrowthBound, Limit, MIN_RUNS, Metric, Over, Subject, Tier, Unit};

use super::cursor::{Form, Spot, Table, Value};
use super::diagnostic::{Diagnostic, Document, Span, quote};
use super::own;
use super::suggest::{self, listed};

const KEYS: [&str; 7] = [
    "max",
    "min",
    "max_growth",
    "over",
    "max_per_round",
    "max_per_unit",
    "max_constant",
];

/// Parts of the longest metric name; deeper tables hold no metric.
const MAX_PARTS: usize = 4;

/// The limits written at one level: defaults, a case or a checkpoint.
pub(super) type Budget = BTreeMap<Metric, Written>;

/// What is written of one metric at one level.
#[derive(Clone, Debug, Default)]
pub(super) struct Written {
    max: Option<Spot<u64>>,
    min: Option<Spot<u64>>,
    growth: Option<WrittenGrowth>,
    per_round: Option<Spot<u64>>,
    per_unit: Option<Spot<u64>>,
    constant: Option<Spot<u64>>,
}

#[derive(Clone, Debug)]
struct WrittenGrowth {
    bound: Spot<GrowthBound>,
    over: Spot<Over>,
}

/// Reads a `budget` table, dotted and nested keys alike.
pub(super) fn read(value: &Value<'_>) -> Budget {
    let mut read = Read::default();
    if let Some(table) = value.table("budget") {
        walk(&table, "", 1, &mut read);
    }
    let mut budget = read.named;
    // What is said of a metric by name comes before what a pattern says, and a later pattern before an earlier one.
    for (metric, written) in read.by_pattern.into_iter().rev() {
        let entry = budget.entry(metric).or_default();
        *entry = std::mem::take(entry).or(written);
    }
    budget
}

/// A table while it is read.
#[derive(Default)]
struct Read {
    named: Budget,
    by_pattern: Vec<(Metric, Written)>,
}

impl Written {
    /// Field by field.
    fn or(self, other: Self) -> Self {
        Self {
            max: self.max.or(other.max),
            min: self.min.or(other.min),
            growth: self.growth.or(other.growth),
            per_round: self.per_round.or(other.per_round),
            per_unit: self.per_unit.or(other.per_unit),
            constant: self.constant.or(other.constant),
        }
    }
}

/// The metrics of roles that a pattern means: `allocator.*.anon`. Its parts are matched one by one, and what of the roles is
/// counted must be said.
fn meant(pattern: &str) -> Vec<Metric> {
    let is_pattern = |text: &str| text.contains(['*', '?', '[', '{']);
    let Some((roles, measure)) = pattern.rsplit_once('.') else {
        return Vec::new();
    };
    if !is_pattern(roles) || is_pattern(measure) || own::mistake(pattern).is_some() {
        return Vec::new();
    }
    let parts = pattern.replace('.', "/");
    let is_meant = |metric: &Metric| {
        matches!(metric.subject(), Subject::Roles { .. }) && own::fits(&parts, &metric.name().replace('.', "/"))
    };
    Metric::all().into_iter().filter(is_meant).collect()
}

fn walk(table: &Table<'_>, prefix: &str, depth: usize, budget: &mut Read) {
    let entries = table.entries();
    if entries.is_empty() {
        let title = format!(
            "no limit is written for {}",
            quote(if prefix.is_empty() { "budget" } else { prefix })
        );
        table.doc.report(Diagnostic::at(
            table.span.clone(),
            title,
            "write for example budget.own.anon = \"256 MiB\"",
        ));
    }
    for (key, value) in entries {
        let name = if prefix.is_empty() {
            key.value.to_owned()
        } else {
            format!("{prefix}.{}", key.value)
        };
        let is_group = matches!(value.form(), Form::Table);
        let by_pattern = meant(&name);
        if let Some(first) = by_pattern.first() {
            // They have one measure, so one unit: the value is read once.
            if let Some(written) = limit(first, &key, &value) {
                let all = by_pattern.into_iter().map(|metric| (metric, written.clone()));
                budget.by_pattern.extend(all);
            }
            continue;
        }
        match metric(&name) {
            Ok(metric) => {
                if let Some(written) = limit(&metric, &key, &value) {
                    budget.named.insert(metric, written);
                }
            }
            Err(_) if is_group && depth < MAX_PARTS && !KEYS.contains(&key.value) && !holds_limit(&value) => {
                if let Some(inner) = value.table("budget") {
                    walk(&inner, &name, depth + 1, budget);
                }
            }
            Err(mut diagnostic) => {
                diagnostic.span = Some(table.doc.dotted(&key.span));
                table.doc.report(diagnostic);
            }
        }
    }
}

/// A table that holds limits is no group of metrics, though its name be wrong.
fn holds_limit(value: &Value<'_>) -> bool {
    value
        .table("budget")
        .is_some_and(|table| KEYS.iter().any(|key| table.get(key).is_some()))
}

/// A metric a budget may speak of; the mistake otherwise, without its place.
pub(super) fn metric(name: &str) -> Result<Metric, Diagnostic> {
    if name.contains('*') {
        let mut diagnostic = Diagnostic::elsewhere(format!("{} means no role", quote(name)));
        diagnostic.label = "`*` stands for one part of a role: allocator.\"*\".anon".to_owned();
        return Err(diagnostic);
    }
    let metric = Metric::parse(name).map_err(|error| {
        let hint = suggest::did_you_mean(name, error.candidates.iter().map(String::as_str));
        let mut diagnostic = Diagnostic::elsewhere(format!("{} is no metric: {}", quote(name), shorten(&error.reason)));
        match hint {
            Some(hint) => diagnostic.label = hint,
            None => diagnostic.help.push("`cargo memcheck metrics` prints every name".to_owned()),
        }
        diagnostic
    })?;
    if metric.tier() == Tier::ReportOnly {
        let mut diagnostic = Diagnostic::elsewhere(format!(
            "{} depends on other processes and cannot be gated",
            quote(metric.name())
        ));
        diagnostic.label = "use `process.anon` or `own.anon`".to_owned();
        return Err(diagnostic);
    }
    Ok(metric)
}

/// The reason quotes what was written, which may be long or hold control characters.
fn shorten(reason: &str) -> String {
    let short: String = reason.chars().take(120).collect();
    crate::model::Name::from(short.as_str()).to_string()
}

fn limit(metric: &Metric, key: &Spot<&str>, value: &Value<'_>) -> Option<Written> {
    if !matches!(value.form(), Form::Table) {
        let max = amount(metric, value)?;
        return Some(Written {
            max: Some(value.spot(max)),
            ..Written::default()
        });
    }
    let table = value.table("a limit")?;
    table.only(&KEYS, &[]);
    let bound = |name: &str| {
        let value = table.get(name)?;
        amount(metric, &value).map(|amount| value.spot(amount))
    };
    let written = Written {
        max: bound("max"),
        min: bound("min"),
        growth: growth(metric, &table),
        per_round: bound("max_per_round"),
        per_unit: bound("max_per_unit"),
        constant: bound("max_constant"),
    };
    if table.entries().is_empty() {
        let title = format!("no limit is written for {}", quote(metric.name()));
        table.doc.report(Diagnostic::at(key.span.clone(), title, "write { max = … }"));
        return None;
    }
    Some(written)
}

fn growth(metric: &Metric, table: &Table<'_>) -> Option<WrittenGrowth> {
    let (bound, over) = match (table.get("max_growth"), table.get("over")) {
        (None, None) => return None,
        (Some(bound), None) => {
            return bound.fail(
                "`max_growth` needs `over`",
                "add over = \"approved\", \"base\", or an earlier checkpoint",
            );
        }
        (None, Some(over)) => return over.fail("`over` needs `max_growth`", "add for example max_growth = \"5%\""),
        (Some(bound), Some(over)) => (bound, over),
    };
    let name = over.word("\"approved\"")?;
    let name = match name {
        "approved" => Over::Approved,
        "base" => Over::Base,
        _ => Over::Checkpoint(name.to_owned()),
    };
    let allowed = match bound.form() {
        Form::Text(text) if text.trim_end().ends_with('%') => match percent(text) {
            Some(basis_points) => GrowthBound::Percent { basis_points },
            None => {
                let title = format!("{} is not a percentage", quote(text));
                return bound.fail(title, "write for example \"5%\" or \"2.5%\"");
            }
        },
        _ => GrowthBound::Absolute(amount(metric, &bound)?),
    };
    Some(WrittenGrowth {
        bound: bound.spot(allowed),
        over: over.spot(name),
    })
}

/// A value of the metric: a size, or a number for counts.
pub(super) fn amount(metric: &Metric, value: &Value<'_>) -> Option<u64> {
    match (metric.unit(), value.form()) {
        (Unit::Bytes, Form::Text(_) | Form::Whole) => value.size(),
        (Unit::Bytes, _) => value.wrong("a size, for example \"16 MiB\""),
        (Unit::Count, Form::Whole) => value.whole(0, u64::MAX),
        (Unit::Count, Form::Text(text)) => {
            let label = match text.trim().parse::<u64>() {
                Ok(number) => format!("write {number} without quotes"),
                Err(_) => "write a whole number, for example 4".to_owned(),
            };
            value.fail(
                format!("{} counts things: {} is no number", quote(metric.name()), quote(text)),
                label,
            )
        }
        (Unit::Count, _) => value.wrong("a whole number"),
    }
}

/// Hundredths of a percent: at most two digits after the point.
fn percent(text: &str) -> Option<u64> {
    let number = text.trim().strip_suffix('%')?.trim_end();
    let (whole, part) = number.split_once('.').unwrap_or((number, "0"));
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    if !digits(whole) || !digits(part) || part.len() > 2 {
        return None;
    }
    let part: u64 = format!("{part:0<2}").parse().ok()?;
    whole.parse::<u64>().ok()?.checked_mul(100)?.checked_add(part)
}

/// The same limits with `over = "from"` written out: the beginning of the same repetition.
pub(super) fn over_beginning(budget: &Budget, word: &str, beginning: &str) -> Budget {
    let mut budget = budget.clone();
    for growth in budget.values_mut().filter_map(|written| written.growth.as_mut()) {
        if growth.over.value == Over::Checkpoint(word.to_owned()) {
            growth.over.value = Over::Checkpoint(beginning.to_owned());
        }
    }
    budget
}

/// Limits of one checkpoint. `layers` are the levels, the most specific first, of which the first `own` are the checkpoint's;
/// `names` all checkpoints of the case and `index` the one in question, `series` its number in its series. Each field comes from
/// the most specific level that has it; growth over a checkpoint that is not an earlier one holds elsewhere and is passed over
/// (but for the checkpoint's own levels, where it is a mistake; the first of a series may be what the others are compared
/// with); so is growth per round where there is no series.
pub(super) fn effective(
    doc: &Document<'_>,
    (layers, own): (&[&Budget], usize),
    names: &[&str],
    index: usize,
    series: Option<u64>,
    is_scaled: bool,
) -> BTreeMap<Metric, Limit> {
    let earlier = names.get(..index).unwrap_or_default();
    let itself = names.get(index).filter(|_| series == Some(1));
    for written in layers.iter().take(own).flat_map(|layer| layer.values()) {
        check_own_growth(doc, written, earlier, names, itself);
        if let Some(per_round) = written.per_round.as_ref().filter(|_| series.is_none()) {
            let title = "`max_per_round` needs a checkpoint that is passed many times";
            doc.report(Diagnostic::at(
                per_round.span.clone(),
                title,
                "add every = true to this checkpoint",
            ));
        }
    }
    check_per_unit(doc, layers[0], is_scaled);
    let mut limits = BTreeMap::new();
    for metric in layers.iter().flat_map(|layer| layer.keys()) {
        if limits.contains_key(metric) {
            continue;
        }
        let written: Vec<&Written> = layers.iter().filter_map(|layer| layer.get(metric)).collect();
        let max = written.iter().find_map(|w| w.max.as_ref());
        let min = written.iter().find_map(|w| w.min.as_ref());
        let growth = written
            .iter()
            .filter_map(|w| w.growth.as_ref())
            .find(|growth| applies(growth, earlier));
        if let (Some(max), Some(min)) = (max, min)
            && max.value < min.value
        {
            let title = format!(
                "`{metric}` cannot be at least {} and at most {}",
                metric.show(min.value),
                metric.show(max.value)
            );
            let (here, other) = if min.span.start > max.span.start {
                (min, max)
            } else {
                (max, min)
            };
            let label = format!("the other bound stands in line {}", doc.place(&other.span).line);
            doc.report(Diagnostic::at(here.span.clone(), title, label));
        }
        let bound = |spot: &Spot<u64>| Bound {
            value: spot.value,
            place: doc.place(&spot.span),
        };
        let per_round = written.iter().find_map(|w| w.per_round.as_ref()).filter(|_| series.is_some());
        let per_unit = written.iter().find_map(|w| w.per_unit.as_ref()).filter(|_| is_scaled);
        let constant = written.iter().find_map(|w| w.constant.as_ref()).filter(|_| is_scaled);
        let limit = Limit {
            per_round: per_round.map(bound),
            per_unit: per_unit.map(bound),
            constant: constant.map(bound),
            max: max.map(bound),
            min: min.map(bound),
            growth: growth.map(|growth| Growth {
                bound: growth.bound.value,
                over: growth.over.value.clone(),
                place: doc.place(&growth.bound.span),
            }),
        };
        if limit != Limit::default() {
            limits.insert(metric.clone(), limit);
        }
    }
    limits
}

fn applies(growth: &WrittenGrowth, earlier: &[&str]) -> bool {
    match &growth.over.value {
        Over::Approved | Over::Base => true,
        Over::Checkpoint(name) => earlier.contains(&name.as_str()),
    }
}

fn check_own_growth(doc: &Document<'_>, written: &Written, earlier: &[&str], names: &[&str], itself: Option<&&str>) {
    let Some(growth) = &written.growth else { return };
    let Over::Checkpoint(name) = &growth.over.value else { return };
    if applies(growth, earlier) || itself == Some(&name.as_str()) {
        return;
    }
    let span = growth.over.span.clone();
    if names.contains(&name.as_str()) {
        let title = format!("`over` must name an earlier checkpoint, {} is not", quote(name));
        let label = match earlier {
            [] => "this is the first checkpoint: only \"approved\" and \"base\" are possible".to_owned(),
            _ => format!("earlier ones: {}", listed(earlier.iter().copied())),
        };
        doc.report(Diagnostic::at(span, title, label));
    } else {
        unknown(doc, span, name, earlier);
    }
}

/// Growth written for a whole case, or (in defaults) for all cases, must hold for at least one checkpoint.
pub(super) fn check_growth(doc: &Document<'_>, budget: &Budget, cases: &[Vec<&str>]) {
    for written in budget.values() {
        let Some(growth) = &written.growth else { continue };
        let Over::Checkpoint(name) = &growth.over.value else {
            continue;
        };
        let is = |other: &&str| *other == name;
        if cases.iter().any(|names| names.iter().rev().skip(1).any(is)) {
            continue;
        }
        let span: Span = growth.over.span.clone();
        if cases.iter().flatten().any(is) {
            let title = format!("no checkpoint comes after {}: this limit would never hold", quote(name));
            doc.report(Diagnostic::at(span, title, "name an earlier one"));
        } else {
            let all: Vec<&str> = cases.iter().flatten().copied().collect();
            unknown(doc, span, name, &all);
        }
    }
}

/// Growth per round written for a whole case, or for all cases, must hold for at least one series.
pub(super) fn check_per_round(doc: &Document<'_>, budget: &Budget, has_series: bool) {
    if let Some(span) = per_round(budget).filter(|_| !has_series) {
        let title = "no checkpoint is passed many times: `max_per_round` would never hold";
        doc.report(Diagnostic::at(span, title, "add every = true to a checkpoint"));
    }
}

/// A cost per unit needs runs with different numbers of them.
pub(super) fn check_per_unit(doc: &Document<'_>, budget: &Budget, is_scaled: bool) {
    let written = || {
        budget
            .values()
            .find_map(|written| written.per_unit.as_ref().or(written.constant.as_ref()))
    };
    if let Some(spot) = written().filter(|_| !is_scaled) {
        let title = format!("a limit per unit needs a matrix of at least {MIN_RUNS} runs with a number each");
        let label = "add to the case: matrix = { args = [[\"1\"], [\"10\"], [\"100\"]] }";
        doc.report(Diagnostic::at(spot.span.clone(), title, label));
    }
}

/// Where growth per round is written first.
pub(super) fn per_round(budget: &Budget) -> Option<Span> {
    budget
        .values()
        .find_map(|written| written.per_round.as_ref())
        .map(|spot| spot.span.clone())
}

fn unknown(doc: &Document<'_>, span: Span, name: &str, names: &[&str]) {
    let candidates = names.iter().copied().chain(["approved", "base"]);
    let hint = suggest::did_you_mean(name, candidates).unwrap_or_else(|| "use \"approved\" or an earlier checkpoint".to_owned());
    doc.report(Diagnostic::at(span, format!("there is no checkpoint {}", quote(name)), hint));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentages_are_exact() {
        for (text, basis_points) in [
            ("5%", Some(500)),
            ("2.5%", Some(250)),
            ("0.05 %", Some(5)),
            ("100%", Some(10_000)),
            ("1.234%", None),
            ("%", None),
            ("-1%", None),
            ("1.%", None),
            ("184467440737095517%", None),
        ] {
            assert_eq!(percent(text), basis_points, "{text}");
        }
    }
}
