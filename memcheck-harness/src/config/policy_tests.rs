//! Whole files through `plan`: what is said beside the limits themselves.

use std::path::PathBuf;

use super::*;
use crate::error::Error;
use crate::model::{CaseReport, Date, Waiver};

fn read(text: &str) -> Result<Plan> {
    let source = Source {
        root: PathBuf::from("/w"),
        path: PathBuf::from("/w/memcheck.toml"),
        text: text.to_owned(),
    };
    plan(&source, None, &Overrides::default(), 4096)
}

const CASE: &str = "[[case]]\nname = \"pool\"\ntarget = { c = \"a.c\" }\ncheckpoint = [{ name = \"idle\" }]\n\n";

fn waivers(text: &str) -> Result<Vec<Waiver>> {
    read(&format!("{CASE}[[waiver]]\n{text}")).map(|plan| plan.defaults.waivers)
}

const FULL: &str = "case = \"pool\"\ncheckpoint = \"idle\"\nmetric = \"own.anon\"\nceiling = \"64 KiB\"\nexpires = 2027-01-31\n\
                    issue = \"#42\"\nreason = \"a cache is being replaced\"\n";

#[test]
fn a_waiver_says_what_until_when_and_why() {
    let expected = Waiver {
        case: "pool".to_owned(),
        checkpoint: Some("idle".to_owned()),
        metric: crate::model::Metric::parse("own.anon").unwrap().into(),
        object: None,
        ceiling: 64 << 10,
        expires: Date::parse("2027-01-31").unwrap(),
        issue: Some("#42".to_owned()),
        reason: "a cache is being replaced".to_owned(),
        place: Place {
            file: "memcheck.toml".to_owned(),
            line: 6,
            column: 1,
        },
    };
    assert_eq!(waivers(FULL).unwrap(), std::slice::from_ref(&expected));
    let quoted = FULL.replace("2027-01-31", "\"2027-01-31\"");
    assert_eq!(waivers(&quoted).unwrap(), [expected]);
    let short = FULL.replace("checkpoint = \"idle\"\n", "").replace("issue = \"#42\"\n", "");
    let short = waivers(&short).unwrap().remove(0);
    assert_eq!((short.checkpoint, short.issue), (None, None));
}

#[test]
fn a_waiver_of_no_case_is_a_mistake_where_none_can_come_from_elsewhere() {
    let near = waivers(&FULL.replace("\"pool\"", "\"pol\"")).unwrap_err().to_string();
    for words in [
        "no case is called `pol`, which this waiver is of",
        "did you mean `pool`?",
        "memcheck.toml:7:8",
    ] {
        assert!(near.contains(words), "{near}");
    }
    let far = waivers(&FULL.replace("\"pool\"", "\"elsewhere\"")).unwrap_err().to_string();
    assert!(far.contains("cases are pool"), "{far}");
}

#[test]
fn a_waiver_without_a_reason_or_an_end_is_a_mistake() {
    for (old, new, message) in [
        ("reason = \"a cache is being replaced\"\n", "", "[[waiver]] has no `reason`"),
        ("\"a cache is being replaced\"", "\"  \"", "a waiver needs a reason"),
        ("expires = 2027-01-31\n", "", "[[waiver]] has no `expires`"),
        ("2027-01-31", "\"2027-02-30\"", "`2027-02-30` is no day"),
        ("2027-01-31", "2027-01-31T10:00:00Z", "is no day"),
        ("2027-01-31", "20270131", "`expires` must be a day, for example 2027-01-31"),
        ("ceiling = \"64 KiB\"\n", "", "[[waiver]] has no `ceiling`"),
        ("\"64 KiB\"", "64", "`ceiling` must be a size with a unit"),
        ("own.anon", "own.anonn", "`own.anonn` is no metric"),
        ("own.anon", "process.pss", "cannot be gated"),
        ("\"idle\"", "\"idel\"", "case `pool` has no checkpoint `idel`"),
        ("issue", "isue", "unknown key `isue` in [[waiver]]"),
    ] {
        let text = FULL.replace(old, new);
        assert_ne!(text, FULL);
        let error = waivers(&text).unwrap_err().to_string();
        assert!(error.contains(message), "{message}: {error}");
        assert!(error.contains("memcheck.toml:"), "{error}");
    }
    let error = read(&format!("{CASE}[waiver]\n{FULL}")).unwrap_err().to_string();
    assert!(error.contains("write [[waiver]]"), "{error}");
}

