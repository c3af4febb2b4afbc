//! Markdown for a job's summary and for a comment: the verdict first, at most ten rows, the rest folded, and never more than
//! the page takes: what is cut is said, and where it is.

use std::collections::BTreeSet;

use super::finding::broken;
use super::markup::{block, code};
use super::text::plural;
use super::{Style, hardening, human, json, render, revision, series, summary};
use crate::model::{ByteSize, CaseReport, Change, CheckpointReport, Job, Metric, Outcome, RunReport, SnapshotStatus, Unit};

/// Rows of the table before the rest is only counted.
const ROWS: usize = 10;
/// Lines of one folded block.
const BLOCK_LINES: usize = 400;
/// Room for what is said about a cut.
const RESERVE: usize = 400;

/// Where the text goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Size {
    /// A job summary: GitHub takes 1 MiB of a step.
    Summary,
    /// A comment: GitHub takes 65,536 characters.
    Comment,
}

impl Size {
    const fn bytes(self) -> usize {
        match self {
            Self::Summary => 1000 << 10,
            Self::Comment => 63 << 10,
        }
    }
}

/// The text of a summary or comment.
#[must_use]
pub(super) fn markdown(report: &RunReport, prefix: &str, size: Size) -> String {
    let mut out = head(report);
    let (rows, left) = rows(report);
    out.push_str(&table(&rows, left));
    let mut sections = vec![revision::markdown(report), home(report, prefix)];
    sections.extend(failed(report).map(|case| details(report, case)));
    sections.push(patch(report));
    sections.push(environment(report));
    let mut cut = 0;
    for section in sections.iter().filter(|section| !section.is_empty()) {
        if out.len() + section.len() + RESERVE <= size.bytes() {
            out.push_str(section);
        } else {
            cut += 1;
        }
    }
    if cut > 0 {
        out.push_str(&format!(
            "\n**Cut:** {} did not fit here. Everything is in the results file of the run (`target/memcheck-data/results.json`): \
             `cargo memcheck report results.json`.\n",
            plural(cut, "section")
        ));
    }
    out
}

fn head(report: &RunReport) -> String {
    let tally = summary::tally(report);
    let code_ = super::exit_code(report);
    let verdict = match (tally.failed, code_) {
        (0, super::exit::OK) if tally.warnings > 0 => format!("passed with {}", plural(tally.warnings, "warning")),
        (0, super::exit::OK) => "passed".to_owned(),
        (0, other) => format!("failed ({})", super::exit::word(other)),
        (failed, _) => format!("{} failed", plural(failed, "case")),
    };
    format!("## cargo memcheck: {verdict}\n\n{}\n\n", code(&summary::last_line(report)))
}

/// One line of the table, its cells ready.
struct Row([String; 6]);

/// Broken limits first, then the changes of failed cases, each as the report ranks them.
fn rows(report: &RunReport) -> (Vec<Row>, usize) {
    let mut rows = Vec::new();
    for case in failed(report) {
        for (limit, places) in broken(case) {
            let change = places.first().and_then(|place| change_of(case, place, limit.metric.name()));
            let show = |value: Option<u64>| value.map_or("-".to_owned(), |value| limit.metric.show(value));
            rows.push(Row([
                code(&format!("{} @ {}", case.name, places.join(", "))),
                match series::is_of_checkpoint(limit) {
                    true => code(limit.metric.name()),
                    false => format!("{} ({})", code(limit.metric.name()), limit.rule.replace('_', " ")),
                },
                show(change.and_then(|change| change.before)),
                show(limit.value),
                change.map_or("-".to_owned(), |change| difference(change, limit.metric.unit())),
                format!("**{}**", show(limit.limit)),
            ]));
        }
    }
    for (case, result) in failed(report).flat_map(|case| hardening::broken(case).map(move |result| (case, result))) {
        let cell = |text: &str| if text.is_empty() { "-".to_owned() } else { code(text) };
        rows.push(Row([
            code(&case.name),
            code(&format!("{} of {}", result.rule, result.file())),
            "-".to_owned(),
            cell(&result.found),
            "-".to_owned(),
            format!("**{}**", cell(&result.wanted)),
        ]));
    }
    for case in failed(report) {
        let mut seen = BTreeSet::new();
        for (checkpoint, change) in changes(case) {
            let name = metric_name(change);
            let has_row = checkpoint
                .limits
                .iter()
                .any(|limit| limit.metric.name() == name && limit.verdict.is_broken());
            if has_row || !seen.insert((name.clone(), change.before, change.now)) {
                continue;
            }
            let unit = Metric::parse(&name).map_or(Unit::Count, |metric| metric.unit());
            let show = |value: Option<u64>| value.map_or("-".to_owned(), |value| amount(unit, value));
            rows.push(Row([
                code(&format!("{} @ {}", case.name, checkpoint.name)),
                code(&name),
                show(change.before),
                show(change.now),
                difference(change, unit),
                "-".to_owned(),
            ]));
        }
    }
    let left = rows.len().saturating_sub(ROWS);
    rows.truncate(ROWS);
    (rows, left)
}

