//! Whole files through `plan`: the example of the documentation, mistakes of every kind, merging, hostile text.

use std::path::PathBuf;
use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::error::Error;
use crate::model::{
    AfterLast, At, Bound, Case, CheckpointSpec, Children, ExpectedEnd, Growth, GrowthBound, LaunchLimits, Limit, Metric, Over,
    Package, PackageTarget, Place, ProblemKind, Profile, Role, SnapshotElf, Stdin, Target, TargetKind,
};

fn source(text: &str) -> Source {
    Source {
        root: PathBuf::from("/w"),
        path: PathBuf::from("/w/memcheck.toml"),
        text: text.to_owned(),
    }
}

fn package(name: &str, targets: &[(TargetKind, &str, &[&str])], features: &[&str]) -> Package {
    Package {
        name: name.to_owned(),
        dir: PathBuf::from(format!("/w/{name}")),
        targets: targets
            .iter()
            .map(|(kind, name, required)| PackageTarget {
                kind: *kind,
                name: (*name).to_owned(),
                required_features: required.iter().map(|&feature| feature.to_owned()).collect(),
            })
            .collect(),
        features: features.iter().map(|&feature| feature.to_owned()).collect(),
        harness_tests: Vec::new(),
    }
}

fn workspace() -> Workspace {
    Workspace {
        root: PathBuf::from("/w"),
        target_dir: PathBuf::from("/w/target"),
        packages: vec![
            package(
                "api",
                &[
                    (TargetKind::Bin, "server", &[]),
                    (TargetKind::Bin, "both", &[]),
                    (TargetKind::Example, "pool", &["extra"]),
                ],
                &["extra", "tls"],
            ),
            package(
                "tools",
                &[(TargetKind::Bin, "both", &[]), (TargetKind::Bin, "cli", &["full"])],
                &["default", "full"],
            ),
        ],
        root_package: Some("api".to_owned()),
    }
}

fn cargo(text: &str) -> Result<Plan> {
    plan(&source(text), Some(&workspace()), &Overrides::default(), 4096)
}

fn plain(text: &str) -> Result<Plan> {
    plan(&source(text), None, &Overrides::default(), 4096)
}

fn with(text: &str, overrides: &Overrides) -> Result<Plan> {
    plan(&source(text), Some(&workspace()), overrides, 4096)
}

fn metric(name: &str) -> Metric {
    Metric::parse(name).unwrap()
}

fn at(line: u32, column: u32) -> Place {
    Place {
        file: "memcheck.toml".to_owned(),
        line,
        column,
    }
}

fn max(value: u64, line: u32, column: u32) -> Limit {
    Limit {
        max: Some(Bound {
            value,
            place: at(line, column),
        }),
        ..Limit::default()
    }
}

fn probe(name: &str) -> At {
    At::Probe {
        provider: "memcheck".to_owned(),
        name: name.to_owned(),
    }
}

const EXAMPLE: &str = r#"[defaults]
profile = "memcheck"
timeout = "500ms"
own = ["/opt/vendor/**"]
budget.own.anon = "256 MiB"
env = { A = "1", B = "1" }
snapshot.tolerance.main-heap = "8 KiB"

[[case]]
name    = "threads-unjoined"
target  = { c = "examples/c/threads.c", cflags = ["-O1"] }
args    = ["2"]
env     = { MALLOC_ARENA_MAX = "2", B = "2" }
limits  = { stack = "8 MiB", nofile = 64 }
cpus    = 2
exit    = { signal = "SIGSEGV" }
after_last = "run"
snapshot.elf = "sizes"
snapshot.metrics = ["own.commit"]
snapshot.tolerance.thread-stack.live = "2 pages"

[[case.checkpoint]]
name = "spawned"
budget.thread-stack.reserved     = "16 MiB"
budget.thread-stack.exited.count = 0
budget.thread-arena.count        = { max = 2, min = 1 }

[[case.checkpoint]]
name = "done"
at   = "exit"
snapshot = false
budget.main-heap.used = { max_growth = "4 KiB", over = "spawned" }
budget.main-heap.anon = { max = "2 MiB", max_growth = "2.5%", over = "approved" }
budget.own.anon.max = "1 MiB"

[[case]]
name = "server"
package = "tools"
target = { bin = "server", features = ["tls"] }
cwd = "data"
stdin = "input.txt"
children = "ignore"
snapshot = false
[[case.checkpoint]]
name = "fn"
at = { function = "pool::grow" }
hit = 3
[[case.checkpoint]]
name = "usdt"
at = { probe = "libc:memory_heap_new" }
"#;

