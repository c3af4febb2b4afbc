//! How a target starts: settings, stack image, signals and descriptors, and why it could not start.

use super::*;

fn initial_stack(program: PathBuf, args: &[&str], env: &[(&str, &str)]) -> (u64, u64) {
    let mut settings = settings_of(program, args);
    settings.env = Some(env.iter().map(|(name, value)| (name.into(), value.into())).collect());
    let (stopped, _) = paused(launch(&settings, &[point(At::Exec, 1)], &Cancel::new()).unwrap());
    let maps = std::fs::read_to_string(format!("/proc/{}/maps", stopped.pid())).unwrap();
    let stack = maps.lines().find(|line| line.ends_with("[stack]")).unwrap();
    let end = u64::from_str_radix(stack.split_once(' ').unwrap().0.split_once('-').unwrap().1, 16).unwrap();
    let sp = stopped.threads()[0].stack_pointer.unwrap();
    (sp & 0xfff, end - sp)
}

#[test]
fn the_initial_stack_has_one_size_for_all_paths_arguments_and_environments() {
    let program = zoo(&[]);
    let expected = initial_stack(program.clone(), &[], &[]);
    let long = "x".repeat(3000);
    let many: Vec<(String, String)> = (0..100).map(|i| (format!("NAME{i}"), "v".repeat(i))).collect();
    let many: Vec<(&str, &str)> = many.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    let dir = tempfile::tempdir().unwrap();
    for length in 0..17 {
        let moved = dir.path().join("d".repeat(length + 1));
        std::fs::copy(&program, &moved).unwrap();
        let env = vec![("E", &long[..length]); length % 3];
        assert_eq!(initial_stack(moved, &vec!["a"; length % 4], &env), expected, "{length}");
    }
    assert_eq!(
        initial_stack(program.clone(), &[&long, "", "b"], &[("HOME", &long)]),
        expected
    );
    assert_eq!(initial_stack(program, &["one"], &many), expected);
}

#[test]
fn settings_are_applied_and_reported() {
    let mut settings = settings_of(zoo(&[]), &["hang"]);
    settings.cpus = Some(1);
    settings.limits = LaunchLimits {
        stack_bytes: Some(4 << 20),
        address_space_bytes: Some(1 << 30),
        open_files: Some(50),
    };
    let (stopped, _) = paused(launch(&settings, &[point(At::Main, 1)], &Cancel::new()).unwrap());
    let read = |file: &str| std::fs::read_to_string(format!("/proc/{}/{file}", stopped.pid())).unwrap();
    let limits = read("limits");
    for (name, soft, hard) in [
        ("Max stack size", 4 << 20, 4 << 20),
        ("Max address space", 1 << 30, 1 << 30),
        ("Max open files", 50, 50),
        ("Max core file size", 0, 0),
    ] {
        let line = limits.lines().find(|line| line.starts_with(name)).unwrap();
        let values: Vec<u64> = line[name.len()..]
            .split_whitespace()
            .take(2)
            .map(|v| v.parse().unwrap())
            .collect();
        assert_eq!(values, [soft, hard], "{name}");
    }
    assert_eq!(read("personality").trim(), "00040000");
    let status = read("status");
    assert!(status.lines().any(|line| line == "THP_enabled:\t0"), "{status}");
    let cpus = status
        .lines()
        .find_map(|line| line.strip_prefix("Cpus_allowed_list:"))
        .unwrap()
        .trim();
    assert!(cpus.parse::<u32>().is_ok(), "one CPU: {cpus}");
    let names: Vec<(&str, &str, bool)> = stopped
        .settings()
        .iter()
        .map(|one| (one.name.as_str(), one.value.as_str(), one.refused.is_none()))
        .collect();
    assert_eq!(
        names,
        [
            ("address space", "1 GiB", true),
            ("aslr", "off", true),
            ("core", "0", true),
            ("cpus", "1", true),
            ("environment", "padded to 16 KiB", true),
            ("open files", "50", true),
            ("stack", "4 MiB", true),
            ("thp", "off", true),
        ]
    );
}

