//! Bounded reads of an ELF file: every range is checked against the file and against a budget for the whole call, so that a
//! hostile file costs neither memory nor time. Always `pread`, never `mmap`: a mapping of ours would change the `Pss` and
//! `Private_*` figures of the target that maps the same file.

use std::cell::Cell;
use std::fs::File;
use std::os::unix::fs::FileExt;

use crate::error::{Error, Result};

/// A file with its length and what may still be read of it.
#[derive(Debug)]
pub(super) struct Reader<'a> {
    file: &'a File,
    len: u64,
    budget: Cell<u64>,
}

/// An ELF file that contradicts itself.
pub(super) fn malformed(what: impl std::fmt::Display) -> Error {
    Error::not_judged(format!("malformed ELF file: {what}"))
}

impl<'a> Reader<'a> {
    /// Takes a regular file (a pipe or device in its place could block or never end) and the bytes one call may read of it.
    pub(super) fn new(file: &'a File, budget_bytes: u64) -> Result<Self> {
        let meta = file
            .metadata()
            .map_err(|error| Error::not_judged(format!("could not inspect the ELF file: {error}")))?;
        if !meta.is_file() {
            return Err(Error::not_judged("not a regular file, so no ELF file"));
        }
        Ok(Self {
            file,
            len: meta.len(),
            budget: Cell::new(budget_bytes),
        })
    }

    /// Size of the file in bytes.
    pub(super) fn len(&self) -> u64 {
        self.len
    }

    /// Exactly `len` bytes from `offset`; `what` names them in an error, `cap` is the most that makes sense for them.
    pub(super) fn bytes(&self, offset: u64, len: u64, cap: u64, what: &str) -> Result<Vec<u8>> {
        if len > cap {
            return Err(malformed(format_args!("{what}: {len} bytes, more than {cap}")));
        }
        if offset.checked_add(len).is_none_or(|end| end > self.len) {
            return Err(malformed(format_args!("{what}: beyond the end of the file")));
        }
        self.spend(len, what)?;
        let mut buffer = vec![0; usize::try_from(len).map_err(|_| malformed(what))?];
        self.file
            .read_exact_at(&mut buffer, offset)
            .map_err(|error| Error::not_judged(format!("could not read the ELF file ({what}): {error}")))?;
        Ok(buffer)
    }

    /// At most `len` bytes from `offset`, fewer at the end of the file.
    pub(super) fn up_to(&self, offset: u64, len: u64, what: &str) -> Result<Vec<u8>> {
        self.bytes(offset, len.min(self.len.saturating_sub(offset)), len, what)
    }

    /// Counts bytes that are made of what was read, too.
    pub(super) fn spend(&self, len: u64, what: &str) -> Result<()> {
        let rest = self.budget.get().checked_sub(len);
        let rest = rest.ok_or_else(|| malformed(format_args!("{what}: its tables are larger than we are ready to read")))?;
        self.budget.set(rest);
        Ok(())
    }
}
