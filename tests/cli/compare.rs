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
