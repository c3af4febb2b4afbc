//! The self-test: one regression of each kind is planted into a bundled program, and each must be told by its right cause and
//! size, while the program as it was must be the same as itself. Owns the plants; measuring and explaining are the line's.

use crate::config::{self, Overrides, Source};
use crate::error::{Error, Result};
use crate::model::{Cancel, CaseComparison, Change, Planted, Role};
use crate::pipeline::{self, Event, Options, Party, Terms};

/// The bundled program.
const SOURCE: &str = include_str!("selftest/plants.c");

/// One regression, and how it must be told.
struct Plant {
    name: &'static str,
    /// Flags for the compiler and the linker before and after.
    before: &'static [&'static str],
    after: &'static [&'static str],
    checkpoint: &'static str,
    /// What the cause must say.
    says: &'static str,
    /// Row and column, and by how much it must change at least and at most.
    change: Option<(&'static str, &'static str, u64, u64)>,
}

const KIB: u64 = 1024;

const PLANTS: [Plant; 8] = [
    Plant {
        name: "stack-size",
        before: &[],
        after: &["-DSTACK_KIB=1024"],
        checkpoint: "ready",
        says: "changed from 512 KiB to 1024 KiB each",
        change: Some(("thread-stack.live", "reserved", 512 * KIB, 512 * KIB)),
    },
    Plant {
        name: "unjoined-thread",
        before: &[],
        after: &["-DUNJOINED"],
        checkpoint: "ready",
        says: "ended and is not joined or detached yet",
        change: Some(("thread-stack.exited", "count", 1, 1)),
    },
    Plant {
        name: "arena",
        before: &[],
        after: &["-DARENA"],
        checkpoint: "ready",
        says: "1 more malloc arena",
        change: Some(("thread-arena", "count", 1, 1)),
    },
    Plant {
        name: "heap",
        before: &[],
        after: &["-DHEAP_KIB=408"],
        checkpoint: "ready",
        says: "The brk heap was extended",
        change: Some(("main-heap", "anon", 396 * KIB, 408 * KIB)),
    },
    Plant {
        name: "leak-per-round",
        before: &[],
        after: &["-DLEAK_BYTES=1008"],
        checkpoint: "done",
        says: "brk heap",
        change: Some(("main-heap", "anon", 60 * KIB, 68 * KIB)),
    },
    Plant {
        name: "bss",
        before: &[],
        after: &["-DBSS_KIB=516"],
        checkpoint: "ready",
        says: "zero-initialised data of the executable grew",
        change: Some(("exe.bss", "reserved", 508 * KIB, 512 * KIB)),
    },
    Plant {
        name: "relro",
        before: &["-Wl,-z,norelro"],
        after: &["-Wl,-z,relro"],
        checkpoint: "ready",
        says: "GNU_RELRO added",
        change: Some(("exe.relro", "count", 1, 1)),
    },
    Plant {
        name: "library",
        before: &[],
        after: &["-Wl,--no-as-needed", "-lm"],
        checkpoint: "ready",
        says: "A further system library is loaded: libm.so.6, needed by ",
        change: None,
    },
];

