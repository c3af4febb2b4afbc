//! The seccomp filter behind checkpoints at system calls: the calls that were asked for stop for the tracer, every other one
//! runs free.

/// `SECCOMP_RET_DATA` of `exit_group`; the high byte keeps it apart from filters of the target itself.
pub(crate) const EXIT_GROUP: u64 = 0x4d01;
/// `SECCOMP_RET_DATA` of `exit`, which ends one thread.
pub(crate) const EXIT_THREAD: u64 = 0x4d02;
/// `SECCOMP_RET_DATA` of a call that some point may wait for.
pub(crate) const CALL: u64 = 0x4d03;
/// `SECCOMP_RET_DATA` of the return from a signal handler.
pub(crate) const RETURN_FROM_HANDLER: u64 = 0x4d04;

/// `SECCOMP_RET_DATA` of a call that gives pages back.
pub(crate) const DISCARD: u64 = 0x4d05;

/// `SECCOMP_RET_DATA` of a call by which a process becomes the tracer of another.
pub(crate) const TRACE: u64 = 0x4d06;

/// `SECCOMP_RET_DATA` of a `clone` whose child is not to be traced.
pub(crate) const UNTRACED: u64 = 0x4d07;

/// One call that stops.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Rule {
    /// The call's number.
    pub(crate) number: u32,
    /// `SECCOMP_RET_DATA`
    pub(crate) data: u64,
    /// It stops only when each argument (by its number), masked, has this value; the lower 32 bits count.
    pub(crate) conditions: Vec<(u8, u32, u32)>,
}

impl Rule {
    /// Every call of a number.
    pub(crate) fn new(number: u32, data: u64) -> Self {
        Self {
            number,
            data,
            conditions: Vec::new(),
        }
    }

    /// Only with this argument.
    pub(crate) fn only(mut self, argument: u8, mask: u32, value: u32) -> Self {
        self.conditions.push((argument, mask, value));
        self
    }
}

/// The rules behind the `exit` checkpoint.
pub(crate) fn exits() -> [Rule; 2] {
    let number = |n: libc::c_long| u32::try_from(n).unwrap_or(u32::MAX);
    [
        Rule::new(number(libc::SYS_exit_group), EXIT_GROUP),
        Rule::new(number(libc::SYS_exit), EXIT_THREAD),
    ]
}

/// The rule behind `watch = "stacks"`: `madvise(…, MADV_DONTNEED)`, which gives pages back. Nothing waits for the call itself.
pub(crate) fn discards() -> Rule {
    let number = u32::try_from(libc::SYS_madvise).unwrap_or(u32::MAX);
    Rule::new(number, DISCARD).only(2, u32::MAX, libc::MADV_DONTNEED.cast_unsigned())
}

/// Requests by which somebody becomes a tracer: `PTRACE_TRACEME`, `PTRACE_ATTACH`, `PTRACE_SEIZE` (ptrace(2)).
pub(crate) const TRACING: [u32; 3] = [libc::PTRACE_TRACEME, libc::PTRACE_ATTACH, libc::PTRACE_SEIZE];

/// The rules that show a target which is a tracer itself: the requests of `ptrace` that every trace begins with.
pub(crate) fn traces() -> [Rule; 3] {
    let number = u32::try_from(libc::SYS_ptrace).unwrap_or(u32::MAX);
    TRACING.map(|request| Rule::new(number, TRACE).only(0, u32::MAX, request))
}

/// `CLONE_UNTRACED` (clone(2)).
pub(crate) const CLONE_UNTRACED: u64 = 0x0080_0000;

/// The rule that shows a child which would not be traced, nor have its calls answered where this very filter stops them. `clone3` has
/// its flags in memory.
pub(crate) fn untraced() -> Rule {
    let number = u32::try_from(libc::SYS_clone).unwrap_or(u32::MAX);
    let flag = u32::try_from(CLONE_UNTRACED).unwrap_or(0);
    Rule::new(number, UNTRACED).only(0, flag, flag)
}

#[cfg(target_arch = "x86_64")]
const AUDIT_ARCH: u32 = 0xc000_003e;
#[cfg(target_arch = "aarch64")]
const AUDIT_ARCH: u32 = 0xc000_00b7;
#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
const AUDIT_ARCH: u32 = 0;

