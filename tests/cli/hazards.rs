//! Hazards of a tracer, by their number in docs/hazards.md: programs that make its life hard, and what is right then. Those
//! that need no program of their own stand with the module that answers for them.

use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::Value;
use tests::{Project, Run, collect, gone, marker, until};

use super::{TOOL, command, memcheck};

const SOURCE: &str = include_str!("../fixtures/hazards.c");

/// The program in a project of its own.
fn built() -> Project {
    let project = Project::new().file("hazards.c", SOURCE);
    let include = format!("-I{}/../memcheck-probe/include", env!("CARGO_MANIFEST_DIR"));
    let flags = ["-O1", "-pthread", "-o", "hazards", "hazards.c", &include];
    let _ = project.run("cc".as_ref(), &flags).expect_code(0);
    project
}

fn show(project: &Project, args: &[&str]) -> Run {
    let first = ["show", "--message-format", "json", "--at", "probe:ready"];
    memcheck(project, &[&first[..], &["--at", "exit", "--", "./hazards"], args].concat())
}

/// What the program said of itself: it was seen at `ready` and at its end, which was the one that means that it noticed nothing.
#[track_caller]
fn unharmed(run: Run) -> Value {
    let run = run.expect_code(0);
    let value: Value = serde_json::from_str(&run.stdout).unwrap();
    assert_eq!(value["checkpoints"].as_array().unwrap().len(), 2, "{value}");
    value
}

/// As a case, whose end is judged.
#[track_caller]
fn ends_well(project: &Project, args: &str, checkpoints: &str) -> Run {
    ends_well_or(project, args, checkpoints).expect_code(0)
}

fn ends_well_or(project: &Project, args: &str, checkpoints: &str) -> Run {
    let toml = format!(
        "[[case]]\nname = \"case\"\ntarget = {{ path = \"hazards\" }}\nargs = [{args}]\nexit = 0\nsnapshot = false\n\
         checkpoint = [{checkpoints}]\n"
    );
    project.write("memcheck.toml", &toml);
    memcheck(project, &[])
}

const READY: &str = "{ name = \"ready\" }, { name = \"end\", at = \"exit\" }";

#[test]
fn hazard_05_a_child_that_cannot_be_traced_lives_when_it_passes_no_point() {
    let project = built();
    // One that passes a point dies of its breakpoint: see docs/hazards.md.
    let run = ends_well(&project, "\"untraced\"", "{ name = \"ready\" }");
    assert!(run.stderr.contains("1 case"), "{}", run.stderr);
}

/// One that passes a breakpoint has nobody who takes the trap: what it died of is named, and a breakpoint of the processor, which a
/// child does not inherit, does it no harm.
#[test]
fn hazard_05_what_an_untraced_child_died_of_is_named() {
    let project = built();
    let with = |ready: &str| {
        let toml = format!(
            "[[case]]\nname = \"case\"\ntarget = {{ path = \"hazards\" }}\nargs = [\"untraced-at-ready\"]\nexit = 0\nsnapshot = false\n\
             budget.threads.count = 1\ncheckpoint = [{ready}]\n"
        );
        project.write("memcheck.toml", &toml);
        memcheck(&project, &[])
    };
    let _ = with("{ name = \"ready\" }").expect_code(7).expect_all(&[
        "cannot be traced (CLONE_UNTRACED) and was killed by SIGTRAP",
        "a breakpoint of cargo memcheck",
        "hardware = true",
    ]);
    let _ = with("{ name = \"ready\", hardware = true }").expect_code(0);
}

