//! Values as Rust code writes them → TOML, the one language that `config` understands: sizes, numbers, lists, limits, places.

/// A value of a key. Made from texts, whole numbers, flags, lists of texts, [`At`] and [`Limit`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Value(String);

impl Value {
    /// The value in TOML.
    pub(super) fn toml(&self) -> &str {
        &self.0
    }
}

/// A string in TOML: everything that is not plain is escaped. Source: the TOML specification, "String".
pub(super) fn quoted(text: &str) -> String {
    use std::fmt::Write as _;
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            // Writing to a String cannot fail.
            c if c.is_control() => drop(write!(out, "\\u{:04X}", u32::from(c))),
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

/// A dotted key as it stands, anything else as one quoted key.
pub(super) fn key(text: &str) -> String {
    let is_plain = |part: &str| !part.is_empty() && part.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_'));
    if text.split('.').all(is_plain) {
        text.to_owned()
    } else {
        quoted(text)
    }
}

fn list<'a>(items: impl Iterator<Item = &'a str>) -> Value {
    Value(format!("[{}]", items.map(quoted).collect::<Vec<_>>().join(", ")))
}

impl From<&str> for Value {
    fn from(text: &str) -> Self {
        Self(quoted(text))
    }
}

impl From<String> for Value {
    fn from(text: String) -> Self {
        Self(quoted(&text))
    }
}

impl From<bool> for Value {
    fn from(flag: bool) -> Self {
        Self(flag.to_string())
    }
}

impl From<i32> for Value {
    fn from(number: i32) -> Self {
        Self(number.to_string())
    }
}

impl From<u32> for Value {
    fn from(number: u32) -> Self {
        Self(number.to_string())
    }
}

impl From<u64> for Value {
    fn from(number: u64) -> Self {
        Self(number.to_string())
    }
}

impl From<usize> for Value {
    fn from(number: usize) -> Self {
        Self(number.to_string())
    }
}

impl<const N: usize> From<[&str; N]> for Value {
    fn from(items: [&str; N]) -> Self {
        list(items.into_iter())
    }
}

impl From<Vec<String>> for Value {
    fn from(items: Vec<String>) -> Self {
        list(items.iter().map(String::as_str))
    }
}

/// Where a checkpoint stops: `"exec"`, `"main"`, `"exit"`, `"idle"` and `"step-done"` are plain texts, the others are made here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct At(Vec<String>);

impl At {
    fn of(word: &str, value: impl Into<Value>) -> Self {
        Self(Vec::new()).and(word, value)
    }

    fn and(mut self, word: &str, value: impl Into<Value>) -> Self {
        self.0.push(format!("{word} = {}", value.into().0));
        self
    }

    /// At a marker `name`, or at any USDT probe `provider:name`.
    #[must_use]
    pub fn probe(name: &str) -> Self {
        Self::of("probe", name)
    }

    /// At the entry of a function.
    #[must_use]
    pub fn function(name: &str) -> Self {
        Self::of("function", name)
    }

    /// When a function returns.
    #[must_use]
    pub fn returns(name: &str) -> Self {
        Self::of("returns", name)
    }

    /// At a line of the source: `"src/pool.rs:42"`.
    #[must_use]
    pub fn line(place: &str) -> Self {
        Self::of("line", place)
    }

    /// Before a system call, by the kernel's name.
    #[must_use]
    pub fn syscall(name: &str) -> Self {
        Self::of("syscall", name)
    }

    /// [`At::syscall`] only when argument `number` (from 0) is `value`. To be called once for each argument.
    #[must_use]
    pub fn arg(self, number: u8, value: i64) -> Self {
        self.and(&format!("args.{number}"), Value(value.to_string()))
    }

    /// Before a signal is delivered: `"SIGUSR1"`.
    #[must_use]
    pub fn signal(name: &str) -> Self {
        Self::of("signal", name)
    }

    /// At the write that completes a line of output which matches a regular expression.
    #[must_use]
    pub fn output(pattern: &str) -> Self {
        Self::of("output", pattern)
    }

    /// [`At::output`] on `"stdout"` or `"stderr"` alone.
    #[must_use]
    pub fn stream(self, name: &str) -> Self {
        self.and("stream", name)
    }

    /// At the `"start"` or the `"end"` of a thread.
    #[must_use]
    pub fn thread(edge: &str) -> Self {
        Self::of("thread", edge)
    }

