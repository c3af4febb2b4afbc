//! How a series grows, for people: a verdict for each metric and a small chart; and the words of a limit on a rate.

use std::collections::BTreeSet;
use std::io::{self, Write};

use super::Style;
use super::text::{Ink, clean, labelled, paint, plural};
use crate::model::{CaseReport, Direction, LimitResult, MIN_ROUNDS, Metric, Series, Trend};

/// Columns of a chart.
const CHART: usize = 16;
/// From low to high.
const LEVELS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];

/// The checkpoints between the first and the last one of each series: what they have to say the verdict on the series says.
pub(super) fn between(case: &CaseReport) -> BTreeSet<&str> {
    let mut found = BTreeSet::new();
    for series in &case.series {
        // Of a pair the two ends are `name.from` and `name.to`, their rounds `name.3.from` and `name.3.to`.
        let (name, end) = match series.name.rsplit_once('.') {
            Some((name, end @ ("from" | "to"))) => (name, Some(end)),
            _ => (series.name.as_str(), None),
        };
        let is_round = |checkpoint: &&str| {
            let number = checkpoint.strip_prefix(name).and_then(|rest| rest.strip_prefix('.'));
            let number = match end {
                Some(end) => number
                    .and_then(|rest| rest.strip_suffix(end))
                    .and_then(|rest| rest.strip_suffix('.')),
                None => number,
            };
            number.is_some_and(|number| !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit()))
        };
        let rounds: Vec<&str> = case
            .checkpoints
            .iter()
            .map(|checkpoint| checkpoint.name.as_str())
            .filter(is_round)
            .collect();
        let inner = rounds.len().saturating_sub(2);
        found.extend(rounds.into_iter().skip(1).take(inner));
    }
    found
}

/// What a limit that speaks of growth, or of a round that was not kept, says of its value: head and text. `None` for every
/// other one.
pub(super) fn limit_words(limit: &LimitResult) -> Option<(&'static str, String)> {
    let metric = &limit.metric;
    if limit.is_rate() {
        let unit = limit.rule.strip_prefix(LimitResult::PER_UNIT).map(str::trim);
        let is_constant = limit.rule == LimitResult::CONSTANT;
        return Some(match (limit.value, limit.limit) {
            (Some(value), Some(bound)) => {
                let value = metric.show(value);
                let says = match unit {
                    Some(unit) => format!("{metric} costs {value} for each {unit}"),
                    None if is_constant => format!("{metric} begins with {value}"),
                    None => format!("{metric} grows {value} per round"),
                };
                ("Budget exceeded: ", format!("{says}, limit {}", metric.show(bound)))
            }
            _ => {
                let what = match unit {
                    Some(unit) => format!("cost of {metric} for each {unit}"),
                    None if is_constant => format!("what {metric} begins with"),
                    None => format!("growth of {metric} per round"),
                };
                ("Budget not judged: ", format!("{what}: {}", limit.reason))
            }
        });
    }
    let (_, round) = limit.rule.split_once(" in round ")?;
    Some(match (limit.value, limit.limit) {
        (Some(value), Some(bound)) if limit.is_under() => (
            "Budget not reached: ",
            format!(
                "{metric} is {} in round {round}, at least {}",
                metric.show(value),
                metric.show(bound)
            ),
        ),
        (Some(value), Some(bound)) => (
            "Budget exceeded: ",
            format!(
                "{metric} is {} in round {round}, limit {}",
                metric.show(value),
                metric.show(bound)
            ),
        ),
        _ => ("Budget not judged: ", format!("{metric} in round {round}: {}", limit.reason)),
    })
}

/// True when its value stands for the memory of its checkpoint.
pub(super) fn is_of_checkpoint(limit: &LimitResult) -> bool {
    !limit.is_rate() && !limit.rule.contains(" in round ")
}

/// True when a limit on growth is broken.
pub(super) fn is_broken(case: &CaseReport) -> bool {
    let mut limits = case.checkpoints.iter().flat_map(|checkpoint| &checkpoint.limits);
    limits.any(|limit| limit.is_rate() && limit.verdict.is_broken())
}

