//! `cargo memcheck budget`: every effective limit beside its value, the room left, and where it is written; and what an edit of
//! `memcheck.toml` changes.

use std::collections::BTreeSet;
use std::io::{self, Write};

use serde_json::{Value, json};

use super::text::{clean, plural};
use super::{Style, exit, json as lines, progress};
use crate::model::{
    ElfResult, EmptyProgram, LimitResult, Metric, Outcome, RoleMeasure, Room, RunReport, SnapshotStatus, Subject, Verdict,
};

/// The table, then the limits with much room; `tightening` they are about to be lowered. What an empty program takes of a limit on own memory has rows of its own.
///
/// # Errors
/// Those of the writer.
pub fn limits(
    report: &RunReport,
    rooms: &[Room],
    empties: &[EmptyProgram],
    tightening: bool,
    style: Style,
    out: &mut dyn Write,
) -> io::Result<()> {
    let heads = ["CASE", "CHECKPOINT", "METRIC", "RULE", "LIMIT", "NOW", "ROOM", "WRITTEN AT"];
    let mut rows = vec![heads.map(str::to_owned).to_vec()];
    for (case, checkpoint, limit) in all(report) {
        let show = |value: Option<u64>| value.map_or("?".to_owned(), |value| limit.metric.show(value));
        rows.push(vec![
            case.to_owned(),
            checkpoint.to_owned(),
            limit.metric.to_string(),
            limit.rule.clone(),
            show(limit.limit),
            show(limit.value),
            room_text(limit),
            limit.origin.to_string(),
        ]);
    }
    rows.extend(headers(report).map(|(case, result)| header_row(case, result)));
    if rows.len() == 1 {
        return progress::note(
            style,
            "no limit is written: add for example budget.own.anon = \"16 MiB\" to a case",
            out,
        );
    }
    let count = plural(rows.len() - 1, "limit");
    rows.extend(empties.iter().flat_map(|empty| empty_rows(report, empty)));
    progress::listing(style, &rows, out)?;
    for case in report
        .cases
        .iter()
        .filter(|case| super::outcome(report, case) == Outcome::Problem)
    {
        let text = format!(
            "case {} could not be judged: its limits are missing here; run it to see why",
            case.name
        );
        progress::warning(style, &text, out)?;
    }
    let slack: Vec<&Room> = rooms.iter().filter(|room| room.is_slack()).collect();
    for room in &slack {
        progress::note(style, &slack_text(room), out)?;
    }
    if !slack.is_empty() && !tightening {
        progress::note(style, "to lower them all: cargo memcheck budget --tighten", out)?;
    }
    let broken = all(report).filter(|(_, _, limit)| limit.verdict.is_broken()).count()
        + headers(report).filter(|(_, result)| result.verdict.is_broken()).count();
    match broken {
        0 => writeln!(out, "{count}: all kept"),
        broken => writeln!(out, "{count}: {broken} broken"),
    }
}

/// The same for machines: one object.
///
/// # Errors
/// Those of the writer.
pub fn limits_json(report: &RunReport, rooms: &[Room], empties: &[EmptyProgram], out: &mut dyn Write) -> io::Result<()> {
    let limits: Vec<Value> = all(report)
        .map(|(case, checkpoint, limit)| json!({ "case": case, "checkpoint": checkpoint, "limit": limit }))
        .collect();
    let slack: Vec<Value> = rooms
        .iter()
        .filter(|room| room.is_slack())
        .map(|room| {
            json!({
                "metric": room.metric,
                "limit": room.limit,
                "highest": room.highest,
                "case": room.at.0,
                "checkpoint": room.at.1,
                "origin": room.origin,
            })
        })
        .collect();
    let value = json!({
        "reason": "budget",
        "schema": lines::SCHEMA,
        "limits": limits,
        "elf": headers(report).map(|(case, result)| json!({ "case": case, "result": result })).collect::<Vec<_>>(),
        "slack": slack,
        "empty_programs": empties.iter().map(|empty| {
            let at = empty.at.iter().map(|(at, cost)| {
                (at.clone(), json!({ "reserved": cost.reserved, "resident": cost.resident, "anon": cost.anon }))
            });
            json!({
                "language": empty.language,
                "toolchain": empty.toolchain,
                "own": at.collect::<serde_json::Map<String, Value>>(),
            })
        }).collect::<Vec<_>>(),
        "exit_code": limits_exit_code(report),
    });
    lines::line(&value, out)
}

