//! `show`: tables of any program at any place, on standard output; nothing is judged and nothing is written.

use serde_json::Value;
use tests::{Project, Run};

use super::{GROW, accepted, grow, memcheck, shell};

/// The figures of the last row of that name.
#[track_caller]
fn row(run: &Run, name: &str) -> Vec<String> {
    let words = |line: &str| -> Vec<String> { line.split_whitespace().map(str::to_owned).collect() };
    let found = run
        .stdout
        .lines()
        .map(words)
        .rfind(|words| words.first().is_some_and(|word| word == name));
    found.unwrap_or_else(|| panic!("no row {name} in\n{}\n{}", run.stdout, run.stderr))
}

/// The program of [`GROW`], built by hand.
fn built() -> Project {
    let project = Project::new().file("grow.c", GROW);
    let header = concat!(env!("CARGO_MANIFEST_DIR"), "/../memcheck-probe");
    let include = format!("-I{header}/include");
    let built = project.run("cc".as_ref(), &["-g", "-o", "grow", "grow.c", &include]);
    let _ = built.expect_code(0);
    project
}

#[test]
fn any_program_at_main_and_at_exit() {
    let project = Project::new();
    let run = memcheck(&project, &["show", "--", "/bin/sh", "-c", "echo --at"]).expect_code(0);
    for text in [
        "sh @ main",
        "sh @ exit",
        "exe.text",
        "platform",
        "memcheck",
        "own",
        "total",
        "mappings",
        "r-x",
        "rw-",
    ] {
        assert!(run.stdout.contains(text), "no {text} in\n{}", run.stdout);
    }
    assert_eq!(run.stdout.matches("  total ").count(), 2, "{}", run.stdout);
    assert!(run.stdout.lines().all(|line| line.chars().count() <= 100), "{}", run.stdout);
    assert!(!run.stdout.contains('\x1b'));
    assert!(project.files().is_empty());
    assert!(!project.has("target"));
}

#[test]
fn a_place_of_ones_own_and_the_change_since_another() {
    let project = built();
    let args = ["show", "--since", "probe:start", "--at", "probe:grown", "--", "./grow", "16"];
    let run = memcheck(&project, &args)
        .expect_code(0)
        .expect_stdout("grow @ probe grown, change since probe start");
    // 16 × 64 KiB and the page of the chunk's header.
    assert_eq!(row(&run, "mmap-chunk")[1..5], ["+1", "+1028", "+1028", "+1028"]);
    assert!(!run.stdout.contains("main-stack"), "{}", run.stdout);
    let run = memcheck(&project, &["show", "--at", "function:main", "--fixed", "--", "./grow"]).expect_code(0);
    assert_eq!(row(&run, "main-stack")[1], "1");
    assert!(!run.stdout.contains("mmap-chunk"), "{}", run.stdout);
}

/// Every kind of place, in a program that nobody prepared.
#[test]
fn every_kind_of_place() {
    let at = |place: &str, script: &str| {
        let args = ["show", "--at", place, "--", "/bin/sh", "-c", script];
        let run = memcheck(&Project::new(), &args).expect_code(0);
        assert!(run.stdout.contains("  total "), "{place}\n{}", run.stdout);
        run
    };
    let _ = at("exec", ":");
    let _ = at("syscall:getppid", "echo $PPID; kill -0 $$");
    let _ = at("signal:SIGUSR1", "trap : USR1; kill -USR1 $$");
    let _ = at("output:^on [0-9]+$", "echo on 8080");
    let _ = at("stderr:not-there", "exec cat /not-there");
    let _ = at("library:libc", ":");
    let _ = at("after:50ms", "sleep 30");
    let _ = at("idle", "sleep 30");
    let _ = at("{ syscall = \"exit_group\", args = { 0 = 3 } }", "exit 3");
    let _ = memcheck(&Project::new(), &["show", "--at", "singal:SIGUSR1", "--", "true"])
        .expect_code(2)
        .expect_all(&["singal", "did you mean", "places: exec, main, exit"]);
}

