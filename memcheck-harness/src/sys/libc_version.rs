//! Which C library this program runs on. Not a system call, but the only other thing that needs `unsafe`.

/// `glibc 2.36`; absent on other C libraries and in static programs of musl.
#[cfg(target_env = "gnu")]
pub(crate) fn libc_version() -> Option<String> {
    // SAFETY: gnu_get_libc_version(3) takes nothing, cannot fail and returns a NUL-terminated constant of static lifetime.
    let version = unsafe { std::ffi::CStr::from_ptr(libc::gnu_get_libc_version()) };
    version.to_str().ok().map(|version| format!("glibc {version}"))
}

/// `glibc 2.36`; absent on other C libraries and in static programs of musl.
#[cfg(not(target_env = "gnu"))]
pub(crate) fn libc_version() -> Option<String> {
    None
}
