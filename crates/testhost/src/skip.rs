//! Named skips: what this machine can't do, said and counted.

use std::io::Write;

/// Says that `test` is skipped and why: to stderr, past libtest's capture, and as a line of the file that
/// `CORACLE_SKIPS` names. CI compares that file with the list of skips it expects.
///
/// # Panics
/// When that file can't be written: a skip that is not counted would be a silent one.
pub fn skip(test: &str, why: &str) {
    let line = format!("skip: {test}: {why}\n");
    // Only the printing macros are captured.
    let _ = std::io::stderr().write_all(line.as_bytes());
    if let Some(path) = std::env::var_os("CORACLE_SKIPS") {
        let file = std::fs::File::options().append(true).create(true).open(&path);
        let written = file.and_then(|mut file| file.write_all(line.as_bytes()));
        written.unwrap_or_else(|error| panic!("append to {path:?} (CORACLE_SKIPS): {error}"));
    }
}
