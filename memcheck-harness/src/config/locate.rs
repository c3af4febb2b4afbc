//! Where `memcheck.toml` is: upwards from a directory, there or in `.config/`.
//! Owns the search and the reading of the file, with its bounds.

use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use crate::error::{Error, Result};

use super::Source;

/// The file's name.
pub(super) const FILE: &str = "memcheck.toml";

/// The directory beside it that may hold it.
const CONFIG_DIR: &str = ".config";

/// Largest file that is read, bytes.
pub(super) const MAX_BYTES: u64 = 1 << 20;

/// Looks from `start` upwards and reads what it finds first.
pub(super) fn locate(start: &Path) -> Result<Option<Source>> {
    let start = std::path::absolute(start).map_err(|error| Error::file("find", start, &error))?;
    for dir in start.ancestors() {
        // From within `.config` the file there is found one directory up, with that directory as its root.
        let plain = Some(dir.join(FILE)).filter(|path| dir.file_name().is_none_or(|name| name != CONFIG_DIR) && path.is_file());
        let hidden = Some(dir.join(CONFIG_DIR).join(FILE)).filter(|path| path.is_file());
        if let (None, None) = (&plain, &hidden) {
            let directory = [dir.join(FILE), dir.join(CONFIG_DIR).join(FILE)];
            if let Some(directory) = directory.into_iter().find(|path| path.is_dir()) {
                return Err(Error::config(format!("{} is a directory", directory.display()))
                    .detail("  help: a configuration is a file of that name: move the directory away"));
            }
        }
        match (plain, hidden) {
            (Some(plain), Some(hidden)) => {
                return Err(Error::config(format!("there are two configurations in {}", dir.display()))
                    .detail(format!("  {}", plain.display()))
                    .detail(format!("  {}", hidden.display()))
                    .detail("  help: remove one of them"));
            }
            (Some(path), None) | (None, Some(path)) => {
                let text = read(&path)?;
                return Ok(Some(Source {
                    root: dir.to_path_buf(),
                    path,
                    text,
                }));
            }
            (None, None) => {}
        }
    }
    Ok(None)
}

fn read(path: &PathBuf) -> Result<String> {
    let failed = |error| Error::file("read", path, &error);
    let mut bytes = Vec::new();
    File::open(path)
        .and_then(|file| file.take(MAX_BYTES + 1).read_to_end(&mut bytes))
        .map_err(failed)?;
    if bytes.len() as u64 > MAX_BYTES {
        return Err(too_large(path));
    }
    String::from_utf8(bytes).map_err(|error| {
        let valid = error.utf8_error().valid_up_to();
        let line = error.as_bytes().iter().take(valid).filter(|b| **b == b'\n').count() + 1;
        Error::config(format!("{}:{line}: the file is not UTF-8", path.display()))
    })
}

/// The error for a file that is too large.
pub(super) fn too_large(path: &Path) -> Error {
    Error::config(format!("{} is larger than 1 MiB", path.display())).detail("  help: a configuration of that size is a mistake")
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn project() -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir_all(dir.path().join("a/b")).unwrap();
        fs::create_dir_all(dir.path().join(".config")).unwrap();
        dir
    }

    #[test]
    fn the_file_is_found_upwards_in_both_places() {
        let dir = project();
        fs::write(dir.path().join("memcheck.toml"), "# one\n").unwrap();
        let source = locate(&dir.path().join("a/b")).unwrap().unwrap();
        assert_eq!((source.root.as_path(), source.text.as_str()), (dir.path(), "# one\n"));
        fs::rename(dir.path().join("memcheck.toml"), dir.path().join(".config/memcheck.toml")).unwrap();
        for start in ["a/b", ".config", "."] {
            let source = locate(&dir.path().join(start)).unwrap().unwrap();
            assert_eq!(source.root, dir.path(), "{start}");
            assert!(source.path.ends_with(".config/memcheck.toml"));
        }
    }

    #[test]
    fn both_files_are_an_error() {
        let dir = project();
        fs::write(dir.path().join("memcheck.toml"), "").unwrap();
        fs::write(dir.path().join(".config/memcheck.toml"), "").unwrap();
        let error = locate(&dir.path().join("a")).unwrap_err();
        assert!(error.to_string().contains("two configurations"), "{error}");
    }

    #[test]
    fn huge_and_binary_files_are_refused() {
        let dir = project();
        let path = dir.path().join("memcheck.toml");
        fs::write(&path, "#".repeat((1 << 20) + 1)).unwrap();
        assert!(locate(dir.path()).unwrap_err().to_string().contains("larger than 1 MiB"));
        fs::write(&path, b"a = 1\n\xff\n").unwrap();
        assert!(
            locate(dir.path())
                .unwrap_err()
                .to_string()
                .ends_with(":2: the file is not UTF-8")
        );
    }

    #[test]
    fn a_directory_of_that_name_is_no_configuration() {
        let dir = project();
        fs::create_dir(dir.path().join("memcheck.toml")).unwrap();
        let error = locate(&dir.path().join("a")).unwrap_err();
        assert!(error.to_string().contains("memcheck.toml is a directory"), "{error}");
        fs::write(dir.path().join(".config/memcheck.toml"), "# two\n").unwrap();
        assert_eq!(locate(dir.path()).unwrap().unwrap().text, "# two\n");
    }
}