/// The exit code of `budget`: snapshots count for nothing here.
#[must_use]
pub fn limits_exit_code(report: &RunReport) -> u8 {
    let mut limits = report.clone();
    for case in &mut limits.cases {
        case.snapshot.status = SnapshotStatus::Off;
    }
    exit::code(&limits)
}

/// Lines that an edit changes: the old one, then the new one.
#[must_use]
pub fn line_diff(file: &str, before: &str, now: &str) -> String {
    let mut text = format!("--- {file}\n+++ {file}\n");
    for (number, (old, new)) in before.lines().zip(now.lines()).enumerate() {
        if old != new {
            text.push_str(&format!("@@ -{0} +{0} @@\n-{old}\n+{new}\n", number + 1));
        }
    }
    text
}

fn all(report: &RunReport) -> impl Iterator<Item = (&str, &str, &LimitResult)> {
    let checkpoints = report.cases.iter().flat_map(|case| {
        case.checkpoints
            .iter()
            .map(move |checkpoint| (case.name.as_str(), checkpoint))
    });
    checkpoints.flat_map(|(case, checkpoint)| {
        let name = checkpoint.name.as_str();
        checkpoint.limits.iter().map(move |limit| (case, name, limit))
    })
}

/// The hardening policy: of a whole case.
fn headers(report: &RunReport) -> impl Iterator<Item = (&str, &ElfResult)> {
    let cases = report.cases.iter();
    cases.flat_map(|case| case.elf.iter().map(move |result| (case.name.as_str(), result)))
}

fn header_row(case: &str, result: &ElfResult) -> Vec<String> {
    let room = match result.verdict {
        Verdict::Within => "-",
        Verdict::Waived => "waived",
        Verdict::Over | Verdict::Unknown => "NOT MET",
    };
    let (rule, found) = (
        if result.rule == "elf.wx" { "max" } else { "must be" },
        if result.found.is_empty() { "?" } else { &result.found },
    );
    [
        case,
        "-",
        &format!("{} of {}", result.rule, result.file()),
        rule,
        &result.wanted,
        found,
        room,
        &result.origin.to_string(),
    ]
    .map(str::to_owned)
    .to_vec()
}

/// What an empty program has of each metric of own memory that a limit speaks of.
fn empty_rows(report: &RunReport, empty: &EmptyProgram) -> Vec<Vec<String>> {
    let limited: BTreeSet<&Metric> = all(report).map(|(_, _, limit)| &limit.metric).collect();
    let cost = empty.cost_at("exit");
    let rows = limited.into_iter().filter_map(|metric| {
        let value = match metric.subject() {
            Subject::Own(RoleMeasure::Reserved) => cost?.reserved,
            Subject::Own(RoleMeasure::Resident) => cost?.resident?,
            Subject::Own(RoleMeasure::Anon) => cost?.anon?,
            _ => return None,
        };
        let cells: [&str; 8] = [
            &format!("(empty {} program)", empty.language),
            "exit",
            metric.name(),
            "-",
            "-",
            &metric.show(value),
            "-",
            if empty.toolchain.is_empty() {
                "-"
            } else {
                empty.toolchain.as_str()
            },
        ];
        Some(cells.map(str::to_owned).to_vec())
    });
    rows.collect()
}

/// What is left, or by how much it is broken.
fn room_text(limit: &LimitResult) -> String {
    let (Some(value), Some(bound)) = (limit.value, limit.limit) else {
        return "?".to_owned();
    };
    let room = limit.metric.show(value.abs_diff(bound));
    match limit.verdict {
        Verdict::Within => room,
        Verdict::Waived => format!("{room} over, waived"),
        Verdict::Over if limit.is_under() => format!("{room} short"),
        Verdict::Over | Verdict::Unknown => format!("{room} OVER"),
    }
}

