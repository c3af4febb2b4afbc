//! Which directory holds the environment of record: one for a workspace, and it stays where it lies.
//! Looks only whether files are there; what they hold is `compare`'s.

use std::path::{Path, PathBuf};

use crate::error::{Error, Result};
use crate::model::{SNAPSHOT_DIR, environment_file};

/// Among the directories of packages: where a file of an environment lies already (approved, else pending), else `preferred`.
/// `names` are the environments of the file, besides the one without a name.
pub(super) fn directory<'a>(packages: impl Iterator<Item = &'a Path>, preferred: &'a Path, names: &[&str]) -> Result<PathBuf> {
    let files: Vec<String> = std::iter::once(environment_file(None))
        .chain(names.iter().map(|name| environment_file(Some(name))))
        .collect();
    let is_there = |path: PathBuf| path.symlink_metadata().is_ok();
    let file = |directory: &Path| {
        let all = files.iter().map(|file| directory.join(SNAPSHOT_DIR).join(file));
        all.into_iter().find(|path| is_there(path.clone()))
    };
    let mut all: Vec<&Path> = packages.chain([preferred]).collect();
    all.sort_unstable();
    all.dedup();
    let mut found = all.iter().filter_map(|directory| Some((directory, file(directory)?)));
    match (found.next(), found.next()) {
        (Some((_, first)), Some((_, second))) => Err(Error::config("there are two environments of record")
            .detail(first.display().to_string())
            .detail(second.display().to_string())
            .detail("a workspace keeps them in one place: delete the other")),
        (Some((one, _)), None) => Ok(one.to_path_buf()),
        (None, _) => {
            let waiting = all.iter().find(|directory| {
                let place = directory.join(SNAPSHOT_DIR);
                files.iter().any(|file| is_there(place.join(format!("{file}.new"))))
            });
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
        let choose = || directory(packages.iter().map(PathBuf::as_path), &packages[1], &["arm64"]);
        let put = |package: &str, name: &str| {
            let directory = root.join(package).join(SNAPSHOT_DIR);
            fs::create_dir_all(&directory).unwrap();
            fs::write(directory.join(name), "x").unwrap();
        };
        assert_eq!(choose().unwrap(), packages[1]);
        put("c", "environment.snap.new");
        assert_eq!(choose().unwrap(), packages[2], "pending there");
        put("a", "environment.arm64.snap");
        assert_eq!(choose().unwrap(), packages[0], "approved there, under a name");
        put("a", "environment.snap");
        put("b", "environment.snap");
        let error = choose().unwrap_err().to_string();
        assert!(
            error.contains("a/memcheck/snapshots/environment.snap") && error.contains("b/memcheck"),
            "{error}"
        );
    }
}
