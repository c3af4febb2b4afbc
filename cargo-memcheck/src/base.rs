//! `cargo memcheck compare --base`: another commit of the project, built and measured here beside the working tree.

use std::process::ExitCode;

use memcheck_harness::build::{self, Base};
use memcheck_harness::config::{self, Source};
use memcheck_harness::error::{Error, Result};
use memcheck_harness::model::{Cancel, CaseComparison, Comparison, Presence, Side};
use memcheck_harness::pipeline::{self, Party, Terms};
use memcheck_harness::{budget, interrupt, report};

use crate::cli::{BaseOptions, Invocation, MessageFormat};
use crate::project::{self, Project};
use crate::{first, terminal};

/// Compares the working tree with a commit. Without a `memcheck.toml` every bin is compared at `main` and at its exit.
pub(crate) fn compare(invocation: &Invocation, options: &BaseOptions) -> Result<ExitCode> {
    let head = match project::find(invocation)? {
        Some(project) => Planned {
            written: Some(config::locate(&invocation.start)?.map_or_else(String::new, |source| source.text)),
            project,
        },
        None => match build::discover(&invocation.start)? {
            Some(workspace) => {
                let cancel = Cancel::new();
                interrupt::on_signals(&cancel)?;
                Planned {
                    written: None,
                    project: first::plan(invocation, workspace, cancel)?,
                }
            }
            None => return Err(project::no_configuration(invocation)),
        },
    };
    let progress = terminal::Progress::new(invocation);
    let base = build::base(
        &head.project.plan.root,
        &head.project.plan.data_dir,
        options.reference.as_deref(),
        options.default_branch.as_deref(),
        &head.project.cancel,
        &|event| progress.show(&pipeline::Event::Build(event)),
    )?;
    let text = format!("{} with {}", base.head_label, base.label);
    terminal::say(|out| report::verb(invocation.style, "Comparing", &text, out))?;
    if head.written.is_none() && config::locate(&base.root)?.is_some_and(|source| source.root == base.root) {
        let gone = format!("{} has a memcheck.toml, and the working tree has none any more", base.label);
        return Err(Error::config(gone).detail("restore it, or choose another base with --base REF"));
    }
    let (there, mut notes) = at_base(invocation, &head, &base)?;
    if base.same_commit {
        notes.push("the base is the commit of the working tree, and nothing is changed: another base is --base REF".to_owned());
    }
    if head.has_harness_tests() {
        notes.push("cases that harness tests build in Rust are not compared: only those of memcheck.toml are".to_owned());
    }
    if options.limits_from_base && there.written.is_none() {
        return Err(
            Error::config(format!("{} has no memcheck.toml to take limits from", base.label))
                .detail("compare without --limits-from, or choose a later base with --base REF"),
        );
    }
    let comparison = measured(invocation, options, &head, &there, &base, notes, &progress);
    // Whatever came of it, the worktree goes first; a mistake in that is told only when nothing else is.
    let removed = base.remove();
    progress.finish()?;
    let comparison = comparison?;
    removed?;
    terminal::print(|out| match invocation.format {
        MessageFormat::Human => report::comparison(&comparison, invocation.output_style, out),
        MessageFormat::Json => report::comparison_json(&comparison, out),
    })?;
    if let Some(text) = &head.project.nothing_matches {
        terminal::say(|out| report::warning(invocation.style, text, out))?;
    }
    Ok(ExitCode::from(report::of_comparison(&comparison)))
}

/// One side's plan and the text of the `memcheck.toml` it comes from.
pub(crate) struct Planned {
    pub(crate) project: Project,
    pub(crate) written: Option<String>,
}

impl Planned {
    fn has_harness_tests(&self) -> bool {
        let mut packages = self.project.workspace.iter().flat_map(|workspace| &workspace.packages);
        packages.any(|package| !package.harness_tests.is_empty())
    }

    fn party(&self) -> Party<'_> {
        Party {
            plan: &self.project.plan,
            workspace: self.project.workspace.as_ref(),
        }
    }
}

