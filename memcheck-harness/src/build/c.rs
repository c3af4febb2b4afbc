//! C fixtures: one compilation per source, a link, and a cache by content.
//! Flags are exactly `-O1 -g`, the case's own, and what the tool needs to be repeatable: the environment's `CFLAGS` are not
//! read, since they would make two machines measure two programs.

use std::collections::{BTreeMap, BTreeSet};
use std::env::consts::ARCH;
use std::ffi::OsString;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::SystemTime;

use super::child::{self, Capture, Finished, Keep};
use super::command::{near_files, not_started};
use super::compiler::{self, Compiler, package_of, toolchain};
use super::hash::Digest;
use super::tools::Tools;
use super::{BuildEvent, Program, header};
use crate::error::{Error, Result};
use crate::model::{Cancel, Plan};

/// Part of every key: raised when the way of building changes.
const RECIPE: &str = "1";
/// Before the case's own flags, which therefore win.
const DEFAULT_FLAGS: [&str; 2] = ["-O1", "-g"];
/// Lines of a compiler's messages that are shown.
const SHOWN_LINES: usize = 200;
/// How often a build is repeated when its inputs were written while it ran.
const ATTEMPTS: usize = 3;

/// Builds C programs; asks each compiler once who it is.
pub(super) struct Compilers<'a> {
    plan: &'a Plan,
    tools: &'a Tools,
    cancel: &'a Cancel,
    progress: &'a dyn Fn(BuildEvent),
    known: BTreeMap<Option<String>, Result<Compiler>>,
}

/// Everything that decides what comes out.
struct Recipe<'a> {
    compiler: Compiler,
    sources: &'a [PathBuf],
    cflags: &'a [String],
    ldflags: &'a [String],
    include: PathBuf,
    /// `c` below the data directory.
    store: PathBuf,
    /// Name of the program: the first source's, in plain characters.
    stem: String,
}

impl<'a> Compilers<'a> {
    pub(super) fn new(plan: &'a Plan, tools: &'a Tools, cancel: &'a Cancel, progress: &'a dyn Fn(BuildEvent)) -> Self {
        Self {
            plan,
            tools,
            cancel,
            progress,
            known: BTreeMap::new(),
        }
    }

    /// The program of these sources (relative to the root), from the cache where nothing changed.
    pub(super) fn build(
        &mut self,
        sources: &[PathBuf],
        cflags: &[String],
        ldflags: &[String],
        compiler: Option<&str>,
    ) -> Result<Program> {
        let Some(first) = sources.first() else {
            return Err(Error::config(
                "a C target needs at least one source: target = { c = \"main.c\" }",
            ));
        };
        for source in sources {
            check_source(&self.plan.root, source)?;
        }
        let store = self.plan.data_dir.join("c");
        fs::create_dir_all(&store).map_err(|error| Error::file("create", &store, &error))?;
        let recipe = Recipe {
            compiler: self.compiler(compiler, &store)?,
            sources,
            cflags,
            ldflags,
            include: header::install(&self.plan.data_dir)?,
            store,
            stem: plain_stem(first),
        };
        Ok(Program {
            path: self.cached(&recipe)?,
            label: first.display().to_string(),
            toolchain: recipe.compiler.version.as_deref().map(toolchain),
            argv0: recipe.stem,
            fresh: true,
        })
    }

    fn compiler(&mut self, chosen: Option<&str>, scratch: &Path) -> Result<Compiler> {
        let key = chosen.map(str::to_owned);
        if let Some(compiler) = self.known.get(&key) {
            return compiler.clone();
        }
        let compiler = compiler::find(chosen, &self.plan.root, scratch, self.tools, self.cancel);
        self.known.insert(key, compiler.clone());
        compiler
    }

    /// Looks the program up by everything it was made of, and builds it if there is none.
    fn cached(&self, recipe: &Recipe<'_>) -> Result<PathBuf> {
        let record = recipe
            .store
            .join(format!("{}-{}.deps", recipe.stem, recipe.fixed_key().hex()));
        // Headers of the last build. A source that now includes another one has changed itself, so it is missed anyway.
        let headers: BTreeSet<PathBuf> = fs::read_to_string(&record)
            .unwrap_or_default()
            .lines()
            .map(PathBuf::from)
            .collect();
        let program = self.place(recipe, &headers)?;
        if program.is_file() {
            return Ok(program);
        }
        (self.progress)(BuildEvent::Started {
            verb: "Compiling",
            what: format!("{} ({})", recipe.sources[0].display(), recipe.compiler.name()),
        });
        let mut attempt = 1;
        loop {
            let started = SystemTime::now();
            let scratch = tempfile::Builder::new()
                .prefix("building-")
                .tempdir_in(&recipe.store)
                .map_err(|error| Error::file("create", &recipe.store, &error))?;
            let headers = self.compile(recipe, scratch.path())?;
            // Written while the compiler read it: nobody knows which state went in.
            let inputs = recipe.sources.iter().chain(&headers).map(|file| self.plan.root.join(file));
            if attempt < ATTEMPTS && inputs.into_iter().any(|file| modified_since(&file, started)) {
                attempt += 1;
                continue;
            }
            let program = self.place(recipe, &headers)?;
            let list: String = headers.iter().map(|header| format!("{}\n", header.display())).collect();
            keep(&scratch.path().join("program"), &program)
                .and_then(|()| {
                    let fresh = scratch.path().join("deps");
                    fs::write(&fresh, list)?;
                    fs::rename(fresh, &record)
                })
                .map_err(|error| Error::file("write", &program, &error))?;
            return Ok(program);
        }
    }

