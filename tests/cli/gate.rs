//! The gate itself: no snapshot, accept, equal, grown, over a limit; what each step says and which files it leaves.

use tests::Project;

use super::{accepted, grow, memcheck, snap};

#[test]
fn from_no_snapshot_to_green() {
    let project = grow();
    let _ = memcheck(&project, &[])
        .expect_code(5)
        .expect_stderr("no approved snapshot")
        .expect_stderr("cargo memcheck accept grow")
        .expect_last_line("measured 2 checkpoints in 1 case: 1 failed (1 snapshot)");
    let pending = project.read("memcheck/snapshots/grow.snap.new");
    assert!(pending.contains("checkpoint grown (change since start)"), "{pending}");

    let _ = memcheck(&project, &["accept"])
        .expect_code(0)
        .expect_stderr("memcheck/snapshots/grow.snap")
        .expect_stderr("memcheck/snapshots/environment.snap")
        .expect_last_line("accepted 2 snapshots");
    let first = project.files();
    assert_eq!(
        project.paths(),
        [
            "grow.c",
            "memcheck.toml",
            "memcheck/snapshots/environment.snap",
            "memcheck/snapshots/grow.snap"
        ]
    );
    let run = memcheck(&project, &[]).expect_code(0).expect_no_stderr("warning");
    assert!(run.stdout.is_empty(), "{}", run.stdout);
    let _ = run.expect_last_line("measured 2 checkpoints in 1 case: all passed");

    let _ = memcheck(&project, &["accept"])
        .expect_code(0)
        .expect_last_line("nothing was pending: measured again, 1 case is as approved");
    assert_eq!(project.files(), first, "a second accept changes nothing");
    std::fs::remove_file(project.path().join(snap("grow"))).unwrap();
    let _ = memcheck(&project, &["accept", "grow"]).expect_code(0);
    assert_eq!(project.files(), first, "measured again, the same bytes");
}

#[test]
fn growth_is_told_reviewed_and_rejected() {
    let project = accepted();
    let approved = project.read(&snap("grow"));
    edit(&project, "args = [\"1\"]", "args = [\"5\"]");
    let _ = memcheck(&project, &[])
        .expect_code(5)
        .expect_all(&[
            "FAIL",
            "grow @ grown",
            "Snapshot differs",
            "Cause",
            "mmap-chunk",
            "cargo memcheck accept grow",
        ])
        .expect_last_line("measured 2 checkpoints in 1 case: 1 failed (1 snapshot)");
    assert_eq!(project.read(&snap("grow")), approved);
    assert!(project.has("memcheck/snapshots/grow.snap.new"));

    let _ = memcheck(&project, &["review"])
        .expect_code(2)
        .expect_stderr("standard input is no terminal")
        .expect_stderr("cargo memcheck accept");
    let _ = memcheck(&project, &["reject"])
        .expect_code(0)
        .expect_stderr("memcheck/snapshots/grow.snap");
    assert!(!project.has("memcheck/snapshots/grow.snap.new"));
    assert_eq!(project.read(&snap("grow")), approved);
    let _ = memcheck(&project, &["reject"])
        .expect_code(0)
        .expect_stderr("nothing was pending");

    let _ = memcheck(&project, &[]).expect_code(5);
    edit(&project, "args = [\"5\"]", "args = [\"1\"]");
    let _ = memcheck(&project, &[]).expect_code(0);
    assert!(
        !project.has("memcheck/snapshots/grow.snap.new"),
        "a pending file that is outdated goes away"
    );
}

/// `COUNT` threads end without being joined.
const THREADS: &str = r#"
#define _GNU_SOURCE
#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>
#include "memcheck.h"

static atomic_int id;

static void *work(void *unused) {
    atomic_store(&id, (int)syscall(SYS_gettid));
    return unused;
}

int main(int argc, char **argv) {
    const struct timespec pause = {.tv_nsec = 100000};
    pthread_t thread;
    MEMCHECK_CHECKPOINT(start);
    for (int i = argc > 1 ? atoi(argv[1]) : 1; i > 0; i--) {
        atomic_store(&id, 0);
        if (pthread_create(&thread, NULL, work, NULL) != 0)
            return 1;
        while (atomic_load(&id) == 0 || syscall(SYS_tgkill, getpid(), atomic_load(&id), 0) == 0)
            nanosleep(&pause, NULL);
    }
    MEMCHECK_CHECKPOINT(ended);
    MEMCHECK_CHECKPOINT(later);
    return 0;
}
"#;

