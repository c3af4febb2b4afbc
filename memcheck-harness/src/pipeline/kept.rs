//! What is kept of a measurement, so that it can be judged again elsewhere.

use std::collections::BTreeSet;

use crate::model::{AppliedSetting, Capture, KeptCapture, Name};

/// A capture with what its classification asked besides.
pub(super) fn kept(capture: Capture, own: &(dyn Fn(&Name) -> bool + Sync)) -> KeptCapture {
    let paths = capture.objects.iter().map(|object| &object.path);
    let own: BTreeSet<Name> = paths.filter(|path| own(path)).cloned().collect();
    KeptCapture {
        own: own.into_iter().collect(),
        capture,
    }
}

/// Without randomisation the main stack has one size; a launch as it is here does not ask for that.
pub(super) fn main_stack_is_fixed(settings: &[AppliedSetting]) -> bool {
    settings.iter().any(|s| s.name == "aslr" && s.refused.is_none())
}
