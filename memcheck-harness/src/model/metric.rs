//! `Metric`: the names budgets and reports use, with unit, tier, source and meaning. One table, used by the parser, by
//! `cargo memcheck metrics` and by suggestions.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::tree::TREE;
use super::{Role, TreeMeasure};

/// What a metric counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// A number of things.
    Count,
    /// Bytes.
    Bytes,
}

/// How far a metric can be trusted to repeat.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tier {
    /// The same on every run with our launch settings.
    Exact,
    /// Repeats within a tolerance.
    Tolerant,
    /// Measures the rest of the machine too; budgets on it are refused.
    ReportOnly,
}

/// Measures of the whole process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[expect(missing_docs, reason = "each is described in PROCESS below")]
pub enum ProcessMeasure {
    Reserved,
    Resident,
    Anon,
    Swap,
    Commit,
    Noreserve,
    Locked,
    Peak,
    Mappings,
    Wx,
    Pss,
    Uss,
}

/// Measures of *own* memory, of a role or of several.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[expect(missing_docs, reason = "each is described in MEASURES below")]
pub enum RoleMeasure {
    Count,
    Reserved,
    Anon,
    Resident,
    Commit,
    Noreserve,
    Committed,
    Heaps,
    Deepest,
    Used,
    Free,
    Top,
}

/// What a metric speaks of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Subject {
    /// `threads.count`: live threads, the main one included.
    Threads,
    /// `process.*`
    Process(ProcessMeasure),
    /// `tree.*`: of all processes of the target's tree.
    Tree(TreeMeasure),
    /// `own.*`
    Own(RoleMeasure),
    /// A role, or several with a common first part.
    Roles {
        /// Which.
        roles: Vec<Role>,
        /// What of them.
        measure: RoleMeasure,
    },
}

/// A metric by its name, for example `thread-stack.exited.count`. Two metrics are equal when their names are.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Metric(String);

/// A name that is no metric, with the closest names that are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MetricError {
    /// What was written.
    pub name: String,
    /// Why, as a fragment: "there is no role `heap`".
    pub reason: String,
    /// All names that would have been accepted, for a suggestion.
    pub candidates: Vec<String>,
}

