//! The documents, taken at their word: every `cargo memcheck …` in them is a command that exists, and the five minutes of the
//! README are spent here, with its own snippets, in projects that hold nothing else.

use std::fs;
use std::path::{Path, PathBuf};

use tests::Project;

use super::memcheck;

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").canonicalize().unwrap()
}

fn document(name: &str) -> String {
    fs::read_to_string(repository().join(name)).unwrap()
}

/// Every Markdown file for users and contributors.
fn documents() -> Vec<String> {
    let mut names: Vec<String> = ["README.md", "CONTRIBUTING.md", "CHANGELOG.md", "examples/README.md"]
        .map(str::to_owned)
        .to_vec();
    let mut open = vec![PathBuf::from("docs")];
    while let Some(directory) = open.pop() {
        for entry in fs::read_dir(repository().join(&directory)).unwrap() {
            let path = directory.join(entry.unwrap().file_name());
            if repository().join(&path).is_dir() {
                open.push(path);
            } else if path.extension().is_some_and(|extension| extension == "md") {
                names.push(path.to_str().unwrap().to_owned());
            }
        }
    }
    names
}

/// What stands after `cargo memcheck` in code: in a line of a fenced block, or in backticks.
fn commands(text: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut fenced = false;
    let mut prose = String::new();
    for line in text.lines() {
        if line.trim_start().starts_with("```") {
            fenced = !fenced;
        } else if fenced {
            // A prompt, or a hint of ours within a message. What follows a `#` is a comment.
            let at = line
                .find("cargo memcheck ")
                .filter(|at| line.starts_with("$ ") || line[..*at].ends_with("  "));
            let rest = at.map(|at| &line[at + "cargo memcheck ".len()..]);
            found.extend(rest.map(|rest| rest.split(" #").next().unwrap_or_default().trim().to_owned()));
        } else {
            prose.push_str(line.trim());
            prose.push(' ');
        }
    }
    // A span of code may go over the end of a line.
    for (index, span) in prose.split('`').enumerate() {
        if index % 2 == 1
            && let Some(rest) = span.strip_prefix("cargo memcheck ")
        {
            found.push(rest.trim().to_owned());
        }
    }
    found.retain(|command| !command.is_empty() && !command.starts_with('#'));
    found
}

/// The words of a command with examples for what stands in capitals.
fn arguments(command: &str) -> Vec<String> {
    let words = command
        .split_whitespace()
        .take_while(|word| !matches!(*word, "|" | ">" | "&&" | "2>&1"));
    words
        .map(|word| match word.trim_matches('\'') {
            "PID" | "\"$MEMCHECK_PID\"" => "1".to_owned(),
            other => other.trim_start_matches('[').trim_end_matches(']').to_owned(),
        })
        .collect()
}

