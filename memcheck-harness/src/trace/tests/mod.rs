//! The tracer on real processes: one small C program (`zoo.c`), built once per variant.

mod calls;
mod children;
mod code;
mod ends;
mod libraries;
mod launching;
mod points;
mod pages;
mod processes;
mod timed;

use std::path::PathBuf;
use std::process::Command;
use std::sync::{Mutex, OnceLock};
use std::time::{Duration, Instant};

use tempfile::TempDir;

use super::*;
use crate::model::{Cancel, Touched};

/// Builds a variant of the zoo once per test process.
fn zoo(flags: &'static [&'static str]) -> PathBuf {
    static BUILT: OnceLock<(TempDir, Mutex<Vec<&'static [&'static str]>>)> = OnceLock::new();
    let (dir, built) = BUILT.get_or_init(|| (tempfile::tempdir().unwrap(), Mutex::new(Vec::new())));
    let mut built = built.lock().unwrap();
    let index = built.iter().position(|one| *one == flags).unwrap_or_else(|| {
        let index = built.len();
        compile(flags, &dir.path().join(format!("zoo{index}")));
        built.push(flags);
        index
    });
    dir.path().join(format!("zoo{index}"))
}

fn compile(flags: &[&str], output: &Path) {
    compile_file("zoo.c", flags, output);
}

/// Builds one of the files beside this one.
fn compile_file(source: &str, flags: &[&str], output: &Path) {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/trace/tests").join(source);
    #[expect(clippy::disallowed_methods, reason = "tests build their own targets")]
    let built = Command::new("gcc")
        .args(["-O1", "-pthread", "-o"])
        .arg(output)
        .arg(source)
        .args(flags)
        .output()
        .unwrap();
    assert!(built.status.success(), "{}", String::from_utf8_lossy(&built.stderr));
}

fn settings_of(program: PathBuf, args: &[&str]) -> Launch {
    Launch {
        watch_stacks: false,
        argv0: Name::new(program.as_os_str().as_encoded_bytes()),
        program,
        args: args.iter().map(OsString::from).collect(),
        env: Some(vec![("PATH".into(), "/usr/bin:/bin".into())]),
        cwd: "/".into(),
        stdin: Stdin::Null,
        tty: false,
        limits: LaunchLimits::default(),
        cpus: None,
        fixed: true,
        timeout: Duration::from_secs(90),
        dies_with_us: false,
        lets_children_go: false,
        output_tail_bytes: 1000,
    }
}

fn start(program: PathBuf, args: &[&str], points: &[Point]) -> Running {
    launch(&settings_of(program, args), points, &Cancel::new()).unwrap()
}

fn zoo_with(args: &[&str], points: &[Point]) -> Running {
    start(zoo(&[]), args, points)
}

fn point(at: At, hit: u64) -> Point {
    Point::new(at, hit)
}

fn probe(name: &str, hit: u64) -> Point {
    let (provider, name) = ("memcheck".to_owned(), name.to_owned());
    point(At::Probe { provider, name }, hit)
}

fn function(name: &str, hit: u64) -> Point {
    point(At::Function(name.to_owned()), hit)
}

fn paused(running: Running) -> (Stopped, usize) {
    match running.next().unwrap() {
        Next::Paused(stopped, point) => (stopped, point),
        Next::Ended(ended) => panic!("ended instead: {ended:?}"),
    }
}

fn ended(running: Running) -> Ended {
    match running.next().unwrap() {
        Next::Ended(ended) => ended,
        Next::Paused(_, point) => panic!("paused at {point}"),
    }
}

fn stdout(ended: &Ended) -> &str {
    ended.output.stdout.as_str().unwrap()
}

/// True until the process is gone for good.
fn exists(pid: i32) -> bool {
    Path::new(&format!("/proc/{pid}")).exists()
}

/// True for a process that was killed; when its parent's parent collects it is not our business.
fn is_dead(pid: i32) -> bool {
    !exists(pid) || proc::is_zombie(pid)
}
