//! Points at system calls: which calls the filter stops for them, what the beginning of such a call means, and what its end.
//!
//! A call that the kernel makes again by itself, after a signal or a stop of ours interrupted it, is one call and counts once.

use std::collections::BTreeMap;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::os::unix::fs::MetadataExt as _;

use crate::model::{At, Name, Stream, SyscallAt, ThreadEdge, syscall_number};
use crate::sys::seccomp::{self, Rule};

use super::Point;
use super::arch::{self, Registers};
use super::lines::Lines;
use super::nested::give_flags_back;
use super::proc;
use super::session::Session;
use super::tasks::How;

/// `PROT_EXEC` (mmap(2)).
const PROT_EXEC: u32 = 4;
/// `PR_SET_NAME` (prctl(2)).
const PR_SET_NAME: u32 = 15;
/// Writes of 32 bytes and more name no thread: the kernel refuses what is longer than 16 (`comm`, proc_pid_comm(5)).
const SHORT: u32 = !31;

/// A system call as its thread makes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Call {
    /// Its number.
    pub(super) number: u64,
    /// Its arguments.
    pub(super) args: [u64; 6],
}

/// A call that was interrupted and that the kernel is going to make again from the same place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Interrupted {
    number: u64,
    pc: u64,
    sp: u64,
}

/// What is known of calls in the processes that points are in.
#[derive(Debug, Default)]
pub(super) struct Calls {
    /// Calls whose end is waited for, by thread, and where those write.
    pub(super) open: BTreeMap<i32, (Call, Option<Stream>)>,
    /// Which files the target's standard output and error are.
    outputs: [Option<FileId>; 2],
    interrupted: BTreeMap<i32, Interrupted>,
    /// Children by a `clone` whose flag was taken off, with its flags as they were.
    pub(super) cloned: BTreeMap<i32, u64>,
    /// Some point counts calls, so that one that is made again must be told apart.
    counted: bool,
    /// The lines of output that points wait for.
    pub(super) lines: Lines,
}

impl Calls {
    /// For these points; `outputs` are the files that the target gets as standard output and error.
    ///
    /// # Errors
    /// A pattern that is no regular expression.
    pub(super) fn new(points: &[Point], outputs: [&OwnedFd; 2]) -> crate::error::Result<Self> {
        // Nobody else asks which file a call writes to.
        let is_output = |point: &Point| matches!(point.at, At::Output { .. });
        Ok(Self {
            outputs: if points.iter().any(is_output) {
                outputs.map(|file| FileId::of(&format!("/proc/self/fd/{}", file.as_raw_fd())))
            } else {
                [None; 2]
            },
            counted: points.iter().any(|point| matches!(point.at, At::Syscall(_))),
            lines: Lines::new(points)?,
            ..Self::default()
        })
    }
}

/// Device and inode: one pipe, however many descriptors it has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct FileId(u64, u64);

impl FileId {
    /// Of what a descriptor is open to (proc_pid_fd(5): a link that the kernel follows itself).
    fn of(path: &str) -> Option<Self> {
        std::fs::metadata(path).ok().map(|file| Self(file.dev(), file.ino()))
    }
}

/// The calls that must stop for these points; none: no filter is needed.
pub(super) fn rules(points: &[Point]) -> Vec<Rule> {
    let number = |name: &str| syscall_number(name).unwrap_or(u32::MAX);
    let call = |name: &str| Rule::new(number(name), seccomp::CALL);
    let mut rules = Vec::new();
    let ends = |at: &At| {
        matches!(
            at,
            At::Exit
                | At::Thread {
                    edge: ThreadEdge::End,
                    ..
                }
        )
    };
    if points.iter().any(|point| ends(&point.at)) {
        rules.extend(seccomp::exits());
    }
    for point in points {
        match &point.at {
            At::Syscall(wanted) => {
                let one = wanted.args.iter().fold(call(&wanted.name), |rule, (argument, value)| {
                    rule.only(*argument, u32::MAX, low(*value))
                });
                rules.push(one);
                rules.push(Rule::new(number("rt_sigreturn"), seccomp::RETURN_FROM_HANDLER));
            }
            // Both, whichever stream is meant: `>&2` of a shell makes 1 the other end of standard error for a while.
            At::Output { .. } => {
                for descriptor in [1, 2] {
                    rules.extend(["write", "writev"].map(|name| call(name).only(0, u32::MAX, descriptor)));
                }
            }
            At::Library(_) => rules.push(call("mmap").only(2, PROT_EXEC, PROT_EXEC)),
            At::Thread {
                edge: ThreadEdge::Start,
                name: Some(_),
            } => {
                rules.push(call("prctl").only(0, u32::MAX, PR_SET_NAME));
                rules.push(call("write").only(2, SHORT, 0));
            }
            _ => {}
        }
    }
    let mut seen: Vec<Rule> = Vec::new();
    rules.retain(|rule| {
        let is_new = !seen.contains(rule);
        seen.push(rule.clone());
        is_new
    });
    rules
}

