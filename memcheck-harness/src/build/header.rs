//! `memcheck.h` on the include path of C fixtures: a copy of the one in `memcheck-probe`.

use std::fs::{self, Permissions};
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use crate::error::{Error, Result};

/// Makes sure that `<data_dir>/include/memcheck.h` is this version's, and gives that directory. An equal file is not
/// touched; another one is replaced in one step, since a compiler of another run may be reading it.
pub(super) fn install(data_dir: &Path) -> Result<PathBuf> {
    let dir = data_dir.join("include");
    let path = dir.join("memcheck.h");
    if fs::read(&path).is_ok_and(|text| text == memcheck_probe::HEADER.as_bytes()) {
        return Ok(dir);
    }
    fs::create_dir_all(&dir)
        .and_then(|()| {
            let mut file = tempfile::NamedTempFile::new_in(&dir)?;
            file.write_all(memcheck_probe::HEADER.as_bytes())?;
            file.as_file().set_permissions(Permissions::from_mode(0o644))?;
            file.persist(&path)?;
            Ok(())
        })
        .map_err(|error| Error::file("write", &path, &error))?;
    Ok(dir)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_old_header_is_replaced_and_an_equal_one_kept() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("include/memcheck.h");
        install(dir.path()).unwrap();
        let first = fs::metadata(&path).unwrap();
        install(dir.path()).unwrap();
        let second = fs::metadata(&path).unwrap();
        assert_eq!(first.modified().unwrap(), second.modified().unwrap());
        fs::write(&path, "old").unwrap();
        install(dir.path()).unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), memcheck_probe::HEADER);
    }
}
