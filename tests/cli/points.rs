//! Checkpoints in programs without a marker: lines of output, series of passes, and what is said when they are not reached.

use super::{memcheck, one, snap};

const ROUNDS: &str = r#"
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

__attribute__((noinline)) void turn(int n) { __asm__ volatile("" : : "r"(n) : "memory"); }

int main(int argc, char **argv) {
    (void)argc;
    for (int i = 0; i < atoi(argv[1]); i++) {
        memset(malloc(5000), i + 1, 5000);
        turn(i);
    }
    printf("ready on %d\n", 80);
    if (argv[2]) fflush(stdout);
    raise(SIGSTOP);
    return 0;
}
"#;

#[test]
fn a_line_in_a_buffer_is_explained() {
    let project = one(
        "case",
        ROUNDS,
        "args = [\"1\"]\ntimeout = \"700ms\"\n[[case.checkpoint]]\nname = \"ready\"\nat = { output = \"^ready on [0-9]+$\" }\n",
    );
    let _ = memcheck(&project, &[]).expect_code(7).expect_all(&[
        "checkpoint `ready` was not reached (output /^ready on [0-9]+$/, memcheck.toml:",
        "stdout is block-buffered on a pipe: fflush, or tty = true",
    ]);
    project.write(
        "memcheck.toml",
        &project.read("memcheck.toml").replace("timeout = \"700ms\"", "tty = true"),
    );
    let _ = memcheck(&project, &["accept"]).expect_code(0);
    let _ = memcheck(&project, &[]).expect_code(0);
}

#[test]
fn a_series_holds_as_many_passes_as_there_are() {
    let project = one(
        "case",
        ROUNDS,
        "args = [\"3\"]\n[[case.checkpoint]]\nname = \"turn\"\nat = { function = \"turn\" }\nevery = true\nlimit = 5\n\
         [[case.checkpoint]]\nname = \"stop\"\nat = { signal = \"SIGSTOP\" }\n",
    );
    let _ = memcheck(&project, &[])
        .expect_code(2)
        .expect_stderr("SIGSTOP is never delivered");
    let text = project
        .read("memcheck.toml")
        .replace("{ signal = \"SIGSTOP\" }", "{ syscall = \"tgkill\" }");
    project.write("memcheck.toml", &text);
    let _ = memcheck(&project, &["accept"]).expect_code(0);
    let snapshot = project.read(&snap("case"));
    for head in [
        "checkpoint turn.1 ",
        "checkpoint turn.3 (change since turn.2)",
        "checkpoint stop (change since turn.3)",
    ] {
        assert!(snapshot.contains(head), "{snapshot}");
    }
    assert!(!snapshot.contains("turn.4"), "{snapshot}");
    // One pass more is a difference, no pass at all cannot be judged.
    project.write("memcheck.toml", &text.replace("[\"3\"]", "[\"4\"]"));
    let _ = memcheck(&project, &[]).expect_code(5).expect_stderr("measured 5 checkpoints");
    project.write("memcheck.toml", &text.replace("[\"3\"]", "[\"0\"]"));
    let _ = memcheck(&project, &[])
        .expect_code(7)
        .expect_stderr("checkpoint `turn.1` was not reached");
}
