//! Which directory holds the environment of record: one for a workspace, and it stays where it lies.
//! Looks only whether files are there; what they hold is `compare`'s.

use std::path::{Path, PathBuf};

use crate::error::{Error, Result};
use crate::model::{ENVIRONMENT_FILE, SNAPSHOT_DIR};

/// Among the directories of packages: where the file lies already (approved, else pending), else `preferred`.
pub(super) fn directory<'a>(packages: impl Iterator<Item = &'a Path>, preferred: &'a Path) -> Result<PathBuf> {
    let file = |directory: &Path| directory.join(SNAPSHOT_DIR).join(ENVIRONMENT_FILE);
    let is_there = |path: &Path| path.symlink_metadata().is_ok();
    let mut all: Vec<&Path> = packages.chain([preferred]).collect();
    all.sort_unstable();
    all.dedup();
    let mut found = all.iter().filter(|directory| is_there(&file(directory)));
    match (found.next(), found.next()) {
        (Some(first), Some(second)) => Err(Error::config("there are two environments of record")
            .detail(file(first).display().to_string())
            .detail(file(second).display().to_string())
            .detail("a workspace has one: delete the other")),
        (Some(one), None) => Ok(one.to_path_buf()),
        (None, _) => {
            let waiting = all
                .iter()
                .find(|directory| is_there(&file(directory).with_extension("snap.new")));
            Ok(waiting.copied().unwrap_or(preferred).to_path_buf())
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn the_file_stays_where_it_lies() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path();
        let packages = [root.join("a"), root.join("b"), root.join("c")];
        let choose = || directory(packages.iter().map(PathBuf::as_path), &packages[1]);
        let put = |package: &str, name: &str| {
            let directory = root.join(package).join(SNAPSHOT_DIR);
            fs::create_dir_all(&directory).unwrap();
            fs::write(directory.join(name), "x").unwrap();
        };
        assert_eq!(choose().unwrap(), packages[1]);
        put("c", "environment.snap.new");
        assert_eq!(choose().unwrap(), packages[2], "pending there");
        put("a", "environment.snap");
        assert_eq!(choose().unwrap(), packages[0], "approved there");
        put("b", "environment.snap");
        let error = choose().unwrap_err().to_string();
        assert!(
            error.contains("a/memcheck/snapshots/environment.snap") && error.contains("b/memcheck"),
            "{error}"
        );
    }
}
