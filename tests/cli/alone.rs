//! `serial` and `group`: cases that use the same file run one after another, in one run and in two at once.

use std::fs;
use std::time::Duration;

use tests::{Project, collect, until};

use super::{command, memcheck, shell, start};

/// Fails when the file it makes is there already, that is, when two of them overlap. The rounds in between give time to.
const FILE: &str = r#"
#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

int main(int argc, char **argv) {
    (void)argc;
    int busy = open(argv[1], O_CREAT | O_EXCL | O_WRONLY, 0600);
    if (busy < 0) return 9;
    for (int i = 0; i < 30; i++) usleep(1000);
    close(busy);
    return unlink(argv[1]) != 0;
}
"#;

/// Waits for the other one: ends well only when both run at the same time.
const MEET: &str = r#"
#include <fcntl.h>
#include <unistd.h>

int main(int argc, char **argv) {
    (void)argc;
    close(open(argv[1], O_CREAT | O_WRONLY, 0600));
    while (access(argv[2], F_OK)) usleep(1000);
    return 0;
}
"#;

fn case(name: &str, source: &str, args: &str, rest: &str) -> String {
    format!(
        "[[case]]\nname = \"{name}\"\ntarget = {{ c = \"{source}\" }}\nargs = [{args}]\n{rest}\nsnapshot = false\nexit = 0\n\
         checkpoint = [{{ name = \"end\", at = \"exit\" }}]\n\n"
    )
}

#[test]
fn cases_of_one_file_do_not_overlap() {
    let project = Project::new();
    project.write("file.c", FILE);
    let cases = [
        ("s1", "a", "serial = true"),
        ("g1", "a", "group = \"file a\""),
        ("s2", "a", "serial = true"),
        ("g2", "a", "group = \"file a\""),
        ("h1", "b", "group = \"file/b\""),
        ("h2", "b", "group = \"file/b\""),
    ];
    let text: String = cases
        .iter()
        .map(|(name, file, rest)| case(name, "file.c", &format!("\"{file}\""), rest))
        .collect();
    project.write("memcheck.toml", &text);
    let first = start(&project, &["-j", "6"]);
    let second = memcheck(&project, &["-j", "6"]);
    let _ = collect(first).expect_code(0);
    let _ = second.expect_code(0);
    assert!(!project.has("a") && !project.has("b"));
}

#[test]
fn others_run_beside_a_group_but_none_of_its_own() {
    let project = Project::new();
    project.write("meet.c", MEET);
    let pair = case("one", "meet.c", "\"x\", \"y\"", "group = \"port\"") + &case("two", "meet.c", "\"y\", \"x\"", "");
    let late = case("late", "meet.c", "\"z\", \"z\"", "group = \"port\"");
    project.write("memcheck.toml", &(pair + &late));
    let first = start(&project, &["one"]);
    assert!(until(Duration::from_secs(20), || project.has("x")));
    let second = start(&project, &["late"]);
    assert!(!until(Duration::from_millis(500), || project.has("z")), "late ran beside one");
    let _ = memcheck(&project, &["two"]).expect_code(0);
    let _ = collect(first).expect_code(0);
    let _ = collect(second).expect_code(0);
}

#[test]
fn a_serial_case_waits_for_another_run_and_says_so() {
    let project = Project::new();
    project.write("meet.c", MEET);
    let long = case("long", "meet.c", "\"x\", \"y\"", "");
    let serial = case("serial", "meet.c", "\"z\", \"z\"", "serial = true");
    project.write("memcheck.toml", &(long + &serial));
    let first = start(&project, &["long"]);
    assert!(until(Duration::from_secs(20), || project.has("x")));
    let log = fs::File::create(project.path().join("log")).unwrap();
    let mut waiting = command(&project, &["serial"]).stderr(log).spawn().unwrap();
    let said = "Waiting serial for all other cases to end";
    assert!(until(Duration::from_secs(20), || project.read("log").contains(said)));
    assert!(!project.has("z"), "serial did not run alone");
    let _ = shell(&project, &format!("kill -TERM {}", waiting.id())).expect_code(0);
    assert_eq!(waiting.wait().unwrap().code(), Some(143));
    project.write("y", "");
    let _ = collect(first).expect_code(0);
    assert!(!project.has("z"));
}
