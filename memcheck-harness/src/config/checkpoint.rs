//! `[[case.checkpoint]]`: name, which pass, how many, whether it is part of the snapshot, its budget.
//! Owns which orders of checkpoints are possible, and what a series becomes.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::model::{At, ChildName, Every, MIN_ROUNDS};

use super::budget::{self, Budget};
use super::child::{self, Child};
use super::cursor::{Form, Spot, Table};
use super::diagnostic::{Diagnostic, Document, Span, quote};
use super::{at, duration, environment, name, settings};

/// How many passes of a series are captured when nobody says.
const DEFAULT_LIMIT: u64 = 100;
/// More captures in one case are a mistake.
const MAX_LIMIT: u64 = 10_000;
/// As `hit`, it counts passes; this many between two captures are a mistake.
const MAX_STEP: u64 = 1_000_000;

const KEYS: [&str; 15] = [
    "name",
    "at",
    "child",
    "from",
    "to",
    "hit",
    "every",
    "limit",
    "warm_up",
    "hardware",
    "settle",
    "snapshot",
    "budget",
    "watch",
    "environment",
];

/// The two ends of a repetition, as they are called in the names of its checkpoints and in `over`.
const FROM: &str = "from";
const TO: &str = "to";

/// A checkpoint as written.
#[derive(Clone, Debug)]
pub(super) struct Written {
    /// Where `[[case.checkpoint]]` stands.
    pub(super) span: Span,
    pub(super) name: Spot<String>,
    pub(super) at: Spot<At>,
    pub(super) child: Option<Spot<Child>>,
    pub(super) hit: Spot<u64>,
    /// How many rounds or children, for a series that was not expanded yet.
    limit: Option<Spot<u64>>,
    /// Passes from one round to the next.
    step: Spot<u64>,
    warm_up: Option<u64>,
    /// For one of an expanded series.
    pub(super) every: Option<Every>,
    /// Where each repetition ends, for a pair that was not expanded yet; `at` is where it begins.
    to: Option<Spot<At>>,
    pub(super) in_turn: bool,
    pub(super) hardware: bool,
    pub(super) settle: Option<Spot<Duration>>,
    pub(super) snapshot: bool,
    pub(super) budget: Budget,
    /// `environment.NAME.budget`
    pub(super) environments: environment::Budgets,
    /// `watch = "stacks"`
    pub(super) watch_stacks: bool,
}

/// Reads one checkpoint.
pub(super) fn read(table: &Table<'_>) -> Option<Written> {
    table.only(&KEYS, &[]);
    let named = match table.get("name") {
        Some(value) => name::checkpoint(&value),
        None => {
            table.missing("name", "name = \"ready\"");
            None
        }
    };
    let pair = pair(table);
    let at = match (&pair, table.get("at")) {
        (Some(pair), _) => pair.as_ref().map(|(from, _)| from.clone()),
        (None, Some(value)) => at::read(&value),
        (None, None) => named.clone().map(|named| Spot {
            value: At::Probe {
                provider: "memcheck".to_owned(),
                name: named.value,
            },
            span: named.span,
        }),
    };
    let child = match table.get("child") {
        Some(value) => Some(child::read(&value)?),
        None => None,
    };
    let hit = match table.get("hit") {
        Some(value) => value.whole(1, u64::MAX).map(|hit| value.spot(hit)),
        None => Some(Spot {
            value: 1,
            span: table.span.clone(),
        }),
    };
    let settle = table
        .get("settle")
        .and_then(|value| Some(value.spot(duration::read(&value, "200ms")?)));
    let snapshot = match table.get("snapshot") {
        Some(value) => value.flag(),
        None => Some(at.as_ref().is_some_and(|at| !at.value.is_timed())),
    };
    let budget = table.get("budget").map(|value| budget::read(&value)).unwrap_or_default();
    let to = pair.flatten().map(|(_, to)| to);
    let limit = series(table, child.as_ref(), to.is_some());
    let warm_up = warm_up(table, limit.as_ref());
    if let Some(limit) = &limit {
        check_rounds(table, &budget, limit, warm_up);
    }
    let hardware = table.get("hardware").and_then(|value| {
        let wanted = value.flag()?;
        let code = |at: &Spot<At>| at.value.is_code() && !matches!(at.value, At::Returns(_));
        if wanted && !at.iter().chain(&to).all(code) {
            return value.fail(
                "`hardware` is for places in the code",
                "it goes with \"main\", probe, function and line",
            );
        }
        Some(wanted)
    });
    Some(Written {
        span: table.span.clone(),
        name: named?,
        at: at?,
        hit: hit?,
        step: step(table),
        limit,
        warm_up,
        child,
        every: None,
        to,
        in_turn: false,
        hardware: hardware.unwrap_or(false),
        settle,
        snapshot: snapshot?,
        budget,
        environments: environment::budgets(table, &["budget"]),
        watch_stacks: table.get("watch").and_then(|value| settings::watch(&value)).unwrap_or(false),
    })
}

