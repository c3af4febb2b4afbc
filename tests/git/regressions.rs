//! A project of its own with one regression commit of each kind: the snapshot gate and `compare --base` both fail, each with
//! the right cause and size; a commit that changes nothing passes both. Behind the feature `oracles`: it needs git.

use tests::{Project, Run};

use super::{commit, git, memcheck, repository, says};

/// The program of the self-test: one macro, one regression.
const PLANTS: &str = include_str!("../../memcheck-harness/src/selftest/plants.c");

/// Every limit is over the base: no figure of this machine is written down.
fn toml(stack: &str, ldflags: &str) -> String {
    format!(
        r#"
[[case]]
name = "plant"
target = {{ c = "plants.c", cflags = ["-O1", "-fPIE", "-pthread"], ldflags = ["-pie", "-pthread"{ldflags}] }}
snapshot.elf = "sizes"
{stack}
budget.own.reserved = {{ max_growth = "0 B", over = "base" }}
budget.own.anon = {{ max_growth = "0 B", over = "base" }}
budget.thread-stack.exited.count = {{ max_growth = 0, over = "base" }}
budget.exe.relro.count = {{ max_growth = 0, over = "base" }}
budget.process.mappings = {{ max_growth = 0, over = "base" }}
checkpoint = [{{ name = "ready" }}, {{ name = "done" }}]
"#
    )
}

/// A repository whose `main` is approved.
fn approved(ldflags: &str) -> Project {
    let project = repository(&[("plants.c", PLANTS), ("memcheck.toml", &toml("", ldflags))]);
    let _ = memcheck(&project, &["accept"]).expect_code(0);
    let _ = git(&project, &["switch", "-q", "main"]);
    commit(&project, "approved");
    let _ = git(&project, &["switch", "-q", "-C", "topic"]);
    project
}

/// A regression: what is put before the source, what becomes of the configuration, and what both messages must say.
struct Regression {
    name: &'static str,
    define: &'static str,
    ldflags: [&'static str; 2],
    gate: u8,
    says: &'static [&'static str],
}

const fn source(name: &'static str, define: &'static str, says: &'static [&'static str]) -> Regression {
    Regression {
        name,
        define,
        ldflags: ["", ""],
        gate: 5,
        says,
    }
}

const REGRESSIONS: [Regression; 8] = [
    source(
        "stack size",
        "#define STACK_KIB 1024\n",
        &[
            "Stacks of thread-stack.live changed from 512 KiB to 1024 KiB each",
            "+512 KiB",
        ],
    ),
    source(
        "unjoined thread",
        "#define UNJOINED\n",
        &["1 thread ended and is not joined or detached yet"],
    ),
    source("arena", "#define ARENA\n", &["1 more malloc arena", "+65536 KiB"]),
    source("heap", "#define HEAP_KIB 408\n", &["The brk heap was extended", "main-heap"]),
    source("leak per round", "#define LEAK_BYTES 1008\n", &["brk heap", "+64 KiB"]),
    source(
        "bss",
        "#define BSS_KIB 516\n",
        &["zero-initialised data of the executable grew", "+512 KiB"],
    ),
    Regression {
        ldflags: [", \"-Wl,-z,norelro\"", ", \"-Wl,-z,relro\""],
        ..source("relro", "", &["GNU_RELRO added (relro none → "])
    },
    Regression {
        ldflags: ["", ", \"-Wl,--no-as-needed\", \"-lm\""],
        ..source(
            "library",
            "",
            &["A further system library is loaded: libm.so.6, needed by plants"],
        )
    },
];

/// Everything a run said, on both streams.
fn both_streams(run: &Run) -> Run {
    Run {
        stdout: format!("{}{}", run.stdout, run.stderr),
        ..run.clone()
    }
}

#[test]
fn each_regression_is_told_by_both_gates() {
    for regression in &REGRESSIONS {
        let [before, after] = regression.ldflags;
        let project = approved(before);
        project.write("plants.c", &format!("{}{PLANTS}", regression.define));
        project.write("memcheck.toml", &toml("", after));
        commit(&project, regression.name);
        let gate = both_streams(&memcheck(&project, &[]).expect_code(i32::from(regression.gate)));
        let base = both_streams(&memcheck(&project, &["compare", "--base", "main"]).expect_code(3));
        for text in regression.says {
            says(&gate, text);
            says(&base, text);
        }
    }
}

#[test]
fn an_unchanged_commit_passes_both() {
    unchanged(3);
}

#[test]
#[ignore = "takes a minute: just soak-compare"]
fn an_unchanged_commit_passes_both_fifty_times() {
    unchanged(50);
}

fn unchanged(times: usize) {
    let project = approved("");
    project.write("README", "words\n");
    commit(&project, "words");
    for _ in 0..times {
        let _ = memcheck(&project, &[]).expect_code(0);
        let run = memcheck(&project, &["compare", "--base", "main"]).expect_code(0);
        assert!(run.stdout.trim_end().ends_with(": 1 the same"), "{}", run.stdout);
    }
}
