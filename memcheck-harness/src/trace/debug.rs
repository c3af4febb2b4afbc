//! Where a program's debug information lies when it was split off: by build-id, or by the name the program gives, as gdb looks
//! for it (gdb manual, "Debugging Information in Separate Files").

use std::fs::File;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use crate::elf;

/// Where distributions install it.
const ROOT: &str = "/usr/lib/debug";

/// The debug file of a program at `path`, if there is one that belongs to it.
pub(super) fn file_of(program: &File, path: &Path) -> Option<File> {
    let id = elf::facts(program).ok()?.build_id;
    let link = elf::debug_link(program).ok().flatten();
    let link = link.as_ref().map(|name| std::ffi::OsStr::from_bytes(name.as_bytes()));
    candidates(path, id.as_deref(), link.map(Path::new))
        .into_iter()
        .filter(|candidate| candidate != path && candidate.is_file())
        .filter_map(|candidate| File::open(candidate).ok())
        .find(|file| elf::facts(file).is_ok_and(|facts| facts.build_id == id))
}

fn candidates(path: &Path, id: Option<&str>, link: Option<&Path>) -> Vec<PathBuf> {
    let mut all = Vec::new();
    if let Some((first, rest)) = id.and_then(|id| id.split_at_checked(2)) {
        all.push(PathBuf::from(format!("{ROOT}/.build-id/{first}/{rest}.debug")));
    }
    if let (Some(link), Some(directory)) = (link, path.parent()) {
        all.push(directory.join(link));
        all.push(directory.join(".debug").join(link));
        all.push(
            Path::new(ROOT)
                .join(directory.strip_prefix("/").unwrap_or(directory))
                .join(link),
        );
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_places_are_those_of_gdb() {
        let all = candidates(Path::new("/opt/app/tool"), Some("ab12cd"), Some(Path::new("tool.debug")));
        let all: Vec<String> = all.into_iter().map(|path| path.display().to_string()).collect();
        assert_eq!(
            all,
            [
                "/usr/lib/debug/.build-id/ab/12cd.debug",
                "/opt/app/tool.debug",
                "/opt/app/.debug/tool.debug",
                "/usr/lib/debug/opt/app/tool.debug"
            ]
        );
        assert!(candidates(Path::new("/opt/app/tool"), None, None).is_empty());
    }
}
