//! Health checks: what is asked, and how often.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

/// How a running container is asked whether it is well (Dockerfile reference, HEALTHCHECK). What is not said here is as
/// the image has it, and else: every 30 seconds, for 30 seconds at most, and three failures in a row make it unhealthy.
/// The first probe comes at once.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct HealthCheck {
    test: Option<Test>,
    /// The image's `Shell`, once it is known.
    shell: Option<Vec<String>>,
    interval: Option<Duration>,
    timeout: Option<Duration>,
    start_period: Option<Duration>,
    start_interval: Option<Duration>,
    retries: Option<u32>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
enum Test {
    Command(Vec<String>),
    Shell(String),
}

/// When a check asks, and what it makes of the answers.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rhythm {
    pub(crate) interval: Duration,
    pub(crate) timeout: Duration,
    pub(crate) start_period: Duration,
    pub(crate) start_interval: Duration,
    pub(crate) retries: u32,
}

impl HealthCheck {
    /// Runs this command in the container; status 0 says that it is well.
    pub fn command<S: Into<String>>(command: impl IntoIterator<Item = S>) -> HealthCheck {
        let command = command.into_iter().map(Into::into).collect();
        HealthCheck { test: Some(Test::Command(command)), ..HealthCheck::default() }
    }

    /// Runs this text by the image's shell (Dockerfile reference, SHELL), which is `/bin/sh -c` unless it says so.
    pub fn shell(text: impl Into<String>) -> HealthCheck {
        HealthCheck { test: Some(Test::Shell(text.into())), ..HealthCheck::default() }
    }

    /// Runs what the image's own check does, if it has one.
    pub fn of_image() -> HealthCheck {
        HealthCheck::default()
    }

    /// The time from the end of one probe to the next.
    #[must_use]
    pub fn every(mut self, interval: Duration) -> HealthCheck {
        self.interval = Some(interval);
        self
    }

    /// How long one may take; it is killed then, and has failed.
    #[must_use]
    pub fn timeout(mut self, timeout: Duration) -> HealthCheck {
        self.timeout = Some(timeout);
        self
    }

    /// How long after the start failures don't count.
    #[must_use]
    pub fn start_period(mut self, period: Duration) -> HealthCheck {
        self.start_period = Some(period);
        self
    }

    /// The time between probes while failures don't count, where that is less than the usual one; five seconds unless
    /// something else is said.
    #[must_use]
    pub fn start_interval(mut self, interval: Duration) -> HealthCheck {
        self.start_interval = Some(interval);
        self
    }

    /// How many failures in a row make it unhealthy; at least one.
    #[must_use]
    pub fn retries(mut self, retries: u32) -> HealthCheck {
        self.retries = Some(retries.max(1));
        self
    }

