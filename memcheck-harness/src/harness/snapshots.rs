//! What insta's variables ask for beyond pending files: approved files written in place, and the list of snapshots in use.

use std::fs::OpenOptions;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use super::environment::Update;
use crate::compare::{self, Options};
use crate::error::{Error, Result};
use crate::model::{Environment, Plan, SnapshotStatus};
use crate::normalize;

/// Whether a snapshot with this outcome is approved at once.
pub(super) fn in_place(update: Update, status: SnapshotStatus) -> bool {
    match status {
        SnapshotStatus::New => matches!(update, Update::Always | Update::Unseen | Update::Force),
        SnapshotStatus::Differs | SnapshotStatus::Unsteady => matches!(update, Update::Always | Update::Force),
        SnapshotStatus::Same => update == Update::Force,
        SnapshotStatus::Off | SnapshotStatus::NotCompared => false,
    }
}

/// Whether comparing leaves pending files.
pub(super) fn pending(update: Update) -> bool {
    matches!(update, Update::New | Update::Unseen)
}

/// Makes a measured text the approved one, by the one way there is: through a pending file. `plan` holds the case alone.
pub(super) fn approve(plan: &Plan, text: &str) -> Result<()> {
    let Some(case) = plan.cases.first() else { return Ok(()) };
    let measured = normalize::parse(text)?;
    let outcome = compare::compare(plan, case, &measured, None, IN_PLACE);
    if let Some(error) = outcome.pending_error {
        return Err(Error::tool(error));
    }
    accept(plan, &compare::path(case))
}

/// Puts this environment on record. `plan` holds one case.
pub(super) fn approve_environment(plan: &Plan, environment: &Environment) -> Result<()> {
    compare::propose_environment(plan, environment, None)?;
    accept(plan, &compare::environment_path(plan))
}

const IN_PLACE: Options<'_> = Options {
    write: true,
    pending_dir: None,
};

fn accept(plan: &Plan, target: &Path) -> Result<()> {
    let pending = compare::pending(plan, Options::default())?;
    let ours = pending.iter().find(|pending| pending.target == target);
    ours.map_or(Ok(()), compare::accept)
}

/// Adds snapshots that are in use to insta's list. Each line is written at once: many processes share the file.
pub(super) fn refer(list: Option<&Path>, snapshots: &[PathBuf]) -> Result<()> {
    let Some(list) = list else { return Ok(()) };
    let failed = |error| Error::file("write", list, &error);
    let mut file = OpenOptions::new().append(true).create(true).open(list).map_err(failed)?;
    for snapshot in snapshots {
        file.write_all(format!("{}\n", snapshot.display()).as_bytes())
            .map_err(failed)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{At, Case, CheckpointSpec, Defaults, Snapshot, State, Target};

    fn plan(dir: &Path) -> Plan {
        let program = "true".to_owned();
        let mut case = Case::new("c", dir, Target::Command { program });
        case.checkpoints = vec![CheckpointSpec::new("a", At::Main)];
        Plan {
            root: dir.to_path_buf(),
            file: PathBuf::from("memcheck.toml"),
            is_cargo: false,
            data_dir: dir.join("target/memcheck-data"),
            defaults: Defaults::default(),
            cases: vec![case],
            cases_in_file: 2,
            partition: None,
        }
    }

    #[test]
    fn the_table_of_insta() {
        use SnapshotStatus::{Differs, New, Same, Unsteady};
        for (update, statuses, leaves_pending) in [
            (Update::New, &[][..], true),
            (Update::Always, &[New, Differs, Unsteady], false),
            (Update::Unseen, &[New], true),
            (Update::Force, &[New, Differs, Unsteady, Same], false),
            (Update::No, &[], false),
        ] {
            let all = [New, Differs, Unsteady, Same, SnapshotStatus::Off, SnapshotStatus::NotCompared];
            let found: Vec<_> = all.into_iter().filter(|status| in_place(update, *status)).collect();
            assert_eq!(found, statuses, "{update:?}");
            assert_eq!(pending(update), leaves_pending, "{update:?}");
        }
    }

    #[test]
    fn an_approved_text_is_read_again_and_nothing_stays_pending() {
        let dir = tempfile::tempdir().unwrap();
        let plan = plan(dir.path());
        let snapshot = Snapshot {
            case: "c".to_owned(),
            checkpoints: vec![State {
                name: "a".to_owned(),
                ..State::default()
            }],
            ..Snapshot::default()
        };
        let text = normalize::render(&snapshot);
        approve(&plan, &text).unwrap();
        approve(&plan, &text).unwrap();
        assert_eq!(compare::approved(&plan.cases[0]).unwrap().unwrap().states(), Some(&snapshot));
        approve_environment(&plan, &Environment::default()).unwrap();
        assert!(compare::environment_path(&plan).exists());
        assert!(compare::pending(&plan, Options::default()).unwrap().is_empty());
        let list = dir.path().join("list");
        refer(Some(&list), &[compare::path(&plan.cases[0])]).unwrap();
        refer(Some(&list), &[compare::environment_path(&plan)]).unwrap();
        let list = std::fs::read_to_string(list).unwrap();
        assert!(
            list.lines().all(|line| Path::new(line).exists()) && list.lines().count() == 2,
            "{list}"
        );
    }
}
