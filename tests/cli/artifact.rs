//! A pull request from a fork, from its job to the approval at home: what the job says and leaves, and `accept --from`, which
//! takes nothing on trust.

use std::fs;
use std::path::Path;

use serde_json::Value;
use tests::{Project, Run};

use super::gate::edit;
use super::{accepted, memcheck, memcheck_with, shell, snap};

const DATA: &str = "target/memcheck-data";
const PENDING: &str = "target/memcheck-data/pending/memcheck/snapshots/grow.snap.new";

/// The project as its owner has it, with a change that makes it grow; and a copy of it in a job, which has run.
fn fork(change: &str) -> (Project, Project, Run) {
    let home = accepted();
    edit(&home, "args = [\"1\"]", change);
    let job = Project::new();
    for (path, bytes) in home.files() {
        job.write(&path, std::str::from_utf8(&bytes).unwrap());
    }
    let before = job.files();
    job.write("target/summary.md", "");
    // Of another run, in a target directory that was kept.
    job.write("target/memcheck-data/pending/memcheck/snapshots/old.snap.new", "x");
    let summary = job.path().join("target/summary.md").display().to_string();
    let workspace = job.path().display().to_string();
    let env = [
        ("CI", "true"),
        ("GITHUB_ACTIONS", "true"),
        ("GITHUB_STEP_SUMMARY", summary.as_str()),
        ("GITHUB_WORKSPACE", workspace.as_str()),
        ("GITHUB_RUN_ID", "4711"),
        ("GITHUB_REPOSITORY", "owner/name"),
        ("MEMCHECK_ARTIFACT", "memcheck"),
    ];
    let run = memcheck_with(&job, &[], &env);
    assert_eq!(job.files(), before, "the checkout is as it was");
    (home, job, run)
}

fn grown() -> (Project, Project) {
    let (home, job, run) = fork("args = [\"5\"]");
    let _ = run.expect_code(5);
    (home, job)
}

#[test]
fn a_pull_request_from_a_fork_from_its_job_to_the_approval_at_home() {
    let (home, job, run) = fork("args = [\"5\"]\nbudget.own.anon = \"512 KiB\"");
    // Exit code, annotation and summary.
    let run = run.expect_code(5);
    assert!(
        run.stderr
            .contains("\n::error file=memcheck.toml,line=2,title=grow%3A memory differs"),
        "{}",
        run.stderr
    );
    let summary = job.read("target/summary.md");
    assert!(summary.starts_with("## cargo memcheck: 1 case failed\n"), "{summary}");
    for words in [
        "gh run download 4711 --repo owner/name --name memcheck --dir target/memcheck-4711\n",
        "cargo memcheck accept --from target/memcheck-4711 ",
        "git apply target/memcheck-4711/snapshots.patch",
        "diff --git a/memcheck/snapshots/grow.snap",
    ] {
        assert!(summary.contains(words), "no {words} in {summary}");
    }
    // The artifact: results, and what is pending of this run alone.
    assert!(job.has(PENDING) && job.has("target/memcheck-data/results.json"));
    assert!(!job.has("target/memcheck-data/pending/memcheck/snapshots/old.snap.new"));
    // At home: red, approved from the artifact with its meaning, green.
    let _ = memcheck(&home, &["--no-pending"]).expect_code(5);
    let from = job.path().join(DATA);
    let artifact = fs::read(job.path().join(PENDING)).unwrap();
    let _ = memcheck(&home, &["accept", "--from", from.to_str().unwrap()])
        .expect_code(0)
        .expect_all(&["CHANGED grow", "Cause", "mmap-chunk", "Accepted memcheck/snapshots/grow.snap"])
        .expect_last_line("accepted 1 snapshot");
    assert_eq!(
        fs::read(job.path().join(PENDING)).unwrap(),
        artifact,
        "the artifact is left as it is"
    );
    let _ = memcheck(&home, &[]).expect_code(0);
    let _ = memcheck(&home, &["accept", "--from", from.to_str().unwrap()])
        .expect_code(0)
        .expect_stderr("approved already")
        .expect_last_line("nothing was accepted");
    // The same bytes as the patch gives.
    let (other, ..) = fork("args = [\"5\"]\nbudget.own.anon = \"512 KiB\"");
    let _ = memcheck(&other, &["accept", "grow"]).expect_code(0);
    assert_eq!(
        other.read(&snap("grow")),
        home.read(&snap("grow")),
        "as if it was accepted here"
    );
}

#[test]
fn an_accepted_snapshot_does_not_lift_the_budget_of_the_job() {
    let (home, job, run) = fork("args = [\"5\"]\nbudget.own.anon = \"64 KiB\"");
    let _ = run.expect_code(3);
    let from = job.path().join(DATA);
    let _ = memcheck(&home, &["accept", "--from", from.to_str().unwrap(), "grow"])
        .expect_code(0)
        .expect_stderr("accepting does not lift it");
    let _ = memcheck(&home, &[]).expect_code(3);
}