#[test]
fn the_documented_example_means_what_it_says() {
    let plan = cargo(EXAMPLE).unwrap();
    assert_eq!(
        (plan.root.as_path(), plan.file.as_path()),
        (Path::new("/w"), Path::new("memcheck.toml"))
    );
    assert_eq!(plan.data_dir, Path::new("/w/target/memcheck-data"));
    assert!(plan.is_cargo);
    assert_eq!(plan.defaults.own, ["/opt/vendor/**"]);
    assert_eq!(plan.cases_in_file, 2);
    let [threads, server] = plan.cases.as_slice() else {
        panic!("two cases")
    };

    assert_eq!(threads.name, "threads-unjoined");
    assert_eq!(threads.package.as_deref(), Some("api"));
    assert_eq!(threads.package_dir, Path::new("/w/api"));
    assert_eq!(threads.cwd, Path::new("/w/api"));
    assert_eq!((&threads.place, &threads.target_place), (&at(9, 1), &at(11, 11)));
    assert_eq!(
        threads.target,
        Target::C {
            sources: vec![PathBuf::from("examples/c/threads.c")],
            cflags: vec!["-O1".to_owned()],
            ldflags: Vec::new(),
            compiler: None,
        }
    );
    let env: Vec<(&str, &str)> = threads.env.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
    assert_eq!(env, [("A", "1"), ("B", "2"), ("MALLOC_ARENA_MAX", "2")]);
    assert_eq!(
        threads.limits,
        LaunchLimits {
            stack_bytes: Some(8 << 20),
            address_space_bytes: None,
            open_files: Some(64),
        }
    );
    assert_eq!((threads.args.as_slice(), threads.cpus), (&["2".to_owned()][..], Some(2)));
    assert_eq!(threads.exit, Some(ExpectedEnd::Signal("SIGSEGV".to_owned())));
    assert_eq!(
        (threads.after_last, threads.timeout),
        (AfterLast::Run, Duration::from_millis(500))
    );
    assert_eq!(
        (threads.stdin.clone(), threads.children, threads.as_is),
        (Stdin::Null, Children::Ignore, false)
    );
    assert_eq!((threads.snapshot.off, threads.snapshot.elf), (false, SnapshotElf::Sizes));
    assert_eq!(threads.snapshot.metrics, [metric("own.commit")]);
    let tolerance: Vec<_> = threads.snapshot.tolerance.clone().into_iter().collect();
    assert_eq!(tolerance, [(Role::MainHeap, 8 << 10), (Role::ThreadStackLive, 8 << 10)]);

    let [spawned, done] = threads.checkpoints.as_slice() else {
        panic!("two checkpoints")
    };
    assert_eq!(
        (spawned.name.as_str(), &spawned.at, spawned.hit, spawned.snapshot),
        ("spawned", &probe("spawned"), 1, true)
    );
    assert_eq!(spawned.place, at(22, 1));
    let limits = &spawned.limits;
    assert_eq!(limits[&metric("own.anon")], max(256 << 20, 5, 19));
    assert_eq!(limits[&metric("thread-stack.reserved")], max(16 << 20, 24, 36));
    assert_eq!(limits[&metric("thread-stack.exited.count")], max(0, 25, 36));
    let arenas = &limits[&metric("thread-arena.count")];
    assert_eq!(arenas.max.as_ref().map(|b| b.value), Some(2));
    assert_eq!(
        arenas.min,
        Some(Bound {
            value: 1,
            place: at(26, 53)
        })
    );
    assert_eq!(limits.len(), 4);

    assert_eq!((done.name.as_str(), &done.at, done.snapshot), ("done", &At::Exit, false));
    assert_eq!(done.limits[&metric("own.anon")], max(1 << 20, 34, 23));
    assert_eq!(
        done.limits[&metric("main-heap.used")].growth,
        Some(Growth {
            bound: GrowthBound::Absolute(4096),
            over: Over::Checkpoint("spawned".to_owned()),
            place: at(32, 40),
        })
    );
    let anon = &done.limits[&metric("main-heap.anon")];
    let growth = anon.growth.as_ref().unwrap();
    assert_eq!(
        (growth.bound, &growth.over),
        (GrowthBound::Percent { basis_points: 250 }, &Over::Approved)
    );
    assert_eq!(anon.max.as_ref().map(|b| b.value), Some(2 << 20));

    assert_eq!(server.package.as_deref(), Some("tools"));
    assert_eq!(server.cwd, Path::new("/w/data"));
    assert_eq!(server.stdin, Stdin::File(PathBuf::from("/w/tools/input.txt")));
    assert!(server.snapshot.off);
    assert_eq!(
        server.target,
        Target::Cargo {
            kind: TargetKind::Bin,
            name: "server".to_owned(),
            package: Some("api".to_owned()),
            features: vec!["tls".to_owned()],
            profile: Profile::Injected,
            triple: None,
        }
    );
    assert_eq!(server.checkpoints[0].at, At::Function("pool::grow".to_owned()));
    assert_eq!(server.checkpoints[0].hit, 3);
    assert_eq!(
        server.checkpoints[1].at,
        At::Probe {
            provider: "libc".to_owned(),
            name: "memory_heap_new".to_owned()
        }
    );
}

#[test]
fn each_kind_of_place_has_its_word() {
    let read = |text: &str| {
        let plan = plain(&case("", &format!("at = {text}"))).unwrap();
        let spec = &plan.cases[0].checkpoints[0];
        (spec.at.to_string(), spec.snapshot)
    };
    for (text, shown) in [
        ("{ syscall = \"pause\" }", "syscall pause"),
        (
            "{ syscall = \"prctl\", args = { 0 = 15, 1 = -1 } }",
            "syscall prctl(0 = 15, 1 = -1)",
        ),
        ("{ signal = \"SIGUSR1\" }", "signal SIGUSR1"),
        ("{ output = \"^ready$\" }", "output /^ready$/"),
        ("{ output = \"ready\", stream = \"stderr\" }", "stderr /ready/"),
        ("{ thread = \"start\" }", "start of a thread"),
        ("{ thread = \"end\", name = \"worker-1\" }", "end of thread worker-1"),
        ("{ library = \"libfoo\" }", "library libfoo"),
    ] {
        assert_eq!(read(text), (shown.to_owned(), true));
    }
    // Where they fall is a matter of time: no part of a snapshot unless they say so.
    for (text, shown) in [("{ after = \"200ms\" }", "after 200 ms"), ("\"idle\"", "idle")] {
        assert_eq!(read(text), (shown.to_owned(), false));
    }
}

#[test]
fn a_matrix_is_as_many_cases_as_it_has_runs() {
    let matrix = "matrix = { args = [[\"1\"], [\"2\"], [\"4\"]], env = { MODE = [\"a b\", \"c\"] }, unit = \"thread\" }";
    let text = case(
        &format!("args = [\"x\"]\nbudget.own.anon.max_per_unit = \"8 KiB\"\n{matrix}"),
        "",
    );
    let plan = plain(&text).unwrap();
    let runs: Vec<_> = plan
        .cases
        .iter()
        .map(|case| {
            let run = case.run.as_ref().unwrap();
            (
                case.name.as_str(),
                case.args.join(" "),
                case.env["MODE"].as_str(),
                run.number,
                run.line.as_str(),
            )
        })
        .collect();
    let name = plan.cases[0].run.as_ref().unwrap().case.clone();
    let (line_a, line_c) = (format!("{name}.a-b"), format!("{name}.c"));
    assert_eq!(runs.len(), 6);
    assert_eq!(
        runs[0],
        (
            format!("{name}.1.a-b").as_str(),
            "x 1".to_owned(),
            "a b",
            Some(1),
            line_a.as_str()
        )
    );
    assert_eq!(
        runs[5],
        (
            format!("{name}.4.c").as_str(),
            "x 4".to_owned(),
            "c",
            Some(4),
            line_c.as_str()
        )
    );
    assert!(
        plan.cases
            .iter()
            .all(|case| case.is_called(&name) && case.checkpoints[0].limits[&metric("own.anon")].per_unit.is_some())
    );
    for (matrix, said) in [
        ("matrix = { args = [\"1\"] }", "each run has a list of arguments"),
        ("matrix = { unit = \"thread\" }", "the matrix has no runs"),
        (
            "matrix = { args = [[\"a\"], [\"A\"]] }",
            "two runs of the matrix would be called",
        ),
        ("matrix = { arg = [[\"a\"]] }", "did you mean `args`?"),
        (
            "budget.own.anon.max_per_unit = \"1 B\"\nmatrix = { args = [[\"a\"], [\"b\"], [\"c\"]] }",
            "needs a matrix of at least 3 runs with a number each",
        ),
        ("budget.own.anon.max_constant = \"1 B\"", "needs a matrix of at least 3 runs"),
    ] {
        let error = plain(&case(matrix, "")).unwrap_err();
        let text = format!("{error}\n{}", error.problem().details.join("\n"));
        assert!(text.contains(said), "{matrix}: {text}");
    }
}

