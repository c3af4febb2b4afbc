//! Waivers × limit results: which broken limits are waived, and what became of each waiver. Pure: the day is an argument.

use crate::model::{
    CaseReport, Date, ElfKey, ElfResult, LimitResult, Name, Verdict, Waived, Waiver, WaiverResult, WaiverStatus, WaiverUse,
};

/// Marks the limits of a checkpoint that a waiver covers on this day. Only values above a limit can be waived: nothing lifts a
/// `min` or a rate, and what is not known is within no ceiling. A limit of the command line is for whoever typed it to lift.
pub fn waive(waivers: &[Waiver], today: Date, case: &str, checkpoint: &str, limits: &mut [LimitResult]) {
    for limit in limits.iter_mut().filter(|limit| is_above(limit)) {
        let covers = |waiver: &&Waiver| {
            waiver.is_of(case, checkpoint, &limit.metric)
                && today <= waiver.expires
                && limit.value.is_some_and(|value| value <= waiver.ceiling)
        };
        if waivers.iter().any(|waiver| covers(&waiver)) {
            limit.verdict = Verdict::Waived;
        }
    }
}

/// Marks the broken demands on headers of a case that a waiver covers on this day; `fits` says what patterns of files mean. What
/// is not known is within no ceiling.
pub fn waive_headers(waivers: &[Waiver], today: Date, case: &str, results: &mut [ElfResult], fits: &dyn Fn(&str, &Name) -> bool) {
    for result in results.iter_mut() {
        let covers = |waiver: &&Waiver| {
            let weakness = weakness(waiver, case, result, fits);
            today <= waiver.expires && weakness.is_some_and(|weakness| weakness <= waiver.ceiling)
        };
        if result.verdict == Verdict::Over && result.origin.line > 0 && waivers.iter().any(|waiver| covers(&waiver)) {
            result.verdict = Verdict::Waived;
        }
    }
}

/// What a file is found to be, where the waiver speaks of it.
fn weakness(waiver: &Waiver, case: &str, result: &ElfResult, fits: &dyn Fn(&str, &Name) -> bool) -> Option<u64> {
    let Waived::Header(key) = waiver.metric else { return None };
    let is_of = waiver.case == case && result.rule == key.name();
    let is_of_file = waiver.object.as_ref().is_none_or(|pattern| fits(pattern, &result.object));
    (is_of && is_of_file).then(|| key.weakness(&result.found)).flatten()
}

/// What became of each waiver, in the order of the file. `cases` are judged, their limits went through [`waive`]; of a run that
/// is not `complete` waivers of other cases are left out.
#[must_use]
pub fn waivers<'a>(
    waivers: &[Waiver],
    today: Date,
    cases: impl Iterator<Item = &'a CaseReport> + Clone,
    complete: bool,
    fits: &dyn Fn(&str, &Name) -> bool,
) -> Vec<WaiverResult> {
    waivers
        .iter()
        .filter_map(|waiver| {
            let case = cases.clone().find(|case| case.name == waiver.case);
            if case.is_none() && !complete {
                return None;
            }
            let uses: Vec<WaiverUse> = case.map(|case| uses(waiver, case, fits)).unwrap_or_default();
            let status = if today > waiver.expires {
                WaiverStatus::Expired
            } else if uses.iter().any(|limit| limit.value > waiver.ceiling) {
                WaiverStatus::Exceeded
            } else if !uses.is_empty() {
                WaiverStatus::Used
            } else if case.is_some_and(|case| case.problem.is_some()) {
                WaiverStatus::NotJudged
            } else {
                WaiverStatus::Unused
            };
            Some(WaiverResult {
                waiver: waiver.clone(),
                status,
                uses,
            })
        })
        .collect()
}

