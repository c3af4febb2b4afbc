//! Limits in a comparison: which of several rounds speaks for a limit, and which limits of the base a change escapes. Pure.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use crate::budget;
use crate::model::{
    Case, CheckpointSpec, Children, ElfResult, ElfRule, Escaped, Gone, Limit, LimitResult, Metric, Over, Place, Plan, Profile,
    Stdin, Target, Verdict,
};

/// The limits of one round, by the name of their checkpoint.
pub(super) type Limits = BTreeMap<String, Vec<LimitResult>>;

/// A limit is kept when every round keeps it: of each limit the round that speaks most against it. The notes name those that
/// some rounds keep and others break.
pub(super) fn held(rounds: &[Limits]) -> (Limits, Vec<String>) {
    let mut held = Limits::new();
    let mut counts: BTreeMap<(&str, String, &str), (usize, usize)> = BTreeMap::new();
    for (at, limit) in rounds
        .iter()
        .flatten()
        .flat_map(|(at, list)| list.iter().map(move |limit| (at, limit)))
    {
        let count = counts.entry((at, limit.metric.name().to_owned(), &limit.rule)).or_default();
        count.0 += usize::from(limit.verdict.is_broken());
        count.1 += 1;
        let list = held.entry(at.clone()).or_default();
        let same = |other: &&mut LimitResult| (&other.metric, &other.rule) == (&limit.metric, &limit.rule);
        match list.iter_mut().find(same) {
            Some(worst) if weight(limit) > weight(worst) => *worst = limit.clone(),
            Some(_) => {}
            None => list.push(limit.clone()),
        }
    }
    let notes = counts
        .into_iter()
        .filter(|(_, (broken, all))| *broken > 0 && broken < all)
        .map(|((name, metric, rule), (broken, all))| {
            format!(
                "{metric} at {name} breaks its limit ({rule}) in {broken} of {all} runs: a limit is kept only if every run keeps it"
            )
        })
        .collect();
    (held, notes)
}

/// The same of headers: of each file and demand the round that speaks most against it.
pub(super) fn held_headers(rounds: impl Iterator<Item = Vec<ElfResult>>) -> Vec<ElfResult> {
    let mut held: Vec<ElfResult> = Vec::new();
    let weight = |result: &ElfResult| match result.verdict {
        Verdict::Within => 0,
        Verdict::Waived => 1,
        Verdict::Unknown => 2,
        Verdict::Over => 3,
    };
    for result in rounds.flatten() {
        match held
            .iter_mut()
            .find(|other| (&other.rule, &other.object) == (&result.rule, &result.object))
        {
            Some(worst) if weight(&result) > weight(worst) => *worst = result,
            Some(_) => {}
            None => held.push(result),
        }
    }
    held
}

/// What speaks most against a limit: broken, then waived; then how far the value lies beyond.
fn weight(limit: &LimitResult) -> (u8, u64) {
    let class = match limit.verdict {
        Verdict::Within => 0,
        Verdict::Waived => 1,
        Verdict::Unknown => 2,
        Verdict::Over => 3,
    };
    let beyond = match (limit.verdict, limit.value, limit.limit) {
        (Verdict::Over | Verdict::Waived, Some(value), Some(limit)) => value.abs_diff(limit),
        _ => 0,
    };
    (class, beyond)
}

