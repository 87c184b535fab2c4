//! Reading the kernel's small files.

use std::collections::HashMap;
use std::fs;
use std::path::Path;

use coracle_host::Call;
use rustix::io::Errno;

/// The text of a file.
pub(super) fn text(path: &Path) -> coracle_host::Result<String> {
    fs::read_to_string(path).call(|| format!("read({path:?})"))
}

/// The text of a file that a kernel, or the root of a hierarchy, may not have.
pub(super) fn optional(path: &Path) -> coracle_host::Result<Option<String>> {
    match text(path) {
        Ok(text) => Ok(Some(text)),
        Err(error) if matches!(error.errno(), Some(Errno::NOENT | Errno::OPNOTSUPP)) => Ok(None),
        Err(error) => Err(error),
    }
}

/// A file with one number. `max`, and what version 1 says for it, is `None`.
pub(super) fn number(path: &Path) -> coracle_host::Result<Option<u64>> {
    // Version 1 rounds i64::MAX down to pages of up to 64 KiB.
    const NONE: u64 = i64::MAX as u64 - 0xffff;
    let text = optional(path)?;
    Ok(text.and_then(|text| text.trim().parse().ok()).filter(|number| *number < NONE))
}

/// A file of `key number` lines.
pub(super) fn table(path: &Path) -> coracle_host::Result<HashMap<String, u64>> {
    let text = optional(path)?.unwrap_or_default();
    let pair = |line: &str| {
        let (key, value) = line.split_once(' ')?;
        Some((key.to_owned(), value.trim().parse().ok()?))
    };
    Ok(text.lines().filter_map(pair).collect())
}