    /// As an image's configuration has it: `{"Test": ["CMD-SHELL", "…"], "Interval": nanoseconds, …}`, with nothing for
    /// what was not said.
    pub fn to_json(&self) -> Value {
        let mut fields = serde_json::Map::new();
        let test = match &self.test {
            Some(Test::Command(words)) => {
                ["CMD".to_owned()].into_iter().chain(words.iter().cloned()).collect()
            }
            Some(Test::Shell(text)) => vec!["CMD-SHELL".to_owned(), text.clone()],
            None => Vec::new(),
        };
        if !test.is_empty() {
            fields.insert("Test".into(), json!(test));
        }
        let times = [
            ("Interval", self.interval),
            ("Timeout", self.timeout),
            ("StartPeriod", self.start_period),
            ("StartInterval", self.start_interval),
        ];
        for (name, time) in times.into_iter().filter_map(|(name, time)| Some((name, time?))) {
            fields.insert(name.into(), json!(u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)));
        }
        if let Some(retries) = self.retries {
            fields.insert("Retries".into(), json!(retries));
        }
        Value::Object(fields)
    }

    /// What an image's configuration says: `None` for `NONE`, and for nothing. There, zero is nothing said.
    pub(crate) fn from_json(image: &Value) -> Result<Option<HealthCheck>, String> {
        #[derive(Deserialize, Default)]
        #[serde(rename_all = "PascalCase", default)]
        struct Image {
            test: Vec<String>,
            interval: u64,
            timeout: u64,
            start_period: u64,
            start_interval: u64,
            retries: u32,
        }
        let image: Image = serde_json::from_value(image.clone()).map_err(|error| error.to_string())?;
        let test = match image.test.split_first() {
            None => return Ok(None),
            Some((kind, _)) if kind == "NONE" => return Ok(None),
            Some((kind, rest)) if kind == "CMD" => Test::Command(rest.to_vec()),
            Some((kind, rest)) if kind == "CMD-SHELL" => Test::Shell(rest.join(" ")),
            Some((kind, _)) => return Err(format!("unknown kind `{kind}`")),
        };
        let time = |nanoseconds| (nanoseconds != 0).then(|| Duration::from_nanos(nanoseconds));
        Ok(Some(HealthCheck {
            test: Some(test),
            shell: None,
            interval: time(image.interval),
            timeout: time(image.timeout),
            start_period: time(image.start_period),
            start_interval: time(image.start_interval),
            retries: Some(image.retries).filter(|retries| *retries != 0),
        }))
    }

    /// This check, with what it does not say as the image's has it; `None` where neither has a command.
    pub(crate) fn over(self, image: Option<HealthCheck>, shell: Option<&[String]>) -> Option<HealthCheck> {
        let image = image.unwrap_or_default();
        let merged = HealthCheck {
            test: self.test.or(image.test),
            shell: shell.map(<[String]>::to_vec),
            interval: self.interval.or(image.interval),
            timeout: self.timeout.or(image.timeout),
            start_period: self.start_period.or(image.start_period),
            start_interval: self.start_interval.or(image.start_interval),
            retries: self.retries.or(image.retries),
        };
        Some(merged).filter(|check| check.test.is_some())
    }

    /// What is run for a probe.
    pub(crate) fn words(&self) -> Vec<String> {
        match &self.test {
            None => Vec::new(),
            Some(Test::Command(words)) => words.clone(),
            Some(Test::Shell(text)) => {
                let shell = self.shell.clone().unwrap_or_else(|| vec!["/bin/sh".into(), "-c".into()]);
                shell.into_iter().chain([text.clone()]).collect()
            }
        }
    }

    pub(crate) fn rhythm(&self) -> Rhythm {
        const USUAL: Duration = Duration::from_secs(30);
        Rhythm {
            interval: self.interval.unwrap_or(USUAL),
            timeout: self.timeout.unwrap_or(USUAL),
            start_period: self.start_period.unwrap_or_default(),
            start_interval: self.start_interval.unwrap_or(Duration::from_secs(5)),
            retries: self.retries.unwrap_or(3),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn image(text: &str) -> Result<Option<HealthCheck>, String> {
        HealthCheck::from_json(&serde_json::from_str(text).unwrap())
    }

    #[test]
    fn an_images_way() {
        let expected = HealthCheck::shell("x y").every(Duration::from_secs(5)).retries(2);
        let text = r#"{"Test":["CMD-SHELL","x y"],"Interval":5000000000,"Retries":2}"#;
        assert_eq!(image(text), Ok(Some(expected.clone())));
        assert_eq!(expected.to_json(), serde_json::from_str::<Value>(text).unwrap());
        assert_eq!(image(r#"{"Test":["CMD","a","b"]}"#), Ok(Some(HealthCheck::command(["a", "b"]))));
        assert_eq!(image(r#"{"Test":["NONE"]}"#), Ok(None));
        assert_eq!(image(r#"{}"#), Ok(None));
        assert!(image(r#"{"Test":["WHAT"]}"#).unwrap_err().contains("WHAT"));
    }

    #[test]
    fn what_is_not_said_is_the_images() {
        let image = || Some(HealthCheck::shell("x").timeout(Duration::from_secs(9)).retries(2));
        let shell = ["bash".to_owned(), "-c".to_owned()];
        let merged = HealthCheck::of_image().retries(5).over(image(), Some(&shell)).unwrap();
        assert_eq!(merged.words(), ["bash", "-c", "x"]);
        assert_eq!((merged.rhythm().timeout, merged.rhythm().retries), (Duration::from_secs(9), 5));
        let own = HealthCheck::command(["y"]).over(image(), None).unwrap();
        assert_eq!((own.words(), own.rhythm().retries), (vec!["y".to_owned()], 2));
        assert_eq!(HealthCheck::of_image().retries(1).over(None, None), None);
    }
}
