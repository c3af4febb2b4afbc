//! Targets that do not do as planned: never reach a checkpoint, crash, end early, hang, ignore signals, leave a daemon.
//! Each case gets a clear message and exit code 7, and nothing is left running.

use std::time::{Duration, Instant};

use tests::{Project, gone, marker};

use super::{GROW, accepted, memcheck, one, snap};

/// `start`, then `body`, then `end`.
fn between(body: &str, rest: &str) -> Project {
    let source = format!(
        r#"
#define _GNU_SOURCE
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>
#include "memcheck.h"

static volatile int *volatile nowhere;

int main(int argc, char **argv) {{
    (void)argc, (void)argv, (void)nowhere;
    MEMCHECK_CHECKPOINT(start);
    {body}
    MEMCHECK_CHECKPOINT(end);
    return 0;
}}
"#
    );
    one(
        "case",
        &source,
        &format!("checkpoint = [{{ name = \"start\" }}, {{ name = \"end\" }}]\n{rest}"),
    )
}

#[test]
fn a_checkpoint_that_is_never_reached() {
    let project = accepted();
    super::gate::edit(&project, "{ name = \"grown\" }", "{ name = \"grwon\" }");
    let before = project.files();
    let _ = memcheck(&project, &[])
        .expect_code(7)
        .expect_all(&[
            "Could not judge",
            "checkpoint `grwon` was not reached",
            "memcheck.toml:6",
            "reached: start",
            "exited with code 0",
            "grown",
        ])
        .expect_last_line("measured 1 checkpoint in 1 case: 1 failed (1 not judged)");
    assert_eq!(project.files(), before, "what was not judged leaves nothing to accept");
    let _ = memcheck(&project, &["accept"])
        .expect_code(7)
        .expect_stderr("was not reached")
        .expect_last_line("nothing was pending, nothing was accepted");
}

#[test]
fn a_new_case_that_cannot_be_judged_is_not_accepted() {
    let project = between("exit(0);", "");
    let _ = memcheck(&project, &["accept"])
        .expect_code(7)
        .expect_stderr("case was not accepted")
        .expect_stderr("was not reached")
        .expect_last_line("nothing was accepted");
    assert!(!project.has(&snap("case")));
}

#[test]
fn a_function_that_does_not_exist() {
    let project = one(
        "case",
        &GROW.replace(
            "int main",
            "__attribute__((noinline)) void grow_pool(void) { __asm__(\"\"); }\nint main",
        ),
        "checkpoint = [{ name = \"a\", at = { function = \"grow_poll\" } }]",
    );
    let _ = memcheck(&project, &[]).expect_code(7).expect_all(&["grow_poll", "grow_pool"]);
}

#[test]
fn a_hit_that_is_too_high() {
    let project = one(
        "case",
        GROW,
        "checkpoint = [{ name = \"start\" }, { name = \"grown\", hit = 2 }]",
    );
    let _ = memcheck(&project, &[]).expect_code(7).expect_stderr("hit = 2 was asked for");
}

#[test]
fn a_crash() {
    let project = between("fputs(\"about to fall\\n\", stderr); return *nowhere;", "");
    let _ = memcheck(&project, &[]).expect_code(7).expect_all(&[
        "the target was killed by SIGSEGV before checkpoint `end`",
        "reached: start",
        "The target's standard error",
        "| about to fall",
    ]);
}

#[test]
fn an_early_exit() {
    let project = between("puts(\"no work\"); exit(3);", "");
    let _ = memcheck(&project, &[])
        .expect_code(7)
        .expect_all(&["the target exited with code 3 before checkpoint `end`", "| no work"]);
}

#[test]
fn another_end_than_planned() {
    let project = between("", "after_last = \"run\"\nexit = 4");
    let _ = memcheck(&project, &[])
        .expect_code(7)
        .expect_all(&["exited with code 0, expected was exit code 4", "exit = 0"]);
}

#[test]
fn a_hang() {
    let word = marker("hang");
    let project = between("pause();", &format!("timeout = \"500ms\"\nargs = [\"{word}\"]"));
    let began = Instant::now();
    let _ = memcheck(&project, &[]).expect_code(7).expect_all(&[
        "checkpoint `end` was not reached",
        "reached: start",
        "the time limit of 500 ms was over",
        "timeout =",
    ]);
    assert!(began.elapsed() < Duration::from_secs(40), "{:?}", began.elapsed());
    assert!(gone(&word));
}

