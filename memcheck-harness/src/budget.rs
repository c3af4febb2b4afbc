//! `MemoryMap`s × limits → results, as data. Pure. Owns what a limit means: `max`, `min`, and growth over a checkpoint of
//! the same run or over the approved snapshot. Where limits come from is `config`'s, what a violation costs is `explain`'s.
//!
//! It fails closed: what cannot be known here counts as broken ([`Verdict::Unknown`]) and says why.

mod growth;
mod hardening;
mod scaling;
mod slack;
mod trend;
mod waiver;

use std::collections::BTreeMap;

pub use growth::{find_growth, judge_series};
pub use hardening::{demanded, hardening};
pub use scaling::{Machine, judge_scaling, sample, sample_of};
pub use slack::room;
pub use waiver::{waive, waive_headers, waivers};

use crate::model::{
    Bound, Case, Cell, CheckpointSpec, Growth, GrowthBound, Limit, LimitResult, MemoryMap, Metric, Over, Place, ProcessMeasure,
    Role, RoleMeasure, Row, RowKey, Snapshot, SnapshotElf, SnapshotOptions, State, Subject, Unit, Verdict,
};

/// Growth in percent never allows less than this many bytes: a small reference would otherwise forbid a single page.
pub const PERCENT_FLOOR_BYTES: u64 = 16 << 10;

/// Judges every limit of every checkpoint that was reached: (index into the case's checkpoints, its map). One list per map,
/// ordered by metric name, then `max`, `min`, `max_growth`. Growth over the base is passed over: only [`judge_over_base`] has one.
#[must_use]
pub fn judge(case: &Case, maps: &[(usize, &MemoryMap)], approved: Option<&Snapshot>) -> Vec<Vec<LimitResult>> {
    judge_all(case, maps, approved, None)
}

/// As [`judge`], with the maps of the base at the checkpoints (by name) that it reached as well. What the base does not have is
/// new, and nothing could grow: growth over the base is then passed over.
#[must_use]
pub fn judge_over_base(case: &Case, maps: &[(usize, &MemoryMap)], base: &BTreeMap<&str, &MemoryMap>) -> Vec<Vec<LimitResult>> {
    judge_all(case, maps, None, Some(base))
}

fn judge_all(
    case: &Case,
    maps: &[(usize, &MemoryMap)],
    approved: Option<&Snapshot>,
    base: Option<&BTreeMap<&str, &MemoryMap>>,
) -> Vec<Vec<LimitResult>> {
    maps.iter()
        .map(|(index, map)| {
            let Some(spec) = case.checkpoints.get(*index) else {
                return Vec::new();
            };
            let run = Run {
                case,
                spec,
                maps,
                approved,
                base: base.and_then(|base| base.get(spec.name.as_str()).copied()),
            };
            spec.limits
                .iter()
                .flat_map(|(metric, limit)| {
                    let value = map.metric(metric).ok_or_else(|| why_absent(map, metric));
                    judge_metric(&run, metric, limit, &value)
                })
                .collect()
        })
        .collect()
}

/// True when a limit of a run is broken or could not be judged.
#[must_use]
pub fn is_broken(judged: &[Vec<LimitResult>]) -> bool {
    judged.iter().flatten().any(|limit| limit.verdict.is_broken())
}

/// What the limits of one checkpoint are judged with.
struct Run<'a> {
    case: &'a Case,
    spec: &'a CheckpointSpec,
    maps: &'a [(usize, &'a MemoryMap)],
    approved: Option<&'a Snapshot>,
    /// The same checkpoint of the base.
    base: Option<&'a MemoryMap>,
}

fn judge_metric(run: &Run<'_>, metric: &Metric, limit: &Limit, value: &Result<u64, String>) -> Vec<LimitResult> {
    let mut results = Vec::new();
    if let Some(Bound { value: max, place }) = &limit.max {
        results.push(result(metric, "max".to_owned(), (*max, None), value, place, |v| v <= *max));
    }
    if let Some(Bound { value: min, place }) = &limit.min {
        results.push(result(metric, "min".to_owned(), (*min, None), value, place, |v| v >= *min));
    }
    if let Some(growth) = &limit.growth {
        results.extend(judge_growth(run, metric, growth, value));
    }
    results
}