/// What a checkpoint counts from is passed on the way to it: a step that drives the program, the checkpoint before.
#[test]
fn what_comes_before_a_checkpoint_is_done_for_it() {
    const SERVER: &str = r#"
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "memcheck.h"
char *volatile kept;
static volatile sig_atomic_t asked;
static void on(int signal) { (void)signal; asked = 1; }
int main(void) {
    signal(SIGUSR1, on);
    MEMCHECK_CHECKPOINT(ready);
    while (!asked) usleep(1000);
    kept = malloc(8 << 20);
    memset(kept, 1, 8 << 20);
    for (;;) pause();
}
"#;
    let rest = "checkpoint = [{ name = \"ready\" }, { name = \"loaded\", at = \"step-done\" }, { name = \"rest\", at = \"idle\" }]\n\
                [[case.step]]\nafter = \"ready\"\nrun = [\"sh\", \"-c\", \"kill -USR1 $MEMCHECK_PID; sleep 0.3\"]\n";
    let project = super::one("server", SERVER, rest);
    let show = |args: &[&str]| memcheck(&project, &[&["show"], args].concat()).expect_code(0);
    let stops = |run: &Run| -> Vec<String> {
        let stops = run.stdout.lines().filter_map(|line| line.strip_prefix("server @ "));
        stops.map(str::to_owned).collect()
    };
    for (args, at) in [
        (&["server@loaded"][..], "loaded (step-done)"),
        (&["server", "--at", "loaded"], "loaded (step-done)"),
        (&["server@rest"], "rest (idle)"),
        (&["server", "--at", "step-done"], "step-done"),
    ] {
        let run = show(args);
        assert_eq!(stops(&run), [at], "{args:?}: {}", run.stdout);
        assert_eq!(row(&run, "mmap-chunk")[3], "8196", "{args:?}: {}", run.stdout);
    }
    let run = show(&["server@ready"]);
    assert_eq!(stops(&run), ["ready (probe ready)"]);
    assert!(!run.stdout.contains("mmap-chunk"), "{}", run.stdout);
    let both = show(&["server@ready", "--at", "step-done"]);
    assert_eq!(stops(&both), ["ready (probe ready)", "step-done"]);
    let since = show(&["server@loaded", "--since", "ready"]);
    assert_eq!(stops(&since), ["loaded (step-done), change since ready"]);
    assert_eq!(row(&since, "mmap-chunk")[3], "+8196");
    let strings = show(&["server@loaded", "--strings", "mmap-chunk"]);
    assert_eq!(strings.stdout.matches(" @ ").count(), 1, "{}", strings.stdout);
}

/// Without a step there is nothing to be done.
#[test]
fn the_end_of_steps_that_are_not_there_is_no_place() {
    let _ = memcheck(&Project::new(), &["show", "--at", "step-done", "--", "true"])
        .expect_code(2)
        .expect_all(&["a program that no case describes has no step", "[[case.step]]", "--at idle"]);
    let _ = memcheck(&grow(), &["show", "grow", "--at", "step-done"])
        .expect_code(2)
        .expect_stderr("case grow has no step whose end could be waited for");
}

#[test]
fn a_path_is_no_case() {
    for project in [Project::new(), accepted()] {
        for (path, words) in [
            ("./nothing", "there is no file ./nothing"),
            (
                "./grow.txt",
                "./grow.txt is neither an ELF file nor results or captures of a run",
            ),
        ] {
            project.write("grow.txt", "");
            let _ = memcheck(&project, &["show", path])
                .expect_code(2)
                .expect_all(&[words, "show -- PROGRAM"]);
        }
    }
}

#[test]
fn a_script_is_called_one() {
    let project = Project::new().file("tool", "#!/bin/sh\nexec true\n");
    let run = shell(&project, "chmod +x tool; exec \"$TOOL\" show -- ./tool").expect_code(0);
    let words = "note: ./tool (a script: /bin/sh is what runs)";
    assert!(
        run.stdout.trim_start().starts_with(words),
        "before the tables: {}",
        run.stdout
    );
    assert_eq!(run.stdout.matches("(a script:").count(), 1, "{}", run.stdout);
    let run = memcheck(&project, &["show", "--", "true"]).expect_code(0);
    assert!(!run.stdout.contains("script"), "{}", run.stdout);
}

