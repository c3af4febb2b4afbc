//! Case + binary + the caller's environment → how to launch. Pure: decides what a target gets to see, starts nothing.

use std::ffi::{OsStr, OsString};

use crate::model::{Binary, Case, Children};
use crate::trace::Launch;

/// Variables that are passed on by default: enough to find programs, a home and a place for temporary files.
const PASSED: [&str; 3] = ["PATH", "HOME", "TMPDIR"];

/// Variables (or, with a final `_`, families) that change how much memory a program uses. They are not passed on, and a
/// case says so when one of them is set in the caller's environment.
/// Sources: mallopt(3), ld.so(8), the GNU libc manual on tunables, the Rust standard library's thread module, jemalloc(3).
/// `LD_LIBRARY_PATH` is not among them: cargo sets it for whatever it runs, and a target that needs it says so by itself.
const MEMORY_RELEVANT: [&str; 10] = [
    "MALLOC_",
    "GLIBC_TUNABLES",
    "RUST_MIN_STACK",
    "LD_PRELOAD",
    "LD_BIND_NOW",
    "_RJEM_MALLOC_CONF",
    "MIMALLOC_",
    "PYTHONMALLOC",
    "OMP_NUM_THREADS",
    "OMP_STACKSIZE",
];

/// Bytes kept of each output stream of a target.
const OUTPUT_TAIL_BYTES: usize = 64 * 1024;

/// How to launch a case, and remarks about it: memory-relevant variables that were not passed on.
#[must_use]
pub(crate) fn launch(case: &Case, binary: &Binary, inherited: &[(OsString, OsString)]) -> (Launch, Vec<String>) {
    let env = if case.as_is {
        with_own(inherited.to_vec(), case)
    } else {
        environment(case, inherited)
    };
    let notes = if case.as_is { Vec::new() } else { not_passed(case, inherited) };
    let launch = Launch {
        program: binary.path.clone(),
        argv0: binary.argv0.clone(),
        args: case.args.iter().map(OsString::from).collect(),
        env: Some(env),
        cwd: case.cwd.clone(),
        stdin: case.stdin.clone(),
        tty: case.tty,
        limits: case.limits,
        cpus: case.cpus,
        fixed: !case.as_is,
        watch_stacks: case.watch_stacks,
        timeout: case.timeout,
        dies_with_us: case.detach,
        lets_children_go: case.children == Children::Detach,
        output_tail_bytes: OUTPUT_TAIL_BYTES,
    };
    (launch, notes)
}

/// The fixed environment: what is passed on, `LC_ALL=C` (a locale maps files and allocates), then the case's own; sorted.
fn environment(case: &Case, inherited: &[(OsString, OsString)]) -> Vec<(OsString, OsString)> {
    let mut env: Vec<(OsString, OsString)> = inherited
        .iter()
        .filter(|(name, _)| PASSED.iter().any(|passed| name == OsStr::new(passed)))
        .cloned()
        .collect();
    env.push(("LC_ALL".into(), "C".into()));
    env = with_own(env, case);
    env.sort();
    env
}

/// The case's own variables on top.
fn with_own(mut env: Vec<(OsString, OsString)>, case: &Case) -> Vec<(OsString, OsString)> {
    env.retain(|(name, _)| !case.env.keys().any(|own| OsStr::new(own) == name));
    env.extend(case.env.iter().map(|(name, value)| (name.into(), value.into())));
    env
}

fn not_passed(case: &Case, inherited: &[(OsString, OsString)]) -> Vec<String> {
    let relevant = |name: &str| {
        MEMORY_RELEVANT.iter().any(|known| {
            if known.ends_with('_') {
                name.starts_with(known)
            } else {
                name == *known
            }
        })
    };
    let mut names: Vec<&str> = inherited
        .iter()
        .filter_map(|(name, _)| name.to_str())
        .filter(|name| relevant(name) && !case.env.contains_key(*name))
        .collect();
    names.sort_unstable();
    names
        .into_iter()
        .map(|name| format!("{name} is set here but was not passed to the target (to pass it: env = {{ {name} = \"…\" }})"))
        .collect()
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;
    use crate::model::{Name, Target};

    fn setup() -> (Case, Binary, Vec<(OsString, OsString)>) {
        let mut case = Case::new(
            "a",
            "/p",
            Target::Command {
                program: "true".to_owned(),
            },
        );
        case.env.insert("MALLOC_ARENA_MAX".to_owned(), "2".to_owned());
        let binary = Binary {
            path: PathBuf::from("/bin/true"),
            label: "true".to_owned(),
            script: false,
            toolchain: None,
            argv0: Name::from("true"),
        };
        let inherited = [
            ("PATH", "/bin"),
            ("CARGO_HOME", "/c"),
            ("MALLOC_ARENA_MAX", "1"),
            ("MALLOC_PERTURB_", "7"),
            ("LC_ALL", "de_DE.UTF-8"),
        ];
        (
            case,
            binary,
            inherited.into_iter().map(|(n, v)| (n.into(), v.into())).collect(),
        )
    }

    #[test]
    fn only_the_allow_list_and_the_cases_own_variables_reach_the_target() {
        let (case, binary, inherited) = setup();
        let (launch, notes) = launch(&case, &binary, &inherited);
        let env: Vec<String> = launch
            .env
            .into_iter()
            .flatten()
            .map(|(n, v)| format!("{}={}", n.display(), v.display()))
            .collect();
        assert_eq!(env, ["LC_ALL=C", "MALLOC_ARENA_MAX=2", "PATH=/bin"]);
        assert_eq!(notes.len(), 1, "{notes:?}");
        assert!(notes[0].starts_with("MALLOC_PERTURB_ is set here"));
    }

    #[test]
    fn as_is_changes_nothing() {
        let (mut case, binary, inherited) = setup();
        case.as_is = true;
        let (launch, notes) = launch(&case, &binary, &inherited);
        assert_eq!((launch.fixed, notes.len()), (false, 0));
        let env = launch.env.unwrap();
        let arenas: Vec<_> = env.iter().filter(|(name, _)| name == "MALLOC_ARENA_MAX").collect();
        assert_eq!(env.len(), inherited.len());
        assert_eq!(
            arenas,
            [&("MALLOC_ARENA_MAX".into(), "2".into())],
            "but the case's own variables"
        );
    }
}
