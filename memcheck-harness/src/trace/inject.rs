//! A system call that a stopped thread of the target makes for us, and of which nothing is left: its registers, the signal it
//! is stopped for, its mask and the call it stands before are as they were. Only where a thread can be led there and back.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;

use crate::sys::names::SIGTRAP;
use crate::sys::ptrace::{self, CallStop};
use crate::sys::wait::{self, Event, Status};

use super::arch::{self, Registers};
use super::proc;
use super::session::Session;
use super::stop;
use super::tasks::State;

/// How a held thread can be made to call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stand {
    /// It is about to return to the program: it is sent to a call instruction, and back.
    Leaving,
    /// It is about to make a call: another is put in its place, and the first is made again.
    Calling(CallStop),
    /// In the middle of something.
    Busy,
}

/// The vdso is no larger (on x86-64 and AArch64).
const VDSO_BYTES: u64 = 8192;

/// `si_code` of ptrace's own stops (ptrace(2), `PTRACE_GETSIGINFO`): the event above the signal.
const EVENT_STOP: i32 = SIGTRAP | 128 << 8;
const SECCOMP_STOP: i32 = SIGTRAP | 7 << 8;
const CALL_STOP: i32 = SIGTRAP | 0x80;

fn stand(tid: i32) -> Stand {
    let Ok(info) = ptrace::signal_info(tid) else {
        return Stand::Busy;
    };
    match info.code() {
        EVENT_STOP => Stand::Leaving,
        SECCOMP_STOP => Stand::Calling(CallStop::Filtered),
        CALL_STOP => match ptrace::call_stop(tid) {
            Ok(CallStop::End) => Stand::Leaving,
            Ok(other) => Stand::Calling(other),
            Err(_) => Stand::Busy,
        },
        // Another event, or a group-stop, which a step would leave.
        code if code > 0xff => Stand::Busy,
        _ => Stand::Leaving,
    }
}

/// A page is in memory (Documentation/admin-guide/mm/pagemap.rst).
const PRESENT: u64 = 1 << 63;

/// Where the target's memory has an instruction that makes a system call, so that no code is patched for it: in the vdso, else in
/// the code of a file, of which only pages that are in memory are looked at.
fn call_instruction(tid: i32, page_bytes: u64) -> Option<u64> {
    let of_kernel = proc::auxiliary(tid, proc::AT_SYSINFO_EHDR);
    let vdso = of_kernel.map(|start| (start, start + VDSO_BYTES));
    let code = proc::executable_files(tid).into_iter().map(|file| (file.start, file.end));
    let [memory, pagemap] = ["mem", "pagemap"].map(|file| File::open(format!("/proc/{tid}/{file}")));
    let (memory, pagemap) = (memory.ok()?, pagemap.ok()?);
    let mut page = vec![0; usize::try_from(page_bytes).ok()?];
    for (start, end) in vdso.into_iter().chain(code) {
        let mut at = start;
        while at < end {
            let mut entry = [0; 8];
            let mut is_present =
                || pagemap.read_exact_at(&mut entry, at / page_bytes * 8).is_ok() && u64::from_ne_bytes(entry) & PRESENT != 0;
            if (Some(start) == of_kernel || is_present())
                && memory.read_exact_at(&mut page, at).is_ok()
                && let Some(offset) = page
                    .windows(arch::CALL_INSTRUCTION.len())
                    .position(|code| code == arch::CALL_INSTRUCTION)
            {
                return Some(at + offset as u64);
            }
            at += page_bytes;
        }
    }
    None
}

/// True when it is still there: a program may unmap what it was given.
fn is_call_instruction(tid: i32, at: u64) -> bool {
    let Ok(word) = ptrace::peek(tid, at) else { return false };
    word.to_ne_bytes().starts_with(&arch::CALL_INSTRUCTION)
}

impl Session {
    /// A held thread with the main process' memory that can make a call for us.
    pub(super) fn caller(&self) -> Option<i32> {
        let held: Vec<i32> = self
            .tasks
            .iter()
            .filter(|(tid, task)| matches!(task.state, State::Held(..)) && self.shares_main(*tid))
            .map(|(tid, _)| tid)
            .collect();
        let of = |wanted: fn(Stand) -> bool| held.iter().copied().find(|tid| wanted(stand(*tid)));
        of(|stand| stand == Stand::Leaving).or_else(|| of(|stand| matches!(stand, Stand::Calling(_))))
    }

