//! An upgrade of the machine's image: the same programs on another C library (`.ci/glibcs` unpacks them). One message, one
//! accept; limits are silent and rows of the program's own memory untouched; what the code changed is not taken for it.

use std::os::unix::fs::symlink;
use std::path::Path;

use tests::Project;

use super::{commit, edit, git, memcheck, nothing_left, repository};

/// `plain` is the same everywhere; `versioned` takes 1 MiB more on any libc but 2.36; `other` takes as much as is written here.
const PROGRAM: &str = r#"
#include <gnu/libc-version.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include "memcheck.h"
#define KIB 200
static void take(size_t bytes) {
    volatile char *block = malloc(bytes);
    for (size_t i = 0; i < bytes; i += 4096)
        block[i] = 1;
}
static void *work(void *unused) { (void)unused; return 0; }
int main(int argc, char **argv) {
    pthread_t thread;
    if (pthread_create(&thread, 0, work, 0)) return 2;
    pthread_join(thread, 0);
    take(1000);
    if (!strcmp(argv[1], "versioned") && strcmp(gnu_get_libc_version(), "2.36"))
        take(1 << 20);
    if (!strcmp(argv[1], "other"))
        take(KIB << 10);
    MEMCHECK_CHECKPOINT(done);
    return 0;
}
"#;

/// The image: a directory whose link `root` leads to the libraries of a release.
struct Image(Project);

impl Image {
    fn new() -> Self {
        let image = Self(Project::new());
        image.upgrade("bookworm");
        image
    }

    #[track_caller]
    fn upgrade(&self, release: &str) {
        let root = Path::new(env!("CARGO_TARGET_TMPDIR")).join("../tools/glibc").join(release);
        assert!(root.join("complete").exists(), "no C library of {release}: run .ci/glibcs");
        let link = self.0.path().join("root");
        let _ = std::fs::remove_file(&link);
        symlink(root.canonicalize().unwrap(), link).unwrap();
    }

    fn toml(&self, names: &[&str]) -> String {
        let libraries = self.0.path().join("root/lib/x86_64-linux-gnu");
        let (loader, libraries) = (libraries.join("ld-linux-x86-64.so.2"), libraries.display());
        let mut text = String::from("[defaults]\nbudget.own.anon = \"2 MiB\"\n");
        for name in names {
            text += &format!(
                "[[case]]\nname = \"{name}\"\nargs = [\"{name}\"]\ntarget = {{ c = \"main.c\", cflags = [\"-O1\", \"-pthread\"], \
                 ldflags = [\"-pthread\", \"-Wl,-z,now\", \"-Wl,--dynamic-linker={}\", \"-Wl,-rpath,{libraries}\"] }}\n\
                 checkpoint = [{{ name = \"done\" }}]\n",
                loader.display()
            );
        }
        text
    }
}

/// Approved and committed on the old image.
fn approved(image: &Image, names: &[&str]) -> Project {
    let project = repository(&[("main.c", PROGRAM), ("memcheck.toml", &image.toml(names))]);
    let _ = memcheck(&project, &["accept"]).expect_code(0);
    commit(&project, "approved");
    let _ = memcheck(&project, &[]).expect_code(0);
    project
}

fn changed(project: &Project) -> Vec<String> {
    git(project, &["status", "--porcelain"])
        .lines()
        .map(|line| line.trim().trim_start_matches("M ").to_owned())
        .collect()
}

#[test]
fn an_upgrade_that_touches_nothing_of_our_own_is_one_message_and_one_file() {
    let image = Image::new();
    let project = approved(&image, &["plain"]);
    for (release, version) in [("trixie", "2.41"), ("sid", "2.43")] {
        image.upgrade(release);
        let run = memcheck(&project, &[]).expect_code(0);
        let message = "not the environment of environment.snap: libc glibc ";
        assert_eq!(run.stderr.matches(message).count(), 1, "{}", run.stderr);
        assert!(run.stderr.contains(&format!("→ glibc {version}")), "{}", run.stderr);
        let _ = run.expect_stderr("1 case compared, 1 equal, 0").expect_no_stderr("Budget");
        let _ = memcheck(&project, &["accept", "--environment"])
            .expect_code(0)
            .expect_stderr("this machine is on record now; cases: 1 as approved");
        assert_eq!(changed(&project), ["memcheck/snapshots/environment.snap"]);
        let _ = memcheck(&project, &[]).expect_code(0).expect_no_stderr("not the environment");
        commit(&project, "upgrade");
    }
}

#[test]
fn only_what_the_new_environment_changes_is_taken_with_it() {
    let image = Image::new();
    let project = approved(&image, &["plain", "versioned", "other"]);
    image.upgrade("trixie");
    // A change of the code that nobody approved comes in between.
    edit(&project, "main.c", "KIB 200", "KIB 600");
    commit(&project, "more");
    let run = memcheck(&project, &[]).expect_code(0);
    assert_eq!(run.stderr.matches("not the environment of").count(), 1, "{}", run.stderr);
    let _ = run
        .expect_stderr("3 cases compared, 1 equal, 2 differ")
        .expect_stderr("Recorded on glibc 2.36, this is glibc 2.41. That may explain mmap-chunk.");
    let plain = project.read("memcheck/snapshots/plain.snap");
    let _ = memcheck(&project, &["accept", "--environment"]).expect_code(5).expect_all(&[
        "Accepted memcheck/snapshots/versioned.snap",
        "built and run here, it gives the same",
        "Refused memcheck/snapshots/other.snap",
        "it differs under the old environment as well",
        "this machine is on record now; cases: 1 taken with it, 1 refused, 1 as approved",
    ]);
    nothing_left(&project);
    assert_eq!(
        changed(&project)
            .into_iter()
            .filter(|line| !line.contains(".new"))
            .collect::<Vec<_>>(),
        ["memcheck/snapshots/environment.snap", "memcheck/snapshots/versioned.snap"]
    );
    assert_eq!(project.read("memcheck/snapshots/plain.snap"), plain);
    let _ = memcheck(&project, &[]).expect_code(5).expect_stderr("1 failed");
    let _ = memcheck(&project, &["accept", "other"]).expect_code(0);
    let _ = memcheck(&project, &[]).expect_code(0);
}

#[test]
fn what_nobody_can_tell_is_refused() {
    let image = Image::new();
    let project = Project::new()
        .file("main.c", PROGRAM)
        .file("memcheck.toml", &image.toml(&["versioned"]));
    let _ = memcheck(&project, &["accept"]).expect_code(0);
    image.upgrade("trixie");
    let _ = memcheck(&project, &["accept", "--environment"]).expect_code(5).expect_all(&[
        "Refused memcheck/snapshots/versioned.snap",
        "whether the environment is the reason is not known",
        "is not in a git",
        "cargo memcheck accept versioned",
    ]);
}