    /// [`At::thread`] only for threads of this name.
    #[must_use]
    pub fn name(self, name: &str) -> Self {
        self.and("name", name)
    }

    /// When the code of a library is mapped: the first part of its file name, such as `"libfoo"`.
    #[must_use]
    pub fn library(name: &str) -> Self {
        Self::of("library", name)
    }

    /// When a variable, `"guard"` or `"stack"` is written to.
    #[must_use]
    pub fn touch(what: &str) -> Self {
        Self::of("touch", what)
    }

    /// So long after the checkpoint before, or after the start: `"200ms"`.
    #[must_use]
    pub fn after(time: &str) -> Self {
        Self::of("after", time)
    }
}

impl From<At> for Value {
    fn from(at: At) -> Self {
        Self(format!("{{ {} }}", at.0.join(", ")))
    }
}

/// A limit with more than a maximum. Sizes are texts with a unit (`"8 MiB"`), counts are numbers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Limit(Vec<String>);

impl Limit {
    /// Not above.
    #[must_use]
    pub fn max(value: impl Into<Value>) -> Self {
        Self::default().and("max", value.into())
    }

    /// Not below.
    #[must_use]
    pub fn min(value: impl Into<Value>) -> Self {
        Self::default().and("min", value.into())
    }

    /// Exactly this.
    #[must_use]
    pub fn exactly(value: impl Into<Value>) -> Self {
        let value = value.into();
        Self::default().and("min", value.clone()).and("max", value)
    }

    /// Not grown by more than `value` (an amount or a percentage) over an earlier checkpoint or `"approved"`.
    #[must_use]
    pub fn growth(value: impl Into<Value>, over: &str) -> Self {
        Self::default().and_growth(value, over)
    }

    /// Not growing by more than `value` from pass to pass of a series (`every`).
    #[must_use]
    pub fn per_round(value: impl Into<Value>) -> Self {
        Self::default().and("max_per_round", value.into())
    }

    /// This and a maximum.
    #[must_use]
    pub fn and_max(self, value: impl Into<Value>) -> Self {
        self.and("max", value.into())
    }

    /// This and a minimum.
    #[must_use]
    pub fn and_min(self, value: impl Into<Value>) -> Self {
        self.and("min", value.into())
    }

    /// This and a growth.
    #[must_use]
    pub fn and_growth(self, value: impl Into<Value>, over: &str) -> Self {
        self.and("max_growth", value.into()).and("over", over.into())
    }

    fn and(mut self, word: &str, value: Value) -> Self {
        self.0.push(format!("{word} = {}", value.0));
        self
    }
}

impl From<Limit> for Value {
    fn from(limit: Limit) -> Self {
        Self(format!("{{ {} }}", limit.0.join(", ")))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn values_are_written_as_the_file_writes_them() {
        let toml = |value: Value| value.0;
        assert_eq!(toml("8 MiB".into()), "\"8 MiB\"");
        assert_eq!(toml(4.into()), "4");
        assert_eq!(toml(["-O1", "a\"b"].into()), r#"["-O1", "a\"b"]"#);
        assert_eq!(toml(At::probe("app:ready").into()), "{ probe = \"app:ready\" }");
        let call = At::syscall("prctl").arg(0, 15).arg(1, -1);
        assert_eq!(toml(call.into()), "{ syscall = \"prctl\", args.0 = 15, args.1 = -1 }");
        let line = At::output("^ready$").stream("stderr");
        assert_eq!(toml(line.into()), "{ output = \"^ready$\", stream = \"stderr\" }");
        let limit = Limit::max("2 MiB").and_growth("5%", "approved");
        assert_eq!(
            toml(limit.into()),
            "{ max = \"2 MiB\", max_growth = \"5%\", over = \"approved\" }"
        );
        assert_eq!(key("thread-arena.count"), "thread-arena.count");
        assert_eq!(key("a b\n"), "\"a b\\u000A\"");
    }

    proptest! {
        #[test]
        fn any_text_comes_back_and_stays_on_its_line(text in "\\PC*|[\\x00-\\x1f\"\\\\a]*") {
            let line = quoted(&text);
            prop_assert!(!line.contains('\n'));
            // JSON is close to TOML in this: the same escapes, the same quotes.
            prop_assert_eq!(serde_json::from_str::<String>(&line).ok(), Some(text));
        }
    }
}
