//! Settings that may stand in `[defaults]` and in `[[case]]` alike: profile, limits, time, environment, snapshot, budget.
//! Owns their keys and how a case overrides the defaults field by field.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::model::{AfterLast, ElfRule, LaunchLimits, Profile};

use super::budget::{self, Budget};
use super::cursor::{Form, Spot, Table, Value};
use super::diagnostic::quote;
use super::duration;
use super::elf;
use super::snapshot::{self, Written as SnapshotSettings};

/// The keys read here.
pub(super) const KEYS: [&str; 12] = [
    "profile",
    "timeout",
    "env",
    "limits",
    "cpus",
    "after_last",
    "as_is",
    "cooperative",
    "watch",
    "snapshot",
    "budget",
    "elf",
];

/// What is written at one level.
#[derive(Clone, Debug, Default)]
pub(super) struct Settings {
    pub(super) profile: Option<Spot<Profile>>,
    pub(super) timeout: Option<Duration>,
    pub(super) env: BTreeMap<String, String>,
    pub(super) limits: LaunchLimits,
    pub(super) cpus: Option<u32>,
    pub(super) after_last: Option<AfterLast>,
    pub(super) as_is: Option<bool>,
    /// Markers stop the target by themselves.
    pub(super) cooperative: Option<bool>,
    /// `watch = "stacks"`; `"none"` takes a default back.
    pub(super) watch_stacks: Option<bool>,
    pub(super) snapshot: SnapshotSettings,
    pub(super) budget: Budget,
    pub(super) elf: Vec<ElfRule>,
}

/// Reads the settings of a table; its other keys are the caller's.
pub(super) fn read(table: &Table<'_>) -> Settings {
    let get = |key| table.get(key);
    Settings {
        profile: get("profile").and_then(|value| match value.word("\"release\"")? {
            "debug" => value.fail(
                "cargo has no profile `debug`",
                "the profile of target/debug is called \"dev\"",
            ),
            name => Some(value.spot(profile(name))),
        }),
        timeout: get("timeout").and_then(|value| duration::read(&value, "30s")),
        env: get("env").map(|value| env(&value)).unwrap_or_default(),
        limits: get("limits").and_then(|value| limits(&value)).unwrap_or_default(),
        cpus: get("cpus").and_then(|value| u32::try_from(value.whole(1, 65_536)?).ok()),
        after_last: get("after_last").and_then(|value| value.choice(&[("kill", AfterLast::Kill), ("run", AfterLast::Run)])),
        as_is: get("as_is").and_then(|value| value.flag()),
        cooperative: get("cooperative").and_then(|value| value.flag()),
        watch_stacks: get("watch").and_then(|value| watch(&value)),
        snapshot: get("snapshot").map(|value| snapshot::read(&value)).unwrap_or_default(),
        budget: get("budget").map(|value| budget::read(&value)).unwrap_or_default(),
        elf: get("elf").map(|value| elf::read(&value)).unwrap_or_default(),
    }
}

/// The settings of a case over those of the defaults (budgets and demands on headers stay apart: policies come between).
pub(super) fn merged(defaults: &Settings, case: Settings) -> Settings {
    let mut env = defaults.env.clone();
    env.extend(case.env);
    Settings {
        profile: case.profile.or_else(|| defaults.profile.clone()),
        timeout: case.timeout.or(defaults.timeout),
        env,
        limits: LaunchLimits {
            stack_bytes: case.limits.stack_bytes.or(defaults.limits.stack_bytes),
            address_space_bytes: case.limits.address_space_bytes.or(defaults.limits.address_space_bytes),
            open_files: case.limits.open_files.or(defaults.limits.open_files),
        },
        cpus: case.cpus.or(defaults.cpus),
        after_last: case.after_last.or(defaults.after_last),
        as_is: case.as_is.or(defaults.as_is),
        cooperative: case.cooperative.or(defaults.cooperative),
        watch_stacks: case.watch_stacks.or(defaults.watch_stacks),
        snapshot: snapshot::merged(&defaults.snapshot, case.snapshot),
        budget: case.budget,
        elf: case.elf,
    }
}

/// `watch = "stacks"`; `"none"` takes a default back.
pub(super) fn watch(value: &Value<'_>) -> Option<bool> {
    value.choice(&[("stacks", true), ("none", false)])
}

/// `memcheck` is the profile the tool injects, any other name is cargo's.
pub(super) fn profile(name: &str) -> Profile {
    match name {
        "memcheck" => Profile::Injected,
        _ => Profile::Named(name.to_owned()),
    }
}

fn env(value: &Value<'_>) -> BTreeMap<String, String> {
    let mut env = BTreeMap::new();
    for (key, value) in value.table("env").map(|table| table.entries()).unwrap_or_default() {
        if key.value.is_empty() || key.value.contains(['=', '\0']) {
            value.fail::<()>(format!("{} cannot be a variable's name", quote(key.value)), "");
        } else if let Form::Whole = value.form() {
            value.fail::<()>(format!("{} must be a string", quote(key.value)), "put it in quotes");
        } else if let Some(text) = value.text("\"1\"") {
            env.insert(key.value.to_owned(), text.to_owned());
        }
    }
    env
}

fn limits(value: &Value<'_>) -> Option<LaunchLimits> {
    let table = value.table("limits")?;
    table.only(&["stack", "as", "nofile"], &[]);
    let size = |key| {
        let value = table.get(key)?;
        match value.size()? {
            0 => value.fail(format!("{} must be more than 0", quote(key)), ""),
            bytes => Some(bytes),
        }
    };
    Some(LaunchLimits {
        stack_bytes: size("stack"),
        address_space_bytes: size("as"),
        open_files: table.get("nofile").and_then(|value| value.whole(1, u64::from(u32::MAX))),
    })
}
