//! The states of a case from its maps: which rows a snapshot has. An ordered, append-only list of named, pure steps works
//! on all rows there are; each takes out or evens what a snapshot must not depend on. A new rule is a new step at the end.

use std::collections::{BTreeMap, BTreeSet};

use crate::model::{
    Case, Cell, CheckpointSpec, Hardening, MemoryMap, Metric, Name, Relro, Role, Row, RowKey, Snapshot, SnapshotElf,
    SnapshotOptions, StackState, State, Unit,
};

/// Up to this many bytes `main-stack.anon` is recorded as this many; the module's doc says why.
pub const MAIN_STACK_FLOOR_BYTES: u64 = 64 << 10;

/// Data and bss of objects are shown from this many bytes of address space on.
pub const LARGE_SEGMENT_BYTES: u64 = 256 << 10;

/// The normalised states of a case: only checkpoints that take part in the snapshot. `main_stack` is false where the launch
/// could not make the main stack repeatable (address randomisation could not be turned off): its row is then left out, as
/// it is for a case that runs as is.
#[must_use]
pub fn snapshot(case: &Case, maps: &[(usize, &MemoryMap)], main_stack: bool) -> Snapshot {
    let taken: Vec<(&CheckpointSpec, &MemoryMap)> = maps
        .iter()
        .filter_map(|(index, map)| {
            let spec = case.checkpoints.get(*index)?;
            spec.snapshot.then_some((spec, *map))
        })
        .collect();
    let context = Context {
        options: &case.snapshot,
        main_stack: main_stack && !case.as_is,
    };
    Snapshot {
        case: case.name.clone(),
        platform: file_names(taken.iter().flat_map(|(_, map)| &map.platform_objects), platform_name),
        libraries: file_names(taken.iter().flat_map(|(_, map)| &map.own_objects), |name| {
            Some(name.to_owned())
        }),
        hardening: taken
            .iter()
            .find_map(|(_, map)| map.hardening)
            .map_or_else(String::new, hardening_line),
        checkpoints: taken
            .iter()
            .map(|(spec, map)| State {
                name: spec.name.clone(),
                child: spec.child.clone(),
                rows: rows(map, &context),
            })
            .collect(),
    }
}

struct Context<'a> {
    options: &'a SnapshotOptions,
    main_stack: bool,
}

type Rows = BTreeMap<RowKey, Row>;

/// A named step; the name is for tests and decisions.
type Step = (&'static str, fn(&Context<'_>, &mut Rows));

const STEPS: [Step; 5] = [
    ("own-only", own_only),
    ("large-segments-only", large_segments_only),
    ("repeatable-main-stack", repeatable_main_stack),
    ("main-stack-floor", main_stack_floor),
    ("chosen-roles", chosen_roles),
];

fn rows(map: &MemoryMap, context: &Context<'_>) -> Rows {
    let mut rows: Rows = map
        .by_role()
        .into_iter()
        .map(|(role, sum)| {
            let row = Row {
                count: Cell::Value(sum.count),
                reserved: Cell::Value(sum.reserved),
                anon: sum.anon.map_or(Cell::Absent, Cell::Value),
            };
            (RowKey::Role(role), row)
        })
        .collect();
    for (_, step) in STEPS {
        step(context, &mut rows);
    }
    let threads = map.threads.iter().filter(|thread| thread.state == StackState::Live).count();
    rows.insert(
        RowKey::Threads,
        Row {
            count: Cell::Value(threads as u64),
            ..Row::default()
        },
    );
    for metric in &context.options.metrics {
        rows.insert(RowKey::Metric(metric.clone()), metric_row(map, metric));
    }
    rows
}

fn metric_row(map: &MemoryMap, metric: &Metric) -> Row {
    let cell = map.metric(metric).map_or(Cell::Absent, Cell::Value);
    let mut row = Row::default();
    match metric.unit() {
        Unit::Count => row.count = cell,
        Unit::Bytes => row.reserved = cell,
    }
    row
}

fn retain(rows: &mut Rows, keep: impl Fn(Role, &Row) -> bool) {
    rows.retain(|key, row| match key {
        RowKey::Role(role) => keep(*role, row),
        RowKey::Threads | RowKey::Metric(_) => true,
    });
}

fn own_only(_: &Context<'_>, rows: &mut Rows) {
    retain(rows, |role, _| role.is_own());
}