fn slack_text(room: &Room) -> String {
    let show = |value: u64| room.metric.show(value);
    clean(&format!(
        "{} at {} allows {}, and {} is the most it gates ({} @ {})",
        room.metric,
        room.origin,
        show(room.limit),
        show(room.highest),
        room.at.0,
        room.at.1
    ))
}

#[cfg(test)]
mod tests {
    use super::super::fixtures::{case, hardened, limit, print, run, snapshot, unjoined};
    use super::*;
    use crate::budget::room;
    use crate::model::EmptyCost;

    #[test]
    fn the_table_says_what_is_left_and_where_it_is_written() {
        let mut case = case("server");
        case.checkpoints[0].limits = vec![
            limit("main-heap.anon", 64 << 10, Some(4 << 10), 8),
            limit("own.anon", 256 << 10, Some(4 << 10), 9),
            limit("threads.count", 0, Some(1), 10),
        ];
        let rooms = room(std::slice::from_ref(&case));
        let text = print(|out| limits(&run(vec![case]), &rooms, &[], false, Style::default(), out));
        assert_eq!(
            text,
            "CASE    CHECKPOINT  METRIC          RULE  LIMIT    NOW    ROOM     WRITTEN AT\n\
             server  start       main-heap.anon  max   64 KiB   4 KiB  60 KiB   memcheck.toml:8\n\
             server  start       own.anon        max   256 KiB  4 KiB  252 KiB  memcheck.toml:9\n\
             server  start       threads.count   max   0        1      1 OVER   memcheck.toml:10\n\
             note: own.anon at memcheck.toml:9 allows 256 KiB, and 4 KiB is the most it gates\n      (server @ start)\n\
             note: to lower them all: cargo memcheck budget --tighten\n\
             3 limits: 1 broken\n"
        );
    }

    fn empty() -> EmptyProgram {
        let cost = EmptyCost {
            reserved: 163_840,
            resident: None,
            anon: Some(32_768),
        };
        EmptyProgram {
            language: "C".to_owned(),
            toolchain: "gcc 12.2.0".to_owned(),
            at: std::collections::BTreeMap::from([("exit".to_owned(), cost)]),
        }
    }

    #[test]
    fn what_headers_must_say_has_its_rows() {
        let mut report = hardened();
        report.cases[0].checkpoints[0].limits = vec![limit("own.anon", 64 << 10, Some(36 << 10), 9)];
        let text = print(|out| limits(&report, &[], &[empty()], false, Style::default(), out));
        let rows: Vec<String> = text
            .lines()
            .map(|line| line.split_whitespace().collect::<Vec<_>>().join(" "))
            .collect();
        for row in [
            "server - elf.relro of server must be full none NOT MET memcheck.toml:4",
            "server - elf.canary of server must be yes ? NOT MET memcheck.toml:4",
            "server - elf.wx of server max 0 0 - memcheck.toml:4",
            "(empty C program) exit own.anon - - 32 KiB - gcc 12.2.0",
        ] {
            assert!(rows.iter().any(|line| line == row), "{row}: {text}");
        }
        assert!(text.ends_with("limits: 2 broken\n"), "{text}");
        let json: Value = serde_json::from_str(&print(|out| limits_json(&report, &[], &[empty()], out))).unwrap();
        assert_eq!(json["elf"][0]["result"]["rule"], "elf.relro");
    }

    #[test]
    fn only_limits_count() {
        assert_eq!(limits_exit_code(&unjoined()), exit::BUDGET);
        assert_eq!(
            limits_exit_code(&run(vec![snapshot(case("a"), SnapshotStatus::Differs)])),
            exit::OK
        );
        let json = print(|out| limits_json(&unjoined(), &[], &[], out));
        let value: Value = serde_json::from_str(&json).unwrap();
        assert_eq!(
            (&value["limits"][0]["limit"]["verdict"], &value["exit_code"]),
            (&"over".into(), &3.into())
        );
    }

    #[test]
    fn changed_lines_are_shown_in_pairs() {
        assert_eq!(
            line_diff("m", "a\nb\nc\n", "a\nB\nc\n"),
            "--- m\n+++ m\n@@ -2 +2 @@\n-b\n+B\n"
        );
    }
}
