//! Memory breakpoints: pages that the program may not write for a while, so that a write stops it, before it is done. For what
//! is too large for the processor's watchpoints, and for the untouched part of the main stack.
//!
//! While all threads stand at a checkpoint the pages are as the program made them: what is captured has no trace of this. A
//! system call that would write there fails with `EFAULT` instead of stopping; it is made again with the pages open, unless the
//! pages are hidden behind a structure or it had done a part of its work before.

use std::collections::BTreeSet;
use std::fs;
use std::io;

use crate::error::{Error, Result};
use crate::model::{syscall_names, syscall_number};
use crate::sys::ptrace::{self, CallStop};

use super::arch::Registers;
use super::breakpoint::write_code;
use super::clock::Halt;
use super::session::Session;
use super::tasks::How;
use super::{maps, proc};

/// `SEGV_ACCERR` (sigaction(2)): the mapping does not allow this access.
const NOT_ALLOWED: i32 = 2;
/// `PROT_WRITE`, `PROT_GROWSDOWN` (mprotect(2)).
const WRITE: u32 = 2;
const GROWS_DOWN: u32 = 0x0100_0000;
/// `EFAULT`.
const BAD_ADDRESS: i64 = -14;
/// What a system call may write to through one of its arguments when no length stands behind it.
const STRUCTURE_BYTES: u64 = 256;
const LONGEST_BYTES: u64 = 1 << 30;
/// The frame of a signal handler with every register of today's processors (`AT_MINSIGSTKSZ`), and some.
const FRAME_BYTES: u64 = 16 << 10;

/// Bytes whose writing is a point.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Object {
    point: usize,
    /// Absent for the main stack, as far as it was never used.
    bytes: Option<(u64, u64)>,
}

/// Pages of one mapping.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Piece {
    start: u64,
    end: u64,
    /// What the program may do with them: `PROT_*`.
    protection: u32,
    /// It is the lower part of the main stack: everything below its end.
    grows: bool,
}

/// Memory breakpoints of one program image.
#[derive(Debug, Default)]
pub(super) struct Pages {
    objects: Vec<Object>,
    pieces: Vec<Piece>,
    /// The protection is in force.
    up: bool,
    /// Ends of pieces where the program's mappings ended, too.
    ends: BTreeSet<u64>,
    /// How many of those the kernel has removed: mappings of one kind side by side become one when the protection is taken back.
    joined: u64,
    /// Threads that make a call again with the pages open.
    calling: BTreeSet<i32>,
    /// Faults that were ours although the pages are open by now: thread, place, address of the last.
    last: Option<(i32, u64, u64)>,
    /// Where the target's memory has a call instruction.
    pub(super) call_instruction: Option<u64>,
}

impl Pages {
    /// A thread is gone.
    pub(super) fn forget(&mut self, tid: i32) {
        self.calling.remove(&tid);
    }

    /// How many mappings the target has less than without us.
    pub(super) fn joined(&self) -> u64 {
        self.joined
    }

    fn covers(&self, start: u64, end: u64) -> bool {
        self.pieces
            .iter()
            .any(|piece| start < piece.end && end > if piece.grows { 0 } else { piece.start })
    }
}

/// Start, end and `PROT_*` of every mapping.
fn mappings(tid: i32) -> Vec<(u64, u64, u32)> {
    let text = fs::read(format!("/proc/{tid}/maps")).unwrap_or_default();
    let protection = |access: [u8; 4]| {
        let flags = access.into_iter().zip(*b"rwx").zip([1, WRITE, 4]);
        flags
            .filter_map(|((flag, letter), bit)| (flag == letter).then_some(bit))
            .sum()
    };
    maps::lines(&text)
        .map(|line| (line.start, line.end, protection(line.access)))
        .collect()
}

