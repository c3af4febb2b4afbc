//! What `show` calls the total, held against `smaps_rollup` of the same stopped process: python3, sqlite3 and a JVM at places that
//! nobody prepared.

use std::fs;
use std::os::unix::fs::FileExt as _;
use std::sync::Mutex;

use memcheck_harness::capture;
use memcheck_harness::model::{At, Cancel, Case, CheckpointSpec, Defaults, Plan, Target};
use memcheck_harness::pipeline::{self, Event, Options};

use crate::stop::visit;
use crate::tools::system_program;

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

#[test]
fn a_jvm() {
    totals_are_the_kernels("java", &["-version"]);
}

/// Every resident byte of a process, as `show --strings` and `--dump` read it: the bytes are those of `/proc/PID/mem`, and the
/// kernel's figures are the same before and after.
#[test]
fn reading_contents_changes_nothing() {
    let program = system_program("python3");
    let args = ["-S", "-c", "x = [bytes(100) for i in range(100000)]"];
    visit(&program, &args, &[At::Exit], |_, stopped, _, map| {
        let pid = stopped.pid();
        let figures = || {
            let text = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap();
            let of = |name: &str| text.lines().find(|line| line.starts_with(name)).unwrap().to_owned();
            ["Rss:", "Anonymous:", "Swap:"].map(of)
        };
        let memory = fs::File::open(format!("/proc/{pid}/mem")).unwrap();
        let (before, mut all) = (figures(), 0);
        let reader = capture::content_reader(pid, map).unwrap();
        for piece in &map.pieces {
            let counted = reader.read(piece, &mut |offset, bytes| {
                let mut theirs = vec![0; bytes.len()];
                memory.read_exact_at(&mut theirs, piece.start + offset).unwrap();
                assert!(theirs == bytes, "{:x} + {offset:x}", piece.start);
                Ok(())
            });
            let counted = counted.unwrap();
            let resident = piece.resident_bytes.unwrap();
            assert_eq!(counted.read_bytes + counted.unreadable_bytes, resident, "{:x}", piece.start);
            all += counted.read_bytes;
        }
        assert!(all > 4_000_000, "{all}");
        assert_eq!(figures(), before);
    });
}
