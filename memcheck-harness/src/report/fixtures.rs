//! Fabricated runs for the tests of this module: what a pipeline would hand over, made from literals.

use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;
use std::time::Duration;

use crate::explain;
use crate::model::{
    AppliedSetting, CaseReport, Cell, CheckpointReport, Confidence, ElfResult, Environment, EnvironmentStatus, Evidence, Item,
    LimitResult, MemoryMap, Metric, Name, Perms, Piece, Place, Problem, ProblemKind, ProcessTotals, Role, Row, RowKey, RunReport,
    SnapshotOutcome, SnapshotStatus, StackState, State, ThreadFact, Verdict,
};

pub(crate) const KIB: u64 = 1024;

/// What a printer wrote.
pub(crate) fn print(printer: impl FnOnce(&mut dyn io::Write) -> io::Result<()>) -> String {
    let mut out = Vec::new();
    printer(&mut out).unwrap();
    String::from_utf8(out).unwrap()
}

/// A map of items, each of one piece: role, reserved KiB, anonymous KiB.
pub(crate) fn map(items: &[(Role, u64, u64)]) -> MemoryMap {
    let mut start = 0x1000_0000;
    let mut pieces = Vec::new();
    for (item, (role, reserved, anon)) in items.iter().enumerate() {
        pieces.push(Piece {
            start,
            end: start + reserved * KIB,
            role: *role,
            item,
            perms: Perms::default(),
            resident_bytes: Some(anon * KIB),
            anon_bytes: Some(anon * KIB),
            swap_bytes: Some(0),
            proportional_bytes: None,
            committed: None,
            noreserve: None,
            evidence: Evidence {
                text: "".into(),
                confidence: Confidence::Certain,
            },
        });
        start += reserved * KIB;
    }
    MemoryMap {
        page_bytes: 4096,
        pieces,
        items: items
            .iter()
            .map(|(role, ..)| Item {
                role: *role,
                subject: Name::default(),
                tid: None,
            })
            .collect(),
        threads: vec![thread("main", true, StackState::Live)],
        by_mappings: false,
        thread_lists_known: true,
        arenas: Some(Vec::new()),
        malloc: None,
        breakpoint_anon_bytes: 0,
        process: ProcessTotals::default(),
        tree: None,
        hardening: None,
        platform_objects: Default::default(),
        own_objects: Default::default(),
        needed: Default::default(),
        stack_limit_bytes: Some(8192 * KIB),
        notes: Vec::new(),
    }
}

pub(crate) fn thread(name: &str, main: bool, state: StackState) -> ThreadFact {
    ThreadFact {
        tid: None,
        name: (state == StackState::Live).then(|| Name::from(name)),
        main,
        state,
        user_stack: false,
        stack: None,
        guard_bytes: None,
        deepest_bytes: None,
        start_address: None,
        start_function: None,
    }
}

/// The state a snapshot has of a map.
pub(crate) fn state(map: &MemoryMap) -> State {
    let threads = map.threads.iter().filter(|thread| thread.state == StackState::Live).count() as u64;
    let mut rows = BTreeMap::from([(
        RowKey::Threads,
        Row {
            count: Cell::Value(threads),
            ..Row::default()
        },
    )]);
    for (role, sum) in map.by_role() {
        let row = Row {
            count: Cell::Value(sum.count),
            reserved: Cell::Value(sum.reserved),
            anon: sum.anon.map_or(Cell::Absent, Cell::Value),
        };
        rows.insert(RowKey::Role(role), row);
    }
    State {
        name: String::new(),
        child: None,
        rows,
    }
}

pub(crate) fn limit(metric: &str, limit: u64, value: Option<u64>, line: u32) -> LimitResult {
    LimitResult {
        metric: Metric::parse(metric).unwrap(),
        rule: "max".to_owned(),
        limit: Some(limit),
        reference: None,
        value,
        origin: Place {
            file: "memcheck.toml".to_owned(),
            line,
            column: 1,
        },
        verdict: match value {
            None => Verdict::Unknown,
            Some(value) if value > limit => Verdict::Over,
            Some(_) => Verdict::Within,
        },
        reason: String::new(),
    }
}

/// A checkpoint with its changes and causes against an approved map.
pub(crate) fn checkpoint(name: &str, before: Option<&MemoryMap>, now: MemoryMap, limits: Vec<LimitResult>) -> CheckpointReport {
    let (old, new) = (before.map(state), state(&now));
    let changes = old.as_ref().map_or(Vec::new(), |old| explain::changes(old, &new));
    let has_cause = !changes.is_empty() || limits.iter().any(|limit| limit.verdict.is_broken());
    CheckpointReport {
        name: name.to_owned(),
        place: Place::default(),
        at: format!("probe {name}"),
        child: None,
        causes: if has_cause {
            explain::causes(old.as_ref(), &new, &now, &limits)
        } else {
            Vec::new()
        },
        changes,
        map: now,
        limits,
        capture: None,
    }
}

