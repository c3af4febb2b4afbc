//! What differs between machines: the registers we read, the breakpoint instruction, and first instructions of functions
//! that need no single-step. x86-64 and AArch64; elsewhere a launch ends with an error.

use std::io;

use crate::sys::ptrace;

use super::calls::Call;

/// `e_machine` of programs that can be traced; `None` on other machines.
pub(super) const MACHINE: Option<u16> = if cfg!(target_arch = "x86_64") {
    Some(62)
} else if cfg!(target_arch = "aarch64") {
    Some(183)
} else {
    None
};

/// Bytes of a breakpoint instruction.
pub(super) const LENGTH: usize = if cfg!(target_arch = "aarch64") { 4 } else { 1 };

/// The instruction bytes that a breakpoint replaces, or the breakpoint itself.
pub(super) type Code = [u8; LENGTH];

/// Registers of a stopped thread: `NT_PRSTATUS` as the kernel lays it out.
#[derive(Clone, Copy, Debug)]
pub(super) struct Registers([u64; WORDS]);

/// What can be done about an instruction without running it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Emulated {
    /// It does nothing: skip so many bytes.
    Skip(u64),
    /// It pushes this value: store it at the new stack pointer, then skip so many bytes.
    Push {
        /// The value.
        value: u64,
        /// Length of the instruction.
        length: u64,
    },
}

const NT_PRSTATUS: i32 = 1;

impl Registers {
    /// Of a stopped thread.
    pub(super) fn read(tid: i32) -> io::Result<Self> {
        let mut words = [0; WORDS];
        if ptrace::registers(tid, NT_PRSTATUS, &mut words)? < WORDS {
            // A thread in 32-bit mode has a smaller set.
            return Err(io::ErrorKind::Unsupported.into());
        }
        Ok(Self(words))
    }

    /// Into a stopped thread.
    pub(super) fn write(&self, tid: i32) -> io::Result<()> {
        ptrace::set_registers(tid, NT_PRSTATUS, &self.0)
    }

    /// Program counter.
    pub(super) fn pc(&self) -> u64 {
        self.0[PC]
    }

    /// Moves the program counter.
    pub(super) fn set_pc(&mut self, pc: u64) {
        self.0[PC] = pc;
    }

    /// Stack pointer.
    pub(super) fn sp(&self) -> u64 {
        self.0[SP]
    }

    /// Moves the stack pointer.
    pub(super) fn set_sp(&mut self, sp: u64) {
        self.0[SP] = sp;
    }

    /// At the entry of a function: where it will return to, and the stack pointer then.
    pub(super) fn return_address(&self, tid: i32) -> Option<(u64, u64)> {
        machine::return_address(tid, &self.0)
    }

    /// Undoes what our interrupt did to a system call that the kernel does not restart by itself: it then ends with `EINTR`,
    /// as after a stop signal (signal(7), "Interruption of system calls and library functions by stop signals"), which the
    /// program would not have seen without us. The kernel restarts it on the way out, unless a handler is to run.
    pub(super) fn restart_interrupted_call(tid: i32) {
        if let Ok(mut registers) = Self::read(tid)
            && machine::mark_for_restart(&mut registers.0)
        {
            // Fails only for a thread that was killed meanwhile.
            let _ = registers.write(tid);
        }
    }

    /// The call that a thread is about to make, at its beginning.
    pub(super) fn call(&self) -> Call {
        Call {
            number: self.0[CALL_NUMBER],
            args: CALL_ARGUMENTS.map(|at| self.0[at]),
        }
    }

    /// What a call gave, at its end: negative values from -4095 are errors.
    pub(super) fn call_result(&self) -> i64 {
        self.0[CALL_RESULT].cast_signed()
    }

    /// Makes a call of its own, at a call instruction, from a place that is on its way back to the program.
    pub(super) fn set_call(&mut self, number: u64, args: [u64; 3]) {
        machine::set_call(&mut self.0, number);
        for (at, value) in CALL_ARGUMENTS.into_iter().zip(args) {
            self.0[at] = value;
        }
    }

    /// Replaces the first argument of the call that is about to be made, or was made ([`KEEPS_ARGUMENTS`]).
    pub(super) fn set_first_call_argument(&mut self, value: u64) {
        self.0[CALL_ARGUMENTS[0]] = value;
    }

