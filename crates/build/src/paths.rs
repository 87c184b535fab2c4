//! Paths as text: inside images there are only absolute ones, with `/` and without `..`.

/// An absolute path without `.`, `..` and doubled slashes. What is relative starts at the root, and `..` stays in it.
pub(crate) fn clean(path: &str) -> String {
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop();
            }
            part => parts.push(part),
        }
    }
    format!("/{}", parts.join("/"))
}

/// `path` as seen from the directory `dir`.
pub(crate) fn join(dir: &str, path: &str) -> String {
    if path.starts_with('/') { clean(path) } else { clean(&format!("{dir}/{path}")) }
}

/// Whether a destination can only mean a directory: `a/`, `.`, `a/.`, `..`.
pub(crate) fn means_directory(path: &str) -> bool {
    matches!(path.rsplit('/').next(), Some("" | "." | ".."))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_stay_inside() {
        for (path, expected) in
            [("", "/"), ("a//b/./c/", "/a/b/c"), ("/../../etc", "/etc"), ("a/../../b", "/b"), (".", "/")]
        {
            assert_eq!(clean(path), expected);
        }
        assert_eq!(join("/app", "x/../y"), "/app/y");
        assert_eq!(join("/app", "/y"), "/y");
        assert!(
            means_directory("a/.")
                && means_directory(".")
                && means_directory("a/")
                && !means_directory("a/b")
        );
    }
}
