//! Durations, sizes and ids in docker's wording.

use jiff::Timestamp;

/// How long a time is, for people.
pub(crate) fn duration(seconds: i64) -> String {
    const MINUTE: i64 = 60;
    const HOUR: i64 = 60 * MINUTE;
    let minutes = seconds / MINUTE;
    // Hours are rounded, everything else is cut off.
    let hours = (seconds + HOUR / 2) / HOUR;
    match seconds {
        ..1 => "Less than a second".into(),
        1 => "1 second".into(),
        2..MINUTE => format!("{seconds} seconds"),
        _ if minutes == 1 => "About a minute".into(),
        _ if minutes < 60 => format!("{minutes} minutes"),
        _ if hours == 1 => "About an hour".into(),
        _ if hours < 48 => format!("{hours} hours"),
        _ if hours < 24 * 7 * 2 => format!("{} days", hours / 24),
        _ if hours < 24 * 30 * 2 => format!("{} weeks", hours / 24 / 7),
        _ if hours < 24 * 365 * 2 => format!("{} months", hours / 24 / 30),
        _ => format!("{} years", seconds / HOUR / 24 / 365),
    }
}

/// How long ago an RFC 3339 time was; `None` where it is no time.
pub(crate) fn since(time: &str) -> Option<String> {
    let time: Timestamp = time.parse().ok()?;
    Some(duration(Timestamp::now().as_second() - time.as_second()))
}

/// `3 minutes ago`, or `N/A` for what has no time.
pub(crate) fn ago(time: Option<&str>) -> String {
    time.and_then(since).map_or_else(|| "N/A".into(), |long| format!("{long} ago"))
}

/// An RFC 3339 time without fractions of a second; empty for what has no time.
pub(crate) fn seconds(time: Option<&str>) -> String {
    let time = time.and_then(|time| time.parse::<Timestamp>().ok());
    time.and_then(|time| Timestamp::from_second(time.as_second()).ok())
        .map_or_else(String::new, |time| time.to_string())
}

/// A time as Go prints one: `2026-01-02 03:04:05.123456789 +0000 UTC`.
pub(crate) fn date(time: Timestamp) -> String {
    let text = time.to_string();
    format!("{} +0000 UTC", text.trim_end_matches('Z').replace('T', " "))
}

/// A size in decimal units with three digits: `4.26MB`.
pub(crate) fn size(bytes: u64) -> String {
    const UNITS: [&str; 7] = ["B", "kB", "MB", "GB", "TB", "PB", "EB"];
    let mut value = bytes as f64;
    let mut unit = 0;
    while value >= 1000.0 && unit + 1 < UNITS.len() {
        value /= 1000.0;
        unit += 1;
    }
    format!("{}{}", three_digits(value), UNITS[unit])
}

/// C's `%.3g` for 0 to 1000.
fn three_digits(value: f64) -> String {
    let after = match value {
        ..9.995 => 2,
        ..99.95 => 1,
        ..999.5 => 0,
        _ => return "1e+03".into(),
    };
    let text = format!("{value:.after$}");
    match text.contains('.') {
        true => text.trim_end_matches('0').trim_end_matches('.').to_owned(),
        false => text,
    }
}

/// The first 12 digits of an id, or all of them.
pub(crate) fn id(id: &str, whole: bool) -> &str {
    if whole {
        return id;
    }
    let digits = id.strip_prefix("sha256:").unwrap_or(id);
    digits.get(..12).unwrap_or(digits)
}

/// At most this many characters, the last one an ellipsis where there were more.
pub(crate) fn ellipsis(text: &str, most: usize) -> String {
    if text.chars().count() <= most {
        return text.to_owned();
    }
    text.chars().take(most.saturating_sub(1)).chain(['…']).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn durations_as_dockers_go_units_has_them() {
        let (minute, hour, day) = (60, 3600, 86400);
        let table = [
            (0, "Less than a second"),
            (-5, "Less than a second"),
            (1, "1 second"),
            (45, "45 seconds"),
            (minute, "About a minute"),
            (119, "About a minute"),
            (2 * minute, "2 minutes"),
            (59 * minute + 59, "59 minutes"),
            (hour, "About an hour"),
            (hour + 29 * minute, "About an hour"),
            (hour + 30 * minute, "2 hours"),
            (47 * hour, "47 hours"),
            (2 * day, "2 days"),
            (13 * day, "13 days"),
            (14 * day, "2 weeks"),
            (59 * day, "8 weeks"),
            (60 * day, "2 months"),
            (729 * day, "24 months"),
            (730 * day, "2 years"),
            (5 * 365 * day, "5 years"),
        ];
        for (seconds, text) in table {
            assert_eq!(duration(seconds), text, "{seconds}");
        }
    }

    #[test]
    fn sizes_as_dockers_go_units_has_them() {
        let table = [
            (0, "0B"),
            (9, "9B"),
            (999, "999B"),
            (1000, "1kB"),
            (1024, "1.02kB"),
            (4_261_550, "4.26MB"),
            (42_000_000, "42MB"),
            (101_700_000, "102MB"),
            (999_400, "999kB"),
            (999_500, "1e+03kB"),
            (1_100_000_000, "1.1GB"),
        ];
        for (bytes, text) in table {
            assert_eq!(size(bytes), text, "{bytes}");
        }
    }

    #[test]
    fn times_and_ids() {
        let time: Timestamp = "2026-01-02T03:04:05.12Z".parse().unwrap();
        assert_eq!(date(time), "2026-01-02 03:04:05.12 +0000 UTC");
        assert_eq!(ago(None), "N/A");
        assert_eq!(ago(Some("yesterday")), "N/A");
        assert_eq!(ago(Some(&Timestamp::now().to_string())), "Less than a second ago");
        assert_eq!(id("sha256:0123456789abcdef", false), "0123456789ab");
        assert_eq!(id("sha256:0123456789abcdef", true), "sha256:0123456789abcdef");
        assert_eq!(ellipsis("sh -c 'while true; do", 20), "sh -c 'while true; …");
        assert_eq!(ellipsis("sh", 20), "sh");
    }

    proptest! {
        #[test]
        fn sizes_are_short(bytes in any::<u64>()) {
            prop_assert!(size(bytes).len() <= 7, "{}", size(bytes));
        }
    }
}
