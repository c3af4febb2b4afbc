//! `Base`: another commit of the project, checked out in a git worktree of its own. Owns finding the commit, the worktree's
//! place and its end; knows nothing of what is built there.
//!
//! The worktree lies outside of the project: below it, cargo would read the project's own `.cargo/config.toml` and take its
//! `Cargo.toml` for the workspace, and the base would be built with the settings of the change that is to be judged. What is
//! built from it lies in a target directory of its own below the project's.

use std::fs::{self, DirBuilder, File};
use std::io::{self, Write as _};
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use nix::fcntl::Flock;

use super::child::{self, Capture, Failure, Keep};
use super::{BuildEvent, lock, near};
use crate::error::{Error, Result};
use crate::model::{Cancel, ProblemKind};

/// What git prints that we keep.
const OUTPUT_MAX_BYTES: usize = 1 << 20;

/// Variables by which a hook of git tells its children about another repository or index: git-rev-parse(1),
/// `--local-env-vars`.
const FOREIGN: [&str; 6] = [
    "GIT_DIR",
    "GIT_WORK_TREE",
    "GIT_INDEX_FILE",
    "GIT_PREFIX",
    "GIT_COMMON_DIR",
    "GIT_OBJECT_DIRECTORY",
];

/// Names of the default branch where the remote does not tell its own.
const DEFAULT_BRANCHES: [&str; 4] = ["origin/main", "origin/master", "main", "master"];

/// Begins the name of each directory that holds a worktree of ours.
const PREFIX: &str = "cargo-memcheck-base-";

/// A commit that is checked out for as long as the value lives.
#[derive(Debug)]
pub struct Base {
    /// The project's root in the worktree.
    pub root: PathBuf,
    /// Where the base is built: never the project's own target directory.
    pub target_dir: PathBuf,
    /// How the base is called: `base 1a2b3c4d5e6f (merge-base with main)`.
    pub label: String,
    /// How the working tree is called: `working tree at 1a2b3c4d5e6f, with uncommitted changes`.
    pub head_label: String,
    /// The base is the commit of the working tree, and nothing is changed there: there is nothing to compare.
    pub same_commit: bool,
    worktree: Worktree,
}

/// Finds the commit that `reference` (without it: the default branch) means, and checks it out. A branch stands for the
/// commit where the current one left it; anything else for itself. `default_branch` is what the surroundings call it, if they do.
///
/// # Errors
/// There is no git, no repository or no such commit, or git refuses: each with its remedy.
pub fn base(
    root: &Path,
    data_dir: &Path,
    reference: Option<&str>,
    default_branch: Option<&str>,
    cancel: &Cancel,
    progress: &dyn Fn(BuildEvent),
) -> Result<Base> {
    let git = Git { dir: root, cancel };
    let top = git.top()?;
    let head = git
        .commit("HEAD")?
        .ok_or_else(|| Error::config("the repository has no commit yet: there is no base to compare with"))?;
    let (commit, how) = chosen(&git, reference, default_branch, &head)?;
    let status = git.line(&["status", "--porcelain", "--untracked-files=normal"])?;
    let changed = status.lines().any(|line| !line.starts_with("??"));
    let (dirty, what) = match (status.is_empty(), changed) {
        (true, _) => (false, ""),
        (_, true) => (true, ", with uncommitted changes"),
        // Whether the build reads them is the build's affair.
        (_, false) => (true, ", with files that git does not know"),
    };
    let inside = relative(root, &top)?;

    let directory = data_dir.join("base");
    fs::create_dir_all(&directory).map_err(|error| Error::file("create", &directory, &error))?;
    let lock = lock::acquire(&directory, cancel, progress)?;
    let worktree = Worktree::add(&git, &top, &directory, &commit, lock)?;
    let project = worktree.tree.join(inside);
    if !project.is_dir() {
        return Err(
            Error::config(format!("{} has no directory {}", short(&commit), inside.display()))
                .detail("the project began later: choose a later base with --base REF"),
        );
    }
    Ok(Base {
        root: project,
        target_dir: directory.join("target"),
        label: format!("base {}{how}", short(&commit)),
        head_label: format!("working tree at {}{what}", short(&head)),
        same_commit: head == commit && !dirty,
        worktree,
    })
}