fn failed(report: &RunReport) -> impl Iterator<Item = &CaseReport> {
    report
        .cases
        .iter()
        .filter(|case| super::outcome(report, case) != Outcome::Pass)
}

fn changes(case: &CaseReport) -> impl Iterator<Item = (&CheckpointReport, &Change)> {
    case.checkpoints
        .iter()
        .flat_map(|checkpoint| checkpoint.changes.iter().map(move |change| (checkpoint, change)))
}

fn metric_name(change: &Change) -> String {
    if change.column.is_empty() || Metric::parse(&change.row).is_ok() {
        return change.row.clone();
    }
    format!("{}.{}", change.row, change.column)
}

fn change_of<'a>(case: &'a CaseReport, checkpoint: &str, metric: &str) -> Option<&'a Change> {
    changes(case)
        .find(|(at, change)| at.name == checkpoint && metric_name(change) == metric)
        .map(|(_, change)| change)
}

fn amount(unit: Unit, value: u64) -> String {
    match unit {
        Unit::Count => value.to_string(),
        Unit::Bytes => ByteSize(value).to_string(),
    }
}

fn difference(change: &Change, unit: Unit) -> String {
    let (before, now) = (change.before.unwrap_or(0), change.now.unwrap_or(0));
    let sign = if now < before { '-' } else { '+' };
    format!("{sign}{}", amount(unit, now.abs_diff(before)))
}

fn table(rows: &[Row], left: usize) -> String {
    if rows.is_empty() {
        return String::new();
    }
    let mut out = String::from("| case @ checkpoint | metric | approved | now | change | limit |\n|---|---|--:|--:|--:|--:|\n");
    for Row(cells) in rows {
        out.push_str(&format!("| {} |\n", cells.join(" | ")));
    }
    if left > 0 {
        out.push_str(&format!("\n{} below.\n", plural(left, "more row")));
    }
    out.push('\n');
    out
}

/// What to type at home.
fn home(report: &RunReport, prefix: &str) -> String {
    let pending = report.cases.iter().filter(|case| !case.snapshot.patch.is_empty()).count();
    if pending == 0 {
        return String::new();
    }
    let mut commands = String::new();
    if !prefix.is_empty() {
        commands.push_str(&format!("cd {prefix}\n"));
    }
    match report.job.as_ref().filter(|job| job.is_sound()) {
        Some(job) => {
            let Job {
                run,
                repository,
                artifact,
            } = job;
            let place = format!("target/memcheck-{run}");
            commands.push_str(&format!(
                "gh run download {run} --repo {repository} --name {artifact} --dir {place}\n\
                 cargo memcheck accept --from {place}      # shows what each means, then approves\n\
                 git apply {place}/snapshots.patch         # the same, where no Linux is at hand\n"
            ));
        }
        None => {
            commands
                .push_str("cargo memcheck accept                                          # on a machine like this one, or:\n");
            commands.push_str("cargo memcheck report results.json --format patch | git apply   # with this job's results file\n");
        }
    }
    format!(
        "### If the change is meant\n\n{} to approve; a budget is raised in `memcheck.toml` first.\n\n{}\n",
        plural(pending, "snapshot"),
        block("sh", &commands, 10)
    )
}

/// The message of one case, folded.
fn details(report: &RunReport, case: &CaseReport) -> String {
    let style = Style {
        color: false,
        width: 100,
        verbose: 0,
    };
    let mut text = Vec::new();
    // Writing to memory does not fail.
    let _ = human::case(report, case, style, &mut text);
    if super::outcome(report, case) == Outcome::Warning && !case.snapshot.diff.is_empty() {
        text.extend_from_slice(case.snapshot.diff.as_bytes());
    }
    folded(
        &format!("{}: {}", code(&case.name), words(report, case)),
        &block("text", &String::from_utf8_lossy(&text), BLOCK_LINES),
    )
}

