//! `Case` and `Checkpoint`: cases built in Rust with the words of `memcheck.toml`. Each call is one line of what the file would
//! say, with the place of the call; what it means, and whether it is right, is decided by `config`.

use std::panic::Location;

use super::check::{Change, Check, Checked};
use super::words::{Value, key, quoted};
use crate::config::BuiltLine;
use crate::model::{MemoryMap, Place};

/// A case: one launch of one target, stopped at its checkpoints.
#[derive(Debug)]
#[must_use = "a case does nothing until it is part of a suite"]
pub struct Case {
    pub(super) name: String,
    pub(super) ignored: bool,
    pub(super) checks: Vec<Check>,
    own: Vec<BuiltLine>,
    checkpoints: Vec<BuiltLine>,
}

/// A checkpoint of a case.
#[derive(Debug)]
#[must_use = "a checkpoint does nothing until it is part of a case"]
pub struct Checkpoint {
    name: String,
    lines: Vec<BuiltLine>,
    checks: Vec<Check>,
}

/// The caller's place. The compiler names files as it was told: for members of a workspace, relative to its root.
#[track_caller]
fn here() -> Place {
    let location = Location::caller();
    Place {
        file: location.file().to_owned(),
        line: location.line(),
        column: location.column(),
    }
}

#[track_caller]
fn line(text: String) -> BuiltLine {
    BuiltLine { text, place: here() }
}

#[track_caller]
fn assignment(name: &str, value: impl Into<Value>) -> BuiltLine {
    line(format!("{name} = {}", value.into().toml()))
}

