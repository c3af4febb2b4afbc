//! Contents on demand: strings and bytes of a role, exactly what the program put there, read by nobody else.

use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};

use serde_json::Value;
use tests::Project;

use super::memcheck;

/// Its mapping has 64 pages, of which two hold something. No text of the file holds the words as they are in memory.
const SOURCE: &str = r#"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>
static char *map;
void ready(void) { if (map[0]) exit(1); }
int main(int argc, char **argv) {
    char *heap = malloc(100);
    snprintf(heap, 100, "heap-%d-\033[31m-word", 6 * 7);
    map = mmap(NULL, 64 * 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    snprintf(map + 3 * 4096 + 8, 100, "third-%d", 3 * argc);
    memset(map + 40 * 4096, 'x', 4096);
    ready();
    if (argc > 1) {
        puts("up");
        fflush(stdout);
        pause();
    }
    return heap[0] == 'h' ? 0 : 1;
}
"#;

fn built() -> Project {
    let project = Project::new().file("main.c", SOURCE);
    let _ = project.run("cc".as_ref(), &["-O1", "-o", "holder", "main.c"]).expect_code(0);
    project
}

const AT: [&str; 3] = ["show", "--at", "function:ready"];

fn asked(project: &Project, more: &[&str]) -> String {
    let args = [&AT[..], more, &["--", "./holder"]].concat();
    memcheck(project, &args).expect_code(0).stdout
}

#[test]
fn strings_of_a_role_stand_with_their_offsets() {
    let project = built();
    let text = asked(&project, &["--strings", "anon-map"]);
    let line = |wanted: &str| -> Vec<String> {
        let line = text
            .lines()
            .find(|line| line.contains(wanted))
            .unwrap_or_else(|| panic!("{text}"));
        line.split_whitespace().map(str::to_owned).collect()
    };
    assert_eq!(line("third-"), ["0x3008", "third-3"]);
    assert_eq!(line("xxxx")[0], "0x28000");
    assert!(text.contains("8192 bytes in memory of 262144"), "{text}");
    assert!(
        !text.contains("reserved") && !text.contains("heap-"),
        "no table, no other role: {text}"
    );

    let heap = asked(&project, &["--strings", "main-heap"]);
    assert!(heap.contains("heap-42-") && !heap.contains('\x1b'), "{heap}");
    let json = asked(&project, &["--strings", "anon-map", "--message-format", "json"]);
    let value: Value = serde_json::from_str(&json).unwrap();
    assert_eq!(value["pieces"][0]["strings"][0]["offset"], 0x3008);
    let _ = memcheck(&project, &["show", "--strings", "heap", "--", "./holder"])
        .expect_code(2)
        .expect_stderr("`heap` is no role");
}

#[test]
fn a_dump_holds_the_bytes_at_their_offsets_for_its_owner_only() {
    let project = built();
    let text = asked(&project, &["--fixed", "--dump", "anon-map", "held"]);
    let dir = project.path().join("held");
    assert_eq!(dir.metadata().unwrap().permissions().mode() & 0o777, 0o700);
    let files: Vec<_> = fs::read_dir(&dir).unwrap().map(|entry| entry.unwrap().path()).collect();
    let [file] = &files[..] else { panic!("{files:?}") };
    assert!(text.contains(file.file_name().unwrap().to_str().unwrap()), "{text}");
    let meta = file.metadata().unwrap();
    assert_eq!((meta.permissions().mode() & 0o777, meta.len()), (0o600, 64 * 4096));
    let mut expected = vec![0_u8; 64 * 4096];
    expected[0x3008..0x300f].copy_from_slice(b"third-3");
    expected[40 * 4096..41 * 4096].fill(b'x');
    assert!(fs::read(file).unwrap() == expected);
    // Pages that are not in memory take no place in the file either, where the file system has holes.
    assert!(meta.blocks() * 512 <= 64 * 4096);
    // Again, over what is there.
    fs::set_permissions(file, fs::Permissions::from_mode(0o644)).unwrap();
    let _ = asked(&project, &["--fixed", "--dump", "anon-map", "held"]);
    assert_eq!(file.metadata().unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(fs::read_dir(&dir).unwrap().count(), 1);
    let _ = memcheck(&project, &["show", "--dump", "anon-map", "main.c/x", "--", "./holder"]).expect_code(1);
}

#[test]
fn dumps_of_two_cases_lie_side_by_side() {
    let project = built();
    let case = |name: &str| {
        format!(
            "[[case]]\nname = \"{name}\"\ntarget = {{ path = \"holder\" }}\ncheckpoint = [{{ name = \"end\", at = \"exit\" }}]\n"
        )
    };
    project.write("memcheck.toml", &(case("one") + &case("two")));
    for name in ["one", "two"] {
        let _ = memcheck(&project, &["show", "--dump", "anon-map", "held", name]).expect_code(0);
    }
    let mut files: Vec<_> = fs::read_dir(project.path().join("held"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    files.sort();
    let [one, two] = &files[..] else { panic!("{files:?}") };
    assert!(
        one.starts_with("one-end-anon-map-") && two.starts_with("two-end-anon-map-"),
        "{files:?}"
    );
}

#[test]
fn a_running_process_is_looked_into_and_goes_on() {
    let project = built();
    let mut holder = project.spawn("./holder".as_ref(), &["stay"]).unwrap();
    let mut line = String::new();
    use std::io::BufRead as _;
    let out = holder.stdout.take().unwrap();
    let _ = std::io::BufReader::new(out).read_line(&mut line).unwrap();
    let pid = holder.id().to_string();
    let run = memcheck(&project, &["show", "--pid", &pid, "--strings", "anon-map"]);
    let state = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    holder.kill().unwrap();
    let _ = holder.wait().unwrap();
    let run = run.expect_code(0);
    assert!(run.stdout.contains("third-6"), "{}", run.stdout);
    let word = state.rsplit_once(')').unwrap().1.trim_start().chars().next();
    assert!(matches!(word, Some('R' | 'S')), "stopped: {state}");
}