#[test]
fn how_the_program_ended_is_told() {
    let show = |script: &str| memcheck(&Project::new(), &["show", "--", "/bin/sh", "-c", script]).expect_code(0);
    let _ = show("exit 3").expect_stdout("end:  it exited with code 3");
    let _ = show("kill -SEGV $$").expect_stdout("end:  it was killed by SIGSEGV");
    let cut = memcheck(&Project::new(), &["show", "--at", "main", "--", "true"]).expect_code(0);
    assert!(!cut.stdout.contains("end:"), "we ended it: {}", cut.stdout);
}

#[test]
fn region_by_region_with_reasons() {
    let run = memcheck(&Project::new(), &["show", "-v", "--at", "exit", "--", "/bin/sh", "-c", ":"]).expect_code(0);
    assert!(run.stdout.matches("(certain)").count() > 10, "{}", run.stdout);
    assert!(run.stdout.contains("libc.so.6"), "{}", run.stdout);
}

#[test]
fn json_has_every_region_and_adds_up() {
    let run = memcheck(
        &Project::new(),
        &["show", "--message-format", "json", "--", "/bin/sh", "-c", ":"],
    )
    .expect_code(0);
    assert_eq!(run.stdout.lines().count(), 1);
    let value: Value = serde_json::from_str(&run.stdout).unwrap();
    assert_eq!((value["reason"].as_str(), value["schema"].as_u64()), (Some("show"), Some(0)));
    let stops = value["checkpoints"].as_array().unwrap();
    assert_eq!(stops.len(), 2);
    for stop in stops {
        for column in ["reserved", "resident", "anon"] {
            let sum: u64 = stop["roles"]
                .as_object()
                .unwrap()
                .values()
                .map(|role| role[column].as_u64().unwrap())
                .sum();
            assert_eq!(Some(sum), stop["total"][column].as_u64(), "{column} in {stop}");
        }
        assert!(
            stop["pieces"]
                .as_array()
                .unwrap()
                .iter()
                .all(|piece| piece["evidence"].is_string())
        );
        assert!(stop["roles"]["platform"]["access"].as_array().unwrap().len() > 1);
    }
}

#[test]
fn a_case_at_all_its_checkpoints_or_one() {
    let project = accepted();
    let before = project.files();
    let run = memcheck(&project, &["show", "grow"]).expect_code(0);
    for text in ["grow @ start (probe start)", "grow @ grown (probe grown)"] {
        assert!(run.stdout.contains(text), "{}", run.stdout);
    }
    let one = memcheck(&project, &["show", "grow@grown"]).expect_code(0);
    assert!(!one.stdout.contains("@ start"), "{}", one.stdout);
    let since = memcheck(&project, &["show", "grow", "--at", "exit", "--since", "start"]).expect_code(0);
    assert_eq!(row(&since, "main-heap")[1..3], ["+1", "+132"]);
    assert_eq!(project.files(), before);
}

#[test]
fn mistakes_and_places_that_are_not_reached() {
    let project = accepted();
    for (args, words) in [
        (&["show"][..], "show needs something to show"),
        (&["show", "grow", "--", "/bin/sh"], "not both"),
        (&["show", "grwo"], "there is no case `grwo`"),
        (&["show", "grow@nowhere"], "it has: start, grown"),
        (&["show", "--at", "man", "--", "/bin/sh"], "at = \"man\""),
        (
            &["show", "--since", "main", "--at", "main", "--", "/bin/sh"],
            "nothing could change",
        ),
    ] {
        let run = memcheck(&project, args).expect_code(2).expect_stderr(words);
        assert!(run.stdout.is_empty(), "{}", run.stdout);
    }
    let _ = memcheck(&project, &["show", "--", "no-such-program-at-all"])
        .expect_code(2)
        .expect_stdout("is not on PATH");
    // What was reached is shown all the same.
    let run = memcheck(
        &project,
        &[
            "show",
            "--at",
            "main",
            "--at",
            "probe:none",
            "--",
            "/bin/sh",
            "-c",
            "echo words; exit 3",
        ],
    )
    .expect_code(7)
    .expect_stdout("sh @ main")
    .expect_stdout("checkpoint `probe none` was not reached")
    .expect_stdout("words");
    assert!(run.stdout.contains("exit code 3"), "{}", run.stdout);
    let _ = memcheck(&project, &["show", "--timeout", "1", "--", "/bin/sh", "-c", "sleep 60"])
        .expect_code(7)
        .expect_stdout("sh @ main")
        .expect_stdout("--timeout SECONDS");
}