    /// Where the program of this recipe, these sources and these headers lies, as they are now.
    fn place(&self, recipe: &Recipe<'_>, headers: &BTreeSet<PathBuf>) -> Result<PathBuf> {
        let mut digest = recipe.fixed_key();
        for source in recipe.sources {
            let path = self.plan.root.join(source);
            digest = digest.part(fs::read(&path).map_err(|error| Error::file("read", &path, &error))?);
        }
        for header in headers {
            digest = digest.part(header.as_os_str().as_encoded_bytes());
            // A header that is gone is a state of its own.
            digest = match fs::read(self.plan.root.join(header)) {
                Ok(text) => digest.part(text),
                Err(_) => digest.part("").part("gone"),
            };
        }
        Ok(recipe
            .store
            .join(format!("{}-{}", recipe.stem, digest.hex()))
            .join(&recipe.stem))
    }

    /// Compiles and links into a scratch directory; the headers that were read, but those of the system.
    fn compile(&self, recipe: &Recipe<'_>, scratch: &Path) -> Result<BTreeSet<PathBuf>> {
        let root = &self.plan.root;
        let mut headers = BTreeSet::new();
        let mut objects = Vec::new();
        for (index, source) in recipe.sources.iter().enumerate() {
            if is_object(source) {
                objects.push(source.clone());
                continue;
            }
            let object = scratch.join(format!("{index}.o"));
            let rules = scratch.join(format!("{index}.d"));
            let mut command = recipe.compiler.command(root);
            command.args(recipe.flags(root, &self.plan.data_dir));
            command
                .args(["-MMD", "-MF"])
                .arg(&rules)
                .arg("-c")
                .arg(source)
                .arg("-o")
                .arg(&object);
            self.step(command, recipe, &format!("{} does not compile", source.display()))?;
            // Our own header is part of the key already.
            let read = dependencies(&fs::read(&rules).unwrap_or_default()).into_iter();
            headers.extend(read.filter(|file| file != source && !file.starts_with(&recipe.include)));
            objects.push(object);
        }
        let mut command = recipe.compiler.command(root);
        command.args(recipe.flags(root, &self.plan.data_dir));
        // A language chosen by `-x` in the flags is not that of the objects.
        command
            .args(["-x", "none"])
            .args(objects)
            .arg("-o")
            .arg(scratch.join("program"))
            .args(recipe.ldflags);
        self.step(command, recipe, &format!("{} does not link", recipe.sources[0].display()))?;
        Ok(headers)
    }

    fn step(&self, command: Command, recipe: &Recipe<'_>, title: &str) -> Result<()> {
        let shown = child::shown(&command);
        let finished: Finished = child::run(command, Capture::Both, Keep::First(256 << 10), self.cancel).map_err(|failure| {
            let program = recipe.compiler.program.to_string_lossy().into_owned();
            not_started(&program, failure, &package_of(&program))
        })?;
        if finished.status.success() {
            return Ok(());
        }
        let error = Error::build(format!(
            "{title}: {} ended with {}",
            recipe.compiler.name(),
            child::ending(finished.status)
        ));
        Err(child::with_lines(error, child::lines(&finished, SHOWN_LINES, false)).detail(format!("command: {shown}")))
    }
}

