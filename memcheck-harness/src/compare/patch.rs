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
    if old.is_none() {
        out.push_str("new file mode 100644\n");
    }
    let from = old.map_or("/dev/null".to_owned(), |_| format!("a/{path}"));
    let diff = similar::TextDiff::configure()
        .timeout(DIFF_TIME)
        .diff_lines(old.unwrap_or_default(), new);
    let text = diff
        .unified_diff()
        .context_radius(3)
        .header(&from, &format!("b/{path}"))
        .to_string();
    out.push_str(&text);
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
