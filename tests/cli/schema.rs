//! The results file against its published schema, by a checker of our own that knows the words the schema uses. The oracles
//! hold it against somebody else's.

use serde_json::Value;

use super::gate::edit;
use super::{accepted, memcheck};

const SCHEMA: &str = include_str!("../../docs/schema/results-1.schema.json");

/// What is wrong with a value, one line each.
fn check(root: &Value, schema: &Value, value: &Value, at: &str, wrong: &mut Vec<String>) {
    if let Some(name) = schema["$ref"].as_str() {
        let name = name.strip_prefix("#/$defs/").unwrap();
        return check(root, &root["$defs"][name], value, at, wrong);
    }
    if let Some(any) = schema["anyOf"].as_array() {
        let fits = any.iter().any(|one| {
            let mut found = Vec::new();
            check(root, one, value, at, &mut found);
            found.is_empty()
        });
        if !fits {
            wrong.push(format!("{at}: fits none of {}", any.len()));
        }
        return;
    }
    let kind = match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(number) if number.is_f64() => "number",
        Value::Number(_) => "integer",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    };
    let allowed: Vec<&str> = match &schema["type"] {
        Value::String(one) => vec![one],
        Value::Array(many) => many.iter().filter_map(Value::as_str).collect(),
        _ => vec![kind],
    };
    if !allowed.contains(&kind) {
        wrong.push(format!("{at}: is {kind}, not {}", allowed.join(" or ")));
        return;
    }
    let constant = &schema["const"];
    if (!constant.is_null() && constant != value) || schema["enum"].as_array().is_some_and(|all| !all.contains(value)) {
        wrong.push(format!("{at}: {value} is not allowed"));
    }
    if let (Some(least), Some(number)) = (schema["minimum"].as_i64(), value.as_i64())
        && number < least
    {
        wrong.push(format!("{at}: {number} is too small"));
    }
    for (index, item) in value.as_array().into_iter().flatten().enumerate() {
        check(root, &schema["items"], item, &format!("{at}[{index}]"), wrong);
    }
    let Some(object) = value.as_object() else { return };
    for name in schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str) {
        if !object.contains_key(name) {
            wrong.push(format!("{at}: has no {name}"));
        }
    }
    for (name, inner) in object {
        let of_name = &schema["properties"][name.as_str()];
        let rule = if of_name.is_null() {
            &schema["additionalProperties"]
        } else {
            of_name
        };
        if rule.is_object() {
            check(root, rule, inner, &format!("{at}.{name}"), wrong);
        }
    }
}

fn wrong(value: &Value) -> Vec<String> {
    let schema: Value = serde_json::from_str(SCHEMA).unwrap();
    let mut wrong = Vec::new();
    check(&schema, &schema, value, "results", &mut wrong);
    wrong
}

#[test]
fn results_of_every_kind_follow_the_schema() {
    let project = accepted();
    let results = |args: &[&str], code: i32| -> Value {
        let _ = memcheck(&project, args).expect_code(code);
        serde_json::from_str(&project.read("target/memcheck-data/results.json")).unwrap()
    };
    let passed = results(&[], 0);
    assert_eq!(wrong(&passed), [""; 0]);
    assert_eq!(wrong(&results(&["--partition", "hash:1/1"], 0)), [""; 0]);
    edit(
        &project,
        "args = [\"1\"]",
        "args = [\"5\"]\nbudget.own.anon = { max_growth = \"4 KiB\", over = \"approved\" }",
    );
    assert_eq!(wrong(&results(&[], 3)), [""; 0]);
    edit(&project, "{ name = \"grown\" }", "{ name = \"grown\" }, { name = \"never\" }");
    assert_eq!(wrong(&results(&[], 7)), [""; 0]);
    // The checker sees what is wrong.
    let mut bad = passed;
    bad["schema"] = 2.into();
    bad["cases"][0]["outcome"] = "fine".into();
    bad["cases"][0]["checkpoints"][0]["metrics"]["own.anon"] = "4 KiB".into();
    bad["cases"][0]["checkpoints"][0]["map"]["pieces"][0]["start"] = Value::Null;
    bad.as_object_mut().unwrap().remove("verdict");
    let found = wrong(&bad);
    assert_eq!(found.len(), 5, "{found:#?}");
}
