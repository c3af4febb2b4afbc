//! Helpers shared by the end-to-end tests: throw-away projects and what the command said about them.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

pub mod glibc;
pub mod schema;

/// A throw-away project directory; gone when dropped.
#[derive(Debug)]
pub struct Project {
    dir: TempDir,
}

/// What a command left behind.
#[derive(Clone, Debug, Default)]
pub struct Run {
    /// Exit code; absent when a signal ended it.
    pub code: Option<i32>,
    /// Standard output.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
}

impl Run {
    /// Fails with everything that was printed unless the exit code is `code`.
    #[track_caller]
    pub fn expect_code(self, code: i32) -> Self {
        assert_eq!(self.code, Some(code), "stdout:\n{}\nstderr:\n{}", self.stdout, self.stderr);
        self
    }

    /// Fails with everything that was printed unless standard error holds `text`.
    #[track_caller]
    pub fn expect_stderr(self, text: &str) -> Self {
        // A message is wrapped to the width of the terminal: any space may be a line's end.
        assert!(
            self.stderr.contains(text) || words(&self.stderr).contains(&words(text)),
            "no {text:?} in stderr:\n{}\nstdout:\n{}",
            self.stderr,
            self.stdout
        );
        self
    }

    /// Fails with everything that was printed if standard error holds `text`.
    #[track_caller]
    pub fn expect_no_stderr(self, text: &str) -> Self {
        assert!(
            !self.stderr.contains(text),
            "there is {text:?} in stderr:\n{}\nstdout:\n{}",
            self.stderr,
            self.stdout
        );
        self
    }

    /// Fails with everything that was printed unless standard error holds each of `texts`.
    #[track_caller]
    pub fn expect_all(self, texts: &[&str]) -> Self {
        texts.iter().fold(self, |run, text| run.expect_stderr(text))
    }

    /// Fails with everything that was printed unless standard output holds `text`.
    #[track_caller]
    pub fn expect_stdout(self, text: &str) -> Self {
        assert!(
            self.stdout.contains(text),
            "no {text:?} in stdout:\n{}\nstderr:\n{}",
            self.stdout,
            self.stderr
        );
        self
    }

    /// Fails with everything that was printed unless the last line of standard error is `line`.
    #[track_caller]
    pub fn expect_last_line(self, line: &str) -> Self {
        assert_eq!(self.last_line(), line, "stderr:\n{}\nstdout:\n{}", self.stderr, self.stdout);
        self
    }

    /// The last line of standard error.
    #[must_use]
    pub fn last_line(&self) -> &str {
        self.stderr.lines().last().unwrap_or_default()
    }
}

impl Project {
    /// An empty directory.
    ///
    /// # Panics
    /// When the machine has no place for it.
    #[must_use]
    pub fn new() -> Self {
        Self {
            dir: TempDir::new().unwrap_or_else(|e| unreachable!("no temporary directory: {e}")),
        }
    }

    /// Its path.
    #[must_use]
    pub fn path(&self) -> &Path {
        self.dir.path()
    }

    /// Writes a file, with its directories.
    ///
    /// # Panics
    /// When that fails.
    #[track_caller]
    #[must_use]
    pub fn file(self, path: &str, text: &str) -> Self {
        self.write(path, text);
        self
    }

    /// Writes a file, with its directories.
    ///
    /// # Panics
    /// When that fails.
    #[track_caller]
    pub fn write(&self, path: &str, text: &str) {
        let path = self.path().join(path);
        let written = fs::create_dir_all(path.parent().unwrap_or(self.path())).and_then(|()| fs::write(&path, text));
        assert!(written.is_ok(), "{}: {written:?}", path.display());
    }

    /// Reads a file.
    ///
    /// # Panics
    /// When that fails.
    #[track_caller]
    #[must_use]
    pub fn read(&self, path: &str) -> String {
        let read = fs::read_to_string(self.path().join(path));
        assert!(read.is_ok(), "{path}: {read:?}");
        read.unwrap_or_default()
    }

    /// Every file and link below the directory but those of `target/`: path and bytes, by path. Links and directories without
    /// files count as empty.
    ///
    /// # Panics
    /// When a directory cannot be read.
    #[must_use]
    pub fn files(&self) -> Vec<(String, Vec<u8>)> {
        let mut found = Vec::new();
        let mut open = vec![PathBuf::new()];
        while let Some(directory) = open.pop() {
            let entries = fs::read_dir(self.path().join(&directory));
            assert!(entries.is_ok(), "{}: {entries:?}", directory.display());
            for entry in entries.into_iter().flatten().flatten() {
                let path = directory.join(entry.file_name());
                match entry.file_type() {
                    Ok(kind) if kind.is_dir() && path != Path::new("target") => open.push(path),
                    Ok(kind) if kind.is_dir() => {}
                    _ => found.push((path.display().to_string(), fs::read(entry.path()).unwrap_or_default())),
                }
            }
        }
        found.sort();
        found
    }