/// Nothing for growth over a base that there is none of here.
fn judge_growth(run: &Run<'_>, metric: &Metric, growth: &Growth, value: &Result<u64, String>) -> Option<LimitResult> {
    let (over, reference) = match &growth.over {
        Over::Checkpoint(name) => (name.as_str(), checkpoint_reference(run, metric, name)),
        Over::Approved => ("approved", approved_reference(run, metric)),
        Over::Base => {
            let base = run.base?;
            let value = base.metric(metric);
            (
                "base",
                value.ok_or_else(|| format!("at the base: {}", why_absent(base, metric))),
            )
        }
    };
    let rule = format!("max_growth over {over}");
    Some(match reference {
        Ok(reference) => {
            let limit = reference.saturating_add(allowance(growth.bound, reference, metric.unit()));
            result(metric, rule, (limit, Some(reference)), value, &growth.place, |v| v <= limit)
        }
        Err(reason) => LimitResult {
            metric: metric.clone(),
            rule,
            limit: None,
            reference: None,
            value: value.as_ref().ok().copied(),
            origin: growth.place.clone(),
            verdict: Verdict::Unknown,
            // Without the value there is nothing to compare either way; that is the more basic reason.
            reason: value.as_ref().err().cloned().unwrap_or(reason),
        },
    })
}

fn result(
    metric: &Metric,
    rule: String,
    (limit, reference): (u64, Option<u64>),
    value: &Result<u64, String>,
    origin: &Place,
    keeps: impl Fn(u64) -> bool,
) -> LimitResult {
    let (verdict, reason) = match value {
        Ok(value) if keeps(*value) => (Verdict::Within, String::new()),
        Ok(_) => (Verdict::Over, String::new()),
        Err(reason) => (Verdict::Unknown, reason.clone()),
    };
    LimitResult {
        metric: metric.clone(),
        rule,
        limit: Some(limit),
        reference,
        value: value.as_ref().ok().copied(),
        origin: origin.clone(),
        verdict,
        reason,
    }
}

/// By how much a value may exceed its reference, in the metric's own unit.
fn allowance(bound: GrowthBound, reference: u64, unit: Unit) -> u64 {
    match bound {
        GrowthBound::Absolute(by) => by,
        GrowthBound::Percent { basis_points } => {
            let share = u128::from(reference) * u128::from(basis_points) / 10_000;
            let share = u64::try_from(share).unwrap_or(u64::MAX);
            match unit {
                Unit::Bytes => share.max(PERCENT_FLOOR_BYTES),
                Unit::Count => share,
            }
        }
    }
}

fn checkpoint_reference(run: &Run<'_>, metric: &Metric, name: &str) -> Result<u64, String> {
    let index = run
        .case
        .checkpoints
        .iter()
        .position(|spec| spec.name == name)
        .ok_or_else(|| format!("the case has no checkpoint `{name}`"))?;
    let (_, map) = run
        .maps
        .iter()
        .find(|(reached, _)| *reached == index)
        .ok_or_else(|| format!("checkpoint `{name}` was not reached"))?;
    map.metric(metric)
        .ok_or_else(|| format!("at checkpoint `{name}`: {}", why_absent(map, metric)))
}

fn approved_reference(run: &Run<'_>, metric: &Metric) -> Result<u64, String> {
    let name = &run.spec.name;
    if !run.spec.snapshot || run.case.snapshot.off {
        return Err(format!("checkpoint `{name}` is not part of a snapshot"));
    }
    let approved = run.approved.ok_or("nothing is approved yet")?;
    let state = approved
        .checkpoints
        .iter()
        .find(|state| state.name == *name)
        .ok_or_else(|| format!("the approved snapshot has no checkpoint `{name}`"))?;
    approved_value(state, metric, &run.case.snapshot)
}