/// Where a filter is in place `clone` stops there, and the flag is taken off: such a child is one like all others, and its own exit
/// is answered. `clone3` has its flags in memory, where no filter looks.
#[test]
fn hazard_05_where_a_filter_sees_it_the_flag_is_taken_off() {
    let project = built();
    for mode in ["untraced", "untraced-at-ready", "untraced-vm", "untraced-raw"] {
        let run = ends_well(&project, &format!("\"{mode}\""), READY);
        assert!(!run.stderr.contains("CLONE_UNTRACED"), "{mode}: {}", run.stderr);
    }
    let toml = "[[case]]\nname = \"case\"\ntarget = { path = \"hazards\" }\nargs = [\"untraced-lives\"]\nsnapshot = false\n\
                checkpoint = [{ name = \"ready\", budget.tree.processes = 2 }, { name = \"end\", at = \"exit\" }]\n";
    project.write("memcheck.toml", toml);
    let run = memcheck(&project, &[]).expect_code(0);
    assert!(!run.stderr.contains("CLONE_UNTRACED"), "{}", run.stderr);
    let clone3 = ends_well_or(&project, "\"untraced-clone3\"", READY);
    let _ = clone3
        .expect_code(7)
        .expect_all(&["cannot be traced (CLONE_UNTRACED)", "the filter that stops before exits"]);
}

/// What it has of the pages of the others would be missing in the sums over the tree.
#[test]
fn hazard_05_while_a_child_that_cannot_be_traced_lives_the_tree_is_not_summed() {
    let project = built();
    let toml = "[[case]]\nname = \"case\"\ntarget = { path = \"hazards\" }\nargs = [\"untraced-lives\"]\nsnapshot = false\n\
                checkpoint = [{ name = \"ready\", budget.tree.processes = 9 }, { name = \"alone\", budget.tree.processes = 9 }]\n";
    project.write("memcheck.toml", toml);
    let run = memcheck(&project, &["--message-format", "json"]).expect_code(3);
    let value: Value = serde_json::from_str(run.stdout.lines().next().unwrap()).unwrap();
    let checkpoints = &value["checkpoints"];
    assert_eq!(checkpoints[0]["tree"], Value::Null, "{value}");
    assert_eq!(checkpoints[1]["tree"]["processes"], 1, "{value}");
    let limits = checkpoints[0]["limits"].to_string();
    assert!(limits.contains("CLONE_UNTRACED"), "{limits}");
    assert!(
        value["notes"]
            .to_string()
            .contains("is not traced (CLONE_UNTRACED) and ran on"),
        "{value}"
    );
}

#[test]
fn hazard_08_a_target_killed_at_any_moment_is_told_and_nothing_hangs() {
    let project = built();
    for delay in ["0", "1", "3", "7", "20", "50"] {
        let run = memcheck(
            &project,
            &[
                "show",
                "--at",
                "probe:passed",
                "--timeout",
                "20",
                "--",
                "./hazards",
                "killed",
                delay,
            ],
        );
        let run = run.expect_code(7).expect_stdout("killed by SIGKILL");
        assert!(!run.stdout.contains("time limit"), "{}", run.stdout);
    }
}

#[test]
fn hazard_10_a_target_that_traces_itself_gets_the_kernels_answer() {
    let _ = ends_well(&built(), "\"traces-itself\"", READY);
}

#[test]
fn hazard_12_a_target_that_is_not_dumpable() {
    let project = built();
    let is_root = project.run("id".as_ref(), &["-u"]).stdout.trim() == "0";
    let run = show(&project, &["undumpable"]);
    if is_root {
        let _ = unharmed(run);
    } else {
        let _ = run.expect_code(6);
    }
}

/// The kernel ignores the set-user-ID bit of what an ordinary user traces. Only root can make such a file; without it the note must
/// not appear.
#[test]
fn hazard_13_a_set_user_id_target_is_told_to_be_no_comparison() {
    use std::os::unix::fs::PermissionsExt as _;
    let project = built();
    let mode = |path: &Path, mode: u32| std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
    let args = ["show", "--at", "probe:ready", "--", "./hazards", "rseq"];
    let note = "set-user-ID";
    if project.run("id".as_ref(), &["-u"]).stdout.trim() == "0" {
        mode(project.path(), 0o755);
        mode(&project.path().join("hazards"), 0o4755);
        let other = ["--reuid=65534", "--regid=65534", "--clear-groups", TOOL];
        let run = project.run("setpriv".as_ref(), &[&other[..], &args].concat()).expect_code(0);
        assert!(run.stdout.contains(note), "{run:?}");
        mode(&project.path().join("hazards"), 0o755);
    }
    let run = memcheck(&project, &args).expect_code(0);
    assert!(!run.stdout.contains(note), "{run:?}");
}

