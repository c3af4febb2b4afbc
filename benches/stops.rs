//! What one stop costs, by its kind, on one program: planted breakpoint, breakpoint and watchpoint of the processor, protected
//! pages. Ratios to the planted one, in one run; no limits, as they are the machine's affair. Fails when a stop is missed.

use std::ffi::OsString;
use std::io::Write as _;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use benches::{Contender, Reach, Table, compile, median, times};
use memcheck_harness::model::{At, Cancel, End, LaunchLimits, Name, Stdin, Touched};
use memcheck_harness::trace::{Launch, Next, Point, launch};

const SOURCE: &str = r#"
volatile long counter;
__attribute__((aligned(4096))) volatile char table[8192];
__attribute__((noinline)) void tick(int n) { counter += 1; table[n % 64] = 1; }
int main(void) {
    for (int n = 0; n < 2000; n++)
        tick(n);
    return 0;
}
"#;

/// Passes of each place.
const PASSES: u64 = 2000;
/// Counted rounds.
const ROUNDS: usize = 5;

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let _ = writeln!(std::io::stderr(), "error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<(), Box<dyn std::error::Error>> {
    if !Table::from_arguments().wants(&["stops by their kind"], Reach::Near) {
        return Ok(());
    }
    let dir = tempfile::tempdir()?;
    let program = compile(dir.path(), "stops", SOURCE, &[])?;
    let tick = || At::Function("tick".to_owned());
    let touch = |name: &str| Point::new(At::Touch(Touched::Symbol(name.to_owned())), PASSES + 1);
    let soft = Point::new(tick(), PASSES + 1);
    let hard = Point {
        hardware: true,
        ..soft.clone()
    };
    let kinds = [
        ("int3 in the code", Some(soft)),
        ("breakpoint of the processor", Some(hard)),
        ("watchpoint of the processor", Some(touch("counter"))),
        ("protected pages", Some(touch("table"))),
        ("no stop", None),
    ];
    let mut contenders: Vec<Contender<'_>> = kinds
        .iter()
        .map(|(_, point)| Contender::new(|| through(&program, point.as_ref())))
        .collect();
    let times: Vec<Duration> = times(&mut contenders, ROUNDS).iter().map(|times| median(times)).collect();
    let none = times.last().copied().unwrap_or_default();
    let stop = |time: Duration| time.saturating_sub(none).as_secs_f64() / PASSES as f64 * 1e6;
    let first = times.first().map_or(0.0, |time| stop(*time));
    let mut out = std::io::stdout();
    for ((name, _), time) in kinds.iter().zip(&times) {
        let cost = stop(*time);
        writeln!(out, "{:<32} {cost:8.1} µs a stop = {:5.2} of int3", name, cost / first)?;
    }
    Ok(())
}

/// Runs through; every pass must have been seen.
fn through(program: &Path, point: Option<&Point>) {
    let settings = Launch {
        program: program.to_owned(),
        argv0: Name::from("stops"),
        args: Vec::<OsString>::new(),
        env: Some(Vec::new()),
        cwd: "/".into(),
        stdin: Stdin::Null,
        tty: false,
        limits: LaunchLimits::default(),
        cpus: None,
        fixed: true,
        watch_stacks: false,
        timeout: Duration::from_secs(120),
        dies_with_us: false,
        lets_children_go: false,
        output_tail_bytes: 100,
    };
    let points: Vec<Point> = point.into_iter().cloned().collect();
    let ended = match launch(&settings, &points, &Cancel::new()).and_then(|running| running.next()) {
        Ok(Next::Ended(ended)) => ended,
        other => panic!("it did not run through: {other:?}"),
    };
    assert_eq!(ended.end, End::Exited(0));
    assert!(ended.hits.iter().all(|hits| *hits == PASSES), "{:?}", ended.hits);
}