/// The value of a metric as far as the rows of an approved state hold it.
fn approved_value(state: &State, metric: &Metric, options: &SnapshotOptions) -> Result<u64, String> {
    if let Some(row) = state.rows.get(&RowKey::Metric(metric.clone())) {
        return cell_value(match metric.unit() {
            Unit::Count => row.count,
            Unit::Bytes => row.reserved,
        });
    }
    let not_held = || format!("the approved snapshot does not hold {metric}; add it to snapshot.metrics");
    match metric.subject() {
        Subject::Threads => cell_value(state.rows.get(&RowKey::Threads).ok_or_else(not_held)?.count),
        Subject::Roles { roles, measure } => {
            let column: fn(&Row) -> Cell = match measure {
                RoleMeasure::Count => |row| row.count,
                RoleMeasure::Reserved => |row| row.reserved,
                RoleMeasure::Anon => |row| row.anon,
                _ => return Err(not_held()),
            };
            roles.into_iter().try_fold(0_u64, |sum, role| {
                let value = match state.rows.get(&RowKey::Role(role)) {
                    Some(row) => cell_value(column(row))?,
                    // A missing row is zero only where the snapshot would show the role if there were any of it.
                    None if shows_whenever_present(role, options) => 0,
                    None => return Err(not_held()),
                };
                Ok(sum.saturating_add(value))
            })
        }
        Subject::Process(_) | Subject::Own(_) | Subject::Tree(_) => Err(not_held()),
    }
}

fn cell_value(cell: Cell) -> Result<u64, String> {
    match cell {
        Cell::Value(value) => Ok(value),
        Cell::Varies => Err("the approved value varies from run to run".to_owned()),
        Cell::Absent => Err("the value was not known when the snapshot was approved".to_owned()),
    }
}

/// True when a snapshot with these options has a row for the role at every checkpoint where the role occurs.
fn shows_whenever_present(role: Role, options: &SnapshotOptions) -> bool {
    let chosen = options.roles.as_ref().is_none_or(|roles| roles.contains(&role));
    let recorded = match role {
        Role::Platform | Role::Memcheck | Role::MainStack => false,
        role if role.is_elf() && role < Role::LibHeaders => options.elf == SnapshotElf::Sizes,
        role if role.is_elf() => options.library_sizes,
        _ => true,
    };
    chosen && recorded
}