impl Session {
    /// Protects the pages of an object for a point.
    pub(super) fn guard_object(&mut self, tid: i32, point: usize, address: u64, bytes: u64) -> Result<()> {
        self.only_in_main(tid, point)?;
        self.lower(tid);
        let page = self.page_bytes;
        // A symbol table may name any size: what reaches beyond the last page is mapped nowhere.
        let last = !(page - 1);
        let end = address.saturating_add(bytes).checked_next_multiple_of(page).unwrap_or(last);
        let start = address & !(page - 1);
        let mut at = start;
        let mut pieces = Vec::new();
        for (from, to, protection) in mappings(tid) {
            if from <= at && at < to && at < end {
                if protection & WRITE == 0 {
                    let what = self.what(point);
                    return Err(Error::config(format!(
                        "{what} is never reached: the program cannot write there"
                    )));
                }
                let piece = Piece {
                    start: at,
                    end: to.min(end),
                    protection,
                    grows: false,
                };
                at = piece.end;
                pieces.push(piece);
                self.pages.ends.extend(
                    [from, to]
                        .into_iter()
                        .filter(|bound| [piece.start, piece.end].contains(bound)),
                );
            }
        }
        if at < end {
            let what = self.what(point);
            return Err(Error::not_judged(format!("{what}: no memory is mapped at {at:#x}")));
        }
        self.pages.objects.push(Object {
            point,
            bytes: Some((address, address.saturating_add(bytes))),
        });
        for piece in pieces {
            if !self.pages.pieces.contains(&piece) {
                self.pages.pieces.push(piece);
            }
        }
        self.raise_pages(tid)
    }

    /// Protects the part of the main stack that was never used.
    pub(super) fn guard_stack(&mut self, tid: i32, point: usize) -> Result<()> {
        self.only_in_main(tid, point)?;
        let page = self.page_bytes;
        let sp = Registers::read(tid).map(|registers| registers.sp()).unwrap_or(0);
        let stack = mappings(tid).into_iter().find(|(start, end, _)| (*start..*end).contains(&sp));
        let Some((start, _, protection)) = stack else {
            return Err(Error::not_judged("the main stack of the target could not be found"));
        };
        let used = proc::first_used_page(tid, start, sp, page).unwrap_or(sp & !(page - 1));
        self.pages.objects.push(Object { point, bytes: None });
        let piece = Piece {
            start,
            end: used,
            protection,
            grows: true,
        };
        if !self.pages.pieces.iter().any(|piece| piece.grows) {
            self.pages.pieces.push(piece);
        }
        self.lower(tid);
        self.raise_pages(tid)
    }

    /// True for a thread that has the memory of the main process.
    pub(super) fn shares_main(&self, tid: i32) -> bool {
        self.tasks.image_of(tid) == Some(self.main_image)
    }

    fn only_in_main(&self, tid: i32, point: usize) -> Result<()> {
        if self.shares_main(tid) {
            return Ok(());
        }
        let title = format!(
            "{}: pages are protected in the target itself only, not in its children",
            self.what(point)
        );
        Err(Error::config(title).detail("in a child, watch a variable of 1, 2, 4 or 8 bytes"))
    }

    fn what(&self, point: usize) -> String {
        self.points
            .get(point)
            .map_or_else(|| "the touch".to_owned(), |counted| counted.point.at.to_string())
    }

    /// Points that pages are still protected for.
    fn waits_for_pages(&self) -> bool {
        self.pages
            .objects
            .iter()
            .any(|object| self.points.get(object.point).is_some_and(|counted| !counted.is_done()))
    }

    /// Puts the protection in force.
    fn raise_pages(&mut self, tid: i32) -> Result<()> {
        if self.pages.up || self.is_lent() || !self.waits_for_pages() || !self.pages.calling.is_empty() {
            return Ok(());
        }
        self.pages.up = true;
        for piece in self.pages.pieces.clone() {
            self.protect(tid, piece, true).map_err(|error| {
                Error::machine(format!(
                    "could not protect {} bytes at {:#x} from being written: {error}",
                    piece.end - piece.start,
                    piece.start
                ))
            })?;
        }
        Ok(())
    }

