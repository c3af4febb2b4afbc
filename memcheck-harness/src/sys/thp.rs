//! Transparent huge pages off for a child that starts in our address space.
//!
//! `PR_SET_THP_DISABLE` is a flag of the address space, and a new program inherits it from the space that calls `execve`
//! (kernel `mm_init`: `mmf_init_flags`). Our child shares our space until then, so the flag is set on us for that moment.

use std::io;
use std::sync::{Mutex, PoisonError};

/// Launches of this process that hold the flag, and whether it was set before the first of them.
static HOLDERS: Mutex<(u32, bool)> = Mutex::new((0, false));

/// While one exists, programs started by this process have no transparent huge pages.
#[derive(Debug)]
pub(crate) struct Off(());

impl Off {
    /// Sets the flag.
    ///
    /// # Errors
    /// The kernel's, `EINVAL` when it has no such flag or `EPERM` under a seccomp filter.
    pub(crate) fn new() -> io::Result<Self> {
        let mut holders = HOLDERS.lock().unwrap_or_else(PoisonError::into_inner);
        if holders.0 == 0 {
            // SAFETY: prctl with plain numbers.
            holders.1 = unsafe { libc::prctl(libc::PR_GET_THP_DISABLE, 0, 0, 0, 0) } == 1;
            set(true)?;
        }
        holders.0 += 1;
        Ok(Self(()))
    }
}

impl Drop for Off {
    fn drop(&mut self) {
        let mut holders = HOLDERS.lock().unwrap_or_else(PoisonError::into_inner);
        holders.0 = holders.0.saturating_sub(1);
        if holders.0 == 0 && !holders.1 {
            // Failing to clear it costs this process some speed and nothing else.
            let _ = set(false);
        }
    }
}

fn set(off: bool) -> io::Result<()> {
    // SAFETY: prctl with plain numbers.
    if unsafe { libc::prctl(libc::PR_SET_THP_DISABLE, libc::c_ulong::from(off), 0, 0, 0) } == -1 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}
