//! Running the tools we compare with, and the compiler. A tool that is missing or fails is a failed test, never a skipped one.

use std::ffi::OsStr;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;

use tempfile::TempDir;

/// Tool → Debian package, for the message.
const PACKAGES: [(&str, &str); 22] = [
    ("/usr/bin/python3", "python3 python3-jsonschema python3-markdown"),
    ("aarch64-linux-gnu-gcc", "gcc-aarch64-linux-gnu libc6-dev-arm64-cross"),
    ("arm-linux-gnueabihf-gcc", "gcc-arm-linux-gnueabihf libc6-dev-armhf-cross"),
    ("cargo", "rustup"),
    ("cargo-insta", "it with `cargo install --locked cargo-insta --version 1.49.0`"),
    ("cc", "gcc"),
    ("checksec", "checksec"),
    ("gdb", "gdb"),
    ("gcc", "gcc"),
    ("git", "git"),
    ("go", "golang-go"),
    ("java", "default-jre-headless"),
    ("musl-gcc", "musl-tools"),
    ("node", "nodejs"),
    ("pmap", "procps"),
    ("python3", "python3"),
    ("readelf", "binutils"),
    ("redis-server", "redis-server"),
    ("sh", "dash"),
    ("sqlite3", "sqlite3"),
    ("strace", "strace"),
    ("xmllint", "libxml2-utils"),
];

/// A command with nothing of a locale, a terminal or a debug-information server about it.
#[expect(clippy::disallowed_methods, reason = "these tests compare with what other programs say")]
pub(crate) fn command(program: &str) -> Command {
    let mut command = Command::new(program);
    command.env("LC_ALL", "C").env_remove("DEBUGINFOD_URLS").stdin(Stdio::null());
    command
}

/// Runs a command to its end; its standard output. Fails with both streams when it is missing or does not succeed.
#[track_caller]
pub(crate) fn output(command: &mut Command) -> String {
    let program = command.get_program().to_string_lossy().into_owned();
    let output = match command.output() {
        Err(error) if error.kind() == io::ErrorKind::NotFound => missing(&program),
        output => output.unwrap_or_else(|error| panic!("{program}: {error}")),
    };
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(
        output.status.success(),
        "{command:?}: {}\n{}\n{}",
        output.status,
        text(&output.stdout),
        text(&output.stderr)
    );
    text(&output.stdout)
}

/// Runs a tool with arguments.
#[track_caller]
pub(crate) fn run<A: AsRef<OsStr>>(program: &str, args: &[A]) -> String {
    output(command(program).args(args))
}

#[track_caller]
fn missing(program: &str) -> ! {
    let package = PACKAGES
        .iter()
        .find(|(name, _)| *name == program)
        .map_or(program, |(_, package)| package);
    panic!("`{program}` is missing, and this test compares with it: install {package} (.ci/run does)");
}

/// A program of the distribution. Not looked up on `PATH`: what stands there first may be a wrapper script.
#[track_caller]
pub(crate) fn system_program(name: &str) -> PathBuf {
    let path = Path::new("/usr/bin").join(name);
    if !path.exists() {
        missing(name);
    }
    path
}

/// The repository.
pub(crate) fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").canonicalize().unwrap()
}

/// Builds a C source of the repository; `flags` come after it.
#[track_caller]
pub(crate) fn cc(dir: &Path, name: &str, source: &str, flags: &[&str]) -> PathBuf {
    let program = dir.join(name);
    let mut cc = command("cc");
    cc.args(["-g", "-O1", "-I"])
        .arg(root().join("memcheck-probe/include"))
        .arg(root().join(source));
    output(cc.args(flags).arg("-o").arg(&program));
    program
}

/// Builds of C programs that several tests look at, made once: their directory lives as long as the test program.
pub(crate) fn built(name: &'static str) -> &'static Path {
    static THREADS: OnceLock<(TempDir, PathBuf)> = OnceLock::new();
    static TRUTH: OnceLock<(TempDir, PathBuf)> = OnceLock::new();
    static REQUESTS: OnceLock<(TempDir, PathBuf)> = OnceLock::new();
    let (place, source) = match name {
        "threads" => (&THREADS, "examples/c/threads.c"),
        "truth" => (&TRUTH, "tests/fixtures/truth.c"),
        "requests" => (&REQUESTS, "examples/c/requests.c"),
        _ => panic!("{name}"),
    };
    let (_, path) = place.get_or_init(|| {
        let dir = TempDir::new().unwrap();
        let program = cc(dir.path(), name, source, &["-pthread"]);
        // A freshly linked file is dirty until it is written back: figures would change between two looks.
        std::fs::File::open(&program).unwrap().sync_all().unwrap();
        (dir, program)
    });
    path
}

/// A command that runs with the stack limit our launches have: glibc makes thread stacks of that size.
pub(crate) fn with_stack_limit(program: &str) -> Command {
    let mut shell = command("sh");
    shell.args(["-c", "ulimit -Ss 8192 && exec \"$@\"", "sh", program]);
    shell
}

/// A hexadecimal number, with or without `0x`.
#[track_caller]
pub(crate) fn hex(text: &str) -> u64 {
    u64::from_str_radix(text.trim_start_matches("0x"), 16).unwrap_or_else(|_| panic!("{text:?} is no hexadecimal number"))
}