/// `from` and `to`; the inner value is absent when something was reported.
fn pair(table: &Table<'_>) -> Option<Option<(Spot<At>, Spot<At>)>> {
    let (from, to) = match (table.get(FROM), table.get(TO)) {
        (None, None) => return None,
        (Some(from), Some(to)) => (from, to),
        (Some(one), None) | (None, Some(one)) => {
            one.fail::<()>(
                "`from` and `to` go together",
                "write both: from = { function = \"a\" }, to = { function = \"b\" }",
            );
            return Some(None);
        }
    };
    for key in ["at", "hit", "every"] {
        if let Some(value) = table.get(key) {
            value.fail::<()>(
                format!("`{key}` has no meaning beside `from` and `to`"),
                "each repetition is measured at both ends, `limit` says how many",
            );
            return Some(None);
        }
    }
    let end = |value: &super::cursor::Value<'_>| {
        let at = at::read(value)?;
        if at.value.is_once() || at.value.is_timed() {
            return value.fail(
                format!("`{}` cannot be an end of something that is repeated", at.value),
                "use a probe, a function, a line, a system call or the like",
            );
        }
        Some(at)
    };
    let ends = end(&from).zip(end(&to));
    if let Some((one, other)) = &ends
        && one.value == other.value
    {
        to.fail::<()>(
            "`from` and `to` are the same place",
            "at = … with every = true stops at each pass of it",
        );
        return Some(None);
    }
    Some(ends)
}

/// `every` and `limit`: how many rounds. A series by children needs `limit` alone.
fn series(table: &Table<'_>, child: Option<&Spot<Child>>, is_pair: bool) -> Option<Spot<u64>> {
    let limit = table.get("limit");
    if let Some(Spot {
        value: Child::Each(_),
        span,
    }) = child
    {
        if let Some(repeated) = table.get("every").or_else(|| table.get(FROM)) {
            let label = "remove it, or name one child";
            return repeated.fail("a series by children has one pass in each", label);
        }
        let Some(limit) = limit else {
            let title = "a checkpoint in each child needs to know how many there may be";
            table.doc.report(Diagnostic::at(span.clone(), title, "add limit = 10"));
            return None;
        };
        return limit.whole(1, MAX_LIMIT).map(|number| limit.spot(number));
    }
    let asked = table.get("every").and_then(|value| match value.form() {
        Form::Whole => Some(value.spot(true)),
        _ => value.flag().map(|asked| value.spot(asked)),
    });
    let asked = asked.or_else(|| {
        is_pair.then(|| Spot {
            value: true,
            span: table.span.clone(),
        })
    });
    match asked {
        Some(every) if every.value => match limit {
            Some(limit) => limit.whole(1, MAX_LIMIT).map(|number| limit.spot(number)),
            None => Some(Spot {
                value: DEFAULT_LIMIT,
                span: every.span,
            }),
        },
        _ => {
            if let Some(limit) = limit {
                limit.fail::<()>(
                    "`limit` has no meaning without `every`",
                    "add every = true, or `from` and `to`",
                );
            }
            None
        }
    }
}

/// `every = 10`: every tenth pass.
fn step(table: &Table<'_>) -> Spot<u64> {
    let written = table.get("every").filter(|value| matches!(value.form(), Form::Whole));
    let step = written.and_then(|value| value.whole(1, MAX_STEP).map(|step| value.spot(step)));
    step.unwrap_or_else(|| Spot {
        value: 1,
        span: table.span.clone(),
    })
}

