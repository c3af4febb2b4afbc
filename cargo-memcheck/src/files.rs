//! `cargo memcheck compare OLD NEW`: two programs, run here at `main` and at their exit, or two files of one kind
//! that are not run: libraries, snapshots, results.

use std::fs;
use std::path::Path;
use std::process::ExitCode;

use memcheck_harness::error::{Error, Result};
use memcheck_harness::model::{
    AfterLast, At, CaseComparison, Comparison, ElfFile, ElfType, Environment, ExpectedEnd, RunReport, Side, Snapshot,
};
use memcheck_harness::pipeline::{self, Party, Terms};
use memcheck_harness::{compare, report};

use crate::cli::{FilesOptions, Invocation, MessageFormat};
use crate::project::Project;
use crate::show::ShowOptions;
use crate::{elf_file, show, terminal};

/// Largest results file that is read, bytes.
const RESULTS_MAX_BYTES: u64 = 1 << 30;

/// What a file turned out to be.
enum Thing {
    Script,
    /// That runs here.
    Program(Box<ElfFile>),
    Library(Box<ElfFile>),
    /// Of another machine, or no program and no library.
    Foreign(Box<ElfFile>),
    Snapshot(Box<Snapshot>),
    Results(Box<RunReport>),
}

impl Thing {
    fn runs(&self) -> bool {
        matches!(self, Self::Script | Self::Program(_))
    }

    fn word(&self) -> &'static str {
        match self {
            Self::Script => "a script",
            Self::Program(_) => "a program",
            Self::Library(_) => "a library",
            Self::Foreign(_) => FOREIGN,
            Self::Snapshot(_) => "a snapshot",
            Self::Results(_) => "a results file",
        }
    }
}

/// What [`Thing::Foreign`] is called.
const FOREIGN: &str = "a file of another machine or kind";

/// Compares two things of one kind.
pub(crate) fn compare(invocation: &Invocation, options: &FilesOptions) -> Result<ExitCode> {
    let (before, now) = (open(invocation, &options.before)?, open(invocation, &options.now)?);
    let run = !options.headers && before.runs() && now.runs();
    if !options.args.is_empty() && !run {
        return Err(Error::config("only programs that run here take arguments"));
    }
    let (words, other) = (before.word(), now.word());
    let (cases, environments, interrupted) = match (before, now) {
        _ if run => programs(invocation, options)?,
        (Thing::Library(before), Thing::Library(now)) => headers(invocation, &before, &now)?,
        (
            Thing::Program(before) | Thing::Foreign(before) | Thing::Library(before),
            Thing::Program(now) | Thing::Foreign(now) | Thing::Library(now),
        ) if options.headers || words == other || [words, other].contains(&FOREIGN) => headers(invocation, &before, &now)?,
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
    let by_headers = cases.iter().any(|case| case.report.target == "file");
    let notes = by_headers
        .then(|| "by their headers: nothing ran; what is compared is the address space they take when loaded".to_owned())
        .into_iter()
        .collect();
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
        same_machine: run,
        cases,
        notes,
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
        return Ok(Thing::Script);
    }
    if elf_file::is_elf(&path) {
        return Ok(program_or_library(elf_file::open(name, &path)?));
    }
    Err(Error::config(format!(
        "{name} is neither a program, a library, a snapshot (.snap) nor a results file"
    ))
    .detail("another commit of this project: cargo memcheck compare --base REF"))
}

/// A library is not marked as an executable; nothing of it runs. Nor does what is of another machine, a 32-bit program, which is
/// not traced, or debug information.
fn program_or_library(file: ElfFile) -> Thing {
    let here = match std::env::consts::ARCH {
        "x86_64" => Some(62),
        "aarch64" => Some(183),
        _ => None,
    };
    let (file, facts) = (Box::new(file.clone()), file.facts);
    if facts.is_split_off() {
        Thing::Foreign(file)
    } else if facts.elf_type == ElfType::Dyn && !facts.is_program() {
        Thing::Library(file)
    } else if facts.is_program() && here == Some(facts.machine) {
        Thing::Program(file)
    } else {
        Thing::Foreign(file)
    }
}

/// Two ELF files by their headers: what differs is printed, and what it changes when they are loaded is compared.
fn headers(invocation: &Invocation, before: &ElfFile, now: &ElfFile) -> Result<Measured> {
    terminal::print(|out| match invocation.format {
        MessageFormat::Human => report::elf_differences(before, now, invocation.output_style, out),
        MessageFormat::Json => report::elf_differences_json(before, now, out),
    })?;
    let name = now.path.file_name().to_string();
    let cases = vec![pipeline::layouts(&name, elf_file::layout(before), elf_file::layout(now))];
    Ok((cases, [Environment::default(), Environment::default()], None))
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
