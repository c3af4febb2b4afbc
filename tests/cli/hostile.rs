//! Hostile text from a real program: in its output, in the names of its threads and files, in its arguments, and in the name of the
//! directory it lies in. Nothing of it may reach a log, a page or a machine's format as more than text.

use std::fs;
use std::os::unix::ffi::OsStringExt as _;
use std::path::Path;

use tests::Project;

use super::{TOOL, memcheck};

/// Maps a file of a hostile name, starts a thread of a hostile name, prints hostile lines and goes over its budget.
const PROGRAM: &str = r#"
#define _GNU_SOURCE
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <unistd.h>
#include "memcheck.h"

static pthread_barrier_t named;

static void *work(void *unused) {
    prctl(PR_SET_NAME, "\n::error::a\xff\x1b[");
    pthread_barrier_wait(&named);
    pause();
    return unused;
}

int main(void) {
    static const char name[] = "x\n::error::\x1b[31m`<script>]]>\xe2\x80\xae\xff";
    int file = open(name, O_CREAT | O_RDWR, 0600);
    if (file < 0 || ftruncate(file, 4096) != 0)
        return 1;
    volatile char *mapped = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE, file, 0);
    mapped[0] = 1;
    pthread_t thread;
    pthread_barrier_init(&named, NULL, 2);
    pthread_create(&thread, NULL, work, NULL);
    pthread_barrier_wait(&named);
    printf("\n::error::from the program\n##[error]x\n::stop-commands::y\r::add-mask::z\n]]></system-out><script>`````\n</details>\x1b[2J\xe2\x80\xae\xff\n");
    for (int i = 0; i < 10000; i++)
        putchar('x');
    printf("\n%%0A::error::a\n");
    fflush(stdout);
    char *block = malloc(200000);
    memset(block, 1, 200000);
    MEMCHECK_CHECKPOINT(ready);
    abort();
}
"#;

const TOML: &str = r#"
[[case]]
name = "hostile"
target = { c = "main.c", cflags = ["-pthread"], ldflags = ["-pthread"] }
args = ["::error::an argument", "<script>", "`"]
budget.own.anon = "4 KiB"
checkpoint = [{ name = "ready" }, { name = "end", at = "exit" }]
"#;

const FORMATS: [&str; 11] = [
    "human",
    "json",
    "markdown",
    "comment",
    "junit",
    "github",
    "sarif",
    "bencher",
    "gh-benchmark",
    "patch",
    "outputs",
];

/// Nothing that a terminal, a log viewer or a page would obey. Our own annotations are the only commands.
#[track_caller]
fn harmless(what: &str, text: &str) {
    let steers = |c: &char| {
        *c != '\n'
            && (c.is_control()
                || matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{fffd}' | '\u{feff}'))
    };
    assert_eq!(text.chars().find(steers), None, "{what}: {text}");
    assert!(!text.contains("##["), "{what}: {text}");
    for line in text.lines().filter(|line| line.trim_start().starts_with("::")) {
        let ours = line.starts_with("::error file=") || line.starts_with("::error title=") || line.starts_with("::warning ");
        assert!(ours, "{what}: {line}");
    }
}

#[test]
fn a_hostile_program_is_only_text_in_every_format() {
    let project = Project::new();
    // The directory has a name of the kind, too.
    let root = project
        .path()
        .join(std::ffi::OsString::from_vec(b"a\n::error::b\x1b[31m".to_vec()));
    fs::create_dir(&root).unwrap();
    fs::write(root.join("main.c"), PROGRAM).unwrap();
    fs::write(root.join("memcheck.toml"), TOML).unwrap();
    let file = |name: &str| project.path().join(name).display().to_string();
    let run = |args: &[&str]| {
        let mut command = project.command(Path::new(TOOL), args);
        let env = [
            ("CI", "true"),
            ("GITHUB_ACTIONS", "true"),
            ("GITHUB_BASE_REF", "main\n::error::x"),
        ];
        tests::finish(
            command
                .current_dir(&root)
                .envs(env)
                .env("GITHUB_STEP_SUMMARY", file("summary.md"))
                .env("GITHUB_OUTPUT", file("output"))
                .env("GITHUB_WORKSPACE", project.path()),
        )
    };
    let measured = run(&["-v"]);
    assert!(matches!(measured.code, Some(3 | 7)), "{}", measured.stderr);
    assert!(
        measured.stderr.contains("::error::from the program"),
        "the output is shown: {}",
        measured.stderr
    );
    harmless("the log", &measured.stderr);
    harmless("the summary", &project.read("summary.md"));
    // A path with a line break in it is no output: it could set others.
    let outputs = project.read("output");
    assert!(
        outputs.contains("status=") && !outputs.contains("results=") && outputs.lines().all(|line| line.contains('=')),
        "{outputs}"
    );
    harmless("the outputs", &outputs);
    let results = "target/memcheck-data/results.json";
    for format in FORMATS {
        let report = run(&["report", results, "--format", format]).expect_code(0);
        harmless(format, &report.stdout);
        match format {
            "json" | "sarif" | "bencher" | "gh-benchmark" => {
                assert!(
                    serde_json::from_str::<serde_json::Value>(&report.stdout).is_ok_and(|value| !value.is_null()),
                    "{format}"
                );
            }
            "junit" => assert!(
                !report.stdout.contains("<script") && !report.stdout.contains("]]>"),
                "{}",
                report.stdout
            ),
            "comment" => assert!(report.stdout.len() < 65_536),
            _ => {}
        }
    }
    let lines = run(&["--message-format", "json", "--no-ci"]);
    harmless("json lines", &lines.stdout);
    let shown = run(&["show", results, "-v"]).expect_code(0);
    assert!(
        shown.stdout.contains("\\x0a::error::a\\xff\\x1b["),
        "the thread's name is there, escaped: {}",
        shown.stdout
    );
    harmless("show", &shown.stdout);
}

/// Names that are ours to choose are refused where they are written.
#[test]
fn a_case_has_no_such_name() {
    for name in [
        "a\\n::error::",
        "<script>",
        "`a`",
        "]]>",
        "\\u001b[31m",
        "\\u202e",
        "../a",
        "a/b",
        "A",
        "-a",
        "",
        &"x".repeat(10_000),
    ] {
        let project = Project::new()
            .file("main.c", PROGRAM)
            .file("memcheck.toml", &TOML.replace("\"hostile\"", &format!("\"{name}\"")));
        let run = memcheck(&project, &[]).expect_code(2);
        harmless("the error", &run.stderr);
        assert!(run.stderr.len() < 4000, "{}", run.stderr.len());
        assert!(!project.has("memcheck"));
    }
}