/// A case that passed at one checkpoint.
pub(crate) fn case(name: &str) -> CaseReport {
    let same = map(&[(Role::MainHeap, 132, 4)]);
    CaseReport {
        target: "C threads.c".to_owned(),
        duration: Duration::from_millis(21),
        checkpoints: vec![checkpoint("start", Some(&same), same.clone(), Vec::new())],
        checkpoints_planned: 1,
        snapshot: SnapshotOutcome {
            path: PathBuf::from(format!("memcheck/snapshots/{name}.snap")),
            runs: 1,
            ..SnapshotOutcome::none(SnapshotStatus::Same)
        },
        ..CaseReport::named(name)
    }
}

/// The case with a broken limit.
pub(crate) fn broken(mut case: CaseReport) -> CaseReport {
    case.checkpoints[0].limits.push(limit("main-heap.count", 0, Some(1), 3));
    case
}

pub(crate) fn problem(mut case: CaseReport, kind: ProblemKind) -> CaseReport {
    case.problem = Some(Problem {
        kind,
        title: "checkpoint `spawned` was not reached".to_owned(),
        details: Vec::new(),
    });
    case
}

pub(crate) fn snapshot(mut case: CaseReport, status: SnapshotStatus) -> CaseReport {
    case.snapshot.status = status;
    case.snapshot.rows = usize::from(status == SnapshotStatus::Differs) * 3;
    case
}

pub(crate) fn run(cases: Vec<CaseReport>) -> RunReport {
    RunReport {
        schema: RunReport::SCHEMA,
        complete: true,
        tool_version: "0.1.0".to_owned(),
        environment: Environment::default(),
        environment_status: EnvironmentStatus {
            recorded: Some("environment.snap".to_owned()),
            differences: Vec::new(),
        },
        cases,
        interrupted: None,
        not_selected: 0,
        ci: false,
        partition: None,
        captures: None,
        waivers: Vec::new(),
        revision: None,
        switches: Vec::new(),
        job: None,
    }
}

/// One more unjoined thread than approved, over a budget.
pub(crate) fn unjoined() -> RunReport {
    let exited = (Role::ThreadStackExited, 8192, 24);
    let guard = (Role::Guard, 4, 0);
    let heap = (Role::MainHeap, 132, 4);
    let with = |items: &[(Role, u64, u64)], ended: usize| {
        let mut map = map(items);
        map.threads.extend((0..ended).map(|_| thread("", false, StackState::Exited)));
        map
    };
    let start = with(&[heap], 0);
    let before = with(&[heap, exited, guard], 1);
    let now = with(&[heap, exited, exited, guard, guard], 2);
    let limits = vec![limit("thread-stack.exited.count", 1, Some(2), 8)];
    let mut case = case("threads-unjoined");
    case.checkpoints = vec![
        checkpoint("start", Some(&start), start.clone(), Vec::new()),
        checkpoint("spawned", Some(&before), now, limits),
    ];
    case.checkpoints_planned = 2;
    case.snapshot.status = SnapshotStatus::Differs;
    case.snapshot.rows = 2;
    case.snapshot.diff = "-  guard  +1\n+  guard  +2\n".to_owned();
    case.settings = [("aslr", "off"), ("thp", "off"), ("environment", "fixed"), ("cpus", "2")]
        .map(|(name, value)| AppliedSetting {
            name: name.to_owned(),
            value: value.to_owned(),
            refused: None,
        })
        .to_vec();
    run(vec![case])
}

/// A case whose executable breaks one demand and hides the other.
pub(crate) fn hardened() -> RunReport {
    let result = |rule: &str, wanted: &str, found: &str, verdict: Verdict, reason: &str| ElfResult {
        rule: rule.to_owned(),
        object: Name::from("/p/server"),
        wanted: wanted.to_owned(),
        found: found.to_owned(),
        verdict,
        reason: reason.to_owned(),
        origin: Place {
            file: "memcheck.toml".to_owned(),
            line: 4,
            column: 1,
        },
    };
    let mut case = case("server");
    case.elf = vec![
        result("elf.relro", "full", "none", Verdict::Over, ""),
        result("elf.canary", "yes", "", Verdict::Unknown, "it has no symbol table that tells"),
        result("elf.wx", "0", "0", Verdict::Within, ""),
    ];
    run(vec![case])
}
