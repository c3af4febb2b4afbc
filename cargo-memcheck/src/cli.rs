//! What can be typed, and what it means together with the environment. The only file that reads environment variables.

mod accept;
mod budget;
mod compare;
mod github;
mod report;
mod style;

use std::ffi::OsString;
use std::io::IsTerminal as _;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
use memcheck_harness::config::{self, Overrides, Partition};
use memcheck_harness::error::{Error, Result};
use memcheck_harness::report::Style;

pub(crate) use budget::BudgetOptions;
pub(crate) use github::Github;
pub(crate) use report::ReportOptions;

use crate::contents::Contents;
use crate::show::ShowOptions;
use crate::terminal;

/// Snapshots and budgets for the memory of native Linux programs (not Valgrind's Memcheck).
///
/// Builds and launches the cases of memcheck.toml, stops them at their checkpoints, and compares what each kind of memory
/// takes with approved snapshots and with budgets.
#[derive(Debug, Parser)]
#[command(
    name = "cargo-memcheck",
    bin_name = "cargo memcheck",
    version,
    disable_help_subcommand = true,
    subcommand_precedence_over_arg = true,
    after_help = EXIT_CODES
)]
pub(crate) struct Typed {
    #[command(subcommand)]
    command: Option<TypedCommand>,
    #[command(flatten)]
    run: RunArgs,
    #[command(flatten)]
    global: GlobalArgs,
}

/// Which command a name may have been meant for, in words.
pub(crate) fn near_command(typed: &[String]) -> Option<String> {
    use clap::CommandFactory as _;
    let command = Typed::command();
    let visible = command.get_subcommands().filter(|command| !command.is_hide_set());
    let names: Vec<String> = visible.map(|command| command.get_name().to_owned()).collect();
    let meant = typed.iter().find_map(|typed| config::did_you_mean(typed, &names))?;
    Some(meant.replacen("did you mean", "did you mean the command", 1))
}

const EXIT_CODES: &str = "Exit codes: 0 ok, 1 the tool failed, 2 usage or configuration, 3 a budget is exceeded, 4 nothing was \
selected or measured, 5 a snapshot differs or is missing, 6 this machine cannot measure, 7 a case could not be judged, \
101 a build failed, 128+N interrupted by signal N.";

#[derive(Debug, Subcommand)]
enum TypedCommand {
    /// Measure and judge (what `cargo memcheck` alone does)
    Run(RunArgs),
    /// Show the memory of a program or a case by kind, judging and writing nothing
    Show(ShowArgs),
    /// Compare memory with another commit, both sides measured here, or two programs, snapshots or results files
    Compare(compare::CompareArgs),
    /// Write a first memcheck.toml
    Init(InitArgs),
    /// Make pending snapshots the approved ones; measure cases that have none yet three times and approve them
    Accept(accept::AcceptArgs),
    /// Go through pending snapshots one by one
    Review(PendingArgs),
    /// Drop pending snapshots, damaged ones too
    Reject(PendingArgs),
    /// List cases and their checkpoints
    List(RunArgs),
    /// Every limit beside its value now, with the room left; --tighten and --set change memcheck.toml
    Budget(budget::BudgetArgs),
    /// List every metric a budget can name
    Metrics,
    /// Tell what this machine permits, what follows and what to do
    Doctor,
    /// Render, merge or judge again the results of finished runs
    Report(report::ReportArgs),
    /// Print a part of the guide as Markdown
    #[command(hide = true)]
    Docs {
        #[arg(value_enum)]
        part: Part,
    },
    /// Plant one regression of each kind and fail unless each is caught with its right cause
    SelfTest(SelfTestArgs),
}

/// What of the guide the program writes itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Part {
    /// Keys of memcheck.toml
    Reference,
    /// Metrics
    Metrics,
}

#[derive(Clone, Debug, Default, Args)]
struct SelfTestArgs {
    /// Take memory of this role for unclassified: shows that the self-test fails then
    #[arg(long, value_name = "ROLE", hide = true)]
    blind: Option<String>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Args)]
