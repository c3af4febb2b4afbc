//! Every raw system call that the standard library and nix lack or get wrong. The only module with `unsafe`.
//! Thin, typed and without policy: what a status or a failure means is decided by the callers.

#![expect(
    unsafe_code,
    reason = "raw system calls live here and nowhere else; each block says why it is sound"
)]

pub(crate) mod clone;
pub(crate) mod interrupt;
pub(crate) mod libc_version;
pub(crate) mod names;
pub(crate) mod pagemap;
pub(crate) mod process;
pub(crate) mod procmap;
pub(crate) mod ptrace;
pub(crate) mod pty;
mod raw;
pub(crate) mod seccomp;
pub(crate) mod thp;
pub(crate) mod timer;
pub(crate) mod wait;

/// Resources that can be limited (setrlimit(2)).
pub(crate) mod limits {
    pub(crate) const ADDRESS_SPACE: u32 = libc::RLIMIT_AS;
    pub(crate) const CORE: u32 = libc::RLIMIT_CORE;
    pub(crate) const OPEN_FILES: u32 = libc::RLIMIT_NOFILE;
    pub(crate) const STACK: u32 = libc::RLIMIT_STACK;
}
