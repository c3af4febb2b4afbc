//! Comparing with another commit where that is impossible: what a machine without git can show. With git: `tests/git.rs`.

use tests::Project;

use super::{grow, memcheck, memcheck_with};

#[test]
fn without_git_it_says_so() {
    let project = grow();
    let nowhere = Project::new();
    let path = nowhere.path().display().to_string();
    let _ = memcheck_with(&project, &["compare"], &[("PATH", &path)])
        .expect_code(6)
        .expect_all(&["needs git", "install git"]);
    let _ = memcheck_with(&project, &["compare", "--base", "main"], &[("PATH", &path)]).expect_code(6);
    assert_eq!(project.paths(), ["grow.c", "memcheck.toml"]);
}

#[test]
fn growth_over_the_base_is_left_to_compare() {
    let project = super::one(
        "grows",
        "int main(void) { return 0; }",
        "snapshot = false\ncheckpoint = [{ name = \"m\", at = \"main\", budget.own.anon = { max_growth = \"4 KiB\", over = \"base\" } }]",
    );
    let _ = memcheck(&project, &[])
        .expect_code(0)
        .expect_stderr("limits over \"base\" are judged by cargo memcheck compare --base only");
}

/// Builds `grow.c` below the project with further flags.
#[track_caller]
fn built(project: &Project, name: &str, source: &str, flags: &[&str]) {
    project.write(&format!("{name}.c"), source);
    let file = format!("{name}.c");
    let pie: &[&str] = if name.ends_with(".so") {
        &["-fPIC"]
    } else {
        &["-fPIE", "-pie"]
    };
    let args = [pie, &["-O1", "-o", name, &file], flags].concat();
    let _ = project.run(std::path::Path::new("cc"), &args).expect_code(0);
}

const POINTERS: &str = "const char *const table[2000] = { \"a\", \"b\" };\n\
                        int main(int argc, char **argv) { (void)argv; return *table[argc] == 'b' ? 0 : 1; }\n";

#[test]
fn relro_of_two_programs_is_told_with_its_cost() {
    let project = Project::new();
    for (name, flag) in [
        ("no", "-Wl,-z,norelro"),
        ("partial", "-Wl,-z,relro,-z,lazy"),
        ("full", "-Wl,-z,relro,-z,now"),
    ] {
        built(&project, name, POINTERS, &[flag]);
    }
    let said = |old: &str, new: &str| {
        let run = memcheck(&project, &["compare", &format!("./{old}"), &format!("./{new}")]).expect_code(0);
        run.stdout.split_whitespace().collect::<Vec<_>>().join(" ")
    };
    let added = said("no", "partial");
    for text in [
        "GNU_RELRO added (relro none → partial)",
        "of the process in all.",
        "exe.relro is ",
        "2 checkpoints in 1 case with ./no",
    ] {
        assert!(added.contains(text), "{text} in {added}");
    }
    assert!(said("no", "full").contains("GNU_RELRO added (relro none → full)"));
    assert!(said("partial", "full").contains("Full RELRO instead of partial"));
    assert!(said("full", "no").contains("GNU_RELRO removed (relro full → none)"));
    assert!(said("full", "full").ends_with("1 the same"));
    let json = memcheck(&project, &["compare", "no", "full", "--message-format", "json"]).expect_code(0);
    let lines: Vec<serde_json::Value> = json.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines[0]["checkpoints"][0]["roles"]["exe.relro"]["count"], 1);
    assert_eq!(
        lines[0]["checkpoints"][0]["before"]["roles"]["exe.relro"],
        serde_json::Value::Null
    );
    assert_eq!(lines[1]["now"]["label"], "full");
}

#[test]
fn two_snapshots_are_compared_by_their_rows() {
    let project = super::accepted();
    let old = project.read(&super::snap("grow"));
    project.write("old.snap", &old);
    let toml = project.read("memcheck.toml");
    project.write("memcheck.toml", &toml.replace("args = [\"1\"]", "args = [\"5\"]"));
    let _ = memcheck(&project, &[]).expect_code(5);
    let _ = memcheck(&project, &["compare", "old.snap", "memcheck/snapshots/grow.snap.new"])
        .expect_code(0)
        .expect_stdout("CHANGED grow @ grown")
        .expect_stdout("1 more large allocation")
        .expect_stdout("2 checkpoints in 1 case with old.snap: 1 changed");
    let _ = memcheck(&project, &["compare", "old.snap", "old.snap"])
        .expect_code(0)
        .expect_stdout("1 the same");
}

#[test]
fn things_of_two_kinds_and_of_none_are_refused() {
    let project = super::accepted();
    built(&project, "program", "int main(void) { return 0; }\n", &[]);
    project.write("words.txt", "words\n");
    for (args, text) in [
        (
            ["program", "memcheck/snapshots/grow.snap"],
            "only things of one kind can be compared",
        ),
        (
            ["program", "words.txt"],
            "neither a program, a library, a snapshot (.snap) nor a results file",
        ),
        (["program", "./missing"], "./missing cannot be read"),
    ] {
        let _ = memcheck(&project, &["compare", args[0], args[1]])
            .expect_code(2)
            .expect_stderr(text);
    }
    let _ = memcheck(&project, &["compare", "./program"])
        .expect_code(2)
        .expect_stderr("it takes two");
}

#[test]
fn the_self_test_passes_and_fails_when_a_detector_is_off() {
    let project = Project::new();
    let all = memcheck(&project, &["self-test"]).expect_code(0);
    let last = all.stdout.lines().last().unwrap();
    assert_eq!(
        last,
        "self-test: 8 of 8 regressions caught, the unchanged program the same as itself: each by its right cause and size"
    );
    assert!(project.paths().is_empty(), "{:?}", project.paths());
    for (role, missed) in [
        ("thread-stack.live", "stack-size"),
        ("thread-stack.exited", "unjoined-thread"),
        ("thread-arena", "arena"),
        ("main-heap", "leak-per-round"),
        ("exe.bss", "bss"),
        ("exe.relro", "relro"),
        ("platform", "library"),
    ] {
        let run = memcheck(&project, &["self-test", "--blind", role]).expect_code(1);
        assert!(run.stdout.contains(&format!("MISSED {missed}\n")), "{role}:\n{}", run.stdout);
    }
}

#[test]
fn libraries_are_compared_by_their_headers() {
    let project = Project::new();
    let source = "const char *const table[2000] = { \"a\" };\nchar zeros[ZEROS];\nint main(void) { return 0; }\n";
    for (name, flags) in [
        ("old.so", ["-shared", "-DZEROS=1", "-Wl,-z,norelro"]),
        ("new.so", ["-shared", "-DZEROS=100000", "-Wl,-z,relro"]),
    ] {
        built(&project, name, source, &flags);
    }
    let run = memcheck(&project, &["compare", "old.so", "new.so"]).expect_code(0);
    let said = run.stdout.split_whitespace().collect::<Vec<_>>().join(" ");
    for text in [
        "GNU_RELRO added (relro none → ",
        "zero-initialised data of the program's own objects grew",
        "lib.relro is ",
        "1 checkpoint in 1 case with old.so: 1 changed",
    ] {
        assert!(said.contains(text), "{text} in {said}");
    }
    let _ = memcheck(&project, &["compare", "old.so", "/bin/sh"])
        .expect_code(2)
        .expect_stderr("old.so is a library");
}
