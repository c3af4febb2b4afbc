//! Ctrl-C and its kin → the shared wish to stop. Each loop that can take long looks at the wish; nothing is torn down here.

use crate::error::{Error, Result};
use crate::model::Cancel;
use crate::sys;

/// Makes SIGINT, SIGTERM, SIGHUP and SIGQUIT of this process set `cancel`; a second one ends the process at once, and the
/// kernel then kills whatever is traced. For the command: a library that is one test among others leaves signals alone.
///
/// # Errors
/// The kernel refused a handler.
pub fn on_signals(cancel: &Cancel) -> Result<()> {
    sys::interrupt::on_signals(cancel).map_err(|errno| Error::tool(format!("could not handle signals: {errno}")))
}
