//! `Overrides` as one text, so that the command can hand what was typed to the harness tests it runs.

use crate::error::{Error, Result};
use crate::model::Name;

use super::Overrides;

/// One line for each thing: a word, and its value with everything escaped that could break the line.
pub(super) fn to_text(overrides: &Overrides) -> String {
    let many = [
        ("budget", &overrides.budgets),
        ("filter", &overrides.filters),
        ("package", &overrides.packages),
        ("cargo", &overrides.cargo_args),
    ];
    let partition = overrides.partition.as_ref().map(ToString::to_string);
    let one = [
        ("profile", &overrides.profile),
        ("triple", &overrides.triple),
        ("partition", &partition),
        ("environment", &overrides.environment),
    ];
    let flags = [
        ("exact", overrides.exact),
        ("as-is", overrides.as_is),
        ("cooperative", overrides.cooperative),
    ];
    let mut lines: Vec<String> = Vec::new();
    let line = |word: &str, value: &str| format!("{word} {}", Name::from(value));
    lines.extend(
        many.iter()
            .flat_map(|(word, values)| values.iter().map(|value| line(word, value))),
    );
    lines.extend(one.iter().filter_map(|(word, value)| Some(line(word, value.as_ref()?))));
    lines.extend(flags.iter().filter(|(_, set)| *set).map(|(word, _)| (*word).to_owned()));
    lines.join("\n")
}

/// What [`to_text`] wrote. An unknown word comes from another version, which must not be half understood.
pub(super) fn from_text(text: &str) -> Result<Overrides> {
    let mut overrides = Overrides::default();
    for line in text.lines() {
        let (word, value) = line.split_once(' ').unwrap_or((line, ""));
        let value = Name::unescape(value).as_str().unwrap_or_default().to_owned();
        match word {
            "budget" => overrides.budgets.push(value),
            "filter" => overrides.filters.push(value),
            "package" => overrides.packages.push(value),
            "cargo" => overrides.cargo_args.push(value),
            "profile" => overrides.profile = Some(value),
            "triple" => overrides.triple = Some(value),
            "partition" => overrides.partition = Some(value.parse()?),
            "environment" => overrides.environment = Some(value),
            "exact" => overrides.exact = true,
            "as-is" => overrides.as_is = true,
            "cooperative" => overrides.cooperative = true,
            _ => {
                return Err(Error::tool(format!("this test does not know `{}`", Name::from(word)))
                    .detail("cargo memcheck and memcheck-harness must be of one version"));
            }
        }
    }
    Ok(overrides)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_typed_comes_back() {
        let overrides = Overrides {
            budgets: vec!["own.anon<=1MiB".to_owned(), "a\nexact \\n".to_owned()],
            filters: vec![String::new(), " pool é".to_owned()],
            exact: true,
            packages: vec!["examples".to_owned()],
            profile: Some("memcheck".to_owned()),
            triple: None,
            cargo_args: vec!["--features".to_owned(), "a b".to_owned()],
            as_is: true,
            cooperative: true,
            partition: Some("hash:2/3".parse().unwrap()),
            environment: Some("arm64".to_owned()),
            ..Overrides::default()
        };
        assert_eq!(from_text(&to_text(&overrides)).unwrap(), overrides);
        assert_eq!(from_text("").unwrap(), Overrides::default());
        assert!(from_text("jobs 4").is_err());
    }
}
