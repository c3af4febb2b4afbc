//! `Reading`: how much is read of a stopped process, and how much of it each checkpoint of a case needs.

use super::{Case, CheckpointSpec, Metric, Over, ProcessMeasure, Role, RoleMeasure, Subject};

/// How much is read of each region.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum CaptureLevel {
    /// `smaps`: every figure and flag.
    #[default]
    Full,
    /// `maps` and `PAGEMAP_SCAN`: resident and anonymous bytes, no flags and no other figure. Several times faster.
    Fast,
}

/// What is read at a checkpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reading {
    /// Of each region.
    pub level: CaptureLevel,
    /// Whether malloc's arenas are walked from chunk to chunk: a look at every allocation there is.
    pub chunks: bool,
}

impl Reading {
    /// All there is.
    pub const EVERYTHING: Self = Self {
        level: CaptureLevel::Full,
        chunks: true,
    };

    /// What a checkpoint needs. A snapshot needs all of each region; otherwise the checkpoint's own budgets decide, and those of
    /// later checkpoints that compare with it. Chunks are walked for who asks for their figures by name: budgets, the snapshot's
    /// further metrics, series of passes; and for checks in Rust, which may ask for anything.
    #[must_use]
    pub fn of(case: &Case, checkpoint: usize) -> Self {
        if case.has_checks {
            return Self::EVERYTHING;
        }
        let shown = case.snapshot.metrics.iter().filter(|_| !case.snapshot.off);
        let Some(spec) = case.checkpoints.get(checkpoint) else {
            // The end of a child.
            return Self {
                level: CaptureLevel::Full,
                chunks: case.child_limits.keys().chain(shown).any(Metric::needs_chunks),
            };
        };
        let in_snapshot = spec.snapshot && !case.snapshot.off;
        let asked = || spec.limits.keys().chain(compared_with(case, spec));
        Self {
            level: if !in_snapshot && asked().all(Metric::is_fast) {
                CaptureLevel::Fast
            } else {
                CaptureLevel::Full
            },
            chunks: spec.every.is_some() || asked().chain(shown.filter(|_| in_snapshot)).any(Metric::needs_chunks),
        }
    }
}

/// The metrics whose limits at other checkpoints speak of growth over this one.
fn compared_with<'c>(case: &'c Case, spec: &CheckpointSpec) -> impl Iterator<Item = &'c Metric> {
    let compared_here = |over: &Over| matches!(over, Over::Checkpoint(name) if *name == spec.name);
    let all = case.checkpoints.iter().flat_map(|other| &other.limits);
    all.filter(move |(_, limit)| limit.growth.as_ref().is_some_and(|growth| compared_here(&growth.over)))
        .map(|(metric, _)| metric)
}

impl Metric {
    /// Only a walk from chunk to chunk gives this metric.
    #[must_use]
    pub fn needs_chunks(&self) -> bool {
        let (Subject::Own(measure) | Subject::Roles { measure, .. }) = self.subject() else {
            return false;
        };
        matches!(measure, RoleMeasure::Used | RoleMeasure::Free | RoleMeasure::Top)
    }

    /// The fast level gives this metric, and the same value as the full one. What is told by flags (`VmFlags`) is not among
    /// them: commit charges, signal stacks, large chunks of malloc beside other anonymous memory, what is the platform's. Nor is
    /// swap: only `smaps` counts the pages of shared memory that are there.
    #[must_use]
    pub fn is_fast(&self) -> bool {
        match self.subject() {
            Subject::Threads | Subject::Tree(_) => true,
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
        let level = |first, later| Reading::of(&case(first, later), 0).level;
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
        assert_eq!(Reading::of(&with_snapshot, 0).level, CaptureLevel::Full);
        assert_eq!(Reading::of(&with_snapshot, 1).level, CaptureLevel::Fast);
        with_snapshot.snapshot.off = true;
        assert_eq!(Reading::of(&with_snapshot, 0).level, CaptureLevel::Fast);
        with_snapshot.has_checks = true;
        assert_eq!(Reading::of(&with_snapshot, 0), Reading::EVERYTHING);
    }

    #[test]
    fn chunks_are_walked_for_who_asks_for_their_figures() {
        let walks = |case: &Case, at| Reading::of(case, at).chunks;
        assert!(!walks(&case(&["main-heap.anon", "thread-arena.committed"], &[]), 0));
        assert!(walks(&case(&["main-heap.used"], &[]), 0));
        let later = case(&[], &["thread-arena.free"]);
        assert!(walks(&later, 0) && walks(&later, 1));
        let mut shown = case(&[], &[]);
        shown.snapshot.metrics = vec![Metric::parse("main-heap.top").unwrap()];
        shown.checkpoints[0].snapshot = true;
        assert!(walks(&shown, 0) && !walks(&shown, 1));
        assert!(walks(&shown, 2), "the end of a child stands in the snapshot");
        shown.snapshot.off = true;
        assert!(!walks(&shown, 0) && !walks(&shown, 2));
        shown
            .child_limits
            .insert(Metric::parse("main-heap.used").unwrap(), Limit::default());
        assert!(!walks(&shown, 0) && walks(&shown, 2));
        let mut series = case(&[], &[]);
        series.checkpoints[0].every = Some(crate::model::Every {
            series: "a".to_owned(),
            number: 1,
            limit: 9,
            step: 1,
            warm_up: None,
            by_child: false,
        });
        assert!(walks(&series, 0) && !walks(&series, 1));
    }
}
