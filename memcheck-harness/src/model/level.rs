//! `CaptureLevel`: how much is read of a stopped process, and which of a case's checkpoints need all of it.

use super::{Case, Metric, Over, ProcessMeasure, Role, RoleMeasure, Subject};

/// How much is read of each region.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum CaptureLevel {
    /// `smaps`: every figure and flag.
    #[default]
    Full,
    /// `maps` and `PAGEMAP_SCAN`: resident and anonymous bytes, no flags and no other figure. Several times faster.
    Fast,
}

impl CaptureLevel {
    /// The level that a checkpoint needs: a snapshot needs everything; otherwise its own budgets decide, and those of later
    /// checkpoints that compare with it.
    #[must_use]
    pub fn of(case: &Case, checkpoint: usize) -> Self {
        let Some(spec) = case.checkpoints.get(checkpoint) else {
            return Self::Full;
        };
        if spec.snapshot && !case.snapshot.off {
            return Self::Full;
        }
        let compared_here = |over: &Over| matches!(over, Over::Checkpoint(name) if *name == spec.name);
        let later = case.checkpoints.iter().flat_map(|other| &other.limits);
        let compared = later
            .filter(|(_, limit)| limit.growth.as_ref().is_some_and(|growth| compared_here(&growth.over)))
            .map(|(metric, _)| metric);
        if spec.limits.keys().chain(compared).all(Metric::is_fast) {
            Self::Fast
        } else {
            Self::Full
        }
    }
}

impl Metric {
    /// The fast level gives this metric, and the same value as the full one. What is told by flags (`VmFlags`) is not among
    /// them: commit charges, signal stacks, large chunks of malloc beside other anonymous memory, what is the platform's. Nor is
    /// swap: only `smaps` counts the pages of shared memory that are there.
    #[must_use]
    pub fn is_fast(&self) -> bool {
        match self.subject() {
            Subject::Threads => true,
            Subject::Process(measure) => !matches!(
                measure,
                ProcessMeasure::Swap
                    | ProcessMeasure::Commit
                    | ProcessMeasure::Noreserve
                    | ProcessMeasure::Pss
                    | ProcessMeasure::Uss
            ),
            Subject::Own(_) => false,
            Subject::Roles { roles, measure } => {
                let plain = |role: &Role| {
                    role.is_elf()
                        || matches!(
                            role,
                            Role::MainHeap
                                | Role::ThreadArena
                                | Role::ThreadStackLive
                                | Role::ThreadStackExited
                                | Role::ThreadStackCached
                                | Role::ThreadStackUser
                                | Role::Tls
                                | Role::MainStack
                                | Role::FileMap
                                | Role::SharedMap
                        )
                };
                roles.iter().all(plain) && !matches!(measure, RoleMeasure::Commit | RoleMeasure::Noreserve)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{At, CheckpointSpec, Growth, GrowthBound, Limit, Place, Target};

    fn case(first: &[&str], growth_over_first: &[&str]) -> Case {
        let mut case = Case::new("c", "/", Target::Command { program: "p".to_owned() });
        let checkpoint = |name: &str| CheckpointSpec {
            snapshot: false,
            ..CheckpointSpec::new(name, At::Exit)
        };
        case.checkpoints = vec![checkpoint("a"), checkpoint("b")];
        let metric = |name: &&str| Metric::parse(name).unwrap();
        case.checkpoints[0].limits = first.iter().map(|name| (metric(name), Limit::default())).collect();
        let growth = Growth {
            bound: GrowthBound::Absolute(0),
            over: Over::Checkpoint("a".to_owned()),
            place: Place::default(),
        };
        let limit = Limit {
            growth: Some(growth),
            ..Limit::default()
        };
        case.checkpoints[1].limits = growth_over_first.iter().map(|name| (metric(name), limit.clone())).collect();
        case
    }

    #[test]
    fn the_budgets_and_the_snapshot_in_force_decide() {
        let level = |first, later| CaptureLevel::of(&case(first, later), 0);
        assert_eq!(level(&[], &[]), CaptureLevel::Fast);
        assert_eq!(
            level(&["thread-stack.count", "process.anon"], &["main-heap.anon"]),
            CaptureLevel::Fast
        );
        assert_eq!(level(&["own.anon"], &[]), CaptureLevel::Full);
        assert_eq!(level(&["process.commit"], &[]), CaptureLevel::Full);
        assert_eq!(level(&["process.noreserve"], &[]), CaptureLevel::Full);
        assert_eq!(level(&["process.swap"], &[]), CaptureLevel::Full);
        assert_eq!(level(&[], &["anon-map.anon"]), CaptureLevel::Full, "compared later");
        let mut with_snapshot = case(&[], &[]);
        with_snapshot.checkpoints[0].snapshot = true;
        assert_eq!(CaptureLevel::of(&with_snapshot, 0), CaptureLevel::Full);
        assert_eq!(CaptureLevel::of(&with_snapshot, 1), CaptureLevel::Fast);
        with_snapshot.snapshot.off = true;
        assert_eq!(CaptureLevel::of(&with_snapshot, 0), CaptureLevel::Fast);
    }
}
