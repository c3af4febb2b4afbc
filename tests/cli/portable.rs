//! What an approved snapshot does not depend on: home, environment, directory, processor, load, order.

use std::path::{Path, PathBuf};
use std::process::Command;

use tests::Project;

use super::TOOL;

/// Threads, their stacks and arenas, heap, main stack: everything whose size could depend on where it runs.
const SOURCE: &str = r#"
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "memcheck.h"

static pthread_barrier_t barrier;

static void *work(void *argument) {
    volatile char *block = malloc(20000);
    for (int i = 0; i < 20000; i++)
        block[i] = 1;
    pthread_barrier_wait(&barrier);
    pthread_barrier_wait(&barrier);
    free((void *)block);
    return argument;
}

int main(int argc, char **argv) {
    pthread_t threads[2];
    char *name = strdup(argv[0]);
    char *home = strdup(getenv("HOME") != NULL ? "home" : "none");
    pthread_barrier_init(&barrier, NULL, 3);
    MEMCHECK_CHECKPOINT(start);
    for (int i = 0; i < 2; i++)
        pthread_create(&threads[i], NULL, work, NULL);
    pthread_barrier_wait(&barrier);
    MEMCHECK_CHECKPOINT(spawned);
    pthread_barrier_wait(&barrier);
    for (int i = 0; i < 2; i++)
        pthread_join(threads[i], NULL);
    free(name);
    free(home);
    printf("%d\n", argc);
    return 0;
}
"#;

const TOML: &str = r#"
[[case]]
name = "places"
target = { c = "places.c", cflags = ["-pthread"], ldflags = ["-pthread"] }
checkpoint = [{ name = "start" }, { name = "spawned" }, { name = "end", at = "exit" }]
"#;

/// A project in a subdirectory of a temporary one.
fn project(below: &str) -> (Project, PathBuf) {
    let project = Project::new()
        .file(&format!("{below}places.c"), SOURCE)
        .file(&format!("{below}memcheck.toml"), TOML);
    let path = project.path().join(below);
    (project, path)
}

/// Accepts in a fresh project below `below`, after `change` had its way with the command; gives back the snapshot.
#[track_caller]
fn measured(below: &str, program: &str, args: &[&str], change: impl Fn(&mut Command)) -> String {
    let (project, path) = project(below);
    let mut command = project.command(Path::new(program), args);
    command.current_dir(&path);
    change(&mut command);
    let _ = tests::finish(&mut command).expect_code(0);
    project.read(&format!("{below}memcheck/snapshots/places.snap"))
}

#[test]
fn nothing_around_the_target_shows() {
    let plain = measured("", TOOL, &["accept"], |_| {});
    assert!(plain.contains("thread-arena"), "{plain}");
    assert!(!plain.contains("varies"), "{plain}");

    let deep = measured(
        "a/rather/deep/directory/with-a-long-name-of-its-own/x/",
        TOOL,
        &["accept"],
        |_| {},
    );
    assert_eq!(deep, plain, "another directory");

    let home = measured("", TOOL, &["accept"], |command| {
        command.env("HOME", format!("/nonexistent/{}", "h".repeat(500)));
    });
    assert_eq!(home, plain, "another home");

    let large = measured("", TOOL, &["accept"], |command| {
        command.env("PATH", format!("{}:/opt/{}", path(), "p".repeat(3000)));
        for i in 0..400 {
            command.env(format!("LARGE_{i}"), "x".repeat(200));
        }
        command
            .env("LANG", "de_DE.UTF-8")
            .env("LC_ALL", "de_DE.UTF-8")
            .env("TMPDIR", "/tmp");
    });
    assert_eq!(large, plain, "a large environment");

    let small = measured("", TOOL, &["accept"], |command| {
        let path = path();
        command.env_clear().env("PATH", path);
    });
    assert_eq!(small, plain, "a small environment");

    let one_cpu = measured("", "taskset", &["-c", &tests::a_processor(), TOOL, "accept"], |_| {});
    assert_eq!(one_cpu, plain, "one processor");

    let limits = measured(
        "",
        "sh",
        &[
            "-c",
            "ulimit -S -s 1024; ulimit -S -n 300; umask 077; exec \"$0\" accept",
            TOOL,
        ],
        |_| {},
    );
    assert_eq!(limits, plain, "other limits");

    let no_terminal = measured("", "setsid", &["-w", "nice", TOOL, "accept", "-j", "1"], |_| {});
    assert_eq!(no_terminal, plain, "another session and priority");
}

/// What the machine refuses is told: here a stack limit that cannot be raised.
#[test]
fn a_refused_launch_setting_is_told() {
    let (project, _) = project("");
    let line = "ulimit -s 1024; exec \"$0\" --no-pending";
    let mut command = project.command(Path::new("sh"), &["-c", line, TOOL]);
    let _ = tests::finish(&mut command)
        .expect_code(5)
        .expect_all(&["stack 8 MiB was refused", "hard limit of this machine is 1 MiB"]);
}

/// Several runs at once in one directory wait for each other where they build, and agree.
#[test]
fn runs_beside_each_other() {
    let (project, _) = project("");
    let _ = project.run(Path::new(TOOL), &["accept"]).expect_code(0);
    std::fs::remove_dir_all(project.path().join("target")).unwrap();
    let children: Vec<_> = (0..4).map(|_| project.spawn(Path::new(TOOL), &[]).unwrap()).collect();
    for child in children {
        let _ = tests::collect(child).expect_code(0);
    }
}

#[expect(clippy::disallowed_methods, reason = "a test hands the search path on")]
fn path() -> String {
    std::env::var("PATH").unwrap_or_default()
}
