//! Words for an image that comes before a build's first step.

use coracle::PullProgress;
use serde_json::{Value, json};

use crate::units;

/// What its coming is called, as docker has it.
pub(super) fn name(image: &str) -> String {
    format!("[internal] load metadata for {image}")
}

/// How far it is, where there is something to say.
pub(super) fn line(image: &str, progress: &PullProgress) -> Option<String> {
    match progress {
        PullProgress::Resolved { .. } if image.contains('@') => Some(format!("resolve {image}")),
        PullProgress::Resolved { digest } => Some(format!("resolve {image}@{digest}")),
        PullProgress::Layer { digest, bytes, of } => {
            Some(format!("{digest} {} / {}", units::size(*bytes), units::size(*of)))
        }
        _ => None,
    }
}

/// The same for programs.
pub(super) fn document(image: &str, progress: &PullProgress) -> Value {
    let mut document = json!({ "event": "pull", "image": image });
    let mut is = |what: &str| document["progress"] = what.into();
    match progress {
        PullProgress::Asked => is("asked"),
        PullProgress::Resolved { digest } => {
            is("resolved");
            document["digest"] = digest.as_str().into();
        }
        PullProgress::Layer { digest, bytes, of } => {
            is("layer");
            document["digest"] = digest.as_str().into();
            document["bytes"] = (*bytes).into();
            document["of"] = (*of).into();
        }
        PullProgress::Done => is("done"),
        PullProgress::Failed { message } => {
            is("failed");
            document["message"] = message.as_str().into();
        }
        _ => is("other"),
    }
    document
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_said() {
        let resolved = PullProgress::Resolved { digest: "sha256:0".into() };
        assert_eq!(line("a:1", &resolved).unwrap(), "resolve a:1@sha256:0");
        assert_eq!(line("a@sha256:0", &resolved).unwrap(), "resolve a@sha256:0");
        assert_eq!(line("a", &PullProgress::Done), None);
        let layer = PullProgress::Layer { digest: "sha256:1".into(), bytes: 5, of: 1_500_000 };
        assert_eq!(line("a", &layer).unwrap(), "sha256:1 5B / 1.5MB");
        assert_eq!(
            document("a", &layer),
            json!({"event": "pull", "image": "a", "progress": "layer", "digest": "sha256:1", "bytes": 5, "of": 1_500_000})
        );
    }
}