/// Every series: what has a limit, and what does not stay as it is; with `-v` everything that was read.
///
/// # Errors
/// Those of the writer.
pub(super) fn series(case: &CaseReport, style: Style, out: &mut dyn Write) -> io::Result<()> {
    for series in &case.series {
        labelled(style, &series.name, 12, &head(series), out)?;
        for (metric, trend) in &series.trends {
            let limited = case.checkpoints.iter().flat_map(|checkpoint| &checkpoint.limits);
            let is_limited = limited.clone().any(|limit| limit.is_rate() && limit.metric == *metric);
            if style.verbose == 0 && !is_limited && trend.direction == Direction::Flat {
                continue;
            }
            let values = series.readings.get(metric).map(Vec::as_slice).unwrap_or_default();
            let text = verdict(metric, trend, series.step);
            let ink = if trend.direction == Direction::Grows {
                Ink::Warn
            } else {
                Ink::Plain
            };
            let fit = match trend.r2_permille {
                Some(r2) if trend.direction != Direction::Flat => format!("  r² {}.{:03}", r2 / 1000, r2 % 1000),
                _ => String::new(),
            };
            writeln!(
                out,
                "    {:<22} {} {}{fit}",
                clean(metric.name()),
                paint(style, ink, &format!("{text:<26}")),
                chart(values, CHART)
            )?;
        }
    }
    Ok(())
}

/// How many rounds there were, and how many count.
fn head(series: &Series) -> String {
    let count = |rounds: u64| plural(usize::try_from(rounds).unwrap_or(usize::MAX), "round");
    let passes = series.rounds.saturating_sub(1).saturating_mul(series.step) + 1;
    let mut text = match series.step {
        1 => count(series.rounds),
        step => format!("{} of {} read, one in {step}", series.rounds, count(passes)),
    };
    let counted = series.rounds.saturating_sub(series.warm_up);
    if counted < MIN_ROUNDS {
        text += &format!(
            ", {} of them warm-up: too few for a verdict, which needs {MIN_ROUNDS} more",
            series.warm_up
        );
    } else if series.warm_up > 0 {
        text += &format!(", the first {} of them warm-up", series.warm_up);
    }
    if series.thinned > 0 {
        text += &format!(
            "; the memory of {} is kept",
            series.rounds - series.thinned.min(series.rounds)
        );
    }
    text
}

fn verdict(metric: &Metric, trend: &Trend, step: u64) -> String {
    // By the number of the pass, as checkpoints are named.
    let last = trend.last_rise.saturating_sub(1).saturating_mul(step) + 1;
    match trend.direction {
        Direction::Flat => "flat".to_owned(),
        Direction::Grows => format!("grows {} per round", amount(metric, trend.slope_milli)),
        Direction::Shrinks => format!("shrinks {} per round", amount(metric, trend.slope_milli)),
        Direction::Stepped if trend.rises == 1 => format!("rose once, in round {last}"),
        Direction::Stepped => format!("rose {} times, to round {last}", trend.rises),
    }
}

/// Thousandths of a unit: whole from 10 units on.
pub(super) fn amount(metric: &Metric, milli: i64) -> String {
    let size = milli.unsigned_abs();
    if size >= 10_000 || size.is_multiple_of(1000) {
        return metric.show((size + 500) / 1000);
    }
    let number = format!("{}.{:03}", size / 1000, size % 1000);
    let unit = metric.show(0);
    let unit = unit.strip_prefix('0').unwrap_or_default();
    format!("{}{unit}", number.trim_end_matches('0'))
}