#[test]
fn growth_per_round_holds_for_series_alone() {
    let text = format!(
        "{}[[case.checkpoint]]\nname = \"end\"\nat = \"exit\"\n",
        case(
            "budget.own.anon = { max = \"1 MiB\", max_per_round = \"64 B\" }",
            "every = 10\nlimit = 20\nhit = 2\nwarm_up = 1"
        )
    );
    let plan = plain(&text).unwrap();
    let checkpoints = &plan.cases[0].checkpoints;
    let (first, end) = (&checkpoints[1], &checkpoints[20]);
    let of = |checkpoint: &CheckpointSpec| checkpoint.limits[&metric("own.anon")].clone();
    assert_eq!((first.name.as_str(), first.hit), ("first.11", 12));
    assert_eq!(of(first).per_round.map(|bound| bound.value), Some(64));
    assert_eq!(
        (of(end).max.map(|bound| bound.value), of(end).per_round),
        (Some(1 << 20), None)
    );
    let none = case("budget.own.anon.max_per_round = \"64 B\"", "");
    let error = plain(&none).unwrap_err().to_string();
    assert!(error.contains("no checkpoint is passed many times"), "{error}");
}

#[test]
fn a_pair_is_two_checkpoints_for_each_repetition() {
    let text = case(
        "budget.own.anon = \"1 MiB\"",
        "from = { probe = \"a\" }\nto = { returns = \"b\" }\nlimit = 2\n\
         budget.main-heap.anon = { max_growth = \"0 B\", over = \"from\" }\nhardware = true",
    );
    assert!(plain(&text).is_err(), "the end is no place for a breakpoint of the processor");
    let plan = plain(&text.replace("returns", "function")).unwrap();
    let pair: Vec<_> = plan.cases[0]
        .checkpoints
        .iter()
        .map(|one| {
            let over: Vec<String> = one
                .limits
                .values()
                .filter_map(|limit| limit.growth.as_ref())
                .map(|growth| format!("{:?}", growth.over))
                .collect();
            let flags = (one.in_turn, one.hardware, one.is_optional());
            (one.name.as_str(), one.at.to_string(), flags, one.limits.len(), over)
        })
        .collect();
    let over = |name: &str| vec![format!("Checkpoint({name:?})")];
    assert_eq!(
        pair,
        [
            ("first.1.from", "probe a".to_owned(), (false, true, false), 1, vec![]),
            (
                "first.1.to",
                "function b".to_owned(),
                (true, true, false),
                2,
                over("first.1.from")
            ),
            ("first.2.from", "probe a".to_owned(), (true, true, true), 1, vec![]),
            (
                "first.2.to",
                "function b".to_owned(),
                (true, true, true),
                2,
                over("first.2.from")
            ),
        ]
    );
}

#[test]
fn a_series_is_as_many_checkpoints_as_it_may_have_passes() {
    let text = case(
        "",
        "at = { probe = \"round\" }\nhit = 2\nevery = true\nlimit = 3\nbudget.own.anon = \"1 MiB\"",
    );
    let text = format!(
        "{text}[[case.checkpoint]]\nname = \"end\"\nat = \"exit\"\nbudget.own.anon = {{ max_growth = \"0 B\", over = \"first.2\" }}\n"
    );
    let plan = plain(&text).unwrap();
    let series: Vec<_> = plan.cases[0]
        .checkpoints
        .iter()
        .map(|one| (one.name.as_str(), one.hit, one.is_optional(), one.limits.len()))
        .collect();
    assert_eq!(
        series,
        [
            ("first.1", 2, false, 1),
            ("first.2", 3, true, 1),
            ("first.3", 4, true, 1),
            ("end", 1, false, 1)
        ]
    );
}

#[test]
fn a_checkpoint_may_be_in_a_child_or_in_each() {
    let text = case("budget.own.anon = \"1 MiB\"", "at = \"exit\"");
    let more = "[[case.checkpoint]]\nname = \"full\"\nchild = \"oom.*\"\nlimit = 2\n\
                budget.main-heap.anon = { max_growth = \"0 B\", over = \"full.1\" }\n\
                [[case.checkpoint]]\nname = \"late\"\nchild = \"log.1.2\"\n";
    // Each process has its own order: the target's exit does not end the others.
    let plan = plain(&format!("{text}{more}")).unwrap();
    let case = &plan.cases[0];
    let specs = case.checkpoints.iter();
    let within: Vec<_> = specs
        .map(|one| (one.name.as_str(), one.hit, one.at_text(), one.limits.len()))
        .collect();
    assert_eq!(
        within,
        [
            ("first", 1, "exit".to_owned(), 1),
            ("full.1", 1, "probe full in oom.1".to_owned(), 1),
            ("full.2", 1, "probe full in oom.2".to_owned(), 2),
            ("late", 1, "probe late in log.1.2".to_owned(), 1),
        ]
    );
    assert_eq!((case.children, case.child_limits.len()), (Children::Follow, 1));
    assert!(case.checkpoints.iter().skip(1).take(2).all(CheckpointSpec::is_optional));
}

/// A case with one line of its own and one line of its checkpoint.
fn case(own: &str, checkpoint: &str) -> String {
    let target = if own.contains("target") {
        ""
    } else {
        "target = { c = \"a.c\" }\n"
    };
    format!("[[case]]\nname = \"one\"\n{target}{own}\n[[case.checkpoint]]\nname = \"first\"\n{checkpoint}\n")
}