#[test]
fn hazard_14_a_sandboxed_target_makes_no_call_for_us() {
    let value = unharmed(show(&built(), &["sandbox"]));
    assert_eq!(value["end"]["code"], 0, "{value}");
}

#[test]
fn hazard_16_a_daemon_that_holds_the_pipe_is_named_and_ended() {
    let project = built();
    let word = marker("daemon");
    let began = Instant::now();
    let args = format!("\"daemon\", \"{word}\"");
    let _ = ends_well(&project, &args, READY).expect_stderr("was still running: killed");
    assert!(began.elapsed() < Duration::from_secs(20) && gone(&word));
}

/// Stopped for longer than the target takes, and continued: nothing is lost.
#[test]
fn hazard_20_a_stop_of_the_tool_loses_nothing() {
    let project = built();
    let toml = "[[case]]\nname = \"case\"\ntarget = { path = \"hazards\" }\nargs = [\"naps\"]\nexit = 0\nsnapshot = false\n\
                budget.threads.count = 1\ncheckpoint = [{ name = \"ready\" }, { name = \"passed\" }, { name = \"end\", at = \"exit\" }]\n";
    project.write("memcheck.toml", toml);
    let child = super::start(&project, &[]);
    let targets = || tests::processes_with("./hazards\0naps").len() + tests::processes_with("hazards\0naps").len();
    assert!(until(Duration::from_secs(30), || targets() > 0));
    for signal in ["STOP", "CONT", "STOP", "CONT"] {
        let _ = super::shell(&project, &format!("kill -{signal} {}", child.id())).expect_code(0);
        std::thread::sleep(Duration::from_millis(600));
    }
    let _ = collect(child)
        .expect_code(0)
        .expect_all(&["measured 3 checkpoints in 1 case: all passed"]);
}

#[test]
fn hazard_23_24_25_file_names_of_every_kind() {
    let project = built();
    let value = unharmed(show(&project, &["names"]));
    let pieces = value["checkpoints"][0]["pieces"].as_array().unwrap();
    let files = pieces
        .iter()
        .filter(|piece| piece["role"] == "file-map" && piece["reserved"] == 4096);
    assert_eq!(files.count(), 8, "{value}");
    let subjects: Vec<&str> = pieces.iter().filter_map(|piece| piece["subject"].as_str()).collect();
    for name in ["new\\x0aline", "x (deleted)", "gone (deleted)", "[heap]", "a b  c"] {
        assert!(subjects.contains(&name), "no {name} in {subjects:?}");
    }
    // None of them is taken for a heap or a stack.
    let heaps = pieces
        .iter()
        .filter(|piece| piece["role"] == "main-stack" || piece["role"] == "main-heap");
    assert!(heaps.count() <= 3);
}

#[test]
fn hazard_26_sixty_thousand_regions() {
    let project = built();
    let most: u64 = project
        .run("cat".as_ref(), &["/proc/sys/vm/max_map_count"])
        .stdout
        .trim()
        .parse()
        .unwrap();
    let count = most.saturating_sub(500).min(60_000).to_string();
    let began = Instant::now();
    let run = memcheck(
        &project,
        &["show", "--at", "probe:ready", "--", "./hazards", "regions", &count],
    )
    .expect_code(0);
    assert!(began.elapsed() < Duration::from_secs(60), "{:?}", began.elapsed());
    let line = run.stdout.lines().find(|line| line.contains("mappings")).unwrap();
    let mappings: u64 = line.split_whitespace().next().unwrap().parse().unwrap();
    assert!(mappings >= count.parse().unwrap(), "{line}");
    assert!(run.stdout.lines().count() < 60, "summarised");
}