/// Runs the self-test, in a temporary directory. One entry for each plant, and one for the program as it was. `blind` makes
/// everything take memory of that role for unclassified: the test of the self-test.
///
/// # Errors
/// There is no compiler, or this machine cannot measure.
pub fn run(
    blind: Option<Role>,
    options: &Options,
    cancel: &Cancel,
    observe: &(dyn Fn(Event<'_>) + Sync),
) -> Result<Vec<Planted>> {
    let temporary = tempfile::tempdir().map_err(|error| Error::tool(format!("there is no temporary directory: {error}")))?;
    let directory = temporary.path();
    let source = directory.join("plants.c");
    std::fs::write(&source, SOURCE).map_err(|error| Error::file("write", &source, &error))?;
    let plan = |text: String| {
        let source = Source {
            root: directory.to_path_buf(),
            path: directory.join("memcheck.toml"),
            text,
        };
        config::plan(
            &source,
            None,
            &Overrides::default(),
            crate::capture::page_bytes_here().unwrap_or(4096),
        )
    };
    let (before, after) = (
        plan(cases(|plant| plant.before, "-DBEFORE"))?,
        plan(cases(|plant| plant.after, "-DAFTER"))?,
    );
    let party = |plan| Party { plan, workspace: None };
    let terms = Terms {
        blind,
        ..Terms::default()
    };
    let compared = pipeline::versus(party(&before), party(&after), terms, options, cancel, observe)?;
    if let Some(signal) = cancel.signal() {
        return Err(Error::interrupted(signal));
    }
    let mut found = Vec::new();
    for case in &compared.cases {
        if let Some(problem) = &case.report.problem {
            return Err(Error::from(problem.clone()).detail(format!("in the self-test {}", case.report.name)));
        }
        let plant = PLANTS.iter().find(|plant| plant.name == case.report.name);
        found.push(plant.map_or_else(|| unchanged(case), |plant| judge(plant, case)));
    }
    Ok(found)
}

/// The cases: one for each plant with its flags of one side, and one that is the same on both but for the name of the side,
/// which no code asks for: two sides are never built into one file.
fn cases(flags: impl Fn(&Plant) -> &'static [&'static str], side: &str) -> String {
    let case = |name: &str, flags: &[&str]| {
        let (cflags, ldflags): (Vec<&str>, Vec<&str>) = flags.iter().partition(|flag| flag.starts_with("-D"));
        let list = |first: &[&str], more: &[&str]| {
            let all: Vec<String> = first.iter().chain(more).map(|flag| format!("\"{flag}\"")).collect();
            all.join(", ")
        };
        let cflags = list(&["-O1", "-fPIE", "-pthread"], &cflags);
        let ldflags = list(&["-pie", "-pthread"], &ldflags);
        format!(
            "[[case]]\nname = \"{name}\"\nsnapshot = false\n\
             target = {{ c = \"plants.c\", cflags = [{cflags}], ldflags = [{ldflags}] }}\n\
             checkpoint = [{{ name = \"ready\" }}, {{ name = \"done\" }}]\n"
        )
    };
    let plants = PLANTS.iter().map(|plant| case(plant.name, flags(plant)));
    plants.chain([case(UNCHANGED, &[side])]).collect()
}

/// Nothing planted: nothing may be told.
const UNCHANGED: &str = "unchanged";

fn unchanged(case: &CaseComparison) -> Planted {
    let causes: Vec<String> = causes(case).collect();
    Planted {
        name: case.report.name.clone(),
        expected: "nothing is told of a program that did not change".to_owned(),
        control: true,
        caught: causes.is_empty() && !case.has_changed(),
        told: causes,
    }
}

fn causes(case: &CaseComparison) -> impl Iterator<Item = String> {
    let checkpoints = case.report.checkpoints.iter();
    checkpoints.flat_map(|checkpoint| checkpoint.causes.iter().map(|cause| cause.cause.clone()))
}

fn judge(plant: &Plant, case: &CaseComparison) -> Planted {
    let checkpoint = case
        .report
        .checkpoints
        .iter()
        .find(|checkpoint| checkpoint.name == plant.checkpoint);
    let says = checkpoint.is_some_and(|checkpoint| checkpoint.causes.iter().any(|cause| cause.cause.contains(plant.says)));
    let mut expected = format!("\u{201c}{}\u{201d}", plant.says);
    let mut sized = true;
    if let Some((row, column, least, most)) = plant.change {
        let by = |change: &Change| change.now.unwrap_or(0).checked_sub(change.before.unwrap_or(0));
        let change = checkpoint.and_then(|checkpoint| {
            let found = checkpoint
                .changes
                .iter()
                .find(|change| change.row == row && change.column == column);
            found.and_then(by)
        });
        sized = change.is_some_and(|by| (least..=most).contains(&by));
        expected += &format!(", {row} {column} +{least}");
        if most > least {
            expected += &format!(" to +{most}");
        }
    }
    Planted {
        name: plant.name.to_owned(),
        expected,
        control: false,
        caught: says && sized,
        told: causes(case).collect(),
    }
}
