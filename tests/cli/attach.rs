//! `show --pid`: a process that somebody else started is stopped, shown, and goes on as if nothing had been.

use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Child, Stdio};
use std::time::Duration;

use serde_json::Value;
use tests::{Project, Run};

use super::{TOOL, memcheck, start};

/// Threads that wait in calls which a stop could interrupt; told to end, it says how many of them noticed anything.
const LIVE: &str = r#"
#define _GNU_SOURCE
#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/sem.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static atomic_int interrupted;

static void *waits_for_events(void *unused) {
    struct epoll_event event;
    int epoll = epoll_create1(0);
    for (;;)
        if (epoll_wait(epoll, &event, 1, -1) < 0 && errno == EINTR)
            atomic_fetch_add(&interrupted, 1);
    return unused;
}
static void *waits_for_a_semaphore(void *unused) {
    int set = semget(IPC_PRIVATE, 1, 0600);
    struct sembuf down = {0, -1, 0};
    for (;;) {
        int result = semop(set, &down, 1);
        semctl(set, 0, IPC_RMID);
        if (result < 0 && errno == EINTR)
            atomic_fetch_add(&interrupted, 1);
        pause();
    }
    return unused;
}
static void *sleeps(void *unused) {
    struct timespec day = {86400, 0};
    for (;;)
        if (nanosleep(&day, NULL) < 0)
            atomic_fetch_add(&interrupted, 1);
    return unused;
}
static void *works(void *unused) {
    for (;;)
        free(malloc(100));
    return unused;
}

int main(int argc, char **argv) {
    const char *mode = argc > 2 ? argv[2] : "";
    pthread_t thread;
    if (!strcmp(mode, "zombie") || !strcmp(mode, "traced")) {
        pid_t child = fork();
        if (child == 0) {
            if (*mode == 'z')
                _exit(0);
            ptrace(PTRACE_TRACEME, 0, 0, 0);
            raise(SIGSTOP);
            for (;;)
                pause();
        }
        siginfo_t info;
        waitid(P_PID, child, &info, WEXITED | WSTOPPED | WNOWAIT);
        printf("%d\n", child);
    } else {
        void *(*bodies[])(void *) = {waits_for_events, waits_for_a_semaphore, sleeps, works};
        for (int i = 0; i < 4; i++)
            pthread_create(&thread, NULL, bodies[i], NULL);
        if (!strcmp(mode, "undumpable"))
            prctl(PR_SET_DUMPABLE, 0);
        printf("%d\n", getpid());
    }
    fflush(stdout);
    char line[8];
    while (fgets(line, sizeof line, stdin) == NULL)
        if (feof(stdin))
            break;
    printf("%d calls were interrupted\n", interrupted);
    return 0;
}
"#;

/// The program, running, and the process it named. Ended when dropped.
struct Live {
    child: Child,
    pid: i32,
    output: BufReader<std::process::ChildStdout>,
}

impl Live {
    fn new(project: &Project, mode: &str) -> Self {
        project.write("live.c", LIVE);
        let built = project.run("cc".as_ref(), &["-O1", "-pthread", "-o", "live", "live.c"]);
        let _ = built.expect_code(0);
        let mut command = project.command(&project.path().join("live"), &["argument", mode]);
        let mut child = command.stdin(Stdio::piped()).spawn().unwrap();
        let mut output = BufReader::new(child.stdout.take().unwrap());
        let mut line = String::new();
        output.read_line(&mut line).unwrap();
        Self {
            child,
            pid: line.trim().parse().unwrap(),
            output,
        }
    }

    /// Tells it to end; what it says then.
    fn end(&mut self) -> String {
        drop(self.child.stdin.take());
        let mut line = String::new();
        self.output.read_line(&mut line).unwrap();
        assert!(self.child.wait().unwrap().success());
        line
    }

    fn status(&self, key: &str) -> String {
        let text = std::fs::read_to_string(format!("/proc/{}/status", self.pid)).unwrap();
        let line = text
            .lines()
            .find_map(|line| line.strip_prefix(key)?.strip_prefix(':'))
            .unwrap();
        line.trim().to_owned()
    }

    fn is_stopped(&self) -> bool {
        self.status("State").starts_with('T')
    }

    fn signal(&self, name: &str) {
        let pid = self.pid.to_string();
        let _ = Project::new().run("kill".as_ref(), &["-s", name, &pid]).expect_code(0);
    }
}