#[test]
fn a_busy_loop_that_ignores_every_signal_it_can() {
    let word = marker("ignore");
    let body = "for (int i = 1; i < NSIG; i++) signal(i, SIG_IGN); for (;;) { __asm__ volatile(\"\"); }";
    let project = between(body, &format!("timeout = \"500ms\"\nargs = [\"{word}\"]"));
    let began = Instant::now();
    let _ = memcheck(&project, &[])
        .expect_code(7)
        .expect_stderr("the time limit of 500 ms was over");
    assert!(began.elapsed() < Duration::from_secs(40), "{:?}", began.elapsed());
    assert!(gone(&word));
}

#[test]
fn a_target_that_stops_itself() {
    let word = marker("stop");
    let project = between("raise(SIGSTOP);", &format!("timeout = \"500ms\"\nargs = [\"{word}\"]"));
    let _ = memcheck(&project, &[]).expect_code(7).expect_stderr("was not reached");
    assert!(gone(&word));
}

/// Forks twice, leaves its session, keeps the pipes open and passes through checkpoints of the parent's.
const DAEMON: &str = "pid_t child = fork();
    if (child == 0) {
        setsid();
        if (fork() == 0)
            for (;;)
                pause();
        _exit(0);
    }
    waitpid(child, NULL, 0);";

#[test]
fn a_daemon_does_not_outlive_its_case() {
    for rest in ["", "after_last = \"run\""] {
        let word = marker("daemon");
        let project = between(DAEMON, &format!("args = [\"{word}\"]\n{rest}"));
        let began = Instant::now();
        let _ = memcheck(&project, &["accept"]).expect_code(0);
        let _ = memcheck(&project, &[]).expect_code(0);
        assert!(began.elapsed() < Duration::from_secs(20), "{:?}", began.elapsed());
        assert!(gone(&word), "{rest}");
    }
}

#[test]
fn a_child_runs_through_a_checkpoint_without_harm() {
    let body = "pid_t child = fork();
    if (child == 0) {
        MEMCHECK_CHECKPOINT(end);
        _exit(7);
    }
    int status = 0;
    waitpid(child, &status, 0);
    if (!WIFEXITED(status) || WEXITSTATUS(status) != 7)
        exit(9);";
    let project = between(body, "");
    let _ = memcheck(&project, &["accept"]).expect_code(0);
    let _ = memcheck(&project, &[])
        .expect_code(0)
        .expect_last_line("measured 2 checkpoints in 1 case: all passed");
}

#[test]
fn a_crash_that_is_planned() {
    let project = one(
        "case",
        &GROW.replace("return 0;", "return *(volatile int *volatile)NULL;"),
        "exit = { signal = \"SIGSEGV\" }\ncheckpoint = [{ name = \"start\" }, { name = \"end\", at = \"exit\" }]",
    );
    let _ = memcheck(&project, &["accept"]).expect_code(0);
    let _ = memcheck(&project, &[]).expect_code(0);
}

#[test]
fn a_flood_of_output_neither_blocks_nor_fills_the_memory() {
    let body = "for (int i = 0; i < 200000; i++) puts(\"0123456789012345678901234567890123456789\"); exit(1);";
    let project = between(body, "");
    let run = memcheck(&project, &[])
        .expect_code(7)
        .expect_all(&["exited with code 1", "dropped"]);
    assert!(run.stderr.len() < 10_000, "{}", run.stderr.len());
}

/// Control bytes and words that a log would obey come out harmless.
#[test]
fn output_is_escaped() {
    let project = between("puts(\"\\033[2J\\r::error::x\"); exit(1);", "");
    let run = memcheck(&project, &[]).expect_code(7).expect_stderr("::error::x");
    assert!(!run.stderr.contains(['\u{1b}', '\r']), "{}", run.stderr);
    assert!(
        run.stderr.lines().all(|line| !line.trim_start().starts_with("::")),
        "{}",
        run.stderr
    );
}

#[test]
fn the_target_does_not_get_our_standard_input_nor_secrets() {
    let body = "if (getchar() != EOF || getenv(\"GITHUB_TOKEN\") != NULL || getenv(\"MALLOC_ARENA_MAX\") != NULL) exit(5);";
    let project = between(body, "");
    let env = [("GITHUB_TOKEN", "x"), ("MALLOC_ARENA_MAX", "1")];
    let _ = super::memcheck_with(&project, &["accept"], &env).expect_code(0);
    let _ = super::memcheck_with(&project, &[], &env)
        .expect_code(0)
        .expect_stderr("MALLOC_ARENA_MAX is set here but was not passed");
}
