//! The harness door from outside: a test program with cases of a file and of Rust, in throw-away projects, with the arguments
//! and variables that cargo, nextest and cargo-insta give it.

use std::path::Path;

use tests::{Project, Run, finish};

const DOOR: &str = env!("CARGO_BIN_EXE_door");

const GROW: &str = r#"
#include <stdlib.h>
#include "memcheck.h"

int main(void) {
    MEMCHECK_CHECKPOINT(start);
    volatile char *block = malloc(65536);
    for (int i = 0; i < 65536; i++)
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
"#;

fn project() -> Project {
    Project::new().file("grow.c", GROW)
}

#[track_caller]
fn door(project: &Project, args: &[&str], env: &[(&str, &str)]) -> Run {
    let mut command = project.command(Path::new(DOOR), args);
    finish(command.env("CARGO_MANIFEST_DIR", project.path()).envs(env.iter().copied()))
}

/// With the snapshots of both accepted.
fn accepted() -> Project {
    let project = project().file("memcheck.toml", TOML);
    let _ = door(&project, &[], &[("INSTA_UPDATE", "always")]).expect_code(0);
    project
}

#[test]
fn listing_builds_and_writes_nothing() {
    let project = project().file("memcheck.toml", TOML);
    let all = door(&project, &["--list", "--format", "terse"], &[]).expect_code(0);
    assert_eq!(all.stdout, "filed: test\nbuilt-grows: test\nbuilt-shrinks: test\n");
    let ignored = door(&project, &["--list", "--format", "terse", "--ignored"], &[]).expect_code(0);
    assert_eq!(ignored.stdout, "built-shrinks: test\n");
    assert_eq!(project.paths(), ["grow.c", "memcheck.toml"]);
    assert!(!project.has("target"), "nothing is built");
}

#[test]
fn a_new_case_fails_and_leaves_a_pending_file_with_its_place_in_rust() {
    let project = project();
    let _ = door(&project, &[], &[])
        .expect_code(101)
        .expect_stdout("built-shrinks ... ignored")
        .expect_stdout("Snapshot missing");
    let pending = project.read("memcheck/snapshots/built-grows.snap.new");
    assert!(pending.contains("door.rs\nassertion_line: "), "{pending}");
}

#[test]
fn filters_are_those_of_libtest() {
    let project = accepted();
    let _ = door(&project, &["--exact", "filed", "--nocapture"], &[])
        .expect_code(0)
        .expect_stdout("1 passed");
    let _ = door(&project, &["fil", "grow", "--no-capture", "--report-time"], &[])
        .expect_code(0)
        .expect_stdout("2 passed");
    let _ = door(&project, &["--skip", "built"], &[])
        .expect_code(0)
        .expect_stdout("1 passed");
    let _ = door(&project, &["nothing-has-this-name"], &[])
        .expect_code(0)
        .expect_stdout("0 passed");
    let _ = door(&project, &["--no-such-flag"], &[]).expect_code(2);
}

#[test]
fn a_check_that_does_not_hold_says_what_and_where() {
    let project = accepted();
    let _ = door(&project, &["--ignored"], &[])
        .expect_code(101)
        .expect_stdout("Check failed: from start to grown: the heap grew by")
        .expect_stdout("door.rs:");
}

#[test]
fn the_variables_of_insta_are_honoured() {
    let project = project().file("memcheck.toml", TOML);
    let list = project.path().join("list");
    let list = list.to_str().unwrap();
    let _ = door(&project, &[], &[("CI", "true")]).expect_code(101);
    assert_eq!(project.paths(), ["grow.c", "memcheck.toml"], "CI writes nothing");
    let cargo_insta = [
        ("INSTA_UPDATE", "new"),
        ("INSTA_FORCE_PASS", "1"),
        ("INSTA_SNAPSHOT_REFERENCES_FILE", list),
    ];
    let _ = door(&project, &[], &cargo_insta).expect_code(0);
    assert!(project.has("memcheck/snapshots/filed.snap.new") && project.has("memcheck/snapshots/environment.snap.new"));
    for name in ["filed", "built-grows", "environment"] {
        assert!(
            project.read("list").contains(&format!("snapshots/{name}.snap\n")),
            "{}",
            project.read("list")
        );
    }
    let elsewhere = project.path().join("pending");
    let _ = door(&project, &["filed"], &[("INSTA_PENDING_DIR", elsewhere.to_str().unwrap())]).expect_code(101);
    assert!(project.has("pending/memcheck/snapshots/filed.snap.new"));
    let _ = door(&project, &[], &[("INSTA_UPDATE", "unseen")]).expect_code(0);
    assert!(project.has("memcheck/snapshots/filed.snap") && project.has("memcheck/snapshots/environment.snap"));
    assert!(!project.has("memcheck/snapshots/filed.snap.new"));
    let _ = door(&project, &[], &[("INSTA_UPDATE", "sometimes")])
        .expect_code(101)
        .expect_stderr("INSTA_UPDATE");
}

#[test]
fn results_are_of_the_cases_built_in_rust_and_complete() {
    let project = accepted();
    let path = project.path().join("results.json");
    let env = [("MEMCHECK_RESULTS", path.to_str().unwrap()), ("INSTA_UPDATE", "no")];
    let _ = door(&project, &[], &env).expect_code(0);
    let text = project.read("results.json");
    let report = memcheck_harness::report::read_results(text.as_bytes()).unwrap();
    assert!(report.complete);
    let captures = memcheck_harness::report::read_captures(project.read("results.jsonl").as_bytes(), None).unwrap();
    let kept: Vec<&str> = captures.iter().map(|capture| capture.checkpoint.as_str()).collect();
    assert_eq!(kept, ["start", "grown"]);
    let names: Vec<&str> = report.cases.iter().map(|case| case.name.as_str()).collect();
    assert_eq!(names, ["built-grows"]);
    assert_eq!(report.cases[0].checkpoints.len(), 2);
    // What was typed after the command holds here too.
    let stricter = [env[0], env[1], ("MEMCHECK_OVERRIDES", "budget own.anon<=4KiB")];
    let _ = door(&project, &[], &stricter)
        .expect_code(101)
        .expect_stdout("Budget exceeded");
    let none = [env[0], env[1], ("MEMCHECK_OVERRIDES", "filter filed")];
    let _ = door(&project, &[], &none).expect_code(0);
    assert!(
        memcheck_harness::report::read_results(project.read("results.json").as_bytes())
            .unwrap()
            .cases
            .is_empty()
    );
}

#[test]
fn mistakes_name_the_place_in_rust() {
    let project = project().file("memcheck.toml", &TOML.replace("filed", "built-grows"));
    let _ = door(&project, &["--list"], &[])
        .expect_code(101)
        .expect_stderr("two cases are called `built-grows`")
        .expect_stderr("door.rs:");
    let _ = door(&Project::new(), &[], &[]).expect_code(101).expect_stdout("grow.c");
}

#[test]
fn an_expired_waiver_fails_its_case() {
    let project = accepted();
    let waiver = |day: &str| {
        format!(
            "{TOML}\n[[waiver]]\ncase = \"filed\"\nmetric = \"threads.count\"\nceiling = 9\nexpires = {day}\nreason = \"later\"\n"
        )
    };
    project.write("memcheck.toml", &waiver("9999-12-31"));
    let _ = door(&project, &["filed"], &[])
        .expect_code(0)
        .expect_stderr("waiver not needed");
    project.write("memcheck.toml", &waiver("2020-01-31"));
    let run = door(&project, &["filed"], &[]).expect_code(101);
    assert!(
        format!("{}{}", run.stdout, run.stderr).contains("waiver expired on 2020-01-31"),
        "{}",
        run.stdout
    );
}

/// nextest gives every case a process of its own: each leaves the environment with the compilers of all.
#[test]
fn processes_of_one_case_each_name_all_compilers() {
    let manifest = "[package]\nname = \"two\"\nversion = \"0.1.0\"\nedition = \"2021\"\n\n[workspace]\n";
    let toml = format!(
        "[defaults]\nprofile = \"dev\"\n{TOML}\n[[case]]\nname = \"rusty\"\ntarget = {{ bin = \"two\" }}\ncheckpoint = [{{ name = \"main\", at = \"main\" }}]\n"
    );
    let project = project()
        .file("Cargo.toml", manifest)
        .file("src/main.rs", "fn main() {}\n")
        .file("memcheck.toml", &toml);
    for case in ["filed", "rusty"] {
        let _ = door(&project, &["--exact", case, "--nocapture"], &[]).expect_code(101);
        let environment = project.read("memcheck/snapshots/environment.snap.new");
        for compiler in ["built-with.gcc", "built-with.rustc"] {
            assert!(environment.contains(compiler), "after {case}:\n{environment}");
        }
    }
}

/// What this machine lacks is seen before anything is built: such cases are ignored, in the list (as nextest reads it) and in
/// the run; where a run gates, nothing is.
#[test]
fn what_this_machine_cannot_measure_is_ignored() {
    let project = accepted();
    let refuse = project.run(
        "cc".as_ref(),
        &["-o", "refuse", concat!(env!("CARGO_MANIFEST_DIR"), "/fixtures/refuse.c")],
    );
    let _ = refuse.expect_code(0);
    let refused = |args: &[&str], env: &[(&str, &str)]| {
        let refuse = project.path().join("refuse");
        let mut command = project.command(&refuse, &[&["ptrace", DOOR], args].concat());
        finish(command.env("CARGO_MANIFEST_DIR", project.path()).envs(env.iter().copied()))
    };
    let everything = "filed: test\nbuilt-grows: test\nbuilt-shrinks: test\n";
    let list = refused(&["--list", "--format", "terse", "--ignored"], &[]).expect_code(0);
    assert_eq!(list.stdout, everything);
    let _ = refused(&[], &[])
        .expect_code(0)
        .expect_stdout("0 passed; 0 failed; 3 ignored")
        .expect_stderr("3 of the cases ignored cannot be measured here: this machine does not let us trace");
    let _ = refused(&["filed"], &[("CI", "true")])
        .expect_code(101)
        .expect_stdout("does not let us trace");
    let path = project.path().join("results.json");
    let _ = refused(&[], &[("MEMCHECK_RESULTS", path.to_str().unwrap())]).expect_code(101);

    let without_compiler = [("PATH", "/nonexistent")];
    let list = door(&project, &["--list", "--format", "terse", "--ignored"], &without_compiler).expect_code(0);
    assert_eq!(list.stdout, everything);
    let _ = door(&project, &["filed"], &without_compiler)
        .expect_code(0)
        .expect_stdout("1 ignored")
        .expect_stderr("C compiler `cc` not found");
    let _ = door(&project, &["filed", "--include-ignored"], &without_compiler).expect_code(101);
}

/// Whatever keeps a case from being measured, the results for `cargo memcheck` have it, as a failure.
#[test]
fn a_case_that_cannot_be_built_is_in_the_results() {
    let project = accepted();
    let path = project.path().join("results.json");
    let env = [("MEMCHECK_RESULTS", path.to_str().unwrap()), ("PATH", "/nonexistent")];
    let _ = door(&project, &[], &env).expect_code(101);
    let report = memcheck_harness::report::read_results(project.read("results.json").as_bytes()).unwrap();
    assert!(report.complete);
    let cases: Vec<(&str, bool)> = report
        .cases
        .iter()
        .map(|case| (case.name.as_str(), case.problem.is_some()))
        .collect();
    assert_eq!(cases, [("built-grows", true)]);
    // Nothing can be built at all: the directory for it is a file.
    let blocked = project.path().join("blocked");
    project.write("blocked/memcheck.toml", TOML);
    project.write("blocked/grow.c", GROW);
    project.write("blocked/target", "no directory");
    let path = project.path().join("blocked.json");
    let mut command = project.command(Path::new(DOOR), &[]);
    command.current_dir(&blocked).env("CARGO_MANIFEST_DIR", &blocked);
    let _ = finish(command.env("MEMCHECK_RESULTS", &path)).expect_code(101);
    let report = memcheck_harness::report::read_results(project.read("blocked.json").as_bytes()).unwrap();
    assert_eq!(report.cases.len(), 1);
    assert!(report.cases[0].problem.is_some());
}

/// Case by case: listed and run one at a time as nextest does, run as cargo test does, and the results `cargo memcheck` reads.
#[test]
fn one_process_for_each_case_or_one_for_all() {
    let project = accepted();
    let list = door(&project, &["--list", "--format", "terse"], &[]).expect_code(0);
    let ignored = door(&project, &["--list", "--format", "terse", "--ignored"], &[]).expect_code(0);
    let names: Vec<&str> = list.stdout.lines().filter_map(|line| line.strip_suffix(": test")).collect();
    assert_eq!(names, ["filed", "built-grows", "built-shrinks"]);
    let together = door(&project, &["--include-ignored"], &[]).expect_code(101);
    for name in names {
        let alone = door(&project, &["--exact", name, "--nocapture", "--include-ignored"], &[]);
        let passed = alone.code == Some(0);
        let verdict = if passed { "ok" } else { "FAILED" };
        assert!(
            together
                .stdout
                .lines()
                .any(|line| line.starts_with(&format!("test {name} ")) && line.ends_with(verdict)),
            "{name}: {verdict} alone, but\n{}",
            together.stdout
        );
        assert_eq!(passed, !ignored.stdout.contains(name), "{name}");
    }
}

/// A reader of the list that has seen enough is no error; a list that cannot be written is.
#[test]
fn a_list_of_thousands_and_where_it_goes() {
    let toml: String = (0..3000).map(|i| TOML.replace("filed", &format!("filed-{i}"))).collect();
    let project = project().file("memcheck.toml", &toml);
    let all = door(&project, &["--list", "--format", "terse"], &[]).expect_code(0);
    assert_eq!(all.stdout.lines().count(), 3002);
    let piped = |line: &str| {
        let mut command = project.command(Path::new("sh"), &["-c", line]);
        finish(command.env("DOOR", DOOR).env("CARGO_MANIFEST_DIR", project.path()))
    };
    let _ = piped("( \"$DOOR\" --list; echo \"code $?\" >&2 ) | head -1").expect_stderr("code 0");
    let _ = piped("\"$DOOR\" --list >/dev/full")
        .expect_code(101)
        .expect_stderr("standard output");
    let one = door(&project, &["--exact", "filed-1500"], &[("INSTA_UPDATE", "always")]).expect_code(0);
    assert!(one.stdout.contains("3001 filtered out"), "{}", one.stdout);
    project.write("memcheck.toml", &toml.replace("filed-2999", "filed-7"));
    let _ = door(&project, &["--list"], &[]).expect_code(101).expect_stderr("filed-7");
}

/// The harness is killed while a case runs: its target dies with it.
#[test]
fn a_case_does_not_outlive_the_harness() {
    let marker = tests::marker("door");
    let source = "#include <stdio.h>\n#include <unistd.h>\nint main(void) {\n    fclose(fopen(\"started\", \"w\"));\n    \
                  for (;;)\n        pause();\n}\n";
    let toml = format!(
        "[[case]]\nname = \"hangs\"\ntarget = {{ c = \"hang.c\" }}\nargs = [\"{marker}\"]\ntimeout = \"300s\"\n\
         checkpoint = [{{ name = \"end\", at = \"exit\" }}]\n"
    );
    let project = project().file("hang.c", source).file("memcheck.toml", &toml);
    let mut command = project.command(Path::new(DOOR), &["hangs"]);
    let mut child = command.env("CARGO_MANIFEST_DIR", project.path()).spawn().unwrap();
    assert!(tests::until(std::time::Duration::from_secs(60), || project.has("started")));
    assert_eq!(tests::processes_with(&marker).len(), 1);
    child.kill().unwrap();
    let _ = child.wait().unwrap();
    assert!(tests::gone(&marker));
}

/// A block for each unit, written.
const BLOCKS: &str = r#"
#include <stdlib.h>
#include "memcheck.h"
int main(int argc, char **argv) {
    int bytes = atoi(argv[argc - 1]) * 40960;
    volatile char *block = malloc(bytes);
    for (int i = 0; i < bytes; i++)
        block[i] = 1;
    MEMCHECK_CHECKPOINT(grown);
    return 0;
}
"#;

#[test]
fn what_one_more_unit_costs_is_judged_at_the_last_run_of_the_line() {
    let toml = |max: &str| {
        format!(
            "[[case]]\nname = \"blocks\"\ntarget = {{ c = \"blocks.c\" }}\nsnapshot = false\n\
             matrix = {{ args = [[\"1\"], [\"2\"], [\"4\"]], unit = \"block\" }}\n\
             checkpoint = [{{ name = \"grown\", budget.own.anon = {{ max_per_unit = \"{max}\" }} }}]\n"
        )
    };
    let project = project().file("blocks.c", BLOCKS).file("memcheck.toml", &toml("20 KiB"));
    // Whatever was chosen: it stands for its whole line, in a process of its own under nextest.
    for chosen in [&["blocks", "--test-threads", "1"][..], &["--exact", "blocks.4"]] {
        let run = door(&project, chosen, &[]).expect_code(101);
        assert!(run.stdout.contains("for each block, limit 20 KiB"), "{}", run.stdout);
        assert!(run.stdout.contains("blocks.4"), "{}", run.stdout);
    }
    let _ = door(&project, &["--exact", "blocks.1"], &[]).expect_code(0);
    project.write("memcheck.toml", &toml("48 KiB"));
    let _ = door(&project, &["blocks"], &[]).expect_code(0);
}