pub(crate) struct RunArgs {
    /// Only cases whose name contains one of these
    #[arg(value_name = "CASE")]
    filters: Vec<String>,
    /// CASE is a whole name
    #[arg(long)]
    exact: bool,
    /// Only cases of this package
    #[arg(short, long = "package", value_name = "NAME")]
    packages: Vec<String>,
    /// Add a limit: '[case[/checkpoint]:]metric<=16MiB' (or >=)
    #[arg(long = "budget", value_name = "LIMIT")]
    budgets: Vec<String>,
    /// Measure with the environment, randomisation and limits as they are here
    #[arg(long)]
    as_is: bool,
    /// Where ptrace is refused: markers built to do so stop their program by themselves; roles are told by mappings alone
    #[arg(long)]
    cooperative: bool,
    /// Succeed when no case is selected
    #[arg(long, value_name = "ACTION", value_enum, default_value = "fail")]
    no_tests: NoTests,
    /// Write no pending snapshots
    #[arg(long)]
    no_pending: bool,
    /// No summary and no annotations, whatever the job offers
    #[arg(long)]
    no_ci: bool,
    /// List every limit, tolerance, waiver and snapshot that differs from this commit (in a pull request on GitHub: by itself)
    #[arg(long, value_name = "REF")]
    edits_since: Option<String>,
    /// Only one part of the selected cases: count:M/N or hash:M/N (as nextest)
    #[arg(long, value_name = "PART")]
    partition: Option<Partition>,
    #[command(flatten)]
    build: BuildArgs,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
enum NoTests {
    #[default]
    Fail,
    Pass,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Args)]
struct BuildArgs {
    /// Cargo profile for all targets; `memcheck` is release with line tables, unstripped
    #[arg(long, value_name = "NAME", help_heading = "Build")]
    profile: Option<String>,
    /// Target triple for cargo targets
    #[arg(long, value_name = "TRIPLE", help_heading = "Build")]
    target: Option<String>,
    /// Features for cargo targets, as cargo takes them
    #[arg(short = 'F', long, value_name = "FEATURES", help_heading = "Build")]
    features: Vec<String>,
    /// All features
    #[arg(long, help_heading = "Build")]
    all_features: bool,
    /// No default features
    #[arg(long, help_heading = "Build")]
    no_default_features: bool,
    /// Cargo.lock must not change
    #[arg(long, help_heading = "Build")]
    locked: bool,
    /// No network
    #[arg(long, help_heading = "Build")]
    offline: bool,
    /// Both
    #[arg(long, help_heading = "Build")]
    frozen: bool,
}

#[derive(Clone, Debug, Default, Args)]
struct NamesArgs {
    /// Only these cases (whole names)
    #[arg(value_name = "CASE")]
    names: Vec<String>,
    #[command(flatten)]
    build: BuildArgs,
}

/// Of commands that build and measure nothing.
#[derive(Clone, Debug, Default, Args)]
struct PendingArgs {
    /// Only these cases (whole names)
    #[arg(value_name = "CASE")]
    names: Vec<String>,
}

#[derive(Clone, Debug, Default, Args)]
#[command(
    override_usage = "cargo memcheck show [OPTIONS] CASE[@CHECKPOINT]\n       cargo memcheck show [OPTIONS] -- PROGRAM [ARGUMENT]...\n       cargo memcheck show [OPTIONS] --pid PID\n       cargo memcheck show [OPTIONS] RESULTS.json|CAPTURES.jsonl [CASE[@CHECKPOINT]]\n       cargo memcheck show [OPTIONS] ELF-FILE"
)]
struct ShowArgs {
    /// A case of memcheck.toml, launched as the suite does
    #[arg(value_name = "CASE")]
    case: Option<String>,
    /// Of a recorded file: CASE or CASE@CHECKPOINT
    #[arg(value_name = "OF")]
    of: Option<String>,
    /// A program with its arguments, launched as it is here
    #[arg(value_name = "PROGRAM", last = true)]
    program: Vec<String>,
    /// Stop there: exec, main, exit, probe:NAME, function:SYMBOL, returns:SYMBOL, line:FILE:LINE, touch:VARIABLE, or a checkpoint of CASE; may be repeated
    ///
    /// Without it: main and exit, or all checkpoints of CASE.
    #[arg(long, value_name = "WHERE")]
    at: Vec<String>,
    /// Show the change since this place
    #[arg(long, value_name = "WHERE")]
    since: Option<String>,
    /// A running process, as it is now: stopped, read, and let go on untouched
    #[arg(long, value_name = "PID", value_parser = clap::value_parser!(i32).range(1..),
          conflicts_with_all = ["case", "of", "program", "at", "since", "fixed", "as_is"])]
    pid: Option<i32>,
    /// Launch PROGRAM with the settings of the suite: no randomisation, a small environment
    #[arg(long)]
    fixed: bool,
    /// Launch CASE as it would be here
    #[arg(long, conflicts_with = "fixed")]
    as_is: bool,
    /// Give up after so many seconds (default: 30, or the case's)
    #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(1..=86_400))]
    timeout: Option<u64>,
    /// Print the strings in memory of this role instead of the tables: runs of 4 and more printable ASCII characters, with offsets
    #[arg(long, value_name = "ROLE", conflicts_with_all = ["dump", "since"])]
    strings: Option<String>,
    /// Write the memory of this role to files in DIR, readable by their owner only: secrets may be in it
    #[arg(long, value_names = ["ROLE", "DIR"], num_args = 2, conflicts_with = "since")]
    dump: Option<Vec<String>>,
    /// See how deep the stacks of threads were when these ended
    #[arg(long, value_name = "WHAT", value_parser = ["stacks"])]
    watch: Option<String>,
    #[command(flatten)]
    build: BuildArgs,
}

