//! The results file against its published schema, both ways: every key of every kind of results is described, and every described key
//! occurs. The checker is our own (`tests::schema`); the oracles hold the schema against somebody else's.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

use serde_json::Value;
use tests::schema::{Checked, described, wrong};
use tests::{Project, Run};

use super::gate::edit;
use super::{accepted, memcheck, memcheck_with, one, start};

const RESULTS: &str = "target/memcheck-data/results.json";

/// Written with git alone: `tests/git/edits.rs` looks for them.
const WITH_GIT: [&str; 1] = ["revised."];

/// A thread that libc knows nothing of, with thread-local storage of its own.
const RAW_THREAD: &str = r#"
#define _GNU_SOURCE
#include <sched.h>
#include <sys/syscall.h>
#include <unistd.h>
static char stack[65536], storage[8192];
static int wait_for_ever(void *unused) {
    (void)unused;
    for (;;) syscall(SYS_pause);
}
int main(void) {
    int flags = CLONE_VM | CLONE_FS | CLONE_FILES | CLONE_SIGHAND | CLONE_THREAD | CLONE_SYSVSEM | CLONE_SETTLS;
    return clone(wait_for_ever, stack + sizeof stack, flags, 0, 0, storage + 4096) < 0;
}
"#;

/// A run that ended as it should, its results looked at.
#[track_caller]
fn looked_at(project: &Project, run: Run, code: i32, checked: &mut Checked) {
    let _ = run.expect_code(code);
    look(project, RESULTS, checked);
}

#[track_caller]
fn look(project: &Project, file: &str, checked: &mut Checked) {
    let before = checked.wrong.len();
    checked.add(&serde_json::from_str(&project.read(file)).unwrap());
    assert_eq!(checked.wrong[before..], [""; 0]);
}

/// A suite that passes, breaks limits, differs, cannot be judged, is waived, is elsewhere and is put together of parts.
fn gates(checked: &mut Checked) {
    let project = accepted();
    let run = |args: &[&str], code, checked: &mut Checked| looked_at(&project, memcheck(&project, args), code, checked);
    run(&[], 0, checked);
    run(&["--partition", "count:1/2"], 0, checked);
    project.write("one.json", &project.read(RESULTS));
    let _ = memcheck(
        &project,
        &["report", "--merge", "--format", "json", "--output", "merged.json", "one.json"],
    )
    .expect_code(7);
    look(&project, "merged.json", checked);
    let job = [
        ("CI", "1"),
        ("GITHUB_ACTIONS", "true"),
        ("GITHUB_RUN_ID", "4711"),
        ("GITHUB_REPOSITORY", "owner/name"),
        ("GITHUB_BASE_REF", "main"),
        ("MEMCHECK_ARTIFACT", "memcheck"),
    ];
    looked_at(&project, memcheck_with(&project, &[], &job), 0, checked);
    project.write(".cargo/config.toml", "[build]\nrustc-wrapper = \"true\"\n");
    edit(
        &project,
        "args = [\"1\"]",
        "args = [\"5\"]\nbudget.mmap-chunk.anon = { max_growth = \"4 KiB\", over = \"approved\" }",
    );
    edit(
        &project,
        "{ name = \"grown\" }",
        "{ name = \"grown\", budget.own.anon = \"4 KiB\" }",
    );
    run(&["-v"], 3, checked);
    let waiver = "\n[[waiver]]\ncase = \"grow\"\nmetric = \"own.anon\"\nceiling = \"1 GiB\"\nexpires = 9999-12-31\nissue = \"#1\"\nreason = \"x\"\n";
    project.write("memcheck.toml", &(project.read("memcheck.toml") + waiver));
    run(&[], 3, checked);
    let environment = project.read("memcheck/snapshots/environment.snap");
    project.write(
        "memcheck/snapshots/environment.snap",
        &environment.replace("libc", "libc glibc 2.0 of"),
    );
    run(&[], 3, checked);
    edit(&project, "checkpoint = [", "checkpoint = [{ name = \"never\" }, ");
    run(&[], 7, checked);
}