    /// Takes it back, through a thread that can.
    fn lower(&mut self, tid: i32) {
        if !std::mem::replace(&mut self.pages.up, false) {
            return;
        }
        for piece in self.pages.pieces.clone() {
            if let Err(error) = self.protect(tid, piece, false)
                && self.end.is_none()
                && !proc::is_zombie(tid)
            {
                self.remark(format!(
                    "pages at {:#x} could not be opened again: the target may notice ({error})",
                    piece.start
                ));
            }
        }
    }

    fn protect(&mut self, tid: i32, piece: Piece, closed: bool) -> io::Result<()> {
        let number = syscall_number("mprotect").ok_or(io::ErrorKind::Unsupported)?;
        let protection = if closed { piece.protection & !WRITE } else { piece.protection };
        let args = if piece.grows {
            // From its last page down to wherever it begins now.
            let page = self.page_bytes;
            let last = piece.end.saturating_sub(page);
            if !mappings(tid).iter().any(|(start, end, _)| (*start..*end).contains(&last)) {
                return Ok(());
            }
            [last, page, u64::from(protection | GROWS_DOWN)]
        } else {
            [piece.start, piece.end - piece.start, u64::from(protection)]
        };
        match self.inject(tid, u64::from(number), args)? {
            0 => Ok(()),
            error => Err(io::Error::from_raw_os_error(i32::try_from(-error).unwrap_or(0))),
        }
    }

    /// All threads stand at a checkpoint: the pages are as the program made them until [`Session::close_pages`].
    pub(super) fn open_pages(&mut self) {
        if !self.pages.up {
            return;
        }
        match self.caller() {
            Some(tid) => {
                self.lower(tid);
                let now = mappings(tid);
                let is_inside = |at: &&u64| now.iter().any(|(start, end, _)| start < *at && *at < end);
                self.pages.joined = self.pages.ends.iter().filter(is_inside).count() as u64;
            }
            None => self.remark(
                "pages that are protected for a touch were so at a checkpoint: no thread stood where it could open them"
                    .to_owned(),
            ),
        }
    }

    /// They go on.
    pub(super) fn close_pages(&mut self) -> Result<()> {
        if self.pages.up || !self.waits_for_pages() || !self.pages.calling.is_empty() {
            return Ok(());
        }
        let Some(tid) = self.caller() else {
            self.remark("a touch was not waited for any longer: no thread stood where it could protect pages".to_owned());
            return Ok(());
        };
        self.raise_pages(tid)
    }

    /// True when the thread is to stop at its system calls.
    pub(super) fn watches_calls(&self, tid: i32) -> bool {
        (self.pages.up && self.shares_main(tid)) || self.pages.calling.contains(&tid)
    }

    /// A thread is about to receive SIGSEGV. True when that is our doing, and dealt with.
    pub(super) fn page_fault(&mut self, tid: i32, pid: i32) -> bool {
        if self.pages.pieces.is_empty() || !self.shares_main(tid) {
            return false;
        }
        let Ok(info) = ptrace::signal_info(tid) else { return false };
        let address = info.address();
        if info.code() != NOT_ALLOWED || !self.pages.covers(address, address.saturating_add(1)) {
            return false;
        }
        let pc = Registers::read(tid).map_or(0, |registers| registers.pc());
        if !self.is_elsewhere(address) && !self.is_in_stack(tid, address) {
            return false;
        }
        if !self.pages.up {
            // It faulted while they were closed; a fault that comes again is the program's own.
            return self.pages.last.replace((tid, pc, address)) != Some((tid, pc, address));
        }
        if pid == self.main {
            self.touched(tid, (address, address.saturating_add(1)), !self.is_elsewhere(address));
        }
        if let Some(task) = self.tasks.get_mut(tid) {
            task.fault = Some(address);
        }
        true
    }