impl fmt::Display for MetricError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{}` is no metric: {}", self.name, self.reason)
    }
}

impl std::error::Error for MetricError {}

struct ProcessRow {
    word: &'static str,
    measure: ProcessMeasure,
    unit: Unit,
    tier: Tier,
    source: &'static str,
    meaning: &'static str,
}

const PROCESS: [ProcessRow; 12] = [
    row(
        "reserved",
        ProcessMeasure::Reserved,
        Unit::Bytes,
        Tier::Exact,
        "sum of region sizes",
        "address space, [vsyscall] left out",
    ),
    row(
        "resident",
        ProcessMeasure::Resident,
        Unit::Bytes,
        Tier::Tolerant,
        "smaps Rss",
        "pages in memory, those of files included",
    ),
    row(
        "anon",
        ProcessMeasure::Anon,
        Unit::Bytes,
        Tier::Exact,
        "smaps Anonymous",
        "pages in memory that belong to no file, our breakpoints' pages left out",
    ),
    row(
        "swap",
        ProcessMeasure::Swap,
        Unit::Bytes,
        Tier::Tolerant,
        "smaps Swap",
        "pages in swap",
    ),
    row(
        "commit",
        ProcessMeasure::Commit,
        Unit::Bytes,
        Tier::Exact,
        "VmFlags ac",
        "size of regions that count against the commit limit",
    ),
    row(
        "noreserve",
        ProcessMeasure::Noreserve,
        Unit::Bytes,
        Tier::Exact,
        "VmFlags nr",
        "size of regions mapped MAP_NORESERVE",
    ),
    row(
        "locked",
        ProcessMeasure::Locked,
        Unit::Bytes,
        Tier::Exact,
        "status VmLck",
        "size of regions locked in memory (mlock), touched or not",
    ),
    row(
        "peak",
        ProcessMeasure::Peak,
        Unit::Bytes,
        Tier::Tolerant,
        "status VmHWM",
        "highest resident size since exec, low by up to 31 pages per CPU",
    ),
    row(
        "mappings",
        ProcessMeasure::Mappings,
        Unit::Count,
        Tier::Exact,
        "maps",
        "number of regions, [vsyscall] left out",
    ),
    row(
        "wx",
        ProcessMeasure::Wx,
        Unit::Bytes,
        Tier::Exact,
        "maps",
        "size of regions both writable and executable",
    ),
    row(
        "pss",
        ProcessMeasure::Pss,
        Unit::Bytes,
        Tier::ReportOnly,
        "smaps Pss",
        "resident pages divided by their mappers: depends on other processes",
    ),
    row(
        "uss",
        ProcessMeasure::Uss,
        Unit::Bytes,
        Tier::ReportOnly,
        "smaps Private_*",
        "pages nobody else maps: depends on other processes",
    ),
];

const fn row(
    word: &'static str,
    measure: ProcessMeasure,
    unit: Unit,
    tier: Tier,
    source: &'static str,
    meaning: &'static str,
) -> ProcessRow {
    ProcessRow {
        word,
        measure,
        unit,
        tier,
        source,
        meaning,
    }
}

struct MeasureRow {
    word: &'static str,
    measure: RoleMeasure,
    unit: Unit,
    tier: Tier,
    source: &'static str,
    meaning: &'static str,
    /// Subjects it is defined for; empty for every role and `own`.
    only: &'static [&'static str],
}

const MEASURES: [MeasureRow; 12] = [
    measure(
        "count",
        RoleMeasure::Count,
        Unit::Count,
        Tier::Exact,
        "classification",
        "number of stacks, arenas, segments, mappings",
        &[],
    ),
    measure(
        "reserved",
        RoleMeasure::Reserved,
        Unit::Bytes,
        Tier::Exact,
        "maps",
        "address space",
        &[],
    ),
    measure(
        "anon",
        RoleMeasure::Anon,
        Unit::Bytes,
        Tier::Exact,
        "smaps Anonymous",
        "pages in memory that belong to no file",
        &[],
    ),
    measure(
        "resident",
        RoleMeasure::Resident,
        Unit::Bytes,
        Tier::Tolerant,
        "smaps Rss",
        "pages in memory",
        &[],
    ),
    measure(
        "commit",
        RoleMeasure::Commit,
        Unit::Bytes,
        Tier::Exact,
        "VmFlags ac",
        "regions that count against the commit limit",
        &["own"],
    ),
    measure(
        "noreserve",
        RoleMeasure::Noreserve,
        Unit::Bytes,
        Tier::Exact,
        "VmFlags nr",
        "regions mapped MAP_NORESERVE",
        &["own"],
    ),
    measure(
        "committed",
        RoleMeasure::Committed,
        Unit::Bytes,
        Tier::Exact,
        "heap_info.mprotect_size",
        "writable part of the arenas' heaps",
        &["thread-arena"],
    ),
    measure(
        "heaps",
        RoleMeasure::Heaps,
        Unit::Count,
        Tier::Exact,
        "heap_info",
        "64 MiB heaps of secondary arenas",
        &["thread-arena"],
    ),
    measure(
        "deepest",
        RoleMeasure::Deepest,
        Unit::Bytes,
        Tier::Tolerant,
        "page scan",
        "deepest page used of any thread's stack: of live ones, with watch = \"stacks\" of finished ones too",
        &["thread-stack"],
    ),
    measure(
        "used",
        RoleMeasure::Used,
        Unit::Bytes,
        Tier::Exact,
        "chunk walk",
        "live allocations of malloc with their headers; freed ones in caches and fastbins are none",
        &["main-heap", "thread-arena"],
    ),
    measure(
        "free",
        RoleMeasure::Free,
        Unit::Bytes,
        Tier::Exact,
        "chunk walk",
        "freed chunks below the top, in bins, fastbins and threads' caches",
        &["main-heap", "thread-arena"],
    ),
    measure(
        "top",
        RoleMeasure::Top,
        Unit::Bytes,
        Tier::Exact,
        "chunk walk",
        "bytes above the last chunk, for the next allocations",
        &["main-heap", "thread-arena"],
    ),
];

const fn measure(
    word: &'static str,
    measure: RoleMeasure,
    unit: Unit,
    tier: Tier,
    source: &'static str,
    meaning: &'static str,
    only: &'static [&'static str],
) -> MeasureRow {
    MeasureRow {
        word,
        measure,
        unit,
        tier,
        source,
        meaning,
        only,
    }
}

impl Metric {
    /// Reads a metric's name.
    ///
    /// # Errors
    /// [`MetricError`] with the names that would have been accepted.
    pub fn parse(name: &str) -> Result<Self, MetricError> {
        match resolve(name) {
            Some(_) => Ok(Self(name.to_owned())),
            None => {
                let candidates: Vec<String> = Self::all().into_iter().map(|metric| metric.0).collect();
                let reason = match name.rsplit_once('.') {
                    Some((subject, word)) if is_subject(subject) => format!("`{subject}` has no `{word}`"),
                    Some((subject, _)) => format!("there is no role `{subject}`"),
                    None => "a metric is written role.measure, for example main-heap.anon".to_owned(),
                };
                Err(MetricError {
                    name: name.to_owned(),
                    reason,
                    candidates,
                })
            }
        }
    }

    /// Every metric, `own` and `process` first, then by role.
    #[must_use]
    pub fn all() -> Vec<Self> {
        let mut names: Vec<String> = Vec::new();
        let measured = |subject: &str| {
            MEASURES
                .iter()
                .filter(|row| row.only.is_empty() || row.only.contains(&subject))
                .map(|row| format!("{subject}.{}", row.word))
                .collect::<Vec<_>>()
        };
        names.extend(measured("own"));
        names.extend(PROCESS.iter().map(|row| format!("process.{}", row.word)));
        names.extend(TREE.iter().map(|(word, ..)| format!("tree.{word}")));
        names.push("threads.count".to_owned());
        let mut groups: Vec<&str> = Vec::new();
        for role in Role::ALL {
            if let Some((group, _)) = role.name().split_once('.')
                && !groups.contains(&group)
            {
                groups.push(group);
                names.extend(measured(group));
            }
            names.extend(measured(role.name()));
        }
        names.into_iter().map(Self).collect()
    }

    /// The name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.0
    }

    /// What the name stands for.
    #[must_use]
    pub fn subject(&self) -> Subject {
        // A Metric is only made from a name that resolves.
        resolve(&self.0).map_or(Subject::Threads, |(subject, _)| subject)
    }

    /// Count or bytes.
    #[must_use]
    pub fn unit(&self) -> Unit {
        resolve(&self.0).map_or(Unit::Count, |(_, info)| info.0)
    }

    /// How far it repeats.
    #[must_use]
    pub fn tier(&self) -> Tier {
        resolve(&self.0).map_or(Tier::Exact, |(_, info)| info.1)
    }

    /// Where the value comes from.
    #[must_use]
    pub fn source(&self) -> &'static str {
        resolve(&self.0).map_or("", |(_, info)| info.2)
    }

    /// What it tells, in a few words.
    #[must_use]
    pub fn meaning(&self) -> &'static str {
        resolve(&self.0).map_or("", |(_, info)| info.3)
    }

    /// A value of this metric for people: `4`, `8 MiB`.
    #[must_use]
    pub fn show(&self, value: u64) -> String {
        match self.unit() {
            Unit::Count => value.to_string(),
            Unit::Bytes => super::ByteSize(value).to_string(),
        }
    }
}

type Info = (Unit, Tier, &'static str, &'static str);

fn is_subject(subject: &str) -> bool {
    matches!(subject, "own" | "process" | "threads" | "tree") || !Role::matching(subject).is_empty()
}

fn resolve(name: &str) -> Option<(Subject, Info)> {
    let (subject, word) = name.rsplit_once('.')?;
    match subject {
        "threads" => (word == "count").then_some((
            Subject::Threads,
            (
                Unit::Count,
                Tier::Exact,
                "/proc/PID/task",
                "live threads, the main one included",
            ),
        )),
        "tree" => TREE
            .iter()
            .find(|(of, ..)| *of == word)
            .map(|(_, measure, unit, tier, source, meaning)| (Subject::Tree(*measure), (*unit, *tier, *source, *meaning))),
        "process" => PROCESS
            .iter()
            .find(|row| row.word == word)
            .map(|row| (Subject::Process(row.measure), (row.unit, row.tier, row.source, row.meaning))),
        _ => {
            let row = MEASURES
                .iter()
                .find(|row| row.word == word && (row.only.is_empty() || row.only.contains(&subject)))?;
            let info = (row.unit, row.tier, row.source, row.meaning);
            if subject == "own" {
                return Some((Subject::Own(row.measure), info));
            }
            let roles = Role::matching(subject);
            (!roles.is_empty()).then_some((
                Subject::Roles {
                    roles,
                    measure: row.measure,
                },
                info,
            ))
        }
    }
}

impl fmt::Display for Metric {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl FromStr for Metric {
    type Err = MetricError;

    fn from_str(text: &str) -> Result<Self, MetricError> {
        Self::parse(text)
    }
}

impl Serialize for Metric {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for Metric {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::parse(&String::deserialize(deserializer)?).map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_metric_reads_back_and_has_a_meaning() {
        let all = Metric::all();
        assert!(all.len() > 100);
        for metric in all {
            assert_eq!(Metric::parse(metric.name()).as_ref(), Ok(&metric));
            assert!(!metric.meaning().is_empty() && !metric.source().is_empty(), "{metric}");
        }
    }

    #[test]
    fn wrong_names_say_why() {
        let reason = |name| Metric::parse(name).err().map(|e| e.reason);
        assert_eq!(reason("heap.anon").as_deref(), Some("there is no role `heap`"));
        assert_eq!(reason("main-heap.deepest").as_deref(), Some("`main-heap` has no `deepest`"));
        assert!(reason("anon").is_some());
    }
}
