//! `cargo memcheck compare OLD NEW`: two programs, run here at `main` and at their exit, or two files of one kind
//! that are not run: libraries, snapshots, results.

use std::fs;
use std::path::Path;
use std::process::ExitCode;

use memcheck_harness::error::{Error, Result};
use memcheck_harness::model::{
    AfterLast, At, CaseComparison, Comparison, ElfType, Environment, ExpectedEnd, MemoryMap, Name, RunReport, Side, Snapshot,
};
use memcheck_harness::pipeline::{self, Party, Terms};
use memcheck_harness::{capture, compare, elf, report};

use crate::cli::{FilesOptions, Invocation, MessageFormat};
use crate::project::Project;
use crate::show::ShowOptions;
use crate::{show, terminal};

/// Largest results file that is read, bytes.
const RESULTS_MAX_BYTES: u64 = 1 << 30;

/// What a file turned out to be.
enum Thing {
    Program,
    /// As it would be laid out.
    Library(Box<MemoryMap>),
    Snapshot(Box<Snapshot>),
    Results(Box<RunReport>),
}

impl Thing {
    fn word(&self) -> &'static str {
        match self {
            Self::Program => "a program",
            Self::Library(_) => "a library",
            Self::Snapshot(_) => "a snapshot",
            Self::Results(_) => "a results file",
        }
    }
}

/// Compares two things of one kind.
pub(crate) fn compare(invocation: &Invocation, options: &FilesOptions) -> Result<ExitCode> {
    let (before, now) = (open(invocation, &options.before)?, open(invocation, &options.now)?);
    if !options.args.is_empty() && !matches!((&before, &now), (Thing::Program, Thing::Program)) {
        return Err(Error::config("only programs take arguments"));
    }
    let (words, other) = (before.word(), now.word());
    let (cases, environments, interrupted) = match (before, now) {
        (Thing::Program, Thing::Program) => programs(invocation, options)?,
        (Thing::Library(before), Thing::Library(now)) => {
            let cases = vec![pipeline::layouts(&file_name(&options.now), *before, *now)];
            (cases, [Environment::default(), Environment::default()], None)
        }
        (Thing::Snapshot(before), Thing::Snapshot(now)) => {
            let environments = [Environment::default(), Environment::default()];
            (vec![pipeline::snapshots(&before, &now)], environments, None)
        }
        (Thing::Results(before), Thing::Results(now)) => {
            let environments = [before.environment.clone(), now.environment.clone()];
            (pipeline::reports(*before, *now), environments, None)
        }
        _ => {
            return Err(Error::config(format!(
                "{} is {words}, {} is {other}: only things of one kind can be compared",
                options.before, options.now
            )));
        }
    };
    let side = |word: &str, label: &str, environment: &Environment| Side {
        word: word.to_owned(),
        label: label.to_owned(),
        environment: environment.clone(),
    };
    let [before, now] = &environments;
    let comparison = Comparison {
        schema: 0,
        tool_version: env!("CARGO_PKG_VERSION").to_owned(),
        before: side("before", &options.before, before),
        now: side("now", &options.now, now),
        same_machine: words == Thing::Program.word(),
        cases,
        notes: Vec::new(),
        interrupted,
    };
    terminal::print(|out| match invocation.format {
        MessageFormat::Human => report::comparison(&comparison, invocation.output_style, out),
        MessageFormat::Json => report::comparison_json(&comparison, out),
    })?;
    Ok(ExitCode::from(report::of_comparison(&comparison)))
}

