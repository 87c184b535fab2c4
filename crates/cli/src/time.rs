//! Durations and points in time as docker's flags have them.

use std::time::{Duration, SystemTime};

use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::TimeZone;

use crate::quantity;

/// [`quantity::duration`] of what can't lie below zero.
pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    let nanoseconds = u64::try_from(quantity::duration(text)?);
    nanoseconds.map(Duration::from_nanos).map_err(|_| format!("invalid duration \"{text}\""))
}

/// A point in time: RFC 3339 (the zone, the time or its parts may be missing), seconds since 1970 with a fraction, or so
/// long ago.
pub(crate) fn point(text: &str) -> Result<SystemTime, String> {
    if let Ok(ago) = duration(text)
        && text != "0"
    {
        return SystemTime::now().checked_sub(ago).ok_or_else(|| format!("`{text}` is too long ago"));
    }
    if let Ok(time) = text.parse::<Timestamp>() {
        return Ok(time.into());
    }
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    if let Ok(seconds) = whole.parse::<u64>()
        && fraction.bytes().all(|byte| byte.is_ascii_digit())
    {
        let nanoseconds = format!("{fraction:0<9}")[..9].parse().unwrap_or(0);
        return Ok(SystemTime::UNIX_EPOCH + Duration::new(seconds, nanoseconds));
    }
    let here = |time: DateTime| time.to_zoned(TimeZone::system()).ok().map(|time| time.timestamp());
    let time = text.parse::<DateTime>().ok().or_else(|| {
        // `2013-01-02T13` and `2013-01-02T13:23`
        let (date, time) = text.split_once('T')?;
        let minutes = if time.contains(':') { "" } else { ":00" };
        format!("{date}T{time}{minutes}:00").parse().ok()
    });
    let time = time.and_then(here);
    time.map(SystemTime::from).ok_or_else(|| format!("failed to parse value as time or duration: \"{text}\""))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations() {
        let table =
            [("0", 0), ("100ms", 100), ("1m30s", 90_000), ("1h", 3_600_000), ("1.5s", 1500), ("200us", 0)];
        for (text, milliseconds) in table {
            assert_eq!(duration(text).unwrap().as_millis(), milliseconds, "{text}");
        }
        for text in ["", "5", "1x", "s", "-1s", "1.2.3s"] {
            assert!(duration(text).is_err(), "{text}");
        }
    }

    #[test]
    fn points_in_time() {
        let seconds =
            |text: &str| point(text).unwrap().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs_f64();
        assert_eq!(seconds("1136073845"), 1_136_073_845.0);
        assert_eq!(seconds("1136073845.5"), 1_136_073_845.5);
        assert_eq!(seconds("2006-01-01T00:04:05Z"), 1_136_073_845.0);
        assert_eq!(seconds("2006-01-01T01:04:05+01:00"), 1_136_073_845.0);
        for text in [
            "2006-01-01",
            "2006-01-01T10",
            "2006-01-01T10:20",
            "2006-01-01T10:20:30",
            "2006-01-01T10:20:30.5",
        ] {
            assert!((1_135_900_000.0..1_136_300_000.0).contains(&seconds(text)), "{text}");
        }
        let ago = SystemTime::now().duration_since(point("1m").unwrap()).unwrap();
        assert!((59..=61).contains(&ago.as_secs()));
        for text in ["", "yesterday", "-5"] {
            assert!(point(text).is_err(), "{text}");
        }
    }
}
