//! `Workspace`: what cargo says of the project, reduced to what configuration and builds need.

use std::path::PathBuf;

use super::TargetKind;

/// A cargo workspace.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Workspace {
    /// Its root directory.
    pub root: PathBuf,
    /// Cargo's target directory.
    pub target_dir: PathBuf,
    /// Members, by name.
    pub packages: Vec<Package>,
    /// Name of the root package; absent in a virtual workspace.
    pub root_package: Option<String>,
}

/// A member of the workspace.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Package {
    /// Its name.
    pub name: String,
    /// Its directory.
    pub dir: PathBuf,
    /// Programs it can build, with the features each requires.
    pub targets: Vec<PackageTarget>,
    /// Names of its features.
    pub features: Vec<String>,
    /// `[package.metadata.memcheck] tests`
    pub harness_tests: Vec<String>,
}

/// A program of a package.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PackageTarget {
    /// bin, example, test or bench
    pub kind: TargetKind,
    /// Its name.
    pub name: String,
    /// `required-features`
    pub required_features: Vec<String>,
}
