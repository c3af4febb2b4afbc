//! `detach = true`: after its last checkpoint a target is as if nobody had ever looked.

use std::time::Duration;

use tests::{Run, gone, marker, until};

use super::{memcheck, one, start};

/// Traces itself through a child after its checkpoint, as LeakSanitizer does, and says whether that worked.
const SOURCE: &str = r#"
#include <stdio.h>
#include <string.h>
#include <stdlib.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/wait.h>
#include <unistd.h>
#include "memcheck.h"

__attribute__((noinline)) void again(void) { MEMCHECK_CHECKPOINT(again); }

int main(int argc, char **argv) {
    MEMCHECK_CHECKPOINT(ready);
    again();
    if (argc > 2 && !strcmp(argv[2], "hang"))
        for (;;)
            pause();
    int go[2];
    char byte = 0;
    if (pipe(go))
        return 1;
    pid_t child = fork();
    if (child == 0) {
        if (read(go[0], &byte, 1) != 1)
            _exit(1);
        long result = ptrace(PTRACE_ATTACH, getppid(), 0, 0);
        if (result == 0) {
            waitpid(getppid(), NULL, __WALL);
            ptrace(PTRACE_DETACH, getppid(), 0, 0);
        }
        _exit(result == 0 ? 40 : 41);
    }
    prctl(PR_SET_PTRACER, child, 0, 0, 0);
    if (write(go[1], &byte, 1) != 1)
        return 2;
    int status;
    waitpid(child, &status, 0);
    again();
    return WEXITSTATUS(status);
}
"#;

fn case(rest: &str) -> tests::Project {
    one(
        "case",
        SOURCE,
        &format!("checkpoint = [{{ name = \"ready\" }}]\nsnapshot = false\n{rest}"),
    )
}

#[track_caller]
fn run(rest: &str) -> Run {
    memcheck(&case(rest), &[])
}

#[test]
fn a_target_that_was_let_go_is_not_traced_any_more() {
    let _ = run("detach = true\nexit = 40").expect_code(0);
    let _ = run("exit = 41").expect_code(0);
    // A point that was not reached yet must not stay in the code.
    let project = case("detach = true\nexit = 40");
    super::gate::edit(
        &project,
        "[{ name = \"ready\" }]",
        "[{ name = \"ready\" }, { name = \"again\", hit = 1 }]",
    );
    let _ = memcheck(&project, &[]).expect_code(0);
}

#[test]
fn its_end_is_judged() {
    let _ = run("detach = true")
        .expect_code(7)
        .expect_stderr("exited with code 40, expected was exit code 0");
    let exit = "detach = true\ncheckpoint = [{ name = \"ready\" }, { name = \"end\", at = \"exit\" }]";
    let _ = memcheck(&one("case", SOURCE, exit), &[])
        .expect_code(2)
        .expect_stderr("`detach` lets the target go before its end");
}

#[test]
fn none_outlives_its_case() {
    let word = marker("detach");
    let rest = format!("detach = true\nargs = [\"{word}\", \"hang\"]\n");
    let _ = run(&format!("{rest}timeout = \"3s\""))
        .expect_code(7)
        .expect_stderr("did not end within");
    assert!(gone(&word));
    for signal in ["INT", "KILL"] {
        let project = case(&rest);
        let tool = start(&project, &[]);
        assert!(until(Duration::from_secs(20), || !tests::processes_with(&word).is_empty()));
        let _ = super::shell(&project, &format!("kill -{signal} {}", tool.id())).expect_code(0);
        let _ = tests::collect(tool);
        assert!(gone(&word), "{signal}");
    }
}

#[test]
fn its_steps_are_waited_for() {
    let step = |run: &str| format!("detach = true\n[[case.step]]\nafter = \"ready\"\nrun = [\"sh\", \"-c\", \"{run}\"]\n");
    let project = case(&format!("exit = 40\n{}", step("sleep 0.5; echo > done")));
    let _ = memcheck(&project, &[]).expect_code(0);
    assert!(project.has("done"));
    // One that fails ends the case, whatever the target does.
    let word = marker("detach-step");
    let hangs = format!("args = [\"{word}\", \"hang\"]\ntimeout = \"600s\"\n{}", step("exit 3"));
    let _ = run(&hangs).expect_code(7).expect_stderr("exited with code 3");
    assert!(gone(&word));
}

#[test]
fn leak_sanitizer_works_and_is_proposed() {
    let source = r#"
#include <stdlib.h>
#include "memcheck.h"
void *volatile kept;
int main(void) {
    kept = malloc(100);
    MEMCHECK_CHECKPOINT(ready);
    kept = NULL;
    return 0;
}
"#;
    let toml = |rest: &str| {
        format!(
            "[[case]]\nname = \"leak\"\ntarget = {{ c = \"main.c\", cflags = [\"-fsanitize=leak\"], ldflags = [\"-fsanitize=leak\"] }}\n\
             snapshot = false\ncheckpoint = [{{ name = \"ready\" }}]\n{rest}\n"
        )
    };
    let project = tests::Project::new()
        .file("main.c", source)
        .file("memcheck.toml", &toml("after_last = \"run\""));
    let _ = memcheck(&project, &[])
        .expect_code(7)
        .expect_stderr("detach = true lets the target go");
    // 23 is LeakSanitizer's own exit code for leaks.
    project.write("memcheck.toml", &toml("detach = true\nexit = 23"));
    let _ = memcheck(&project, &[]).expect_code(0);
}
