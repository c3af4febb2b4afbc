//! Targets that are tracers themselves (docs/hazards.md, 11): refused by name while we trace, and what lets them work.

use serde_json::Value;
use tests::{Project, Run, gone, marker};

use super::{TOOL, memcheck};

const SOURCE: &str = include_str!("../fixtures/tracer.c");

/// The fixture ends with 40 when its own tracing worked, and with 41 when it was refused.
const WORKED: &str = "exit = 40";
const REFUSED: &str = "exit = 41";
const BOTH: &str = "checkpoint = [{ name = \"ready\" }, { name = \"done\" }]";

fn built() -> Project {
    let project = Project::new().file("tracer.c", SOURCE);
    let include = format!("-I{}/../memcheck-probe/include", env!("CARGO_MANIFEST_DIR"));
    let flags = ["-O1", "-pthread", "-o", "tracer", "tracer.c", &include];
    let _ = project.run("cc".as_ref(), &flags).expect_code(0);
    project
}

fn case(project: &Project, args: &str, rest: &str) -> Run {
    let toml = format!(
        "[[case]]\nname = \"case\"\ntarget = {{ path = \"tracer\" }}\nargs = [{args}]\nsnapshot = false\nbudget.threads.count = 9\n\
         timeout = \"20s\"\n{rest}\n"
    );
    project.write("memcheck.toml", &toml);
    memcheck(project, &[])
}

#[test]
fn hazard_11_children_that_are_let_go_can_be_traced() {
    let project = built();
    for mode in ["gdb", "gdb-fork", "strace"] {
        let args = format!("\"{mode}\"");
        let _ = case(&project, &args, &format!("{BOTH}\n{REFUSED}")).expect_code(0);
        let go = format!("children = \"detach\"\n{WORKED}");
        let _ = case(&project, &args, &format!("{BOTH}\n{go}"))
            .expect_code(0)
            .expect_last_line("measured 2 checkpoints in 1 case: all passed");
        // With checkpoints that children inherit in their code, pass, and must not die of; and with the end.
        let points = "checkpoint = [{ name = \"ready\" }, { name = \"passed\", hit = 1000 }, { name = \"done\" }, { name = \"end\", \
                      at = \"exit\" }]\nafter_last = \"run\"";
        let run = case(&project, &args, &format!("{points}\n{go}")).expect_code(7);
        let _ = run.expect_all(&["checkpoint `passed` was not reached", "reached: ready, done, end"]);
    }
}

/// A vfork child has the memory of its parent: our breakpoints are out of it until it is back, and no other thread misses one.
#[test]
fn hazard_11_no_pass_is_missed_while_a_child_has_the_memory() {
    let project = built();
    let rest = format!(
        "children = \"detach\"\n{WORKED}\ncheckpoint = [{{ name = \"ready\" }}, {{ name = \"beside\", hit = 1000000000 }}]"
    );
    let run = case(&project, "\"gdb-beside\"", &rest).expect_code(7);
    let told = run
        .stderr
        .lines()
        .find_map(|line| line.split("beside ").nth(1)?.trim().parse::<u64>().ok());
    let said = run.stderr.split_whitespace().collect::<Vec<_>>().join(" ");
    let passed = said
        .split("was passed ")
        .nth(1)
        .and_then(|rest| rest.split(' ').next()?.parse().ok());
    assert!(
        told.is_some_and(|told| told > 100) && told == passed,
        "{told:?} {passed:?}\n{}",
        run.stderr
    );
}

/// One that attaches to the program itself has to wait until that is let go.
#[test]
fn hazard_11_a_program_that_is_let_go_can_be_traced() {
    let project = built();
    let ready = "checkpoint = [{ name = \"ready\" }]";
    for mode in ["\"crash-handler\"", "\"strace\"", "\"gdb\""] {
        let _ = case(&project, mode, &format!("{ready}\n{REFUSED}")).expect_code(0);
        let _ = case(&project, mode, &format!("{ready}\ndetach = true\n{WORKED}")).expect_code(0);
    }
    // It asks its parent to trace it, which is us: it is let go once more.
    let _ = case(&project, "\"itself\"", &format!("{ready}\ndetach = true\n{WORKED}")).expect_code(0);
    // Of a thread that asked for it the end is ours to collect, or its process never ends.
    let toml = project.read("memcheck.toml").replace("itself", "thread-itself");
    project.write("memcheck.toml", &toml);
    let _ = project.run("timeout".as_ref(), &["-s", "KILL", "15", TOOL]).expect_code(0);
}

