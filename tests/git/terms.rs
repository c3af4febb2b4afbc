//! `compare --base` judges every kind of limit: at the ends of children, per unit of a matrix, per round, and of the headers of
//! files; by the base's words where these are asked for.

use tests::{Project, Run};

use super::{PROGRAM, TOML, commit, edit, git, memcheck, repository, says};

const FROM_BASE: [&str; 3] = ["compare", "--limits-from", "base"];

/// A child that takes a block of as many KiB as the macro says, written, and ends.
const PARENT: &str = r#"
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>
#define KIB 40
int main(int argc, char **argv) {
    (void)argv;
    if (fork() == 0) {
        volatile char *block = malloc(KIB << 10);
        for (int i = 0; i < KIB << 10; i++)
            block[i] = 1;
        _exit(block[argc] != 1);
    }
    while (wait(NULL) > 0) {}
    return 0;
}
"#;

fn parent(budget: &str) -> Project {
    let toml = TOML
        .replace(
            "{ name = \"start\" }, { name = \"done\" }",
            "{ name = \"start\", at = \"main\" }",
        )
        .replace("checkpoint", &format!("children = \"capture\"\n{budget}\ncheckpoint"));
    repository(&[("main.c", PARENT), ("memcheck.toml", &toml)])
}

fn broken(run: Run, text: &str) -> Run {
    says(&run, text);
    run.expect_code(3)
}

#[test]
fn growth_at_the_end_of_a_child_is_judged() {
    let project = parent("budget.main-heap.anon = { max_growth = \"16 KiB\", over = \"base\" }");
    let _ = memcheck(&project, &["compare"]).expect_code(0);
    edit(&project, "main.c", "KIB 40", "KIB 100");
    let run = memcheck(&project, &["compare"]);
    let _ = broken(run, "Budget exceeded: main-heap.anon is").expect_stdout("main.1");
}

#[test]
fn limits_of_children_are_the_base_s() {
    let budget = "budget.own.anon = \"100 KiB\"";
    let project = parent(budget);
    edit(&project, "main.c", "KIB 40", "KIB 120");
    edit(&project, "memcheck.toml", budget, "budget.own.anon = \"1 MiB\"");
    let _ = memcheck(&project, &["compare"]).expect_code(0);
    let _ = broken(memcheck(&project, &FROM_BASE), "limit 100 KiB").expect_stdout("main.1");
    edit(&project, "memcheck.toml", "children = \"capture\"\n", "");
    let run = memcheck(&project, &FROM_BASE);
    says(&run, "is not defined as at the base (children)");
    let _ = broken(
        run,
        "own.anon (max) at the end of each child: the change captures no children any more",
    );
}

#[test]
fn growth_of_the_whole_tree_is_judged_where_only_the_change_limits_it() {
    let project = parent("");
    edit(
        &project,
        "memcheck.toml",
        "{ name = \"start\", at = \"main\" }",
        "{ name = \"start\", at = \"main\", budget.tree.anon = { max_growth = \"16 KiB\", over = \"base\" } }",
    );
    let _ = memcheck(&project, &["compare"]).expect_code(0);
    edit(
        &project,
        "main.c",
        "int main",
        "volatile char grown[100 << 10] = { 1 };\n__attribute__((constructor)) static void grow(void) {\n    \
         for (unsigned i = 0; i < sizeof grown; i++)\n        grown[i] = 1;\n}\nint main",
    );
    let _ = broken(memcheck(&project, &["compare"]), "Budget exceeded: tree.anon");
}

const THREADS: &str = r#"
#include <stdlib.h>
#include "memcheck.h"
#define KIB 40
int main(int argc, char **argv) {
    int kib = atoi(argv[argc - 1]) * KIB;
    volatile char *block = malloc(kib << 10);
    for (int i = 0; i < kib << 10; i++)
        block[i] = 1;
    MEMCHECK_CHECKPOINT(done);
    return 0;
}
"#;

#[test]
fn the_cost_of_a_unit_is_the_base_s_and_goes_with_no_run() {
    let budget = "budget.own.anon = { max_per_unit = \"44 KiB\" }";
    let toml = TOML.replace("{ name = \"start\" }, ", "").replace(
        "checkpoint",
        &format!("matrix = {{ args = [[\"1\"], [\"2\"], [\"3\"], [\"5\"]], unit = \"block\" }}\n{budget}\ncheckpoint"),
    );
    let project = repository(&[("main.c", THREADS), ("memcheck.toml", &toml)]);
    let _ = memcheck(&project, &FROM_BASE).expect_code(0);
    edit(&project, "main.c", "KIB 40", "KIB 60");
    edit(&project, "memcheck.toml", "\"44 KiB\"", "\"1 MiB\"");
    let _ = memcheck(&project, &["compare"]).expect_code(0);
    let run = memcheck(&project, &FROM_BASE);
    says(&run, "for each block, limit 44 KiB (base memcheck.toml:6)");
    let _ = broken(run, "Budget exceeded: own.anon costs");
    edit(&project, "memcheck.toml", ", [\"5\"]", "");
    let run = memcheck(&project, &FROM_BASE);
    says(&run, "own.anon (max_per_unit) at done: the change has no such case any more");
    let _ = broken(run, "is not defined as at the base (matrix)");
}