#[test]
fn hazard_28_a_process_that_shares_the_memory_and_changes_it() {
    let project = built();
    for _ in 0..5 {
        let run = show(&project, &["shared-memory"]);
        assert!(matches!(run.code, Some(0 | 7)), "{run:?}");
        assert!(run.code == Some(0) || run.stdout.contains("changes although"), "{run:?}");
    }
}

/// A program for the other width of this processor, without a libc.
#[cfg(target_arch = "x86_64")]
#[test]
fn hazard_29_a_32_bit_target_is_refused_by_name() {
    let source = "void _start(void) { __asm__ volatile(\"movl $1, %eax; xorl %ebx, %ebx; int $0x80\"); }\n";
    let project = Project::new().file("small.c", source);
    let flags = ["-m32", "-nostdlib", "-static", "-o", "small", "small.c"];
    let _ = project.run("cc".as_ref(), &flags).expect_code(0);
    for at in ["exec", "exit"] {
        let run = memcheck(&project, &["show", "--at", at, "--", "./small"]).expect_code(6);
        assert!(
            run.stdout.contains("compatibility mode (32-bit) cannot be measured"),
            "{run:?}"
        );
    }
}

#[test]
fn hazard_31_a_flood_of_output_in_little_memory() {
    let project = built();
    let args = ["show", "--at", "exit", "--timeout", "300", "--", "./hazards", "flood", "1024"];
    let mut child = command(&project, &args).spawn().unwrap();
    let peak = || -> Option<u64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", child.id())).ok()?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
        line.trim().trim_end_matches(" kB").trim().parse().ok()
    };
    let mut most = 0;
    while let Some(peak) = peak() {
        most = most.max(peak);
        std::thread::sleep(Duration::from_millis(2));
        if std::fs::read_to_string(format!("/proc/{}/stat", child.id())).is_ok_and(|stat| stat.contains(") Z ")) {
            break;
        }
    }
    assert!(child.wait().unwrap().success());
    assert!(most > 0 && most < 64 << 10, "{most} KiB for 1 GiB of output");
}

#[test]
fn hazard_39_restartable_sequences_stay_registered() {
    let project = built();
    let stops: Vec<String> = (1..=20)
        .map(|hit| format!("{{ name = \"r{hit}\", at = {{ probe = \"ready\" }}, hit = {hit} }}"))
        .chain(["{ name = \"end\", at = \"exit\" }".to_owned()])
        .collect();
    let _ = ends_well(&project, "\"rseq\"", &stops.join(", "));
}

#[test]
fn hazard_40_no_call_is_interrupted_by_our_stops() {
    let project = built();
    let stops: Vec<String> = (1..=20)
        .map(|hit| format!("{{ name = \"r{hit}\", at = {{ probe = \"ready\" }}, hit = {hit} }}"))
        .collect();
    let _ = ends_well(&project, "\"eintr\"", &stops.join(", "));
}

#[test]
fn hazard_41_a_parent_that_ignores_its_children() {
    let project = built();
    let line = [
        "--ignore-signal=CHLD",
        TOOL,
        "show",
        "--at",
        "probe:ready",
        "--",
        "./hazards",
        "traces-itself",
    ];
    let _ = project
        .run("env".as_ref(), &line)
        .expect_code(0)
        .expect_stdout("hazards @ probe ready");
}

#[test]
fn hazard_45_an_exit_in_the_midst_of_hits() {
    let project = built();
    let checkpoints = "{ name = \"passed\", hit = 10 }, { name = \"end\", at = \"exit\" }";
    for _ in 0..10 {
        let _ = ends_well(&project, "\"exit-race\"", checkpoints);
    }
}