/// The limits of the base that cannot be judged, as the change has no such checkpoint any more, or (without `now`) no such
/// case, or no longer what the limit needs. A later pass of a series is one only if its series is gone.
pub(super) fn escaped(base: &Case, now: Option<&Case>) -> Vec<Escaped> {
    let named = |name: &str| now.and_then(|now| now.checkpoints.iter().find(|spec| spec.name == name));
    let mut found: Vec<Escaped> = Vec::new();
    let mut add = |checkpoint: &str, metric: String, (rule, origin): (String, Place), gone: Gone| {
        let escaped = Escaped {
            checkpoint: checkpoint.to_owned(),
            metric,
            rule,
            origin,
            gone: if now.is_none() { Gone::Case } else { gone },
        };
        if !found.contains(&escaped) {
            found.push(escaped);
        }
    };
    let is_scaled = now.is_some_and(|now| now.run.as_ref().is_some_and(|run| run.number.is_some()));
    for spec in &base.checkpoints {
        let series = spec.every.as_ref();
        let there = named(&spec.name).or_else(|| series.and_then(|every| named(&first_round(&every.series))));
        let checkpoint = series.map_or(&spec.name, |every| &every.series);
        for (metric, rule) in all_rules(&spec.limits) {
            let gone = match (rule.0.as_str(), there) {
                (_, None) => Gone::Checkpoint,
                (LimitResult::PER_ROUND, Some(there)) if there.every.is_none() => Gone::Series,
                (LimitResult::PER_UNIT | LimitResult::CONSTANT, _) if !is_scaled => Gone::Matrix,
                _ => continue,
            };
            add(checkpoint, metric.name().to_owned(), rule, gone);
        }
    }
    let captures = |case: &Case| case.children == Children::Capture;
    if captures(base) && !now.is_some_and(captures) {
        for (metric, rule) in all_rules(&base.child_limits) {
            add(Escaped::EACH_CHILD, metric.name().to_owned(), rule, Gone::Children);
        }
    }
    if now.is_none() {
        for one in base.elf.iter().filter_map(|rule| demand(rule, Gone::Case)) {
            add("", one.metric, (one.rule, one.origin), one.gone);
        }
    }
    found
}

/// The demands on files of a name, whichever case has such, that the base's files were judged by and no file of the change is:
/// the results are those of the two sides by these rules. (A pattern of the case itself that no file has is a result.)
pub(super) fn escaped_files(rules: &[ElfRule], there: &[ElfResult], here: &[ElfResult]) -> Vec<Escaped> {
    let judges = |rule: &ElfRule, results: &[ElfResult]| {
        let by = |result: &ElfResult| (result.rule.as_str(), &result.origin) == (rule.key.name(), &rule.place);
        results.iter().any(by)
    };
    let gone = rules
        .iter()
        .filter(|rule| rule.object.is_some() && !rule.of_case && judges(rule, there) && !judges(rule, here));
    gone.filter_map(|rule| demand(rule, Gone::File)).collect()
}

/// A demand on headers as a limit that is gone; `None`: nothing is demanded.
fn demand(rule: &ElfRule, gone: Gone) -> Option<Escaped> {
    let wanted = budget::demanded(rule.wanted)?;
    let of = rule
        .object
        .as_ref()
        .map_or_else(String::new, |pattern| format!(" of {pattern}"));
    Some(Escaped {
        checkpoint: String::new(),
        metric: format!("{}{of}", rule.key.name()),
        rule: format!("must be {wanted}"),
        origin: rule.place.clone(),
        gone,
    })
}

/// The checkpoint by which a series is known to be there; of a pair's ends `name.from` and `name.to` too.
fn first_round(series: &str) -> String {
    match series.rsplit_once('.') {
        Some((name, end @ ("from" | "to"))) => format!("{name}.1.{end}"),
        _ => format!("{series}.1"),
    }
}

fn all_rules(limits: &BTreeMap<Metric, Limit>) -> impl Iterator<Item = (&Metric, (String, Place))> {
    limits
        .iter()
        .flat_map(|(metric, limit)| rules(limit).into_iter().map(move |rule| (metric, rule)))
}

