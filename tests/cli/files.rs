//! Snapshot files and directories in a bad state: a clear message, and what is there stays as it is.

use std::fs;
use std::os::unix::fs::symlink;

use super::gate::edit;
use super::{accepted, grow, memcheck, snap};

/// Runs with the approved snapshot replaced by `bytes`: exit 7, the words, and the bytes still there.
#[track_caller]
fn damaged(bytes: &[u8], words: &[&str]) {
    let project = accepted();
    let path = project.path().join(snap("grow"));
    fs::write(&path, bytes).unwrap();
    let before = project.files();
    let _ = memcheck(&project, &[])
        .expect_code(7)
        .expect_stderr("grow.snap")
        .expect_all(words)
        .expect_no_stderr("Reached")
        .expect_last_line("measured 0 checkpoints in 1 case: 1 failed (1 not judged)");
    assert_eq!(project.files(), before);
    let _ = memcheck(&project, &["accept"]);
    assert_eq!(fs::read(&path).unwrap(), bytes, "accept does not paper over it");
}

#[test]
fn a_merge_conflict() {
    let text = accepted().read(&snap("grow"));
    let conflicted = text.replace(
        "checkpoint grown",
        "<<<<<<< ours\n  mmap-chunk 1\n=======\n  mmap-chunk 2\n>>>>>>> theirs\ncheckpoint grown",
    );
    damaged(conflicted.as_bytes(), &["merge conflict markers", "line ", "accept again"]);
}

#[test]
fn bytes_that_are_no_text() {
    damaged(b"---\n---\n\xff\xfe\n", &["not UTF-8", "restore or delete it"]);
}

#[test]
fn a_file_that_was_cut_off() {
    damaged(b"---\nsource: memcheck.toml\n", &["no insta header", "restore it"]);
    damaged(b"", &["no insta header"]);
}

/// The header is sound, the text is not ours: the difference is shown as text, and accepting replaces it.
#[test]
fn a_text_that_was_edited_by_hand() {
    let project = accepted();
    let good = project.read(&snap("grow"));
    project.write(
        &snap("grow"),
        &good.replace("checkpoint grown", "what is this?\ncheckpoint grown"),
    );
    let _ = memcheck(&project, &[])
        .expect_code(5)
        .expect_stderr("cannot be read as states");
    let _ = memcheck(&project, &["accept"]).expect_code(0);
    assert_eq!(project.read(&snap("grow")), good);
}

#[test]
fn a_snapshot_that_is_a_link_or_a_directory() {
    let project = accepted();
    let path = project.path().join(snap("grow"));
    project.write("elsewhere.txt", "precious\n");
    fs::remove_file(&path).unwrap();
    symlink(project.path().join("elsewhere.txt"), &path).unwrap();
    let _ = memcheck(&project, &[]).expect_code(7).expect_stderr("symbolic link");
    let _ = memcheck(&project, &["accept"]);
    assert_eq!(project.read("elsewhere.txt"), "precious\n");

    fs::remove_file(&path).unwrap();
    fs::create_dir(&path).unwrap();
    let _ = memcheck(&project, &[]).expect_code(7).expect_stderr("no regular file");
}

/// As root, permission bits bind nobody; a file in the place of the directory refuses everybody.
#[test]
fn a_directory_that_cannot_be_written() {
    let project = grow().file("memcheck", "not a directory\n");
    let run = memcheck(&project, &[]);
    assert!(matches!(run.code, Some(5 | 7)), "{:?}\n{}", run.code, run.stderr);
    let _ = run.expect_stderr("memcheck/snapshots");
    let run = memcheck(&project, &["accept"]);
    assert!(run.code.is_some_and(|code| code != 0), "{}", run.stderr);
    assert_eq!(project.paths(), ["grow.c", "memcheck", "memcheck.toml"]);
    assert_eq!(project.read("memcheck"), "not a directory\n");
}

#[test]
fn a_pending_file_that_cannot_be_written() {
    let project = accepted();
    fs::create_dir(project.path().join("memcheck/snapshots/grow.snap.new")).unwrap();
    edit(&project, "args = [\"1\"]", "args = [\"5\"]");
    let before = project.files();
    let _ = memcheck(&project, &[])
        .expect_code(5)
        .expect_all(&["Snapshot differs", "Pending file not written", "grow.snap.new"]);
    assert_eq!(project.files(), before);
}

/// Without write permission, for whoever is not root.
#[test]
fn a_directory_without_write_permission() {
    use std::os::unix::fs::PermissionsExt as _;
    let project = accepted();
    edit(&project, "args = [\"1\"]", "args = [\"5\"]");
    let directory = project.path().join("memcheck/snapshots");
    fs::set_permissions(&directory, fs::Permissions::from_mode(0o555)).unwrap();
    let binds = fs::write(directory.join("probe"), "").is_err();
    let _ = fs::remove_file(directory.join("probe"));
    let run = memcheck(&project, &[]).expect_code(5).expect_stderr("Snapshot differs");
    if binds {
        let _ = run.expect_stderr("Pending file not written");
        assert!(memcheck(&project, &["accept"]).code.is_some());
    }
    fs::set_permissions(&directory, fs::Permissions::from_mode(0o755)).unwrap();
}

#[test]
fn a_damaged_environment_of_record() {
    let project = accepted();
    let path = "memcheck/snapshots/environment.snap";
    let text = format!("<<<<<<< ours\n{}", project.read(path));
    project.write(path, &text);
    let _ = memcheck(&project, &[])
        .expect_code(7)
        .expect_all(&["environment.snap", "merge conflict markers"]);
    assert_eq!(project.read(path), text);
}

/// A pending file of another case, or of nobody, is not made the approved one.
#[test]
fn a_pending_file_that_is_not_what_its_name_says() {
    let project = accepted();
    let good = project.read(&snap("grow"));
    let forged = good.replace("case grow", "case other");
    project.write("memcheck/snapshots/grow.snap.new", &forged);
    let run = memcheck(&project, &["accept"]);
    assert!(run.code.is_some_and(|code| code != 0), "{}", run.stderr);
    let _ = run.expect_stderr("snapshot of another case");
    assert_eq!(project.read(&snap("grow")), good);
}
