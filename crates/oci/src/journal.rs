//! `--log`: where callers look for what went wrong.

use std::io::Write;
use std::path::{Path, PathBuf};

use crate::cli::LogFormat;

pub(crate) struct Log {
    path: Option<PathBuf>,
    format: LogFormat,
}

impl Log {
    pub(crate) fn new(path: Option<PathBuf>, format: LogFormat) -> Log {
        Log { path, format }
    }

    /// Something that goes wrong and changes nothing.
    pub(crate) fn warn(&self, text: &str) {
        write(self.path.as_deref(), self.format, "warning", text);
    }
}

/// To the log, and to standard error.
#[expect(clippy::print_stderr, reason = "this is a program's output")]
pub(crate) fn error(path: Option<&Path>, format: LogFormat, text: &str) {
    write(path, format, "error", text);
    eprintln!("coracle-oci: {text}");
}

fn write(path: Option<&Path>, format: LogFormat, level: &str, text: &str) {
    let Some(path) = path else { return };
    let time = jiff::Timestamp::now().to_string();
    let line = match format {
        LogFormat::Json => serde_json::json!({ "level": level, "msg": text, "time": time }).to_string(),
        LogFormat::Text => format!("time={time:?} level={level} msg={text:?}"),
    };
    // A log that can't be written is no reason to fail, and there is nobody else to tell.
    let file = std::fs::File::options().append(true).create(true).open(path);
    let _ = file.and_then(|mut file| file.write_all(format!("{line}\n").as_bytes()));
}