/// Every bound of a limit. Growth over the approved snapshot takes no part in a comparison, kept or not.
fn rules(limit: &Limit) -> Vec<(String, Place)> {
    let Limit {
        max,
        min,
        growth,
        per_round,
        per_unit,
        constant,
    } = limit;
    let bounds = [
        ("max", max),
        ("min", min),
        (LimitResult::PER_ROUND, per_round),
        (LimitResult::PER_UNIT, per_unit),
        (LimitResult::CONSTANT, constant),
    ];
    let bounds = bounds
        .into_iter()
        .filter_map(|(rule, bound)| Some((rule.to_owned(), bound.as_ref()?.place.clone())));
    let growth = growth.iter().filter_map(|growth| {
        let over = match &growth.over {
            Over::Checkpoint(name) => name,
            Over::Base => "base",
            Over::Approved => return None,
        };
        Some((format!("max_growth over {over}"), growth.place.clone()))
    });
    bounds.chain(growth).collect()
}

/// What of a case is defined otherwise than at the base: limits of the base are then judged, but of another program run, or
/// of other memory.
pub(super) fn redefined([there, here]: [&Plan; 2], [base, now]: [&Case; 2]) -> Vec<String> {
    let steps = |case: &Case| -> Vec<(String, String)> {
        let steps = case.steps.iter();
        steps
            .map(|step| (format!("{:?}", step.after), format!("{:?}", step.run)))
            .collect()
    };
    let mut found: Vec<String> = [
        ("target", program(base) != program(now)),
        ("profile", profile(base) != profile(now)),
        ("args", base.args != now.args),
        ("env", base.env != now.env),
        ("limits", base.limits != now.limits),
        ("cpus", base.cpus != now.cpus),
        ("cwd", below(&base.cwd, &there.root) != below(&now.cwd, &here.root)),
        ("stdin", stdin(base) != stdin(now)),
        ("exit", base.exit != now.exit),
        ("children", base.children != now.children),
        ("after_last", base.after_last != now.after_last),
        ("detach", base.detach != now.detach),
        ("tty", base.tty != now.tty),
        ("as_is", base.as_is != now.as_is),
        ("cooperative", base.cooperative != now.cooperative),
        ("watch", base.watch_stacks != now.watch_stacks),
        ("matrix", base.run != now.run),
        ("own", there.defaults.own != here.defaults.own),
        ("step", steps(base) != steps(now)),
    ]
    .into_iter()
    .filter(|(_, differs)| *differs)
    .map(|(key, _)| key.to_owned())
    .collect();
    // Each of a series is defined as the others.
    let mut told: BTreeSet<&str> = BTreeSet::new();
    for spec in &now.checkpoints {
        let other = base.checkpoints.iter().find(|other| other.name == spec.name);
        let name = spec.every.as_ref().map_or(spec.name.as_str(), |every| &every.series);
        if other.is_some_and(|other| measured(other) != measured(spec)) && told.insert(name) {
            found.push(format!("checkpoint {name}"));
        }
    }
    found
}

/// What decides where a checkpoint is, and what is read there.
fn measured(spec: &CheckpointSpec) -> impl PartialEq + '_ {
    (
        (&spec.at, spec.hit, spec.in_turn, &spec.child, spec.settle),
        spec.every
            .as_ref()
            .map(|every| (every.limit, every.step, every.warm_up, every.by_child)),
    )
}

/// What is run, whatever it is built with.
fn program(case: &Case) -> Target {
    let mut target = case.target.clone();
    if let Target::Cargo { profile, .. } = &mut target {
        *profile = Profile::Injected;
    }
    target
}

fn profile(case: &Case) -> Option<&Profile> {
    match &case.target {
        Target::Cargo { profile, .. } => Some(profile),
        Target::C { .. } | Target::Built { .. } | Target::Command { .. } => None,
    }
}

fn below<'a>(path: &'a Path, root: &Path) -> &'a Path {
    path.strip_prefix(root).unwrap_or(path)
}

