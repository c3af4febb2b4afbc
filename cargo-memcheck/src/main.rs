//! `cargo memcheck`: parses what was typed and calls one straight-line function per subcommand.

mod accept;
mod actions;
mod base;
mod budget;
mod cli;
mod contents;
mod doctor;
mod elf_file;
mod files;
mod first;
mod from;
mod github;
mod init;
mod harness;
mod list;
mod measure;
mod orphans;
mod project;
mod recorded;
mod report;
mod results;
mod review;
mod revision;
mod selftest;
mod show;
mod terminal;
mod upgrade;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;

use memcheck_harness::error::Result;
use memcheck_harness::pipeline;

/// Many small things live as long as a case: with glibc's malloc a run of small cases takes 4 % longer.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let typed = cli::parse();
    let (style, format) = typed.output();
    // 101, the code of a panic, says that a build has failed.
    catch_unwind(AssertUnwindSafe(|| run(typed)))
        .unwrap_or_else(|payload| Err(pipeline::panicked(&*payload)))
        .unwrap_or_else(|failure| terminal::fail(&failure, style, format))
}

fn run(typed: cli::Typed) -> Result<ExitCode> {
    let invocation = cli::meaning(typed)?;
    match invocation.command {
        cli::Command::Run(ref run) => measure::run(&invocation, run),
        cli::Command::Show(ref options) => show::show(&invocation, options),
        cli::Command::CompareBase(ref options) => base::compare(&invocation, options),
        cli::Command::CompareFiles(ref options) => files::compare(&invocation, options),
        cli::Command::SelfTest { ref blind } => selftest::run(&invocation, blind.as_deref()),
        cli::Command::Init { c } => init::init(&invocation, c),
        cli::Command::Accept(ref names) => accept::accept(&invocation, names),
        cli::Command::AcceptFrom { ref from, ref names } => from::accept(&invocation, from, names),
        cli::Command::AcceptEnvironment => upgrade::environment(&invocation),
        cli::Command::Reject(ref names) => review::reject(&invocation, names),
        cli::Command::Review(ref names) => review::review(&invocation, names),
        cli::Command::List(ref filters) => list::list(&invocation, filters),
        cli::Command::Doctor => doctor::doctor(&invocation),
        cli::Command::Report(ref options) => report::report(&invocation, options),
        cli::Command::Budget(ref options) => budget::budget(&invocation, options),
        cli::Command::Docs(part) => list::docs(part),
        cli::Command::Metrics => list::metrics(&invocation),
    }
}
