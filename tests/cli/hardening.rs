//! The hardening policy end to end: a program without RELRO fails by name, and passes when it is linked as the message says.

use serde_json::Value;
use tests::Project;

use super::gate::edit;
use super::memcheck;

const RESULTS: &str = "target/memcheck-data/results.json";

fn project(ldflags: &str) -> Project {
    let toml = format!(
        "[defaults]\nelf.relro = \"full\"\nelf.wx = 0\n[[case]]\nname = \"plain\"\n\
         target = {{ c = \"main.c\", ldflags = [{ldflags}] }}\nsnapshot = false\ncheckpoint = [{{ name = \"end\", at = \"exit\" }}]\n"
    );
    let source = "int main(void) { return 0; }\n";
    Project::new().file("main.c", source).file("memcheck.toml", &toml)
}

#[test]
fn a_program_without_relro_fails_until_it_is_linked_with_it() {
    let project = project("\"-Wl,-z,norelro\"");
    let run = memcheck(&project, &[]).expect_code(3);
    let said = run.stderr.split_whitespace().collect::<Vec<_>>().join(" ");
    for part in [
        "Hardening: elf.relro of main",
        "is none, must be full (memcheck.toml:2)",
        "link with -Wl,-z,relro,-z,now",
        "1 failed",
    ] {
        assert!(said.contains(part), "{part}: {}", run.stderr);
    }
    assert!(!said.contains("elf.wx"), "what holds is not told: {said}");
    // Every form that machines read names it, and so does what is read back, judged again and put together.
    let results: Value = serde_json::from_str(&project.read(RESULTS)).unwrap();
    let elf = &results["cases"][0]["elf"];
    assert_eq!((&elf[0]["rule"], &elf[0]["verdict"]), (&"elf.relro".into(), &"over".into()));
    assert_eq!((&elf[1]["rule"], &elf[1]["verdict"]), (&"elf.wx".into(), &"within".into()));
    for format in ["json", "markdown", "junit", "github", "sarif"] {
        let text = memcheck(&project, &["report", RESULTS, "--format", format])
            .expect_code(0)
            .stdout;
        assert!(
            text.contains("elf.relro") || text.contains("elf&#46;relro"),
            "{format}: {text}"
        );
        let is_listed = text.contains("\"ruleId\":\"memcheck/hardening\"");
        assert_eq!(is_listed, format == "sarif", "{format}: {text}");
    }
    for more in ["--replay", "--merge"] {
        let again = memcheck(&project, &["report", RESULTS, more, "--format", "github"]);
        assert!(
            again.stdout.contains("file=memcheck.toml,line=2,"),
            "{more}: {}",
            again.stdout
        );
    }
    // Today's demands are those of today's file.
    edit(&project, "elf.relro = \"full\"", "elf.relro = \"none\"");
    let again = memcheck(&project, &["report", RESULTS, "--replay", "--format", "github"]);
    assert!(!again.stdout.contains("elf.relro"), "{}", again.stdout);
    edit(&project, "elf.relro = \"none\"", "elf.relro = \"full\"");
    edit(&project, "norelro", "relro,-z,now");
    let _ = memcheck(&project, &[])
        .expect_code(0)
        .expect_last_line("measured 1 checkpoint in 1 case: all passed");
}

#[test]
fn what_is_not_met_may_be_waived_for_a_while() {
    let project = project("\"-Wl,-z,norelro\"");
    let toml = project.read("memcheck.toml");
    let waiver = "[[waiver]]\ncase = \"plain\"\nmetric = \"elf.relro\"\nceiling = \"none\"\nexpires = 9999-12-31\nreason = \"old linker\"\n";
    project.write("memcheck.toml", &format!("{toml}{waiver}"));
    let run = memcheck(&project, &[])
        .expect_code(0)
        .expect_last_line("measured 1 checkpoint in 1 case: all passed, 1 limit waived");
    let said = run.stderr.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(
        said.contains("note: waived until 9999-12-31: plain: elf.relro is none at main"),
        "{said}"
    );
    let again = memcheck(&project, &["report", RESULTS, "--replay", "--format", "github"]);
    assert!(!again.stdout.contains("::error"), "{}", again.stdout);
    let table = memcheck(&project, &["budget"]).expect_code(0).stdout;
    assert!(table.contains("waived"), "{table}");
    edit(&project, "ceiling = \"none\"", "ceiling = \"partial\"");
    let _ = memcheck(&project, &[])
        .expect_code(3)
        .expect_all(&["elf.relro of main", "waiver exceeded: plain: elf.relro"]);
}

#[test]
fn demands_of_single_files_come_first_and_must_have_a_file() {
    let project = project("\"-Wl,-z,relro,-z,lazy\"");
    edit(
        &project,
        "snapshot = false\n",
        "snapshot = false\nelf.object.\"mai*\".relro = \"partial\"\n",
    );
    let _ = memcheck(&project, &[]).expect_code(0);
    edit(&project, "\"mai*\"", "\"libgone*\"");
    let run = memcheck(&project, &[]).expect_code(3);
    let said = run.stderr.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(
        said.contains("elf.relro of libgone* is not known, must be partial: no loaded file has such a name"),
        "{said}"
    );
    // Of all cases none has such a file: that is told.
    edit(&project, "elf.object.\"libgone*\".relro = \"partial\"\n", "");
    edit(
        &project,
        "elf.relro = \"full\"\n",
        "elf.object.\"libgone*\".relro = \"full\"\n",
    );
    let run = memcheck(&project, &[]).expect_code(0).expect_no_stderr("nothing is gated");
    let said = run.stderr.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(
        said.contains(
            "warning: no case loads a file called libgone*: what elf.object demands of it holds for nothing (memcheck.toml:2)"
        ),
        "{said}"
    );
    let table = memcheck(&project, &["budget"]).expect_code(0);
    let words = table.stdout.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(words.contains("plain - elf.wx of main max 0 0 - memcheck.toml:3"), "{words}");
    edit(&project, "elf.object", "elf.objetc");
    let _ = memcheck(&project, &[]).expect_code(2).expect_stderr("did you mean");
}
