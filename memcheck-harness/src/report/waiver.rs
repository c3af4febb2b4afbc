//! What became of waivers, in words: printed on every run, needed or not.

use std::io::{self, Write};

use super::Style;
use super::progress;
use super::text::plural;
use crate::model::{CaseReport, RunReport, WaiverResult, WaiverStatus};

/// One line for each waiver of the run: a note where it is used, an error where it fails the run, else a warning.
///
/// # Errors
/// Those of the writer.
pub fn waivers(report: &RunReport, style: Style, out: &mut dyn Write) -> io::Result<()> {
    for result in &report.waivers {
        let mut text = waiver_text(result);
        let is_its_case = |case: &CaseReport| case.name == result.waiver.case;
        if matches!(result.status, WaiverStatus::Unused) && !report.cases.iter().any(is_its_case) {
            text.push_str("; no case of this run is called so: misspelt?");
        }
        match result.status {
            WaiverStatus::Used => progress::note(style, &text, out)?,
            WaiverStatus::Expired => progress::failure(style, &text, out)?,
            _ => progress::warning(style, &text, out)?,
        }
    }
    Ok(())
}

/// One waiver as a line, with its reason and its place.
#[must_use]
pub fn waiver_text(result: &WaiverResult) -> String {
    let waiver = &result.waiver;
    let show = |value: u64| waiver.metric.show(value);
    let at = waiver.checkpoint.as_ref().map_or(String::new(), |name| format!(" @ {name}"));
    let of = waiver
        .object
        .as_ref()
        .map_or(String::new(), |pattern| format!(" of {pattern}"));
    let what = format!("{}{at}: {}{of}", waiver.case, waiver.metric);
    let values = match result.uses.iter().max_by_key(|limit| limit.value) {
        None => String::new(),
        Some(worst) => {
            let place = match (&waiver.checkpoint, result.uses.len()) {
                (_, 1) if waiver.checkpoint.as_ref() == Some(&worst.checkpoint) => String::new(),
                (_, 1) => format!(" at {}", worst.checkpoint),
                (_, many) => format!(" at {} ({} in all)", worst.checkpoint, plural(many, "broken limit")),
            };
            format!(" is {}{place}, limit {}", show(worst.value), show(worst.limit))
        }
    };
    let said = match result.status {
        WaiverStatus::Used => format!(
            "waived until {}: {what}{values}, ceiling {}",
            waiver.expires,
            show(waiver.ceiling)
        ),
        WaiverStatus::Exceeded => format!("waiver exceeded: {what}{values}, ceiling {}", show(waiver.ceiling)),
        WaiverStatus::Expired if values.is_empty() => format!(
            "waiver expired on {}: {what}; it is not needed any more, remove it",
            waiver.expires
        ),
        WaiverStatus::Expired => format!("waiver expired on {}: {what}{values}", waiver.expires),
        WaiverStatus::Unused => format!("waiver not needed: {what} keeps its limits, or has none; remove it"),
        WaiverStatus::NotJudged => format!("waiver not judged: {what}; its case could not be judged"),
    };
    let issue = waiver.issue.as_ref().map_or(String::new(), |issue| format!(", {issue}"));
    format!("{said} (reason: {}{issue}; {})", waiver.reason, waiver.place)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Date, ElfKey, Metric, Place, Waived, Waiver, WaiverUse};

    fn result(status: WaiverStatus, uses: &[(&str, u64)]) -> WaiverResult {
        WaiverResult {
            waiver: Waiver {
                case: "pool".to_owned(),
                checkpoint: None,
                metric: Metric::parse("own.anon").unwrap().into(),
                object: None,
                ceiling: 64 << 10,
                expires: Date::parse("2027-01-31").unwrap(),
                issue: Some("#42".to_owned()),
                reason: "a cache is being replaced".to_owned(),
                place: Place {
                    file: "memcheck.toml".to_owned(),
                    line: 9,
                    column: 1,
                },
            },
            status,
            uses: uses
                .iter()
                .map(|(checkpoint, value)| WaiverUse {
                    checkpoint: (*checkpoint).to_owned(),
                    rule: "max".to_owned(),
                    value: *value,
                    limit: 16 << 10,
                })
                .collect(),
        }
    }

    #[test]
    fn a_waiver_whose_case_is_not_in_the_run_may_be_misspelt() {
        let mut report = RunReport {
            waivers: vec![result(WaiverStatus::Unused, &[])],
            ..RunReport::default()
        };
        let said = |report: &RunReport| {
            let mut out = Vec::new();
            waivers(report, Style::default(), &mut out).unwrap();
            let text = String::from_utf8(out).unwrap();
            text.split_whitespace().collect::<Vec<_>>().join(" ")
        };
        assert!(
            said(&report).ends_with("no case of this run is called so: misspelt?"),
            "{}",
            said(&report)
        );
        report.waivers = vec![result(WaiverStatus::Expired, &[])];
        assert!(!said(&report).contains("misspelt"), "{}", said(&report));
    }

    #[test]
    fn each_status_has_its_sentence() {
        let end = " (reason: a cache is being replaced, #42; memcheck.toml:9)";
        let one: &[(&str, u64)] = &[("idle", 32 << 10)];
        let two: &[(&str, u64)] = &[("idle", 32 << 10), ("done", 48 << 10)];
        for (status, uses, text) in [
            (
                WaiverStatus::Used,
                one,
                "waived until 2027-01-31: pool: own.anon is 32 KiB at idle, limit 16 KiB, ceiling 64 KiB",
            ),
            (
                WaiverStatus::Used,
                two,
                "waived until 2027-01-31: pool: own.anon is 48 KiB at done (2 broken limits in all), limit 16 KiB, ceiling 64 KiB",
            ),
            (
                WaiverStatus::Expired,
                &[],
                "waiver expired on 2027-01-31: pool: own.anon; it is not needed any more, remove it",
            ),
            (
                WaiverStatus::Expired,
                one,
                "waiver expired on 2027-01-31: pool: own.anon is 32 KiB at idle, limit 16 KiB",
            ),
            (
                WaiverStatus::Unused,
                &[],
                "waiver not needed: pool: own.anon keeps its limits, or has none; remove it",
            ),
        ] {
            assert_eq!(waiver_text(&result(status, uses)), format!("{text}{end}"));
        }
        let mut header = result(WaiverStatus::Used, &[("server", 1)]);
        header.waiver.metric = Waived::Header(ElfKey::Relro);
        (header.waiver.ceiling, header.uses[0].limit) = (2, 0);
        assert_eq!(
            waiver_text(&header),
            format!("waived until 2027-01-31: pool: elf.relro is partial at server, limit full, ceiling none{end}")
        );
    }
}