/// The values as bars, the lowest at the bottom: where they are equal, a line.
pub(super) fn chart(values: &[Option<u64>], width: usize) -> String {
    let known = || values.iter().flatten().copied();
    let (Some(least), Some(most)) = (known().min(), known().max()) else {
        return String::new();
    };
    let width = width.min(values.len());
    let bar = |column: usize| {
        let (from, to) = (column * values.len() / width, ((column + 1) * values.len() / width).max(1));
        // A single high round must show.
        let value = values.get(from..to)?.iter().flatten().copied().max()?;
        let level = u128::from(value - least) * 7 / u128::from((most - least).max(1));
        LEVELS.get(usize::try_from(level).ok()?).copied()
    };
    (0..width).map(|column| bar(column).unwrap_or(' ')).collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::super::fixtures::{case, limit, print};
    use super::*;

    fn metric(name: &str) -> Metric {
        Metric::parse(name).unwrap()
    }

    fn trend(direction: Direction, slope_milli: i64) -> Trend {
        Trend {
            direction,
            rounds: 45,
            slope_milli,
            r2_permille: Some(998),
            rises: 2,
            last_rise: 9,
            rise: 4096,
            grain: 0,
        }
    }

    #[test]
    fn rounds_between_the_first_and_the_last_are_known() {
        let mut case = super::super::fixtures::case("p");
        let one = case.checkpoints.remove(0);
        let names = [
            "start", "r.1", "r.2", "r.10", "r.x", "q.1.from", "q.1.to", "q.2.from", "q.2.to", "q.3.to",
        ];
        case.checkpoints = names
            .iter()
            .map(|name| crate::model::CheckpointReport {
                name: (*name).to_owned(),
                ..one.clone()
            })
            .collect();
        for name in ["r", "q.from", "q.to"] {
            case.series.push(Series {
                name: name.to_owned(),
                ..Series::default()
            });
        }
        assert_eq!(between(&case), BTreeSet::from(["r.2", "q.2.to"]));
    }

    #[test]
    fn a_series_is_told_with_its_verdicts() {
        let mut case = case("loop");
        let readings = |values: fn(u64) -> u64| (0..50).map(|i| Some(values(i))).collect::<Vec<_>>();
        case.series = vec![Series {
            name: "round".to_owned(),
            rounds: 50,
            step: 1,
            warm_up: 5,
            readings: BTreeMap::from([
                (metric("main-heap.used"), readings(|i| 70_000 + i * 80)),
                (metric("own.anon"), readings(|_| 4096)),
                (metric("own.reserved"), readings(|i| if i < 8 { 0 } else { 4096 })),
            ]),
            trends: BTreeMap::from([
                (metric("main-heap.used"), trend(Direction::Grows, 80_000)),
                (metric("own.anon"), trend(Direction::Flat, 0)),
                (metric("own.reserved"), trend(Direction::Stepped, 0)),
            ]),
            ..Series::default()
        }];
        let text = print(|out| series(&case, Style::default(), out));
        assert_eq!(
            text,
            "  round     50 rounds, the first 5 of them warm-up\n    \
             main-heap.used         grows 80 B per round       ▁▁▂▂▃▃▃▄▄▅▅▆▆▇▇█  r² 0.998\n    \
             own.reserved           rose 2 times, to round 9   ▁▁██████████████  r² 0.998\n"
        );
        assert!(text.lines().all(|line| line.chars().count() <= 80), "{text}");
        case.series[0].rounds = 9;
        let text = print(|out| series(&case, Style::default(), out));
        assert!(text.contains("too few for a verdict"), "{text}");
    }

    #[test]
    fn a_rate_has_words_of_its_own() {
        let mut over = limit("main-heap.used", 0, Some(80), 8);
        LimitResult::PER_ROUND.clone_into(&mut over.rule);
        let words = |limit: &LimitResult| limit_words(limit).map(|(head, text)| format!("{head}{text}"));
        assert_eq!(
            words(&over).unwrap(),
            "Budget exceeded: main-heap.used grows 80 B per round, limit 0 B"
        );
        assert!(!is_of_checkpoint(&over));
        over.value = None;
        "it rose once".clone_into(&mut over.reason);
        assert_eq!(
            words(&over).unwrap(),
            "Budget not judged: growth of main-heap.used per round: it rose once"
        );
        let mut round = limit("own.anon", 0, Some(4096), 8);
        assert_eq!(words(&round), None);
        "max in round 317".clone_into(&mut round.rule);
        assert_eq!(
            words(&round).unwrap(),
            "Budget exceeded: own.anon is 4 KiB in round 317, limit 0 B"
        );
    }

    #[test]
    fn amounts_and_charts() {
        let bytes = |milli| amount(&metric("own.anon"), milli);
        assert_eq!(
            (bytes(80_000), bytes(2500), bytes(4_096_400)),
            ("80 B".to_owned(), "2.5 B".to_owned(), "4 KiB".to_owned())
        );
        assert_eq!(amount(&metric("threads.count"), 500), "0.5");
        assert_eq!(chart(&[Some(1), None, Some(8)], 16), "▁ █");
        assert_eq!(chart(&[Some(5); 4], 16), "▁▁▁▁");
        assert_eq!(chart(&[], 16), "");
    }
}