const THREADS_TOML: &str = r#"[[case]]
name = "threads"
target = { c = "threads.c", cflags = ["-pthread"], ldflags = ["-pthread"] }
args = ["1"]

[[case.checkpoint]]
name = "start"

[[case.checkpoint]]
name = "ended"
budget.thread-stack.exited.count = 1

[[case.checkpoint]]
name = "later"
"#;

#[test]
fn one_more_thread_that_nobody_joins() {
    let project = Project::new().file("threads.c", THREADS).file("memcheck.toml", THREADS_TOML);
    let _ = memcheck(&project, &["accept"]).expect_code(0);
    let _ = memcheck(&project, &[]).expect_code(0);
    let before = project.read(&snap("threads"));

    edit(&project, "args = [\"1\"]", "args = [\"2\"]");
    let _ = memcheck(&project, &[])
        .expect_code(3)
        .expect_all(&[
            "threads",
            "Budget exceeded: thread-stack.exited.count is 2",
            "limit 1",
            "(memcheck.toml:11)",
            "Snapshot differs",
            "Cause",
            "not joined",
            "Cost",
            "8192 KiB",
            "raise memcheck.toml:11",
            "cargo memcheck accept threads",
            "OVER",
        ])
        .expect_last_line("measured 3 checkpoints in 1 case: 1 failed (1 budget, 1 snapshot)");

    edit(&project, "exited.count = 1", "exited.count = 2");
    let _ = memcheck(&project, &[])
        .expect_code(5)
        .expect_no_stderr("Budget exceeded")
        .expect_stderr("Snapshot differs");
    let _ = memcheck(&project, &["accept", "threads"]).expect_code(0);
    let _ = memcheck(&project, &[]).expect_code(0);

    let after = project.read(&snap("threads"));
    let (old, new): (Vec<&str>, Vec<&str>) = (before.lines().collect(), after.lines().collect());
    assert_eq!(old.len(), new.len(), "{before}\n{after}");
    let changed: Vec<usize> = (0..old.len()).filter(|i| old[*i] != new[*i]).collect();
    assert!((1..=4).contains(&changed.len()), "{before}\n{after}");
    let heads: Vec<&str> = changed
        .iter()
        .filter_map(|i| new[..*i].iter().rev().find(|line| line.starts_with("checkpoint ")).copied())
        .collect();
    assert!(heads.iter().all(|head| head.starts_with("checkpoint ended ")), "{heads:?}");
}

#[test]
fn accepting_does_not_lift_a_budget() {
    let project = accepted();
    edit(
        &project,
        "{ name = \"grown\" }",
        "{ name = \"grown\", budget.own.anon = \"4 KiB\" }",
    );
    let _ = memcheck(&project, &["accept"]).expect_code(0);
    let _ = memcheck(&project, &[])
        .expect_code(3)
        .expect_stderr("own.anon")
        .expect_stderr("4 KiB")
        .expect_last_line("measured 2 checkpoints in 1 case: 1 failed (1 budget)");
}

/// The size of the block differs from run to run: the accepted snapshot says so, and the row is not gated.
#[test]
fn a_row_that_varies_is_named_and_not_gated() {
    let source = super::GROW
        .replace("argc > 1 ? strtoul(argv[1], NULL, 10) : 1", "turn()")
        .replace(
            "int main",
            r#"#include <stdio.h>
static unsigned long turn(void) {
    unsigned long turns = 3;
    char text[2] = "3";
    FILE *file = fopen("turn", "r+");
    if (file != NULL) {
        if (fread(text, 1, 1, file) == 1)
            turns = (unsigned long)(text[0] - '0');
        rewind(file);
        text[0]++;
        fwrite(text, 1, 1, file);
        fclose(file);
    }
    return turns;
}
int main"#,
        );
    let project = grow().file("grow.c", &source).file("turn", "4");
    let _ = memcheck(&project, &["accept"])
        .expect_code(0)
        .expect_stderr("Varies")
        .expect_stderr("mmap-chunk");
    assert!(project.read(&snap("grow")).contains("varies"));
    let _ = memcheck(&project, &[]).expect_code(0).expect_stderr("not gated: row varies");
}

/// Replaces a part of memcheck.toml.
#[track_caller]
pub(super) fn edit(project: &Project, old: &str, new: &str) {
    let text = project.read("memcheck.toml");
    assert!(text.contains(old), "no {old:?} in {text}");
    project.write("memcheck.toml", &text.replace(old, new));
}