/// The lower half of a value, as registers hold it.
fn low(value: i64) -> u32 {
    let [a, b, c, d, ..] = value.to_le_bytes();
    u32::from_le_bytes([a, b, c, d])
}

/// Whether a call is the one that was asked for. Many arguments are C's `int`: of a value that fits, the register's upper half
/// does not count.
fn is_wanted(wanted: &SyscallAt, call: &Call) -> bool {
    let equal = |value: i64, register: u64| {
        let is_int = i32::try_from(value).is_ok() || u32::try_from(value).is_ok();
        let register = register.cast_signed();
        register == value || (is_int && low(register) == low(value) && matches!(register >> 32, 0 | -1))
    };
    syscall_number(&wanted.name).is_some_and(|number| u64::from(number) == call.number)
        && wanted.args.iter().all(|(argument, value)| {
            let register = call.args.get(usize::from(*argument));
            register.is_some_and(|register| equal(*value, *register))
        })
}

pub(super) fn is_call(call: &Call, name: &str) -> bool {
    syscall_number(name).is_some_and(|number| u64::from(number) == call.number)
}

/// Which stream a call writes to, by the file that its descriptor is open to; by its number where that is none of the target's two
/// (a pipe to its parent, a file) or both (one terminal). `outputs` are those of standard output and error.
fn stream(call: &Call, outputs: [Option<FileId>; 2], file: impl Fn(u64) -> Option<FileId>) -> Option<Stream> {
    if !is_call(call, "write") && !is_call(call, "writev") {
        return None;
    }
    let number = call.args[0] & u64::from(u32::MAX);
    let by_number = match number {
        1 => Stream::Stdout,
        2 => Stream::Stderr,
        _ => return None,
    };
    let file = file(number);
    Some(match outputs.map(|output| output.is_some() && output == file) {
        [true, false] => Stream::Stdout,
        [false, true] => Stream::Stderr,
        _ => by_number,
    })
}

/// The first part of a file name: `libfoo` is that of `libfoo.so.1` and of `libfoo-2.so`, not of `libfoobar.so`.
fn is_library(path: &Name, name: &str) -> bool {
    let file = path.as_bytes().rsplit(|&byte| byte == b'/').next().unwrap_or_default();
    let rest = file.strip_prefix(name.as_bytes());
    rest.is_some_and(|rest| rest.first().is_none_or(|next| !next.is_ascii_alphanumeric() && *next != b'_'))
}

impl Session {
    /// A thread of a followed process stands before a call that the filter stops. Says how it goes on.
    pub(super) fn call_begins(&mut self, tid: i32) -> How {
        let Ok(registers) = Registers::read(tid) else {
            return How::Continue(0);
        };
        let call = registers.call();
        let place = Interrupted {
            number: call.number,
            pc: registers.pc(),
            sp: registers.sp(),
        };
        if self.calls.interrupted.get(&tid) == Some(&place) {
            self.calls.interrupted.remove(&tid);
        } else {
            self.count_each(tid, |at| matches!(at, At::Syscall(wanted) if is_wanted(wanted, &call)));
        }
        if let Some(how) = self.begins_besides(tid, &call) {
            return how;
        }
        // At its beginning: another thread may put another file there meanwhile.
        let stream = self.stream(tid, &call);
        if !self.waits_for_end(&call, stream) {
            return How::Continue(0);
        }
        self.calls.open.insert(tid, (call, stream));
        How::Call
    }

