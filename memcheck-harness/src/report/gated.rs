//! What is gated by nothing: a case or a checkpoint with neither a snapshot nor a budget. Beside gated ones it passes for one.

use std::collections::BTreeSet;

use crate::model::{CaseReport, CheckpointReport, LimitResult, SnapshotStatus};

/// True when neither a snapshot nor a limit speaks of any checkpoint of a case that was judged.
pub(super) fn is_ungated(case: &CaseReport) -> bool {
    case.problem.is_none()
        && case.snapshot.status == SnapshotStatus::Off
        && case.on_line.is_empty()
        && case.elf.is_empty()
        && case.checkpoints.iter().all(|checkpoint| checkpoint.limits.is_empty())
}

/// Checkpoints of a gated case that are in no snapshot, have no limit, are no limit's reference and no round whose growth has one.
pub(super) fn ungated_checkpoints(case: &CaseReport) -> Vec<&str> {
    // Without its text it is not known what a snapshot holds.
    let unknown = case.snapshot.status != SnapshotStatus::Off && case.snapshot.text.is_empty();
    if case.problem.is_some() || is_ungated(case) || unknown {
        return Vec::new();
    }
    // Headers gate the case as a whole: where nothing else does, no checkpoint is less gated than another.
    let is_gated = |checkpoint: &CheckpointReport| !checkpoint.limits.is_empty() || is_in_snapshot(case, checkpoint);
    if !case.elf.is_empty() && case.on_line.is_empty() && !case.checkpoints.iter().any(is_gated) {
        return Vec::new();
    }
    let limits = case.checkpoints.iter().flat_map(|checkpoint| &checkpoint.limits);
    let references: BTreeSet<&str> = limits
        .filter_map(|limit| limit.rule.split_once(" over "))
        .map(|(_, name)| name)
        .collect();
    // Growth is judged at the last round, and gates all of them.
    let has_rate = |checkpoint: &&CheckpointReport| checkpoint.limits.iter().any(LimitResult::is_rate);
    let rates: Vec<&CheckpointReport> = case.checkpoints.iter().filter(has_rate).collect();
    let rounds: Vec<String> = case
        .series
        .iter()
        // Of a pair the two ends are `name.from` and `name.to`, their rounds `name.3.from` and `name.3.to`.
        .map(|series| {
            let name = series.name.as_str();
            let name = name.strip_suffix(".from").or(name.strip_suffix(".to")).unwrap_or(name);
            format!("{name}.")
        })
        .filter(|prefix| rates.iter().any(|last| last.name.starts_with(prefix)))
        .collect();
    case.checkpoints
        .iter()
        .filter(|checkpoint| !case.on_line.contains(&checkpoint.name))
        .filter(|checkpoint| checkpoint.limits.is_empty() && !is_in_snapshot(case, checkpoint))
        .map(|checkpoint| checkpoint.name.as_str())
        .filter(|name| !references.contains(name) && !rounds.iter().any(|round| name.starts_with(round)))
        .collect()
}

/// Heads stand at column 0: `checkpoint NAME (…)`.
fn is_in_snapshot(case: &CaseReport, checkpoint: &CheckpointReport) -> bool {
    case.snapshot.text.lines().any(|line| {
        line.strip_prefix("checkpoint ")
            .and_then(|rest| rest.strip_prefix(checkpoint.name.as_str()))
            .is_some_and(|rest| rest.is_empty() || rest.starts_with(' '))
    })
}

#[cfg(test)]
mod tests {
    use super::super::fixtures::{broken, case, hardened, snapshot};
    use super::*;

    #[test]
    fn a_case_is_gated_by_its_snapshot_or_by_any_limit() {
        assert!(!is_ungated(&case("a")));
        assert!(is_ungated(&snapshot(case("a"), SnapshotStatus::Off)));
        assert!(!is_ungated(&snapshot(broken(case("a")), SnapshotStatus::Off)));
    }

    #[test]
    fn headers_gate_a_case_that_nothing_else_does() {
        let mut case = snapshot(hardened().cases.remove(0), SnapshotStatus::Off);
        case.checkpoints.iter_mut().for_each(|checkpoint| checkpoint.limits.clear());
        assert!(!is_ungated(&case));
        assert_eq!(ungated_checkpoints(&case), [""; 0]);
        let mut other = broken(case.clone()).checkpoints.remove(0);
        "limited".clone_into(&mut other.name);
        case.checkpoints.push(other);
        assert_eq!(ungated_checkpoints(&case), ["start"], "beside one that is gated");
    }

    #[test]
    fn a_checkpoint_is_gated_by_its_head_in_the_snapshot_a_limit_or_as_a_reference() {
        let mut case = snapshot(broken(case("a")), SnapshotStatus::Off);
        let mut other = case.checkpoints[0].clone();
        other.limits.clear();
        "later".clone_into(&mut other.name);
        case.checkpoints.push(other);
        assert_eq!(ungated_checkpoints(&case), ["later"]);
        case.snapshot.status = SnapshotStatus::Same;
        assert_eq!(ungated_checkpoints(&case), [""; 0], "not known");
        "case a\n\ncheckpoint later (change since start)\n".clone_into(&mut case.snapshot.text);
        assert_eq!(ungated_checkpoints(&case), [""; 0]);
        "case a\n\ncheckpoint later-on (change since start)\n".clone_into(&mut case.snapshot.text);
        assert_eq!(ungated_checkpoints(&case), ["later"]);
        "max_growth over later".clone_into(&mut case.checkpoints[0].limits[0].rule);
        assert_eq!(ungated_checkpoints(&case), [""; 0]);
    }
}
