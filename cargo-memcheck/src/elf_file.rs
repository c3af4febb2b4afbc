//! `cargo memcheck show FILE` for an ELF file, of whatever machine: its headers and hardening, and what it would take when loaded.
//! Nothing runs.

use std::fs::File;
use std::path::Path;
use std::process::ExitCode;

use memcheck_harness::error::{Error, Result};
use memcheck_harness::model::{ElfFile, MemoryMap, Name};
use memcheck_harness::{capture, elf, report};

use crate::cli::{Invocation, MessageFormat};
use crate::show::ShowOptions;
use crate::{project, terminal};

/// Prints what the file tells, if what was asked for is such a file and no case of that name.
pub(crate) fn show(invocation: &Invocation, show: &ShowOptions) -> Result<Option<ExitCode>> {
    let Some(name) = show.case.as_ref().filter(|name| show.of.is_none() && is_elf(Path::new(name))) else {
        return Ok(None);
    };
    if !name.contains('/') && project::find(invocation)?.is_some_and(|project| !project.plan.cases.is_empty()) {
        return Ok(None);
    }
    if !show.at.is_empty() || show.since.is_some() || show.fixed || show.contents.is_some() || !show.program.is_empty() {
        return Err(
            Error::config("a file is shown by its headers: nothing runs that could be stopped")
                .detail(format!("to run it: cargo memcheck show -- {name}")),
        );
    }
    let file = open(name, Path::new(name))?;
    let layout = layout(&file);
    terminal::print(|out| match invocation.format {
        MessageFormat::Human => report::elf_file(&file, &layout, invocation.output_style, out),
        MessageFormat::Json => report::elf_file_json(&file, &layout, out),
    })?;
    Ok(Some(terminal::ok()))
}

/// A regular file that begins as ELF files do.
pub(crate) fn is_elf(path: &Path) -> bool {
    use std::io::Read as _;
    let mut head = [0; 4];
    // A pipe would block.
    path.is_file() && File::open(path).is_ok_and(|mut file| file.read_exact(&mut head).is_ok() && head == *b"\x7fELF")
}

/// What an ELF file tells of itself.
pub(crate) fn open(name: &str, path: &Path) -> Result<ElfFile> {
    let file = File::open(path).map_err(|error| Error::config(format!("{name} cannot be read: {error}")))?;
    elf::describe(&file, &Name::from(name)).map_err(|error| Error::config(format!("{name} cannot be read: {error}")))
}

/// What it would take when loaded, in pages of this machine.
pub(crate) fn layout(file: &ElfFile) -> MemoryMap {
    let page_bytes = capture::page_bytes_here().unwrap_or(4096);
    elf::layout(&file.facts, &file.path.file_name(), page_bytes)
}