#[test]
fn every_command_in_the_documents_exists() {
    let nowhere = Project::new();
    let help = memcheck(&nowhere, &["--help"]).expect_code(0).stdout;
    let subcommands: Vec<&str> = help
        .lines()
        .skip_while(|line| !line.starts_with("Commands:"))
        .skip(1)
        .take_while(|line| line.starts_with("  "))
        .filter_map(|line| line.split_whitespace().next())
        .collect();
    assert!(subcommands.contains(&"accept"), "{help}");
    let list = super::command(&nowhere, &["list"])
        .current_dir(repository())
        .output()
        .unwrap();
    let cases = String::from_utf8(list.stdout).unwrap();
    let mut checked = 0;
    let mut wrong = Vec::new();
    for document_name in documents() {
        for command in commands(&document(&document_name)) {
            let mut args = arguments(&command);
            let end = args.iter().position(|word| word == "--").unwrap_or(args.len());
            args.truncate(end);
            // The first word is a subcommand, or selects cases of our own suite.
            let first = args.iter().find(|word| !word.starts_with('-')).map_or("run", String::as_str);
            let case = first.split(['@', '/']).next().unwrap_or_default();
            let known = subcommands.contains(&first) || cases.contains(case) || first.chars().all(|c| c.is_ascii_uppercase());
            args.push("--help".to_owned());
            let args: Vec<&str> = args.iter().map(String::as_str).collect();
            let run = memcheck(&nowhere, &args);
            if run.code != Some(0) || (!known && !args[0].starts_with('-')) {
                wrong.push(format!("{document_name}: cargo memcheck {command}\n{}", run.stderr));
            }
            checked += 1;
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(checked > 8, "commands were found at all");
}

#[test]
fn commands_are_found_as_they_are_written() {
    let text = "Say `cargo memcheck show\n--pid PID`, not `cargo test`.\n```console\n$ cargo memcheck accept  # takes it\n\
                  look closer    cargo memcheck -v x\n$ cargo memcheck\n```\n";
    assert_eq!(commands(text), ["accept", "-v x", "show --pid PID"]);
    assert_eq!(arguments("show --pid PID"), ["show", "--pid", "1"]);
}

/// Exit codes stand in the README as the command has them.
#[test]
fn exit_codes_are_those_of_the_help() {
    let readme = document("README.md");
    let help = memcheck(&Project::new(), &["--help"]).expect_code(0).stdout;
    let table = readme.split("## Exit codes").nth(1).unwrap();
    let rows: Vec<&str> = table
        .lines()
        .skip_while(|line| !line.starts_with("|---"))
        .skip(1)
        .take_while(|line| line.starts_with('|'))
        .collect();
    assert_eq!(rows.len(), 10, "{rows:?}");
    let words = help.split_whitespace().collect::<Vec<_>>().join(" ");
    for row in rows {
        let code = row.split('|').nth(1).unwrap().trim();
        assert!(words.contains(&format!(" {code} ")), "{code} is in the README only");
    }
}

/// The fenced blocks of one language below a heading, up to the next.
fn blocks(heading: &str, language: &str) -> Vec<String> {
    let readme = document("README.md");
    let section = readme.split(heading).nth(1).unwrap().split("\n## ").next().unwrap();
    let fence = format!("```{language}\n");
    section
        .split(&fence)
        .skip(1)
        .map(|block| block.split("```").next().unwrap().to_owned())
        .collect()
}

/// Runs the lines of a console block that are ours, each with the exit code that its comment promises (0 without one).
#[track_caller]
fn console(project: &Project, block: &str) {
    for line in block.lines().filter_map(|line| line.strip_prefix("$ cargo memcheck")) {
        let (args, comment) = line.split_once('#').unwrap_or((line, ""));
        let promised = comment
            .split("exit ")
            .nth(1)
            .map(|rest| rest.chars().take_while(char::is_ascii_digit).collect::<String>());
        let code = promised.map_or(0, |code| code.parse().unwrap());
        let args: Vec<&str> = ["memcheck"].into_iter().chain(args.split_whitespace()).collect();
        let _ = memcheck(project, &args).expect_code(code);
    }
}

/// What the README leaves to its reader: two workers that have started when the pool is there, and wait until it is joined.
const WORKERS: &str = r#"
static DONE: std::sync::atomic::AtomicBool = std::sync::atomic::AtomicBool::new(false);
static STARTED: std::sync::Barrier = std::sync::Barrier::new(3);

struct Pool(Vec<std::thread::JoinHandle<()>>);

fn start_workers() -> Pool {
    let work = || {
        STARTED.wait();
        while !DONE.load(std::sync::atomic::Ordering::SeqCst) {
            std::hint::spin_loop();
        }
    };
    let workers: Vec<_> = (0..2).map(|_| std::thread::spawn(work)).collect();
    STARTED.wait();
    Pool(workers)
}

impl Pool {
    fn join(self) {
        DONE.store(true, std::sync::atomic::Ordering::SeqCst);
        for worker in self.0 {
            worker.join().unwrap();
        }
    }
}
"#;

#[test]
fn five_minutes_of_a_cargo_project() {
    let heading = "## Five minutes to your own project";
    let steps = blocks(heading, "console");
    let gate = steps.iter().find(|block| block.contains("$ cargo memcheck accept")).unwrap();
    let program = &blocks(heading, "rust")[0];
    assert!(
        program.contains("start_workers") && program.contains("pool.join()"),
        "{program}"
    );
    let project = Project::new()
        .file(
            "Cargo.toml",
            "[package]\nname = \"server\"\nversion = \"0.1.0\"\nedition = \"2021\"\n\n[workspace]\n",
        )
        .file("src/main.rs", &format!("{program}\n{WORKERS}"))
        .file("memcheck.toml", &blocks(heading, "toml")[0]);
    let add = steps.iter().find_map(|block| block.strip_prefix("$ cargo add ")).unwrap();
    let add = add.trim().replace("PATH/TO/CLONE", repository().to_str().unwrap());
    let mut args = vec!["add", "--offline"];
    args.extend(add.split_whitespace());
    let _ = project.run(Path::new("cargo"), &args).expect_code(0);
    console(&project, gate);
    assert!(project.has("memcheck/snapshots/server.snap") && project.has("memcheck/snapshots/environment.snap"));
}

#[test]
fn five_minutes_of_a_project_with_a_makefile() {
    let heading = "## Five minutes to your own project";
    let gate = blocks(heading, "console")
        .into_iter()
        .find(|block| block.contains("$ cargo memcheck accept"));
    let tomls = blocks(heading, "toml");
    let toml = tomls.iter().find(|block| block.contains("make tool")).unwrap();
    let project = Project::new()
        .file("memcheck.toml", toml)
        .file("Makefile", "tool: tool.c\n\tcc -o tool tool.c\n")
        .file(
            "tool.c",
            "#include <stdlib.h>\nint main(void) { return malloc(100) == NULL; }\n",
        );
    console(&project, &gate.unwrap());
    assert!(project.has("memcheck/snapshots/tool.snap"));
    // With the marker that the text names, and the header where it says that it is.
    project.write(
        "tool.c",
        "#include \"memcheck.h\"\nint main(void) { MEMCHECK_CHECKPOINT(ready); return 0; }\n",
    );
    fs::copy(
        repository().join("memcheck-probe/include/memcheck.h"),
        project.path().join("memcheck.h"),
    )
    .unwrap();
    let more = "[[case.checkpoint]]\nname = \"ready\"\n\n[[case.checkpoint]]\nname = \"done\"";
    project.write("memcheck.toml", &toml.replace("[[case.checkpoint]]\nname = \"done\"", more));
    let run = memcheck(&project, &[]).expect_code(5);
    assert!(run.stderr.contains("measured 3 checkpoints in 1 case"), "{}", run.stderr);
}

#[test]
fn the_limit_of_the_quoted_message_stands_where_it_says() {
    let file = document("memcheck.toml");
    let case = file
        .lines()
        .position(|line| line == "name = \"threads-two-unjoined\"")
        .unwrap();
    let is_limit = |line: &str| line.starts_with("budget.thread-stack.exited.count");
    let line = case + file.lines().skip(case).position(is_limit).unwrap() + 1;
    let readme = document("README.md");
    let quoted = readme.split_once("Budget exceeded: thread-stack.exited.count").unwrap().1;
    let quoted = quoted.split_once("```").unwrap().0;
    let places: Vec<&str> = quoted.split("memcheck.toml:").skip(1).collect();
    assert_eq!(places.len(), 2, "{quoted}");
    for place in places {
        assert!(
            place.starts_with(&format!("{line})")) || place.starts_with(&format!("{line},")),
            "line {line}: {place}"
        );
    }
}