fn open(invocation: &Invocation, name: &str) -> Result<Thing> {
    let path = invocation.start.join(name);
    let unreadable = |error: std::io::Error| Error::config(format!("{name} cannot be read: {error}"));
    let length = fs::metadata(&path).map_err(unreadable)?.len();
    if name.ends_with(".snap") || name.ends_with(".snap.new") {
        return compare::read(&path).map(|snapshot| Thing::Snapshot(Box::new(snapshot)));
    }
    if starts_with(&path, b"{").map_err(unreadable)? {
        if length > RESULTS_MAX_BYTES {
            return Err(Error::config(format!("{name} is larger than a results file can be")));
        }
        let bytes = fs::read(&path).map_err(unreadable)?;
        let read = report::read_results(&bytes).map_err(|why| Error::config(format!("{name} cannot be compared: {why}")))?;
        if !read.complete {
            return Err(Error::config(format!("{name} cannot be compared: it is incomplete")));
        }
        if read.cases.is_empty() {
            return Err(Error::config(format!("{name} holds no case")));
        }
        return Ok(Thing::Results(Box::new(read)));
    }
    if starts_with(&path, b"#!").map_err(unreadable)? {
        return Ok(Thing::Program);
    }
    if starts_with(&path, b"\x7fELF").map_err(unreadable)? {
        return program_or_library(name, &path);
    }
    Err(Error::config(format!(
        "{name} is neither a program, a library, a snapshot (.snap) nor a results file"
    ))
    .detail("another commit of this project: cargo memcheck compare --base REF"))
}

/// A library has no interpreter and is not marked as an executable; nothing of it runs.
fn program_or_library(name: &str, path: &Path) -> Result<Thing> {
    let file = fs::File::open(path).map_err(|error| Error::config(format!("{name} cannot be read: {error}")))?;
    let facts = elf::facts(&file).map_err(|error| Error::config(format!("{name} cannot be compared: {error}")))?;
    match facts.elf_type {
        ElfType::Dyn if facts.interpreter.is_none() && !facts.hardening.pie => {
            let page_bytes = capture::page_bytes_here().unwrap_or(4096);
            let map = elf::layout(&facts, &Name::from(file_name(name).as_str()), page_bytes);
            Ok(Thing::Library(Box::new(map)))
        }
        ElfType::Exec | ElfType::Dyn => Ok(Thing::Program),
        ElfType::Other(_) => Err(Error::config(format!(
            "{name} is an ELF file, but neither a program nor a library"
        ))),
    }
}

fn file_name(name: &str) -> String {
    Path::new(name)
        .file_name()
        .map_or_else(String::new, |name| name.to_string_lossy().into_owned())
}

fn starts_with(path: &Path, magic: &[u8]) -> std::io::Result<bool> {
    use std::io::Read as _;
    let mut head = Vec::new();
    fs::File::open(path)?.take(magic.len() as u64).read_to_end(&mut head)?;
    Ok(head == magic)
}

type Measured = (Vec<CaseComparison>, [Environment; 2], Option<i32>);

/// Both programs at `main` and at their exit, launched as the suite launches, in turn.
fn programs(invocation: &Invocation, options: &FilesOptions) -> Result<Measured> {
    let name = Path::new(&options.now)
        .file_name()
        .map_or_else(String::new, |name| name.to_string_lossy().into_owned());
    let plan = |program: &str| -> Result<Project> {
        let show = ShowOptions {
            fixed: true,
            ..ShowOptions::default()
        };
        let path = invocation.start.join(program).display().to_string();
        let mut project = show::of_program(invocation, &show, &path, &options.args)?;
        for case in &mut project.plan.cases {
            case.name.clone_from(&name);
            case.exit = Some(ExpectedEnd::Any);
            case.after_last = AfterLast::Kill;
            case.checkpoints = vec![show::standard("main", At::Main), show::standard("exit", At::Exit)];
        }
        Ok(project)
    };
    let (before, now) = (plan(&options.before)?, plan(&options.now)?);
    let party = |plan| Party { plan, workspace: None };
    let terms = Terms {
        unending: true,
        ..Terms::default()
    };
    let progress = terminal::Progress::new(invocation);
    // The first handler that was installed is the one that hears of signals.
    let compared = pipeline::versus(
        party(&before.plan),
        party(&now.plan),
        terms,
        &now.options,
        &before.cancel,
        &|event| {
            progress.show(&event);
        },
    )?;
    progress.finish()?;
    Ok((compared.cases, compared.environments, before.cancel.signal()))
}