impl Case {
    /// A case named `[a-z0-9][a-z0-9.-]*`; it still needs a target and a checkpoint.
    #[track_caller]
    pub fn new(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            ignored: false,
            checks: Vec::new(),
            own: vec![line("[[case]]".to_owned()), assignment("name", name)],
            checkpoints: Vec::new(),
        }
    }

    /// Any key of `[[case]]`, for those that have no function here: `set("snapshot.elf", "sizes")`.
    #[track_caller]
    pub fn set(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.own.push(assignment(&key(name), value));
        self
    }

    /// Target: a bin of the workspace.
    #[track_caller]
    pub fn bin(self, name: &str) -> Self {
        self.set("target.bin", name)
    }

    /// Target: an example of the workspace.
    #[track_caller]
    pub fn example(self, name: &str) -> Self {
        self.set("target.example", name)
    }

    /// Target: a test of the workspace, as a program.
    #[track_caller]
    pub fn test(self, name: &str) -> Self {
        self.set("target.test", name)
    }

    /// Target: a bench of the workspace, as a program.
    #[track_caller]
    pub fn bench(self, name: &str) -> Self {
        self.set("target.bench", name)
    }

    /// Target: a C program built by the tool; one source file or a list.
    #[track_caller]
    pub fn c(self, sources: impl Into<Value>) -> Self {
        self.set("target.c", sources)
    }

    /// Flags for compiling a C program.
    #[track_caller]
    pub fn cflags(self, flags: impl Into<Value>) -> Self {
        self.set("target.cflags", flags)
    }

    /// Flags for linking a C program.
    #[track_caller]
    pub fn ldflags(self, flags: impl Into<Value>) -> Self {
        self.set("target.ldflags", flags)
    }

    /// Target: a program at a path relative to the root.
    #[track_caller]
    pub fn path(self, path: &str) -> Self {
        self.set("target.path", path)
    }

    /// The shell command that makes the program of [`Case::path`].
    #[track_caller]
    pub fn build(self, command: &str) -> Self {
        self.set("target.build", command)
    }

    /// Target: a program on `PATH`.
    #[track_caller]
    pub fn command(self, program: &str) -> Self {
        self.set("target.command", program)
    }

    /// The package the case belongs to: its snapshots lie there.
    #[track_caller]
    pub fn package(self, name: &str) -> Self {
        self.set("package", name)
    }

    /// Features of a cargo target.
    #[track_caller]
    pub fn features(self, features: impl Into<Value>) -> Self {
        self.set("features", features)
    }

    /// The profile of a cargo target.
    #[track_caller]
    pub fn profile(self, name: &str) -> Self {
        self.set("profile", name)
    }

    /// Arguments, a list.
    #[track_caller]
    pub fn args(self, args: impl Into<Value>) -> Self {
        self.set("args", args)
    }

    /// One variable of the target's environment.
    #[track_caller]
    pub fn env(mut self, name: &str, value: &str) -> Self {
        self.own.push(assignment(&format!("env.{}", quoted(name)), value));
        self
    }

    /// A resource limit: `"stack"`, `"as"` (sizes) or `"nofile"`.
    #[track_caller]
    pub fn limit(self, name: &str, value: impl Into<Value>) -> Self {
        self.set(&format!("limits.{name}"), value)
    }

    /// Time for the whole case: `"30s"`.
    #[track_caller]
    pub fn timeout(self, time: &str) -> Self {
        self.set("timeout", time)
    }

    /// After the last checkpoint: `"kill"` or `"run"`.
    #[track_caller]
    pub fn after_last(self, what: &str) -> Self {
        self.set("after_last", what)
    }

    /// Number of CPUs the target may use.
    #[track_caller]
    pub fn cpus(self, count: u32) -> Self {
        self.set("cpus", count)
    }

    /// Standard output and error are a terminal: most programs then write line by line.
    #[track_caller]
    pub fn tty(self, tty: bool) -> Self {
        self.set("tty", tty)
    }

    /// `"ignore"`, `"follow"`, `"capture"` or `"detach"`: what happens to child processes.
    #[track_caller]
    pub fn children(self, word: &str) -> Self {
        self.set("children", word)
    }

    /// Never at the same time as any other case.
    #[track_caller]
    pub fn serial(self, serial: bool) -> Self {
        self.set("serial", serial)
    }

    /// Never at the same time as another case of the same group.
    #[track_caller]
    pub fn group(self, name: &str) -> Self {
        self.set("group", name)
    }

    /// A command that starts after a checkpoint and drives the target: program and arguments.
    #[track_caller]
    pub fn step(mut self, after: &str, run: impl Into<Value>) -> Self {
        let lines = [
            line("[[case.step]]".to_owned()),
            assignment("after", after),
            assignment("run", run),
        ];
        self.checkpoints.extend(lines);
        self
    }

    /// A limit for every checkpoint of the case.
    #[track_caller]
    pub fn budget(mut self, metric: &str, limit: impl Into<Value>) -> Self {
        self.own.push(assignment(&format!("budget.{}", key(metric)), limit));
        self
    }

    /// The next checkpoint.
    pub fn checkpoint(mut self, checkpoint: Checkpoint) -> Self {
        self.checkpoints.extend(checkpoint.lines);
        self.checks.extend(checkpoint.checks);
        self
    }

    /// A check of what changed between two checkpoints. It fails by a panic (`assert!`) or by an `Err` that says why.
    #[track_caller]
    pub fn change<C: Checked>(mut self, from: &str, to: &str, check: impl Fn(&Change<'_>) -> C + Send + Sync + 'static) -> Self {
        self.checks.push(Check::change(from, to, here(), check));
        self
    }

    /// Listed, but run only with `--ignored` or `--include-ignored`.
    pub fn ignored(mut self, ignored: bool) -> Self {
        self.ignored = ignored;
        self
    }

    /// What the file would say.
    pub(super) fn lines(&self) -> impl Iterator<Item = &BuiltLine> {
        self.own.iter().chain(&self.checkpoints)
    }
}