/// Text, the end of the first line, a part of the details.
fn mistakes() -> Vec<(String, &'static str, &'static str)> {
    let own = |own| case(own, "");
    let checkpoint = |text| case("", text);
    let budget = |text: &str| case("", &format!("budget.{text}"));
    let target = |text: &str| case(&format!("target = {text}"), "");
    let second = |text: &str| format!("{}[[case.checkpoint]]\n{text}\n", case("", ""));
    vec![
        // Syntax and keys.
        (
            "[[case]\n".to_owned(),
            "memcheck.toml:1:8: not valid TOML: unclosed array table, expected `]`",
            "[[case]",
        ),
        (
            "a = 1\na = 2\n".to_owned(),
            "memcheck.toml:2:1: duplicate key",
            "this key is given twice",
        ),
        (
            "[defaluts]\n".to_owned(),
            "memcheck.toml:1:2: unknown key `defaluts` in memcheck.toml",
            "did you mean `defaults`?",
        ),
        (
            "[case]\nname = \"x\"\n".to_owned(),
            "memcheck.toml:1:1: `case` must be a list of tables",
            "write [[case]]",
        ),
        (
            own("tmieout = \"1s\""),
            ":4:1: unknown key `tmieout` in [[case]]",
            "did you mean `timeout`?",
        ),
        (
            own("zzzzz = 1"),
            ":4:1: unknown key `zzzzz` in [[case]]",
            "known keys are name, package",
        ),
        (own("detach = 1"), ":4:10: `detach` must be true or false", "an integer"),
        (own("serial = 1"), ":4:10: `serial` must be true or false", "an integer"),
        (own("group = \"\""), ":4:9: `group` is empty", "write for example \"port\""),
        (
            own("serial = true\ngroup = \"port\""),
            ":5:9: `serial` and `group` are both given",
            "`serial` alone says more",
        ),
        (
            checkpoint("att = 1"),
            ":7:1: unknown key `att` in [[case.checkpoint]]",
            "did you mean `at`?",
        ),
        // Names.
        (
            "[[case]]\ntarget = { c = \"a.c\" }\n".to_owned(),
            ":1:1: [[case]] has no `name`",
            "add name = \"server\"",
        ),
        (
            own("").replace("\"one\"", "\"My Case\""),
            ":2:8: `My Case` is no name of a case",
            "write for example \"my-case\"",
        ),
        (
            own("").replace("one", "environment"),
            ":2:8: a case cannot be called `environment`",
            "environment of record",
        ),
        (
            own("").replace("one", &"x".repeat(101)),
            ":2:8: the name of a case has at most 100 characters",
            "this one has 101",
        ),
        (
            own("").repeat(2),
            ":9:8: two cases are called `one`",
            "the first one stands in line 2",
        ),
        (
            second("name = \"first\"\nat = \"exit\""),
            ":9:8: two checkpoints are called `first`",
            "stands in line 6",
        ),
        (
            second("name = \"approved\""),
            ":9:8: a checkpoint cannot be called `approved`",
            "over",
        ),
        (
            "[[case]]\nname = \"x\"\ntarget = { c = \"a.c\" }\n".to_owned(),
            ":1:1: [[case]] has no `checkpoint`",
            "add [[case.checkpoint]]",
        ),
        // Values.
        (own("timeout = 30"), ":4:11: `timeout` needs a unit", "write \"30s\""),
        (own("timeout = \"0s\""), ":4:11: `timeout` must be more than 0", "\"0s\""),
        (own("timeout = \"half\""), ":4:11: `half` is not a duration", "\"500ms\""),
        (
            own("args = \"2\""),
            ":4:8: `args` must be a list, for example [\"2\"]",
            "this is a string",
        ),
        (own("args = [2]"), ":4:9: `args` must be a string", "this is an integer"),
        (own("args = [\"a\\u0000b\"]"), ":4:9: `args` holds a NUL character", "u0000"),
        (own("env = { A = 1 }"), ":4:13: `A` must be a string", "put it in quotes"),
        (own("env = { \"A=B\" = \"1\" }"), "`A=B` cannot be a variable's name", "A=B"),
        (
            own("limits = { stack = 8388608 }"),
            "`stack` must be a size with a unit",
            "8388608 B",
        ),
        (
            own("limits = { stack = \"8 MB\" }"),
            "bad size: `8 MB` could mean powers of 1000 or of 1024: write \"MiB\"",
            "8 MB",
        ),
        (
            own("limits = { stak = \"8 MiB\" }"),
            "unknown key `stak` in limits",
            "did you mean `stack`?",
        ),
        (own("profile = \"debug\""), "cargo has no profile `debug`", "\"dev\""),
        (own("cpus = 0"), "`cpus` must lie between 1 and", "cpus = 0"),
        (own("exit = 256"), "`exit` must lie between 0 and 255", "256"),
        (own("exit = \"none\""), "`exit` cannot be `none`", "{ signal = \"SIGSEGV\" }"),
        (
            own("exit = { signal = \"SEGV\" }"),
            "there is no signal `SEGV`",
            "did you mean `SIGSEGV`?",
        ),
        (
            own("exit = { signal = \"SIGSEVG\" }"),
            "there is no signal `SIGSEVG`",
            "did you mean `SIGSEGV`?",
        ),
        (
            own("after_last = \"stop\""),
            "`after_last` must be \"kill\" or \"run\", not `stop`",
            "stop",
        ),
        (
            own("children = \"all\""),
            "`children` must be \"ignore\" or \"follow\" or \"capture\" or \"detach\", not `all`",
            "all",
        ),
        (
            case("children = \"ignore\"", "child = \"worker.1\""),
            "checkpoint `first` is in a child, but children are ignored",
            "write \"follow\" or \"capture\"",
        ),
        (
            checkpoint("child = \"worker.0\""),
            "`worker.0` is no child: a program and its number by birth",
            "\"worker.*\" for each",
        ),
        (
            checkpoint("child = \"worker.*\""),
            "a checkpoint in each child needs to know how many there may be",
            "add limit = 10",
        ),
        (
            checkpoint("child = \"worker.*\"\nevery = true\nlimit = 3"),
            "a series by children has one pass in each",
            "remove it, or name one child",
        ),
        (
            own("snapshot = \"no\""),
            "`snapshot` must be true, false or a table",
            "this is a string",
        ),
        (
            own("snapshot.elf = \"size\""),
            "`elf` must be \"large\" or \"sizes\", not `size`",
            "did you mean `sizes`?",
        ),
        (
            own("snapshot.roles = [\"main-haep\"]"),
            "there is no role `main-haep`",
            "did you mean `main-heap`?",
        ),
        (
            own("snapshot.tolerance.thread-stak.live = \"4 KiB\""),
            ":4:1: there is no role `thread-stak.live`",
            "did you mean `thread-stack.live`?",
        ),
        (
            own("snapshot.metrics = [\"own.comit\"]"),
            "`own.comit` is no metric",
            "did you mean `own.commit`?",
        ),
        (
            "[defaults]\nown = [\"[a\"]\n".to_owned(),
            ":2:8: `[a` is no pattern of paths",
            "[a",
        ),
        // Targets.
        (
            target("\"server\""),
            ":3:10: `target` must be a table",
            "{ bin = \"server\" }",
        ),
        (
            target("{ bni = \"server\" }"),
            "unknown key `bni` in target",
            "did you mean `bin`?",
        ),
        (
            target("{ package = \"api\" }"),
            "`target` does not say what to run",
            "give one of bin, example",
        ),
        (
            target("{ bin = \"server\", c = \"a.c\" }"),
            "`target` gives both `bin` and `c`",
            "give one of them",
        ),
        (target("{ c = [] }"), "`c` names no source file", "[\"a.c\", \"b.c\"]"),
        (
            target("{ bin = \"sevrer\" }"),
            ":3:18: the workspace has no bin `sevrer`",
            "did you mean `server`?",
        ),
        (
            target("{ bin = \"pool\" }"),
            "the workspace has no bin `pool`",
            "there is example = \"pool\"",
        ),
        (
            target("{ bin = \"cli\", package = \"api\" }"),
            "package `api` has no bin `cli`",
            "package `tools` has it",
        ),
        (
            target("{ bin = \"cli\", package = \"tool\" }"),
            "the workspace has no package `tool`",
            "did you mean `tools`?",
        ),
        (
            target("{ test = \"x\" }"),
            "the workspace has no test `x`",
            "it has no test at all",
        ),
        (
            target("{ example = \"pool\" }"),
            "example `pool` requires the feature `extra`",
            "add features = [\"extra\"]",
        ),
        (
            target("{ bin = \"server\", features = [\"tsl\"] }"),
            "package `api` has no feature `tsl`",
            "did you mean `tls`?",
        ),
        (own("features = [\"tls\"]"), "`features` has no meaning here", "remove it"),
        (own("profile = \"dev\""), "`profile` has no meaning here", "remove it"),
        (
            own("package = \"apo\""),
            "the workspace has no package `apo`",
            "did you mean `api`?",
        ),
        // Checkpoints.
        (
            checkpoint("at = \"mian\""),
            ":7:6: `at` must be \"exec\", \"main\", \"exit\", \"idle\", \"step-done\" or a table, not `mian`",
            "did you mean `main`?",
        ),
        (
            checkpoint("at = \"ready\""),
            "or a table, not `ready`",
            "write { probe = \"ready\" }",
        ),
        (
            checkpoint("from = { probe = \"a\" }"),
            ":7:8: `from` and `to` go together",
            "write both",
        ),
        (
            checkpoint("from = { probe = \"a\" }\nto = { probe = \"b\" }\nhit = 2"),
            ":9:7: `hit` has no meaning beside `from` and `to`",
            "`limit` says how many",
        ),
        (
            checkpoint("from = { probe = \"a\" }\nto = { probe = \"a\" }"),
            ":8:6: `from` and `to` are the same place",
            "every = true",
        ),
        (
            checkpoint("from = \"main\"\nto = { probe = \"a\" }"),
            ":7:8: `main` cannot be an end of something that is repeated",
            "use a probe",
        ),
        (
            checkpoint("at = { returns = \"a\" }\nhardware = true"),
            ":8:12: `hardware` is for places in the code",
            "it goes with \"main\", probe, function and line",
        ),
        (
            checkpoint("at = { syscall = \"puase\" }"),
            "this machine has no system call `puase`",
            "did you mean `pause`?",
        ),
        (
            checkpoint("at = { syscall = \"pause\", args = { 6 = 1 } }"),
            "`6` is no number of an argument",
            "from 0 to 5",
        ),
        (
            checkpoint("at = { syscall = \"pause\", args.0 = \"x\" }"),
            "`0` must be a whole number",
            "a string",
        ),
        (
            checkpoint("at = { signal = \"USR1\" }"),
            "there is no signal `USR1`",
            "did you mean `SIGUSR1`?",
        ),
        (
            checkpoint("at = { signal = \"SIGKILL\" }"),
            "SIGKILL is never delivered to a program",
            "use \"exit\"",
        ),
        (
            checkpoint("at = { output = \"a(b\" }"),
            "this is no regular expression",
            "unclosed group",
        ),
        (
            checkpoint("at = { output = \"a{1000}{1000}{1000}\" }"),
            "the regular expression is too large",
            "make it smaller",
        ),
        (
            checkpoint("at = { output = \"a\", stream = \"stdin\" }"),
            "`stream` must be \"stdout\" or \"stderr\", not `stdin`",
            "",
        ),
        (
            checkpoint("at = { probe = \"a\", stream = \"stdout\" }"),
            "unknown key `stream` in at",
            "known keys are",
        ),
        (
            checkpoint("at = { thread = \"start\", name = \"a-very-long-name\" }"),
            "the name of a thread has at most 15 bytes",
            "write `a-very-long-nam`",
        ),
        (
            checkpoint("at = { library = \"/lib/libc.so\" }"),
            "a library is told by its file name",
            "libfoo",
        ),
        (
            checkpoint("at = \"step-done\""),
            "no step ends at checkpoint `first`",
            "add [[case.step]]",
        ),
        (
            format!("{}[[case.step]]\nafter = \"first\"\nrun = [\"true\"]\n", case("", "")),
            "the step would be killed at once: `first` is the last checkpoint",
            "step-done",
        ),
        (
            format!("{}[[case.step]]\nafter = \"frist\"\nrun = [\"true\"]\n", case("", "")),
            "there is no checkpoint `frist`",
            "did you mean `first`?",
        ),
        (
            format!("{}[[case.step]]\nafter = \"first\"\nrun = \"true\"\n", case("", "")),
            "`run` must be a list",
            "write [\"sh\", \"-c\", \"true\"]",
        ),
        (
            checkpoint("at = \"function\""),
            "or a table, not `function`",
            "write { function = \"…\" }",
        ),
        (
            checkpoint("limit = 3"),
            ":7:9: `limit` has no meaning without `every`",
            "add every = true",
        ),
        (
            checkpoint("warm_up = 3"),
            "`warm_up` has no meaning without `every`",
            "add every = true",
        ),
        (
            checkpoint("every = true\nlimit = 9\nwarm_up = 9"),
            "no round is left: the series has 9",
            "leave at least 8, or raise `limit`",
        ),
        (
            checkpoint("budget.own.anon.max_per_round = \"0 B\""),
            "`max_per_round` needs a checkpoint that is passed many times",
            "add every = true to this checkpoint",
        ),
        (
            checkpoint("every = true\nlimit = 8\nbudget.own.anon = { max_per_round = \"0 B\" }"),
            "`max_per_round` needs at least 8 rounds after the warm-up, here are 7",
            "raise `limit` of the series (line 8)",
        ),
        (
            checkpoint("budget.own.anon.max_per_rond = \"0 B\""),
            "max_per_rond",
            "did you mean `max_per_round`?",
        ),
        (
            checkpoint("at = { after = \"5ms\" }\nevery = 10\nlimit = 20"),
            "`after 5 ms` counts time, not passes",
            "write every = true",
        ),
        (
            checkpoint("every = true\nlimit = 0"),
            ":8:9: `limit` must lie between 1 and 10000",
            "",
        ),
        (
            checkpoint("at = \"exit\"\nevery = true\nlimit = 2"),
            "`exit` is reached once, `every` makes no series of it",
            "remove `every`",
        ),
        (
            format!("{}[[case.checkpoint]]\nname = \"first.2\"\n", checkpoint("every = true")),
            "two checkpoints are called `first.2`",
            "rename this one, or the series",
        ),
        (
            format!(
                "{}[[case.checkpoint]]\nname = \"b\"\nat = {{ probe = \"first\" }}\n",
                checkpoint("hit = 3\nevery = true\nlimit = 4")
            ),
            "checkpoint `b` cannot come after `first`",
            "add hit = 7",
        ),
        (
            checkpoint("at = { prob = \"x\" }"),
            "unknown key `prob` in at",
            "did you mean `probe`?",
        ),
        (
            checkpoint("at = { probe = \"a\", function = \"b\" }"),
            "`at` gives both `probe` and `function`",
            "give one",
        ),
        (checkpoint("at = { probe = \"a:\" }"), "`a:` is no probe", "provider:name"),
        (checkpoint("hit = 0"), "`hit` must be 1 or more", "hit = 0"),
        (
            checkpoint("at = \"exit\"\nhit = 2"),
            "`exit` is reached once, `hit` must be 1",
            "remove `hit`",
        ),
        (
            second("name = \"b\"\nat = \"exec\""),
            "`exec` comes before everything else",
            "make it the first",
        ),
        (
            second("name = \"b\"\nat = { probe = \"first\" }"),
            "checkpoint `b` cannot come after `first`",
            "add hit = 2",
        ),
        (
            format!("{}[[case.checkpoint]]\nname = \"b\"\n", checkpoint("at = \"exit\"")),
            "nothing comes after `exit`, but checkpoint `b` does",
            "move it before `first`",
        ),
        // Budgets.
        (
            budget("heap.anon = \"1 MiB\""),
            ":7:1: `heap.anon` is no metric: there is no role `heap`",
            "did you mean `main-heap.anon`?",
        ),
        (
            budget("thread-stak.exited.count = 0"),
            ":7:1: `thread-stak.exited.count` is no metric",
            "did you mean `thread-stack.exited.count`?",
        ),
        (
            budget("own.annon = { max = \"1 MiB\" }"),
            ":7:1: `own.annon` is no metric",
            "did you mean `own.anon`?",
        ),
        (
            budget("process.pss = \"1 MiB\""),
            "`process.pss` depends on other processes",
            "use `process.anon`",
        ),
        (
            budget("own.anon = 1048576"),
            ":7:19: `anon` must be a size with a unit",
            "1048576",
        ),
        (budget("own.anon = \"16M\""), "bad size: `16M` could mean", "16M"),
        (
            budget("threads.count = \"4\""),
            "`threads.count` counts things: `4` is no number",
            "write 4 without quotes",
        ),
        (budget("threads.count = -1"), "`count` must be 0 or more", "-1"),
        (
            budget("threads.count = { maxx = 2 }"),
            "unknown key `maxx` in a limit",
            "did you mean `max`?",
        ),
        (
            budget("threads.count = {}"),
            "no limit is written for `threads.count`",
            "{ max",
        ),
        (
            budget("threads.count = { max = 1, min = 2 }"),
            "`threads.count` cannot be at least 2 and at most 1",
            "line 7",
        ),
        (
            budget("own.anon = { max_growth = \"5%\" }"),
            "`max_growth` needs `over`",
            "over = \"approved\"",
        ),
        (
            budget("own.anon = { over = \"approved\" }"),
            "`over` needs `max_growth`",
            "approved",
        ),
        (
            budget("own.anon = { over = \"base\" }"),
            "`over` needs `max_growth`",
            "max_growth = \"5%\"",
        ),
        (
            budget("own.anon = { max_growth = \"5%\", over = \"first\" }"),
            "`over` must name an earlier checkpoint",
            "first checkpoint",
        ),
        (
            budget("own.anon = { max_growth = \"five%\", over = \"approved\" }"),
            "`five%` is not a percentage",
            "\"2.5%\"",
        ),
        (
            second("name = \"b\"\nbudget.own.anon = { max_growth = \"5%\", over = \"frist\" }"),
            ":10:47: there is no checkpoint `frist`",
            "did you mean `first`?",
        ),
        (
            own("budget.own.anon = { max_growth = \"5%\", over = \"first\" }"),
            "no checkpoint comes after `first`",
            "name an earlier one",
        ),
        (
            format!(
                "[defaults]\nbudget.own.anon = {{ max_growth = \"5%\", over = \"frist\" }}\n{}",
                own("")
            ),
            ":2:47: there is no checkpoint `frist`",
            "did you mean `first`?",
        ),
    ]
}