fn warm_up(table: &Table<'_>, rounds: Option<&Spot<u64>>) -> Option<u64> {
    let value = table.get("warm_up")?;
    match rounds {
        None => value.fail("`warm_up` has no meaning without `every`", "add every = true"),
        Some(rounds) => {
            let warm_up = value.whole(0, MAX_LIMIT)?;
            if warm_up >= rounds.value {
                return value.fail(
                    format!("no round is left: the series has {}", rounds.value),
                    format!("leave at least {MIN_ROUNDS}, or raise `limit`"),
                );
            }
            Some(warm_up)
        }
    }
}

/// A limit on growth needs rounds to judge by.
fn check_rounds(table: &Table<'_>, budget: &Budget, limit: &Spot<u64>, warm_up: Option<u64>) {
    let left = limit.value - Every::warm_up_of(warm_up, limit.value).min(limit.value);
    if let Some(span) = budget::per_round(budget)
        && left < MIN_ROUNDS
    {
        let title = format!("`max_per_round` needs at least {MIN_ROUNDS} rounds after the warm-up, here are {left}");
        let label = format!("raise `limit` of the series (line {})", table.doc.place(&limit.span).line);
        table.doc.report(Diagnostic::at(span, title, label));
    }
}

impl Written {
    /// The last pass that it counts.
    fn last_hit(&self) -> u64 {
        self.limit
            .as_ref()
            .filter(|_| !self.is_by_child())
            .map_or(self.hit.value, |limit| {
                self.hit.value.saturating_add((limit.value - 1) * self.step.value)
            })
    }

    fn is_by_child(&self) -> bool {
        matches!(&self.child, Some(child) if child.value.one().is_none())
    }

    /// The process it is in; absent for the target itself, and for a series.
    pub(super) fn process(&self) -> Option<ChildName> {
        self.child.as_ref().and_then(|child| child.value.one().cloned())
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
        // Each process has an order of its own.
        let within = |other: &Written| other.child.as_ref().map(|child| child.value.clone());
        let same: Vec<&Written> = earlier.iter().filter(|other| within(other) == within(checkpoint)).collect();
        if checkpoint.to.is_some() {
            // Its passes count in turn, whatever came before.
            continue;
        }
        let at = &checkpoint.at;
        let once = at.value.is_once();
        if (once || at.value.is_timed()) && checkpoint.hit.value > 1 {
            let title = format!("`{}` is reached once, `hit` must be 1", at.value);
            report(&checkpoint.hit.span, title, "remove `hit`".to_owned());
        } else if let Some(limit) = &checkpoint.limit
            && !checkpoint.is_by_child()
            && (once || matches!(at.value, At::Idle | At::StepDone))
        {
            let title = format!("`{}` is reached once, `every` makes no series of it", at.value);
            report(&limit.span, title, "remove `every`".to_owned());
        } else if at.value.is_timed() && checkpoint.step.value > 1 {
            let title = format!("`{}` counts time, not passes", at.value);
            report(&checkpoint.step.span, title, "write every = true".to_owned());
        } else if let Some(other) = same.iter().find(|other| {
            let meets = once || other.last_hit() >= checkpoint.hit.value;
            other.at.value == at.value && meets && !at.value.is_timed()
        }) {
            let title = format!(
                "checkpoint `{}` cannot come after `{}`",
                checkpoint.name.value, other.name.value
            );
            let label = if once {
                format!("`{}` is reached once", at.value)
            } else {
                format!("the same place: add hit = {}", other.last_hit().saturating_add(1))
            };
            report(&at.span, title, label);
        } else if at.value == At::Exec && !same.is_empty() {
            let title = "`exec` comes before everything else".to_owned();
            report(&at.span, title, "make it the first checkpoint".to_owned());
        } else if let Some(exit) = same.iter().find(|other| other.at.value == At::Exit) {
            let title = format!("nothing comes after `exit`, but checkpoint `{}` does", checkpoint.name.value);
            let label = format!("move it before `{}`", exit.name.value);
            report(&checkpoint.name.span, title, label);
        }
    }
}