/// The file of its standard input below its package.
fn stdin(case: &Case) -> Option<&Path> {
    match &case.stdin {
        Stdin::Null => None,
        Stdin::File(path) => Some(below(path, &case.package_dir)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{AfterLast, At, Bound, Defaults, ElfKey, ElfWanted, Every, ExpectedEnd, Growth, GrowthBound};
    use crate::report::fixtures::limit;

    fn bound(line: u32) -> Option<Bound> {
        Some(Bound {
            value: 4,
            place: Place {
                line,
                ..Place::default()
            },
        })
    }

    fn case(names: &[&str]) -> Case {
        let target = Target::Command {
            program: "true".to_owned(),
        };
        let mut case = Case::new("c", "/p", target);
        case.checkpoints = names.iter().map(|name| CheckpointSpec::new(*name, At::Main)).collect();
        for spec in &mut case.checkpoints {
            let limit = Limit {
                max: bound(1),
                ..Limit::default()
            };
            spec.limits.insert(Metric::parse("threads.count").unwrap(), limit);
        }
        case
    }

    fn round(value: u64, at: &str) -> Limits {
        let mut result = limit("threads.count", 4, Some(value), 3);
        result.verdict = if value > 4 { Verdict::Over } else { Verdict::Within };
        Limits::from([(at.to_owned(), vec![result])])
    }

    #[test]
    fn one_round_of_three_is_enough_to_break_a_limit() {
        let (held, notes) = held(&[round(3, "b"), round(6, "b"), round(5, "b")]);
        assert_eq!((held["b"][0].value, held["b"][0].verdict), (Some(6), Verdict::Over));
        assert!(
            notes[0].starts_with("threads.count at b breaks its limit (max) in 2 of 3 runs"),
            "{notes:?}"
        );
    }

    #[test]
    fn limits_are_paired_by_checkpoint_wherever_it_stands_in_a_round() {
        let both = round(1, "a").into_iter().chain(round(2, "b")).collect();
        let (held, notes) = held(&[both, round(9, "b")]);
        let values: Vec<_> = held.values().map(|list| list[0].value).collect();
        assert_eq!(values, [Some(1), Some(9)]);
        assert_eq!(notes.len(), 1);
    }

    #[test]
    fn a_checkpoint_that_is_gone_takes_its_limits_out_of_sight() {
        let base = case(&["a", "b"]);
        let names = |now: Option<&Case>| -> Vec<String> { escaped(&base, now).into_iter().map(|e| e.checkpoint).collect() };
        assert_eq!(names(Some(&base)), Vec::<String>::new());
        assert_eq!(names(Some(&case(&["b", "c"]))), ["a"]);
        assert_eq!(names(None), ["a", "b"]);
        let mut without = case(&["a"]);
        without.checkpoints[0].limits.clear();
        assert_eq!(escaped(&without, None), []);
    }

    #[test]
    fn every_bound_is_listed_and_so_is_what_it_needs() {
        let mut base = case(&["r.1"]);
        let place = |line| bound(line).unwrap().place;
        let all = Limit {
            max: bound(1),
            min: bound(2),
            per_round: bound(3),
            per_unit: bound(4),
            constant: bound(5),
            growth: Some(Growth {
                bound: GrowthBound::Absolute(1),
                over: Over::Base,
                place: place(6),
            }),
        };
        let metric = Metric::parse("own.anon").unwrap();
        base.checkpoints[0].limits = BTreeMap::from([(metric.clone(), all.clone())]);
        base.checkpoints[0].every = Some(Every {
            series: "r".to_owned(),
            number: 1,
            limit: 20,
            step: 1,
            warm_up: None,
            by_child: false,
        });
        base.child_limits = BTreeMap::from([(metric, all)]);
        base.children = Children::Capture;
        let rule = |wanted| ElfRule {
            key: ElfKey::Relro,
            wanted,
            object: Some("libx*".to_owned()),
            of_case: false,
            place: place(7),
        };
        base.elf = vec![
            rule(ElfWanted::Relro(crate::model::Relro::Full)),
            rule(ElfWanted::Relro(crate::model::Relro::No)),
        ];
        let told = |now: Option<&Case>| -> Vec<(String, u32)> {
            let told = escaped(&base, now).into_iter();
            told.map(|one| (format!("{} {} {:?}", one.checkpoint, one.rule, one.gone), one.origin.line))
                .collect()
        };
        let gone = told(None);
        assert_eq!(gone.len(), 13, "{gone:?}");
        assert_eq!(gone[12], (" must be full Case".to_owned(), 7));
        assert_eq!(gone[0], ("r max Case".to_owned(), 1));
        let lines: BTreeSet<u32> = gone.iter().map(|(_, line)| *line).collect();
        assert_eq!(lines, (1..=7).collect());
        // The case is there, but passes the place once, has no runs and captures no children.
        let mut now = base.clone();
        now.checkpoints[0].every = None;
        now.children = Children::Follow;
        let left = told(Some(&now));
        assert_eq!(left[0], ("r max_per_round Series".to_owned(), 3));
        assert_eq!(left[1], ("r max_per_unit Matrix".to_owned(), 4));
        assert_eq!(left[2], ("r max_constant Matrix".to_owned(), 5));
        assert_eq!(left[3], ("the end of each child max Children".to_owned(), 1));
        assert_eq!(left.len(), 9);
    }

    fn plan(own: &[&str]) -> Plan {
        Plan {
            root: "/p".into(),
            file: "memcheck.toml".into(),
            is_cargo: false,
            data_dir: "/p/target".into(),
            defaults: Defaults {
                own: own.iter().map(|pattern| (*pattern).to_owned()).collect(),
                ..Defaults::default()
            },
            cases: Vec::new(),
            cases_in_file: 0,
            partition: None,
        }
    }

    type Edit<'a> = (&'a str, &'a dyn Fn(&mut Case));

    #[test]
    fn what_a_case_runs_is_part_of_its_limits() {
        let base = case(&["a"]);
        let told = |edit: &dyn Fn(&mut Case)| {
            let mut now = base.clone();
            edit(&mut now);
            redefined([&plan(&[]), &plan(&[])], [&base, &now])
        };
        assert!(told(&|_| ()).is_empty());
        let both = told(&|now| {
            now.args.push("--little".to_owned());
            now.checkpoints[0].at = At::Exec;
        });
        assert_eq!(both, ["args", "checkpoint a"]);
        let edits: [Edit<'_>; 9] = [
            ("children", &|now| now.children = Children::Follow),
            ("exit", &|now| now.exit = Some(ExpectedEnd::Any)),
            ("after_last", &|now| now.after_last = AfterLast::Run),
            ("detach", &|now| now.detach = true),
            ("cooperative", &|now| now.cooperative = true),
            ("watch", &|now| now.watch_stacks = true),
            ("cwd", &|now| now.cwd.push("data")),
            ("matrix", &|now| now.run = Some(crate::model::MatrixRun::default())),
            ("checkpoint a", &|now| {
                now.checkpoints[0].settle = Some(std::time::Duration::from_secs(1))
            }),
        ];
        for (key, edit) in edits {
            assert_eq!(told(edit), [key]);
        }
        assert_eq!(redefined([&plan(&["/opt/**"]), &plan(&[])], [&base, &base]), ["own"]);
    }

    #[test]
    fn what_a_target_is_built_with_is_told_by_itself() {
        let built = |profile: Profile| {
            let mut case = case(&["a"]);
            case.target = Target::Cargo {
                kind: crate::model::TargetKind::Bin,
                name: "a".to_owned(),
                package: None,
                features: Vec::new(),
                profile,
                triple: None,
            };
            case
        };
        let (base, now) = (built(Profile::Injected), built(Profile::Named("dev".to_owned())));
        assert_eq!(redefined([&plan(&[]), &plan(&[])], [&base, &now]), ["profile"]);
    }
}
