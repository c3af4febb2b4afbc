//! Pending snapshots of ours in a throw-away cargo workspace: cargo-insta lists them, and accepting with it leaves the same
//! bytes as accepting with ours.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use memcheck_harness::model::{At, Case, CheckpointSpec, Defaults, Environment, Place, Plan, Snapshot, SnapshotStatus, Target};
use memcheck_harness::{compare, normalize};
use tempfile::TempDir;

use crate::stop::{probe, visit};
use crate::tools::{built, command, output};

const WRITE: compare::Options<'_> = compare::Options {
    write: true,
    pending_dir: None,
};

/// A virtual workspace of two packages, as cargo sees it.
fn workspace(root: &Path) {
    let write = |path: &str, text: &str| {
        let path = root.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    };
    write("Cargo.toml", "[workspace]\nresolver = \"2\"\nmembers = [\"a\", \"b\"]\n");
    for package in ["a", "b"] {
        let manifest = format!("[package]\nname = \"{package}\"\nversion = \"0.1.0\"\nedition = \"2021\"\n");
        write(&format!("{package}/Cargo.toml"), &manifest);
        write(&format!("{package}/src/lib.rs"), "");
    }
    write("memcheck.toml", "");
}

fn case(root: &Path, package: &str, name: &str) -> Case {
    let target = Target::Command {
        program: "threads".to_owned(),
    };
    let mut case = Case::new(name, root.join(package), target);
    case.package = Some(package.to_owned());
    case.checkpoints = ["start", "spawned"].map(|name| CheckpointSpec::new(name, probe(name))).into();
    case.place = Place {
        file: "memcheck.toml".to_owned(),
        line: 12,
        column: 1,
    };
    case
}

fn plan(root: &Path) -> Plan {
    let cases = vec![
        case(root, "a", "threads"),
        case(root, "a", "threads-2.x"),
        case(root, "b", "other"),
    ];
    Plan {
        root: root.to_path_buf(),
        file: "memcheck.toml".into(),
        is_cargo: true,
        data_dir: root.join("target/memcheck-data"),
        defaults: Defaults {
            environment_dir: Some(root.join("a")),
            ..Defaults::default()
        },
        cases_in_file: cases.len(),
        partition: None,
        cases,
    }
}

fn measured(threads: &str, cases: &[Case]) -> Vec<Snapshot> {
    let at: Vec<At> = cases[0].checkpoints.iter().map(|spec| spec.at.clone()).collect();
    let mut maps = Vec::new();
    visit(built("threads"), &[threads, "unjoined"], &at, |index, _, _, map| {
        maps.push((index, map.clone()))
    });
    let maps: Vec<_> = maps.iter().map(|(index, map)| (*index, map)).collect();
    cases.iter().map(|case| normalize::snapshot(case, &maps, true)).collect()
}

/// Leaves a pending file for each case, and one for the environment of record.
fn leave_pending(plan: &Plan, snapshots: &[Snapshot], expected: SnapshotStatus) {
    for (case, snapshot) in plan.cases.iter().zip(snapshots) {
        let approved = compare::approved(case).unwrap();
        let outcome = compare::compare(plan, case, snapshot, approved.as_ref(), WRITE);
        assert_eq!((outcome.status, outcome.pending_error), (expected, None));
        assert!(outcome.pending.is_some());
    }
    let mut facts = BTreeMap::from([("kernel".to_owned(), "6.1 \"quoted\": #1".to_owned())]);
    facts.insert("state".to_owned(), format!("{expected:?}"));
    compare::propose_environment(plan, &Environment { facts }, None).unwrap();
}

fn cargo_insta(root: &Path, subcommand: &[&str]) -> String {
    let mut cargo = command("cargo-insta");
    cargo.args(subcommand).arg("--workspace").current_dir(root);
    for (name, _) in std::env::vars_os() {
        let text = name.to_string_lossy();
        if text.starts_with("INSTA_") || text == "CI" || (text.starts_with("CARGO") && text != "CARGO_HOME") {
            cargo.env_remove(&name);
        }
    }
    output(&mut cargo)
}

/// Path below the root → bytes, of all files of ours.
fn snapshots(root: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut found = BTreeMap::new();
    for package in ["a", "b"] {
        let dir = format!("{package}/memcheck/snapshots");
        for entry in fs::read_dir(root.join(&dir)).unwrap() {
            let path = entry.unwrap().path();
            let name = format!("{dir}/{}", path.file_name().unwrap().display());
            found.insert(name, fs::read(path).unwrap());
        }
    }
    found
}

fn accept_with_ours(plan: &Plan) {
    for pending in compare::pending(plan, compare::Options::default()).unwrap() {
        compare::accept(&pending).unwrap();
    }
}

#[test]
fn cargo_insta_finds_accepts_and_rejects_what_we_leave() {
    let dirs = [TempDir::new().unwrap(), TempDir::new().unwrap()];
    let [theirs, ours] = [&dirs[0], &dirs[1]].map(|dir| dir.path().canonicalize().unwrap());
    let plans = [plan(&theirs), plan(&ours)];
    workspace(&theirs);
    workspace(&ours);
    // Round 0: nothing approved yet. Round 1: changes of what round 0 approved.
    for (threads, status) in [("1", SnapshotStatus::New), ("3", SnapshotStatus::Differs)] {
        let measured = measured(threads, &plans[0].cases);
        for plan in &plans {
            leave_pending(plan, &measured, status);
        }
        let before = snapshots(&theirs);
        assert_eq!(before, snapshots(&ours));
        let pending: Vec<&String> = before.keys().filter(|name| name.ends_with(".new")).collect();
        assert_eq!(pending.len(), 4, "{pending:?}");
        // It lists each by the file that it would become; what follows are hints.
        let text = cargo_insta(&theirs, &["pending-snapshots"]);
        let mut listed: Vec<&str> = text.lines().filter_map(|line| line.strip_prefix("  ")).collect();
        listed.sort_unstable();
        let targets: Vec<&str> = pending.iter().map(|name| name.trim_end_matches(".new")).collect();
        assert_eq!(listed, targets, "{text}");

        cargo_insta(&theirs, &["accept"]);
        accept_with_ours(&plans[1]);
        let after = snapshots(&theirs);
        assert_eq!(after.len(), 4);
        for (name, bytes) in snapshots(&ours) {
            let (a, b) = (String::from_utf8_lossy(&after[&name]), String::from_utf8_lossy(&bytes));
            assert_eq!(a, b, "{name}: cargo insta (left), ours (right)");
        }
    }

    // What cargo-insta accepted is the same to us, and what it rejects is gone.
    let again = measured("3", &plans[0].cases);
    for (case, snapshot) in plans[0].cases.iter().zip(&again) {
        let approved = compare::approved(case).unwrap();
        let outcome = compare::compare(&plans[0], case, snapshot, approved.as_ref(), WRITE);
        assert_eq!(outcome.status, SnapshotStatus::Same, "{}", outcome.diff);
    }
    let approved = snapshots(&theirs);
    leave_pending(&plans[0], &measured("2", &plans[0].cases), SnapshotStatus::Differs);
    cargo_insta(&theirs, &["reject"]);
    assert_eq!(snapshots(&theirs), approved);
}
