//! End-to-end tests of the command: each writes a throw-away project of a few lines, runs `cargo-memcheck` in it as a user
//! would, and looks at the exit code, the words of the message and the files that are left.
//!
//! They are a target of the package `cargo-memcheck`, whose tests alone are told where the command was built. C projects
//! without Cargo are the rule here, for speed; `cargo.rs` has the Cargo ones.

#![expect(clippy::unwrap_used, reason = "what fails here fails its test")]

use std::path::Path;
use std::process::{Child, Command};

use tests::{Project, Run};

#[path = "cli/accept.rs"]
mod accept;
#[path = "cli/alone.rs"]
mod alone;
#[path = "cli/artifact.rs"]
mod artifact;
#[path = "cli/arenas.rs"]
mod arenas;
#[path = "cli/attach.rs"]
mod attach;
#[path = "cli/broken.rs"]
mod broken;
#[path = "cli/cargo.rs"]
mod cargo;
#[path = "cli/children.rs"]
mod children;
#[path = "cli/ci.rs"]
mod ci;
#[path = "cli/compare.rs"]
mod compare;
#[path = "cli/contents.rs"]
mod contents;
#[path = "cli/detach.rs"]
mod detach;
#[path = "cli/doctor.rs"]
mod doctor;
#[path = "cli/doors.rs"]
mod doors;
#[path = "cli/elf_files.rs"]
mod elf_files;
#[path = "cli/endings.rs"]
mod endings;
#[path = "cli/environments.rs"]
mod environments;
#[path = "cli/files.rs"]
mod files;
#[path = "cli/first_contact.rs"]
mod first_contact;
#[path = "cli/gate.rs"]
mod gate;
#[path = "cli/growth.rs"]
mod growth;
#[path = "cli/hardening.rs"]
mod hardening;
#[path = "cli/hazards.rs"]
mod hazards;
#[path = "cli/hostile.rs"]
mod hostile;
#[path = "cli/interrupt.rs"]
mod interrupt;
#[cfg(feature = "oracles")]
#[path = "cli/kinds.rs"]
mod kinds;
#[path = "cli/listed.rs"]
mod listed;
#[path = "cli/messages.rs"]
mod messages;
#[path = "cli/options.rs"]
mod options;
#[path = "cli/output.rs"]
mod output;
#[path = "cli/points.rs"]
mod points;
#[path = "cli/policy.rs"]
mod policy;
#[path = "cli/own_suite.rs"]
mod own_suite;
#[path = "cli/portable.rs"]
mod portable;
#[path = "cli/results.rs"]
mod results;
#[path = "cli/schema.rs"]
mod schema;
#[path = "cli/racing.rs"]
mod racing;
#[path = "cli/readme.rs"]
mod readme;
#[cfg(feature = "oracles")]
#[path = "cli/runners.rs"]
mod runners;
#[path = "cli/scaling.rs"]
mod scaling;
#[path = "cli/rust_targets.rs"]
mod rust_targets;
#[path = "cli/show.rs"]
mod show;
#[path = "cli/stacks.rs"]
mod stacks;
#[path = "cli/tracers.rs"]
mod tracers;
#[path = "cli/untraced.rs"]
mod untraced;

/// The command under test.
const TOOL: &str = env!("CARGO_BIN_EXE_cargo-memcheck");

/// Two checkpoints, and between them a written block of as many times 64 KiB as the first argument says.
const GROW: &str = r#"
#include <stdlib.h>
#include <string.h>
#include "memcheck.h"

int main(int argc, char **argv) {
    MEMCHECK_CHECKPOINT(start);
    size_t bytes = (argc > 1 ? strtoul(argv[1], NULL, 10) : 1) * 65536;
    volatile char *block = malloc(bytes);
    for (size_t i = 0; i < bytes; i++)
        block[i] = 1;
    MEMCHECK_CHECKPOINT(grown);
    return 0;
}
"#;

/// The configuration of [`GROW`] with one case of that name.
const GROW_TOML: &str = r#"
[[case]]
name = "grow"
target = { c = "grow.c" }
args = ["1"]
checkpoint = [{ name = "start" }, { name = "grown" }]
"#;

/// The approved snapshot of a case.
fn snap(case: &str) -> String {
    format!("memcheck/snapshots/{case}.snap")
}

/// A project with [`GROW`] and its case.
fn grow() -> Project {
    Project::new().file("grow.c", GROW).file("memcheck.toml", GROW_TOML)
}

/// The same with everything accepted.
fn accepted() -> Project {
    let project = grow();
    let _ = memcheck(&project, &["accept"]).expect_code(0);
    project
}

/// A project of one C program with one case of the given name; `rest` is the remainder of the case's table.
fn one(name: &str, source: &str, rest: &str) -> Project {
    let toml = format!("[[case]]\nname = \"{name}\"\ntarget = {{ c = \"main.c\" }}\n{rest}\n");
    Project::new().file("main.c", source).file("memcheck.toml", &toml)
}

/// Runs the command in a project.
#[track_caller]
fn memcheck(project: &Project, args: &[&str]) -> Run {
    project.run(Path::new(TOOL), args)
}

/// Runs the command in a project with further environment variables.
#[track_caller]
fn memcheck_with(project: &Project, args: &[&str], env: &[(&str, &str)]) -> Run {
    tests::finish(command(project, args).envs(env.iter().copied()))
}

/// The command, not started yet.
fn command(project: &Project, args: &[&str]) -> Command {
    project.command(Path::new(TOOL), args)
}

/// Starts the command in a project, with the signals that a user sends at their defaults: a shell ignores SIGINT for whatever
/// it starts in the background, and the command leaves an ignored signal ignored.
fn start(project: &Project, args: &[&str]) -> Child {
    let line = [&["--default-signal=INT,QUIT,HUP,TERM", TOOL], args].concat();
    project.spawn(Path::new("env"), &line).unwrap()
}

/// Runs a line of shell in a project; `$TOOL` is the command.
#[track_caller]
fn shell(project: &Project, line: &str) -> Run {
    tests::finish(project.command(Path::new("sh"), &["-c", line]).env("TOOL", TOOL))
}
