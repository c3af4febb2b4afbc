//! Points in libraries that are loaded, unloaded and loaded again while the program runs; semaphores and versions.

use std::fs;

use super::*;

/// The marker of the zoo with a provider and a semaphore.
const PROBE: &str = r#"
#define PROBE(provider, name, semaphore)                                                                    \
    __asm__ volatile("990: nop\n"                                                                           \
                     ".pushsection .note.stapsdt,\"?\",\"note\"\n.balign 4\n"                               \
                     ".4byte 992f-991f, 994f-993f, 3\n991: .asciz \"stapsdt\"\n992: .balign 4\n"            \
                     "993: .8byte 990b, _.stapsdt.base, " semaphore "\n"                                    \
                     ".asciz \"" provider "\"\n.asciz \"" name "\"\n.asciz \"\"\n994: .balign 4\n"          \
                     ".popsection\n.ifndef _.stapsdt.base\n"                                                \
                     ".pushsection .stapsdt.base,\"aG\",\"progbits\",.stapsdt.base,comdat\n"                \
                     ".weak _.stapsdt.base\n.hidden _.stapsdt.base\n_.stapsdt.base: .space 1\n"             \
                     ".size _.stapsdt.base, 1\n.popsection\n.endif\n" ::: "memory")
#define SEMAPHORE(name) \
    __attribute__((section(".probes"), visibility("hidden"))) volatile unsigned short name = 0
"#;

/// Two sites of one probe, one of them skipped unless somebody looks.
const PLUGIN: &str = r#"
SEMAPHORE(looked_at);
static volatile int sink;
int plugin_work(void) {
    PROBE("plugin", "work", "0");
    if (looked_at) PROBE("plugin", "work", "looked_at");
    sink++;
    return looked_at;
}
"#;

/// Loads each argument and calls it twice; `-` unloads the one before, `=` prints the last answer.
const HOST: &str = r#"
#include <dlfcn.h>
#include <stdio.h>
#include <string.h>
SEMAPHORE(host_semaphore);
int main(int argc, char **argv) {
    void *library = 0;
    int answer = 0;
    for (int i = 1; i < argc; i++) {
        if (!strcmp(argv[i], "-")) {
            dlclose(library);
        } else if (!strcmp(argv[i], "=")) {
            printf("%d ", answer);
        } else if (!strcmp(argv[i], "foreign")) {
            PROBE("host", "foreign", "16");
        } else if (!strcmp(argv[i], "host")) {
            printf("%d ", host_semaphore);
            if (host_semaphore) PROBE("host", "hit", "host_semaphore");
            printf("%d ", host_semaphore);
        } else {
            library = dlopen(argv[i], RTLD_NOW);
            if (!library) return 9;
            int (*work)(void) = (int (*)(void))dlsym(library, "plugin_work");
            answer = work();
            answer = work();
        }
    }
    return 0;
}
"#;

struct Plugins {
    dir: TempDir,
}

impl Plugins {
    fn new() -> Self {
        let plugins = Self {
            dir: tempfile::tempdir().unwrap(),
        };
        plugins.build("host", HOST, &["-ldl"]);
        for name in ["a.so", "b.so", "c.so"] {
            plugins.build(name, PLUGIN, &["-shared", "-fPIC"]);
        }
        plugins
    }

    fn build(&self, name: &str, source: &str, flags: &[&str]) {
        let file = self.dir.path().join(format!("{name}.c"));
        fs::write(&file, format!("{PROBE}{source}")).unwrap();
        #[expect(clippy::disallowed_methods, reason = "tests build their own targets")]
        let built = Command::new("gcc")
            .args(["-O1", "-o"])
            .arg(self.dir.path().join(name))
            .arg(&file)
            .args(flags)
            .output()
            .unwrap();
        assert!(built.status.success(), "{}", String::from_utf8_lossy(&built.stderr));
    }

    /// The host with plugins by their first letters.
    fn run(&self, words: &str, points: &[Point]) -> Ended {
        let word = |word: &str| match word {
            "a" | "b" | "c" => format!("{}/{word}.so", self.dir.path().display()),
            other => other.to_owned(),
        };
        let args: Vec<String> = words.split(' ').map(word).collect();
        let args: Vec<&str> = args.iter().map(String::as_str).collect();
        let mut running = start(self.dir.path().join("host"), &args, points);
        loop {
            match running.next().unwrap() {
                Next::Paused(stopped, _) => running = stopped.resume(),
                Next::Ended(ended) => {
                    assert_eq!(ended.end, End::Exited(0), "{ended:?}");
                    return ended;
                }
            }
        }
    }
}