/// Series, a matrix, a policy, children, sums over a tree, and a program that does not do the same in every run.
fn kinds(checked: &mut Checked) {
    let arenas = include_str!("../../examples/c/arenas.c");
    let rest = "args = [\"alive\"]\nenv = { MALLOC_ARENA_MAX = \"5\" }\n\
                matrix = { args = [[\"1\"], [\"2\"], [\"4\"], [\"8\"], [\"16\"], [\"32\"]], unit = \"thread\" }\nsnapshot = false\n\
                checkpoint = [{ name = \"loaded\", budget.threads.count = { max_per_unit = 1 } }]\n";
    let project = one("arenas", arenas, rest);
    looked_at(&project, memcheck(&project, &[]), 0, checked);

    let rounds = include_str!("../../examples/c/rounds.c");
    let rest = "args = [\"20\", \"leak\"]\nsnapshot = false\nafter_last = \"run\"\n\
                checkpoint = [{ name = \"round\", every = true, limit = 20, budget.main-heap.used.max_per_round = \"0 B\" }]\n";
    let project = one("rounds", rounds, rest);
    looked_at(&project, memcheck(&project, &[]), 3, checked);

    let policy = "elf.object.\"libnone*\".relro = \"full\"\nelf.relro = \"full\"\n";
    let toml = format!(
        "[defaults]\n{policy}[[case]]\nname = \"plain\"\ntarget = {{ c = \"main.c\", ldflags = [\"-Wl,-z,norelro\"] }}\nsnapshot = false\ntree = true\n\
         children = \"capture\"\ncheckpoint = [{{ name = \"end\", at = \"exit\" }}]\n\
         [[waiver]]\ncase = \"plain\"\nmetric = \"elf.relro\"\nobject = \"mai*\"\nceiling = \"partial\"\nexpires = 9999-12-31\n\
         reason = \"old linker\"\n"
    );
    let source = "#include <sys/wait.h>\n#include <unistd.h>\nint main(void) { if (!fork()) _exit(0); wait(0); return 0; }\n";
    let project = Project::new().file("main.c", source).file("memcheck.toml", &toml);
    looked_at(&project, memcheck(&project, &[]), 3, checked);

    // What is only approximate is said in notes.
    let project = one(
        "raw",
        RAW_THREAD,
        "snapshot = false\ncheckpoint = [{ name = \"end\", at = \"exit\" }]\n",
    );
    looked_at(&project, memcheck(&project, &[]), 0, checked);

    let project = super::racing::project().file("turns", "211");
    looked_at(&project, memcheck(&project, &[]), 5, checked);

    let marker = tests::marker("waits");
    let rest = format!("args = [\"{marker}\"]\ncheckpoint = [{{ name = \"end\", at = \"exit\" }}]");
    let project = one("waits", "#include <unistd.h>\nint main(void) { pause(); return 0; }\n", &rest);
    let child = start(&project, &[]);
    assert!(tests::until(Duration::from_secs(60), || !tests::processes_with(&marker).is_empty()));
    look(&project, RESULTS, checked);
    let _ = project
        .run(Path::new("kill"), &["-INT", &child.id().to_string()])
        .expect_code(0);
    looked_at(&project, tests::collect(child), 130, checked);
}

#[test]
fn every_key_is_described_and_every_described_key_occurs() {
    let mut checked = Checked::default();
    gates(&mut checked);
    kinds(&mut checked);
    let described = described();
    assert!(described.len() > 150, "{described:#?}");
    let is_git = |key: &&String| WITH_GIT.iter().any(|start| key.starts_with(start));
    let missing: BTreeSet<&String> = described.difference(&checked.seen).filter(|key| !is_git(key)).collect();
    assert!(missing.is_empty(), "described, and nowhere to be seen: {missing:#?}");
}

#[test]
fn the_checker_sees_what_is_wrong() {
    let project = accepted();
    let _ = memcheck(&project, &[]).expect_code(0);
    let mut bad: Value = serde_json::from_str(&project.read(RESULTS)).unwrap();
    assert_eq!(wrong(&bad), [""; 0]);
    bad["schema"] = 2.into();
    bad["cases"][0]["outcome"] = "fine".into();
    bad["cases"][0]["another"] = "key".into();
    bad["cases"][0]["checkpoints"][0]["metrics"]["own.anon"] = "4 KiB".into();
    bad["cases"][0]["checkpoints"][0]["map"]["pieces"][0]["start"] = Value::Null;
    bad.as_object_mut().unwrap().remove("verdict");
    let found = wrong(&bad);
    assert_eq!(found.len(), 6, "{found:#?}");
}
