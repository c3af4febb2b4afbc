//! What `show` calls the total, held against `smaps_rollup` of the same stopped process: python3 and sqlite3 at places that
//! nobody prepared.

use std::fs;
use std::sync::Mutex;

use memcheck_harness::model::{At, Cancel, Case, CheckpointSpec, Defaults, Plan, Target};
use memcheck_harness::pipeline::{self, Event, Options};

/// As `cargo memcheck show` does it: as is.
fn totals_are_the_kernels(program: &str, args: &[&str]) {
    let target = Target::Command {
        program: program.to_owned(),
    };
    let mut case = Case::new(program, std::env::temp_dir(), target);
    case.args = args.iter().map(|arg| (*arg).to_owned()).collect();
    case.as_is = true;
    case.checkpoints = [
        ("main", At::Main),
        ("malloc", At::Function("malloc".to_owned())),
        ("exit", At::Exit),
    ]
    .map(|(name, at)| CheckpointSpec::new(name, at))
    .into();
    case.checkpoints[1].hit = 1000;
    let plan = Plan {
        root: std::env::temp_dir(),
        file: "memcheck.toml".into(),
        is_cargo: false,
        data_dir: std::env::temp_dir(),
        defaults: Defaults::default(),
        cases: vec![case],
        cases_in_file: 1,
        partition: None,
    };
    let options = Options {
        jobs: 1,
        write_pending: false,
        pending_dir: None,
        inherited: Vec::new(),
        ci: false,
        today: memcheck_harness::capture::today(),
    };
    let seen = Mutex::new(0);
    let reports = pipeline::observe(&plan, None, &options, &Cancel::new(), &|event| {
        let Event::Stopped {
            checkpoint, pid, map, ..
        } = event
        else {
            return;
        };
        let text = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap();
        let total = |name: &str| -> u64 {
            let line = text.lines().find_map(|line| line.strip_prefix(name)).unwrap();
            line.trim_start_matches(':')
                .trim()
                .trim_end_matches(" kB")
                .parse::<u64>()
                .unwrap()
                << 10
        };
        let all = map.sum(|_| true);
        assert_eq!(
            (all.resident, all.anon),
            (Some(total("Rss")), Some(total("Anonymous"))),
            "{program}, stop {checkpoint}: {text}"
        );
        assert_eq!(map.process.resident, all.resident);
        assert_eq!(map.process.reserved, Some(all.reserved));
        assert_eq!(map.process.swap, Some(total("Swap")));
        *seen.lock().unwrap() += 1;
    })
    .unwrap();
    assert!(reports[0].problem.is_none(), "{:?}", reports[0].problem);
    assert_eq!(*seen.lock().unwrap(), 3);
}

#[test]
fn python3() {
    totals_are_the_kernels(
        "python3",
        &["-c", "import json, threading; x = [bytes(100) for i in range(100000)]"],
    );
}

#[test]
fn sqlite3() {
    totals_are_the_kernels(
        "sqlite3",
        &[":memory:", "create table t(x); insert into t values (randomblob(5000000));"],
    );
}