#[test]
fn a_first_snapshot_comes_with_its_environment() {
    let home = super::grow();
    let _ = memcheck_with(&home, &[], &[("CI", "1")]).expect_code(5);
    let job = Project::new();
    copy(&home.path().join(DATA), job.path());
    assert_eq!(home.paths(), ["grow.c", "memcheck.toml"]);
    let _ = memcheck(&home, &["accept", "--from", job.path().to_str().unwrap()])
        .expect_code(0)
        .expect_stderr("the first environment of record")
        .expect_last_line("accepted 2 snapshots");
    let _ = memcheck(&home, &[]).expect_code(0).expect_no_stderr("not the environment");
    // From then on it is not replaced on the way.
    let _ = memcheck(&home, &["accept", "--from", job.path().to_str().unwrap()])
        .expect_code(2)
        .expect_stderr("would replace the environment of record");
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).unwrap();
        }
    }
}

/// What is refused: by name, with exit 2 or 7, and nothing at home changes.
#[track_caller]
fn refused(home: &Project, from: &Path, code: i32, words: &[&str]) {
    let before = home.files();
    let _ = memcheck(home, &["accept", "--from", from.to_str().unwrap()])
        .expect_code(code)
        .expect_all(words);
    assert_eq!(home.files(), before);
}

#[test]
fn what_does_not_belong_is_refused_by_name() {
    let (home, job) = grown();
    let artifact = |change: &dyn Fn(&Path)| {
        let dir = Project::new();
        copy(&job.path().join(DATA), dir.path());
        change(dir.path());
        dir
    };
    let tree = "pending/memcheck/snapshots";
    let pending = job.read(PENDING);
    let put = |dir: &Path, name: &str, text: &str| {
        fs::create_dir_all(dir.join(name).parent().unwrap()).unwrap();
        fs::write(dir.join(name), text).unwrap();
    };
    let results = job.read("target/memcheck-data/results.json");
    let renamed = pending.replace("case grow", "case other");

    let foreign = artifact(&|dir| put(dir, "pending/elsewhere/memcheck/snapshots/grow.snap.new", &pending));
    refused(
        &home,
        foreign.path(),
        2,
        &["elsewhere/memcheck/snapshots/grow.snap.new belongs to no case"],
    );
    let source = artifact(&|dir| put(dir, "pending/grow.c.snap.new", &pending));
    refused(&home, source.path(), 2, &["grow.c.snap.new belongs to no case"]);
    let other = artifact(&|dir| put(dir, &format!("{tree}/other.snap.new"), &renamed));
    refused(&home, other.path(), 2, &["other.snap.new belongs to no case"]);
    let swapped = artifact(&|dir| put(dir, &format!("{tree}/grow.snap.new"), &renamed));
    refused(&home, swapped.path(), 7, &["it is the snapshot of another case"]);
    let edited = artifact(&|dir| {
        put(
            dir,
            &format!("{tree}/grow.snap.new"),
            &pending.replace("threads                   1", "threads                   7"),
        )
    });
    refused(&home, edited.path(), 7, &["is not what the results say was measured"]);
    let bare = artifact(&|dir| fs::remove_file(dir.join("results.json")).unwrap());
    refused(&home, bare.path(), 2, &["holds no results.json"]);
    let cut = artifact(&|dir| {
        put(
            dir,
            "results.json",
            &results.replace("\"complete\":true", "\"complete\":false"),
        )
    });
    refused(&home, cut.path(), 2, &["incomplete"]);
    let glibc = serde_json::from_str::<Value>(&results).unwrap()["environment"]["libc"]
        .as_str()
        .unwrap()
        .to_owned();
    let upgraded = artifact(&|dir| put(dir, "results.json", &results.replace(&glibc, "glibc 2.99")));
    refused(
        &home,
        upgraded.path(),
        2,
        &[
            "another environment than that of record",
            "→ glibc 2.99",
            "accept --environment",
        ],
    );
    let linked = artifact(&|dir| std::os::unix::fs::symlink("/etc/passwd", dir.join(tree).join("x.snap.new")).unwrap());
    refused(&home, linked.path(), 2, &["x.snap.new", "symbolic link"]);
    refused(&home, Path::new("/dev/zero"), 2, &["neither a directory nor a file"]);
    refused(&home, &home.path().join("nowhere"), 2, &["cannot be read"]);
    // Of a case that is not there.
    let dir = job.path().join(DATA);
    let _ = memcheck(&home, &["accept", "--from", dir.to_str().unwrap(), "grwo"])
        .expect_code(2)
        .expect_stderr("no pending snapshot of case `grwo`");
}

