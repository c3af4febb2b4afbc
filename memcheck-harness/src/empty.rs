//! What an empty program costs here: built as a case's program is, with its compiler and its flags or profile, measured once, and
//! kept by what it was built and ran with. Its own memory is the part of a program's that nobody wrote.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use crate::error::{Error, Result};
use crate::model::{
    At, Binary, Cancel, Case, CaseReport, CheckpointSpec, Defaults, EmptyCost, EmptyProgram, ExpectedEnd, Plan, Profile, Target,
    TargetKind, Workspace,
};
use crate::pipeline::{self, Options};
use crate::{build, capture, compare};

/// Part of every key: raised when the programs or the way of measuring change.
const RECIPE: &str = "1";
const C: &str = "int main(void)\n{\n    return 0;\n}\n";
const RUST: &str = "fn main() {}\n";
/// Name of the programs.
const NAME: &str = "empty";

/// The empty programs of a run: one for each way of building and launching.
#[derive(Debug, Default)]
pub struct Empties {
    known: BTreeMap<String, Result<EmptyProgram>>,
}

impl Empties {
    /// The empty program for a case; `None` for targets that are not built here, of which no compiler is known, and for those
    /// that nobody traces.
    ///
    /// # Errors
    /// It cannot be built with these flags, or not be measured.
    pub fn of(&mut self, plan: &Plan, case: &Case, options: &Options, cancel: &Cancel) -> Option<Result<EmptyProgram>> {
        if case.cooperative {
            return None;
        }
        // How it is launched, and what of its memory counts as its own.
        let launch = format!("{:?} {:?} {:?} {:?}", case.as_is, case.limits, case.cpus, plan.defaults.own);
        let built = match &case.target {
            Target::C {
                cflags,
                ldflags,
                compiler,
                ..
            } => format!("{compiler:?} {cflags:?} {ldflags:?}"),
            Target::Cargo { profile, triple, .. } => format!("{profile:?} {triple:?}"),
            Target::Built { .. } | Target::Command { .. } => return None,
        };
        let key = format!("{built} {launch}");
        if !self.known.contains_key(&key) {
            let found = measured(plan, case, &launch, options, cancel);
            self.known.insert(key.clone(), found);
        }
        self.known.get(&key).cloned()
    }
}

fn measured(plan: &Plan, case: &Case, launch: &str, options: &Options, cancel: &Cancel) -> Result<EmptyProgram> {
    let language = if matches!(case.target, Target::C { .. }) {
        "C"
    } else {
        "Rust"
    };
    let directory = plan.data_dir.join(NAME);
    let (own, workspace) = match &case.target {
        Target::Cargo { profile, triple, .. } => of_cargo(profile, triple.clone(), &directory)?,
        _ => (of_c(plan, &case.target, &directory)?, None),
    };
    let own = alone(own, plan, case);
    let binary = build::build(&own, workspace.as_ref(), cancel, &|_| ())?;
    let binary = binary
        .into_iter()
        .next()
        .unwrap_or_else(|| Err(Error::tool("nothing was built")))?;
    let kept = directory.join(format!("{}.txt", key(&binary, launch)?));
    let toolchain = binary.toolchain.clone().unwrap_or_default();
    let program = |at| EmptyProgram {
        language: language.to_owned(),
        toolchain: toolchain.clone(),
        at,
    };
    if let Some(at) = fs::read_to_string(&kept).ok().and_then(|text| read(&text)) {
        return Ok(program(at));
    }
    let reports = pipeline::observe(&own, workspace.as_ref(), options, cancel, &|_| ())?;
    let report = reports
        .into_iter()
        .next()
        .ok_or_else(|| Error::interrupted(cancel.signal().unwrap_or_default()))?;
    if let Some(problem) = report.problem {
        return Err(Error::from(problem));
    }
    let at = costs(&report);
    compare::write_whole(&kept, written(&at).as_bytes())?;
    Ok(program(at))
}

/// A plan of one C program, with the case's compiler and flags. Paths in flags are relative to the root, where it lies below.
fn of_c(plan: &Plan, target: &Target, directory: &Path) -> Result<Plan> {
    let source = directory.join("empty.c");
    put(&source, C)?;
    let (root, source) = match source.strip_prefix(&plan.root) {
        Ok(below) => (plan.root.clone(), below.to_path_buf()),
        Err(_) => (directory.to_path_buf(), PathBuf::from("empty.c")),
    };
    let mut target = target.clone();
    if let Target::C { sources, .. } = &mut target {
        *sources = vec![source];
    }
    Ok(of(root, plan.data_dir.clone(), target, Vec::new(), false))
}

