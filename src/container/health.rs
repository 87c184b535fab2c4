//! Health checks: what is asked, how answers are counted, and the one who asks.

use std::collections::VecDeque;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// How a running container is asked whether it is well (Dockerfile reference, HEALTHCHECK).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HealthCheck {
    pub(crate) command: Vec<String>,
    pub(crate) interval: Duration,
    pub(crate) timeout: Duration,
    pub(crate) start_period: Duration,
    pub(crate) start_interval: Duration,
    pub(crate) retries: u32,
}

impl HealthCheck {
    /// Runs this command in the container; status 0 says that it is well. Every 30 seconds, for 30 seconds at most,
    /// and three failures in a row make it unhealthy, unless other numbers are given. The first probe comes at
    /// once.
    pub fn command<S: Into<String>>(command: impl IntoIterator<Item = S>) -> HealthCheck {
        HealthCheck {
            command: command.into_iter().map(Into::into).collect(),
            interval: Duration::from_secs(30),
            timeout: Duration::from_secs(30),
            start_period: Duration::ZERO,
            start_interval: Duration::from_secs(5),
            retries: 3,
        }
    }

    /// Runs this text by `/bin/sh -c`.
    pub fn shell(text: impl Into<String>) -> HealthCheck {
        HealthCheck::command(["/bin/sh".to_owned(), "-c".to_owned(), text.into()])
    }

    /// What an image's configuration says, with its `Shell` for `CMD-SHELL`: `None` for `NONE`, and for nothing.
    pub(crate) fn from_image(
        image: &serde_json::Value,
        shell: Option<&[String]>,
    ) -> Result<Option<HealthCheck>, String> {
        #[derive(Deserialize)]
        #[serde(rename_all = "PascalCase", default)]
        #[derive(Default)]
        struct Image {
            test: Vec<String>,
            interval: u64,
            timeout: u64,
            start_period: u64,
            start_interval: u64,
            retries: u32,
        }
        let image: Image = serde_json::from_value(image.clone()).map_err(|error| error.to_string())?;
        let command = match image.test.split_first() {
            None => return Ok(None),
            Some((kind, _)) if kind == "NONE" => return Ok(None),
            Some((kind, rest)) if kind == "CMD" => rest.to_vec(),
            Some((kind, rest)) if kind == "CMD-SHELL" => {
                let shell = match shell {
                    Some(shell) => shell.to_vec(),
                    None => vec!["/bin/sh".into(), "-c".into()],
                };
                shell.into_iter().chain(rest.iter().cloned()).collect()
            }
            Some((kind, _)) => return Err(format!("unknown kind `{kind}`")),
        };
        let mut check = HealthCheck::command(command);
        let set = |field: &mut Duration, nanoseconds| {
            if nanoseconds != 0 {
                *field = Duration::from_nanos(nanoseconds);
            }
        };
        set(&mut check.interval, image.interval);
        set(&mut check.timeout, image.timeout);
        set(&mut check.start_period, image.start_period);
        set(&mut check.start_interval, image.start_interval);
        if image.retries != 0 {
            check.retries = image.retries;
        }
        Ok(Some(check))
    }

    /// The time from the end of one probe to the next.
    #[must_use]
    pub fn every(mut self, interval: Duration) -> HealthCheck {
        self.interval = interval;
        self
    }

    /// How long one may take; it is killed then, and has failed.
    #[must_use]
    pub fn timeout(mut self, timeout: Duration) -> HealthCheck {
        self.timeout = timeout;
        self
    }

    /// How long after the start failures don't count, and how often is asked then.
    #[must_use]
    pub fn start_period(mut self, period: Duration, interval: Duration) -> HealthCheck {
        (self.start_period, self.start_interval) = (period, interval);
        self
    }

    /// How many failures in a row make it unhealthy; at least one.
    #[must_use]
    pub fn retries(mut self, retries: u32) -> HealthCheck {
        self.retries = retries.max(1);
        self
    }
}

/// What is known of a container's health.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum HealthStatus {
    /// It has not been well yet.
    #[default]
    Starting,
    /// The last probe that counted said so.
    Healthy,
    /// Too many probes in a row failed.
    Unhealthy,
}

impl std::fmt::Display for HealthStatus {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            HealthStatus::Starting => "starting",
            HealthStatus::Healthy => "healthy",
            HealthStatus::Unhealthy => "unhealthy",
        })
    }
}

