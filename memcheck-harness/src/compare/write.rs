//! Writing a file whole or not at all. Which files are written, and with what, is the other files' business.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use crate::error::{Error, Result};

/// Writes a file so that it is there whole or not at all: exclusive temporary in the same directory, fsync, rename, fsync
/// of the directory. Missing directories are made. The old file stays as it is on any failure, and is replaced rather than
/// written into, so a second name (hard link) of it keeps the old bytes.
///
/// # Errors
/// The target is a symbolic link or no regular file, or the file system refuses.
pub fn write_whole(path: &Path, bytes: &[u8]) -> Result<()> {
    match fs::symlink_metadata(path) {
        Ok(found) if found.file_type().is_symlink() => {
            return Err(
                Error::tool(format!("could not write {}: it is a symbolic link", path.display()))
                    .detail("files are not written through links: put a plain file there or delete it"),
            );
        }
        Ok(found) if !found.is_file() => {
            return Err(Error::tool(format!(
                "could not write {}: it is no regular file",
                path.display()
            )));
        }
        _ => {}
    }
    let directory = match path.parent() {
        Some(parent) if parent != Path::new("") => parent,
        _ => Path::new("."),
    };
    fs::create_dir_all(directory).map_err(|error| Error::file("create", directory, &error))?;
    let (temporary, file) = exclusive(directory, path).map_err(|error| Error::file("write", path, &error))?;
    let written = fill(file, bytes).and_then(|()| fs::rename(&temporary, path));
    if let Err(error) = written {
        // The failure that matters is the first; what could not be cleaned up is a hidden file.
        let _ = fs::remove_file(&temporary);
        return Err(Error::file("write", path, &error));
    }
    // The file is in place; a file system that cannot sync a directory is no reason to call it missing.
    let _ = File::open(directory).and_then(|directory| directory.sync_all());
    Ok(())
}

fn fill(mut file: File, bytes: &[u8]) -> io::Result<()> {
    file.write_all(bytes)?;
    file.sync_all()
}

/// A new file beside the target. `create_new` (`O_CREAT | O_EXCL`) neither opens what exists nor follows a link: open(2).
fn exclusive(directory: &Path, path: &Path) -> io::Result<(PathBuf, File)> {
    let name = path
        .file_name()
        .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "the path has no file name"))?;
    let mut attempt = 0;
    loop {
        let mut temporary = std::ffi::OsString::from(".");
        temporary.push(name);
        temporary.push(format!(".{}-{attempt}.tmp", std::process::id()));
        let temporary = directory.join(temporary);
        match OpenOptions::new().write(true).create_new(true).open(&temporary) {
            Ok(file) => return Ok((temporary, file)),
            // Another thread of ours, or what a process with our number left behind.
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists && attempt < 64 => attempt += 1,
            Err(error) => return Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(directory: &Path) -> Vec<String> {
        let mut names: Vec<String> = fs::read_dir(directory)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    #[test]
    fn missing_directories_are_made_and_old_bytes_replaced() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("memcheck/snapshots/a.snap");
        write_whole(&path, b"one").unwrap();
        write_whole(&path, b"two").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"two");
        assert_eq!(names(path.parent().unwrap()), ["a.snap"], "no temporary is left");
    }

    #[test]
    fn a_failure_leaves_what_was_there() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("file");
        fs::write(&file, "kept").unwrap();
        let below_a_file = write_whole(&file.join("a.snap"), b"x").unwrap_err().to_string();
        assert!(below_a_file.starts_with("could not create"), "{below_a_file}");
        fs::create_dir(dir.path().join("a.snap")).unwrap();
        assert!(write_whole(&dir.path().join("a.snap"), b"x").is_err());
        assert!(write_whole(Path::new("/proc/self/a.snap"), b"x").is_err());
        assert_eq!(fs::read(&file).unwrap(), b"kept");
        assert_eq!(names(dir.path()), ["a.snap", "file"]);
    }

    #[cfg(unix)]
    #[test]
    fn links_are_not_written_through() {
        let dir = tempfile::tempdir().unwrap();
        let victim = dir.path().join("victim");
        fs::write(&victim, "kept").unwrap();
        let link = dir.path().join("a.snap");
        std::os::unix::fs::symlink(&victim, &link).unwrap();
        assert!(write_whole(&link, b"x").unwrap_err().to_string().contains("symbolic link"));
        assert_eq!(fs::read(&victim).unwrap(), b"kept");
        // A link planted under the temporary's name is passed by.
        let planted = dir.path().join(format!(".b.snap.{}-0.tmp", std::process::id()));
        std::os::unix::fs::symlink(&victim, &planted).unwrap();
        write_whole(&dir.path().join("b.snap"), b"x").unwrap();
        assert_eq!(fs::read(&victim).unwrap(), b"kept");
    }

    #[test]
    fn writers_at_the_same_time_leave_one_whole_file() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.snap");
        std::thread::scope(|scope| {
            for byte in 0..8_u8 {
                let path = &path;
                scope.spawn(move || write_whole(path, &[byte; 5000]).unwrap());
            }
        });
        let bytes = fs::read(&path).unwrap();
        assert_eq!(bytes, vec![bytes[0]; 5000]);
    }
}