fn usdt(provider: &str, name: &str, hit: u64) -> Point {
    let (provider, name) = (provider.to_owned(), name.to_owned());
    point(At::Probe { provider, name }, hit)
}

#[test]
fn hazard_34_libraries_loaded_later_unloaded_and_moved() {
    let plugins = Plugins::new();
    let points = [function("plugin_work", 100), usdt("plugin", "work", 100)];
    assert_eq!(plugins.run("a b c", &points).hits, [6, 12], "three places at once");
    assert_eq!(
        plugins.run("a - b - c - a", &points).hits,
        [8, 16],
        "one after another, most likely at one place"
    );
    assert_eq!(plugins.run("a b - c a - a", &points).hits, [10, 20], "some of them again");
}

#[test]
fn the_pass_that_was_asked_for_may_be_in_a_later_library() {
    let plugins = Plugins::new();
    let args: Vec<String> = ["a.so", "b.so"]
        .map(|name| plugins.dir.path().join(name).display().to_string())
        .into();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let points = [function("plugin_work", 3)];
    let (stopped, _) = paused(start(plugins.dir.path().join("host"), &args, &points));
    let pc = stopped.threads()[0].program_counter.unwrap();
    let place = super::super::proc::executable_files(stopped.pid())
        .into_iter()
        .find(|mapped| (mapped.start..mapped.end).contains(&pc))
        .unwrap();
    assert!(place.path.as_bytes().ends_with(b"b.so"), "{:?}", place.path);
    assert_eq!(ended(stopped.resume()).end, End::Exited(0));
}

#[test]
fn semaphores_are_counted_up_while_somebody_looks() {
    let plugins = Plugins::new();
    // The host reads its semaphore, passes its probe, and reads it again.
    let ended = plugins.run("host host", &[usdt("host", "hit", 2)]);
    assert_eq!((stdout(&ended), &*ended.hits), ("1 1 1 0 ", &[2][..]));
    assert!(ended.notes.iter().any(|note| note.contains("semaphore")), "{:?}", ended.notes);
    let ended = plugins.run("host", &[usdt("host", "hit", 1), usdt("host", "hit", 5)]);
    assert_eq!(stdout(&ended), "2 1 ", "one for each point");
    assert_eq!(stdout(&plugins.run("host", &[])), "0 0 ");
    assert_eq!(stdout(&plugins.run("a = b =", &[usdt("plugin", "work", 100)])), "1 1 ");
}

/// A note may say anything: what is no data of its file is not written to.
#[test]
fn a_semaphore_elsewhere_is_left_alone() {
    let ended = Plugins::new().run("foreign", &[usdt("host", "foreign", 1)]);
    assert_eq!((&ended.end, &*ended.hits), (&End::Exited(0), &[1][..]));
    let is_told = |note: &String| note.contains("outside of the data of its own file");
    assert!(ended.notes.iter().any(is_told), "{:?}", ended.notes);
    assert!(
        !ended.notes.iter().any(|note| note.contains("counted up")),
        "{:?}",
        ended.notes
    );
}

#[test]
fn versions_of_a_symbol_are_told_apart() {
    let plugins = Plugins::new();
    let source = r#"
        int one(void) { return 1; }
        int two(void) { return 2; }
        __asm__(".symver one,plugin_work@V1\n.symver two,plugin_work@@V2");
    "#;
    fs::write(plugins.dir.path().join("map"), "V1 { };\nV2 { global: plugin_work; };\n").unwrap();
    let map = format!("-Wl,--version-script={}", plugins.dir.path().join("map").display());
    plugins.build("a.so", source, &["-shared", "-fPIC", &map]);
    let count = |name: &str| plugins.run("a", &[function(name, 100)]).hits;
    assert_eq!(count("plugin_work"), [2]);
    assert_eq!(count("plugin_work@@V2"), [2]);
    assert_eq!(count("plugin_work@V1"), [0]);
}