/// One probe.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Probe {
    /// When it began, and ended (RFC 3339).
    pub start: String,
    /// When it ended (RFC 3339).
    pub end: String,
    /// The command's status; -1 where it took too long or could not be run.
    pub exit_code: i32,
    /// What it wrote, 4,096 bytes at most.
    pub output: String,
}

/// The health of a container, with the last probes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Health {
    /// How it is.
    pub status: HealthStatus,
    /// Failures in a row.
    pub failing_streak: u32,
    /// The last five probes, the oldest first.
    pub log: VecDeque<Probe>,
}

/// So many probes are remembered.
const REMEMBERED: usize = 5;
/// So much of what one wrote is remembered, in bytes.
pub(crate) const MOST_OUTPUT: usize = 4096;

impl Health {
    /// Counts a probe that began `after` the container's start. Whether the status has changed.
    pub(crate) fn count(&mut self, check: &HealthCheck, probe: Probe, after: Duration) -> bool {
        let before = self.status;
        if probe.exit_code == 0 {
            (self.status, self.failing_streak) = (HealthStatus::Healthy, 0);
        } else if before != HealthStatus::Starting || after >= check.start_period {
            self.failing_streak += 1;
            if self.failing_streak >= check.retries {
                self.status = HealthStatus::Unhealthy;
            }
        }
        self.log.push_back(probe);
        while self.log.len() > REMEMBERED {
            self.log.pop_front();
        }
        self.status != before
    }

    /// How long to wait for the next probe, the container being `after` its start.
    pub(crate) fn pause(&self, check: &HealthCheck, after: Duration) -> Duration {
        let starting = self.status == HealthStatus::Starting && after < check.start_period;
        if starting { check.start_interval.min(check.interval) } else { check.interval }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn probe(exit_code: i32) -> Probe {
        Probe { start: String::new(), end: String::new(), exit_code, output: String::new() }
    }

    fn after(check: &HealthCheck, codes: &[(u64, i32)]) -> Health {
        let mut health = Health::default();
        for (second, code) in codes {
            health.count(check, probe(*code), Duration::from_secs(*second));
        }
        health
    }

    #[test]
    fn an_images_way() {
        let image = |text: &str| HealthCheck::from_image(&serde_json::from_str(text).unwrap(), None);
        let expected = HealthCheck::shell("x y").every(Duration::from_secs(5)).retries(2);
        let text = r#"{"Test":["CMD-SHELL","x y"],"Interval":5000000000,"Retries":2}"#;
        assert_eq!(image(text), Ok(Some(expected)));
        assert_eq!(image(r#"{"Test":["CMD","a","b"]}"#), Ok(Some(HealthCheck::command(["a", "b"]))));
        assert_eq!(image(r#"{"Test":["NONE"]}"#), Ok(None));
        assert_eq!(image(r#"{}"#), Ok(None));
        assert!(image(r#"{"Test":["WHAT"]}"#).unwrap_err().contains("WHAT"));
    }

    #[test]
    fn failures_are_counted_in_a_row() {
        let check = HealthCheck::shell("x").retries(2);
        assert_eq!(after(&check, &[(0, 1)]).status, HealthStatus::Starting);
        assert_eq!(after(&check, &[(0, 1), (1, -1)]).status, HealthStatus::Unhealthy);
        assert_eq!(after(&check, &[(0, 1), (1, 0), (2, 1)]).status, HealthStatus::Healthy);
        assert_eq!(after(&check, &[(0, 1), (1, 1), (2, 0)]).status, HealthStatus::Healthy);
        assert_eq!(after(&check, &[(0, 1); 9]).log.len(), REMEMBERED);
    }

    #[test]
    fn the_start_period_forgives_until_it_is_well_once() {
        let check =
            HealthCheck::shell("x").retries(1).start_period(Duration::from_secs(10), Duration::from_secs(1));
        let young = after(&check, &[(1, 1), (9, 1)]);
        assert_eq!((young.status, young.failing_streak), (HealthStatus::Starting, 0));
        assert_eq!(young.pause(&check, Duration::from_secs(9)), Duration::from_secs(1));
        assert_eq!(young.pause(&check, Duration::from_secs(10)), Duration::from_secs(30));
        assert_eq!(after(&check, &[(1, 1), (10, 1)]).status, HealthStatus::Unhealthy);
        assert_eq!(after(&check, &[(1, 0), (2, 1)]).status, HealthStatus::Unhealthy);
    }
}