/// A package below the target directory, so that the project's `.cargo/config.toml` holds for it; profiles of the project's own
/// manifest are release here.
fn of_cargo(profile: &Profile, triple: Option<String>, directory: &Path) -> Result<(Plan, Option<Workspace>)> {
    let root = directory.join("rust");
    let mut manifest = format!(
        "[package]\nname = \"{NAME}\"\nversion = \"0.0.0\"\nedition = \"2021\"\n\n[[bin]]\nname = \"{NAME}\"\npath = \"main.rs\"\n\n\
         [workspace]\n"
    );
    if let Profile::Named(name) = profile
        && !["release", "dev", "test", "bench"].contains(&name.as_str())
    {
        let _ = write!(manifest, "\n[profile.{name}]\ninherits = \"release\"\n");
    }
    put(&root.join("main.rs"), RUST)?;
    put(&root.join("Cargo.toml"), &manifest)?;
    let target_dir = directory.join("target");
    let mut workspace = build::discover(&root)?.ok_or_else(|| Error::tool("cargo does not see the empty package"))?;
    workspace.target_dir.clone_from(&target_dir);
    let target = Target::Cargo {
        kind: TargetKind::Bin,
        name: NAME.to_owned(),
        package: None,
        features: Vec::new(),
        profile: profile.clone(),
        triple,
    };
    let args = ["--quiet", "--offline", "--target-dir"].map(str::to_owned);
    let args = args.into_iter().chain([target_dir.display().to_string()]).collect();
    Ok((of(root, directory.join("data"), target, args, true), Some(workspace)))
}

fn of(root: PathBuf, data_dir: PathBuf, target: Target, cargo_args: Vec<String>, is_cargo: bool) -> Plan {
    Plan {
        cases: vec![Case::new(NAME, &root, target)],
        root,
        file: "memcheck.toml".into(),
        is_cargo,
        data_dir,
        defaults: Defaults {
            cargo_args,
            ..Defaults::default()
        },
        cases_in_file: 1,
        partition: None,
    }
}

/// The empty program is launched as the case is, and what counts as own of the one does of the other.
fn alone(mut empty: Plan, plan: &Plan, case: &Case) -> Plan {
    empty.defaults.own.clone_from(&plan.defaults.own);
    for own in &mut empty.cases {
        own.as_is = case.as_is;
        own.limits = case.limits;
        own.cpus = case.cpus;
        own.exit = Some(ExpectedEnd::Success);
        own.checkpoints = [("main", At::Main), ("exit", At::Exit)]
            .map(|(name, at)| CheckpointSpec::new(name, at))
            .to_vec();
    }
    empty
}

/// What decides what is measured: the program byte by byte, the C library and the machine, how it is launched and what is own.
fn key(binary: &Binary, launch: &str) -> Result<String> {
    let bytes = fs::read(&binary.path).map_err(|error| Error::file("read", &binary.path, &error))?;
    let mut facts = format!(
        "{RECIPE} {launch} {:?}",
        capture::libc_of(std::iter::once(binary.path.as_path()))
    );
    for (name, value) in capture::environment().facts {
        // A string takes all that is written.
        let _ = write!(facts, " {name}={value}");
    }
    Ok(format!("{:016x}{:016x}", fnv(&bytes), fnv(facts.as_bytes())))
}

/// FNV-1a, 64 bits (RFC 9923).
fn fnv(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

/// Own memory at each place.
fn costs(report: &CaseReport) -> BTreeMap<String, EmptyCost> {
    let stops = report.checkpoints.iter();
    stops
        .map(|stop| {
            let sum = stop.map.sum(|role| role.is_own());
            let cost = EmptyCost {
                reserved: sum.reserved,
                resident: sum.resident,
                anon: sum.anon,
            };
            (stop.name.clone(), cost)
        })
        .collect()
}

fn written(at: &BTreeMap<String, EmptyCost>) -> String {
    let value = |value: Option<u64>| value.map_or("-".to_owned(), |value| value.to_string());
    let lines = at.iter().map(|(name, cost)| {
        let (resident, anon) = (value(cost.resident), value(cost.anon));
        format!("{name} {} {resident} {anon}\n", cost.reserved)
    });
    lines.collect()
}

fn read(text: &str) -> Option<BTreeMap<String, EmptyCost>> {
    let value = |word: &str| match word {
        "-" => Some(None),
        number => number.parse().ok().map(Some),
    };
    let lines: Option<BTreeMap<String, EmptyCost>> = text
        .lines()
        .map(|line| match line.split(' ').collect::<Vec<_>>().as_slice() {
            [name, reserved, resident, anon] => {
                let cost = EmptyCost {
                    reserved: reserved.parse().ok()?,
                    resident: value(resident)?,
                    anon: value(anon)?,
                };
                Some(((*name).to_owned(), cost))
            }
            _ => None,
        })
        .collect();
    lines.filter(|lines| !lines.is_empty())
}

/// Writes a file unless it says this already: a build takes a new file for a change.
fn put(path: &Path, text: &str) -> Result<()> {
    if fs::read_to_string(path).is_ok_and(|there| there == text) {
        return Ok(());
    }
    compare::write_whole(path, text.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_kept_is_read_again() {
        let cost = |reserved, anon| EmptyCost {
            reserved,
            resident: None,
            anon,
        };
        let all = BTreeMap::from([
            ("exit".to_owned(), cost(4096, Some(0))),
            ("main".to_owned(), cost(8192, None)),
        ]);
        assert_eq!(read(&written(&all)), Some(all));
        for broken in ["", "exit", "exit 1 2", "exit 1 2 x\n", "exit 1 2 3 4\n"] {
            assert_eq!(read(broken), None, "{broken}");
        }
    }
}