fn large_segments_only(context: &Context<'_>, rows: &mut Rows) {
    retain(rows, |role, row| {
        let with_sizes = if role < Role::LibHeaders {
            context.options.elf == SnapshotElf::Sizes
        } else {
            context.options.library_sizes
        };
        let is_data = matches!(role, Role::ExeData | Role::ExeBss | Role::LibData | Role::LibBss);
        let is_large = matches!(row.reserved, Cell::Value(bytes) if bytes >= LARGE_SEGMENT_BYTES);
        !role.is_elf() || with_sizes || (is_data && is_large)
    });
}

fn repeatable_main_stack(context: &Context<'_>, rows: &mut Rows) {
    retain(rows, |role, _| role != Role::MainStack || context.main_stack);
}

fn main_stack_floor(_: &Context<'_>, rows: &mut Rows) {
    if let Some(row) = rows.get_mut(&RowKey::Role(Role::MainStack))
        && let Cell::Value(bytes) = &mut row.anon
    {
        *bytes = (*bytes).max(MAIN_STACK_FLOOR_BYTES);
    }
}

fn chosen_roles(context: &Context<'_>, rows: &mut Rows) {
    if let Some(roles) = &context.options.roles {
        retain(rows, |role, _| roles.contains(&role));
    }
}

fn file_names<'a>(names: impl Iterator<Item = &'a Name>, normal: impl Fn(&str) -> Option<String>) -> Vec<String> {
    // Most names are those of every checkpoint.
    let mut names: Vec<&Name> = names.collect();
    names.sort_unstable();
    names.dedup();
    let names: BTreeSet<String> = names
        .into_iter()
        // What is not UTF-8 is kept in its escaped form.
        .filter_map(|name| normal(&name.as_str().map_or_else(|| name.to_string(), str::to_owned)))
        .filter(|name| !name.is_empty())
        .collect();
    names.into_iter().collect()
}

/// Cut after the major version; none for what the kernel maps (`[vdso]`, `[vvar]`).
fn platform_name(name: &str) -> Option<String> {
    if name.starts_with('[') || name.starts_with("linux-vdso") || name.starts_with("linux-gate") {
        return None;
    }
    let end = name
        .find(".so.")
        .and_then(|at| name[at + 4..].find('.').map(|dot| at + 4 + dot))
        .unwrap_or(name.len());
    Some(name[..end].to_owned())
}