impl Drop for Live {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn show(project: &Project, pid: i32) -> Run {
    memcheck(project, &["show", "--pid", &pid.to_string()])
}

#[test]
fn a_running_process_is_shown_and_notices_nothing() {
    let project = Project::new();
    let mut live = Live::new(&project, "");
    for _ in 0..5 {
        let run = show(&project, live.pid).expect_code(0);
        for text in [&format!("live @ pid {}", live.pid), "thread-stack.live", "5 threads", "total"] {
            assert!(run.stdout.contains(text), "no {text} in\n{}", run.stdout);
        }
        assert_eq!(live.status("TracerPid"), "0");
        assert!(!live.is_stopped());
    }
    // A number that is no case's name is a process.
    let _ = memcheck(&project, &["show", &live.pid.to_string()])
        .expect_code(0)
        .expect_stdout("live @ pid");
    assert_eq!(live.end(), "0 calls were interrupted\n");
    assert!(
        project.paths().iter().all(|path| path.starts_with("live")),
        "nothing is written"
    );
}

#[test]
fn the_table_is_that_of_a_launched_program() {
    let project = Project::new();
    let live = Live::new(&project, "zombie");
    let rows = |args: &[&str]| -> Vec<(String, Value, Value, Value)> {
        let args = [&["show", "--message-format", "json"], args].concat();
        let run = memcheck(&project, &args).expect_code(0);
        let value: Value = serde_json::from_str(&run.stdout).unwrap();
        let roles = value["checkpoints"][0]["roles"].as_object().unwrap().clone();
        roles
            .into_iter()
            // The vdso's data pages and the sizes of stack and names differ with the place in memory.
            .filter(|(name, _)| !matches!(&**name, "platform" | "memcheck" | "main-stack"))
            .map(|(name, row)| (name, row["count"].clone(), row["reserved"].clone(), row["access"].clone()))
            .collect()
    };
    let parent = live.child.id().to_string();
    let attached = rows(&["--pid", &parent]);
    let launched = rows(&["--at", "exit", "--", "./live", "argument", "zombie"]);
    assert!(attached.len() > 5, "{attached:?}");
    assert_eq!(attached, launched);
}

#[test]
fn a_stopped_process_stays_stopped() {
    let project = Project::new();
    let mut live = Live::new(&project, "");
    live.signal("STOP");
    assert!(tests::until(Duration::from_secs(5), || live.is_stopped()));
    for _ in 0..2 {
        let _ = show(&project, live.pid)
            .expect_code(0)
            .expect_stdout("was stopped by a signal before, and stays stopped");
        // Let go with its stop signal, it takes its stop again when it is scheduled.
        assert!(tests::until(Duration::from_secs(5), || live.is_stopped()
            && live.status("TracerPid") == "0"));
    }
    live.signal("CONT");
    assert!(live.end().contains("calls were interrupted"));
}

#[test]
fn what_cannot_be_shown_is_told() {
    let project = Project::new();
    let zombie = Live::new(&project, "zombie");
    let _ = show(&project, zombie.pid).expect_code(7).expect_stderr("has ended");
    let traced = Live::new(&project, "traced");
    let tracer = format!("is traced by process {} (live) already", traced.child.id());
    let _ = show(&project, traced.pid).expect_code(7).expect_stderr(&tracer);
    let live = Live::new(&project, "");
    let thread = std::fs::read_dir(format!("/proc/{}/task", live.pid))
        .unwrap()
        .filter_map(|entry| entry.unwrap().file_name().to_str()?.parse().ok())
        .find(|tid| *tid != live.pid)
        .unwrap();
    let _ = show(&project, thread)
        .expect_code(2)
        .expect_stderr(&format!("is a thread of process {}", live.pid));
    // Beyond the highest id that Linux gives.
    let _ = show(&project, 1 << 30)
        .expect_code(2)
        .expect_stderr("there is no process 1073741824");
    for args in [&["show", "--pid", "1", "--at", "main"][..], &["show", "--pid", "0"]] {
        let _ = memcheck(&project, args).expect_code(2);
    }
    let _ = memcheck(&project, &["show", "1", "--since", "main"])
        .expect_code(2)
        .expect_stderr("a running process is shown as it is now");
}

/// Root shows everything; anybody else is told whose process it is, or that it is not dumpable.
#[test]
fn a_process_of_somebody_else() {
    let project = Project::new();
    let hidden = Live::new(&project, "undumpable");
    let is_root = project.run("id".as_ref(), &["-u"]).stdout.trim() == "0";
    if !is_root {
        let _ = show(&project, hidden.pid).expect_code(6).expect_stderr("it is not dumpable");
        let _ = show(&project, 1).expect_code(6).expect_stderr("it runs as user 0");
        return;
    }
    let _ = show(&project, hidden.pid).expect_code(0);
    let other = project.run(
        "setpriv".as_ref(),
        &["--reuid=65534", "--clear-groups", TOOL, "show", "--pid", "1"],
    );
    let _ = other.expect_code(6).expect_stderr("it runs as user 0, you are 65534");
}

/// The end of the tool, however hard, is not the end of the process.
#[test]
fn a_killed_tool_leaves_the_process_running() {
    let project = Project::new();
    let mut live = Live::new(&project, "");
    let pid = live.pid.to_string();
    for delay in 0..12 {
        let mut tool = start(&project, &["show", "--pid", &pid]);
        std::thread::sleep(Duration::from_millis(delay));
        tool.kill().unwrap();
        let _ = tests::collect(tool);
        let free = || live.status("TracerPid") == "0" && !live.status("State").starts_with(['t', 'T']);
        assert!(tests::until(Duration::from_secs(5), free), "{}", live.status("State"));
    }
    let mut stdin = live.child.stdin.take().unwrap();
    stdin.write_all(b"end\n").unwrap();
    assert!(live.end().contains("calls were interrupted"));
}
