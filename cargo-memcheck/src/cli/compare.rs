//! The arguments of `cargo memcheck compare`, and what they mean: another commit, or two files.

use clap::{Args, ValueEnum};
use memcheck_harness::config::Overrides;
use memcheck_harness::error::{Error, Result};

use super::{BaseOptions, BuildArgs, Command, FilesOptions, NamesArgs, base_branch, named};

#[derive(Clone, Debug, Default, Args)]
#[command(
    override_usage = "cargo memcheck compare [OPTIONS] [--base REF] [CASE]...\n       cargo memcheck compare OLD NEW [-- ARGUMENT...]\n       cargo memcheck compare --headers OLD NEW"
)]
pub(super) struct CompareArgs {
    /// Only cases whose name contains one of these; or two files: programs, libraries, snapshots (.snap), results files
    #[arg(value_name = "CASE")]
    names: Vec<String>,
    /// Arguments of the two programs
    #[arg(value_name = "ARGUMENT", last = true)]
    args: Vec<String>,
    /// Compare two ELF files by their headers, as libraries and programs of other machines are: nothing runs
    #[arg(long, conflicts_with = "base")]
    headers: bool,
    /// Compare with this commit, built and measured in a worktree of its own; of a branch, with the commit where yours left it
    /// (default: the default branch)
    #[arg(long, value_name = "REF", num_args = 0..=1, default_missing_value = "")]
    base: Option<String>,
    /// Judge all limits as the base states them, so that a change cannot raise its own
    #[arg(long, value_name = "SIDE", value_enum)]
    limits_from: Option<LimitsFrom>,
    #[command(flatten)]
    build: BuildArgs,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum LimitsFrom {
    Base,
}

/// With another commit, or of two files.
pub(super) fn compare_command(args: CompareArgs) -> Result<(Command, Overrides)> {
    let is_file = |name: &String| name.contains('/') || std::path::Path::new(name).is_file();
    if args.base.is_none()
        && let [before, now] = args.names.as_slice()
        && (is_file(before) || is_file(now))
    {
        let options = FilesOptions {
            before: before.clone(),
            now: now.clone(),
            args: args.args,
            headers: args.headers,
        };
        return Ok((Command::CompareFiles(options), Overrides::default()));
    }
    if args.headers {
        return Err(Error::config(
            "--headers is for two ELF files: cargo memcheck compare --headers OLD NEW",
        ));
    }
    if !args.args.is_empty() {
        return Err(Error::config(
            "arguments after -- are for two programs: cargo memcheck compare OLD NEW -- ARGUMENT",
        ));
    }
    if let Some(name) = args.names.iter().find(|name| name.contains('/')) {
        return Err(
            Error::config(format!("{name} is one file: to compare it takes two")).detail("cargo memcheck compare OLD NEW")
        );
    }
    let overrides = Overrides {
        exact: false,
        ..named(&NamesArgs {
            names: args.names,
            build: args.build,
        })
    };
    let options = BaseOptions {
        reference: args.base.filter(|name| !name.is_empty()),
        default_branch: base_branch(),
        limits_from_base: args.limits_from == Some(LimitsFrom::Base),
    };
    Ok((Command::CompareBase(options), overrides))
}
