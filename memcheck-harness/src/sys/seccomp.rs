//! The seccomp filter behind the `exit` checkpoint: `exit_group` and `exit` stop for the tracer, every other call runs free.

/// `SECCOMP_RET_DATA` of `exit_group`; the high byte keeps it apart from filters of the target itself.
pub(crate) const EXIT_GROUP: u64 = 0x4d01;
/// `SECCOMP_RET_DATA` of `exit`, which ends one thread.
pub(crate) const EXIT_THREAD: u64 = 0x4d02;

#[cfg(target_arch = "x86_64")]
const AUDIT_ARCH: u32 = 0xc000_003e;
#[cfg(target_arch = "aarch64")]
const AUDIT_ARCH: u32 = 0xc000_00b7;
#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
const AUDIT_ARCH: u32 = 0;

const LOAD: u16 = 0x20; // BPF_LD | BPF_W | BPF_ABS
const JUMP_EQUAL: u16 = 0x15; // BPF_JMP | BPF_JEQ | BPF_K
const RETURN: u16 = 0x06; // BPF_RET | BPF_K
const OFFSET_NUMBER: u32 = 0; // struct seccomp_data: nr
const OFFSET_ARCH: u32 = 4; // struct seccomp_data: arch

/// The program (seccomp(2)): calls of another architecture are let through, they cannot be told by number.
pub(super) fn exit_filter() -> [libc::sock_filter; 8] {
    let op = |code, jt, jf, k| libc::sock_filter { code, jt, jf, k };
    let number = |n: libc::c_long| u32::try_from(n).unwrap_or(u32::MAX);
    let trace = |data: u64| libc::SECCOMP_RET_TRACE | u32::try_from(data).unwrap_or(0);
    [
        op(LOAD, 0, 0, OFFSET_ARCH),
        op(JUMP_EQUAL, 0, 3, AUDIT_ARCH),
        op(LOAD, 0, 0, OFFSET_NUMBER),
        op(JUMP_EQUAL, 2, 0, number(libc::SYS_exit_group)),
        op(JUMP_EQUAL, 2, 0, number(libc::SYS_exit)),
        op(RETURN, 0, 0, libc::SECCOMP_RET_ALLOW),
        op(RETURN, 0, 0, trace(EXIT_GROUP)),
        op(RETURN, 0, 0, trace(EXIT_THREAD)),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The few instructions of classic BPF that the filter uses.
    fn run(arch: u32, number: u32) -> u32 {
        let (mut at, mut accumulator) = (0, 0);
        loop {
            let op = exit_filter()[at];
            at += 1;
            match op.code {
                LOAD => accumulator = if op.k == OFFSET_ARCH { arch } else { number },
                JUMP_EQUAL => at += usize::from(if accumulator == op.k { op.jt } else { op.jf }),
                _ => return op.k,
            }
        }
    }

    #[test]
    fn only_the_two_exits_of_this_machine_stop() {
        let exit = u32::try_from(libc::SYS_exit).unwrap();
        let exit_group = u32::try_from(libc::SYS_exit_group).unwrap();
        assert_eq!(run(AUDIT_ARCH, exit_group), libc::SECCOMP_RET_TRACE | 0x4d01);
        assert_eq!(run(AUDIT_ARCH, exit), libc::SECCOMP_RET_TRACE | 0x4d02);
        assert_eq!(run(AUDIT_ARCH, 0), libc::SECCOMP_RET_ALLOW);
        assert_eq!(run(0x4000_0003, exit_group), libc::SECCOMP_RET_ALLOW);
    }
}