#[derive(Clone, Copy, Debug, Default, Args)]
struct InitArgs {
    /// For a C project without cargo: with memcheck.h
    #[arg(long)]
    c: bool,
}

#[derive(Clone, Debug, Args)]
struct GlobalArgs {
    /// Cases measured at the same time (default: number of CPUs)
    #[arg(short, long, value_name = "N", global = true)]
    jobs: Option<usize>,
    /// More detail
    #[arg(short, long, action = clap::ArgAction::Count, global = true)]
    verbose: u8,
    /// Colour
    #[arg(long, value_name = "WHEN", value_enum, global = true)]
    color: Option<style::Color>,
    /// human, or json lines on standard output
    #[arg(long, value_name = "FORMAT", value_enum, default_value = "human", global = true)]
    message_format: MessageFormat,
    /// Judge by this environment of memcheck.toml, whatever it matches (default: the one without a name)
    #[arg(long, value_name = "NAME", global = true)]
    env: Option<String>,
    /// Directory or Cargo.toml to start from instead of the current directory
    #[arg(long, value_name = "PATH", global = true)]
    manifest_path: Option<PathBuf>,
}

/// How results are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum MessageFormat {
    Human,
    Json,
}

/// What was asked for, with everything the environment adds.
#[derive(Clone, Debug)]
pub(crate) struct Invocation {
    pub(crate) command: Command,
    /// Directory to look for `memcheck.toml` from.
    pub(crate) start: PathBuf,
    pub(crate) overrides: Overrides,
    pub(crate) jobs: usize,
    /// For standard error.
    pub(crate) style: Style,
    /// For standard output.
    pub(crate) output_style: Style,
    pub(crate) format: MessageFormat,
    /// `CI` is set to something that is not false.
    pub(crate) ci: bool,
    /// `INSTA_PENDING_DIR`
    pub(crate) pending_dir: Option<PathBuf>,
    /// Where this project lies in the repository that GitHub shows, `/`-separated, empty at its root: annotations speak of
    /// files from there.
    pub(crate) prefix: String,
    /// The branch that this change is for, as a CI service names it.
    pub(crate) base_branch: Option<String>,
    /// GitHub's files and variables, when this runs in one of its jobs and `--no-ci` was not given.
    pub(crate) github: Option<Github>,
    /// The environment, for targets.
    pub(crate) inherited: Vec<(OsString, OsString)>,
}

/// A subcommand with its own arguments.
#[derive(Clone, Debug)]
pub(crate) enum Command {
    Run(RunOptions),
    Show(ShowOptions),
    CompareBase(BaseOptions),
    CompareFiles(FilesOptions),
    SelfTest { blind: Option<String> },
    Docs(Part),
    Init { c: bool },
    Accept(Vec<String>),
    AcceptFrom { from: PathBuf, names: Vec<String> },
    AcceptEnvironment,
    Reject(Vec<String>),
    Review(Vec<String>),
    List(Vec<String>),
    Budget(BudgetOptions),
    Metrics,
    Doctor,
    Report(ReportOptions),
}