    /// Counts the objects that have a part in these bytes.
    fn touched(&mut self, tid: i32, (start, end): (u64, u64), of_stack: bool) {
        let has_part = |object: &&Object| object.bytes.map_or(of_stack, |(from, to)| start < to && end > from);
        let points: BTreeSet<usize> = self
            .pages
            .objects
            .iter()
            .filter(has_part)
            .map(|object| object.point)
            .collect();
        for point in points {
            self.count(point, tid);
        }
    }

    /// True when the address belongs to a piece that is not the stack.
    fn is_elsewhere(&self, address: u64) -> bool {
        let mut pieces = self.pages.pieces.iter();
        pieces.any(|piece| !piece.grows && (piece.start..piece.end).contains(&address))
    }

    /// True for the part of the main stack that is protected, which may have grown meanwhile.
    fn is_in_stack(&self, tid: i32, address: u64) -> bool {
        let Some(piece) = self.pages.pieces.iter().find(|piece| piece.grows) else {
            return false;
        };
        let is_it = |(start, end, _): &(u64, u64, u32)| (*start..*end).contains(&address) && *end >= piece.end;
        (piece.start..piece.end).contains(&address) || mappings(tid).iter().any(is_it)
    }

    /// Lets a held thread run the instruction that faulted on a protected page.
    pub(super) fn pass_fault(&mut self, tid: i32) -> std::result::Result<(), Halt> {
        let Some(address) = self.tasks.get_mut(tid).and_then(|task| task.fault.take()) else {
            return Ok(());
        };
        if !self.pages.up {
            return Ok(());
        }
        if !self.is_elsewhere(address) {
            // The stack reaches as deep as this now; only what is deeper is untouched.
            self.open_stack(tid, address);
            return Ok(());
        }
        let Ok(registers) = Registers::read(tid) else {
            return Ok(());
        };
        let pc = registers.pc();
        let process = self.tasks.get(tid).map_or(self.main, |task| task.process);
        self.stop_processes(&self.sharing(process), Some(tid))?;
        if self.end.is_some() {
            return Ok(());
        }
        if let Some(task) = self.tasks.get_mut(tid) {
            task.retry = None;
        }
        self.lower(tid);
        let planted = self.image(tid).breakpoints.is_planted(pc);
        if let Some(original) = self.image(tid).breakpoints.original(pc).filter(|_| planted) {
            let _ = write_code(tid, pc, original);
        }
        let mut same_program = self.step_alone(tid, pc)?;
        if same_program
            && self.image(tid).watches.stops_at(pc)
            && Registers::read(tid).is_ok_and(|registers| registers.pc() == pc)
        {
            // That was the processor's breakpoint at this place, once more.
            same_program = self.step_alone(tid, pc)?;
        }
        if !same_program || self.end.is_some() {
            return Ok(());
        }
        if planted
            && self.image(tid).breakpoints.is_planted(pc)
            && let Some(held) = self.held_in(self.main_image)
        {
            write_code(held, pc, super::arch::BREAKPOINT)
                .map_err(|error| Error::tool(format!("could not put a breakpoint back into the target: {error}")))?;
        }
        Ok(self.close_pages()?)
    }

    fn open_stack(&mut self, tid: i32, address: u64) {
        let page = self.page_bytes;
        let reached = address & !(page - 1);
        let Some(at) = self.pages.pieces.iter().position(|piece| piece.grows) else {
            return;
        };
        let piece = self.pages.pieces[at];
        if reached >= piece.end {
            return;
        }
        let opened = Piece {
            start: reached,
            grows: false,
            ..piece
        };
        let begins = mappings(tid)
            .into_iter()
            .find_map(|(start, end, _)| (start..end).contains(&reached).then_some(start));
        if let Err(error) = self.protect(tid, opened, false) {
            self.remark(format!("the stack could not be opened at {reached:#x}: {error}"));
        }
        self.pages.pieces[at].end = reached;
        self.pages.pieces[at].start = begins.unwrap_or(piece.start);
        if begins == Some(reached) && self.waits_for_pages() {
            self.remark("the main stack has reached the end of its mapping: where it grows from there on is not seen".to_owned());
        }
    }

