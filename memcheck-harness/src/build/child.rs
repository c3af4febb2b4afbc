//! `run`: one helper process (cargo, a compiler, a build command) from start to end, bounded and cancellable.
//! Knows nothing of what is built.

use std::collections::VecDeque;
use std::io::{self, Read as _};
use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{RecvTimeoutError, sync_channel};
use std::thread;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::signal::{Signal, killpg};
use nix::sys::wait::{Id, WaitPidFlag, WaitStatus, waitid};
use nix::unistd::Pid;

use crate::error::{Error, Result};
use crate::model::Cancel;

/// How often a wish to stop is looked for.
const POLL: Duration = Duration::from_millis(20);
/// How long output is waited for after the process itself is gone: a server it left behind may hold the pipe for ever.
const LEAK_GRACE: Duration = Duration::from_millis(500);
/// Time between SIGTERM and SIGKILL.
const TERM_GRACE: Duration = Duration::from_secs(2);

/// What is captured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Capture {
    /// Standard output; standard error goes where ours goes.
    Stdout,
    /// Standard output and error in the order in which they were written.
    Both,
}

/// Which part of it is kept.
#[derive(Clone, Copy, Debug)]
pub(super) enum Keep {
    /// The first bytes.
    First(usize),
    /// The last bytes.
    Last(usize),
}

/// A process that is over.
#[derive(Debug)]
pub(super) struct Finished {
    pub(super) status: ExitStatus,
    pub(super) output: Vec<u8>,
    /// Some output was dropped.
    pub(super) cut: bool,
}

/// Why there is no `Finished`.
#[derive(Debug)]
pub(super) enum Failure {
    /// The program could not be started, or could not be waited for.
    Start(io::Error),
    /// The user wants to stop; the process and its group are gone.
    Interrupted(i32),
}

impl Failure {
    /// The error when nothing better can be said of a program that does not start.
    pub(super) fn into_error(self, program: &str) -> Error {
        match self {
            Self::Start(error) => Error::build(format!("could not run {program}: {error}")),
            Self::Interrupted(signal) => Error::interrupted(signal),
        }
    }
}

/// A process that has ended and was not collected: its number, which is its group's, is taken as long as this lives. Dropping
/// it kills what is left of the group.
#[derive(Debug)]
pub(crate) struct Group {
    leader: Child,
    spared: bool,
}

impl Group {
    /// Leaves alone what the process left running.
    fn spare(mut self) {
        self.spared = true;
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        if !self.spared
            && let Ok(group) = i32::try_from(self.leader.id())
        {
            // There is nobody to tell: it is the leader alone in most cases.
            let _ = killpg(Pid::from_raw(group), Signal::SIGKILL);
        }
        let _ = self.leader.wait();
    }
}

/// Runs a command to its end with an empty standard input, as leader of a process group of its own, which is killed when
/// `cancel` asks to stop. What it leaves running goes on.
pub(super) fn run(command: Command, capture: Capture, keep: Keep, cancel: &Cancel) -> std::result::Result<Finished, Failure> {
    let (finished, group) = run_held(command, capture, keep, cancel)?;
    group.spare();
    Ok(finished)
}

