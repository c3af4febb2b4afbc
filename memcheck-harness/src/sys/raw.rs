//! One system call without libc. A child that shares our memory (`clone(CLONE_VM)`) also shares the thread-local storage
//! of the thread that made it, `errno` included: it must not call libc's wrappers.

/// Makes system call `number`. The result is the kernel's own: negative values from -4095 are errors.
///
/// # Safety
/// As for the system call itself: pointers among the arguments must be valid for what the kernel does with them.
#[cfg(target_arch = "x86_64")]
pub(super) unsafe fn syscall(number: libc::c_long, arguments: [usize; 6]) -> isize {
    let result: isize;
    // SAFETY: the x86-64 system call convention (syscall(2)): number in rax, arguments in rdi, rsi, rdx, r10, r8, r9;
    // rcx and r11 are overwritten. What the call does is the caller's responsibility.
    unsafe {
        std::arch::asm!(
            "syscall",
            inlateout("rax") number as isize => result,
            in("rdi") arguments[0],
            in("rsi") arguments[1],
            in("rdx") arguments[2],
            in("r10") arguments[3],
            in("r8") arguments[4],
            in("r9") arguments[5],
            lateout("rcx") _,
            lateout("r11") _,
            options(nostack),
        );
    }
    result
}

/// As above.
///
/// # Safety
/// As above.
#[cfg(target_arch = "aarch64")]
pub(super) unsafe fn syscall(number: libc::c_long, arguments: [usize; 6]) -> isize {
    let result: isize;
    // SAFETY: the AArch64 system call convention (syscall(2)): number in x8, arguments in x0 to x5, result in x0.
    unsafe {
        std::arch::asm!(
            "svc 0",
            in("x8") number,
            inlateout("x0") arguments[0] => result,
            in("x1") arguments[1],
            in("x2") arguments[2],
            in("x3") arguments[3],
            in("x4") arguments[4],
            in("x5") arguments[5],
            options(nostack),
        );
    }
    result
}

/// Other machines: every call is "not implemented", so that a launch ends with a clear error.
///
/// # Safety
/// Does nothing.
#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
pub(super) unsafe fn syscall(_number: libc::c_long, _arguments: [usize; 6]) -> isize {
    -(libc::ENOSYS as isize)
}