/// What only `run` has.
#[derive(Clone, Debug, Default)]
pub(crate) struct RunOptions {
    pub(crate) pass_without_cases: bool,
    pub(crate) no_pending: bool,
    /// `--edits-since`
    pub(crate) since: Option<String>,
}

/// What to compare with.
#[derive(Clone, Debug, Default)]
pub(crate) struct BaseOptions {
    /// As typed; absent: the default branch.
    pub(crate) reference: Option<String>,
    /// What a CI service calls the branch that a change is for.
    pub(crate) default_branch: Option<String>,
    pub(crate) limits_from_base: bool,
}

/// Two files, and the arguments of both if they are programs.
#[derive(Clone, Debug, Default)]
pub(crate) struct FilesOptions {
    pub(crate) before: String,
    pub(crate) now: String,
    pub(crate) args: Vec<String>,
    /// By their headers alone.
    pub(crate) headers: bool,
}

/// Parses the command line. Usage errors and `--help` end the process here, as every command line tool does; who asked for
/// JSON gets the error as a document too.
pub(crate) fn parse() -> Typed {
    let mut args: Vec<OsString> = std::env::args_os().collect();
    // Cargo starts a subcommand as `cargo-memcheck memcheck …`; the alias on a clone does not.
    if args.get(1).is_some_and(|arg| arg == "memcheck") {
        args.remove(1);
    }
    let wants_json = wants_json(&args);
    Typed::try_parse_from(args).unwrap_or_else(|error| {
        if wants_json && error.use_stderr() {
            // The text of clap is laid out for people: `error: …`, then usage and tips.
            let text = error.render().to_string();
            let mut lines = text.lines().map(str::trim_end).filter(|line| !line.is_empty());
            let title = lines.next().unwrap_or_default().trim_start_matches("error: ");
            let problem = lines.fold(Error::config(title), Error::detail);
            terminal::document(&problem);
        }
        error.exit()
    })
}

/// Whether JSON was asked for, of a command line that may not be one.
fn wants_json(args: &[OsString]) -> bool {
    let typed = args.iter().take_while(|arg| *arg != "--");
    let words: Vec<&str> = typed.filter_map(|arg| arg.to_str()).collect();
    words.contains(&"--message-format=json") || words.windows(2).any(|pair| pair == ["--message-format", "json"])
}

impl Typed {
    /// How to print on standard error, and in which form results are wanted.
    pub(crate) fn output(&self) -> (Style, MessageFormat) {
        let style = style::style(&self.global, std::io::stderr().is_terminal());
        (style, self.global.message_format)
    }
}

