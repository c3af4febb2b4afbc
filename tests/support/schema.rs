//! A checker of JSON against the published schema of results, by the words that the schema uses. Stricter than the schema says: a key
//! that it does not describe is wrong, and which of its keys occurred is written down.

use std::collections::BTreeSet;

use serde_json::Value;

const SCHEMA: &str = include_str!("../../docs/schema/results-1.schema.json");

/// What was found in the values that were looked at.
#[derive(Clone, Debug, Default)]
pub struct Checked {
    /// What is wrong, one line each.
    pub wrong: Vec<String>,
    /// The described keys that occurred: the definition and the way in it, `case.name`.
    pub seen: BTreeSet<String>,
}

/// The published schema.
#[must_use]
pub fn published() -> Value {
    serde_json::from_str(SCHEMA).unwrap_or_else(|error| panic!("the schema is no JSON: {error}"))
}

impl Checked {
    /// Looks at one results file.
    pub fn add(&mut self, results: &Value) {
        let root = published();
        check(&root, (&root, ""), results, "results", self);
    }
}

/// What is wrong with one results file.
#[must_use]
pub fn wrong(results: &Value) -> Vec<String> {
    let mut checked = Checked::default();
    checked.add(results);
    checked.wrong
}

/// Every key that the schema describes, named as in [`Checked::seen`].
#[must_use]
pub fn described() -> BTreeSet<String> {
    let root = published();
    let mut keys = BTreeSet::new();
    describe((&root, ""), &mut keys);
    for (name, definition) in root["$defs"].as_object().into_iter().flatten() {
        describe((definition, name), &mut keys);
    }
    keys
}

fn describe((schema, way): (&Value, &str), keys: &mut BTreeSet<String>) {
    for (name, inner) in schema["properties"].as_object().into_iter().flatten() {
        let key = format!("{way}.{name}");
        describe((inner, &key), keys);
        keys.insert(key);
    }
    for one in schema["anyOf"].as_array().into_iter().flatten() {
        describe((one, way), keys);
    }
    for (word, sign) in [("items", "[]"), ("additionalProperties", ".*")] {
        if schema[word].is_object() {
            describe((&schema[word], &format!("{way}{sign}")), keys);
        }
    }
}

fn check(root: &Value, (schema, way): (&Value, &str), value: &Value, at: &str, checked: &mut Checked) {
    if let Some(name) = schema["$ref"].as_str() {
        let name = name.strip_prefix("#/$defs/").unwrap_or_default();
        return check(root, (&root["$defs"][name], name), value, at, checked);
    }
    if let Some(any) = schema["anyOf"].as_array() {
        let tried = any.iter().map(|one| {
            let mut found = Checked::default();
            check(root, (one, way), value, at, &mut found);
            found
        });
        match tried.min_by_key(|found| found.wrong.len()) {
            Some(best) => {
                checked.wrong.extend(best.wrong);
                checked.seen.extend(best.seen);
            }
            None => checked.wrong.push(format!("{at}: nothing is allowed")),
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
        checked.wrong.push(format!("{at}: is {kind}, not {}", allowed.join(" or ")));
        return;
    }
    let constant = &schema["const"];
    if (!constant.is_null() && constant != value) || schema["enum"].as_array().is_some_and(|all| !all.contains(value)) {
        checked.wrong.push(format!("{at}: {value} is not allowed"));
    }
    if let (Some(least), Some(number)) = (schema["minimum"].as_i64(), value.as_i64())
        && number < least
    {
        checked.wrong.push(format!("{at}: {number} is too small"));
    }
    for (index, item) in value.as_array().into_iter().flatten().enumerate() {
        let way = format!("{way}[]");
        check(root, (&schema["items"], &way), item, &format!("{at}[{index}]"), checked);
    }
    let Some(object) = value.as_object() else { return };
    for name in schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str) {
        if !object.contains_key(name) {
            checked.wrong.push(format!("{at}: has no {name}"));
        }
    }
    for (name, inner) in object {
        let at = format!("{at}.{name}");
        let (of_name, more) = (&schema["properties"][name.as_str()], &schema["additionalProperties"]);
        if of_name.is_object() {
            let key = format!("{way}.{name}");
            check(root, (of_name, &key), inner, &at, checked);
            checked.seen.insert(key);
        } else if more.is_object() {
            check(root, (more, &format!("{way}.*")), inner, &at, checked);
        } else {
            checked.wrong.push(format!("{at}: is not described"));
        }
    }
}