    /// The paths of [`files`](Self::files).
    #[must_use]
    pub fn paths(&self) -> Vec<String> {
        self.files().into_iter().map(|(path, _)| path).collect()
    }

    /// True when there is such a file.
    #[must_use]
    pub fn has(&self, path: &str) -> bool {
        self.path().join(path).exists()
    }

    /// A command in this directory, without anything of the surrounding run (CI, cargo, insta) in its environment.
    #[expect(clippy::disallowed_methods, reason = "end-to-end tests start the command as a user does")]
    #[must_use]
    pub fn command(&self, program: &Path, args: &[&str]) -> Command {
        let mut command = Command::new(program);
        command
            .args(args)
            .current_dir(self.path())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        for (name, _) in std::env::vars_os() {
            let text = name.to_string_lossy();
            let foreign = text.starts_with("CARGO") && text != "CARGO_HOME";
            let switch = matches!(&*text, "CI" | "NO_COLOR" | "RUSTFLAGS" | "COLUMNS") || text.starts_with("GITHUB_");
            if foreign || switch || text.starts_with("INSTA_") {
                command.env_remove(&name);
            }
        }
        command
    }

    /// Runs a command to its end.
    ///
    /// # Panics
    /// When it cannot be started.
    #[track_caller]
    #[must_use]
    pub fn run(&self, program: &Path, args: &[&str]) -> Run {
        finish(&mut self.command(program, args))
    }

    /// Starts a command.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn spawn(&self, program: &Path, args: &[&str]) -> io::Result<Child> {
        self.command(program, args).spawn()
    }
}

impl Default for Project {
    fn default() -> Self {
        Self::new()
    }
}

/// A text with one space between its words.
fn words(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// Runs a command to its end. Whatever it is asked and however it ends, it must not panic.
///
/// # Panics
/// When it cannot be started, or panicked.
#[track_caller]
#[must_use]
pub fn finish(command: &mut Command) -> Run {
    let output = command.output();
    assert!(output.is_ok(), "{command:?}: {output:?}");
    output.map_or_else(|_| Run::default(), |output| what_is_left(&output))
}

/// Collects a command that was started with [`Project::spawn`].
///
/// # Panics
/// When it cannot be waited for, or panicked.
#[track_caller]
#[must_use]
pub fn collect(child: Child) -> Run {
    let output = child.wait_with_output();
    assert!(output.is_ok(), "{output:?}");
    output.map_or_else(|_| Run::default(), |output| what_is_left(&output))
}

#[track_caller]
fn what_is_left(output: &Output) -> Run {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let run = Run {
        code: output.status.code(),
        stdout: text(&output.stdout),
        stderr: text(&output.stderr),
    };
    assert!(!run.stderr.contains("panicked at"), "{}", run.stderr);
    run
}

/// Waits until `condition` holds, at most `limit`; true when it does.
pub fn until(limit: Duration, condition: impl Fn() -> bool) -> bool {
    let start = Instant::now();
    loop {
        if condition() {
            return true;
        }
        if start.elapsed() > limit {
            return false;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// True when, within half a minute, no process is left whose command line holds `marker`: the kernel ends what we traced on its
/// own time.
#[must_use]
pub fn gone(marker: &str) -> bool {
    until(Duration::from_secs(30), || processes_with(marker).is_empty())
}

/// A word that no other process has on its command line.
#[must_use]
pub fn marker(name: &str) -> String {
    format!("memcheck-test-{name}-{}", std::process::id())
}

/// Process ids whose command line holds `marker`: what a test left running.
///
/// # Panics
/// When there is no `/proc`.
#[must_use]
pub fn processes_with(marker: &str) -> Vec<i32> {
    let entries = fs::read_dir("/proc");
    assert!(entries.is_ok(), "{entries:?}");
    let mut found: Vec<i32> = entries
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok())
        .filter(|pid| *pid != std::process::id() as i32)
        .filter(|pid| {
            fs::read(PathBuf::from(format!("/proc/{pid}/cmdline")))
                .is_ok_and(|line| line.windows(marker.len()).any(|window| window == marker.as_bytes()))
        })
        .collect();
    found.sort_unstable();
    found
}

/// A processor that this process may use, as `taskset -c` takes it.
///
/// # Panics
/// When there is no `/proc`.
#[must_use]
pub fn a_processor() -> String {
    let status = fs::read_to_string("/proc/self/status");
    assert!(status.is_ok(), "{status:?}");
    let status = status.unwrap_or_default();
    let allowed = status.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:"));
    let first = allowed.unwrap_or("0").trim().split([',', '-']).next().unwrap_or("0");
    first.to_owned()
}
