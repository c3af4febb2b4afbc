//! `--partition count:M/N` and `hash:M/N`, in the words of nextest: which part of the selected cases runs here.
//! Every case falls into exactly one part, whatever the machine.

use std::fmt;
use std::str::FromStr;

use crate::error::{Error, Result};
use crate::model::{Case, Shard};

/// More machines than anybody has.
const MAX_PARTS: u32 = 4096;

/// How cases are dealt out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// One after the other, in the order of the file.
    Count,
    /// By name: a case stays in its part when others come or go.
    Hash,
}

/// One part of the selection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Partition {
    kind: Kind,
    /// From 1.
    number: u32,
    of: u32,
}

impl Kind {
    const fn name(self) -> &'static str {
        match self {
            Self::Count => "count",
            Self::Hash => "hash",
        }
    }
}

impl fmt::Display for Partition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}/{}", self.kind.name(), self.number, self.of)
    }
}

impl FromStr for Partition {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let wrong = |why: &str| {
            Error::config(format!("--partition {}: {why}", super::diagnostic::quote(text)))
                .detail("  help: write count:M/N or hash:M/N, M from 1 to N")
        };
        let (kind, part) = text.split_once(':').ok_or_else(|| wrong("it has no kind"))?;
        let kind = match kind {
            "count" => Kind::Count,
            "hash" => Kind::Hash,
            _ => return Err(wrong("kinds are count and hash")),
        };
        let number = |text: &str| {
            let is_plain = text.bytes().all(|c| c.is_ascii_digit());
            text.parse::<u32>().ok().filter(|n| is_plain && (1..=MAX_PARTS).contains(n))
        };
        let (number, of) = part
            .split_once('/')
            .and_then(|(m, n)| number(m).zip(number(n)))
            .ok_or_else(|| wrong("M and N are numbers from 1 to 4096"))?;
        if number > of {
            return Err(wrong("M is larger than N"));
        }
        Ok(Self { kind, number, of })
    }
}

/// Leaves the cases of one part. The whole selection is written down: who merges the parts can tell whether one is lost.
pub(super) fn deal(cases: &mut Vec<Case>, partition: Option<&Partition>) -> Option<Shard> {
    let partition = partition?;
    let names = cases.iter().map(|case| case.name.clone()).collect();
    let mut before: Option<String> = None;
    let mut index = 0_u32;
    cases.retain(|case| {
        // The runs of a matrix stay together: a line is drawn through them.
        let name = case.run.as_ref().map_or(&case.name, |run| &run.case);
        if before.as_ref().is_some_and(|before| before != name) {
            index += 1;
        }
        before = Some(name.clone());
        let turn = match partition.kind {
            Kind::Count => index % partition.of,
            Kind::Hash => u32::try_from(hash(name) % u64::from(partition.of)).unwrap_or(0),
        };
        turn + 1 == partition.number
    });
    Some(Shard {
        kind: partition.kind.name().to_owned(),
        number: partition.number,
        of: partition.of,
        cases: names,
    })
}

/// FNV-1a, 64 bits (RFC 9923), its halves folded: the low bits alone depend too little on the first letters.
fn hash(name: &str) -> u64 {
    let hash = name.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    });
    hash ^ hash >> 32
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Target;

    fn cases(count: usize) -> Vec<Case> {
        let program = Target::Command { program: "p".to_owned() };
        (0..count)
            .map(|i| Case::new(format!("case-{i}"), "/", program.clone()))
            .collect()
    }

    fn names(cases: &[Case]) -> Vec<String> {
        cases.iter().map(|case| case.name.clone()).collect()
    }

    #[test]
    fn every_case_falls_into_exactly_one_part() {
        for (kind, of) in [("count", 1), ("count", 3), ("count", 20), ("hash", 3), ("hash", 7)] {
            let mut all = Vec::new();
            for number in 1..=of {
                let mut part = cases(10);
                let partition: Partition = format!("{kind}:{number}/{of}").parse().unwrap();
                let shard = deal(&mut part, Some(&partition)).unwrap();
                assert_eq!((shard.number, shard.of, shard.cases), (number, of, names(&cases(10))));
                all.extend(names(&part));
            }
            all.sort();
            assert_eq!(all, names(&cases(10)), "{kind}:…/{of}");
        }
    }

    #[test]
    fn counting_deals_in_turn_and_a_hash_keeps_a_case_where_it_is() {
        let mut second = cases(5);
        deal(&mut second, Some(&"count:2/3".parse().unwrap()));
        assert_eq!(names(&second), ["case-1", "case-4"]);
        let part: Partition = "hash:1/2".parse().unwrap();
        let (mut all, mut fewer) = (cases(10), cases(10));
        fewer.truncate(6);
        deal(&mut all, Some(&part));
        deal(&mut fewer, Some(&part));
        assert_eq!(names(&all)[..fewer.len()], names(&fewer)[..]);
        assert!(!all.is_empty() && all.len() < 10);
    }

    #[test]
    fn words_that_are_no_partition() {
        for text in [
            "",
            "count",
            "count:",
            "slice:1/2",
            "count:0/2",
            "count:3/2",
            "hash:1/0",
            "count:+1/2",
            "count:1/2/3",
            "hash:1/9999",
        ] {
            let error = text.parse::<Partition>().unwrap_err().to_string();
            assert!(error.contains("count:M/N"), "{text}: {error}");
        }
        assert_eq!("hash:2/3".parse::<Partition>().unwrap().to_string(), "hash:2/3");
    }
}
