//! What we write for machines, read by other people's code: the results file by jsonschema, JUnit by xmllint, Markdown by a
//! renderer.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use memcheck_harness::model::{
    At, Bound, Cancel, Case, CheckpointSpec, Defaults, Limit, Metric, Name, Place, Plan, RunReport, Target,
};
use memcheck_harness::pipeline::{self, Options};
use memcheck_harness::report::{self, Format, Style};

use super::tools;

/// A run of a shell over a budget, with names that would mean something in every format.
fn hostile() -> RunReport {
    let program = "/bin/sh".to_owned();
    let mut case = Case::new("sh", std::env::temp_dir(), Target::Command { program });
    case.args = ["-c", "echo ']]></script><script>`'; exit 3"].map(str::to_owned).to_vec();
    let place = Place {
        file: "memcheck.toml".to_owned(),
        line: 7,
        column: 1,
    };
    let mut main = CheckpointSpec::new("main", At::Main);
    let max = Some(Bound { value: 1, place });
    let limit = Limit { max, ..Limit::default() };
    main.limits = BTreeMap::from([(Metric::parse("own.anon").unwrap(), limit)]);
    case.checkpoints = vec![main, CheckpointSpec::new("exit", At::Exit)];
    case.snapshot.off = true;
    let plan = Plan {
        root: std::env::temp_dir(),
        file: "memcheck.toml".into(),
        is_cargo: false,
        data_dir: Path::new(env!("CARGO_TARGET_TMPDIR")).join("formats"),
        defaults: Defaults::default(),
        cases_in_file: 1,
        cases: vec![case],
        partition: None,
    };
    let options = Options {
        jobs: 1,
        write_pending: false,
        pending_dir: None,
        inherited: Vec::new(),
        ci: false,
        today: memcheck_harness::capture::today(),
    };
    let mut report = pipeline::run(&plan, None, &options, &Cancel::new(), &|_| {}).unwrap();
    assert_eq!(report.cases[0].checkpoints.len(), 2);
    report.cases[0].name = "<script>alert(1)</script>|`[x](y)@user".to_owned();
    report.cases[0].output.stderr = Name::new(&b"\xff\x1b[2J]]>&"[..]);
    report
}

/// The report in a format, as a file.
fn written(report: &RunReport, format: Format, name: &str) -> PathBuf {
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    fs::write(&path, report::render(report, format, Style::default(), "")).unwrap();
    path
}

#[test]
fn jsonschema_accepts_the_results_file() {
    let schema = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/schema/results-1.schema.json");
    let results = written(&hostile(), Format::Json, "formats-results.json");
    let script = "import json, jsonschema, sys\n\
        schema = json.load(open(sys.argv[1]))\n\
        check = jsonschema.Draft202012Validator\n\
        check.check_schema(schema)\n\
        print([error.message for error in check(schema).iter_errors(json.load(open(sys.argv[2])))])";
    let found = tools::run(
        "/usr/bin/python3",
        &["-c".as_ref(), script.as_ref(), schema.as_os_str(), results.as_os_str()],
    );
    assert_eq!(found.trim(), "[]");
}

#[test]
fn xmllint_reads_the_names_back_from_junit() {
    let path = written(&hostile(), Format::Junit, "formats-junit.xml");
    let query = "concat(count(//testsuite/testcase/*[self::failure or self::error]), ' ', //testcase/@name)";
    let found = tools::run("xmllint", &["--xpath".as_ref(), query.as_ref(), path.as_os_str()]);
    assert_eq!(found.trim(), "1 <script>alert(1)</script>|`[x](y)@user");
}

#[test]
fn a_renderer_makes_no_element_of_foreign_text() {
    for (format, name) in [
        (Format::Markdown, "formats-summary.md"),
        (Format::Comment, "formats-comment.md"),
    ] {
        let path = written(&hostile(), format, name);
        let script = "import markdown, sys\n\
            print(markdown.markdown(open(sys.argv[1]).read(), extensions=['tables', 'fenced_code', 'md_in_html']))";
        let html = tools::run("/usr/bin/python3", &["-c".as_ref(), script.as_ref(), path.as_os_str()]);
        assert!(
            html.contains("<h2>cargo memcheck: 1 case failed</h2>") && html.contains("<table>"),
            "{html}"
        );
        for bad in ["<script", "href=", "<img"] {
            assert!(!html.contains(bad), "{bad}: {html}");
        }
    }
}