/// Why a map cannot give a metric, as far as that is known.
fn why_absent(map: &MemoryMap, metric: &Metric) -> String {
    let no_flags = "this kernel or capture has no VmFlags";
    let subject = metric.subject();
    let needs = |wanted: &[Role]| match &subject {
        Subject::Roles { roles, .. } => roles.iter().any(|role| wanted.contains(role)),
        _ => false,
    };
    if map.by_mappings && matches!(&subject, Subject::Roles { .. }) {
        return "roles are told by mappings alone here: the memory could not be read".to_owned();
    }
    let reason = match &subject {
        Subject::Own(measure) | Subject::Roles { measure, .. } => match measure {
            RoleMeasure::Used | RoleMeasure::Free | RoleMeasure::Top => {
                let role = if needs(&[Role::MainHeap]) {
                    Role::MainHeap
                } else {
                    Role::ThreadArena
                };
                return map
                    .malloc_doubt(role)
                    .unwrap_or_else(|| "the chunks could not be walked".to_owned());
            }
            _ if needs(&[Role::ThreadArena]) && map.arenas.is_none() => "glibc's malloc was not recognised in this process",
            _ if needs(&[Role::ThreadStackExited, Role::ThreadStackCached]) && !map.thread_lists_known => {
                "the libc's thread lists could not be read"
            }
            RoleMeasure::Commit | RoleMeasure::Noreserve => no_flags,
            RoleMeasure::Deepest => "the pages of a live thread's stack could not be scanned",
            _ => "not known on this machine",
        },
        Subject::Process(ProcessMeasure::Commit | ProcessMeasure::Noreserve) => no_flags,
        Subject::Tree(_) if map.tree.is_none() => {
            "the processes of the tree were not summed, or one cannot be traced (CLONE_UNTRACED)"
        }
        Subject::Tree(_) => "the kernel does not tell the proportional sizes of anonymous memory, or who shares a memory (kcmp)",
        Subject::Process(_) | Subject::Threads => "not known on this machine",
    };
    reason.to_owned()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;
    use crate::model::{At, Confidence, Evidence, Item, Name, Perms, Piece, ProcessTotals, Target};

    fn metric(name: &str) -> Metric {
        Metric::parse(name).unwrap()
    }

    fn bound(value: u64) -> Option<Bound> {
        Some(Bound {
            value,
            place: Place::default(),
        })
    }

    fn growth(bound: GrowthBound, over: Over) -> Limit {
        Limit {
            growth: Some(Growth {
                bound,
                over,
                place: Place::default(),
            }),
            ..Limit::default()
        }
    }

    /// A map of one piece per (role, reserved, anon).
    fn map(rows: &[(Role, u64, Option<u64>)]) -> MemoryMap {
        let mut start = 0x10_0000;
        let pieces = rows
            .iter()
            .enumerate()
            .map(|(item, (role, reserved, anon))| {
                let piece = Piece {
                    start,
                    end: start + reserved,
                    role: *role,
                    item,
                    perms: Perms::default(),
                    resident_bytes: *anon,
                    anon_bytes: *anon,
                    swap_bytes: None,
                    proportional_bytes: None,
                    committed: None,
                    noreserve: None,
                    evidence: Evidence {
                        text: "".into(),
                        confidence: Confidence::Certain,
                    },
                };
                start = piece.end;
                piece
            })
            .collect();
        MemoryMap {
            page_bytes: 4096,
            pieces,
            items: rows
                .iter()
                .map(|(role, ..)| Item {
                    role: *role,
                    subject: Name::default(),
                    tid: None,
                })
                .collect(),
            threads: Vec::new(),
            by_mappings: false,
            thread_lists_known: false,
            arenas: None,
            malloc: None,
            breakpoint_anon_bytes: 0,
            process: ProcessTotals::default(),
            tree: None,
            hardening: None,
            platform_objects: BTreeSet::new(),
            own_objects: BTreeSet::new(),
            needed: Default::default(),
            stack_limit_bytes: None,
            notes: Vec::new(),
        }
    }

    /// A case of the checkpoints `a` and `b`; the limits are `b`'s.
    fn case(limits: &[(&str, Limit)]) -> Case {
        let mut case = Case::new(
            "c",
            "/p",
            Target::Command {
                program: "true".to_owned(),
            },
        );
        case.checkpoints = vec![CheckpointSpec::new("a", At::Main), CheckpointSpec::new("b", At::Exit)];
        case.checkpoints[1].limits = limits.iter().map(|(name, limit)| (metric(name), limit.clone())).collect();
        case
    }

    fn verdicts(case: &Case, before: &MemoryMap, now: &MemoryMap, approved: Option<&Snapshot>) -> Vec<(String, Verdict, String)> {
        let mut lists = judge(case, &[(0, before), (1, now)], approved);
        assert_eq!(lists.len(), 2);
        lists
            .pop()
            .unwrap()
            .into_iter()
            .map(|r| (r.rule, r.verdict, r.reason))
            .collect()
    }

    fn approved(rows: &[(Role, Cell)]) -> Snapshot {
        let rows = rows
            .iter()
            .map(|(role, anon)| {
                let row = Row {
                    count: Cell::Value(1),
                    reserved: Cell::Value(4096),
                    anon: *anon,
                };
                (RowKey::Role(*role), row)
            })
            .collect();
        Snapshot {
            checkpoints: vec![State {
                name: "b".to_owned(),
                child: None,
                rows,
            }],
            ..Snapshot::default()
        }
    }

    #[test]
    fn max_and_min_are_two_results_and_metrics_come_by_name() {
        let both = Limit {
            max: bound(4096),
            min: bound(1),
            growth: None,
            ..Limit::default()
        };
        let case = case(&[
            ("main-heap.reserved", both),
            (
                "anon-map.count",
                Limit {
                    max: bound(0),
                    ..Limit::default()
                },
            ),
        ]);
        let now = map(&[(Role::MainHeap, 8192, Some(0))]);
        let lists = judge(&case, &[(1, &now)], None);
        let found: Vec<_> = lists[0]
            .iter()
            .map(|r| (r.metric.name(), r.rule.as_str(), r.verdict))
            .collect();
        assert_eq!(
            found,
            [
                ("anon-map.count", "max", Verdict::Within),
                ("main-heap.reserved", "max", Verdict::Over),
                ("main-heap.reserved", "min", Verdict::Within)
            ]
        );
    }

    #[test]
    fn what_is_absent_is_unknown_and_says_why() {
        let max = Limit {
            max: bound(u64::MAX),
            ..Limit::default()
        };
        let now = map(&[(Role::MainHeap, 4096, None)]);
        for (name, reason) in [
            ("main-heap.used", "malloc was not recognised"),
            ("thread-arena.count", "malloc was not recognised"),
            ("thread-stack.exited.count", "thread lists"),
            ("main-heap.anon", "not known on this machine"),
            ("own.commit", "VmFlags"),
            ("process.peak", "not known"),
        ] {
            let found = verdicts(&case(&[(name, max.clone())]), &now, &now, None);
            assert_eq!(found[0].1, Verdict::Unknown, "{name}");
            assert!(found[0].2.contains(reason), "{name}: {}", found[0].2);
        }
    }

    #[test]
    fn growth_over_the_base_is_judged_only_where_there_is_one() {
        let limit = growth(GrowthBound::Absolute(4096), Over::Base);
        let case = case(&[("main-heap.anon", limit)]);
        let (before, now) = (
            map(&[(Role::MainHeap, 65536, Some(4096))]),
            map(&[(Role::MainHeap, 65536, Some(12288))]),
        );
        assert_eq!(judge(&case, &[(1, &now)], None), [vec![]]);
        assert_eq!(
            judge_over_base(&case, &[(1, &now)], &BTreeMap::from([("a", &before)])),
            [vec![]]
        );
        let found = judge_over_base(&case, &[(1, &now)], &BTreeMap::from([("b", &before)])).remove(0);
        let found = &found[0];
        assert_eq!(
            (found.rule.as_str(), found.limit, found.reference, found.verdict),
            ("max_growth over base", Some(8192), Some(4096), Verdict::Over)
        );
        let unknown = map(&[(Role::MainHeap, 65536, None)]);
        let found = judge_over_base(&case, &[(1, &now)], &BTreeMap::from([("b", &unknown)])).remove(0);
        assert_eq!(found[0].verdict, Verdict::Unknown);
        assert!(found[0].reason.starts_with("at the base: "), "{}", found[0].reason);
    }

    #[test]
    fn growth_over_a_checkpoint_allows_shrinking_and_its_allowance() {
        let over = |bound| growth(bound, Over::Checkpoint("a".to_owned()));
        let (small, large) = (
            map(&[(Role::MainHeap, 1 << 20, Some(0))]),
            map(&[(Role::MainHeap, (1 << 20) + 20480, Some(0))]),
        );
        let by = |bound, before: &MemoryMap, now: &MemoryMap| {
            verdicts(&case(&[("main-heap.reserved", over(bound))]), before, now, None)[0].1
        };
        assert_eq!(by(GrowthBound::Absolute(20480), &small, &large), Verdict::Within);
        assert_eq!(by(GrowthBound::Absolute(20479), &small, &large), Verdict::Over);
        assert_eq!(by(GrowthBound::Absolute(0), &large, &small), Verdict::Within);
        assert_eq!(
            by(GrowthBound::Percent { basis_points: 100 }, &small, &large),
            Verdict::Over,
            "1 % is less than 16 KiB"
        );
        assert_eq!(
            by(GrowthBound::Percent { basis_points: 200 }, &small, &large),
            Verdict::Within
        );
    }

    #[test]
    fn percent_has_a_floor_for_bytes_only_and_never_overflows() {
        let percent = |basis_points| GrowthBound::Percent { basis_points };
        assert_eq!(allowance(percent(500), 0, Unit::Bytes), PERCENT_FLOOR_BYTES);
        assert_eq!(allowance(percent(500), 10, Unit::Count), 0);
        assert_eq!(allowance(percent(5000), 10, Unit::Count), 5);
        assert_eq!(allowance(percent(u64::MAX), u64::MAX, Unit::Bytes), u64::MAX);
    }

    #[test]
    fn a_checkpoint_that_was_not_reached_is_no_reference() {
        let case = case(&[(
            "main-heap.reserved",
            growth(GrowthBound::Absolute(0), Over::Checkpoint("a".to_owned())),
        )]);
        let now = map(&[]);
        let lists = judge(&case, &[(1, &now)], None);
        assert_eq!(lists[0][0].verdict, Verdict::Unknown);
        assert_eq!(lists[0][0].reason, "checkpoint `a` was not reached");
        assert_eq!(lists[0][0].reference, None);
    }

    #[test]
    fn growth_over_approved_reads_the_rows_that_are_held() {
        let over = |name| case(&[(name, growth(GrowthBound::Absolute(0), Over::Approved))]);
        let now = map(&[(Role::MainHeap, 4096, Some(4096))]);
        let held = approved(&[(Role::MainHeap, Cell::Value(4096))]);
        let one = |name, snapshot: Option<&Snapshot>| verdicts(&over(name), &now, &now, snapshot).remove(0);
        assert_eq!(one("main-heap.anon", Some(&held)).1, Verdict::Within);
        assert_eq!(
            one("signal-stack.anon", Some(&held)).1,
            Verdict::Within,
            "no row means none of it"
        );
        assert_eq!(one("main-heap.anon", None).2, "nothing is approved yet");
        assert_eq!(
            one("own.anon", Some(&held)).2,
            "the approved snapshot does not hold own.anon; add it to snapshot.metrics"
        );
        assert!(
            one("exe.data.anon", Some(&held)).2.contains("does not hold"),
            "small segments have no row"
        );
        assert!(one("main-stack.anon", Some(&held)).2.contains("does not hold"));
        let varying = approved(&[(Role::MainHeap, Cell::Varies)]);
        assert!(one("main-heap.anon", Some(&varying)).2.contains("varies"));
        assert!(
            one("main-heap.anon", Some(&Snapshot::default()))
                .2
                .contains("no checkpoint `b`")
        );
    }

    #[test]
    fn a_metric_row_of_the_approved_snapshot_is_a_reference() {
        let mut snapshot = approved(&[]);
        let row = Row {
            reserved: Cell::Value(100),
            ..Row::default()
        };
        snapshot.checkpoints[0].rows = BTreeMap::from([(RowKey::Metric(metric("own.anon")), row)]);
        let case = case(&[("own.anon", growth(GrowthBound::Absolute(0), Over::Approved))]);
        let now = map(&[(Role::MainHeap, 4096, Some(101))]);
        assert_eq!(verdicts(&case, &now, &now, Some(&snapshot))[0].1, Verdict::Over);
    }

    proptest! {
        #[test]
        fn raising_a_limit_adds_no_violation(
            max in any::<u64>(), raise in any::<u64>(), by in any::<u64>(), basis_points in any::<u64>(),
            before in 0_u64..1 << 40, now in 0_u64..1 << 40, reference in any::<u64>()
        ) {
            let (before, now) = (map(&[(Role::MainHeap, before, Some(before))]), map(&[(Role::MainHeap, now, Some(now))]));
            let held = approved(&[(Role::MainHeap, Cell::Value(reference))]);
            let broken = |limit: Limit| {
                let found = verdicts(&case(&[("main-heap.anon", limit)]), &before, &now, Some(&held));
                found.iter().filter(|(_, verdict, _)| *verdict != Verdict::Within).count()
            };
            let limit = |max: u64| Limit { max: bound(max), ..Limit::default() };
            prop_assert!(broken(limit(max.saturating_add(raise))) <= broken(limit(max)));
            let lower_min = |min| Limit { min: bound(min), ..Limit::default() };
            prop_assert!(broken(lower_min(max.saturating_sub(raise))) <= broken(lower_min(max)));
            for over in [Over::Approved, Over::Checkpoint("a".to_owned())] {
                let absolute = |by| growth(GrowthBound::Absolute(by), over.clone());
                prop_assert!(broken(absolute(by.saturating_add(raise))) <= broken(absolute(by)));
                let percent = |basis_points| growth(GrowthBound::Percent { basis_points }, over.clone());
                prop_assert!(broken(percent(basis_points.saturating_add(raise))) <= broken(percent(basis_points)));
            }
        }
    }
}