fn words(report: &RunReport, case: &CaseReport) -> String {
    let snapshot = match case.snapshot.status {
        SnapshotStatus::Differs => format!(", snapshot differs ({})", plural(case.snapshot.rows, "row")),
        SnapshotStatus::Unsteady => format!(", snapshot unsteady over {} runs", case.snapshot.runs),
        SnapshotStatus::New => ", no approved snapshot".to_owned(),
        SnapshotStatus::Same | SnapshotStatus::Off | SnapshotStatus::NotCompared => String::new(),
    };
    format!("{}{snapshot}", json::outcome(super::outcome(report, case)))
}

fn folded(summary: &str, body: &str) -> String {
    format!("<details><summary>{summary}</summary>\n\n{body}\n</details>\n\n")
}

fn patch(report: &RunReport) -> String {
    let text = render::patch(report);
    if text.is_empty() {
        return String::new();
    }
    folded(
        "<code>snapshots&#46;patch</code>, for <code>git apply</code>",
        &block("diff", &text, usize::MAX),
    )
}

fn environment(report: &RunReport) -> String {
    let status = &report.environment_status;
    let facts: Vec<String> = report
        .environment
        .facts
        .iter()
        .map(|(name, value)| format!("{name:<16}{value}"))
        .collect();
    let of_record = match (&status.recorded, status.differences.as_slice()) {
        (None, _) => "no environment of record is approved yet".to_owned(),
        (Some(_), []) => "the environment of record".to_owned(),
        (Some(_), some) => format!("not the environment of record: {} differ", plural(some.len(), "fact")),
    };
    let differences = status
        .differences
        .iter()
        .map(|(name, recorded, here)| format!("{name}: {recorded} → {here}"));
    let text: Vec<String> = facts.into_iter().chain(differences).collect();
    if text.is_empty() {
        return String::new();
    }
    folded(
        &format!("Environment: {of_record}"),
        &block("text", &text.join("\n"), BLOCK_LINES),
    )
}

#[cfg(test)]
mod tests {
    use super::super::fixtures::{broken as breaking, case, run, unjoined};
    use super::*;

    #[test]
    fn the_verdict_comes_first_and_details_are_folded() {
        let text = markdown(&unjoined(), "", Size::Summary);
        assert!(
            text.starts_with("## cargo memcheck: 1 case failed\n\n<code>measured 2 checkpoints in 1 case"),
            "{text}"
        );
        let row = "| <code>threads-unjoined &#64; spawned</code> | <code>thread-stack&#46;exited&#46;count</code> | 1 | 2 | +1 | **1** |";
        assert!(text.contains(row), "{text}");
        assert_eq!(text.matches("<details>").count(), text.matches("</details>").count());
        assert!(text.contains("not joined"));
        let passed = markdown(&run(vec![case("a")]), "", Size::Comment);
        assert!(
            passed.starts_with("## cargo memcheck: passed\n") && !passed.contains("| case"),
            "{passed}"
        );
        assert!(markdown(&run(vec![]), "", Size::Comment).starts_with("## cargo memcheck: failed (nothing)\n"));
    }

    #[test]
    fn a_job_names_the_commands_that_fetch_its_artifact() {
        let mut report = unjoined();
        report.cases[0].snapshot.patch = "x".to_owned();
        assert!(markdown(&report, "", Size::Summary).contains("cargo memcheck report results.json --format patch | git apply"));
        report.job = Job::new("77", "o/n", "memcheck");
        let text = markdown(&report, "sub", Size::Summary);
        assert!(
            text.contains("cd sub\ngh run download 77 --repo o/n --name memcheck --dir target/memcheck-77\n"),
            "{text}"
        );
        assert!(text.contains("cargo memcheck accept --from target/memcheck-77 "), "{text}");
        // A stranger's results name no command of theirs.
        report.job.as_mut().unwrap().artifact = "x; rm -rf ~".to_owned();
        assert!(!markdown(&report, "", Size::Summary).contains("rm -rf"));
    }

    #[test]
    fn a_page_that_is_too_long_says_what_is_cut_and_where_it_is() {
        let mut report = run((0..300).map(|i| breaking(case(&format!("c{i}")))).collect());
        for case in &mut report.cases {
            case.snapshot.patch = "+x\n".repeat(600);
        }
        for (size, most) in [(Size::Summary, 1 << 20), (Size::Comment, 65_536)] {
            let text = markdown(&report, "", size);
            assert!(text.len() < most, "{}", text.len());
            assert!(text.contains("290 more rows below"));
            assert!(text.contains("**Cut:**") == (size == Size::Comment), "{}", text.len());
            assert_eq!(text.matches("<details>").count(), text.matches("</details>").count());
        }
    }
}
