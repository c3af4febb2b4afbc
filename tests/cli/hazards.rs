//! Hazards of a tracer, by their number in docs/hazards.md: programs that make its life hard, and what is right then. Those
//! that need no program of their own stand with the module that answers for them.

use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::Value;
use tests::{Project, Run, collect, gone, marker, until};

use super::{TOOL, command, memcheck};

const SOURCE: &str = include_str!("../fixtures/hazards.c");

/// The program in a project of its own.
pub(super) fn built() -> Project {
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
pub(super) fn ends_well(project: &Project, args: &str, checkpoints: &str) -> Run {
    ends_well_or(project, args, checkpoints).expect_code(0)
}

pub(super) fn ends_well_or(project: &Project, args: &str, checkpoints: &str) -> Run {
    let toml = format!(
        "[[case]]\nname = \"case\"\ntarget = {{ path = \"hazards\" }}\nargs = [{args}]\nexit = 0\nsnapshot = false\n\
         checkpoint = [{checkpoints}]\n"
    );
    project.write("memcheck.toml", &toml);
    memcheck(project, &[])
}

pub(super) const READY: &str = "{ name = \"ready\" }, { name = \"end\", at = \"exit\" }";

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
    let args = ["show", "--at", "exit", "--timeout", "300", "--", "./hazards", "flood", "4096"];
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
    assert!(most > 0 && most < 64 << 10, "{most} KiB for 4 GiB of output");
}

/// The options of unshare(1) for a pid namespace of one's own, in which one says which number comes next. Absent, and said so, on a
/// machine that permits no namespace.
fn own_pids(project: &Project) -> Option<Vec<&'static str>> {
    let spaces = ["--mount", "--pid", "--fork", "--mount-proc", "--kill-child"];
    let with_user = [&["--user", "--map-root-user"], &spaces[..]].concat();
    let mut said = String::new();
    for options in [spaces.to_vec(), with_user] {
        let run = project.run("unshare".as_ref(), &[&options[..], &["true"]].concat());
        if run.code == Some(0) {
            return Some(options);
        }
        said += &run.stderr;
    }
    assert!(said.contains("unshare"), "{said}");
    #[expect(clippy::print_stderr, reason = "what is not shown is said")]
    {
        eprintln!("hazard 33 is not shown: this machine permits no pid namespace: {said}");
    }
    None
}

/// A child ends, and another child of the target gets its number: it is another one, with a memory of its own.
#[test]
fn hazard_33_a_number_that_is_given_again_within_the_target() {
    let project = built();
    let toml = "[[case]]\nname = \"case\"\ntarget = { path = \"hazards\" }\nargs = [\"pid-reuse\"]\nexit = 0\nsnapshot = false\n\
                children = \"capture\"\ncheckpoint = [{ name = \"ready\", budget.threads.count = 1 }]\n";
    project.write("memcheck.toml", toml);
    let Some(spaces) = own_pids(&project) else { return };
    let line = [&spaces[..], &[TOOL, "--message-format", "json"]].concat();
    let run = project.run("unshare".as_ref(), &line).expect_code(0);
    let value: Value = serde_json::from_str(run.stdout.lines().next().unwrap()).unwrap();
    // The target itself says, by its end, that the last of them has the number of the first.
    let children = value["checkpoints"].as_array().unwrap().iter().filter_map(|one| {
        let number: u32 = one["name"].as_str()?.strip_prefix("hazards.")?.parse().ok()?;
        Some((number, one["own"]["anon"].as_u64()?))
    });
    let children: std::collections::BTreeMap<u32, u64> = children.collect();
    let ((_, first), (_, last)) = children.first_key_value().zip(children.last_key_value()).unwrap();
    assert!(children.len() > 1 && *first < 1 << 20 && *last > 4 << 20, "{children:?}");
}

/// A child ends, and a process that is none of the target's gets its number: it is neither signalled nor measured, nor taken for one
/// of the tree.
#[test]
fn hazard_33_a_number_that_is_given_to_a_stranger() {
    let project = built();
    let toml = "[[case]]\nname = \"case\"\ntarget = { path = \"hazards\" }\nargs = [\"pid-reuse\", \"stranger\"]\nexit = 0\n\
                snapshot = false\nchildren = \"capture\"\n\
                checkpoint = [{ name = \"ready\", budget.tree.processes = { min = 1, max = 1 } }]\n";
    project.write("memcheck.toml", toml);
    // The numbers that the shell's own children get in between are given back by trying again.
    let script = format!(
        "{TOOL} --message-format json > told 2> said & tool=$!\n\
         for i in $(seq 1000); do [ -e first ] && break; sleep 0.01; done\n\
         first=$(cat first)\n\
         for i in $(seq 1000); do\n\
         echo $((first - 1)) > /proc/sys/kernel/ns_last_pid; sleep 1000 & stranger=$!\n\
         [ $stranger = $first ] && break\n\
         kill -KILL $stranger; wait $stranger\n\
         done\n\
         echo \"stranger $stranger first $first\"\n\
         touch go; wait $tool; code=$?\n\
         kill -0 $stranger && cat /proc/$stranger/stat\n\
         kill -KILL $stranger; exit $code"
    );
    let Some(spaces) = own_pids(&project) else { return };
    let line = [&spaces[..], &["sh", "-c", &script]].concat();
    let run = project.run("unshare".as_ref(), &line);
    let (told, said) = (project.read("told"), project.read("said"));
    assert_eq!(run.code, Some(0), "{run:?}\n{told}\n{said}");
    let mut lines = run.stdout.lines();
    let first = lines.next().unwrap();
    let pid = first.rsplit(' ').next().unwrap();
    assert_eq!(first, format!("stranger {pid} first {pid}"));
    assert!(
        lines.next().is_some_and(|stat| stat.starts_with(&format!("{pid} (sleep) S"))),
        "{run:?}"
    );
    let value: Value = serde_json::from_str(told.lines().next().unwrap()).unwrap();
    assert_eq!(
        value["checkpoints"].as_array().unwrap().len(),
        2,
        "its own child, and `ready`: {value}"
    );
    assert!(!value["notes"].to_string().contains("CLONE_UNTRACED"), "{value}");
}

/// Nothing of ours depends on the vdso: what finds its calls there does without, and says so.
#[test]
fn hazard_38_a_target_without_a_vdso() {
    let project = built();
    let has_vdso = |value: &Value| {
        let mut pieces = value["checkpoints"][0]["pieces"].as_array().unwrap().iter();
        pieces.any(|piece| piece["subject"] == "[vdso]")
    };
    assert!(has_vdso(&unharmed(show(&project, &["mappings"]))));
    let value = unharmed(show(&project, &["no-vdso"]));
    assert!(!has_vdso(&value), "{value}");
    assert_eq!(value["end"]["code"], 0, "{value}");
    // Pages are protected by a call that the target makes for us, through an instruction of the vdso.
    let toml = "[[case]]\nname = \"case\"\ntarget = { path = \"hazards\" }\nargs = [\"no-vdso\"]\nexit = 0\nsnapshot = false\n\
                timeout = \"10s\"\nbudget.threads.count = 1\n\
                checkpoint = [{ name = \"ready\" }, { name = \"touched\", at = { touch = \"touched\" } }, { name = \"passed\" }]\n";
    project.write("memcheck.toml", toml);
    let run = project.run("timeout".as_ref(), &["-s", "KILL", "60", TOOL]);
    let run = run.expect_code(0);
    assert!(run.stderr.contains("all passed"), "{run:?}");
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