/// What was typed, together with the environment.
///
/// # Errors
/// It contradicts itself.
pub(crate) fn meaning(typed: Typed) -> Result<Invocation> {
    if typed.command.is_some() && typed.run != RunArgs::default() {
        return Err(Error::config(
            "only -j, -v, --color, --message-format, --env and --manifest-path may stand before a command",
        )
        .detail("write everything else after it; a case called like a command: cargo memcheck run NAME"));
    }
    let no_ci = match &typed.command {
        None => typed.run.no_ci,
        Some(TypedCommand::Run(args)) => args.no_ci,
        Some(TypedCommand::Report(_)) => false,
        Some(_) => true,
    };
    let (command, mut overrides) = match typed.command {
        None => run_command(typed.run),
        Some(TypedCommand::Run(args)) => run_command(args),
        Some(TypedCommand::Show(args)) => show_command(args),
        Some(TypedCommand::Compare(args)) => compare::compare_command(args)?,
        Some(TypedCommand::SelfTest(args)) => (Command::SelfTest { blind: args.blind }, Overrides::default()),
        Some(TypedCommand::Init(args)) => (Command::Init { c: args.c }, Overrides::default()),
        Some(TypedCommand::List(args)) => {
            let filters = args.filters.clone();
            (Command::List(filters), run_command(args).1)
        }
        Some(TypedCommand::Accept(args)) => {
            let names = args.names.clone();
            (accept::accept_command(args), named(&names))
        }
        Some(TypedCommand::Reject(args)) => (Command::Reject(args.names), Overrides::default()),
        Some(TypedCommand::Review(args)) => (Command::Review(args.names), Overrides::default()),
        Some(TypedCommand::Budget(args)) => (Command::Budget(budget::budget_options(&args)), named(&args.names)),
        Some(TypedCommand::Docs { part }) => (Command::Docs(part), Overrides::default()),
        Some(TypedCommand::Metrics) => (Command::Metrics, Overrides::default()),
        Some(TypedCommand::Doctor) => (Command::Doctor, Overrides::default()),
        Some(TypedCommand::Report(args)) => (
            Command::Report(report::report_options(args, typed.global.message_format)),
            Overrides::default(),
        ),
    };
    let global = typed.global;
    overrides.environment.clone_from(&global.env);
    let start = match &global.manifest_path {
        None => std::env::current_dir().map_err(|e| Error::config(format!("the current directory cannot be read: {e}")))?,
        Some(path) => {
            let path = std::path::absolute(path).map_err(|e| Error::file("resolve", path, &e))?;
            if path.is_dir() {
                path
            } else {
                path.parent().map(PathBuf::from).unwrap_or(path)
            }
        }
    };
    let jobs = global
        .jobs
        .unwrap_or_else(|| std::thread::available_parallelism().map_or(1, usize::from));
    if jobs == 0 {
        return Err(Error::config("--jobs 0 would measure nothing: write 1 or more"));
    }
    Ok(Invocation {
        command,
        overrides,
        jobs,
        style: style::style(&global, std::io::stderr().is_terminal()),
        output_style: style::style(&global, std::io::stdout().is_terminal()),
        format: global.message_format,
        ci: github::is_set("CI"),
        pending_dir: variable("INSTA_PENDING_DIR").filter(|v| !v.is_empty()).map(PathBuf::from),
        prefix: github::prefix(&start, variable("GITHUB_WORKSPACE")),
        base_branch: base_branch(),
        github: (github::is_set("GITHUB_ACTIONS") && !no_ci).then(|| {
            let job = ["GITHUB_RUN_ID", "GITHUB_REPOSITORY", "MEMCHECK_ARTIFACT"].map(text);
            Github::new(["GITHUB_STEP_SUMMARY", "GITHUB_OUTPUT"].map(variable), job)
        }),
        start,
        inherited: std::env::vars_os().collect(),
    })
}

fn run_command(args: RunArgs) -> (Command, Overrides) {
    let options = RunOptions {
        pass_without_cases: args.no_tests == NoTests::Pass,
        no_pending: args.no_pending,
        since: args.edits_since,
    };
    let overrides = Overrides {
        budgets: args.budgets,
        filters: args.filters,
        exact: args.exact,
        packages: args.packages,
        profile: args.build.profile.clone(),
        triple: args.build.target.clone(),
        cargo_args: cargo_args(&args.build),
        as_is: args.as_is,
        cooperative: args.cooperative,
        partition: args.partition,
        ..Overrides::default()
    };
    (Command::Run(options), overrides)
}

fn show_command(args: ShowArgs) -> (Command, Overrides) {
    let name = args
        .case
        .as_ref()
        .map(|case| case.split('@').next().unwrap_or_default().to_owned());
    let overrides = Overrides {
        as_is: args.as_is,
        ..named(&NamesArgs {
            names: name.into_iter().collect(),
            build: args.build,
        })
    };
    let options = ShowOptions {
        case: args.case,
        of: args.of,
        program: args.program,
        pid: args.pid,
        at: args.at,
        since: args.since,
        fixed: args.fixed,
        timeout: args.timeout,
        watch_stacks: args.watch.is_some(),
        contents: match (args.strings, args.dump.as_deref()) {
            (Some(role), _) => Some(Contents { role, dir: None }),
            (None, Some([role, dir])) => Some(Contents {
                role: role.clone(),
                dir: Some(dir.into()),
            }),
            (None, _) => None,
        },
    };
    (Command::Show(options), overrides)
}

/// Nothing but whole names.
fn only(names: Vec<String>) -> Overrides {
    Overrides {
        filters: names,
        exact: true,
        ..Overrides::default()
    }
}

fn named(args: &NamesArgs) -> Overrides {
    Overrides {
        profile: args.build.profile.clone(),
        triple: args.build.target.clone(),
        cargo_args: cargo_args(&args.build),
        ..only(args.names.clone())
    }
}