/// The commit that last changed a file, when the working tree has it as that commit left it; `None` when it was changed since,
/// or is not in a commit. The flag says that it is the commit of the working tree and nothing else is changed either.
///
/// # Errors
/// There is no git or no repository; the clone is shallow, so that nobody can tell.
pub fn last_change(root: &Path, file: &Path, cancel: &Cancel) -> Result<Option<(String, bool)>> {
    let git = Git { dir: root, cancel };
    git.top()?;
    let path = file.display().to_string();
    if git.commit("HEAD")?.is_none() || !git.line(&["status", "--porcelain", "--", &path])?.is_empty() {
        return Ok(None);
    }
    if git.is_shallow()? {
        return Err(shallow(Error::config("git cannot tell which commit a snapshot comes from")));
    }
    let commit = git.line(&["log", "-1", "--format=%H", "--", &path])?;
    if commit.is_empty() {
        return Ok(None);
    }
    let unchanged = git.line(&["status", "--porcelain", "--untracked-files=normal"])?.is_empty();
    let head = git.commit("HEAD")?.is_some_and(|head| head == commit);
    Ok(Some((commit, unchanged && head)))
}

impl Base {
    /// Removes the worktree, as dropping does, and tells when that fails.
    ///
    /// # Errors
    /// Something of it could not be removed.
    pub fn remove(mut self) -> Result<()> {
        self.worktree.remove()
    }
}

/// The commit, and how it was found.
pub(super) fn chosen(
    git: &Git<'_>,
    reference: Option<&str>,
    default_branch: Option<&str>,
    head: &str,
) -> Result<(String, String)> {
    let (name, is_branch) = match reference {
        Some(name) => {
            if name.is_empty() || name.starts_with('-') {
                return Err(Error::config(format!("--base needs a commit, `{name}` is none")));
            }
            let Some(commit) = git.commit(name)? else {
                return Err(unknown(git, name)?);
            };
            let full = git.line(&["rev-parse", "--symbolic-full-name", "--quiet", name]);
            let full = full.unwrap_or_default();
            if name == "HEAD" || !(full.starts_with("refs/heads/") || full.starts_with("refs/remotes/")) {
                let how = if commit.starts_with(name) {
                    String::new()
                } else {
                    format!(" ({name})")
                };
                return Ok((commit, how));
            }
            (name.to_owned(), true)
        }
        None => (default(git, default_branch)?, false),
    };
    let merge_base = git.run(&["merge-base", "HEAD", &name])?;
    if !merge_base.ok {
        let error = Error::config(format!("HEAD and {name} have no commit in common"));
        return Err(if git.is_shallow()? {
            shallow(error)
        } else {
            error.detail("name the base as a commit: --base COMMIT")
        });
    }
    let commit = merge_base.text;
    let tip = git.commit(&name)?;
    let how = if is_branch && tip.as_deref() == Some(&commit) {
        format!(" ({name})")
    } else if commit == head {
        format!(" (HEAD itself, which {name} holds)")
    } else {
        format!(" (merge-base with {name})")
    };
    Ok((commit, how))
}

/// The default branch: what the surroundings say, what the remote says, or one of the usual names.
fn default(git: &Git<'_>, told: Option<&str>) -> Result<String> {
    let remote = git.run(&["symbolic-ref", "--quiet", "--short", "refs/remotes/origin/HEAD"])?;
    let told = told.filter(|name| !name.is_empty()).map(|name| format!("origin/{name}"));
    let names = told.into_iter().chain(remote.ok.then_some(remote.text));
    for name in names.chain(DEFAULT_BRANCHES.map(str::to_owned)) {
        if git.commit(&name)?.is_some() {
            return Ok(name);
        }
    }
    let error = Error::config("it is not known which branch is the default one").detail("name the base: --base REF");
    Err(if git.is_shallow()? { shallow(error) } else { error })
}

fn unknown(git: &Git<'_>, name: &str) -> Result<Error> {
    let error = Error::config(format!("git knows no commit `{name}`"));
    if git.is_shallow()? {
        return Ok(shallow(error));
    }
    let names = git.line(&[
        "for-each-ref",
        "--format=%(refname:short)",
        "refs/heads",
        "refs/remotes",
        "refs/tags",
    ])?;
    Ok(match near::hint(name, names.lines()) {
        Some(hint) => error.detail(hint),
        None => error.detail(format!(
            "a branch of the remote has to be fetched first: git fetch origin {name}"
        )),
    })
}

fn shallow(error: Error) -> Error {
    error
        .detail("this clone is shallow: it holds only the last commits")
        .detail("all of them: git fetch --unshallow; in GitHub Actions: actions/checkout with fetch-depth: 0")
}