fn hardening_line(facts: Hardening) -> String {
    let relro = match facts.relro {
        Relro::No => "relro none",
        Relro::Partial => "relro partial",
        Relro::Full => "relro full",
    };
    let canary = match facts.canary {
        Some(true) => "canary",
        Some(false) => "no canary",
        None => "canary unknown",
    };
    let pie = if facts.pie { "pie" } else { "no-pie" };
    let nx = if facts.nx { "nx" } else { "no nx" };
    [pie, relro, nx, canary].join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{At, Confidence, Evidence, Perms, Piece, ProcessTotals, Target, ThreadFact};

    fn case() -> Case {
        let program = "true".to_owned();
        let mut case = Case::new("c", "/p", Target::Command { program });
        case.checkpoints = vec![CheckpointSpec::new("a", At::Main), CheckpointSpec::new("b", At::Exit)];
        case
    }

    /// One piece per (role, reserved KiB, anon KiB), each an item of its own.
    fn map(rows: &[(Role, u64, Option<u64>)]) -> MemoryMap {
        let mut start = 0x10_0000;
        let pieces = rows.iter().enumerate().map(|(item, (role, reserved, anon))| {
            let piece = Piece {
                start,
                end: start + (reserved << 10),
                role: *role,
                item,
                perms: Perms::default(),
                resident_bytes: None,
                anon_bytes: anon.map(|kib| kib << 10),
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
        });
        MemoryMap {
            page_bytes: 4096,
            pieces: pieces.collect(),
            items: Vec::new(),
            threads: vec![ThreadFact {
                tid: Some(1),
                name: None,
                main: true,
                state: StackState::Live,
                user_stack: false,
                stack: None,
                guard_bytes: None,
                deepest_bytes: None,
                start_address: None,
                start_function: None,
            }],
            by_mappings: false,
            thread_lists_known: true,
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

    fn labels(case: &Case, map: &MemoryMap, main_stack: bool) -> Vec<String> {
        let snapshot = snapshot(case, &[(0, map)], main_stack);
        snapshot.checkpoints[0]
            .rows
            .keys()
            .map(|key| super::super::render::label(key).to_owned())
            .collect()
    }

    #[test]
    fn platform_and_small_segments_have_no_rows_unless_asked_for() {
        let map = map(&[
            (Role::ExeText, 999, Some(0)),
            (Role::ExeData, 255, Some(4)),
            (Role::ExeBss, 256, Some(4)),
            (Role::LibData, 8, Some(4)),
            (Role::LibBss, 512, Some(4)),
            (Role::Platform, 2000, Some(90)),
            (Role::Memcheck, 4, Some(4)),
            (Role::Unclassified, 4, Some(4)),
        ]);
        let mut case = case();
        assert_eq!(labels(&case, &map, true), ["threads", "exe.bss", "lib.bss", "unclassified"]);
        case.snapshot.elf = SnapshotElf::Sizes;
        assert_eq!(
            labels(&case, &map, true),
            ["threads", "exe.text", "exe.data", "exe.bss", "lib.bss", "unclassified"]
        );
        case.snapshot.library_sizes = true;
        case.snapshot.roles = Some(vec![Role::LibData, Role::ExeData]);
        assert_eq!(labels(&case, &map, true), ["threads", "exe.data", "lib.data"]);
    }

    #[test]
    fn the_main_stack_has_a_floor_and_is_left_out_where_it_cannot_repeat() {
        let anon = |kib| {
            let map = map(&[(Role::MainStack, 132, Some(kib))]);
            snapshot(&case(), &[(0, &map)], true).checkpoints[0].rows[&RowKey::Role(Role::MainStack)].anon
        };
        assert_eq!(anon(12), Cell::Value(64 << 10));
        assert_eq!(anon(64), Cell::Value(64 << 10));
        assert_eq!(anon(68), Cell::Value(68 << 10));
        let map = map(&[(Role::MainStack, 132, Some(12))]);
        assert_eq!(labels(&case(), &map, false), ["threads"]);
        let mut as_is = case();
        as_is.as_is = true;
        assert_eq!(labels(&as_is, &map, true), ["threads"]);
    }

    #[test]
    fn metrics_and_unknown_values_keep_their_rows() {
        let map = map(&[(Role::MainHeap, 132, None)]);
        let mut case = case();
        case.snapshot.metrics = ["own.reserved", "main-heap.used", "threads.count"]
            .map(|name| Metric::parse(name).unwrap())
            .to_vec();
        let rows = snapshot(&case, &[(0, &map)], true).checkpoints.remove(0).rows;
        let metric = |name| &rows[&RowKey::Metric(Metric::parse(name).unwrap())];
        assert_eq!(metric("own.reserved").reserved, Cell::Value(132 << 10));
        assert_eq!(metric("main-heap.used"), &Row::default());
        assert_eq!(metric("threads.count").count, Cell::Value(1));
        assert_eq!(rows[&RowKey::Role(Role::MainHeap)].anon, Cell::Absent);
    }

    #[test]
    fn only_checkpoints_of_the_snapshot_take_part() {
        let mut case = case();
        case.checkpoints[0].snapshot = false;
        let map = map(&[]);
        let names: Vec<_> = snapshot(&case, &[(0, &map), (1, &map)], true)
            .checkpoints
            .into_iter()
            .map(|state| state.name)
            .collect();
        assert_eq!(names, ["b"]);
    }

    #[test]
    fn platform_names_end_at_the_major_version() {
        for (name, normal) in [
            ("libc.so.6", Some("libc.so.6")),
            ("libstdc++.so.6.0.30", Some("libstdc++.so.6")),
            ("libm-2.31.so", Some("libm-2.31.so")),
            ("[vdso]", None),
        ] {
            assert_eq!(platform_name(name).as_deref(), normal);
        }
    }

    #[test]
    fn the_hardening_line_says_all_four() {
        let facts = |relro, nx, pie, canary| hardening_line(Hardening { relro, nx, pie, canary });
        assert_eq!(facts(Relro::Full, true, true, Some(true)), "pie, relro full, nx, canary");
        assert_eq!(
            facts(Relro::No, false, false, Some(false)),
            "no-pie, relro none, no nx, no canary"
        );
        assert_eq!(
            facts(Relro::Partial, true, false, None),
            "no-pie, relro partial, nx, canary unknown"
        );
    }

    #[test]
    fn every_step_changes_nothing_the_second_time() {
        let options = SnapshotOptions {
            roles: Some(vec![Role::MainStack, Role::ExeBss]),
            ..SnapshotOptions::default()
        };
        for main_stack in [true, false] {
            let context = Context {
                options: &options,
                main_stack,
            };
            for (name, step) in STEPS {
                let mut once: Rows = Role::ALL
                    .into_iter()
                    .map(|role| (RowKey::Role(role), Row::default()))
                    .collect();
                step(&context, &mut once);
                let mut twice = once.clone();
                step(&context, &mut twice);
                assert_eq!(once, twice, "{name}");
            }
        }
    }
}
