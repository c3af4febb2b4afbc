//! The change of one approved file as a patch that `git apply` takes: for approving where no Linux is at hand.

use std::path::Path;

use super::DIFF_TIME;

/// A patch from `old` (`None`: there is no such file yet) to `new`. The path is relative to where the patch is applied.
pub(super) fn patch(path: &Path, old: Option<&str>, new: &str) -> String {
    // Names of ours hold no character that git would quote; anything else has no patch.
    let Some(path) = path.to_str().filter(|path| path.chars().all(is_plain)) else {
        return String::new();
    };
    let mut out = format!("diff --git a/{path} b/{path}\n");
    let Some(old) = old else {
        return out + &added(path, new);
    };
    let diff = similar::TextDiff::configure().timeout(DIFF_TIME).diff_lines(old, new);
    let text = diff
        .unified_diff()
        .context_radius(3)
        .header(&format!("a/{path}"), &format!("b/{path}"))
        .to_string();
    out.push_str(&text);
    out
}

/// A new file of whole lines: there is nothing to be compared.
fn added(path: &str, new: &str) -> String {
    let count = match new.lines().count() {
        1 => String::new(),
        count => format!(",{count}"),
    };
    let mut out = format!("new file mode 100644\n--- /dev/null\n+++ b/{path}\n@@ -0,0 +1{count} @@\n");
    for line in new.split_inclusive('\n') {
        out.push('+');
        out.push_str(line);
    }
    out
}

fn is_plain(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '/' | '.' | '-' | '_' | '@' | '+')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_and_a_new_file() {
        let change = patch(Path::new("p/a.snap"), Some("one\ntwo\n"), "one\n2\n");
        assert_eq!(
            change,
            "diff --git a/p/a.snap b/p/a.snap\n--- a/p/a.snap\n+++ b/p/a.snap\n@@ -1,2 +1,2 @@\n one\n-two\n+2\n"
        );
        let new = patch(Path::new("a.snap"), None, "one\n");
        assert_eq!(
            new,
            "diff --git a/a.snap b/a.snap\nnew file mode 100644\n--- /dev/null\n+++ b/a.snap\n@@ -0,0 +1 @@\n+one\n"
        );
        assert_eq!(patch(Path::new("a\nb"), None, "x\n"), "");
    }
}
