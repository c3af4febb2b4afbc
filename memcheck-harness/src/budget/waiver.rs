//! Waivers × limit results: which broken limits are waived, and what became of each waiver. Pure: the day is an argument.

use crate::model::{CaseReport, Date, LimitResult, Verdict, Waiver, WaiverResult, WaiverStatus, WaiverUse};

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

/// What became of each waiver, in the order of the file. `cases` are judged, their limits went through [`waive`]; of a run that
/// is not `complete` waivers of other cases are left out.
#[must_use]
pub fn waivers<'a>(
    waivers: &[Waiver],
    today: Date,
    cases: impl Iterator<Item = &'a CaseReport> + Clone,
    complete: bool,
) -> Vec<WaiverResult> {
    waivers
        .iter()
        .filter_map(|waiver| {
            let case = cases.clone().find(|case| case.name == waiver.case);
            if case.is_none() && !complete {
                return None;
            }
            let uses: Vec<WaiverUse> = case.map(|case| uses(waiver, case)).unwrap_or_default();
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

fn uses(waiver: &Waiver, case: &CaseReport) -> Vec<WaiverUse> {
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

    fn date(text: &str) -> Date {
        Date::parse(text).unwrap()
    }

    fn waiver(ceiling: u64) -> Waiver {
        Waiver {
            case: "threads-unjoined".to_owned(),
            checkpoint: Some("spawned".to_owned()),
            metric: Metric::parse("thread-stack.exited.count").unwrap(),
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
        let status = waivers(&all, date(day), std::iter::once(&case), true)[0].status;
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
        other.metric = Metric::parse("thread-stack.live.count").unwrap();
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
        assert!(waivers(std::slice::from_ref(&other), day, run.cases.iter(), false).is_empty());
        assert_eq!(
            waivers(&[other], day, run.cases.iter(), true)[0].status,
            WaiverStatus::Expired
        );
    }

    #[test]
    fn a_series_is_meant_by_its_name() {
        let metric = waiver(2).metric;
        for (checkpoint, is) in [("spawned", true), ("spawned.7", true), ("spawned-2", false), ("spawn", false)] {
            assert_eq!(waiver(2).is_of("threads-unjoined", checkpoint, &metric), is, "{checkpoint}");
        }
    }
}