    /// Puts another call in the place of the one that is about to be made.
    pub(super) fn replace_call(&mut self, number: u64, args: [u64; 3]) {
        self.0[CALL_NUMBER] = number;
        for (at, value) in CALL_ARGUMENTS.into_iter().zip(args) {
            self.0[at] = value;
        }
    }

    /// The registers that lead a thread, behind a call, to that very call once more; absent where that cannot be done.
    pub(super) fn again(&self) -> Option<Self> {
        machine::again(self.0).map(Self)
    }

    /// First argument at the entry of a function.
    pub(super) fn first_argument(&self) -> u64 {
        self.0[ARGUMENT]
    }
}

/// Results of calls that the kernel makes again unless a signal handler decides otherwise: `ERESTARTSYS`, `ERESTARTNOINTR`,
/// `ERESTARTNOHAND` (kernel `include/linux/errno.h`). The fourth, `ERESTART_RESTARTBLOCK`, goes on with another call.
fn is_restarted(result: i64) -> bool {
    (-514..=-512).contains(&result)
}

/// The number of the call in the middle of which a thread has stopped and which the kernel is going to make again; absent when
/// there is none.
pub(super) fn interrupted_call(tid: i32, registers: &Registers) -> Option<u64> {
    let number = machine::call_in_progress(tid, registers)?;
    is_restarted(registers.call_result()).then_some(number)
}

/// Program counter and stack pointer to which a signal handler returns, at the beginning of `rt_sigreturn`.
pub(super) fn handler_frame(tid: i32, registers: &Registers) -> Option<(u64, u64)> {
    let word = |offset: u64| ptrace::peek(tid, registers.sp().wrapping_add(offset)).ok();
    Some((word(machine::FRAME_PC)?, word(machine::FRAME_SP)?))
}

use machine::{ARGUMENT, CALL_ARGUMENTS, CALL_NUMBER, CALL_RESULT, PC, SP, WORDS};
/// A program has the arguments of a call in its registers still when that is over; elsewhere the result stands in the place of the first.
pub(super) const KEEPS_ARGUMENTS: bool = CALL_ARGUMENTS[0] != CALL_RESULT;

pub(super) use machine::{BREAKPOINT, CALL_INSTRUCTION, TRAP_CODE, TRAP_OFFSET, emulate, is_nop, tls_base};

#[cfg(not(target_arch = "aarch64"))]
mod machine {
    //! x86-64 (kernel `arch/x86/include/asm/user_64.h`, `user_regs_struct`).
    use super::{Code, Emulated, Registers};
    use crate::sys::ptrace;

    pub(super) const WORDS: usize = 27;
    pub(super) const PC: usize = 16;
    pub(super) const SP: usize = 19;
    pub(super) const ARGUMENT: usize = 14;
    const FS_BASE: usize = 21;
    /// `orig_rax`
    pub(super) const CALL_NUMBER: usize = 15;
    /// rdi, rsi, rdx, r10, r8, r9 (syscall(2))
    pub(super) const CALL_ARGUMENTS: [usize; 6] = [14, 13, 12, 7, 9, 8];
    /// `rax`
    pub(super) const CALL_RESULT: usize = 10;
    /// `rt_sigframe` without its return address, `uc.uc_mcontext.rip` and `.rsp` (kernel `arch/x86/include/asm/sigframe.h`,
    /// `arch/x86/include/uapi/asm/sigcontext.h`).
    pub(super) const FRAME_PC: u64 = 168;
    pub(super) const FRAME_SP: u64 = 160;
    /// Where each of rax, rcx, rdx, rbx, rsp, rbp, rsi, rdi, r8 … r15 stands.
    const ORDER: [usize; 16] = [10, 11, 12, 5, 19, 4, 13, 14, 9, 8, 7, 6, 3, 2, 1, 0];

    /// `syscall`
    pub(in crate::trace) const CALL_INSTRUCTION: [u8; 2] = [0x0f, 0x05];

    /// Outside of a call, as far as the kernel's restarting goes (`orig_rax` is -1).
    pub(super) fn set_call(words: &mut [u64; WORDS], number: u64) {
        words[CALL_RESULT] = number;
        words[CALL_NUMBER] = u64::MAX;
    }

    #[expect(clippy::unnecessary_wraps, reason = "other machines cannot")]
    pub(super) fn again(mut words: [u64; WORDS]) -> Option<[u64; WORDS]> {
        words[PC] = words[PC].wrapping_sub(CALL_INSTRUCTION.len() as u64);
        words[CALL_RESULT] = words[CALL_NUMBER];
        Some(words)
    }

