//! `cargo test`, `cargo nextest run` and `cargo memcheck` say the same of every case of a harness test. Behind the feature
//! `oracles`: it needs cargo-nextest.
//!
//! The test of the throw-away project is a program without dependencies that becomes our own door (`tests/support/door.rs`):
//! so the real runners start it, with the arguments and variables that they give, and nothing large is built.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde_json::Value;
use tests::{Project, Run, finish};

use super::own_suite::{repository, target};
use super::{TOOL, snap};

const GROW: &str = r#"
#include <stdlib.h>
#include "memcheck.h"

int main(int argc, char **argv) {
    MEMCHECK_CHECKPOINT(start);
    size_t bytes = argc > 1 ? 131072 * 4 : 65536;
    volatile char *block = malloc(bytes);
    for (size_t i = 0; i < bytes; i++)
        block[i] = 1;
    MEMCHECK_CHECKPOINT(grown);
    return 0;
}
"#;

const TOML: &str = r#"
[[case]]
name = "filed"
target = { c = "grow.c" }
checkpoint = [{ name = "start" }, { name = "grown" }]

[[case]]
name = "limited"
target = { c = "grow.c" }
snapshot = false
checkpoint = [{ name = "start", budget.threads.count = 1 }]

[[case]]
name = "ends-early"
target = { c = "grow.c" }
snapshot = false
checkpoint = [{ name = "never" }]
"#;

const MANIFEST: &str = "[package]\nname = \"several\"\nversion = \"0.1.0\"\nedition = \"2021\"\n\n[workspace]\n\n\
    [[test]]\nname = \"memory\"\nharness = false\n\n[package.metadata.memcheck]\ntests = [\"memory\"]\n";

/// The program that the runners see.
fn becomes(door: &Path) -> String {
    format!(
        "use std::os::unix::process::CommandExt;\nfn main() {{\n    let failed = std::process::Command::new({door:?})\
         .args(std::env::args_os().skip(1)).exec();\n    panic!(\"{{failed}}\");\n}}\n"
    )
}

/// Our door, up to date.
fn door() -> PathBuf {
    let here = Project::new();
    let args = ["build", "--quiet", "--locked", "--package", "tests", "--bin", "door"];
    let mut command = here.command(Path::new("cargo"), &args);
    let _ = finish(command.current_dir(repository()).env("CARGO_TARGET_DIR", target())).expect_code(0);
    Path::new(TOOL).with_file_name("door")
}

/// What each case came to: `ok`, `failed` or `ignored`.
type Verdicts = BTreeMap<String, &'static str>;

fn of_cargo_test(run: &Run) -> Verdicts {
    let words = [("ok", "ok"), ("FAILED", "failed"), ("ignored", "ignored")];
    let line = |line: &str| {
        let (name, end) = line.strip_prefix("test ")?.split_once(" ... ")?;
        let (_, verdict) = words.into_iter().find(|(word, _)| *word == end.trim())?;
        Some((name.trim().to_owned(), verdict))
    };
    run.stdout.lines().filter_map(line).collect()
}

fn of_nextest(run: &Run) -> Verdicts {
    let words = [("PASS", "ok"), ("FAIL", "failed"), ("SKIP", "ignored")];
    let line = |line: &str| {
        let (_, verdict) = words.into_iter().find(|(word, _)| line.trim_start().starts_with(word))?;
        // What a case prints has such lines too, without the name of the test program.
        let (_, name) = line.split_once("::memory ")?;
        Some((name.trim().to_owned(), verdict))
    };
    run.stderr.lines().filter_map(line).collect()
}

/// Ignored cases are not run, and not told.
fn of_memcheck(run: &Run) -> Verdicts {
    let lines = run.stdout.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    lines
        .filter(|line| line["reason"] == "case")
        .map(|case| {
            let verdict = match case["outcome"].as_str().unwrap() {
                "pass" | "warning" => "ok",
                _ => "failed",
            };
            (case["name"].as_str().unwrap().to_owned(), verdict)
        })
        .collect()
}

/// What all three say; `memcheck` leaves out what is ignored.
#[track_caller]
fn agreed(run: impl Fn(&str, &[&str]) -> Run) -> Verdicts {
    let cargo = of_cargo_test(&run("cargo", &["test", "--quiet", "--no-fail-fast", "--test", "memory"]));
    let nextest = run(
        "cargo",
        &[
            "nextest",
            "run",
            "--no-fail-fast",
            "--status-level",
            "all",
            "--test",
            "memory",
        ],
    );
    assert_eq!(of_nextest(&nextest), cargo, "nextest:\n{}", nextest.stderr);
    let mut ran = cargo.clone();
    ran.retain(|_, verdict| *verdict != "ignored");
    let memcheck = run(TOOL, &["--no-pending", "--message-format", "json"]);
    assert_eq!(of_memcheck(&memcheck), ran, "cargo memcheck:\n{}", memcheck.stderr);
    cargo
}

#[test]
fn they_agree_on_every_kind_of_end() {
    let project = Project::new()
        .file("Cargo.toml", MANIFEST)
        .file("src/lib.rs", "")
        .file("tests/memory.rs", &becomes(&door()))
        .file("grow.c", GROW)
        .file("memcheck.toml", TOML);
    let run = |program: &str, args: &[&str]| {
        let mut command = project.command(Path::new(program), args);
        finish(command.env("INSTA_UPDATE", "no").env("CARGO_TERM_COLOR", "never"))
    };
    // Nothing is approved yet.
    let missing = agreed(run);
    let expected = |filed, built| {
        let all = [
            ("built-grows", built),
            ("built-shrinks", "ignored"),
            ("ends-early", "failed"),
            ("filed", filed),
            ("limited", "ok"),
        ];
        all.map(|(name, verdict)| (name.to_owned(), verdict)).into()
    };
    assert_eq!(missing, expected("failed", "failed"));
    // Approved through cargo's door; then one case differs, and another breaks its limit.
    let mut accepts = project.command(Path::new("cargo"), &["test", "--quiet", "--test", "memory"]);
    let _ = finish(accepts.env("INSTA_UPDATE", "always"));
    assert!(project.has(&snap("filed")) && project.has(&snap("built-grows")));
    assert_eq!(agreed(run), expected("ok", "ok"));
    project.write(
        "memcheck.toml",
        &TOML.replace("name = \"filed\"\n", "name = \"filed\"\nargs = [\"more\"]\n"),
    );
    assert_eq!(agreed(run), expected("failed", "ok"));
    project.write("memcheck.toml", &TOML.replace("threads.count = 1", "threads.count = 0"));
    let mut limited = expected("ok", "ok");
    limited.insert("limited".to_owned(), "failed");
    assert_eq!(agreed(run), limited);
}

#[test]
fn they_agree_on_this_repository() {
    let here = Project::new();
    let run = |program: &str, args: &[&str]| {
        let mut command = here.command(Path::new(program), args);
        let package: &[&str] = if program == "cargo" { &["--package", "tests"] } else { &[] };
        command
            .args(package)
            .current_dir(repository())
            .env("CARGO_TARGET_DIR", target());
        finish(command.env("INSTA_UPDATE", "no").env("CARGO_TERM_COLOR", "never"))
    };
    let all = agreed(run);
    assert!(all.len() >= 20 && all.contains_key("pool-workers"), "{all:?}");
    assert!(all.values().all(|verdict| *verdict == "ok"), "{all:?}");
}
