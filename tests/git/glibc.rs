//! Runs of programs under other C libraries, judged again here: `report --replay` gives the verdict of the machine that measured,
//! though neither the program nor anything of its C library is read.

use std::fs;
use std::path::Path;

use tests::Project;

use super::{TOOL, edit, memcheck};

/// Five threads, one after another, each with an arena and what malloc caches there, and a large block: what differs between
/// versions of glibc.
const PROGRAM: &str = r#"
#include <pthread.h>
#include <stdlib.h>
#include "memcheck.h"
static pthread_barrier_t ready, go[5];
static void *work(void *number) {
    volatile char *block = malloc(1000 * ((long)number + 1));
    block[0] = 1;
    free(malloc(200));
    pthread_barrier_wait(&ready);
    pthread_barrier_wait(&go[(long)number]);
    free((char *)block);
    return NULL;
}
int main(int argc, char **argv) {
    pthread_t threads[5];
    pthread_barrier_init(&ready, NULL, 2);
    MEMCHECK_CHECKPOINT(start);
    for (long i = 0; i < 5; i++) {
        pthread_barrier_init(&go[i], NULL, 2);
        pthread_create(&threads[i], NULL, work, (void *)i);
        pthread_barrier_wait(&ready);
    }
    int bytes = argc > 1 ? atoi(argv[1]) << 10 : 0;
    volatile char *block = malloc(bytes);
    for (int i = 0; i < bytes; i += 1000)
        block[i] = 1;
    MEMCHECK_CHECKPOINT(working);
    for (int i = 0; i < 5; i++) {
        pthread_barrier_wait(&go[i]);
        pthread_join(threads[i], NULL);
    }
    MEMCHECK_CHECKPOINT(joined);
    return 0;
}
"#;

const TOML: &str = r#"
[[case]]
name = "worker"
target = { path = "worker" }
args = ["300"]
budget.own.anon = "16 MiB"
checkpoint = [{ name = "start" }, { name = "working" }, { name = "joined" }]
"#;

const RESULTS: &str = "target/memcheck-data/results.json";

/// Builds the program of the project, against the C library of a release or that of this machine.
fn build(project: &Project, release: Option<&str>) {
    let mut args = ["-O1", "-g", "-pthread", "-o", "worker", "worker.c"]
        .map(str::to_owned)
        .to_vec();
    args.push(concat!("-I", env!("CARGO_MANIFEST_DIR"), "/../memcheck-probe/include").to_owned());
    if let Some(release) = release {
        args.extend(tests::glibc::flags(&tests::glibc::root(env!("CARGO_TARGET_TMPDIR"), release)));
    }
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let _ = project.run(Path::new("gcc"), &args).expect_code(0);
}

/// The fact `libc` of the last results.
fn libc(results: &str) -> String {
    let results: serde_json::Value = serde_json::from_str(results).unwrap();
    results["environment"]["libc"].as_str().unwrap().to_owned()
}

#[test]
fn a_replay_of_a_run_under_another_glibc_is_the_verdict_of_that_run() {
    let home = Project::new().file("worker.c", PROGRAM).file("memcheck.toml", TOML);
    build(&home, None);
    let _ = memcheck(&home, &["accept"]).expect_code(0);
    let _ = memcheck(&home, &[]).expect_code(0);
    let here = libc(&home.read(RESULTS));
    for (release, version) in [
        ("bullseye", "glibc 2.31"),
        ("bookworm", "glibc 2.36"),
        ("trixie", "glibc 2.41"),
    ] {
        for (kib, over, ci, code) in [
            ("300", "16 MiB", None, 0),
            ("900", "16 MiB", Some(("CI", "1")), 5),
            ("900", "512 KiB", None, 3),
        ] {
            let other = Project::new();
            for (path, bytes) in home.files().iter().filter(|(path, _)| path != "worker") {
                other.write(path, std::str::from_utf8(bytes).unwrap());
            }
            other.write("memcheck.toml", &TOML.replace("300", kib).replace("16 MiB", over));
            build(&other, Some(release));
            let run = tests::finish(other.command(Path::new(TOOL), &["--no-pending"]).envs(ci)).expect_code(code);
            let recorded = other.read(RESULTS);
            assert_eq!(libc(&recorded), version, "{release}");
            let captures = other.read("target/memcheck-data/captures.jsonl");
            assert!(
                captures.contains(&format!("tools/glibc/{release}/")),
                "the program ran with the libc of {release}"
            );
            if version != here {
                assert!(run.stderr.contains(&format!("{here} → {version}")), "{}", run.stderr);
            }
            // Nothing to launch: what follows is from the two files alone.
            fs::remove_file(other.path().join("worker")).unwrap();
            let rendered = |format: &str, replay: bool| {
                let args = ["report", RESULTS, "--format", format, "--replay"];
                let args = &args[..args.len() - usize::from(!replay)];
                memcheck(&other, args).expect_code(if replay { code } else { 0 }).stdout
            };
            for format in ["json", "human", "markdown", "junit"] {
                assert_eq!(
                    rendered(format, true),
                    rendered(format, false),
                    "{release} {kib} {over}: {format}"
                );
            }
            // Another limit, another verdict; the machine it was measured on stays, and elsewhere a snapshot only warns.
            let (limit, code) = match code {
                3 if version == here => ("16 MiB", 5),
                3 => ("16 MiB", 0),
                _ => ("64 KiB", 3),
            };
            edit(&other, "memcheck.toml", over, limit);
            let replayed = memcheck(&other, &["report", RESULTS, "--replay", "--format", "json"]).expect_code(code);
            assert_eq!(libc(&replayed.stdout), version);
        }
    }
}
