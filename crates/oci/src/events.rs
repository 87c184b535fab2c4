//! events: figures, and lack of memory.

use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use serde_json::{Value, json};

use crate::cgroup;
use crate::error::{During, Error, Result};
use crate::figures::figures;
use crate::list::print;
use crate::record::Home;

/// Lines of JSON: once the figures, or until the container ends.
pub(crate) fn events(home: &Home, id: &str, once: bool, interval: &str) -> Result<()> {
    let found = home.find(id)?;
    let group = cgroup::of(found.record()?)?;
    let process = found.process()?;
    let process = process.ok_or_else(|| Error::new(format!("container `{id}` is stopped")))?;
    if once {
        return line(id, "stats", figures(&group)?);
    }
    let interval = duration(interval)?;
    let mut ooms = group.oom_events()?;
    let mut next = Instant::now() + interval;
    loop {
        let left = next.saturating_duration_since(Instant::now());
        let left = Timespec::try_from(left).during(|| "--interval".to_owned())?;
        let mut fds =
            [PollFd::new(&process, PollFlags::IN), PollFd::new(&ooms, PollFlags::IN | PollFlags::PRI)];
        match poll(&mut fds, Some(&left)) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(errno) => return Err(Error::new(format!("poll(): {errno}"))),
        }
        let [ended, oom] = [!fds[0].revents().is_empty(), !fds[1].revents().is_empty()];
        if oom && ooms.take()? > 0 {
            line(id, "oom", Value::Null)?;
        }
        if ended {
            return Ok(());
        }
        if Instant::now() >= next {
            line(id, "stats", figures(&group)?)?;
            next += interval;
        }
    }
}

fn line(id: &str, kind: &str, data: Value) -> Result<()> {
    let mut event = json!({ "type": kind, "id": id });
    if !data.is_null() {
        event["data"] = data;
    }
    print(&format!("{event}\n"))
}

/// `5`, `5s`, `500ms`, `1m`.
fn duration(text: &str) -> Result<Duration> {
    let digits = text.find(|letter: char| !letter.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let scale = match unit {
        "ms" => 1,
        "" | "s" => 1000,
        "m" => 60_000,
        _ => 0,
    };
    let milliseconds = number.parse::<u64>().ok().and_then(|number| number.checked_mul(scale));
    match milliseconds {
        Some(milliseconds @ 1..) => Ok(Duration::from_millis(milliseconds)),
        _ => Err(Error::new(format!("--interval {text:?}: not a time such as 5s or 500ms"))),
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn durations() {
        let all = ["5", "5s", "500ms", "1m"].map(|text| super::duration(text).unwrap().as_millis());
        assert_eq!(all, [5000, 5000, 500, 60_000]);
        for text in ["", "0s", "s", "5h", "-1"] {
            assert!(super::duration(text).is_err(), "{text}");
        }
    }
}