/// The first twelve digits.
pub(super) fn short(commit: &str) -> &str {
    commit.get(..12).unwrap_or(commit)
}

/// The project's place in the repository.
pub(super) fn relative<'a>(root: &'a Path, top: &Path) -> Result<&'a Path> {
    let found = root.ancestors().find(|up| same_file(up, top));
    let inside = found.and_then(|up| root.strip_prefix(up).ok());
    inside.ok_or_else(|| {
        Error::tool(format!(
            "{} is not below {}, as git says it is",
            root.display(),
            top.display()
        ))
    })
}

fn same_file(a: &Path, b: &Path) -> bool {
    matches!((a.canonicalize(), b.canonicalize()), (Ok(a), Ok(b)) if a == b)
}

/// A checked-out commit and the lock that keeps other runs from its place.
#[derive(Debug)]
struct Worktree {
    /// Absolute path of the repository's own working tree.
    top: PathBuf,
    /// Holds the worktree and nothing else; outside of the project.
    holder: PathBuf,
    tree: PathBuf,
    removed: bool,
    _lock: Flock<File>,
}

impl Worktree {
    fn add(git: &Git<'_>, top: &Path, directory: &Path, commit: &str, lock: Flock<File>) -> Result<Self> {
        // Its place is written down before it exists: a run that is killed leaves it to the next one.
        let record = directory.join("worktree");
        let last = fs::read_to_string(&record)
            .ok()
            .map(PathBuf::from)
            .filter(|path| is_holder(path));
        if let Some(holder) = &last {
            clean(top, holder).map_err(|error| Error::file("remove", holder, &error))?;
        }
        let holder = place(last, &record)?;
        let name = top.file_name().map_or_else(|| "tree".into(), PathBuf::from);
        let worktree = Self {
            top: top.to_path_buf(),
            tree: holder.join(name),
            holder,
            removed: false,
            _lock: lock,
        };
        let path = worktree.tree.display().to_string();
        // Hooks of the project are meant for people's checkouts.
        let added = git.run(&[
            "-c",
            "core.hooksPath=/dev/null",
            "worktree",
            "add",
            "--quiet",
            "--force",
            "--detach",
            &path,
            commit,
        ])?;
        if added.ok {
            return Ok(worktree);
        }
        Err(added.error(&format!("git could not check out {}", short(commit))))
    }

    fn remove(&mut self) -> Result<()> {
        if self.removed {
            return Ok(());
        }
        self.removed = true;
        clean(&self.top, &self.holder).map_err(|error| Error::file("remove", &self.holder, &error))
    }
}

impl Drop for Worktree {
    fn drop(&mut self) {
        // The next run tries again and reports what stands in the way.
        let _ = self.remove();
    }
}

fn is_holder(path: &Path) -> bool {
    path.is_absolute()
        && path
            .file_name()
            .and_then(|name| name.to_str())
            .is_some_and(|name| name.starts_with(PREFIX))
}

/// A directory that only we may enter: the last one's name when it is free, since cargo then finds what it built before.
fn place(last: Option<PathBuf>, record: &Path) -> Result<PathBuf> {
    let again = last.filter(|path| DirBuilder::new().mode(0o700).create(path).is_ok());
    let holder = match again {
        Some(holder) => holder,
        None => tempfile::Builder::new()
            .prefix(PREFIX)
            .tempdir()
            .map_err(|error| Error::tool(format!("could not create a directory for the base: {error}")))?
            .keep(),
    };
    let written = File::create(record).and_then(|mut file| {
        file.write_all(holder.as_os_str().as_encoded_bytes())?;
        file.sync_all()
    });
    match written {
        Ok(()) => Ok(holder),
        Err(error) => {
            let _ = fs::remove_dir(&holder);
            Err(Error::file("write", record, &error))
        }
    }
}