/// Two packages of a workspace; `server` has a program of that name.
fn workspace() -> crate::model::Workspace {
    let package = |name: &str| crate::model::Package {
        name: name.to_owned(),
        dir: PathBuf::from(format!("/w/{name}")),
        ..crate::model::Package::default()
    };
    crate::model::Workspace {
        root: PathBuf::from("/w"),
        target_dir: PathBuf::from("/w/target"),
        packages: vec![package("server"), package("tools")],
        root_package: None,
    }
}

const CASES: &str = "[[case]]\nname = \"load.small\"\npackage = \"server\"\ntarget = { c = \"a.c\" }\n\
                     checkpoint = [{ name = \"idle\" }, { name = \"busy\" }]\n\
                     [[case]]\nname = \"start\"\npackage = \"tools\"\ntarget = { c = \"a.c\" }\nbudget.own.anon.min = \"1 KiB\"\n\
                     children = \"capture\"\n\
                     checkpoint = [{ name = \"idle\", budget.threads.count = 9 }]\n";

/// The limits of every checkpoint, and those at the ends of children, as `case/checkpoint metric max min line`.
fn limits(policies: &str) -> std::result::Result<Vec<String>, String> {
    let source = Source {
        root: PathBuf::from("/w"),
        path: PathBuf::from("/w/memcheck.toml"),
        text: format!("[defaults]\nbudget.own.anon = \"1 MiB\"\n{CASES}{policies}"),
    };
    let plan = plan(&source, Some(&workspace()), &Overrides::default(), 4096).map_err(|error| error.to_string())?;
    let line = |place: String, limits: &std::collections::BTreeMap<crate::model::Metric, crate::model::Limit>| {
        let bound = |bound: &Option<crate::model::Bound>| bound.as_ref().map(|bound| (bound.value >> 10, bound.place.line));
        let lines = limits
            .iter()
            .map(|(metric, limit)| format!("{place} {metric} {:?} {:?}", bound(&limit.max), bound(&limit.min)));
        lines.collect::<Vec<_>>()
    };
    let mut all = Vec::new();
    for case in &plan.cases {
        for spec in &case.checkpoints {
            all.extend(line(format!("{}/{}", case.name, spec.name), &spec.limits));
        }
        if case.children == crate::model::Children::Capture {
            all.extend(line(format!("{}/children", case.name), &case.child_limits));
        }
    }
    Ok(all)
}

#[test]
fn a_policy_comes_between_the_defaults_and_the_case_field_by_field() {
    let by_package = limits("[[policy]]\npackage = \"tools\"\nbudget.own.anon = \"64 KiB\"\n").unwrap();
    assert_eq!(
        by_package,
        [
            "load.small/idle own.anon Some((1024, 2)) None",
            "load.small/busy own.anon Some((1024, 2)) None",
            "start/idle own.anon Some((64, 17)) Some((1, 12))",
            "start/idle threads.count Some((0, 14)) None",
            "start/children own.anon Some((64, 17)) Some((1, 12))",
        ]
    );
    // The later one comes first; a checkpoint's policy holds there alone.
    let two = limits(
        "[[policy]]\ncase = \"load.*\"\nbudget.own.anon = \"64 KiB\"\n\
         [[policy]]\ncase = [\"load.small\", \"start\"]\ncheckpoint = \"i*\"\nbudget.own.anon = \"32 KiB\"\n",
    );
    assert_eq!(
        two.unwrap(),
        [
            "load.small/idle own.anon Some((32, 21)) None",
            "load.small/busy own.anon Some((64, 17)) None",
            "start/idle own.anon Some((32, 21)) Some((1, 12))",
            "start/idle threads.count Some((0, 14)) None",
            "start/children own.anon Some((1024, 2)) Some((1, 12))",
        ]
    );
}