/// Reports a time of rest that no case can take.
pub(super) fn check_settle(doc: &Document<'_>, checkpoints: &[Written], timeout: Duration) {
    // Each of a series has the same.
    let mut told: Vec<Span> = Vec::new();
    for settle in checkpoints.iter().filter_map(|one| one.settle.as_ref()) {
        if settle.value < timeout || told.contains(&settle.span) {
            continue;
        }
        told.push(settle.span.clone());
        let title = "memory is to rest for as long as the whole case may take, or longer".to_owned();
        let label = format!("timeout is {} ms: make one longer, or the other shorter", timeout.as_millis());
        doc.report(Diagnostic::at(settle.span.clone(), title, label));
    }
}

/// Each series becomes as many checkpoints as it may have rounds: `name.1`, `name.2`, …, by the number of the pass.
pub(super) fn expand(doc: &Document<'_>, checkpoints: Vec<Written>) -> Vec<Written> {
    let mut all: Vec<Written> = Vec::with_capacity(checkpoints.len());
    for mut checkpoint in checkpoints {
        let Some(limit) = checkpoint.limit.take() else {
            all.push(checkpoint);
            continue;
        };
        let ends = if checkpoint.to.is_some() { 2 } else { 1 };
        if all.len() as u64 + limit.value * ends > MAX_LIMIT {
            let title = format!("more than {MAX_LIMIT} captures in a case");
            doc.report(Diagnostic::at(limit.span, title, ""));
            return all;
        }
        if let Some(to) = checkpoint.to.take() {
            let repetitions = (1..=limit.value).flat_map(|number| repetition(&checkpoint, &to, number, limit.value));
            all.extend(repetitions);
            continue;
        }
        let series = checkpoint.name.value.clone();
        for number in 1..=limit.value {
            let mut one = checkpoint.clone();
            let by_child = checkpoint.is_by_child();
            if let Some(Spot { value: child, .. }) = &mut one.child
                && let (Child::Each(name), Ok(number)) = (&*child, u32::try_from(number))
            {
                *child = Child::One(name.numbered(number));
            }
            // By the number of the pass.
            let passed = (number - 1).saturating_mul(checkpoint.step.value);
            one.name.value = format!("{series}.{}", passed.saturating_add(1));
            // A time counts from the checkpoint before, anything else from the start of the target.
            if !one.at.value.is_timed() && !by_child {
                one.hit.value = checkpoint.hit.value.saturating_add(passed);
            }
            one.every = Some(Every {
                series: series.clone(),
                number,
                limit: limit.value,
                step: checkpoint.step.value,
                warm_up: checkpoint.warm_up,
                by_child,
            });
            all.push(one);
        }
    }
    report_names(doc, &all);
    all
}

/// The two ends of one repetition: `name.3.from` and `name.3.to`. What is written of the pair holds at its end.
fn repetition(pair: &Written, to: &Spot<At>, number: u64, limit: u64) -> [Written; 2] {
    let name = &pair.name.value;
    let end = |word: &str| {
        let mut one = pair.clone();
        one.name.value = format!("{name}.{number}.{word}");
        one.every = Some(Every {
            series: format!("{name}.{word}"),
            number,
            limit,
            step: 1,
            warm_up: pair.warm_up,
            by_child: false,
        });
        one
    };
    let mut begins = end(FROM);
    begins.in_turn = number > 1;
    begins.budget = Budget::new();
    begins.environments = environment::Budgets::new();
    let mut ends = end(TO);
    ends.at = to.clone();
    ends.in_turn = true;
    ends.budget = budget::over_beginning(&pair.budget, FROM, &begins.name.value);
    for at in ends.environments.values_mut() {
        at.budget = budget::over_beginning(&at.budget, FROM, &begins.name.value);
    }
    [begins, ends]
}

fn report_names(doc: &Document<'_>, all: &[Written]) {
    // Names that are written twice were reported before; here one of the two is made by a series.
    let mut names: BTreeMap<&str, bool> = BTreeMap::new();
    for checkpoint in all {
        let made = checkpoint.every.is_some();
        if names
            .insert(&checkpoint.name.value, made)
            .is_some_and(|before| before || made)
        {
            let title = format!("two checkpoints are called {}", quote(&checkpoint.name.value));
            let label = "rename this one, or the series";
            doc.report(Diagnostic::at(checkpoint.name.span.clone(), title, label));
            break;
        }
    }
}
