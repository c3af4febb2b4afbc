//! Checkpoints in programs without a marker: lines of output, series of passes, and what is said when they are not reached.

use tests::{Project, gone, marker};

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
fn the_redirection_of_a_shell_writes_to_standard_error() {
    let toml = |stream: &str| {
        format!(
            "[[case]]\nname = \"a\"\ntarget = {{ command = \"sh\" }}\nargs = [\"-c\", \"echo oh >&2\"]\nsnapshot = false\n\
             checkpoint = [{{ name = \"said\", at = {{ output = \"^oh$\", stream = \"{stream}\" }} }}]\n"
        )
    };
    let project = Project::new().file("memcheck.toml", &toml("stderr"));
    let _ = memcheck(&project, &[]).expect_code(0);
    project.write("memcheck.toml", &toml("stdout"));
    let _ = memcheck(&project, &[])
        .expect_code(7)
        .expect_stderr("checkpoint `said` was not reached");
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

/// The program of the arenas story, without a limit and with one, under the same budget.
#[test]
fn a_budget_that_the_naive_server_fails_and_the_capped_one_passes() {
    let source = include_str!("../../examples/c/arenas.c");
    let toml = |env: &str| {
        format!(
            "args = [\"alive\", \"6\"]\nsnapshot = false\n{env}\ncheckpoint = [{{ name = \"loaded\", budget.thread-arena.count = 2 }}]\n"
        )
    };
    let naive = one("server", source, &toml(""));
    let _ = memcheck(&naive, &[]).expect_code(3).expect_all(&[
        "Budget exceeded: thread-arena.count is 6, limit 2",
        "6 malloc arenas besides the main one: 6 threads, 6 arenas: one each.",
        "64 MiB of address space each, of which only 792 KiB are committed in all",
        "MALLOC_ARENA_MAX",
    ]);
    let capped = one("server", source, &toml("env = { MALLOC_ARENA_MAX = \"1\" }"));
    let _ = memcheck(&capped, &[]).expect_code(0);
}

/// Waits for signals; each SIGUSR1 allocates.
const SERVER: &str = r#"
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "memcheck.h"

static void more(int signal) { (void)signal; memset(malloc(50000), 1, 50000); }

int main(void) {
    signal(SIGUSR1, more);
    MEMCHECK_CHECKPOINT(ready);
    for (;;) pause();
}
"#;

/// `ready` is passed as soon as the workers are started; each then takes its time to touch what it needs.
const WARMS_UP: &str = r#"
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "memcheck.h"

static char *pages;
static void *warm_up(void *restless) {
    for (int i = 0; restless || i < 40; i++) {
        usleep(3000);
        pages = realloc(pages, (i % 40 + 1) << 18);
        memset(pages, 1, (i % 40 + 1) << 18);
    }
    return NULL;
}

int main(int argc, char **argv) {
    pthread_t worker;
    pthread_create(&worker, NULL, warm_up, argc > 1 ? argv : NULL);
    MEMCHECK_CHECKPOINT(ready);
    if (argc > 1)
        return 0;
    pthread_join(worker, NULL);
    return 0;
}
"#;

#[test]
fn a_checkpoint_with_settle_is_measured_when_memory_rests() {
    let rest = "settle = \"400ms\"\nbudget.mmap-chunk.anon = { min = \"10 MiB\" }\n";
    let case = "name = \"warms\"\ntarget = { c = \"warms.c\" }\n";
    let toml = format!("[[case]]\n{case}[[case.checkpoint]]\nname = \"ready\"\n{rest}");
    let project = Project::new().file("warms.c", WARMS_UP).file("memcheck.toml", &toml);
    let _ = memcheck(&project, &["accept"]).expect_code(0).expect_no_stderr("varies");
    let text = project.read(&snap("warms"));
    assert!(
        text.contains("mmap-chunk                1        10244        10244"),
        "{text}"
    );
    for _ in 0..3 {
        let _ = memcheck(&project, &[]).expect_code(0);
    }
    let restless = toml.replace("target", "args = [\"restless\"]\ntimeout = \"1500ms\"\ntarget");
    project.write("memcheck.toml", &restless);
    let _ = memcheck(&project, &[]).expect_code(7).expect_all(&[
        "checkpoint `ready` did not settle (probe ready, memcheck.toml:",
        "`probe ready` was passed, but memory was not the same for 400 ms (settle)",
        "its last change seen: ",
    ]);
    // Longer than the case may take: it would never be reached.
    project.write("memcheck.toml", &restless.replace("400ms", "2s"));
    let _ = memcheck(&project, &[])
        .expect_code(2)
        .expect_stderr("memory is to rest for as long as the whole case may take, or longer");
}

#[test]
fn steps_drive_a_server() {
    let project = one(
        "server",
        SERVER,
        r#"snapshot = false
checkpoint = [
    { name = "ready" },
    { name = "loaded", at = "step-done" },
    { name = "settled", at = "idle", budget.main-heap.anon = { max_growth = "0 B", over = "loaded" } },
]
[[case.step]]
after = "ready"
run = ["sh", "-c", "kill -USR1 $MEMCHECK_PID && echo it is driven"]
"#,
    );
    let _ = memcheck(&project, &[])
        .expect_code(0)
        .expect_last_line("measured 3 checkpoints in 1 case: all passed");
    let text = project.read("memcheck.toml");
    project.write("memcheck.toml", &text.replace("it is driven", "it is broken; exit 3"));
    let _ = memcheck(&project, &[]).expect_code(7).expect_all(&[
        "step `sh -c kill -USR1 $MEMCHECK_PID && echo it is broken; exit 3` after `ready` (memcheck.toml:",
        "exited with code 3",
        "it is broken",
    ]);
    project.write("memcheck.toml", &text.replace("\"sh\"", "\"no-such-program\""));
    let _ = memcheck(&project, &[]).expect_code(7).expect_stderr("could not be started");
    // What a step leaves running goes with the case.
    let marker = marker("step");
    let hangs = format!("sleep 1000 # {marker}");
    project.write(
        "memcheck.toml",
        &text
            .replace("kill -USR1 $MEMCHECK_PID && echo it is driven", &hangs)
            .replace("timeout", "")
            .replace("snapshot = false", "snapshot = false\ntimeout = \"3s\""),
    );
    let _ = memcheck(&project, &[])
        .expect_code(7)
        .expect_stderr("checkpoint `loaded` was not reached");
    assert!(gone(&marker), "the step was left running");
    let behind = format!("kill -USR1 $MEMCHECK_PID; sh -c 'sleep 1000; : {marker}' >/dev/null 2>&1 &");
    project.write(
        "memcheck.toml",
        &text.replace("kill -USR1 $MEMCHECK_PID && echo it is driven", &behind),
    );
    let _ = memcheck(&project, &[]).expect_code(0);
    assert!(gone(&marker), "what the step had started was left running");
}

/// A symbol table may say anything: a size that reaches beyond the last address is an error of its own case.
#[test]
fn a_variable_of_an_impossible_size_is_refused() {
    let source = r#"
#include <stdio.h>
__asm__(".globl huge\n.bss\nhuge: .zero 64\n.type huge, @object\n.size huge, 0xffffffffffffffff\n.text");
extern char huge[];
int main(void) { printf("%d\n", huge[0]); return 0; }
"#;
    let project = super::one(
        "huge",
        source,
        "snapshot = false\ncheckpoint = [{ name = \"written\", at = { touch = \"huge\" } }]\n\
         [[case]]\nname = \"other\"\nsnapshot = false\ntarget = { c = \"main.c\" }\nbudget.threads.count = 1\n\
         checkpoint = [{ name = \"main\", at = \"main\" }]",
    );
    let run = memcheck(&project, &[]);
    let _ = run
        .expect_code(7)
        .expect_all(&["touch of huge: no memory is mapped", "measured 1 checkpoint in 2 cases"]);
}