impl Recipe<'_> {
    fn flags(&self, root: &Path, data_dir: &Path) -> Vec<OsString> {
        let mut flags: Vec<OsString> = DEFAULT_FLAGS.iter().map(OsString::from).collect();
        // Debug information and __FILE__ name no directory of this machine: the same program in every clone. The
        // last matching map wins, and the data directory usually lies below the root.
        for (dir, name) in [(root, "."), (data_dir, "./memcheck-data")] {
            let mut map = OsString::from("-ffile-prefix-map=");
            map.push(dir);
            map.push("=");
            map.push(name);
            flags.push(map);
        }
        flags.extend(self.cflags.iter().map(OsString::from));
        // After the case's own, which may carry another memcheck.h on purpose.
        flags.push("-I".into());
        flags.push(self.include.clone().into());
        flags
    }

    /// Everything but the contents of files.
    fn fixed_key(&self) -> Digest {
        let mut digest = Digest::new()
            .part(RECIPE)
            .part(ARCH)
            .part(self.compiler.program.as_encoded_bytes());
        digest = digest.part(self.compiler.version.as_deref().unwrap_or_default());
        digest = digest.part(memcheck_probe::HEADER);
        let sources: Vec<OsString> = self.sources.iter().map(|source| source.clone().into()).collect();
        let cflags: Vec<OsString> = self.cflags.iter().map(OsString::from).collect();
        let ldflags: Vec<OsString> = self.ldflags.iter().map(OsString::from).collect();
        let defaults: Vec<OsString> = DEFAULT_FLAGS.iter().map(OsString::from).collect();
        for list in [&self.compiler.prefix, &defaults, &sources, &cflags, &ldflags] {
            digest = digest.part(list.len().to_string());
            for word in list {
                digest = digest.part(word.as_encoded_bytes());
            }
        }
        digest
    }
}

fn check_source(root: &Path, source: &Path) -> Result<()> {
    let path = root.join(source);
    if path.is_file() {
        return Ok(());
    }
    let what = if path.exists() { "is not a file" } else { "does not exist" };
    let error = Error::config(format!("C source {} {what}", source.display()))
        .detail(format!("sources are relative to {}", root.display()));
    Err(match near_files(&path) {
        Some(hint) => error.detail(hint),
        None => error,
    })
}

/// Objects and libraries among the sources are only linked.
fn is_object(source: &Path) -> bool {
    source
        .extension()
        .is_some_and(|ending| ending == "o" || ending == "a" || ending == "so")
}

/// The stem of a source as a file name without surprises.
fn plain_stem(source: &Path) -> String {
    let stem = source.file_stem().unwrap_or_default().to_string_lossy();
    let plain: String = stem
        .chars()
        .take(64)
        .map(|c| {
            if c.is_ascii_alphanumeric() || "-_.+".contains(c) {
                c
            } else {
                '_'
            }
        })
        .collect();
    if plain.is_empty() || plain.starts_with('.') {
        format!("c{plain}")
    } else {
        plain
    }
}

/// Files that a makefile rule (`-MMD`) names after its target: separated by blanks, `\` before a newline continues, `\ `, `\#`
/// and `$$` are escapes (GCC manual, `-M`).
fn dependencies(rule: &[u8]) -> Vec<PathBuf> {
    let text = String::from_utf8_lossy(rule).replace("\\\n", " ");
    let Some((_, list)) = text.split_once(": ") else {
        return Vec::new();
    };
    let mut files = Vec::new();
    let mut word = String::new();
    let mut chars = list.lines().next().unwrap_or_default().chars().peekable();
    while let Some(c) = chars.next() {
        match (c, chars.peek()) {
            ('\\', Some(&next @ (' ' | '#'))) | ('$', Some(&next @ '$')) => {
                word.push(next);
                chars.next();
            }
            (' ' | '\t', _) => {
                if !word.is_empty() {
                    files.push(PathBuf::from(std::mem::take(&mut word)));
                }
            }
            _ => word.push(c),
        }
    }
    if !word.is_empty() {
        files.push(PathBuf::from(word));
    }
    files
}

fn modified_since(file: &Path, moment: SystemTime) -> bool {
    file.metadata()
        .and_then(|metadata| metadata.modified())
        .is_ok_and(|modified| modified >= moment)
}

/// Moves a finished program to its place: complete and on disk, or not there.
fn keep(built: &Path, place: &Path) -> std::io::Result<()> {
    File::open(built)?.sync_all()?;
    if let Some(dir) = place.parent() {
        fs::create_dir_all(dir)?;
    }
    fs::rename(built, place)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_are_read_with_their_escapes() {
        assert_eq!(
            dependencies(b"0.o: src/a.c inc/a\\ b.h \\\n inc/c$$.h inc/d\\#.h\n"),
            ["src/a.c", "inc/a b.h", "inc/c$.h", "inc/d#.h"].map(PathBuf::from)
        );
        assert_eq!(dependencies(b""), Vec::<PathBuf>::new());
        assert_eq!(dependencies(b"no rule"), Vec::<PathBuf>::new());
    }

    #[test]
    fn stems_are_plain_file_names() {
        for (source, stem) in [
            ("c/threads.c", "threads"),
            ("a b*.c", "a_b_"),
            (".c", "c.c"),
            ("größe.c", "gr__e"),
        ] {
            assert_eq!(plain_stem(Path::new(source)), stem);
        }
    }
}
