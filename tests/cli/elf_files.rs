//! ELF files shown and compared by their headers: what a machine with gcc alone can show. Against readelf and checksec, and for
//! other machines: `tests/oracles`.

use serde_json::Value;
use tests::Project;

use super::memcheck;

const SOURCE: &str = "const char *const table[2000] = { \"a\", \"b\" };\n\
                      int main(int argc, char **argv) { (void)argv; return *table[argc] == 'b' ? 0 : 1; }\n";

fn built() -> Project {
    let project = Project::new().file("main.c", SOURCE);
    for (name, flag) in [
        ("no", "-Wl,-z,norelro"),
        ("partial", "-Wl,-z,relro,-z,lazy"),
        ("full", "-Wl,-z,relro,-z,now"),
    ] {
        let args = ["-fPIE", "-pie", "-O1", "-o", name, "main.c", flag];
        let _ = project.run("cc".as_ref(), &args).expect_code(0);
    }
    project
}

fn words(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[test]
fn a_file_is_shown_by_its_headers() {
    let project = built();
    for (name, relro) in [("no", "none"), ("partial", "partial"), ("full", "full")] {
        let text = memcheck(&project, &["show", name]).expect_code(0).stdout;
        assert!(words(&text).contains(&format!("RELRO {relro} ")), "{text}");
        assert_eq!(words(&text).contains("GNU_RELRO 0x"), relro != "none", "{text}");
        assert_eq!(words(&text).contains("exe.relro 1 "), relro != "none", "{text}");
        let json = memcheck(&project, &["show", &format!("./{name}"), "--message-format", "json"]).expect_code(0);
        let value: Value = serde_json::from_str(&json.stdout).unwrap();
        assert_eq!((&value["reason"], &value["program"]), (&"elf".into(), &true.into()));
        assert_eq!(value["hardening"]["relro"], relro);
        assert_eq!(
            value["file_bytes"].as_u64().unwrap(),
            project.path().join(name).metadata().unwrap().len()
        );
    }
    let _ = memcheck(&project, &["show", "no", "--at", "main"])
        .expect_code(2)
        .expect_stderr("cargo memcheck show -- no");
    // An object file has nothing yet that could be judged.
    let _ = project.run("cc".as_ref(), &["-c", "-o", "main.o", "main.c"]).expect_code(0);
    let text = memcheck(&project, &["show", "./main.o"]).expect_code(0).stdout;
    assert!(
        text.contains("object file (REL)") && text.contains("no program headers"),
        "{text}"
    );
    assert!(!text.contains("RELRO") && !text.contains("NX"), "{text}");
    // Debug information that was split off has the headers of its program, and nothing that these could be judged by.
    let split = ["--only-keep-debug", "full", "full.debug"];
    let _ = project.run("objcopy".as_ref(), &split).expect_code(0);
    let text = words(&memcheck(&project, &["show", "./full.debug"]).expect_code(0).stdout);
    assert!(
        text.contains("kind debug information of another file, whose headers these are"),
        "{text}"
    );
    for word in ["RELRO partial", "RELRO none", "canary", "PIE", "when loaded"] {
        assert!(!text.contains(word), "{word}: {text}");
    }
    // A library that can be run is one all the same, as glibc's is.
    let flags = [
        "-shared",
        "-fPIC",
        "-Wl,-soname,libmain.so.1,-e,main",
        "-o",
        "libmain.so",
        "lib.c",
    ];
    project.write(
        "lib.c",
        "const char interpreter[] __attribute__((section(\".interp\"))) = \"/lib64/ld-linux-x86-64.so.2\";\nint main(void) { return 0; }\n",
    );
    let _ = project.run("cc".as_ref(), &flags).expect_code(0);
    let text = words(&memcheck(&project, &["show", "./libmain.so"]).expect_code(0).stdout);
    assert!(
        text.contains("kind library (DYN)") && text.contains("interpreter /lib64/"),
        "{text}"
    );
    assert!(text.contains("PIE no: a library") && text.contains("lib.text 1 "), "{text}");
    // What is cut off, or no ELF file, is refused with its name.
    project.write("torn", "\x7fELF");
    let _ = memcheck(&project, &["show", "./torn"])
        .expect_code(2)
        .expect_stderr("./torn cannot be read");
    let _ = memcheck(&project, &["show", "main.c"]).expect_code(2);
}

#[test]
fn a_case_goes_before_a_file_of_its_name() {
    let project = built();
    project.write(
        "memcheck.toml",
        "[[case]]\nname = \"no\"\ntarget = { path = \"no\" }\n[[case.checkpoint]]\nname = \"m\"\nat = \"main\"\n",
    );
    assert!(
        memcheck(&project, &["show", "no"])
            .expect_code(0)
            .stdout
            .starts_with("no @ m")
    );
    assert!(
        memcheck(&project, &["show", "./no"])
            .expect_code(0)
            .stdout
            .starts_with("./no\n")
    );
    assert!(
        memcheck(&project, &["show", "full"])
            .expect_code(0)
            .stdout
            .starts_with("full\n")
    );
}

#[test]
fn two_files_are_compared_by_their_headers() {
    let project = built();
    let text = words(
        &memcheck(&project, &["compare", "--headers", "no", "full"])
            .expect_code(0)
            .stdout,
    );
    for part in [
        "no → full",
        "RELRO none → full",
        "GNU_RELRO none → ",
        "GNU_RELRO added (relro none → full)",
        "+1 region of the process in all.",
        "nothing ran",
        "compared 1 checkpoint in 1 case with no: 1 changed",
    ] {
        assert!(text.contains(part), "{part} in {text}");
    }
    let same = memcheck(&project, &["compare", "--headers", "full", "full"])
        .expect_code(0)
        .stdout;
    assert!(!same.contains("full → full") && same.contains("1 the same"), "{same}");
    let json = memcheck(&project, &["compare", "--headers", "no", "full", "--message-format", "json"]).expect_code(0);
    let first: Value = serde_json::from_str(json.stdout.lines().next().unwrap()).unwrap();
    assert_eq!(first["reason"], "compare-elf");
    assert_eq!(first["now"]["hardening"]["relro"], "full");
    let _ = memcheck(&project, &["compare", "--headers", "no"]).expect_code(2);
    let _ = memcheck(&project, &["compare", "--headers", "no", "full", "--", "x"]).expect_code(2);
}