#[test]
fn a_policy_of_nothing_is_a_mistake() {
    for (policy, what) in [
        ("case = \"laod.*\"\nbudget.own.anon = 0", "no case is meant by this policy"),
        ("package = \"tool\"\nbudget.own.anon = 0", "did you mean `tools`"),
        (
            "package = \"server\"\ncase = \"start\"\nbudget.own.anon = 0",
            "case start is of package tools",
        ),
        (
            "checkpoint = \"ready\"\nbudget.own.anon = 0",
            "checkpoints of its cases are idle",
        ),
        ("case = \"start\"", "the policy has no limit"),
        ("budget.own.anon = 0", "does not say of what it is"),
        ("case = \"{a\"\nbudget.own.anon = 0", "is no pattern"),
        ("case = []\nbudget.own.anon = 0", "names nothing"),
        ("cases = \"start\"\nbudget.own.anon = 0", "did you mean `case`"),
        ("checkpoint = \"idle\"\nelf.nx = true", "of a whole case"),
        (
            "case = \"start\"\nbudget.own.anon = { max_growth = \"4 KiB\", over = \"busy\" }",
            "there is no checkpoint `busy`",
        ),
        ("case = \"start\"\nbudget.own.anon.max_per_round = 0", "would never hold"),
        ("case = \"start\"\nbudget.own.anon.max_per_unit = 0", "needs a matrix"),
        (
            "case = \"start\"\nenvironment.arm64.budget.own.anon = 0",
            "there is no environment",
        ),
    ] {
        let error = limits(&format!("[[policy]]\n{policy}\n")).unwrap_err();
        assert!(error.contains(what), "{policy}: {error}");
        assert!(error.contains("memcheck.toml:1"), "no place: {error}");
    }
}

#[test]
fn each_pattern_of_a_policy_means_something() {
    for (policy, what) in [
        ("case = [\"start\", \"lod.*\"]", "no case is meant by `lod.*` in this policy"),
        (
            "checkpoint = [\"idle\", \"bsuy\"]",
            "no checkpoint is meant by `bsuy` in this policy",
        ),
    ] {
        let error = limits(&format!("[[policy]]\n{policy}\nbudget.own.anon = \"64 KiB\"\n")).unwrap_err();
        assert!(error.contains(what), "{policy}: {error}");
        assert!(error.contains("memcheck.toml:1"), "no place: {error}");
    }
}

/// What is not met in the file, whose workspace has a test that builds cases, and what is said of it after these cases:
/// package, name and checkpoints.
fn said(policy: &str, cases: &[(&str, &str, &[&str])]) -> Vec<String> {
    let mut workspace = workspace();
    workspace.packages[0].harness_tests = vec!["memory".to_owned()];
    let source = Source {
        root: PathBuf::from("/w"),
        path: PathBuf::from("/w/memcheck.toml"),
        text: format!("[[policy]]\n{policy}\nbudget.own.anon = \"64 KiB\"\n{CASES}"),
    };
    let plan = plan(&source, Some(&workspace), &Overrides::default(), 4096).unwrap();
    let file: [(&str, &str, &[&str]); 2] = [("server", "load.small", &["idle", "busy"]), ("tools", "start", &["idle"])];
    let cases: Vec<CaseReport> = file.iter().chain(cases).map(report).collect();
    unmet_policies(&plan.defaults.unmet, &cases)
}

fn report((package, name, checkpoints): &(&str, &str, &[&str])) -> CaseReport {
    let stop = |name: &&str| crate::report::fixtures::checkpoint(name, None, crate::report::fixtures::map(&[]), Vec::new());
    CaseReport {
        package: (!package.is_empty()).then(|| (*package).to_owned()),
        checkpoints: checkpoints.iter().map(stop).collect(),
        checkpoints_planned: checkpoints.len(),
        ..CaseReport::named((*name).to_owned())
    }
}

