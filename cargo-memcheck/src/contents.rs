//! `show --strings ROLE` and `show --dump ROLE DIR`: what the memory of a role holds at a stop. Printed, or written to files that
//! only their owner can read; never part of a report.

use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::{DirBuilderExt as _, FileExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use memcheck_harness::capture::{self, ContentReader, Strings};
use memcheck_harness::error::{Error, Result};
use memcheck_harness::model::{Contents as Held, MemoryMap, Name, Piece, Role};
use memcheck_harness::pipeline::Event;
use memcheck_harness::report::{self, Where};

use crate::cli::{Invocation, MessageFormat};
use crate::terminal;

/// What was asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Contents {
    /// As typed: a role, or the common first part of several.
    pub(crate) role: String,
    /// Where the bytes go; absent: their strings are printed.
    pub(crate) dir: Option<PathBuf>,
}

/// Looks into the target at its stops, if that was asked for.
pub(crate) struct Looker<'a> {
    invocation: &'a Invocation,
    wanted: Option<(Vec<Role>, &'a Contents)>,
    failed: Mutex<Option<Error>>,
}

impl<'a> Looker<'a> {
    /// Refuses what is no role, and makes the directory.
    pub(crate) fn new(invocation: &'a Invocation, wanted: Option<&'a Contents>) -> Result<Self> {
        let wanted = match wanted {
            None => None,
            Some(contents) => {
                let roles = Role::matching(&contents.role);
                if roles.is_empty() {
                    return Err(Error::config(format!("`{}` is no role", contents.role))
                        .detail("a role: main-heap, thread-arena, thread-stack.live, exe.data …; or the first part of several: thread-stack")
                        .detail("cargo memcheck show shows which there are"));
                }
                if let Some(dir) = &contents.dir {
                    let mut builder = fs::DirBuilder::new();
                    let made = builder.recursive(true).mode(0o700).create(dir);
                    made.map_err(|error| Error::file("create", dir, &error))?;
                }
                Some((roles, contents))
            }
        };
        Ok(Self {
            invocation,
            wanted,
            failed: Mutex::new(None),
        })
    }

    /// One event of a run: at a stop the target is looked into.
    pub(crate) fn look(&self, event: &Event<'_>) {
        let Event::Stopped {
            case,
            checkpoint,
            pid,
            map,
        } = event
        else {
            return;
        };
        let name = case.checkpoints.get(*checkpoint).map_or("", |spec| spec.name.as_str());
        let place = Where {
            case: &case.name,
            checkpoint: name,
        };
        if let Err(error) = self.look_into(place, *pid, map) {
            self.failed
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .get_or_insert(error);
        }
    }

    /// Looks into a process that stands still.
    pub(crate) fn look_into(&self, place: Where<'_>, pid: i32, map: &MemoryMap) -> Result<()> {
        let Some((roles, contents)) = &self.wanted else {
            return Ok(());
        };
        let reader = capture::content_reader(pid, map)?;
        let mut all = Vec::new();
        for piece in map.pieces.iter().filter(|piece| roles.contains(&piece.role)) {
            let item = map.items.get(piece.item);
            let mut held = Held {
                start: piece.start,
                end: piece.end,
                role: Some(piece.role),
                subject: item.map(|item| item.subject.clone()).unwrap_or_default(),
                tid: item.and_then(|item| item.tid),
                ..Held::default()
            };
            match &contents.dir {
                None => strings(&reader, piece, &mut held)?,
                Some(dir) => dump(&reader, piece, dir, place, &mut held)?,
            }
            all.push(held);
        }
        terminal::print(|out| match self.invocation.format {
            MessageFormat::Human => report::contents(place, &all, self.invocation.output_style, out),
            MessageFormat::Json => report::contents_json(place, &all, out),
        })
    }

    /// The first failure.
    pub(crate) fn finish(self) -> Result<bool> {
        match self.failed.into_inner().unwrap_or_else(PoisonError::into_inner) {
            Some(error) => Err(error),
            None => Ok(self.wanted.is_some()),
        }
    }
}

fn strings(reader: &ContentReader, piece: &Piece, held: &mut Held) -> Result<()> {
    let mut strings = Strings::default();
    let counted = reader.read(piece, &mut |offset, bytes| {
        strings.take(offset, bytes);
        Ok(())
    })?;
    (held.read_bytes, held.unreadable_bytes) = (counted.read_bytes, counted.unreadable_bytes);
    (held.strings, held.more) = strings.finish();
    Ok(())
}

/// Bytes at their offsets: what is not in memory is a hole of the file. Nothing is written for a piece without a page in memory.
fn dump(reader: &ContentReader, piece: &Piece, dir: &Path, place: Where<'_>, held: &mut Held) -> Result<()> {
    let name = format!(
        "{}-{}-{}-{:x}-{:x}.bin",
        place.case, place.checkpoint, piece.role, piece.start, piece.end
    );
    let plain = |c: char| {
        if c.is_ascii_alphanumeric() || ".-_".contains(c) {
            c
        } else {
            '-'
        }
    };
    let path = dir.join(name.chars().map(plain).collect::<String>().trim_start_matches('.'));
    let part = path.with_extension(format!("part{}", std::process::id()));
    let failed = |error: &std::io::Error| Error::file("write", &part, error);
    let mut file: Option<File> = None;
    let counted = reader.read(piece, &mut |offset, bytes| {
        let open = match &file {
            Some(open) => open,
            None => {
                let mut options = OpenOptions::new();
                let made = options
                    .write(true)
                    .create_new(true)
                    .mode(0o600)
                    .open(&part)
                    .map_err(|e| failed(&e))?;
                made.set_len(piece.reserved_bytes()).map_err(|e| failed(&e))?;
                file.insert(made)
            }
        };
        open.write_all_at(bytes, offset).map_err(|e| failed(&e))
    });
    let counted = match counted.and_then(|counted| {
        if let Some(file) = &file {
            file.sync_all().map_err(|e| failed(&e))?;
            fs::rename(&part, &path).map_err(|e| failed(&e))?;
        }
        Ok(counted)
    }) {
        Ok(counted) => counted,
        Err(error) => {
            // What is half written must not stay; why it failed is what counts.
            let _ = fs::remove_file(&part);
            return Err(error);
        }
    };
    (held.read_bytes, held.unreadable_bytes) = (counted.read_bytes, counted.unreadable_bytes);
    held.file = file.map(|_| Name::new(path.as_os_str().as_encoded_bytes()));
    Ok(())
}
