//! Signals that ask the tool itself to stop: they set the shared wish, a second one ends the process at once.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};

use nix::errno::Errno;
use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, sigaction};

use crate::model::Cancel;

static CANCEL: OnceLock<Cancel> = OnceLock::new();
static ASKED: AtomicBool = AtomicBool::new(false);

extern "C" fn ask(signal: libc::c_int) {
    if ASKED.swap(true, Ordering::SeqCst) {
        // SAFETY: _exit is async-signal-safe. Targets die with us: they are traced with PTRACE_O_EXITKILL.
        unsafe { libc::_exit(128 + signal) }
    }
    // Reading an initialised OnceLock and storing to an atomic are async-signal-safe.
    if let Some(cancel) = CANCEL.get() {
        cancel.cancel(signal);
    }
}

/// Makes SIGINT, SIGTERM, SIGHUP and SIGQUIT set `cancel` (the first call's, for the life of the process). A signal that is
/// ignored, as nohup(1) does with SIGHUP, stays ignored.
///
/// # Errors
/// `sigaction` refused, which it does not for these signals.
pub(crate) fn on_signals(cancel: &Cancel) -> Result<(), Errno> {
    let _ = CANCEL.set(cancel.clone());
    let action = SigAction::new(SigHandler::Handler(ask), SaFlags::empty(), SigSet::empty());
    for signal in [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP, Signal::SIGQUIT] {
        // SAFETY: the handler only touches atomics and calls _exit.
        let old = unsafe { sigaction(signal, &action) }?;
        if matches!(old.handler(), SigHandler::SigIgn) {
            // SAFETY: puts back what was there.
            unsafe { sigaction(signal, &old) }?;
        }
    }
    Ok(())
}