    /// Lets a held thread make a call; what it answered, errors as negative numbers.
    ///
    /// # Errors
    /// The thread cannot be used for it, as it stands; it was killed meanwhile.
    pub(super) fn inject(&mut self, tid: i32, number: u64, args: [u64; 3]) -> io::Result<i64> {
        let stand = stand(tid);
        if stand == Stand::Busy {
            return Err(io::ErrorKind::ResourceBusy.into());
        }
        if let Some(task) = self.tasks.get_mut(tid) {
            task.registers = None;
        }
        let saved = Registers::read(tid)?;
        let mask = ptrace::signal_mask(tid)?;
        ptrace::set_signal_mask(tid, stop::ONLY_FAULTS)?;
        let result = match stand {
            Stand::Calling(kind) => self.call_instead(tid, &saved, number, args, kind),
            Stand::Leaving | Stand::Busy => self.call_beside(tid, &saved, number, args),
        };
        // What fails here fails for a thread that was killed meanwhile.
        ptrace::set_signal_mask(tid, mask)?;
        result
    }

    fn call_beside(&mut self, tid: i32, saved: &Registers, number: u64, args: [u64; 3]) -> io::Result<i64> {
        let mut info = ptrace::signal_info(tid)?;
        let at = match self.pages.call_instruction {
            Some(at) if is_call_instruction(tid, at) => at,
            _ => call_instruction(tid, self.page_bytes).ok_or(io::ErrorKind::Unsupported)?,
        };
        self.pages.call_instruction = Some(at);
        let mut registers = *saved;
        registers.set_call(number, args);
        registers.set_pc(at);
        registers.write(tid)?;
        let mut faulted = false;
        let result = loop {
            ptrace::step(tid)?;
            match self.next_stop(tid)? {
                Status::Signal(SIGTRAP) => {
                    let registers = Registers::read(tid)?;
                    if registers.pc() != at {
                        break registers.call_result();
                    }
                }
                // A fault of its own that was pending when we interrupted it comes first: handled as any event when we are done.
                event @ Status::Signal(_) if !faulted => {
                    faulted = true;
                    info = ptrace::signal_info(tid)?;
                    self.tasks.hold(tid, event);
                }
                // The place is none that can be run.
                Status::Signal(_) => {
                    saved.write(tid)?;
                    return Err(io::ErrorKind::Unsupported.into());
                }
                // A stop that was asked for before; other signals are blocked.
                Status::Interrupt | Status::Group => {}
                _ => return Err(io::ErrorKind::Interrupted.into()),
            }
        };
        saved.write(tid)?;
        ptrace::set_signal_info(tid, &info)?;
        // A breakpoint of the processor at this place has been passed before.
        if self.image(tid).watches.stops_at(saved.pc())
            && let Some(task) = self.tasks.get_mut(tid)
        {
            task.retry = Some(saved.pc());
        }
        Ok(result)
    }

    fn call_instead(&mut self, tid: i32, saved: &Registers, number: u64, args: [u64; 3], kind: CallStop) -> io::Result<i64> {
        let again = saved.again().ok_or(io::ErrorKind::Unsupported)?;
        let mut registers = *saved;
        registers.replace_call(number, args);
        registers.write(tid)?;
        self.call_until(tid, CallStop::End)?;
        let result = Registers::read(tid)?.call_result();
        again.write(tid)?;
        self.call_until(tid, kind)?;
        Ok(result)
    }

    /// Goes on to this stop of a call.
    fn call_until(&mut self, tid: i32, wanted: CallStop) -> io::Result<()> {
        loop {
            ptrace::call(tid)?;
            match self.next_stop(tid)? {
                Status::Call if ptrace::call_stop(tid)? == wanted => return Ok(()),
                Status::Event(Event::Seccomp) if wanted == CallStop::Filtered => return Ok(()),
                Status::Call | Status::Event(Event::Seccomp) | Status::Interrupt | Status::Group => {}
                _ => return Err(io::ErrorKind::Interrupted.into()),
            }
        }
    }

    /// The next stop of one thread; its end is noted, and an error.
    fn next_stop(&mut self, tid: i32) -> io::Result<Status> {
        loop {
            match wait::one(tid, true) {
                Ok(Some(status @ (Status::Exited(_) | Status::Killed(_)))) => {
                    self.note(tid, status);
                    return Err(io::ErrorKind::NotFound.into());
                }
                Ok(Some(status)) => return Ok(status),
                Ok(None) => {}
                // When its time is over, or the user wishes it, the target is killed, wherever it stands.
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {
                    self.clock.check().map_err(|_| io::ErrorKind::TimedOut)?
                }
                Err(error) => return Err(error),
            }
        }
    }
}
