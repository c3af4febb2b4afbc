//! What an attached `show` calls the total, held against `smaps_rollup` of the same process while it stands still: python3,
//! sqlite3 and a Java virtual machine, none of them prepared.

use std::fs;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use memcheck_harness::model::{Cancel, Defaults, Plan};
use memcheck_harness::pipeline;

use crate::tools::{command, run, system_program};

/// A child that is killed in the end.
struct Live(Child);

impl Drop for Live {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn read(pid: u32, file: &str) -> String {
    fs::read_to_string(format!("/proc/{pid}/{file}")).unwrap()
}

/// Bytes of a line `Name:  123 kB`, or its number.
#[track_caller]
fn field(text: &str, name: &str) -> u64 {
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    let line = line.unwrap_or_else(|| panic!("no {name} in {text}")).trim();
    match line.strip_suffix(" kB") {
        Some(number) => number.trim().parse::<u64>().unwrap() << 10,
        None => line.parse().unwrap(),
    }
}

/// Stops the program once `ready` holds of its pid, and compares.
#[track_caller]
fn totals_are_the_kernels(command: &mut Command, ready: impl Fn(u32) -> bool) {
    let child = Live(command.stdin(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap());
    let pid = child.0.id();
    assert!(
        tests::until(Duration::from_secs(60), || ready(pid)),
        "{}",
        read(pid, "status")
    );
    run("kill", &["-s".to_owned(), "STOP".to_owned(), pid.to_string()]);
    let is_stopped = || read(pid, "stat").contains(") T ");
    assert!(tests::until(Duration::from_secs(10), is_stopped), "{}", read(pid, "status"));

    let plan = Plan {
        root: std::env::temp_dir(),
        file: "memcheck.toml".into(),
        is_cargo: false,
        data_dir: std::env::temp_dir(),
        defaults: Defaults::default(),
        cases: Vec::new(),
        cases_in_file: 0,
        partition: None,
    };
    let (before, status) = (read(pid, "smaps_rollup"), read(pid, "status"));
    let report = pipeline::attached(&plan, pid.cast_signed(), Duration::from_secs(30), &Cancel::new(), &|_, _| {
        Ok(())
    })
    .unwrap();
    assert!(tests::until(Duration::from_secs(10), is_stopped), "it stays as it was");
    assert_eq!(its_own(&read(pid, "smaps_rollup")), its_own(&before), "looking changed it");
    let map = &report.checkpoints[0].map;
    let all = map.sum(|_| true);
    assert_eq!(
        (all.resident, all.anon, map.process.swap),
        (
            Some(field(&before, "Rss")),
            Some(field(&before, "Anonymous")),
            Some(field(&before, "Swap"))
        ),
        "{before}"
    );
    assert_eq!(map.process.reserved, Some(field(&status, "VmSize")));
    assert_eq!(all.reserved, field(&status, "VmSize"));
    let live = map.threads.len() as u64;
    assert!(live >= field(&status, "Threads"), "{live} threads: {status}");
}

fn waits_with(pid: u32, threads: u64) -> bool {
    let status = read(pid, "status");
    field(&status, "Threads") >= threads && status.contains("(sleeping)")
}

fn maps(pid: u32, what: &str) -> bool {
    Path::new(&format!("/proc/{pid}/maps")).exists() && read(pid, "maps").contains(what)
}

#[test]
fn python3() {
    let script = "import json, threading, sys\n\
                  x = [bytes(100) for i in range(100000)]\n\
                  for i in range(3): threading.Thread(target=threading.Event().wait, daemon=True).start()\n\
                  sys.stdin.read()";
    let python = system_program("python3");
    totals_are_the_kernels(command(python.to_str().unwrap()).args(["-c", script]), |pid| {
        waits_with(pid, 4)
    });
}

#[test]
fn sqlite3() {
    let sqlite = system_program("sqlite3");
    let ready = |pid| maps(pid, "[heap]") && waits_with(pid, 1);
    totals_are_the_kernels(command(sqlite.to_str().unwrap()).arg(":memory:"), ready);
}

#[test]
fn a_java_virtual_machine() {
    let java = system_program("java");
    // A server of the runtime itself, on any free port.
    let server = ["-Xmx64m", "--module", "java.rmi/sun.rmi.registry.RegistryImpl", "0"];
    let ready = |pid| maps(pid, "libjvm.so") && waits_with(pid, 12);
    totals_are_the_kernels(command(java.to_str().unwrap()).args(server), ready);
}

/// The lines that no other process changes: shares of file pages move whenever somebody maps the same files.
fn its_own(rollup: &str) -> Vec<&str> {
    let own = ["Rss:", "Pss_Anon:", "Referenced:", "Anonymous:", "Swap:", "Locked:"];
    rollup
        .lines()
        .filter(|line| own.iter().any(|name| line.starts_with(name)))
        .collect()
}