#[test]
fn huge_pages_are_off_for_the_target_alone() {
    let (_stopped, _) = paused(zoo_with(&["hang"], &[point(At::Exec, 1)]));
    // Other launches of this test process may be under way at this moment.
    let began = Instant::now();
    let on = || {
        std::fs::read_to_string("/proc/self/status")
            .unwrap()
            .contains("THP_enabled:\t1")
    };
    while !on() && began.elapsed() < Duration::from_secs(60) {
        std::thread::sleep(Duration::from_millis(2));
    }
    assert!(on());
}

#[test]
fn as_is_adds_and_changes_nothing() {
    let mut settings = settings_of(zoo(&[]), &["env"]);
    settings.fixed = false;
    let ended = ended(launch(&settings, &[], &Cancel::new()).unwrap());
    assert_eq!(stdout(&ended), "PATH=/usr/bin:/bin\n");
    assert!(ended.settings.is_empty());
}

#[test]
fn as_is_keeps_every_limit() {
    let mut settings = settings_of(zoo(&[]), &["hang"]);
    settings.fixed = false;
    let (stopped, _) = paused(launch(&settings, &[point(At::Main, 1)], &Cancel::new()).unwrap());
    let limits = |pid: &str| std::fs::read_to_string(format!("/proc/{pid}/limits")).unwrap();
    assert_eq!(limits(&stopped.pid().to_string()), limits("self"));
}

#[test]
fn the_target_starts_with_clean_signals_and_descriptors() {
    let ended = ended(zoo_with(&["mask"], &[point(At::Exit, 9)]));
    assert_eq!(ended.end, End::Exited(0));
}

#[test]
fn standard_input_is_a_file_or_at_its_end() {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), "from a file").unwrap();
    let mut settings = settings_of("/bin/cat".into(), &[]);
    settings.stdin = Stdin::File(file.path().to_owned());
    assert_eq!(stdout(&ended(launch(&settings, &[], &Cancel::new()).unwrap())), "from a file");
    settings.stdin = Stdin::Null;
    assert_eq!(stdout(&ended(launch(&settings, &[], &Cancel::new()).unwrap())), "");
}

fn refused(change: impl FnOnce(&mut Launch)) -> Error {
    let mut settings = settings_of("/bin/true".into(), &[]);
    change(&mut settings);
    launch(&settings, &[point(At::Exit, 1)], &Cancel::new()).unwrap_err()
}

#[test]
fn what_cannot_start_says_why() {
    use crate::model::ProblemKind;
    let dir = tempfile::tempdir().unwrap();
    let script = dir.path().join("script");
    std::fs::write(&script, "#!/no/such/interpreter\n").unwrap();
    let plain = dir.path().join("plain");
    std::fs::copy("/bin/true", &plain).unwrap();
    for (path, mode) in [(&script, 0o755), (&plain, 0o644)] {
        std::fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(mode)).unwrap();
    }
    let mut arm = std::fs::read("/bin/true").unwrap();
    arm[18] = 40;
    let foreign = dir.path().join("foreign");
    std::fs::write(&foreign, arm).unwrap();
    std::fs::set_permissions(&foreign, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();

    for (error, kind, part) in [
        (
            refused(|l| l.program = "/no/such".into()),
            ProblemKind::NotJudged,
            "could not run /no/such: No such file",
        ),
        (refused(|l| l.program = script), ProblemKind::NotJudged, "interpreter"),
        (refused(|l| l.program = plain), ProblemKind::NotJudged, "chmod +x"),
        (refused(|l| l.program = foreign), ProblemKind::Machine, "a program for ARM"),
        (
            refused(|l| l.cwd = "/no/such".into()),
            ProblemKind::Config,
            "working directory /no/such",
        ),
        (
            refused(|l| l.stdin = Stdin::File("/no/such".into())),
            ProblemKind::Config,
            "standard input",
        ),
        (refused(|l| l.args = vec!["a\0b".into()]), ProblemKind::Config, "NUL"),
    ] {
        assert_eq!(error.kind(), kind, "{error}");
        assert!(error.to_string().contains(part), "{error}");
    }
}
