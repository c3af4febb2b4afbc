//! What `compare` says of RELRO in two programs, held against readelf. Behind the feature `oracles`: it needs binutils.

use std::path::Path;

use tests::Project;

use super::{memcheck, says};

/// A table of pointers that the loader has to relocate: 20000 of 8 bytes.
const POINTERS: &str = include_str!("../../examples/c/pointers.c");

const PAGE: u64 = 4096;

/// What readelf says of the pages between a file's relocated constants and its writable data: bytes that become read-only,
/// as glibc rounds them (both ends down); absent without `GNU_RELRO`.
fn relro(project: &Project, program: &str) -> Option<u64> {
    let run = project.run(Path::new("readelf"), &["-lW", program]).expect_code(0);
    let line = run.stdout.lines().find(|line| line.contains("GNU_RELRO"))?;
    let words: Vec<&str> = line.split_whitespace().collect();
    let hex = |at: usize| u64::from_str_radix(words[at].trim_start_matches("0x"), 16).unwrap();
    let (start, size) = (hex(2), hex(5));
    Some((start + size) / PAGE * PAGE - start / PAGE * PAGE)
}

#[test]
fn relro_is_what_readelf_says_it_is() {
    let project = Project::new().file("pointers.c", POINTERS);
    let include = Path::new(env!("CARGO_MANIFEST_DIR")).join("../memcheck-probe/include");
    let include = format!("-I{}", include.display());
    for (name, flag) in [
        ("none", "-Wl,-z,norelro,-z,lazy"),
        ("partial", "-Wl,-z,relro,-z,lazy"),
        ("full", "-Wl,-z,relro,-z,now"),
    ] {
        let args = ["-O1", "-fPIE", "-pie", &include, "-o", name, "pointers.c", flag];
        let _ = project.run(Path::new("cc"), &args).expect_code(0);
    }
    assert_eq!(relro(&project, "none"), None);
    for name in ["partial", "full"] {
        let run = memcheck(&project, &["compare", "none", name]).expect_code(0);
        says(&run, &format!("GNU_RELRO added (relro none → {name})"));
        says(&run, "+1 region of the process in all.");
        let json = memcheck(&project, &["compare", "none", name, "--message-format", "json"]).expect_code(0);
        let case: serde_json::Value = serde_json::from_str(json.stdout.lines().next().unwrap()).unwrap();
        let main = &case["checkpoints"][0];
        assert_eq!(
            main["roles"]["exe.relro"]["reserved"].as_u64(),
            relro(&project, name),
            "{name}"
        );
        let private = |side: &serde_json::Value| -> u64 {
            ["exe.relro", "exe.data"]
                .iter()
                .filter_map(|role| side["roles"][role]["anon"].as_u64())
                .sum()
        };
        // What the message calls its cost is what the two rows say together.
        let more = private(main) - private(&main["before"]);
        says(&run, &format!("+{} KiB reserved, +{} KiB anonymous.", more >> 10, more >> 10));
    }
}
