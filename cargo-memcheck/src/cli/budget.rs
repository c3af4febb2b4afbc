//! The arguments of `cargo memcheck budget`, and what they mean.

use clap::Args;

use super::NamesArgs;

#[derive(Clone, Debug, Default, Args)]
pub(super) struct BudgetArgs {
    /// Lower each limit of memcheck.toml to what all its cases need now
    #[arg(long, conflicts_with_all = ["names", "set"])]
    tighten: bool,
    /// Change limits where memcheck.toml states them: '[case[/checkpoint]:]metric=16MiB'; measures nothing
    #[arg(long, value_name = "LIMIT", conflicts_with = "names")]
    set: Vec<String>,
    #[command(flatten)]
    pub(super) names: NamesArgs,
}

/// What to do with the limits.
#[derive(Clone, Debug)]
pub(crate) enum BudgetOptions {
    /// Show them.
    Show,
    /// Show them, and lower those that can be.
    Tighten,
    /// Change these.
    Set(Vec<String>),
}

pub(super) fn budget_options(args: &BudgetArgs) -> BudgetOptions {
    match (args.tighten, args.set.as_slice()) {
        (true, _) => BudgetOptions::Tighten,
        (false, []) => BudgetOptions::Show,
        (false, set) => BudgetOptions::Set(set.to_vec()),
    }
}