impl Checkpoint {
    /// A checkpoint at the marker of the same name, unless [`Checkpoint::at`] says otherwise.
    #[track_caller]
    pub fn new(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            lines: vec![line("[[case.checkpoint]]".to_owned()), assignment("name", name)],
            checks: Vec::new(),
        }
    }

    /// Any key of `[[case.checkpoint]]`.
    #[track_caller]
    pub fn set(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.lines.push(assignment(&key(name), value));
        self
    }

    /// Where it stops: `"exec"`, `"main"`, `"exit"`, `"idle"`, `"step-done"`, or an [`At`](super::At).
    #[track_caller]
    pub fn at(self, at: impl Into<Value>) -> Self {
        self.set("at", at)
    }

    /// Which pass counts, from 1.
    #[track_caller]
    pub fn hit(self, hit: u64) -> Self {
        self.set("hit", hit)
    }

    /// In a child process: `worker.2`, the second child, running `worker`.
    #[track_caller]
    pub fn child(self, name: &str) -> Self {
        self.set("child", name)
    }

    /// In each child of the target that runs a program, `limit` at most, as `name.1`, `name.2`, ….
    #[track_caller]
    pub fn each_child(self, program: &str, limit: u64) -> Self {
        self.set("child", format!("{program}.*")).set("limit", limit)
    }

    /// Every pass counts, `limit` at most, each as a checkpoint of its own: `name.1`, `name.2`, ….
    #[track_caller]
    pub fn every(self, limit: u64) -> Self {
        self.set("every", true).set("limit", limit)
    }

    /// A phase that is repeated: captured where it begins and where it ends, `limit` times at most, as `name.1.from`,
    /// `name.1.to`, `name.2.from`, …. Limits hold at its ends; `over = "from"` is the beginning of the same repetition.
    #[track_caller]
    pub fn between(self, from: impl Into<Value>, to: impl Into<Value>, limit: u64) -> Self {
        self.set("from", from).set("to", to).set("limit", limit)
    }

    /// Stop with a breakpoint of the processor, which changes no page of code (four of them at most).
    #[track_caller]
    pub fn hardware(self) -> Self {
        self.set("hardware", true)
    }

    /// Measured only when memory has not changed for so long: `"200ms"`. The thread that came here stands, all others run on.
    #[track_caller]
    pub fn settle(self, time: &str) -> Self {
        self.set("settle", time)
    }

    /// Part of the snapshot or not.
    #[track_caller]
    pub fn snapshot(self, snapshot: bool) -> Self {
        self.set("snapshot", snapshot)
    }

    /// A limit: a maximum (`4`, `"8 MiB"`) or a [`Limit`](super::Limit).
    #[track_caller]
    pub fn budget(mut self, metric: &str, limit: impl Into<Value>) -> Self {
        self.lines.push(assignment(&format!("budget.{}", key(metric)), limit));
        self
    }

    /// A check of the classified memory here. It fails by a panic (`assert!`) or by an `Err` that says why.
    #[track_caller]
    pub fn inspect<C: Checked>(mut self, check: impl Fn(&MemoryMap) -> C + Send + Sync + 'static) -> Self {
        self.checks.push(Check::map(&self.name, here(), check));
        self
    }
}

#[cfg(test)]
mod tests {
    use super::super::{At, Limit};
    use super::*;

    #[test]
    fn each_call_is_a_line_with_its_place() {
        let checkpoint = Checkpoint::new("ready").at(At::function("serve")).hit(2);
        let case = Case::new("pool")
            .checkpoint(checkpoint.budget("thread-arena.count", Limit::exactly(3)))
            .bin("server")
            .env("A.B", "1")
            .limit("stack", "1 MiB");
        let text: Vec<&str> = case.lines().map(|line| line.text.as_str()).collect();
        assert_eq!(
            text,
            [
                "[[case]]",
                "name = \"pool\"",
                "target.bin = \"server\"",
                "env.\"A.B\" = \"1\"",
                "limits.stack = \"1 MiB\"",
                "[[case.checkpoint]]",
                "name = \"ready\"",
                "at = { function = \"serve\" }",
                "hit = 2",
                "budget.thread-arena.count = { min = 3, max = 3 }",
            ]
        );
        let first = case.lines().next().unwrap().place.clone();
        assert!(first.file.ends_with("case.rs") && first.line > 0, "{first:?}");
        assert!(case.lines().nth(4).unwrap().place.line > first.line);
    }
}