/// A ZIP with its files stored as they are.
fn zip(files: &[(&str, &[u8])]) -> Vec<u8> {
    zip_of(0, files)
}

/// A ZIP with its files as they were packed: 0, stored; 8, deflated.
fn zip_of(method: u16, files: &[(&str, &[u8])]) -> Vec<u8> {
    let (mut out, mut directory) = (Vec::new(), Vec::new());
    for (name, bytes) in files {
        let mut common = Vec::new();
        for number in [20_u16, 0, method, 0, 0] {
            common.extend(number.to_le_bytes());
        }
        for number in [crc32(bytes), bytes.len() as u32, bytes.len() as u32] {
            common.extend(number.to_le_bytes());
        }
        common.extend((name.len() as u16).to_le_bytes());
        common.extend(0_u16.to_le_bytes());
        let offset = out.len() as u32;
        out.extend([b"PK\x03\x04", common.as_slice(), name.as_bytes(), bytes].concat());
        directory.extend(
            [
                b"PK\x01\x02\x14\x00",
                common.as_slice(),
                &[0; 10],
                &offset.to_le_bytes(),
                name.as_bytes(),
            ]
            .concat(),
        );
    }
    let (start, count) = (out.len() as u32, (files.len() as u16).to_le_bytes());
    let end = [
        b"PK\x05\x06\0\0\0\0".as_slice(),
        &count,
        &count,
        &(directory.len() as u32).to_le_bytes(),
        &start.to_le_bytes(),
        &[0, 0],
    ];
    [out, directory, end.concat()].concat()
}

/// About so many bytes of blanks, deflated with the fixed codes (RFC 1951, 3.2.6) to one part in 158.
fn blanks(bytes: usize) -> Vec<u8> {
    let (mut out, mut held, mut bits) = (Vec::new(), 0_u32, 0);
    let mut put = |code: u32, length: u32| {
        held |= code << bits;
        bits += length;
        while bits >= 8 {
            out.push((held & 0xff) as u8);
            held >>= 8;
            bits -= 8;
        }
    };
    // Codes are written from their highest bit on. The last block; a blank; 258 times what stands one before; the end.
    let mut code = |code: u32, length: u32| put(code.reverse_bits() >> (32 - length), length);
    code(0b110, 3);
    code(0x30 + 0x20, 8);
    for _ in 0..bytes / 258 {
        code(0b1100_0101, 8);
        code(0, 5);
    }
    code(0, 7 + 7);
    out
}

#[test]
fn a_zip_does_not_fill_the_memory() {
    let home = accepted();
    let saved = home.path().join("target/artifact.zip");
    let bomb = blanks(250 << 20);
    for (names, words) in [
        (["results.json", "results.json"], "results.json is in it twice"),
        (["a/results.json", "b/results.json"], "holds several results"),
    ] {
        let zip = zip_of(8, &names.map(|name| (name, bomb.as_slice())));
        assert!(zip.len() < 4 << 20);
        fs::write(&saved, zip).unwrap();
        // The limit is of addresses, in KiB: what is resident is less.
        let limited = "ulimit -v 131072; exec \"$TOOL\" accept --from target/artifact.zip";
        let _ = shell(&home, limited).expect_code(2).expect_stderr(words);
    }
}

fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(u32::MAX, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| {
            (crc >> 1) ^ (0xEDB8_8320 & (crc & 1).wrapping_neg())
        })
    })
}

#[test]
fn an_artifact_may_come_as_the_zip_that_a_browser_saves() {
    let (home, job) = grown();
    let results = fs::read(job.path().join("target/memcheck-data/results.json")).unwrap();
    let pending = fs::read(job.path().join(PENDING)).unwrap();
    let saved = job.path().join("artifact.zip");
    for (name, words) in [
        ("../memcheck/snapshots/grow.snap.new", "leads out of it"),
        ("/tmp/grow.snap.new", "no path below it"),
        ("pending/memcheck/snapshots/../../grow.snap.new", "leads out of it"),
    ] {
        fs::write(&saved, zip(&[("results.json", &results), (name, &pending)])).unwrap();
        refused(&home, &saved, 2, &[words]);
    }
    fs::write(
        &saved,
        zip(&[
            ("results.json", &results),
            ("pending/memcheck/snapshots/grow.snap.new", &pending),
        ]),
    )
    .unwrap();
    let _ = memcheck(&home, &["accept", "--from", saved.to_str().unwrap()])
        .expect_code(0)
        .expect_last_line("accepted 1 snapshot");
    let _ = memcheck(&home, &[]).expect_code(0);
}