    /// `int3`
    pub(in crate::trace) const BREAKPOINT: Code = [0xcc];
    /// After `int3` the program counter stands so many bytes behind it.
    pub(in crate::trace) const TRAP_OFFSET: u64 = 1;
    /// `si_code` of `int3`: `SI_KERNEL` (kernel `arch/x86/kernel/traps.c`, `do_int3_user`).
    pub(in crate::trace) const TRAP_CODE: i32 = 0x80;

    pub(in crate::trace) fn is_nop(code: Code) -> bool {
        code == [0x90]
    }

    /// The call has pushed it, and the return will pop it.
    pub(super) fn return_address(tid: i32, words: &[u64; WORDS]) -> Option<(u64, u64)> {
        let sp = words[SP];
        Some((ptrace::peek(tid, sp).ok()?, sp.checked_add(8)?))
    }

    const RAX: usize = 10;
    const ORIG_RAX: usize = 15;
    /// Calls that wait and, interrupted, have done nothing yet: they can be made again.
    const RESTARTABLE: [libc::c_long; 10] = [
        libc::SYS_epoll_wait,
        libc::SYS_epoll_pwait,
        libc::SYS_epoll_pwait2,
        libc::SYS_semop,
        libc::SYS_semtimedop,
        libc::SYS_rt_sigtimedwait,
        libc::SYS_recvfrom,
        libc::SYS_recvmsg,
        libc::SYS_accept,
        libc::SYS_accept4,
    ];
    /// `-ERESTARTNOHAND` (kernel `include/linux/errno.h`): `arch_do_signal_or_restart` makes the call again after the stop,
    /// or answers `EINTR` when a handler runs.
    const RESTART_WITHOUT_HANDLER: u64 = (-514_i64).cast_unsigned();

    /// True when the registers were changed.
    pub(super) fn mark_for_restart(words: &mut [u64; WORDS]) -> bool {
        let interrupted = words[RAX] == (-i64::from(libc::EINTR)).cast_unsigned();
        // Outside of a system call the field is -1.
        let is_known = RESTARTABLE.iter().any(|call| words[ORIG_RAX] == call.cast_unsigned());
        if interrupted && is_known {
            words[RAX] = RESTART_WITHOUT_HANDLER;
        }
        interrupted && is_known
    }

    pub(in crate::trace) fn tls_base(_tid: i32, registers: &Registers) -> Option<u64> {
        Some(registers.0[FS_BASE])
    }

    pub(super) fn call_in_progress(_tid: i32, registers: &Registers) -> Option<u64> {
        Some(registers.0[CALL_NUMBER]).filter(|number| number.cast_signed() >= 0)
    }

    /// `endbr64`, `nop` and `push` of a register: how nearly every function begins.
    pub(in crate::trace) fn emulate(code: [u8; 8], registers: &Registers) -> Option<Emulated> {
        match code {
            [0xf3, 0x0f, 0x1e, 0xfa, ..] => Some(Emulated::Skip(4)),
            [0x90, ..] => Some(Emulated::Skip(1)),
            [0x66, 0x90, ..] => Some(Emulated::Skip(2)),
            [byte @ 0x50..=0x57, ..] => Some(Emulated::Push {
                value: registers.0[ORDER[usize::from(byte - 0x50)]],
                length: 1,
            }),
            [0x41, byte @ 0x50..=0x57, ..] => Some(Emulated::Push {
                value: registers.0[ORDER[usize::from(byte - 0x50) + 8]],
                length: 2,
            }),
            _ => None,
        }
    }

    #[cfg(test)]
    mod tests {
        use super::*;

        #[test]
        fn the_usual_first_instructions_are_known() {
            let mut registers = Registers(std::array::from_fn(|i| i as u64));
            registers.set_sp(4096);
            let code = |bytes: &[u8]| std::array::from_fn(|i| bytes.get(i).copied().unwrap_or(0));
            let push = |value, length| Some(Emulated::Push { value, length });
            assert_eq!(emulate(code(&[0xf3, 0x0f, 0x1e, 0xfa]), &registers), Some(Emulated::Skip(4)));
            assert_eq!(emulate(code(&[0x55]), &registers), push(4, 1), "push rbp");
            assert_eq!(emulate(code(&[0x53]), &registers), push(5, 1), "push rbx");
            assert_eq!(
                emulate(code(&[0x54]), &registers),
                push(4096, 1),
                "push rsp stores the old value"
            );
            assert_eq!(emulate(code(&[0x41, 0x57]), &registers), push(0, 2), "push r15");
            assert_eq!(emulate(code(&[0x41, 0x50]), &registers), push(9, 2), "push r8");
            assert_eq!(emulate(code(&[0x48, 0x83, 0xec]), &registers), None, "sub rsp");
        }
    }
}