/// The plan of the base: its own `memcheck.toml`; the working tree's where it has none.
pub(crate) fn at_base(invocation: &Invocation, head: &Planned, base: &Base) -> Result<(Planned, Vec<String>)> {
    let mut notes = Vec::new();
    let cancel = head.project.cancel.clone();
    let mut workspace = build::discover(&base.root)?.filter(|workspace| workspace.root.starts_with(&base.root));
    if let Some(workspace) = &mut workspace {
        workspace.target_dir.clone_from(&base.target_dir);
    }
    let mut asked = invocation.clone();
    asked.start.clone_from(&base.root);
    asked.overrides.environment_may_lack = true;
    // Built where nothing of the working tree's can be taken for it.
    let target_dir = base.target_dir.display().to_string();
    asked.overrides.cargo_args.extend(["--target-dir".to_owned(), target_dir]);
    let own = config::locate(&base.root)?.filter(|source| source.root == base.root);
    let (mut project, written) = match (own, &head.written) {
        (Some(source), Some(_)) => (project::read_with(&asked, &source, workspace, cancel)?, Some(source.text)),
        (None, Some(text)) => {
            let source = Source {
                root: base.root.clone(),
                path: base.root.join(&head.project.plan.file),
                text: text.clone(),
            };
            notes.push(format!(
                "{} has no memcheck.toml: its programs are measured with the cases of the working tree",
                base.label
            ));
            let project = project::read_with(&asked, &source, workspace, cancel).map_err(|error| {
                error.detail(format!(
                    "{} has no memcheck.toml, and the working tree's does not fit there",
                    base.label
                ))
            })?;
            (project, None)
        }
        (_, None) => match workspace {
            Some(workspace) => (first::plan(&asked, workspace, cancel)?, None),
            None => {
                return Err(Error::config(format!("{} is no cargo project yet", base.label))
                    .detail("choose a later base with --base REF"));
            }
        },
    };
    project.plan.data_dir = base.target_dir.join("memcheck-data");
    Ok((Planned { project, written }, notes))
}

fn measured(
    invocation: &Invocation,
    options: &BaseOptions,
    head: &Planned,
    there: &Planned,
    base: &Base,
    mut notes: Vec<String>,
    progress: &terminal::Progress<'_>,
) -> Result<Comparison> {
    let terms = Terms {
        limits_of_before: options.limits_from_base,
        unending: head.written.is_none(),
        ..Terms::default()
    };
    let cancel = &head.project.cancel;
    let compared = pipeline::versus(there.party(), head.party(), terms, &head.project.options, cancel, &|event| {
        progress.show(&event);
    })?;
    let [before, now] = compared.environments;
    let mut cases = compared.cases;
    if !invocation.overrides.filters.is_empty() {
        // Of the cases that are gone only those that were asked for are told.
        cases.retain(|case: &CaseComparison| {
            case.presence != Presence::OnlyBefore
                || invocation
                    .overrides
                    .filters
                    .iter()
                    .any(|filter| case.report.name.contains(filter))
        });
    }
    let waiving = if options.limits_from_base { there } else { head };
    notes.extend(waived(waiving, &cases));
    Ok(Comparison {
        schema: 0,
        tool_version: env!("CARGO_PKG_VERSION").to_owned(),
        before: Side {
            word: "base".to_owned(),
            label: base.label.clone(),
            environment: before,
        },
        now: Side {
            word: "now".to_owned(),
            label: base.head_label.clone(),
            environment: now,
        },
        same_machine: true,
        cases,
        notes,
        interrupted: cancel.signal(),
    })
}

/// What became of waivers that speak of a limit that was broken here.
fn waived(side: &Planned, cases: &[CaseComparison]) -> Vec<String> {
    let project = &side.project;
    let both = cases.iter().filter(|case| case.presence == Presence::Both);
    let results = budget::waivers(
        &project.plan.defaults.waivers,
        project.options.today,
        both.map(|case| &case.report),
        false,
        &config::is_of_file,
    );
    let needed = results.iter().filter(|result| !result.uses.is_empty());
    needed.map(report::waiver_text).collect()
}