/// As [`run`], and what it leaves running in its group goes with the second value.
pub(super) fn run_held(
    mut command: Command,
    capture: Capture,
    keep: Keep,
    cancel: &Cancel,
) -> std::result::Result<(Finished, Group), Failure> {
    let (mut reader, writer) = io::pipe().map_err(Failure::Start)?;
    match capture {
        Capture::Stdout => command.stderr(Stdio::inherit()),
        Capture::Both => command.stderr(writer.try_clone().map_err(Failure::Start)?),
    };
    let mut child = command
        .stdin(Stdio::null())
        .stdout(writer)
        .process_group(0)
        .spawn()
        .map_err(Failure::Start)?;
    // The command holds our writing ends: without them the pipe ends with the child.
    drop(command);

    // A thread of its own reads, so that a silent child can be cancelled. It ends with the pipe, or when nobody listens.
    let (sender, receiver) = sync_channel::<Vec<u8>>(16);
    thread::spawn(move || {
        let mut chunk = vec![0; 64 << 10];
        loop {
            match reader.read(&mut chunk) {
                Ok(0) => break,
                Ok(n) if sender.send(chunk[..n].to_vec()).is_err() => break,
                Err(error) if error.kind() != io::ErrorKind::Interrupted => break,
                Ok(_) | Err(_) => {}
            }
        }
    });

    let mut kept = Kept::new(keep);
    let mut status = None;
    let mut last_sign_of_life = Instant::now();
    let mut open = true;
    while open || status.is_none() {
        if let Some(signal) = cancel.signal() {
            kill_group(&mut child);
            return Err(Failure::Interrupted(signal));
        }
        if open {
            match receiver.recv_timeout(POLL) {
                Ok(chunk) => {
                    kept.push(&chunk);
                    last_sign_of_life = Instant::now();
                    continue;
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => open = false,
            }
        } else {
            // It closed its output and goes on: rare, so a plain poll will do.
            thread::sleep(Duration::from_millis(1));
        }
        if status.is_none() {
            status = ended(&child).map_err(Failure::Start)?;
            if status.is_some() {
                last_sign_of_life = Instant::now();
            }
        } else if last_sign_of_life.elapsed() > LEAK_GRACE {
            open = false;
        }
    }
    let status = status.ok_or_else(|| Failure::Start(io::Error::other("no exit status")))?;
    let (output, cut) = kept.into_bytes();
    let group = Group {
        leader: child,
        spared: false,
    };
    Ok((Finished { status, output, cut }, group))
}

/// How a child ended, if it has; it is not collected.
fn ended(child: &Child) -> io::Result<Option<ExitStatus>> {
    use std::os::unix::process::ExitStatusExt as _;
    let pid = i32::try_from(child.id()).map_err(io::Error::other)?;
    let flags = WaitPidFlag::WEXITED | WaitPidFlag::WNOHANG | WaitPidFlag::WNOWAIT;
    // The layout of a status: wait(2).
    Ok(match waitid(Id::Pid(Pid::from_raw(pid)), flags) {
        Ok(WaitStatus::Exited(_, code)) => Some(ExitStatus::from_raw((code & 0xff) << 8)),
        Ok(WaitStatus::Signaled(_, signal, core)) => Some(ExitStatus::from_raw(signal as i32 | if core { 0x80 } else { 0 })),
        Ok(_) | Err(Errno::EINTR) => None,
        Err(error) => return Err(error.into()),
    })
}

/// Ends the whole group, politely first, so that cargo and make can remove half-written files.
fn kill_group(child: &mut Child) {
    let Ok(group) = i32::try_from(child.id()).map(Pid::from_raw) else {
        return;
    };
    // The group may be gone already; there is nobody to tell.
    let _ = killpg(group, Signal::SIGTERM);
    let asked = Instant::now();
    while asked.elapsed() < TERM_GRACE && matches!(child.try_wait(), Ok(None)) {
        thread::sleep(Duration::from_millis(5));
    }
    let _ = killpg(group, Signal::SIGKILL);
    let _ = child.wait();
}

/// Output within a bound.
struct Kept {
    keep: Keep,
    bytes: VecDeque<u8>,
    cut: bool,
}

impl Kept {
    fn new(keep: Keep) -> Self {
        Self {
            keep,
            bytes: VecDeque::new(),
            cut: false,
        }
    }

    fn push(&mut self, chunk: &[u8]) {
        match self.keep {
            Keep::First(most) => {
                let room = most.saturating_sub(self.bytes.len()).min(chunk.len());
                self.bytes.extend(&chunk[..room]);
                self.cut |= room < chunk.len();
            }
            Keep::Last(most) => {
                self.bytes.extend(chunk);
                let surplus = self.bytes.len().saturating_sub(most);
                self.bytes.drain(..surplus);
                self.cut |= surplus > 0;
            }
        }
    }

    fn into_bytes(self) -> (Vec<u8>, bool) {
        (self.bytes.into(), self.cut)
    }
}

/// Program and arguments as one could type them. Never the environment: it may hold secrets.
pub(super) fn shown(command: &Command) -> String {
    std::iter::once(command.get_program())
        .chain(command.get_args())
        .map(|word| quoted(&word.to_string_lossy()))
        .collect::<Vec<_>>()
        .join(" ")
}

fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_alphanumeric() || "-_./=+,:@%^".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', "'\\''"))
    }
}

/// How a process ended: "exit code 2", "killed by SIGSEGV".
pub(super) fn ending(status: ExitStatus) -> String {
    use std::os::unix::process::ExitStatusExt as _;
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("exit code {code}"),
        (None, Some(number)) => match Signal::try_from(number) {
            Ok(signal) => format!("killed by {signal}"),
            Err(_) => format!("killed by signal {number}"),
        },
        (None, None) => "ended in an unknown way".to_owned(),
    }
}

/// Output as lines for an error: control characters and bidirectional controls escaped, tabs kept, at most `most` lines.
pub(super) fn lines(finished: &Finished, most: usize, keep_last: bool) -> Vec<String> {
    let text = String::from_utf8_lossy(&finished.output);
    let all: Vec<&str> = text.lines().collect();
    let surplus = all.len().saturating_sub(most);
    let kept = if keep_last {
        &all[surplus..]
    } else {
        &all[..all.len() - surplus]
    };
    let mut lines: Vec<String> = kept.iter().map(|line| printable(line)).collect();
    if surplus > 0 || finished.cut {
        let note = if surplus > 0 {
            format!("… {surplus} more lines")
        } else {
            "… more output".to_owned()
        };
        lines.insert(if keep_last { 0 } else { lines.len() }, note);
    }
    lines
}

fn printable(line: &str) -> String {
    let hostile = |c: char| {
        (c.is_control() && c != '\t')
            || matches!(c, '\u{61c}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{feff}')
    };
    let mut out = String::with_capacity(line.len());
    for c in line.chars().take(4096) {
        if hostile(c) {
            out.extend(c.escape_unicode());
        } else {
            out.push(c);
        }
    }
    out
}

