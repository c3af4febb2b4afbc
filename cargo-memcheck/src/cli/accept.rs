//! The arguments of `cargo memcheck accept`, and what they mean.

use std::path::PathBuf;

use clap::Args;

use super::{Command, NamesArgs};

#[derive(Clone, Debug, Default, Args)]
pub(super) struct AcceptArgs {
    /// Make this machine the environment of record (after an upgrade of its image), with the snapshots of the cases that differ
    /// for no other reason: the commit that approved them, built here as well, gives the same
    #[arg(long, conflicts_with = "names")]
    environment: bool,
    /// Approve what a job left pending: its artifact, a directory or a ZIP; measures nothing
    #[arg(long, value_name = "DIR|ZIP", conflicts_with = "environment")]
    from: Option<PathBuf>,
    #[command(flatten)]
    pub(super) names: NamesArgs,
}

/// Approve what is measured here, what a job left, or this machine.
pub(super) fn accept_command(args: AcceptArgs) -> Command {
    let names = args.names.names;
    match args.from {
        _ if args.environment => Command::AcceptEnvironment,
        Some(from) => Command::AcceptFrom { from, names },
        None => Command::Accept(names),
    }
}
