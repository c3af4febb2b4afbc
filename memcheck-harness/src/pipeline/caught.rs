//! A panic is a fault of this tool: it becomes an error of the case it happened in, and the other cases go on.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::error::{Error, Result};

/// Runs `work`. What it had borrowed is as far as it came.
///
/// # Errors
/// It panicked. Where, the panic hook has said already.
pub(super) fn caught<T>(work: impl FnOnce() -> T) -> Result<T> {
    catch_unwind(AssertUnwindSafe(work)).map_err(|payload| panicked(&*payload))
}

/// The error that a panic is.
#[must_use]
pub fn panicked(payload: &(dyn Any + Send)) -> Error {
    let text = payload.downcast_ref::<String>().map(String::as_str);
    let text = text.or_else(|| payload.downcast_ref::<&str>().copied());
    Error::tool(format!("the tool panicked: {}", text.unwrap_or("without a message")))
        .detail("this is a bug of cargo memcheck, not of the program; the lines of the panic tell where")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::ProblemKind;

    #[test]
    fn a_panic_is_an_error_of_the_tool() {
        assert_eq!(caught(|| 4), Ok(4));
        let title = |error: Error| {
            assert_eq!(error.kind(), ProblemKind::Tool);
            error.problem().title.clone()
        };
        let number = 7;
        let planted = caught(|| -> () { panic!("planted {number}") });
        assert_eq!(title(planted.unwrap_err()), "the tool panicked: planted 7");
        let planted = caught(|| -> () { panic!("planted") });
        assert_eq!(title(planted.unwrap_err()), "the tool panicked: planted");
        let planted = caught(|| -> () { std::panic::panic_any(1) });
        assert_eq!(title(planted.unwrap_err()), "the tool panicked: without a message");
    }
}