#[cfg(target_arch = "aarch64")]
mod machine {
    //! AArch64 (kernel `arch/arm64/include/uapi/asm/ptrace.h`, `user_pt_regs`: x0 … x30, sp, pc, pstate).
    use super::{Code, Emulated, Registers};
    use crate::sys::ptrace;

    pub(super) const WORDS: usize = 34;
    pub(super) const PC: usize = 32;
    pub(super) const SP: usize = 31;
    pub(super) const ARGUMENT: usize = 0;
    const NT_ARM_TLS: i32 = 0x401;
    const NT_ARM_SYSTEM_CALL: i32 = 0x404;
    /// x8, and x0 to x5 (syscall(2)).
    pub(super) const CALL_NUMBER: usize = 8;
    pub(super) const CALL_ARGUMENTS: [usize; 6] = [0, 1, 2, 3, 4, 5];
    pub(super) const CALL_RESULT: usize = 0;
    /// `rt_sigframe`: `siginfo_t`, then `uc.uc_mcontext.pc` and `.sp` (kernel `arch/arm64/kernel/signal.c`,
    /// `arch/arm64/include/uapi/asm/sigcontext.h`).
    pub(super) const FRAME_PC: u64 = 568;
    pub(super) const FRAME_SP: u64 = 560;

    /// `svc #0`
    pub(in crate::trace) const CALL_INSTRUCTION: [u8; 4] = 0xd400_0001u32.to_le_bytes();

    pub(super) fn set_call(words: &mut [u64; WORDS], number: u64) {
        words[CALL_NUMBER] = number;
    }

    /// The first argument is lost when the result is there.
    pub(super) fn again(_words: [u64; WORDS]) -> Option<[u64; WORDS]> {
        None
    }

    /// `brk #0`
    pub(in crate::trace) const BREAKPOINT: Code = 0xd420_0000u32.to_le_bytes();
    pub(in crate::trace) const TRAP_OFFSET: u64 = 0;
    /// `si_code` of `brk`: `TRAP_BRKPT`.
    pub(in crate::trace) const TRAP_CODE: i32 = 1;
    const NOP: u32 = 0xd503_201f;

    pub(in crate::trace) fn is_nop(code: Code) -> bool {
        u32::from_le_bytes(code) == NOP
    }

    /// The link register holds it; the stack pointer is as it was before.
    pub(super) fn return_address(_tid: i32, words: &[u64; WORDS]) -> Option<(u64, u64)> {
        const LINK: usize = 30;
        Some((words[LINK], words[SP]))
    }

    /// The kernel has decided about a restart before the stop (`arch/arm64/kernel/signal.c`, `do_signal`): too late here.
    pub(super) fn mark_for_restart(_words: &mut [u64; WORDS]) -> bool {
        false
    }

    pub(in crate::trace) fn tls_base(tid: i32, _registers: &Registers) -> Option<u64> {
        let mut words = [0; 2];
        ptrace::registers(tid, NT_ARM_TLS, &mut words).ok()?;
        Some(words[0])
    }

    pub(super) fn call_in_progress(tid: i32, _registers: &Registers) -> Option<u64> {
        let mut words = [u64::MAX];
        ptrace::registers(tid, NT_ARM_SYSTEM_CALL, &mut words).ok()?;
        let number = words[0] & u64::from(u32::MAX);
        (number != u64::from(u32::MAX)).then_some(number)
    }

    /// `nop` and the landing pads `bti` (hints 32, 34, 36, 38).
    pub(in crate::trace) fn emulate(code: [u8; 8], _registers: &Registers) -> Option<Emulated> {
        let [a, b, c, d, ..] = code;
        match u32::from_le_bytes([a, b, c, d]) {
            NOP | 0xd503_241f | 0xd503_245f | 0xd503_249f | 0xd503_24df => Some(Emulated::Skip(4)),
            _ => None,
        }
    }
}
