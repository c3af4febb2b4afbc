//! What is wrong before anything runs: configuration, targets that are not there, sources that do not compile.

use tests::Project;

use super::gate::edit;
use super::{GROW, grow, memcheck, one};

#[test]
fn no_configuration_at_all() {
    let _ = memcheck(&Project::new(), &[])
        .expect_code(2)
        .expect_stderr("no memcheck.toml")
        .expect_stderr("[[case]]");
}

#[test]
fn a_mistake_shows_its_place_its_line_and_what_was_meant() {
    let project = grow();
    edit(&project, "args =", "agrs =");
    let _ = memcheck(&project, &[])
        .expect_code(2)
        .expect_all(&["memcheck.toml:5:1", "agrs = [\"1\"]", "did you mean `args`?"]);
}

#[test]
fn what_is_no_toml() {
    let project = grow().file("memcheck.toml", "[[case]]\nname = \"grow\n");
    let _ = memcheck(&project, &[]).expect_code(2).expect_stderr("memcheck.toml:2:");
}

#[test]
fn what_is_missing_at_the_launch_has_its_place() {
    for (key, words) in [
        ("cwd", "could not enter the working directory"),
        ("stdin", "as standard input"),
    ] {
        let project = grow();
        edit(&project, "args =", &format!("{key} = \"no/such\"\nargs ="));
        let run = memcheck(&project, &[])
            .expect_code(2)
            .expect_all(&[words, "case grow at memcheck.toml:"]);
        assert_eq!(format!("{}{}", run.stdout, run.stderr).matches("memcheck.toml:").count(), 1);
    }
}

#[test]
fn a_metric_that_does_not_exist() {
    let project = grow();
    edit(&project, "args =", "budget.main-heap.annon = \"1 MiB\"\nargs =");
    let _ = memcheck(&project, &[])
        .expect_code(2)
        .expect_all(&["memcheck.toml:5:", "main-heap.anon"]);
}

#[test]
fn a_size_in_the_wrong_unit() {
    let project = grow();
    edit(&project, "args =", "budget.main-heap.anon = \"8 MB\"\nargs =");
    let _ = memcheck(&project, &[])
        .expect_code(2)
        .expect_all(&["memcheck.toml:5:", "MiB"]);
}

#[test]
fn a_source_that_is_not_there() {
    let project = grow();
    edit(&project, "grow.c", "gorw.c");
    let _ = memcheck(&project, &[])
        .expect_code(2)
        .expect_all(&["gorw.c", "does not exist", "grow.c"]);
}

#[test]
fn a_program_that_is_not_there() {
    let project = grow();
    edit(&project, "{ c = \"grow.c\" }", "{ path = \"build/grow\" }");
    let _ = memcheck(&project, &[])
        .expect_code(2)
        .expect_all(&["build/grow", "does not exist"]);
    edit(
        &project,
        "{ path = \"build/grow\" }",
        "{ command = \"no-such-program-here\" }",
    );
    let _ = memcheck(&project, &[])
        .expect_code(2)
        .expect_all(&["no-such-program-here", "PATH"]);
}

#[test]
fn a_program_that_cannot_be_executed() {
    let project = grow().file("notes.txt", "no program\n");
    edit(&project, "{ c = \"grow.c\" }", "{ path = \"notes.txt\" }");
    let _ = memcheck(&project, &[])
        .expect_code(2)
        .expect_all(&["notes.txt", "executable"]);
}

#[test]
fn a_bin_without_a_workspace() {
    let project = grow();
    edit(&project, "{ c = \"grow.c\" }", "{ bin = \"grow\" }");
    let _ = memcheck(&project, &[])
        .expect_code(2)
        .expect_all(&["memcheck.toml:4:", "Cargo.toml"]);
}

#[test]
fn a_compile_error_is_the_compilers_own_text() {
    let project = grow().file("grow.c", "int main(void) { return undeclared; }\n");
    let _ = memcheck(&project, &[])
        .expect_code(101)
        .expect_all(&["Build failed", "grow.c:1:", "undeclared"])
        .expect_last_line("measured 0 checkpoints in 1 case: 1 failed (1 not judged)");
    let _ = memcheck(&project, &["accept"])
        .expect_code(101)
        .expect_all(&["grow was not accepted", "undeclared"]);
    assert!(!project.has("memcheck/snapshots/grow.snap"));
}

#[test]
fn a_build_command_that_fails() {
    let project = grow();
    let target = "{ path = \"grow\", build = \"sh make.sh\" }";
    edit(&project, "{ c = \"grow.c\" }", target);
    project.write("make.sh", "echo 'no rule to make coffee' >&2; exit 2\n");
    let _ = memcheck(&project, &[])
        .expect_code(101)
        .expect_all(&["sh make.sh", "no rule to make coffee"]);
}

/// A project with a Makefile and without Cargo, as its author would add it.
#[test]
fn a_build_command_that_works() {
    let project = grow()
        .file(
            "grow.c",
            &GROW.replace("#include \"memcheck.h\"", "#define MEMCHECK_CHECKPOINT(name)"),
        )
        .file("make.sh", "mkdir -p build && cc -O1 -o build/grow grow.c\n");
    edit(
        &project,
        "{ c = \"grow.c\" }",
        "{ path = \"build/grow\", build = \"sh make.sh\" }",
    );
    edit(
        &project,
        "{ name = \"start\" }, { name = \"grown\" }",
        "{ name = \"start\", at = \"main\" }, { name = \"end\", at = \"exit\" }",
    );
    let _ = memcheck(&project, &["accept"]).expect_code(0);
    let _ = memcheck(&project, &[])
        .expect_code(0)
        .expect_last_line("measured 2 checkpoints in 1 case: all passed");
}

/// One case that does not compile does not hide what the others say.
#[test]
fn the_other_cases_are_judged_all_the_same() {
    let project = super::accepted();
    let toml = project.read("memcheck.toml");
    project.write("bad.c", "int main(void) { return undeclared; }\n");
    project.write(
        "memcheck.toml",
        &format!(
            "{toml}\n[[case]]\nname = \"bad\"\ntarget = {{ c = \"bad.c\" }}\ncheckpoint = [{{ name = \"a\", at = \"main\" }}]\n"
        ),
    );
    let _ = memcheck(&project, &[])
        .expect_code(101)
        .expect_stderr("undeclared")
        .expect_last_line("measured 2 checkpoints in 2 cases: 1 failed (1 not judged)");
}

#[test]
fn a_script_is_named_as_such() {
    let project = one("script", "", "checkpoint = [{ name = \"end\", at = \"exit\" }]");
    edit(&project, "{ c = \"main.c\" }", "{ path = \"run.sh\" }");
    project.write("run.sh", "#!/bin/sh\nexit 0\n");
    let path = project.path().join("run.sh");
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(path, mode).unwrap();
    let _ = memcheck(&project, &["accept"]).expect_code(0);
    let _ = memcheck(&project, &[]).expect_code(0).expect_stderr("script");
}
