//! The hardening policy of a case held against the files it had loaded at its checkpoints.

use crate::model::{Case, Hardened, KeptCapture, Object};
use crate::{budget, config};

/// Judges the files of the captures at these checkpoints (by index), each file where it is first loaded. Files of child
/// processes are none of the case's.
pub(crate) fn hardening<'a>(case: &Case, captures: impl Iterator<Item = (usize, &'a KeptCapture)>) -> Hardened {
    let is_of_target = |index: usize| case.checkpoints.get(index).is_some_and(|spec| spec.child.is_none());
    let files = captures.filter(|(index, _)| is_of_target(*index)).flat_map(|(_, kept)| {
        let file = |object: &'a Object| (object, kept.own.contains(&object.path));
        kept.capture.objects.iter().map(file)
    });
    budget::hardening(&case.elf, files, &config::is_of_file)
}