fn uses(waiver: &Waiver, case: &CaseReport, fits: &dyn Fn(&str, &Name) -> bool) -> Vec<WaiverUse> {
    let headers = case.elf.iter().filter_map(|result| {
        let value = weakness(waiver, &case.name, result, fits)?;
        let limit = ElfKey::named(&result.rule)?.weakness(&result.wanted)?;
        matches!(result.verdict, Verdict::Waived | Verdict::Over).then(|| WaiverUse {
            checkpoint: result.file().to_string(),
            rule: format!("must be {}", result.wanted),
            value,
            limit,
        })
    });
    let limits = case
        .checkpoints
        .iter()
        .flat_map(|checkpoint| checkpoint.limits.iter().map(move |limit| (&checkpoint.name, limit)));
    limits
        .filter(|(checkpoint, limit)| waiver.is_of(&case.name, checkpoint, &limit.metric))
        .filter(|(_, limit)| limit.verdict == Verdict::Waived || is_above(limit))
        .filter_map(|(checkpoint, limit)| {
            Some(WaiverUse {
                checkpoint: checkpoint.clone(),
                rule: limit.rule.clone(),
                value: limit.value?,
                limit: limit.limit?,
            })
        })
        .chain(headers)
        .collect()
}

fn is_above(limit: &LimitResult) -> bool {
    // A ceiling is an amount, which says nothing of a rate.
    limit.verdict == Verdict::Over && !limit.is_under() && !limit.is_rate() && limit.origin.line > 0
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Metric, Place};
    use crate::report::fixtures;

    fn no_file(_: &str, _: &Name) -> bool {
        false
    }

    /// The case of the fixtures has no RELRO and may have none, full is demanded; whether it has a canary is not known.
    fn headers(key: ElfKey, ceiling: u64, object: Option<&str>) -> (Vec<Verdict>, WaiverStatus) {
        let mut case = fixtures::hardened().cases.remove(0);
        let waiver = Waiver {
            case: case.name.clone(),
            checkpoint: None,
            metric: Waived::Header(key),
            object: object.map(str::to_owned),
            ..waiver(ceiling)
        };
        let (all, day) = ([waiver], date("2026-01-01"));
        let fits = |pattern: &str, path: &Name| path.file_name().to_string() == pattern;
        let name = case.name.clone();
        waive_headers(&all, day, &name, &mut case.elf, &fits);
        let status = waivers(&all, day, std::iter::once(&case), true, &fits)[0].status;
        (case.elf.iter().map(|result| result.verdict).collect(), status)
    }

    #[test]
    fn headers_are_waived_down_to_a_weakness_and_by_file() {
        use Verdict::{Over, Unknown, Within};
        let broken = vec![Over, Unknown, Within];
        let waived = vec![Verdict::Waived, Unknown, Within];
        assert_eq!(headers(ElfKey::Relro, 2, None), (waived.clone(), WaiverStatus::Used));
        assert_eq!(headers(ElfKey::Relro, 2, Some("server")), (waived, WaiverStatus::Used));
        assert_eq!(headers(ElfKey::Relro, 1, None), (broken.clone(), WaiverStatus::Exceeded));
        assert_eq!(
            headers(ElfKey::Relro, 2, Some("other")),
            (broken.clone(), WaiverStatus::Unused)
        );
        assert_eq!(
            headers(ElfKey::Canary, 1, None),
            (broken.clone(), WaiverStatus::Unused),
            "not known"
        );
        assert_eq!(headers(ElfKey::Nx, 1, None), (broken, WaiverStatus::Unused));
    }

    fn date(text: &str) -> Date {
        Date::parse(text).unwrap()
    }

    fn waiver(ceiling: u64) -> Waiver {
        Waiver {
            case: "threads-unjoined".to_owned(),
            checkpoint: Some("spawned".to_owned()),
            metric: Metric::parse("thread-stack.exited.count").unwrap().into(),
            object: None,
            ceiling,
            expires: date("2027-01-31"),
            issue: None,
            reason: "the pool is being rewritten".to_owned(),
            place: Place::default(),
        }
    }

    /// The case of the fixtures has 2 of a limit of 1 at `spawned`.
    fn judged(waiver: Waiver, day: &str) -> (Verdict, WaiverStatus) {
        let mut case = fixtures::unjoined().cases.remove(0);
        let all = [waiver];
        for checkpoint in &mut case.checkpoints {
            waive(
                &all,
                date(day),
                "threads-unjoined",
                &checkpoint.name.clone(),
                &mut checkpoint.limits,
            );
        }
        let status = waivers(&all, date(day), std::iter::once(&case), true, &no_file)[0].status;
        (case.checkpoints[1].limits[0].verdict, status)
    }

    #[test]
    fn a_waiver_holds_up_to_its_ceiling_and_its_last_day() {
        use WaiverStatus::{Exceeded, Expired, Unused, Used};
        assert_eq!(judged(waiver(2), "2027-01-31"), (Verdict::Waived, Used));
        assert_eq!(judged(waiver(9), "2026-01-01"), (Verdict::Waived, Used));
        assert_eq!(judged(waiver(9), "2027-02-01"), (Verdict::Over, Expired));
        assert_eq!(judged(waiver(1), "2027-01-31"), (Verdict::Over, Exceeded));
        let mut elsewhere = waiver(2);
        elsewhere.checkpoint = Some("start".to_owned());
        assert_eq!(judged(elsewhere.clone(), "2027-01-31"), (Verdict::Over, Unused));
        assert_eq!(
            judged(elsewhere, "2027-02-01"),
            (Verdict::Over, Expired),
            "though it is not needed"
        );
        let mut everywhere = waiver(2);
        everywhere.checkpoint = None;
        assert_eq!(judged(everywhere, "2027-01-31").0, Verdict::Waived);
        let mut other = waiver(2);
        other.metric = Metric::parse("thread-stack.live.count").unwrap().into();
        assert_eq!(judged(other, "2027-01-31").0, Verdict::Over);
    }

    #[test]
    fn a_value_that_is_too_small_or_unknown_is_never_waived() {
        let mut limits = vec![
            fixtures::limit("thread-stack.exited.count", 3, Some(2), 1),
            fixtures::limit("thread-stack.exited.count", 3, None, 1),
        ];
        limits[0].verdict = Verdict::Over;
        waive(&[waiver(9)], date("2026-01-01"), "threads-unjoined", "spawned", &mut limits);
        assert_eq!(limits[0].verdict, Verdict::Over);
        assert_eq!(limits[1].verdict, Verdict::Unknown);
    }

    #[test]
    fn a_limit_of_the_command_line_is_not_waived() {
        let mut limits = vec![fixtures::limit("thread-stack.exited.count", 1, Some(2), 0)];
        limits[0].verdict = Verdict::Over;
        waive(&[waiver(9)], date("2026-01-01"), "threads-unjoined", "spawned", &mut limits);
        assert_eq!(limits[0].verdict, Verdict::Over);
        limits[0].origin.line = 7;
        waive(&[waiver(9)], date("2026-01-01"), "threads-unjoined", "spawned", &mut limits);
        assert_eq!(limits[0].verdict, Verdict::Waived);
    }

    #[test]
    fn waivers_of_cases_that_were_not_selected_are_left_out() {
        let mut other = waiver(2);
        "other".clone_into(&mut other.case);
        let run = fixtures::unjoined();
        let day = date("2099-01-01");
        assert!(waivers(std::slice::from_ref(&other), day, run.cases.iter(), false, &no_file).is_empty());
        assert_eq!(
            waivers(&[other], day, run.cases.iter(), true, &no_file)[0].status,
            WaiverStatus::Expired
        );
    }

    #[test]
    fn a_series_is_meant_by_its_name() {
        let metric = Metric::parse("thread-stack.exited.count").unwrap();
        for (checkpoint, is) in [("spawned", true), ("spawned.7", true), ("spawned-2", false), ("spawn", false)] {
            assert_eq!(waiver(2).is_of("threads-unjoined", checkpoint, &metric), is, "{checkpoint}");
        }
    }
}
