//! The health of a container: how the answers of its check are counted.

use std::collections::VecDeque;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::healthcheck::Rhythm;

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
    pub(crate) fn count(&mut self, rhythm: &Rhythm, probe: Probe, after: Duration) -> bool {
        let before = self.status;
        if probe.exit_code == 0 {
            (self.status, self.failing_streak) = (HealthStatus::Healthy, 0);
        } else if before != HealthStatus::Starting || after >= rhythm.start_period {
            self.failing_streak += 1;
            if self.failing_streak >= rhythm.retries {
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
    pub(crate) fn pause(&self, rhythm: &Rhythm, after: Duration) -> Duration {
        let starting = self.status == HealthStatus::Starting && after < rhythm.start_period;
        if starting { rhythm.start_interval.min(rhythm.interval) } else { rhythm.interval }
    }
}

#[cfg(test)]
mod tests {
    use super::super::healthcheck::HealthCheck;
    use super::*;

    fn probe(exit_code: i32) -> Probe {
        Probe { start: String::new(), end: String::new(), exit_code, output: String::new() }
    }

    fn after(check: &HealthCheck, codes: &[(u64, i32)]) -> Health {
        let mut health = Health::default();
        for (second, code) in codes {
            health.count(&check.rhythm(), probe(*code), Duration::from_secs(*second));
        }
        health
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
        let check = HealthCheck::shell("x")
            .retries(1)
            .start_period(Duration::from_secs(10))
            .start_interval(Duration::from_secs(1));
        let young = after(&check, &[(1, 1), (9, 1)]);
        assert_eq!((young.status, young.failing_streak), (HealthStatus::Starting, 0));
        assert_eq!(young.pause(&check.rhythm(), Duration::from_secs(9)), Duration::from_secs(1));
        assert_eq!(young.pause(&check.rhythm(), Duration::from_secs(10)), Duration::from_secs(30));
        assert_eq!(after(&check, &[(1, 1), (10, 1)]).status, HealthStatus::Unhealthy);
        assert_eq!(after(&check, &[(1, 0), (2, 1)]).status, HealthStatus::Unhealthy);
    }
}
