//! Children that are made so that nobody is told of them (docs/hazards.md, 5; clone(2), `CLONE_UNTRACED`).

use serde_json::Value;

use super::hazards::{READY, built, ends_well, ends_well_or};
use super::memcheck;

#[test]
fn hazard_05_a_child_that_cannot_be_traced_lives_when_it_passes_no_point() {
    let project = built();
    // One that passes a point dies of its breakpoint: see docs/hazards.md.
    let run = ends_well(&project, "\"untraced\"", "{ name = \"ready\" }");
    assert!(run.stderr.contains("1 case"), "{}", run.stderr);
}

/// One that passes a breakpoint has nobody who takes the trap: what it died of is named, and a breakpoint of the processor, which a
/// child does not inherit, does it no harm.
#[test]
fn hazard_05_what_an_untraced_child_died_of_is_named() {
    let project = built();
    let with = |ready: &str| {
        let toml = format!(
            "[[case]]\nname = \"case\"\ntarget = {{ path = \"hazards\" }}\nargs = [\"untraced-at-ready\"]\nexit = 0\nsnapshot = false\n\
             budget.threads.count = 1\ncheckpoint = [{ready}]\n"
        );
        project.write("memcheck.toml", &toml);
        memcheck(&project, &[])
    };
    let _ = with("{ name = \"ready\" }").expect_code(7).expect_all(&[
        "cannot be traced (CLONE_UNTRACED) and was killed by SIGTRAP",
        "a breakpoint of cargo memcheck",
        "hardware = true",
    ]);
    let _ = with("{ name = \"ready\", hardware = true }").expect_code(0);
}

/// Where a filter is in place `clone` stops there, and the flag is taken off: such a child is one like all others, and its own exit
/// is answered. `clone3` has its flags in memory, where no filter looks.
#[test]
fn hazard_05_where_a_filter_sees_it_the_flag_is_taken_off() {
    let project = built();
    for mode in ["untraced", "untraced-at-ready", "untraced-vm", "untraced-raw"] {
        let run = ends_well(&project, &format!("\"{mode}\""), READY);
        assert!(!run.stderr.contains("CLONE_UNTRACED"), "{mode}: {}", run.stderr);
    }
    // A point at the very call counts it, besides.
    let (ready, made) = ("{ name = \"ready\" }", "{ name = \"made\", at = { syscall = \"clone\" } }");
    for mode in ["untraced", "untraced-at-ready"] {
        let run = ends_well(&project, &format!("\"{mode}\""), &format!("{made}, {ready}"));
        assert!(!run.stderr.contains("CLONE_UNTRACED"), "{mode}: {}", run.stderr);
    }
    let toml = "[[case]]\nname = \"case\"\ntarget = { path = \"hazards\" }\nargs = [\"untraced-lives\"]\nsnapshot = false\n\
                checkpoint = [{ name = \"ready\", budget.tree.processes = 2 }, { name = \"end\", at = \"exit\" }]\n";
    project.write("memcheck.toml", toml);
    let run = memcheck(&project, &[]).expect_code(0);
    assert!(!run.stderr.contains("CLONE_UNTRACED"), "{}", run.stderr);
    let clone3 = ends_well_or(&project, "\"untraced-clone3\"", READY);
    let _ = clone3
        .expect_code(7)
        .expect_all(&["cannot be traced (CLONE_UNTRACED)", "the filter that stops before exits"]);
}

/// What it has of the pages of the others would be missing in the sums over the tree.
#[test]
fn hazard_05_while_a_child_that_cannot_be_traced_lives_the_tree_is_not_summed() {
    let project = built();
    let toml = "[[case]]\nname = \"case\"\ntarget = { path = \"hazards\" }\nargs = [\"untraced-lives\"]\nsnapshot = false\n\
                checkpoint = [{ name = \"ready\", budget.tree.processes = 9 }, { name = \"alone\", budget.tree.processes = 9 }]\n";
    project.write("memcheck.toml", toml);
    let run = memcheck(&project, &["--message-format", "json"]).expect_code(3);
    let value: Value = serde_json::from_str(run.stdout.lines().next().unwrap()).unwrap();
    let checkpoints = &value["checkpoints"];
    assert_eq!(checkpoints[0]["tree"], Value::Null, "{value}");
    assert_eq!(checkpoints[1]["tree"]["processes"], 1, "{value}");
    let limits = checkpoints[0]["limits"].to_string();
    assert!(limits.contains("CLONE_UNTRACED"), "{limits}");
    assert!(
        value["notes"]
            .to_string()
            .contains("is not traced (CLONE_UNTRACED) and ran on"),
        "{value}"
    );
}