const LOAD: u16 = 0x20; // BPF_LD | BPF_W | BPF_ABS
const AND: u16 = 0x54; // BPF_ALU | BPF_AND | BPF_K
const JUMP_EQUAL: u16 = 0x15; // BPF_JMP | BPF_JEQ | BPF_K
const RETURN: u16 = 0x06; // BPF_RET | BPF_K
const OFFSET_NUMBER: u32 = 0; // struct seccomp_data: nr
const OFFSET_ARCH: u32 = 4; // struct seccomp_data: arch
const OFFSET_ARGUMENTS: u32 = 16; // struct seccomp_data: args, eight bytes each, the lower half first on both machines

/// The program (seccomp(2)): calls of another architecture are let through, they cannot be told by number. Of several rules
/// for a call the first that holds decides.
pub(crate) fn filter(rules: &[Rule]) -> Vec<libc::sock_filter> {
    let op = |code, jt, jf, k| libc::sock_filter { code, jt, jf, k };
    let mut program = vec![
        op(LOAD, 0, 0, OFFSET_ARCH),
        op(JUMP_EQUAL, 1, 0, AUDIT_ARCH),
        op(RETURN, 0, 0, libc::SECCOMP_RET_ALLOW),
    ];
    for rule in rules {
        // At most 3 × 6 + 1 instructions are left to jump over.
        let mut left = u8::try_from(3 * rule.conditions.len() + 1).unwrap_or(u8::MAX);
        program.push(op(LOAD, 0, 0, OFFSET_NUMBER));
        program.push(op(JUMP_EQUAL, 0, left, rule.number));
        for (argument, mask, value) in &rule.conditions {
            left -= 3;
            program.push(op(LOAD, 0, 0, OFFSET_ARGUMENTS + 8 * u32::from(*argument)));
            program.push(op(AND, 0, 0, *mask));
            program.push(op(JUMP_EQUAL, 0, left, *value));
        }
        let data = u32::try_from(rule.data).unwrap_or(0);
        program.push(op(RETURN, 0, 0, libc::SECCOMP_RET_TRACE | data));
    }
    program.push(op(RETURN, 0, 0, libc::SECCOMP_RET_ALLOW));
    program
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The few instructions of classic BPF that the filter uses.
    fn run(rules: &[Rule], arch: u32, number: u32, args: [u32; 6]) -> u32 {
        let program = filter(rules);
        let (mut at, mut accumulator) = (0, 0);
        loop {
            let op = program[at];
            at += 1;
            match op.code {
                LOAD => {
                    accumulator = match op.k {
                        OFFSET_ARCH => arch,
                        OFFSET_NUMBER => number,
                        argument => args[(argument - OFFSET_ARGUMENTS) as usize / 8],
                    }
                }
                AND => accumulator &= op.k,
                JUMP_EQUAL => at += usize::from(if accumulator == op.k { op.jt } else { op.jf }),
                _ => return op.k,
            }
        }
    }

    #[test]
    fn only_the_two_exits_of_this_machine_stop() {
        let exit = u32::try_from(libc::SYS_exit).unwrap();
        let exit_group = u32::try_from(libc::SYS_exit_group).unwrap();
        let run = |arch, number| run(&exits(), arch, number, [0; 6]);
        assert_eq!(run(AUDIT_ARCH, exit_group), libc::SECCOMP_RET_TRACE | 0x4d01);
        assert_eq!(run(AUDIT_ARCH, exit), libc::SECCOMP_RET_TRACE | 0x4d02);
        assert_eq!(run(AUDIT_ARCH, 0), libc::SECCOMP_RET_ALLOW);
        assert_eq!(run(0x4000_0003, exit_group), libc::SECCOMP_RET_ALLOW);
    }

    #[test]
    fn arguments_are_compared_under_their_masks() {
        let rules = [
            Rule::new(9, 1).only(2, 4, 4).only(0, u32::MAX, 7),
            Rule::new(9, 2).only(1, u32::MAX, 5),
            Rule::new(3, 3),
        ];
        let run = |number, args| run(&rules, AUDIT_ARCH, number, args);
        let trace = |data: u32| libc::SECCOMP_RET_TRACE | data;
        assert_eq!(run(9, [7, 0, 6, 0, 0, 0]), trace(1));
        assert_eq!(run(9, [7, 5, 6, 0, 0, 0]), trace(1), "the first rule that holds");
        assert_eq!(run(9, [7, 5, 3, 0, 0, 0]), trace(2));
        assert_eq!(run(9, [8, 0, 6, 0, 0, 0]), libc::SECCOMP_RET_ALLOW);
        assert_eq!(run(3, [0; 6]), trace(3));
        assert_eq!(run(4, [7, 5, 6, 0, 0, 0]), libc::SECCOMP_RET_ALLOW);
    }
}