#[test]
fn the_help_names_show_and_init_after_run() {
    let help = memcheck(&Project::new(), &["--help"]).expect_code(0).stdout;
    let at = |word: &str| {
        help.find(&format!("\n  {word} "))
            .unwrap_or_else(|| panic!("no {word} in {help}"))
    };
    assert!(
        at("run") < at("show") && at("show") < at("init") && at("init") < at("accept"),
        "{help}"
    );
}

#[test]
fn what_counts_as_own_does_so_in_the_empty_program_too() {
    let at_exit = "checkpoint = [{ name = \"end\", at = \"exit\" }]";
    let project = super::one("nothing", "int main(void) { return 0; }\n", at_exit);
    let shown = || memcheck(&project, &["show", "nothing"]).expect_code(0).stdout;
    let before = shown();
    let toml = project.read("memcheck.toml");
    project.write("memcheck.toml", &format!("[defaults]\nown = [\"*\"]\n{toml}"));
    // What was measured before holds no longer.
    let all = shown();
    assert_ne!(figures(&all, "own ")[0], figures(&before, "own ")[0], "{all}");
    assert_eq!(figures(&all, "own ")[0], figures(&all, "- empty program")[0], "{all}");
    assert_eq!(figures(&all, "- the rest")[0], "0", "{all}");
}

/// The figures of a row of the table.
fn figures(text: &str, name: &str) -> Vec<String> {
    let line = text.lines().find_map(|line| line.trim_start().strip_prefix(name));
    let line = line.unwrap_or_else(|| panic!("no {name} in {text}"));
    line.split_whitespace().map(str::to_owned).collect()
}

#[test]
fn what_an_empty_program_costs_has_a_row_of_its_own_and_is_measured_once() {
    const EMPTY: &str = "int main(void) { return 0; }\n";
    let at_exit = "budget.own.anon = \"1 MiB\"\ncheckpoint = [{ name = \"end\", at = \"exit\" }]";
    let project = super::one("nothing", EMPTY, at_exit);
    let first = memcheck(&project, &["show", "nothing"]).expect_code(0).stdout;
    // Of a program that is one, nothing is left.
    assert_eq!(figures(&first, "- the rest")[..3], ["0", "0", "0"], "{first}");
    assert_eq!(
        figures(&first, "own ")[..3],
        figures(&first, "- empty program")[..3],
        "{first}"
    );
    assert!(first.contains("an empty C program ("), "{first}");
    let kept = || {
        let all = std::fs::read_dir(project.path().join("target/memcheck-data/empty")).unwrap();
        let names = all.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        names.filter(|name| name.ends_with(".txt")).count()
    };
    assert_eq!(kept(), 1);
    // A megabyte of it is the program's own.
    project.write(
        "main.c",
        "static volatile char block[1 << 20] = { 1 };\nint main(void) { return block[0] - 1; }\n",
    );
    let now = memcheck(&project, &["show", "nothing"]).expect_code(0).stdout;
    assert_eq!(figures(&now, "- the rest")[0], "1024", "{now}");
    assert_eq!(figures(&now, "- empty program"), figures(&first, "- empty program"));
    assert_eq!(kept(), 1, "measured once");
    let json = memcheck(&project, &["show", "nothing", "--message-format", "json"])
        .expect_code(0)
        .stdout;
    let value: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(value["empty_program"]["language"], "C");
    assert!(value["checkpoints"][0]["empty"]["anon"].is_u64(), "{value}");
    let table = memcheck(&project, &["budget"]).expect_code(0).stdout;
    assert!(table.contains("(empty C program)"), "{table}");
    assert!(table.contains("1 limit: all kept"), "{table}");
    // With flags that make no program of it that is not known, and said.
    let toml = project.read("memcheck.toml");
    let toml = toml.replace("{ c = \"main.c\" }", "{ c = \"main.c\", ldflags = [\"-nostartfiles\"] }");
    project.write("memcheck.toml", &toml);
    project.write("main.c", "#include <unistd.h>\nvoid _start(void) { _exit(0); }\n");
    let run = memcheck(&project, &["show", "nothing"]).expect_code(0);
    let said = run.stdout.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(
        said.contains("note: what an empty program costs here is not known: "),
        "{said}"
    );
    assert!(!said.contains("- the rest"), "{said}");
}