    fn stream(&self, tid: i32, call: &Call) -> Option<Stream> {
        let open = |number| FileId::of(&format!("/proc/{tid}/fd/{number}"));
        let waits = self.calls.lines.points().next().is_some();
        waits.then(|| stream(call, self.calls.outputs, open)).flatten()
    }

    fn waits_for_end(&self, call: &Call, stream: Option<Stream>) -> bool {
        let open = self.points.iter().filter(|counted| !counted.is_done());
        let mut wanted = open.map(|counted| &counted.point.at);
        wanted.any(|at| match at {
            At::Output { stream: which, .. } => stream.is_some_and(|one| which.is_none_or(|which| which == one)),
            At::Library(_) => is_call(call, "mmap"),
            At::Thread {
                edge: ThreadEdge::Start,
                name: Some(_),
            } => is_call(call, "prctl") || is_call(call, "write"),
            _ => false,
        })
    }

    /// The end of the call that a thread makes is waited for.
    pub(super) fn is_in_call(&self, tid: i32) -> bool {
        self.calls.open.contains_key(&tid)
    }

    /// That call is over.
    pub(super) fn call_ends(&mut self, tid: i32) {
        let Some((call, stream)) = self.calls.open.remove(&tid) else {
            return;
        };
        let Ok(mut registers) = Registers::read(tid) else {
            return;
        };
        if is_call(&call, "clone") {
            give_flags_back(tid, &mut registers, call.args[0]);
            return;
        }
        if is_call(&call, "ptrace") {
            self.trace_ends(tid, &call, registers.call_result());
            return;
        }
        // Errors, and calls that will be made again, are small negative numbers.
        let Ok(result) = u64::try_from(registers.call_result()) else {
            return;
        };
        if let Some(stream) = stream {
            let process = self.tasks.get(tid).map_or(tid, |task| task.process);
            let lines = &mut self.calls.lines;
            let hits = lines.written((process, tid), &call, stream, is_call(&call, "writev"), result);
            for index in hits {
                self.count(index, tid);
            }
        }
        if is_call(&call, "mmap") {
            let mapped = proc::executable_files(tid);
            let Some(file) = mapped.into_iter().find(|file| (file.start..file.end).contains(&result)) else {
                return;
            };
            self.count_each(tid, |at| matches!(at, At::Library(name) if is_library(&file.path, name)));
        }
        let named = if is_call(&call, "prctl") {
            Some(tid)
        } else if is_call(&call, "write") {
            proc::task_of_comm(tid, call.args[0])
        } else {
            None
        };
        if let Some(named) = named {
            self.thread_has_name(named, tid);
        }
    }

    /// A thread of a followed process has a name, or has got another one. `by` is held.
    pub(super) fn thread_has_name(&mut self, tid: i32, by: i32) {
        if self.tasks.get(tid).is_none_or(|task| task.process == tid) {
            return;
        }
        let Some(name) = proc::name(tid, tid) else { return };
        self.count_each(
            by,
            |at| matches!(at, At::Thread { edge: ThreadEdge::Start, name: Some(wanted) } if name.as_bytes() == wanted.as_bytes()),
        );
    }

    /// A thread of a followed process is about to run for the first time.
    pub(super) fn thread_begins(&mut self, tid: i32) {
        self.count_each(tid, |at| {
            matches!(
                at,
                At::Thread {
                    edge: ThreadEdge::Start,
                    name: None
                }
            )
        });
    }

    /// A thread of a followed process ends.
    pub(super) fn thread_ends(&mut self, tid: i32) {
        let name = proc::name(tid, tid);
        let is_it = |wanted: &String| name.as_ref().is_some_and(|name| name.as_bytes() == wanted.as_bytes());
        self.count_each(
            tid,
            |at| matches!(at, At::Thread { edge: ThreadEdge::End, name } if name.as_ref().is_none_or(is_it)),
        );
    }

    /// A thread stopped somewhere else than at the beginning of a call: perhaps in the middle of one, which the kernel makes
    /// again when it goes on.
    pub(super) fn note_interrupted(&mut self, tid: i32) {
        if !self.calls.counted {
            return;
        }
        let Ok(registers) = Registers::read(tid) else { return };
        if let Some(number) = arch::interrupted_call(tid, &registers) {
            let place = Interrupted {
                number,
                pc: registers.pc(),
                sp: registers.sp(),
            };
            self.calls.interrupted.insert(tid, place);
        }
    }