#[test]
fn hazard_47_before_main_in_a_handler_and_after_main() {
    let project = built();
    let names = ["before", "ready", "handler", "leaving", "after"].map(|name| format!("{{ name = \"{name}\" }}"));
    let run = ends_well(&project, "\"five\"", &names.join(", "));
    assert!(run.last_line().contains("measured 5 checkpoints"), "{}", run.stderr);
}

#[test]
fn hazard_49_every_kind_of_mapping_and_sixteen_tebibytes() {
    let project = built();
    let value = unharmed(show(&project, &["mappings"]));
    let stop = &value["checkpoints"][0];
    let reserved = stop["total"]["reserved"].as_u64().unwrap();
    assert!(reserved > 16 << 40 && reserved < 17 << 40, "{reserved}");
    assert_eq!(stop["roles"]["shared-map"]["reserved"], 2 << 20, "{stop}");
}

/// In namespaces of its own, where its id is another and its files lie elsewhere: nothing is looked up by what it calls things. A
/// machine that refuses namespaces has the case fail by the words of unshare(1).
#[test]
fn hazard_50_other_namespaces_and_another_root() {
    let project = built();
    let include = format!("-I{}/../memcheck-probe/include", env!("CARGO_MANIFEST_DIR"));
    let flags = ["-O1", "-pthread", "-static", "-o", "alone", "hazards.c", &include];
    let _ = project.run("cc".as_ref(), &flags).expect_code(0);
    let root = format!("--root={}", project.path().display());
    let program = project.path().join("hazards").display().to_string();
    let spaces = ["--mount", "--pid", "--fork"];
    let user = ["--user", "--map-root-user"];
    let works = |more: &[&str]| {
        let run = project.run("unshare".as_ref(), &[more, &spaces, &["true"]].concat());
        run.code == Some(0)
    };
    let (more, permitted) = match (works(&[]), works(&user)) {
        (true, _) => (&[][..], true),
        (false, permitted) => (&user[..], permitted),
    };
    for (name, command) in [("hazards", vec!["--", &program]), ("alone", vec![&root, "--", "/alone"])] {
        let args = [more, &spaces, &command, &["mappings"]].concat();
        let toml = format!(
            "[[case]]\nname = \"case\"\ntarget = {{ command = \"unshare\" }}\nargs = {args:?}\nexit = 0\nsnapshot = false\n\
             budget.threads.count = 1\ncheckpoint = [{{ name = \"ready\", child = \"{name}.1\" }}, \
             {{ name = \"end\", at = \"exit\", child = \"{name}.1\" }}]\n"
        );
        project.write("memcheck.toml", &toml);
        let run = memcheck(&project, &["-v"]);
        if permitted {
            let _ = run
                .expect_code(0)
                .expect_stderr("measured 2 checkpoints in 1 case: all passed");
        } else {
            let _ = run.expect_code(7).expect_stderr("unshare");
        }
    }
}

#[test]
fn hazard_51_a_thousand_threads() {
    let project = built();
    let run = memcheck(
        &project,
        &[
            "show",
            "--at",
            "probe:ready",
            "--timeout",
            "60",
            "--",
            "./hazards",
            "threads",
            "1000",
        ],
    );
    let _ = run.expect_code(0).expect_stdout("1001 threads");
}

/// The stops, the registers of each and the classification: of all that the program counted itself before it passed the marker. A
/// machine that does not allow so many fails by the program's own words (`pthread_create`).
#[test]
fn hazard_51_ten_thousand_threads() {
    let project = built();
    let began = Instant::now();
    let args = ["show", "--message-format", "json", "--at", "probe:ready", "--timeout", "300"];
    let run = memcheck(&project, &[&args[..], &["--", "./hazards", "threads", "10000"]].concat()).expect_code(0);
    let value: Value = serde_json::from_str(&run.stdout).unwrap();
    let stop = &value["checkpoints"][0];
    assert_eq!(stop["roles"]["thread-stack.live"]["count"], 10_000, "{}", stop["roles"]);
    let threads = stop["threads"].as_array().unwrap();
    assert_eq!(threads.len(), 10_001);
    // A stack is found by the thread that is on it, and each is known by its start.
    let started = threads.iter().filter(|thread| thread["start_function"] == "pauses");
    assert_eq!(started.count(), 10_000);
    assert!(began.elapsed() < Duration::from_secs(240), "{:?}", began.elapsed());
}