fn cargo_args(build: &BuildArgs) -> Vec<String> {
    let flags = [
        (build.all_features, "--all-features"),
        (build.no_default_features, "--no-default-features"),
        (build.locked, "--locked"),
        (build.offline, "--offline"),
        (build.frozen, "--frozen"),
    ];
    let mut args: Vec<String> = flags
        .into_iter()
        .filter(|(set, _)| *set)
        .map(|(_, flag)| flag.to_owned())
        .collect();
    for features in &build.features {
        args.extend(["--features".to_owned(), features.clone()]);
    }
    args
}

#[expect(
    clippy::disallowed_methods,
    reason = "the one place where the command line reads its environment"
)]
fn variable(name: &str) -> Option<OsString> {
    std::env::var_os(name)
}

fn text(name: &str) -> Option<String> {
    variable(name)
        .and_then(|value| value.into_string().ok())
        .filter(|value| !value.is_empty())
}

/// The branch that a change is for: GitHub's name of it, or GitLab's.
fn base_branch() -> Option<String> {
    text("GITHUB_BASE_REF").or_else(|| text("CI_MERGE_REQUEST_TARGET_BRANCH_NAME"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn invocation(args: &[&str]) -> Invocation {
        meaning(Typed::try_parse_from(std::iter::once(&"cargo-memcheck").chain(args)).unwrap()).unwrap()
    }

    #[test]
    fn words_that_are_no_command_are_filters() {
        let run = invocation(&["threads", "pool", "-j", "3"]);
        assert!(matches!(run.command, Command::Run(_)));
        assert_eq!(
            (run.overrides.filters, run.jobs),
            (vec!["threads".to_owned(), "pool".to_owned()], 3)
        );
        assert!(matches!(invocation(&["accept", "threads"]).command, Command::Accept(names) if names == ["threads"]));
    }

    #[test]
    fn every_global_option_may_stand_before_every_command() {
        let globals: [&[&str]; 7] = [
            &["-v"],
            &["-j", "1"],
            &["--jobs=1"],
            &["--color", "never"],
            &["--message-format", "json"],
            &["--manifest-path", "."],
            &["--verbose"],
        ];
        for command in [
            "run", "show", "compare", "init", "accept", "review", "reject", "list", "metrics", "budget", "doctor",
        ] {
            let alone = invocation(&[command]);
            for global in globals {
                let args = [global, &[command]].concat();
                let before = invocation(&args);
                assert_eq!(format!("{:?}", before.command), format!("{:?}", alone.command), "{args:?}");
                assert!(before.overrides.filters.is_empty(), "{args:?}");
                let after = invocation(&[&[command], global].concat());
                assert_eq!((before.jobs, before.format), (after.jobs, after.format), "{args:?}");
                assert_eq!(
                    (before.style.verbose, before.start),
                    (after.style.verbose, after.start),
                    "{args:?}"
                );
            }
        }
        for args in [["--exact", "list"], ["--locked", "accept"], ["grow", "list"]] {
            let typed = Typed::try_parse_from(std::iter::once(&"cargo-memcheck").chain(&args)).unwrap();
            assert!(meaning(typed).is_err(), "{args:?}");
        }
    }

    #[test]
    fn cargo_flags_are_forwarded() {
        let run = invocation(&["--locked", "-F", "a,b", "--profile", "dev"]);
        assert_eq!(run.overrides.cargo_args, ["--locked", "--features", "a,b"]);
        assert_eq!(run.overrides.profile.as_deref(), Some("dev"));
    }

    #[test]
    fn a_program_comes_after_two_dashes() {
        let show = invocation(&["show", "--at", "main", "-v", "--", "sh", "-c", "--at"]);
        let Command::Show(options) = show.command else {
            panic!("no show")
        };
        assert_eq!((options.case, options.at), (None, vec!["main".to_owned()]));
        assert_eq!((options.program.join(" "), show.style.verbose), ("sh -c --at".to_owned(), 1));
        let case = invocation(&["show", "pool@idle"]);
        assert_eq!(
            (case.overrides.filters, case.overrides.exact),
            (vec!["pool".to_owned()], true)
        );
    }

    #[test]
    fn the_command_line_is_consistent() {
        use clap::CommandFactory as _;
        Typed::command().debug_assert();
    }
}