    /// A handler is about to run on the main stack: its frame is written by the kernel, which would end the program where it
    /// cannot.
    pub(super) fn room_for_handler(&mut self, tid: i32, signal: i32) {
        if !self.pages.up || signal == 0 || proc::is_default(tid, signal) {
            return;
        }
        let Ok(registers) = Registers::read(tid) else { return };
        let lowest = registers.sp().saturating_sub(FRAME_BYTES);
        let stack = self.pages.pieces.iter().find(|piece| piece.grows).copied();
        if let Some(stack) = stack
            && lowest < stack.end
            && registers.sp() >= stack.start
            && registers.sp() < stack.end.saturating_add(FRAME_BYTES)
        {
            self.open_stack(tid, lowest);
        }
    }

    /// A thread stopped at a system call while pages were protected, or one that we had asked for. Says how it goes on.
    pub(super) fn call_stops(&mut self, tid: i32) -> How {
        if ptrace::call_stop(tid).is_ok_and(|stop| stop == CallStop::Begin) {
            return How::Continue(0);
        }
        self.call_ends(tid);
        if self.pages.calling.remove(&tid) {
            let closed = if self.waits_for_pages() {
                self.raise_pages(tid)
            } else {
                Ok(())
            };
            if let Err(error) = closed {
                self.remark(error.to_string());
            }
        } else if self.pages.up && self.shares_main(tid) {
            self.call_failed(tid);
        }
        How::Continue(0)
    }

    /// If it failed for our pages, it is made again with them open.
    fn call_failed(&mut self, tid: i32) {
        let Ok(registers) = Registers::read(tid) else { return };
        if registers.call_result() != BAD_ADDRESS {
            return;
        }
        let call = registers.call();
        let name = syscall_names()
            .find(|name| syscall_number(name).map(u64::from) == Some(call.number))
            .unwrap_or("?");
        let written = (0..call.args.len()).find_map(|at| {
            let start = call.args[at];
            let length = call.args.get(at + 1).copied().filter(|length| *length <= LONGEST_BYTES);
            let end = start.saturating_add(length.unwrap_or(0).max(STRUCTURE_BYTES));
            self.closed_in(start, end).then_some((start, end))
        });
        let (Some((start, end)), Some(again)) = (written, registers.again()) else {
            self.remark(format!(
                "a call of {name} failed with EFAULT while pages were protected for a touch: if it was to write there, the target \
                 has noticed; watch 1, 2, 4 or 8 bytes instead, which protects no page"
            ));
            return;
        };
        let in_stack = |piece: &Piece| piece.grows && start < piece.end && end > piece.start;
        let of_stack = self.pages.pieces.iter().any(in_stack);
        self.touched(tid, (start, end), of_stack);
        if of_stack {
            self.open_stack(tid, start);
        }
        self.lower(tid);
        // Fails only for a thread that was killed meanwhile.
        if again.write(tid).is_ok() {
            self.pages.calling.insert(tid);
        }
    }

    fn closed_in(&self, start: u64, end: u64) -> bool {
        let mut pieces = self.pages.pieces.iter();
        pieces.any(|piece| start < piece.end && end > piece.start)
    }

    /// Opens the pages in a copy of this memory, through a stopped thread that has it.
    pub(super) fn open_copy(&mut self, tid: i32) {
        if !self.pages.up {
            return;
        }
        for piece in self.pages.pieces.clone() {
            // A thread that is dying needs nothing.
            let _ = self.protect(tid, piece, false);
        }
    }

    /// As [`Session::open_copy`], for children that keep a memory which the main process has left.
    pub(super) fn open_left_behind(&mut self, tid: i32, old: &Pages) {
        let now = std::mem::take(&mut self.pages);
        self.pages.pieces.clone_from(&old.pieces);
        self.pages.up = old.up;
        self.open_copy(tid);
        self.pages = now;
    }
}