/// Removes a worktree with its holder, and what the repository remembers of it: of this one alone, as another worktree of
/// the user may be absent only for now. Runs to its end whatever was asked of us: it leaves nothing half done.
fn clean(top: &Path, holder: &Path) -> io::Result<()> {
    // As git wrote it down; what is gone already was most likely written down as it is named here.
    let real = holder.canonicalize().unwrap_or_else(|_| holder.to_path_buf());
    match fs::remove_dir_all(holder) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let git = Git {
        dir: top,
        cancel: &Cancel::new(),
    };
    // What stays behind here is a few lines in .git/worktrees that git itself prunes in time.
    if let Ok(answer) = git.run(&["rev-parse", "--git-common-dir"])
        && answer.ok
        && let Ok(known) = fs::read_dir(top.join(&answer.text).join("worktrees"))
    {
        for entry in known.flatten() {
            let place = fs::read_to_string(entry.path().join("gitdir")).unwrap_or_default();
            if [holder, &real]
                .iter()
                .any(|holder| Path::new(place.trim_end()).starts_with(holder))
            {
                let _ = fs::remove_dir_all(entry.path());
            }
        }
    }
    Ok(())
}

/// Git in a directory.
pub(super) struct Git<'a> {
    pub(super) dir: &'a Path,
    pub(super) cancel: &'a Cancel,
}

/// What git said.
pub(super) struct Answer {
    pub(super) ok: bool,
    /// Without blanks at its ends.
    text: String,
}

impl Answer {
    /// An error in git's own words.
    fn error(&self, title: &str) -> Error {
        let lines = self.text.lines().take(20);
        lines.fold(Error::config(title), |error, line| error.detail(format!("  {line}")))
    }
}

impl Git<'_> {
    pub(super) fn run(&self, args: &[&str]) -> Result<Answer> {
        let finished = self.finish(args, Capture::Both, OUTPUT_MAX_BYTES)?;
        Ok(Answer {
            ok: finished.status.success(),
            text: String::from_utf8_lossy(&finished.output).trim().to_owned(),
        })
    }

    /// What git prints when it succeeds, byte for byte.
    pub(super) fn bytes(&self, args: &[&str], most: usize) -> Result<Vec<u8>> {
        let finished = self.finish(args, Capture::Stdout, most)?;
        if !finished.status.success() || finished.cut {
            let why = if finished.cut { "printed too much" } else { "failed" };
            return Err(Error::tool(format!("git {} {why}", args.first().unwrap_or(&""))));
        }
        Ok(finished.output)
    }

    #[expect(clippy::disallowed_methods, reason = "git is one of the programs that build starts")]
    fn finish(&self, args: &[&str], capture: Capture, most: usize) -> Result<child::Finished> {
        let mut command = Command::new("git");
        command
            .arg("--no-optional-locks")
            .args(args)
            .current_dir(self.dir)
            .env("LC_ALL", "C");
        for name in FOREIGN {
            command.env_remove(name);
        }
        match child::run(command, capture, Keep::First(most), self.cancel) {
            Ok(finished) => Ok(finished),
            Err(Failure::Start(error)) if error.kind() == io::ErrorKind::NotFound => {
                Err(Error::machine("comparing with a commit needs git, and there is none on PATH")
                    .detail("install git, or compare two builds: cargo memcheck compare OLD NEW"))
            }
            Err(failure) => {
                let error = failure.into_error("git");
                Err(match error.kind() {
                    ProblemKind::Interrupted(_) => error,
                    _ => Error::tool(error.problem().title.clone()),
                })
            }
        }
    }

    /// What git says when it succeeds.
    fn line(&self, args: &[&str]) -> Result<String> {
        let answer = self.run(args)?;
        if answer.ok {
            Ok(answer.text)
        } else {
            Err(answer.error(&format!("git {} failed", args.first().unwrap_or(&""))))
        }
    }

    pub(super) fn top(&self) -> Result<PathBuf> {
        let answer = self.run(&["rev-parse", "--show-toplevel"])?;
        if answer.ok && !answer.text.is_empty() {
            return Ok(PathBuf::from(answer.text));
        }
        let here = self.dir.display();
        if answer.text.contains("not a git repository") {
            return Err(
                Error::config(format!("{here} is not in a git repository: there is no base to compare with"))
                    .detail("two builds: cargo memcheck compare OLD NEW"),
            );
        }
        Err(answer.error(&format!("git does not give the working tree of {here}")))
    }

    /// The full name of a commit; `None` when there is none of that name.
    pub(super) fn commit(&self, name: &str) -> Result<Option<String>> {
        let answer = self.run(&["rev-parse", "--verify", "--quiet", &format!("{name}^{{commit}}")])?;
        Ok((answer.ok && !answer.text.is_empty()).then_some(answer.text))
    }

    fn is_shallow(&self) -> Result<bool> {
        Ok(self.line(&["rev-parse", "--is-shallow-repository"])? == "true")
    }
}