fn lines(error: &Error) -> (String, String) {
    let problem = error.problem();
    assert_eq!(problem.kind, ProblemKind::Config);
    assert!(!problem.title.contains('\n'));
    (problem.title.clone(), problem.details.join("\n"))
}

#[test]
fn every_mistake_shows_its_place_its_text_and_what_to_write() {
    let mistakes = mistakes();
    assert!(mistakes.len() >= 25);
    let mut wrong = Vec::new();
    for (text, first, detail) in &mistakes {
        let Err(error) = cargo(text) else {
            wrong.push(format!("accepted, expected `{first}`:\n{text}"));
            continue;
        };
        let (title, details) = lines(&error);
        // The offending line itself is shown.
        let line: usize = title.split(':').nth(1).and_then(|n| n.parse().ok()).unwrap_or_default();
        let source = text.lines().nth(line.saturating_sub(1)).unwrap_or_default();
        let excerpt = format!("{line} | {}", &source[..source.len().min(100)]);
        if !title.starts_with("memcheck.toml:")
            || !title.contains(first)
            || !details.contains(detail)
            || !details.contains(&excerpt)
        {
            wrong.push(format!("expected `{first}` and `{detail}`:\n{title}\n{details}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n\n"));
}

#[test]
fn several_mistakes_are_shown_at_once_in_the_order_of_the_file() {
    let (title, details) = lines(&cargo(&case("cpus = 0\nargs = 1", "hit = 0")).unwrap_err());
    assert!(title.starts_with("memcheck.toml:4:8: `cpus`"), "{title}");
    let second = details.find("memcheck.toml:5:8: `args`").unwrap();
    let third = details.find("memcheck.toml:8:7: `hit`").unwrap();
    assert!(second < third, "{details}");
}

#[test]
fn without_cargo_there_are_no_cargo_targets() {
    let (title, details) = lines(&plain(&case("target = { bin = \"server\" }", "")).unwrap_err());
    assert!(title.ends_with("bin `server` needs a cargo workspace"), "{title}");
    assert!(details.contains("without cargo a target is { c = … }"), "{details}");
    let plan = plain(&case("", "")).unwrap();
    assert!(!plan.is_cargo);
    assert_eq!(plan.data_dir, Path::new("/w/target/memcheck-data"));
    assert_eq!(
        (&plan.cases[0].package, plan.cases[0].package_dir.as_path()),
        (&None, Path::new("/w"))
    );
}

#[test]
fn a_case_belongs_to_its_targets_package_then_to_the_root_package() {
    let package = |text: &str| cargo(text).map(|plan| plan.cases[0].package.clone().unwrap());
    assert_eq!(package(&case("target = { bin = \"cli\" }", "")).as_deref(), Ok("tools"));
    assert_eq!(package(&case("", "")).as_deref(), Ok("api"));
    assert_eq!(
        package(&case("target = { bin = \"both\" }\npackage = \"tools\"", "")).as_deref(),
        Ok("tools")
    );
    let (title, details) = lines(&cargo(&case("target = { bin = \"both\" }", "")).unwrap_err());
    assert!(title.ends_with("bin `both` is in several packages"), "{title}");
    assert!(
        details.contains("add package = \"api\"") && details.contains("api, tools"),
        "{details}"
    );
    let virtual_workspace = Workspace {
        root_package: None,
        ..workspace()
    };
    let error = plan(&source(&case("", "")), Some(&virtual_workspace), &Overrides::default(), 4096).unwrap_err();
    let (title, details) = lines(&error);
    assert!(title.contains(":1:1: the case belongs to no package"), "{title}");
    assert!(
        details.contains("add package = \"api\"") && details.contains("packages are api, tools"),
        "{details}"
    );
}

#[test]
fn a_configuration_below_the_workspace_root_is_refused() {
    let below = Source {
        root: PathBuf::from("/w/api"),
        path: PathBuf::from("/w/api/memcheck.toml"),
        text: String::new(),
    };
    let error = plan(&below, Some(&workspace()), &Overrides::default(), 4096).unwrap_err();
    assert!(error.to_string().contains("move it to /w/memcheck.toml"), "{error}");
}

const MERGE: &str = r#"
[defaults]
budget.own.anon = { max = "100 MiB", min = "1 KiB", max_growth = "4 KiB", over = "a" }
budget.threads.count = 8
[[case]]
name = "m"
target = { c = "a.c" }
budget.own.anon.max = "50 MiB"
budget.own.anon.max_growth = "5%"
budget.own.anon.over = "b"
[[case.checkpoint]]
name = "a"
[[case.checkpoint]]
name = "b"
budget.own.anon.min = "2 KiB"
[[case.checkpoint]]
name = "c"
budget.own.anon = { max_growth = 0, over = "approved" }
[[case.checkpoint]]
name = "d"
"#;

#[test]
fn the_more_specific_level_overrides_field_by_field() {
    let plan = cargo(MERGE).unwrap();
    let fields = |checkpoint: &CheckpointSpec| {
        let limit = &checkpoint.limits[&metric("own.anon")];
        let growth = limit
            .growth
            .as_ref()
            .map(|growth| (growth.bound, growth.over.clone(), growth.place.line));
        (
            limit.max.as_ref().unwrap().value,
            limit.min.as_ref().unwrap().place.line,
            growth,
        )
    };
    let [a, b, c, d] = plan.cases[0].checkpoints.as_slice() else {
        panic!("four")
    };
    let over = |name: &str| Over::Checkpoint(name.to_owned());
    // Neither level's reference is an earlier one; then the default's is; then the checkpoint's own; then the case's.
    assert_eq!(fields(a), (50 << 20, 3, None));
    assert_eq!(fields(b), (50 << 20, 15, Some((GrowthBound::Absolute(4096), over("a"), 3))));
    assert_eq!(fields(c), (50 << 20, 3, Some((GrowthBound::Absolute(0), Over::Approved, 18))));
    assert_eq!(
        fields(d),
        (50 << 20, 3, Some((GrowthBound::Percent { basis_points: 500 }, over("b"), 9)))
    );
    assert!(
        plan.cases[0]
            .checkpoints
            .iter()
            .all(|c| c.limits[&metric("threads.count")] == max(8, 4, 24))
    );
}

fn add(budgets: &[&str]) -> Result<Vec<Case>> {
    let overrides = Overrides {
        budgets: budgets.iter().map(|&text| text.to_owned()).collect(),
        ..Overrides::default()
    };
    with(MERGE, &overrides).map(|plan| plan.cases)
}

#[test]
fn the_command_line_only_adds_limits() {
    let typed = Place {
        file: "--budget".to_owned(),
        line: 0,
        column: 0,
    };
    let cases = add(&[
        "m/b:own.anon<=16MiB",
        "threads.count<=9",
        "m:threads.count>=1",
        "main-heap.used <= 1 KiB",
    ])
    .unwrap();
    let limit = |checkpoint: usize, name: &str| cases[0].checkpoints[checkpoint].limits[&metric(name)].clone();
    assert_eq!(limit(0, "own.anon").max.unwrap().value, 50 << 20);
    assert_eq!(
        limit(1, "own.anon").max.unwrap(),
        Bound {
            value: 16 << 20,
            place: typed.clone()
        }
    );
    assert_eq!(
        limit(0, "threads.count").max.unwrap().value,
        8,
        "the stricter limit of the file holds"
    );
    assert_eq!(limit(0, "threads.count").min.unwrap(), Bound { value: 1, place: typed });
    assert_eq!(limit(3, "main-heap.used").max.unwrap().value, 1024);
}

#[test]
fn bad_limits_on_the_command_line_are_named() {
    for (text, what) in [
        ("own.anon", "there is neither `<=` nor `>=`"),
        ("own.annon<=1MiB", "did you mean `own.anon`?"),
        ("own.anon<=1MB", "could mean powers"),
        ("own.anon<=", "is not a size"),
        ("threads.count<=many", "`many` is no number"),
        ("n:threads.count<=1", "there is no case `n`"),
        ("m/e:threads.count<=1", "there is no checkpoint `e`"),
        ("process.uss<=1MiB", "depends on other processes"),
        (
            "threads.count>=9",
            "would have to be at least 9 (--budget) and at most 8 (memcheck.toml:4)",
        ),
    ] {
        let error = add(&[text]).unwrap_err();
        assert_eq!(error.kind(), ProblemKind::Config);
        let shown = error.to_string();
        assert!(
            shown.starts_with(&format!("--budget `{text}`: ")) && shown.contains(what),
            "{shown}"
        );
    }
}

#[test]
fn overrides_select_and_change_cases() {
    let text = format!(
        "{}{}",
        case("target = { bin = \"cli\" }", ""),
        case("", "").replace("one", "one-more")
    );
    let names = |overrides: Overrides| -> Vec<String> {
        let plan = with(&text, &overrides).unwrap();
        assert_eq!(plan.cases_in_file, 2);
        plan.cases.into_iter().map(|case| case.name).collect()
    };
    let filters = |filters: &[&str]| Overrides {
        filters: filters.iter().map(|&filter| filter.to_owned()).collect(),
        ..Overrides::default()
    };
    assert_eq!(names(Overrides::default()), ["one", "one-more"]);
    assert_eq!(names(filters(&["more"])), ["one-more"]);
    assert_eq!(names(filters(&["more", "one"])), ["one", "one-more"]);
    assert_eq!(
        names(Overrides {
            exact: true,
            ..filters(&["one"])
        }),
        ["one"]
    );
    assert!(names(filters(&["none"])).is_empty());
    let packages = |name: &str| Overrides {
        packages: vec![name.to_owned()],
        ..Overrides::default()
    };
    assert_eq!(names(packages("tools")), ["one"]);
    let error = with(&text, &packages("tool")).unwrap_err().to_string();
    assert!(
        error.contains("no package `tool`") && error.contains("did you mean `tools`?"),
        "{error}"
    );

    let overrides = Overrides {
        profile: Some("dev".to_owned()),
        triple: Some("x86_64-unknown-linux-musl".to_owned()),
        as_is: true,
        ..Overrides::default()
    };
    let plan = with(&text, &overrides).unwrap();
    assert!(plan.cases.iter().all(|case| case.as_is));
    let Target::Cargo { profile, triple, .. } = &plan.cases[0].target else {
        panic!("cargo")
    };
    assert_eq!(profile, &Profile::Named("dev".to_owned()));
    assert_eq!(triple.as_deref(), Some("x86_64-unknown-linux-musl"));
}

#[test]
fn required_features_that_may_be_on_are_left_to_cargo() {
    assert!(
        cargo(&case("target = { bin = \"cli\" }", "")).is_ok(),
        "on by default, perhaps"
    );
    assert!(cargo(&case("target = { example = \"pool\" }\nfeatures = [\"extra\"]", "")).is_ok());
    let overrides = Overrides {
        cargo_args: vec!["--all-features".to_owned()],
        ..Overrides::default()
    };
    assert!(with(&case("target = { example = \"pool\" }", ""), &overrides).is_ok());
}

#[test]
fn an_empty_file_is_an_empty_plan() {
    assert_eq!(cargo("").unwrap().cases.len(), 0);
}

#[test]
fn deep_and_large_files_are_refused() {
    let key = vec!["a"; 79].join(".");
    let deep = format!(
        "{}1{}",
        format!("{key} = {{ ").repeat(70) + &format!("{key} = "),
        " }".repeat(70)
    );
    for text in [
        "a.".repeat(400_000) + "a = 1",
        format!("a = {}", "[".repeat(1 << 19)),
        format!("a = {}", "{ a = ".repeat(100_000)),
        format!("[{}a]", "a.".repeat(400_000)),
        format!("[defaults]\nbudget.{deep}"),
        format!("[defaults]\nsnapshot.tolerance.{deep}"),
        "[[case]]\n".repeat(100_000),
        "#".repeat((1 << 20) + 1),
    ] {
        let shown = cargo(&text).unwrap_err().to_string();
        assert!(shown.len() < 10_000, "{}", shown.len());
    }
}

#[test]
fn hostile_names_do_not_reach_the_terminal() {
    let text = case("\"\\u001b[31m\" = 1\n\"a\\nb\" = 2", "at = { probe = \"\\u202e\\n\" }");
    let shown = cargo(&text).unwrap_err().to_string();
    assert!(!shown.contains(['\u{1b}', '\u{202e}']), "{shown:?}");
    assert!(
        shown.starts_with("memcheck.toml:4:1: unknown key `\\x1b[31m` in [[case]]\n"),
        "{shown:?}"
    );
}

/// Words and marks that make many texts nearly right.
const PIECES: [&str; 40] = [
    "[[case]]\n",
    "[[case.checkpoint]]\n",
    "[defaults]\n",
    "name",
    "target",
    "at",
    "hit",
    "budget",
    "snapshot",
    "env",
    "exit",
    "over",
    "max",
    "min",
    "max_growth",
    "own",
    "anon",
    "threads",
    "count",
    ".",
    ".",
    " = ",
    " = ",
    "\n",
    "\n",
    "{ ",
    " }",
    "[",
    "]",
    ", ",
    "\"a\"",
    "\"exit\"",
    "\"4 KiB\"",
    "\"5%\"",
    "\"approved\"",
    "1",
    "-1",
    "true",
    "\"é\u{202e}\\u0000\"",
    "\u{1b}",
];

proptest! {
    #[test]
    fn any_text_is_a_plan_or_an_error(text in "\\PC{0,200}|(?s).{0,200}", page in 0_u64..=1 << 20) {
        let _ = plan(&source(&text), Some(&workspace()), &Overrides::default(), page);
    }

    #[test]
    fn nearly_right_text_is_a_plan_or_an_error(picks in prop::collection::vec(0..PIECES.len(), 0..60)) {
        let text: String = picks.into_iter().map(|i| PIECES[i]).collect();
        if let Err(error) = plain(&text) {
            let shown = error.to_string();
            prop_assert!(!shown.contains(['\u{1b}', '\u{202e}', '\0']), "{:?}", shown);
        }
    }

    #[test]
    fn any_limit_on_the_command_line_is_added_or_refused(text in "(m(/[abx])?:)?[a-z.-]{0,12}(<=|>=|<)?[0-9A-Za-z ]{0,8}|\\PC{0,40}") {
        let _ = add(&[text.as_str()]);
    }

    #[test]
    fn a_limit_on_the_command_line_never_loosens(bytes in 0_u64..=200 << 20) {
        let before = cargo(MERGE).unwrap();
        let text = format!("own.anon<={bytes} B");
        if let Ok(cases) = add(&[text.as_str()]) {
            for (was, now) in before.cases[0].checkpoints.iter().zip(&cases[0].checkpoints) {
                let was = was.limits[&metric("own.anon")].max.as_ref().unwrap().value;
                let now = now.limits[&metric("own.anon")].max.as_ref().unwrap().value;
                prop_assert_eq!(now, was.min(bytes));
            }
        }
    }
}