#[test]
fn a_policy_may_be_of_cases_that_tests_build() {
    let pool = |cases: &[(&str, &str, &[&str])]| said("package = \"server\"\ncase = \"pool\"", cases);
    assert!(pool(&[("server", "pool", &[])]).is_empty());
    assert!(pool(&[("server", "pool.10", &[])]).is_empty(), "a run of its matrix");
    for other in [("", "pool"), ("tools", "pool"), ("server", "pools")] {
        assert_eq!(
            pool(&[(other.0, other.1, &[])]),
            ["no case is meant by the policy at memcheck.toml:1: neither one of the file nor one that a test builds"]
        );
    }
    // And of their checkpoints.
    let at = |checkpoint: &str| {
        said(
            &format!("checkpoint = {checkpoint}"),
            &[("server", "pool", &["ready", "round.1"])],
        )
    };
    assert!(at("\"ready\"").is_empty());
    assert!(at("[\"idle\", \"round\"]").is_empty(), "of its series");
    assert_eq!(
        at("\"raedy\""),
        ["no checkpoint is meant by the policy at memcheck.toml:1: neither one of the file nor one that a test builds"]
    );
    let one = at("[\"idle\", \"raedy\"]");
    assert!(
        one[0].starts_with("no checkpoint is meant by `raedy` in the policy at memcheck.toml:1"),
        "{one:?}"
    );
    assert_eq!(one.len(), 1);
    // A case that is not there has no checkpoint either: that is said once.
    let none = said("case = [\"start\", \"pol\"]\ncheckpoint = \"idle\"", &[]);
    assert!(none[0].starts_with("no case is meant by `pol` in the policy"), "{none:?}");
    assert_eq!(none.len(), 1);
}

#[test]
fn nothing_is_said_of_policies_where_not_all_is_known() {
    let unmet = crate::model::UnmetPolicy {
        packages: Vec::new(),
        cases: Vec::new(),
        checkpoints: vec!["ready".to_owned()],
        pattern: None,
        place: Place::default(),
    };
    let said = |edit: &dyn Fn(&mut CaseReport)| {
        let mut case = report(&("server", "pool", &["idle"]));
        edit(&mut case);
        unmet_policies(std::slice::from_ref(&unmet), &[case]).len()
    };
    assert_eq!(said(&|_| ()), 1);
    assert_eq!(said(&|case| case.checkpoints_planned = 2), 0, "it may have come next");
    assert_eq!(said(&|case| case.is_part = true), 0, "a test without results");
    let problem = Error::config("it ended early");
    assert_eq!(said(&|case| case.problem = Some(problem.problem().clone())), 0);
}

#[test]
fn a_role_may_be_a_pattern() {
    let text = |budget: &str| format!("{CASE}[defaults]\n{budget}\n");
    let of = |budget: &str| -> std::result::Result<Vec<String>, String> {
        let plan = read(&text(budget)).map_err(|error| error.to_string())?;
        let limits = plan.cases[0].checkpoints[0].limits.iter();
        Ok(limits
            .map(|(metric, limit)| {
                let max = limit.max.as_ref().map(|max| (max.value, max.place.line));
                format!("{metric} {max:?}")
            })
            .collect())
    };
    let both = of("budget.thread-stack.\"*\".count = 4\nbudget.thread-stack.exited.count = 0").unwrap();
    assert_eq!(
        both,
        [
            "thread-stack.cached.count Some((4, 7))",
            "thread-stack.exited.count Some((0, 8))",
            "thread-stack.live.count Some((4, 7))",
            "thread-stack.user.count Some((4, 7))",
        ]
    );
    let allocators = of("budget.\"allocator.*.anon\" = { max = \"1 MiB\" }").unwrap();
    assert!(
        allocators.len() >= 8 && allocators.iter().all(|one| one.starts_with("allocator.")),
        "{allocators:?}"
    );
    for (budget, what) in [
        ("budget.allocatr.\"*\".anon = 0", "means no role"),
        ("budget.allocator.\"*\" = 0", "means no role"),
        ("budget.allocator.\"*\".anonn = 0", "means no role"),
        ("budget.thread-stack.\"*\".count = \"4 KiB\"", "is no number"),
    ] {
        let error = of(budget).unwrap_err();
        assert!(error.contains(what), "{budget}: {error}");
    }
}

