//! What a metric costs for each unit of a matrix, for people: sentences, a table and a small chart.

use std::io::{self, Write};

use super::Style;
use super::series::{amount, chart};
use super::text::{Ink, clean, labelled, paint};
use crate::model::{CaseReport, Metric, Scaling};

/// Columns of a chart.
const CHART: usize = 16;
/// Metrics side by side in a table of 80 columns.
const SIDE_BY_SIDE: usize = 3;

/// True when a limit on a cost per unit is broken.
pub(super) fn is_broken(case: &CaseReport) -> bool {
    !case.scaling.is_empty() && super::series::is_broken(case)
}

/// The sentences of each checkpoint; the tables too with `tables`. Without `-v` what has a limit, or nothing has one: what is
/// not the same in all runs.
///
/// # Errors
/// Those of the writer.
pub(super) fn scaling(case: &CaseReport, tables: bool, style: Style, out: &mut dyn Write) -> io::Result<()> {
    let mut names: Vec<&str> = case.scaling.iter().map(|one| one.checkpoint.as_str()).collect();
    names.dedup();
    for name in names {
        let all: Vec<&Scaling> = case.scaling.iter().filter(|one| one.checkpoint == name).collect();
        let limited = |one: &Scaling| {
            let checkpoint = case.checkpoints.iter().find(|checkpoint| checkpoint.name == name);
            let mut limits = checkpoint.into_iter().flat_map(|checkpoint| &checkpoint.limits);
            limits.any(|limit| limit.is_rate() && limit.metric == one.metric)
        };
        let moves = |one: &Scaling| {
            one.points
                .iter()
                .any(|(_, value)| Some(value) != one.points.first().map(|(_, first)| first))
        };
        let any_limited = all.iter().any(|one| limited(one));
        let shown = all.into_iter().filter(|one| {
            style.verbose > 0
                || if any_limited {
                    limited(one) || one.knee.is_some()
                } else {
                    moves(one)
                }
        });
        let shown: Vec<&Scaling> = shown.collect();
        let Some(first) = shown.first() else { continue };
        let numbers: Vec<String> = first.points.iter().map(|(number, _)| number.to_string()).collect();
        labelled(
            style,
            name,
            12,
            &format!("{} {}", numbers.join(", "), plural(&first.unit)),
            out,
        )?;
        for one in &shown {
            sentence(one, style, out)?;
        }
        if tables {
            for side in shown.chunks(SIDE_BY_SIDE) {
                writeln!(out)?;
                rows(side, style, out)?;
            }
        }
    }
    Ok(())
}

fn plural(unit: &str) -> String {
    if unit.ends_with('s') {
        unit.to_owned()
    } else {
        format!("{unit}s")
    }
}

fn sentence(one: &Scaling, style: Style, out: &mut dyn Write) -> io::Result<()> {
    let values: Vec<Option<u64>> = one.points.iter().map(|(_, value)| Some(*value)).collect();
    writeln!(
        out,
        "    {:<22} {:<30} {}",
        clean(one.metric.name()),
        paint(style, Ink::Plain, &costs(&one.metric, one.line.slope_milli, &one.unit)),
        chart(&values, CHART)
    )?;
    let Some(knee) = &one.knee else { return Ok(()) };
    let mut text = format!(
        "up to {} {}, then {}",
        knee.at,
        plural(&one.unit),
        costs(&one.metric, knee.after.slope_milli, &one.unit)
    );
    if !knee.evidence.is_empty() {
        text += &format!(" ({})", knee.evidence);
    }
    labelled(style, "", 27, &text, out)
}

/// `+8196 KiB for each thread`
fn costs(metric: &Metric, milli: i64, unit: &str) -> String {
    match milli {
        0 => "the same for any number".to_owned(),
        more if more > 0 => format!("+{} for each {unit}", amount(metric, more)),
        less => format!("-{} for each {unit}", amount(metric, less)),
    }
}

fn rows(side: &[&Scaling], style: Style, out: &mut dyn Write) -> io::Result<()> {
    let Some(first) = side.first() else { return Ok(()) };
    let heads: Vec<String> = side.iter().map(|one| format!("{:>22}", clean(one.metric.name()))).collect();
    let head = format!("    {:>9}{}", clean(&plural(&first.unit)), heads.concat());
    writeln!(out, "{}", paint(style, Ink::Strong, &head))?;
    for (index, (number, _)) in first.points.iter().enumerate() {
        let cells = side.iter().map(|one| {
            let value = one
                .points
                .get(index)
                .map_or_else(String::new, |(_, value)| one.metric.show(*value));
            format!("{value:>22}")
        });
        writeln!(out, "    {number:>9}{}", cells.collect::<String>())?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::fixtures::{case, print};
    use super::*;
    use crate::model::{Knee, Line};

    #[test]
    fn a_knee_is_said_in_words() {
        let mut case = case("arenas.32");
        let line = |slope_milli, constant_milli| Line {
            slope_milli,
            constant_milli,
        };
        case.scaling = vec![
            Scaling {
                checkpoint: "start".to_owned(),
                metric: Metric::parse("thread-arena.count").unwrap(),
                unit: "thread".to_owned(),
                points: vec![(1, 1), (2, 2), (4, 4), (16, 15), (32, 15)],
                line: line(1000, 0),
                knee: Some(Knee {
                    at: 15,
                    after: line(0, 15_000),
                    evidence: "15 + main = 8 × 2 processors, glibc's limit".to_owned(),
                }),
            },
            Scaling {
                checkpoint: "start".to_owned(),
                metric: Metric::parse("own.anon").unwrap(),
                unit: "thread".to_owned(),
                points: vec![(1, 4096), (2, 8192), (4, 16_384), (16, 65_536), (32, 131_072)],
                line: line(4_096_000, 0),
                knee: None,
            },
        ];
        let text = print(|out| scaling(&case, true, Style::default(), out));
        assert_eq!(
            text,
            "  start     1, 2, 4, 16, 32 threads\n    \
             thread-arena.count     +1 for each thread             ▁▁▂██\n                           \
             up to 15 threads, then the same for any number (15 +\n                           \
             main = 8 × 2 processors, glibc's limit)\n    \
             own.anon               +4 KiB for each thread         ▁▁▁▄█\n\n      \
             threads    thread-arena.count              own.anon\n            \
             1                     1                 4 KiB\n            \
             2                     2                 8 KiB\n            \
             4                     4                16 KiB\n           \
             16                    15                64 KiB\n           \
             32                    15               128 KiB\n"
        );
        assert!(text.lines().all(|line| line.chars().count() <= 80), "{text}");
    }
}