/// Where a filter is in place its calls are seen, and what was refused is named with what to do.
#[test]
fn hazard_11_what_is_refused_is_named() {
    let project = built();
    let notes = |mode: &str| {
        let run = memcheck(&project, &["show", "--message-format", "json", "--", "./tracer", mode]).expect_code(0);
        let value: Value = serde_json::from_str(&run.stdout).unwrap();
        assert_eq!(value["end"]["code"], 41, "{value}");
        value["notes"].to_string()
    };
    for (mode, whom, remedy) in [
        ("gdb", "a child of its own", "children = \\\"detach\\\""),
        ("gdb-fork", "a child of its own", "children = \\\"detach\\\""),
        ("strace", "a process of the case", "children = \\\"detach\\\""),
        ("crash-handler", "a process of the case", "detach = true"),
        ("itself", "itself", "detach = true"),
    ] {
        let notes = notes(mode);
        assert!(
            notes.contains(&format!("tracer was not let trace {whom} (ptrace)")) && notes.contains(remedy),
            "{mode}: {notes}"
        );
    }
    // With a point at that very call, too, in whichever process it is made.
    let points = "checkpoint = [{ name = \"ready\" }, { name = \"call\", at = { syscall = \"ptrace\" } }]\nafter_last = \"run\"";
    for mode in ["gdb", "itself"] {
        let _ = case(&project, &format!("\"{mode}\""), &format!("{points}\n{REFUSED}")).expect_stderr("tracer was not let trace");
    }
}

/// Where no filter is in place nothing is seen; a program that fails and takes `ptrace` from libc is told what may be the reason.
#[test]
fn hazard_11_what_may_have_been_refused_is_told() {
    let project = built();
    let words = "the program calls ptrace: if it traces its children";
    let _ = case(&project, "\"gdb\"", &format!("{BOTH}\nexit = 0"))
        .expect_code(7)
        .expect_stderr(words);
    let go = "children = \"detach\"";
    let _ = case(&project, "\"gdb\"", &format!("{BOTH}\nexit = 0\n{go}"))
        .expect_code(7)
        .expect_no_stderr("calls ptrace");
}

/// They are nobody's tracees any more, and are still ended with their case.
#[test]
fn hazard_11_children_that_were_let_go_are_ended_with_the_case() {
    let project = built();
    let word = marker("let-go");
    let args = format!("\"leaves\", \"{word}\"");
    let go = "children = \"detach\"";
    for rest in [format!("{BOTH}\n{go}"), format!("{BOTH}\n{go}\n{WORKED}")] {
        let run = case(&project, &args, &rest).expect_code(0);
        assert_eq!(run.stderr.matches("was still running: killed").count(), 2, "{}", run.stderr);
        assert!(gone(&word));
    }
}

#[test]
fn what_cannot_be_let_go_is_refused() {
    let project = built();
    let refused = |rest: &str, words: &str| {
        let _ = case(&project, "", rest).expect_code(2).expect_stderr(words);
    };
    let go = "children = \"detach\"";
    for key in [go, "detach = true"] {
        for at in [
            "{ syscall = \"pause\" }",
            "{ output = \"x\" }",
            "{ library = \"libx\" }",
            "{ thread = \"end\" }",
        ] {
            let rest = format!("{key}\ncheckpoint = [{{ name = \"here\", at = {at} }}]");
            refused(&rest, "needs a filter on system calls that would stay in it");
        }
        refused(
            &format!("{key}\nwatch = \"stacks\"\n{BOTH}"),
            "and `watch = \"stacks\"` needs a filter",
        );
    }
    refused(
        &format!("{go}\ntree = true\n{BOTH}"),
        "children that are let go cannot be summed up",
    );
    refused(
        &format!("{go}\ncheckpoint = [{{ name = \"here\", at = \"main\", child = \"sh.1\" }}]"),
        "is in a child, but children are let go",
    );
}
