//! Whole files through `plan`: what is said beside the limits themselves.

use std::path::PathBuf;

use super::*;
use crate::model::{Date, Waiver};

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
        metric: crate::model::Metric::parse("own.anon").unwrap(),
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
    // Its case may be built in Rust.
    let other = FULL.replace("\"pool\"", "\"other\"");
    assert_eq!(waivers(&other).unwrap()[0].case, "other");
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