#[test]
fn a_waiver_of_headers_says_how_weak_they_may_be() {
    let of = |metric: &str, ceiling: &str, rest: &str| {
        let text = format!(
            "case = \"pool\"\nmetric = \"{metric}\"\nceiling = {ceiling}\nexpires = 2027-01-31\nreason = \"old\"\n{rest}"
        );
        waivers(&text).map(|all| {
            let one = &all[0];
            format!("{} {} {:?}", one.metric, one.metric.show(one.ceiling), one.object)
        })
    };
    for (metric, ceiling, shown) in [
        ("elf.relro", "\"partial\"", "partial"),
        ("elf.relro", "\"none\"", "none"),
        ("elf.canary", "false", "no"),
        ("elf.wx", "1", "1"),
    ] {
        assert_eq!(of(metric, ceiling, "").unwrap(), format!("{metric} {shown} None"));
    }
    assert_eq!(
        of("elf.relro", "\"none\"", "object = \"libx*\"\n").unwrap(),
        "elf.relro none Some(\"libx*\")"
    );
    for (metric, ceiling, rest, what) in [
        ("elf.relro", "\"full\"", "", "must be \"partial\" or \"none\""),
        ("elf.nx", "true", "", "write false"),
        ("elf.nx", "1", "", "true or false"),
        ("elf.relro", "\"none\"", "checkpoint = \"idle\"\n", "of a whole case"),
        (
            "own.anon",
            "\"4 KiB\"",
            "object = \"libx*\"\n",
            "goes with demands on headers",
        ),
        ("elf.rerlo", "\"none\"", "", "is no metric"),
    ] {
        let error = of(metric, ceiling, rest).unwrap_err().to_string();
        assert!(error.contains(what), "{metric} {ceiling} {rest}: {error}");
    }
}

#[test]
fn demands_on_headers_may_be_those_of_an_environment() {
    let text = |held: &str| {
        format!(
            "[defaults]\nelf.relro = \"full\"\n[environment.old]\nelf.relro = \"partial\"\n\
             [[policy]]\ncase = \"p*\"\nelf.nx = true\nenvironment.old.elf.nx = false\n\
             {CASE}environment.old.elf.wx = 1\nelf.wx = 0\n{held}"
        )
    };
    let rules = |environment: &str| {
        let source = Source {
            root: PathBuf::from("/w"),
            path: PathBuf::from("/w/memcheck.toml"),
            text: text(""),
        };
        let overrides = Overrides {
            environment: Some(environment.to_owned()),
            ..Overrides::default()
        };
        let plan = plan(&source, None, &overrides, 4096).unwrap();
        let rules = plan.cases[0].elf.iter();
        rules
            .map(|rule| format!("{} {:?} {} {}", rule.key.name(), rule.wanted, rule.of_case, rule.place.line))
            .collect::<Vec<_>>()
    };
    assert_eq!(
        rules("default"),
        [
            "elf.wx AtMost(0) true 15",
            "elf.nx Flag(true) false 7",
            "elf.relro Relro(Full) false 2"
        ]
    );
    assert_eq!(
        rules("old"),
        [
            "elf.wx AtMost(1) true 14",
            "elf.wx AtMost(0) true 15",
            "elf.nx Flag(false) false 8",
            "elf.nx Flag(true) false 7",
            "elf.relro Relro(Partial) false 4",
            "elf.relro Relro(Full) false 2",
        ]
    );
}