    /// A signal handler is about to return: into an interrupted call that is made again, or behind one that failed with
    /// `EINTR`.
    pub(super) fn handler_returns(&mut self, tid: i32) {
        let (Some(before), Ok(registers)) = (self.calls.interrupted.get(&tid), Registers::read(tid)) else {
            return;
        };
        let Some((pc, sp)) = arch::handler_frame(tid, &registers) else {
            return;
        };
        if sp == before.sp && pc == before.pc {
            self.calls.interrupted.remove(&tid);
        }
    }

    /// A thread is gone, or has become another program.
    pub(super) fn forget_call(&mut self, tid: i32) {
        self.calls.open.remove(&tid);
        self.calls.interrupted.remove(&tid);
        self.calls.cloned.remove(&tid);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn call(name: &str, args: &[u64]) -> Call {
        Call {
            number: u64::from(syscall_number(name).unwrap()),
            args: std::array::from_fn(|at| args.get(at).copied().unwrap_or(0)),
        }
    }

    #[test]
    fn arguments_are_compared_as_the_program_means_them() {
        let wanted = |args: &[(u8, i64)]| SyscallAt {
            name: "prctl".to_owned(),
            args: args.iter().copied().collect(),
        };
        let is = |args: &[(u8, i64)], call: &Call| is_wanted(&wanted(args), call);
        let prctl = call("prctl", &[15, 0xffff_ff9c, 0x1_0000_0005, u64::MAX]);
        assert!(is(&[], &prctl));
        assert!(is(&[(0, 15)], &prctl));
        assert!(!is(&[(0, 16)], &prctl));
        assert!(
            is(&[(0, 15), (1, -100), (3, -1)], &prctl),
            "an int is not always sign-extended"
        );
        assert!(!is(&[(2, 5)], &prctl), "a pointer or a size is compared whole");
        assert!(is(&[(2, 0x1_0000_0005)], &prctl));
        assert!(!is(&[], &call("pause", &[])));
    }

    #[test]
    fn a_library_is_told_by_the_first_part_of_its_name() {
        for (path, name, expected) in [
            ("/lib/libfoo.so.1", "libfoo", true),
            ("/lib/libfoo-2.so", "libfoo", true),
            ("/lib/libfoo.so.1", "libfoo.so.1", true),
            ("/lib/libfoobar.so", "libfoo", false),
            ("/lib/libfoo/x.so", "libfoo", false),
        ] {
            assert_eq!(is_library(&Name::from(path), name), expected, "{path} {name}");
        }
    }

    #[test]
    fn a_stream_is_the_file_that_is_written_to() {
        let [out, err, other] = [1, 2, 3].map(|inode| Some(FileId(7, inode)));
        let of = |number, outputs, file| stream(&call("write", &[number]), outputs, |_| file);
        let two = [out, err];
        assert_eq!(of(1, two, out), Some(Stream::Stdout));
        assert_eq!(of(1, two, err), Some(Stream::Stderr), "`>&2` of a shell");
        assert_eq!(of(2, two, out), Some(Stream::Stdout), "`2>&1`");
        assert_eq!(of(1, two, other), Some(Stream::Stdout), "a pipe of its own");
        assert_eq!(of(2, [out, out], out), Some(Stream::Stderr), "a terminal");
        assert_eq!(of(2, [None, None], None), Some(Stream::Stderr), "unknown");
        assert_eq!(of(3, two, err), None, "no other descriptor stops");
    }

    #[test]
    fn without_such_points_there_is_no_filter() {
        let point = |at| Point::new(at, 1);
        assert!(rules(&[point(At::Main), point(At::Signal("SIGUSR1".to_owned()))]).is_empty());
        assert_eq!(rules(&[point(At::Exit), point(At::Exit)]), seccomp::exits());
        let output = At::Output {
            pattern: "x".to_owned(),
            stream: None,
        };
        assert_eq!(rules(&[point(output.clone()), point(output)]).len(), 4, "each rule once");
    }
}