/// The program is linked with these flags; the policy stands in the case.
fn hardened(ldflags: &str, policy: &str) -> String {
    let target = format!("target = {{ c = \"main.c\", ldflags = [\"{ldflags}\"] }}\n{policy}");
    TOML.replace("target = { c = \"main.c\" }", &target)
}

#[test]
fn headers_are_judged_and_by_the_base_s_policy_where_that_is_asked_for() {
    const FULL: &str = "-Wl,-z,relro,-z,now";
    const NONE: &str = "-Wl,-z,norelro";
    const POLICY: &str = "elf.relro = \"full\"";
    let project = repository(&[("main.c", PROGRAM), ("memcheck.toml", &hardened(FULL, POLICY))]);
    let _ = memcheck(&project, &["compare"]).expect_code(0);
    project.write("memcheck.toml", &hardened(NONE, POLICY));
    let run = memcheck(&project, &["compare"]);
    says(&run, "(relro full → none)");
    says(&run, "GNU_RELRO removed");
    let _ = broken(run, "Hardening: elf.relro of main is none, must be full (memcheck.toml:5)");
    let json = memcheck(&project, &["compare", "--message-format", "json"]).expect_code(3);
    assert!(json.stdout.contains("\"rule\":\"elf.relro\""), "{}", json.stdout);
    project.write("memcheck.toml", &hardened(NONE, ""));
    let _ = memcheck(&project, &["compare"]).expect_code(0);
    let _ = broken(
        memcheck(&project, &FROM_BASE),
        "Hardening: elf.relro of main is none, must be full (base memcheck.toml:5)",
    );
    // A case that nothing else gates.
    project.write("memcheck.toml", &TOML.replace("\"block\"", "\"other\""));
    let run = memcheck(&project, &FROM_BASE);
    let _ = broken(
        run,
        "elf.relro (must be full): the change has no such case any more (base memcheck.toml:5)",
    );
}

/// Loads the library beside it that the macro names.
const LOADER: &str = r#"
#include <dlfcn.h>
#include "memcheck.h"
#define LIBRARY "./libfoo.so"
int main(void) {
    if (!dlopen(LIBRARY, RTLD_NOW))
        return 1;
    MEMCHECK_CHECKPOINT(done);
    return 0;
}
"#;

#[test]
fn a_library_by_another_name_escapes_no_demand_of_the_base() {
    let toml = TOML.replace("{ name = \"start\" }, ", "");
    let toml = format!("[defaults]\nelf.object.\"libfoo*\".relro = \"full\"\nelf.object.\"libnone*\".relro = \"full\"\n{toml}");
    let project = repository(&[("main.c", LOADER), ("memcheck.toml", &toml), ("library.c", "int library;\n")]);
    let library = |path: &str, relro: &str| {
        let args = ["-shared", "-fPIC", relro, "-Wl,-z,now", "library.c", "-o", path];
        let _ = project.run(std::path::Path::new("gcc"), &args).expect_code(0);
    };
    library("libfoo.so", "-Wl,-z,relro");
    commit(&project, "the library");
    let _ = git(&project, &["branch", "-f", "main"]);
    let _ = memcheck(&project, &FROM_BASE).expect_code(0);
    // Built anew it is judged; by another name nothing of it would be.
    library("libfoo.so", "-Wl,-z,norelro");
    let _ = broken(memcheck(&project, &FROM_BASE), "Hardening: elf.relro of libfoo.so is none");
    library("libbar.so", "-Wl,-z,norelro");
    edit(&project, "main.c", "libfoo", "libbar");
    let run = broken(
        memcheck(&project, &FROM_BASE),
        "elf.relro of libfoo* (must be full): the change loads no such file any more (base memcheck.toml:2)",
    );
    assert!(!run.stdout.contains("libnone"), "the base had none either: {}", run.stdout);
    let _ = memcheck(&project, &["compare"]).expect_code(0);
}

/// A block is lost in each of twenty rounds.
const ROUNDS: &str = r#"
#include <stdlib.h>
#include "memcheck.h"
void *lost;
int main(void) {
    for (int i = 0; i < 20; i++) {
        lost = malloc(1000);
        MEMCHECK_CHECKPOINT(round);
    }
    return 0;
}
"#;

#[test]
fn a_longer_series_is_judged_by_the_base_s_limits() {
    let clean = ROUNDS.replace("1000);", "1000); free(lost);");
    let toml = TOML.replace(
        "{ name = \"start\" }, { name = \"done\" }",
        "{ name = \"round\", every = true, limit = 18, budget.main-heap.used = { max_per_round = \"0 B\" } }",
    );
    let project = repository(&[("main.c", &clean), ("memcheck.toml", &toml)]);
    let _ = memcheck(&project, &FROM_BASE).expect_code(0);
    project.write("main.c", ROUNDS);
    edit(
        &project,
        "memcheck.toml",
        "limit = 18, budget.main-heap.used = { max_per_round = \"0 B\" }",
        "limit = 19",
    );
    let run = memcheck(&project, &FROM_BASE);
    says(&run, "is not defined as at the base (checkpoint round)");
    let _ = broken(run, "Budget exceeded: main-heap.used grows");
}
