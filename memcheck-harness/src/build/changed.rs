//! The files that differ between a commit and the working tree, as bytes of both sides. Owns asking git; what the bytes mean is
//! others'. Nothing is checked out.

use std::collections::BTreeSet;
use std::fs;
use std::io::Read as _;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use super::base::{Git, chosen, relative, short};
use crate::error::{Error, Result};
use crate::model::{Cancel, Name};

/// No file that judges a run is larger, bytes.
const FILE_BYTES_MAX: usize = 4 << 20;

/// What differs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Changed {
    /// How the base is called: `base 1a2b3c4d5e6f (merge-base with main)`.
    pub label: String,
    /// Where the project lies in the repository, `/`-separated, empty at its root.
    pub inside: String,
    /// The files, by path.
    pub files: Vec<ChangedFile>,
}

/// One file that is not the same on both sides.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChangedFile {
    /// Path from the root of the repository, `/`-separated.
    pub path: String,
    /// Its bytes at the base; absent when there was no such file.
    pub old: Option<Vec<u8>>,
    /// Its bytes in the working tree; absent when there is no such regular file.
    pub new: Option<Vec<u8>>,
}

/// The files that `wanted` asks for (with where the project lies and their path) and that are not what they are in the commit that
/// `reference` means: see [`super::base()`]. Files that git does not know yet count as new.
///
/// # Errors
/// There is no git, no repository or no such commit, or a file is larger than 4 MiB or has a name that is no text.
pub fn changed(
    root: &Path,
    reference: Option<&str>,
    default_branch: Option<&str>,
    wanted: &dyn Fn(&str, &str) -> bool,
    cancel: &Cancel,
) -> Result<Changed> {
    let here = Git { dir: root, cancel };
    let top = here.top()?;
    let git = Git { dir: &top, cancel };
    let head = git
        .commit("HEAD")?
        .ok_or_else(|| Error::config("the repository has no commit yet: there is no base to compare with"))?;
    let (commit, how) = chosen(&git, reference, default_branch, &head)?;
    let inside = relative(root, &top)?
        .to_str()
        .ok_or_else(|| no_text(root.as_os_str().as_bytes()))?
        .to_owned();
    // Names only, of the tree as it lies there: neither renames nor attributes of the change have a say.
    let lists: [&[&str]; 2] = [
        &["diff", "--name-only", "--no-renames", "--no-ext-diff", "-z", &commit, "--"],
        &["ls-files", "--others", "--exclude-standard", "-z"],
    ];
    let mut paths = BTreeSet::new();
    for args in lists {
        let bytes = git.bytes(args, 64 << 20)?;
        for name in bytes.split(|byte| *byte == 0).filter(|name| !name.is_empty()) {
            let text = String::from_utf8_lossy(name);
            if wanted(&inside, &text) {
                // Nobody can ask git for it by another name.
                let path = std::str::from_utf8(name).map_err(|_| no_text(name))?;
                paths.insert(path.to_owned());
            }
        }
    }
    let mut files = Vec::new();
    for path in paths {
        let old = git.blob(&commit, &path)?;
        let new = plain(&top.join(&path))?;
        if old != new {
            files.push(ChangedFile { path, old, new });
        }
    }
    Ok(Changed {
        label: format!("base {}{how}", short(&commit)),
        inside,
        files,
    })
}

fn no_text(name: &[u8]) -> Error {
    Error::config(format!(
        "the name {} is no text (UTF-8): what stands there cannot be told",
        Name::new(name)
    ))
}

fn plain(path: &PathBuf) -> Result<Option<Vec<u8>>> {
    if !fs::symlink_metadata(path).is_ok_and(|found| found.is_file()) {
        return Ok(None);
    }
    let failed = |error| Error::file("read", path, &error);
    let mut bytes = Vec::new();
    let file = fs::File::open(path).map_err(failed)?;
    file.take(FILE_BYTES_MAX as u64 + 1).read_to_end(&mut bytes).map_err(failed)?;
    if bytes.len() > FILE_BYTES_MAX {
        return Err(Error::config(format!("{} is larger than 4 MiB", path.display())));
    }
    Ok(Some(bytes))
}

impl Git<'_> {
    /// A file of a commit; `None` when it has no such file.
    fn blob(&self, commit: &str, path: &str) -> Result<Option<Vec<u8>>> {
        let name = format!("{commit}:{path}");
        if !self.run(&["cat-file", "-e", &name])?.ok {
            return Ok(None);
        }
        let bytes = self.bytes(&["cat-file", "blob", &name], FILE_BYTES_MAX)?;
        Ok(Some(bytes))
    }
}
