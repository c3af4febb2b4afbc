//! A pending change that was made elsewhere (a job's artifact) and comes as bytes: checked as a pending file is, and approved
//! through the same door. Which bytes may become which file is the command's to decide.

use std::path::{Path, PathBuf};

use super::pending::{self, Pending};
use super::write::write_whole;
use super::{file, unified};
use crate::error::{Error, Result};
use crate::model::Snapshot;
use crate::normalize;

/// A checked change that lies nowhere yet.
#[derive(Clone, Debug)]
pub struct Incoming {
    /// The approved file it would become.
    pub target: PathBuf,
    /// Its text without header.
    pub text: String,
    /// The approved text, if there is one.
    pub approved: Option<String>,
    /// Name of the environment it says it was measured in.
    pub environment: Option<String>,
    bytes: Vec<u8>,
}

impl Incoming {
    /// The states of the approved text and of the incoming one, where both can be read.
    #[must_use]
    pub fn states(&self) -> Option<(Snapshot, Snapshot)> {
        let approved = normalize::parse(self.approved.as_deref()?).ok()?;
        Some((approved, normalize::parse(&self.text).ok()?))
    }

    /// True when this is approved already.
    #[must_use]
    pub fn is_approved(&self) -> bool {
        self.approved.as_ref() == Some(&self.text)
    }

    /// As a unified difference; a new one is all added lines.
    #[must_use]
    pub fn change(&self) -> String {
        unified(self.approved.as_deref().unwrap_or_default(), &self.text)
    }
}

/// Checks bytes that would be the pending file of `target`.
///
/// # Errors
/// They are no snapshot file, their text is of another case than the file's name says, or the approved file is damaged or a link.
pub fn incoming(target: &Path, bytes: &[u8]) -> Result<Incoming> {
    let mut path = target.to_path_buf();
    path.as_mut_os_string().push(".new");
    let file = file::parse(bytes.to_vec(), &path.display().to_string())?;
    file::refuse_links(target)?;
    let approved = file::read(target)?.map(|file| file.text);
    let candidate = Pending {
        target: target.to_path_buf(),
        path,
        text: file.text.clone(),
        approved: approved.clone(),
        damage: None,
    };
    pending::check_content(&candidate)?;
    let environment = file.header.iter().find_map(|line| line.strip_prefix("  environment: "));
    Ok(Incoming {
        target: candidate.target,
        text: file.text.clone(),
        approved,
        environment: environment.map(|name| name.trim_matches('"').to_owned()),
        bytes: file::accepted_bytes(&file),
    })
}

/// Makes it the approved one; a pending file that lies beside it is outdated by that, and goes.
///
/// # Errors
/// The approved file was changed since it was looked at, is damaged or a link, or writing fails.
pub fn accept_incoming(incoming: &Incoming) -> Result<()> {
    let target = &incoming.target;
    if file::read(target)?.map(|file| file.text) != incoming.approved {
        return Err(Error::tool(format!("{} has changed since it was shown", target.display())).detail("look at it again"));
    }
    write_whole(target, &incoming.bytes)?;
    let mut beside = target.clone();
    beside.as_mut_os_string().push(".new");
    pending::remove(&beside)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    const SNAP: &[u8] = b"---\nsource: memcheck.toml\nassertion_line: 3\ninfo:\n  environment: default\n---\ncase a\n\ncheckpoint x (KiB, sum of the row)\n  threads 1\n\nend of case a\n";

    #[test]
    fn checked_shown_and_approved() {
        let dir = tempfile::tempdir().unwrap();
        let target = dir.path().join("memcheck/snapshots/a.snap");
        let one = incoming(&target, SNAP).unwrap();
        assert_eq!((one.approved.as_deref(), one.environment.as_deref()), (None, Some("default")));
        assert!(one.change().contains("+case a"));
        accept_incoming(&one).unwrap();
        let written = fs::read_to_string(&target).unwrap();
        assert!(
            !written.contains("assertion_line") && written.ends_with("end of case a\n"),
            "{written}"
        );
        assert!(incoming(&target, SNAP).unwrap().is_approved());
        assert!(accept_incoming(&one).unwrap_err().to_string().contains("has changed"));
    }

    #[test]
    fn bytes_of_another_case_or_of_none_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        let why = |name: &str, bytes: &[u8]| incoming(&dir.path().join(name), bytes).unwrap_err().to_string();
        assert!(why("b.snap", SNAP).contains("another case"));
        assert!(why("a.snap", b"x").contains("no insta header"));
        assert!(why("a.snap", &[0xff]).contains("not UTF-8"));
        assert!(why("environment.snap", SNAP).contains("not `environment"));
    }

    #[cfg(unix)]
    #[test]
    fn no_link_is_written_through() {
        let dir = tempfile::tempdir().unwrap();
        let victim = dir.path().join("victim");
        fs::write(&victim, SNAP).unwrap();
        std::os::unix::fs::symlink(&victim, dir.path().join("a.snap")).unwrap();
        assert!(
            incoming(&dir.path().join("a.snap"), SNAP)
                .unwrap_err()
                .to_string()
                .contains("symbolic link")
        );
        assert_eq!(fs::read(&victim).unwrap(), SNAP);
    }
}
