//! Asking cargo about the workspace, and reducing its answer to `Workspace`.

use std::path::{Path, PathBuf};

use cargo_metadata::{Error as MetadataError, Metadata, MetadataCommand};

use super::near;
use super::tools::Tools;
use crate::error::{Error, Result};
use crate::model::{Package, PackageTarget, TargetKind, Workspace};

/// The workspace around a directory; `None` without any `Cargo.toml` upwards.
pub(super) fn workspace(dir: &Path, tools: &Tools) -> Result<Option<Workspace>> {
    let dir = std::path::absolute(dir).map_err(|error| Error::file("find", dir, &error))?;
    let Some(manifest) = dir.ancestors().map(|up| up.join("Cargo.toml")).find(|path| path.is_file()) else {
        return Ok(None);
    };
    let metadata = MetadataCommand::new()
        .cargo_path(&tools.cargo)
        .current_dir(&dir)
        .no_deps()
        .exec()
        .map_err(|error| failed(error, &manifest, tools))?;
    reduce(&metadata).map(Some)
}

fn failed(error: MetadataError, manifest: &Path, tools: &Tools) -> Error {
    match error {
        MetadataError::CargoMetadata { stderr } => stderr.trim_end().lines().take(60).fold(
            Error::config(format!("cargo cannot read the workspace of {}", manifest.display())),
            |error, line| error.detail(format!("  {line}")),
        ),
        MetadataError::Io(error) => Error::machine(format!("could not run {}: {error}", tools.cargo.display())).detail(format!(
            "{} needs cargo: install Rust, or set CARGO to its path",
            manifest.display()
        )),
        other => Error::tool(format!("could not understand cargo metadata: {other}")),
    }
}

fn reduce(metadata: &Metadata) -> Result<Workspace> {
    let mut packages = metadata
        .workspace_packages()
        .into_iter()
        .map(package)
        .collect::<Result<Vec<_>>>()?;
    packages.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(Workspace {
        root: metadata.workspace_root.clone().into(),
        target_dir: metadata.target_directory.clone().into(),
        packages,
        root_package: metadata.root_package().map(|package| package.name.to_string()),
    })
}

fn package(package: &cargo_metadata::Package) -> Result<Package> {
    let dir = package.manifest_path.parent().map_or_else(PathBuf::new, PathBuf::from);
    let mut targets: Vec<PackageTarget> = package
        .targets
        .iter()
        .filter_map(|target| {
            Some(PackageTarget {
                kind: kind(target)?,
                name: target.name.clone(),
                required_features: target.required_features.clone(),
            })
        })
        .collect();
    targets.sort_by(|a, b| (a.kind, &a.name).cmp(&(b.kind, &b.name)));
    Ok(Package {
        name: package.name.to_string(),
        dir,
        harness_tests: harness_tests(package, &targets)?,
        targets,
        features: package.features.keys().cloned().collect(),
    })
}

/// The kind of a target that gives a program. An example may also be a library.
pub(super) fn kind(target: &cargo_metadata::Target) -> Option<TargetKind> {
    use cargo_metadata::{CrateType, TargetKind as Kind};
    let program = || target.crate_types.contains(&CrateType::Bin);
    target.kind.iter().find_map(|kind| match kind {
        Kind::Bin => Some(TargetKind::Bin),
        Kind::Example if program() => Some(TargetKind::Example),
        Kind::Test => Some(TargetKind::Test),
        Kind::Bench => Some(TargetKind::Bench),
        _ => None,
    })
}

/// `[package.metadata.memcheck] tests = ["name", …]`. Cargo gives no place for it, so errors name the manifest.
fn harness_tests(package: &cargo_metadata::Package, targets: &[PackageTarget]) -> Result<Vec<String>> {
    let wrong = |what: String| Error::config(format!("[package.metadata.memcheck] of {}: {what}", package.manifest_path));
    let Some(section) = package.metadata.get("memcheck") else {
        return Ok(Vec::new());
    };
    let Some(section) = section.as_object() else {
        return Err(wrong("must be a table".to_owned()));
    };
    if let Some(key) = section.keys().find(|key| *key != "tests") {
        return Err(wrong(format!("unknown key `{key}`")).detail("it has one key: tests = [\"name of a test target\"]"));
    }
    let names = section.get("tests").map_or(Some(Vec::new()), |tests| {
        tests
            .as_array()?
            .iter()
            .map(|name| name.as_str().map(str::to_owned))
            .collect()
    });
    let Some(names) = names else {
        return Err(wrong("`tests` must be a list of names".to_owned()));
    };
    let tests: Vec<&str> = targets
        .iter()
        .filter(|t| t.kind == TargetKind::Test)
        .map(|t| t.name.as_str())
        .collect();
    if let Some(name) = names.iter().find(|name| !tests.contains(&name.as_str())) {
        let error = wrong(format!("there is no test target `{name}`"));
        return Err(match near::hint(name, tests.iter().copied()) {
            Some(hint) => error.detail(hint),
            None => error.detail(format!("test targets of this package: {}", listed(&tests))),
        });
    }
    Ok(names)
}

/// Names for a message: "a, b", or "none".
pub(super) fn listed(names: &[&str]) -> String {
    if names.is_empty() {
        "none".to_owned()
    } else {
        names.join(", ")
    }
}