#[test]
fn hazard_57_few_descriptors() {
    let project = built();
    for count in [4, 5, 6, 8, 10, 12] {
        let line = format!("ulimit -n {count}; exec {TOOL} show --at main -- ./hazards");
        let run = project.run(Path::new("sh"), &["-c", &line]);
        let said = format!("{}{}", run.stdout, run.stderr);
        let clear =
            said.contains("error") || said.contains("cannot measure") || said.contains("could not") || said.contains("Tool");
        assert!(
            run.code == Some(0) || (run.code.is_some_and(|code| code < 10) && clear),
            "{count}: {run:?}"
        );
    }
}

/// Ctrl-C, SIGTERM and SIGKILL of the tool at random moments: nothing is left running or stopped, no snapshot is damaged, and
/// the next run is as if nothing had been. `MEMCHECK_KILLS` says how often (`just kills`: 200).
#[test]
fn hazard_18_19_the_tool_is_killed_at_random_moments() {
    let project = built();
    let word = marker("kills");
    let toml = format!(
        "[[case]]\nname = \"case\"\ntarget = {{ path = \"hazards\" }}\nargs = [\"five\", \"{word}\"]\n\
         checkpoint = [{{ name = \"ready\" }}, {{ name = \"end\", at = \"exit\" }}]\n"
    );
    project.write("memcheck.toml", &toml);
    let _ = memcheck(&project, &["accept"]).expect_code(0);
    let snapshots = || -> Vec<_> {
        project
            .files()
            .into_iter()
            .filter(|(path, _)| path.ends_with(".snap"))
            .collect()
    };
    let approved = snapshots();
    let times = times();
    // A fixed sequence (Knuth's MMIX generator): the same moments in every run, spread over the life of the tool.
    let mut random = 2_026_u64;
    let mut counts = [0_u32; 3];
    for round in 0..times {
        random = random
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        let child = super::start(&project, if round % 2 == 0 { &[] } else { &["accept"] });
        std::thread::sleep(Duration::from_micros((random >> 33) % 60_000));
        let which = usize::try_from((random >> 20) % 3).unwrap();
        let signal = ["INT", "TERM", "KILL"][which];
        let _ = super::shell(&project, &format!("kill -{signal} {} 2>/dev/null; true", child.id()));
        let run = collect(child);
        counts[which] += u32::from(run.code != Some(0));
        assert!(matches!(run.code, None | Some(0 | 130 | 143)), "{signal}: {run:?}");
        assert!(
            until(Duration::from_secs(10), || tests::processes_with(&word).is_empty()),
            "{signal}, round {round}"
        );
        assert_eq!(snapshots(), approved, "{signal}, round {round}");
    }
    let _ = memcheck(&project, &[]).expect_code(0);
    assert!(counts.iter().sum::<u32>() > 0, "none of {times} runs was ended early");
    let [int, term, kill] = counts;
    #[expect(clippy::print_stderr, reason = "a recipe asks for its counts")]
    {
        eprintln!("{times} runs; ended before their end by SIGINT {int}, by SIGTERM {term}, by SIGKILL {kill}");
    }
}

#[expect(clippy::disallowed_methods, reason = "a recipe says how often")]
fn times() -> u32 {
    std::env::var("MEMCHECK_KILLS")
        .ok()
        .and_then(|text| text.parse().ok())
        .unwrap_or(20)
}