/// Adds lines of output below an error, indented.
pub(super) fn with_lines(error: Error, lines: Vec<String>) -> Error {
    lines.into_iter().fold(error, |error, line| error.detail(format!("  {line}")))
}

/// The first line a program prints when asked for its version; `None` when it cannot or will not.
pub(super) fn first_line(command: Command, cancel: &Cancel) -> Result<Option<String>> {
    match run(command, Capture::Both, Keep::First(4096), cancel) {
        Ok(finished) if finished.status.success() => Ok(lines(&finished, 1, false).into_iter().next().filter(|l| !l.is_empty())),
        Ok(_) | Err(Failure::Start(_)) => Ok(None),
        Err(failure @ Failure::Interrupted(_)) => Err(failure.into_error("")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[expect(clippy::disallowed_methods, reason = "a test of running programs")]
    fn sh(script: &str) -> Command {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        command
    }

    #[test]
    fn both_streams_come_in_order_and_the_status_with_them() {
        let finished = run(
            sh("echo a; echo b >&2; echo c; exit 3"),
            Capture::Both,
            Keep::First(100),
            &Cancel::new(),
        )
        .unwrap();
        assert_eq!(finished.output, b"a\nb\nc\n");
        assert_eq!(ending(finished.status), "exit code 3");
        assert_eq!(shown(&sh("a 'b'")), r"sh -c 'a '\''b'\'''");
    }

    #[test]
    fn output_is_bounded_at_either_end() {
        let flood = "i=0; while [ $i -lt 20000 ]; do echo line-$i; i=$((i+1)); done";
        let first = run(sh(flood), Capture::Both, Keep::First(14), &Cancel::new()).unwrap();
        assert_eq!((first.output.as_slice(), first.cut), (&b"line-0\nline-1\n"[..], true));
        let last = run(sh(flood), Capture::Both, Keep::Last(11), &Cancel::new()).unwrap();
        assert_eq!(last.output, b"line-19999\n");
        assert_eq!(lines(&last, 5, true), ["… more output", "line-19999"]);
    }

    #[test]
    fn a_server_left_behind_does_not_hold_us() {
        let started = Instant::now();
        let finished = run(sh("sleep 5 & echo done"), Capture::Both, Keep::First(100), &Cancel::new()).unwrap();
        assert_eq!(finished.output, b"done\n");
        assert!(started.elapsed() < Duration::from_secs(4));
    }

    #[test]
    fn what_a_child_leaves_running_goes_on_or_goes_with_its_group() {
        let script = "sleep 60 >/dev/null 2>&1 & echo $!; exit 3";
        let start = || run_held(sh(script), Capture::Both, Keep::First(100), &Cancel::new()).unwrap();
        let alive = |finished: &Finished| {
            let pid = String::from_utf8_lossy(&finished.output).trim().to_owned();
            let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"));
            stat.is_ok_and(|stat| !stat.contains(") Z "))
        };
        let (finished, group) = start();
        assert_eq!(ending(finished.status), "exit code 3");
        assert!(alive(&finished));
        drop(group);
        assert!((0..200).any(|_| !alive(&finished) || {
            thread::sleep(Duration::from_millis(10));
            false
        }));
        let (finished, group) = start();
        group.spare();
        assert!(alive(&finished));
        let _ = run(
            sh(&format!("kill {}", String::from_utf8_lossy(&finished.output))),
            Capture::Both,
            Keep::First(100),
            &Cancel::new(),
        );
        let killed = run(sh("kill -TERM $$"), Capture::Both, Keep::First(100), &Cancel::new()).unwrap();
        assert_eq!(ending(killed.status), "killed by SIGTERM");
    }

    #[test]
    fn a_cancelled_child_dies_with_its_group() {
        let dir = tempfile::tempdir().unwrap();
        let pid = dir.path().join("pid");
        let cancel = Cancel::new();
        let script = format!("sleep 60 & echo $! > {0}.new; mv {0}.new {0}; wait", pid.display());
        let result = thread::scope(|scope| {
            let running = scope.spawn(|| run(sh(&script), Capture::Both, Keep::First(100), &cancel));
            while !pid.exists() {
                thread::sleep(Duration::from_millis(5));
            }
            cancel.cancel(15);
            running.join().unwrap()
        });
        assert!(matches!(result, Err(Failure::Interrupted(15))));
        let pid: i32 = std::fs::read_to_string(&pid).unwrap().trim().parse().unwrap();
        // Its parent is gone, so it is init that collects it: gone, or a zombie for a moment.
        let gone = || std::fs::read_to_string(format!("/proc/{pid}/stat")).map_or(true, |stat| stat.contains(") Z "));
        assert!((0..200).any(|_| gone() || {
            thread::sleep(Duration::from_millis(10));
            false
        }));
    }

    #[test]
    fn hostile_output_is_escaped() {
        assert_eq!(printable("\u{1b}[31m\tred\u{202e}"), "\\u{1b}[31m\tred\\u{202e}");
    }
}
