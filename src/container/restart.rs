//! Whether a container that has ended is started again, and when.

use std::time::Duration;

use coracle_host::Exit;
use serde::{Deserialize, Serialize};

/// What becomes of a container that ends by itself. One that was told to stop stays stopped.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Restart {
    /// It stays ended.
    #[default]
    No,
    /// Started again where its status is not 0.
    OnFailure {
        /// At most so many times; 0: as often as it fails.
        max: u32,
    },
    /// Always started again.
    Always,
    /// Always started again, as long as its supervisor lives. There is no daemon that could start it after a
    /// reboot, which is all that docker makes of the difference.
    UnlessStopped,
}

impl Restart {
    /// Whether it may ever be started again.
    pub(crate) fn is_any(self) -> bool {
        self != Restart::No
    }

    /// Whether to start it again after this end, having done so `count` times before.
    pub(crate) fn again(self, exit: Exit, count: u32) -> bool {
        match self {
            Restart::No => false,
            Restart::OnFailure { max } => !exit.success() && (max == 0 || count < max),
            Restart::Always | Restart::UnlessStopped => true,
        }
    }
}

impl std::fmt::Display for Restart {
    /// As docker writes it: `on-failure:3`.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Restart::No => f.write_str("no"),
            Restart::OnFailure { max: 0 } => f.write_str("on-failure"),
            Restart::OnFailure { max } => write!(f, "on-failure:{max}"),
            Restart::Always => f.write_str("always"),
            Restart::UnlessStopped => f.write_str("unless-stopped"),
        }
    }
}

/// How long is waited before the next start: twice as long as the last time, from 100 ms up to a minute, and from the
/// beginning again where it ran well for a while.
#[derive(Debug, Default)]
pub(crate) struct BackOff {
    last: Option<Duration>,
}

const FIRST: Duration = Duration::from_millis(100);
const LONGEST: Duration = Duration::from_secs(60);
const WELL: Duration = Duration::from_secs(10);

impl BackOff {
    /// The wait after it `ran` so long.
    pub(crate) fn after(&mut self, ran: Duration) -> Duration {
        let wait = match self.last {
            Some(last) if ran < WELL => (last * 2).min(LONGEST),
            _ => FIRST,
        };
        self.last = Some(wait);
        wait
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_is_started_again() {
        let (good, bad) = (Exit::Code(0), Exit::Code(1));
        assert!(!Restart::No.again(bad, 0));
        assert!(Restart::Always.again(good, 99) && Restart::UnlessStopped.again(good, 99));
        let twice = Restart::OnFailure { max: 2 };
        assert!(twice.again(bad, 0) && twice.again(Exit::Signal(9), 1));
        assert!(!twice.again(bad, 2) && !twice.again(good, 0));
        assert!(Restart::OnFailure { max: 0 }.again(bad, 99));
    }

    #[test]
    fn waits_grow_and_are_forgotten() {
        let mut wait = BackOff::default();
        let short = Duration::from_millis(5);
        let waits: Vec<u64> = (0..4).map(|_| wait.after(short).as_millis() as u64).collect();
        assert_eq!(waits, [100, 200, 400, 800]);
        assert_eq!(wait.after(WELL), FIRST);
        let longest = (0..20).map(|_| wait.after(short)).max();
        assert_eq!(longest, Some(LONGEST));
    }
}
