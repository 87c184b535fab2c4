//! HEALTHCHECK: its options, and Go's notation of durations.

use super::ast::{Healthcheck, Word};
use super::flags::{Flags, Takes};
use super::lines::Line;
use super::source::Problems;
use super::words::{self, Json};

pub(super) const FLAGS: [(&str, Takes); 5] = [
    ("interval", Takes::Value),
    ("timeout", Takes::Value),
    ("start-period", Takes::Value),
    ("start-interval", Takes::Value),
    ("retries", Takes::Value),
];

/// What follows the instruction's name (Dockerfile reference, "HEALTHCHECK").
pub(super) fn parse(line: &Line, flags: &Flags, problems: &mut Problems<'_>) -> Option<Healthcheck> {
    let rest = &line.text[flags.end..];
    let span = line.span(flags.end..line.text.len());
    let (kind, command) = match rest.split_once(char::is_whitespace) {
        Some((kind, command)) => (kind, command.trim_start()),
        None => (rest, ""),
    };
    if kind.eq_ignore_ascii_case("NONE") {
        if let Some(flag) = flags.first() {
            problems.invalid(line.span(flag), "`HEALTHCHECK NONE` takes no options");
            return None;
        }
        if !command.is_empty() {
            problems.invalid(span, "`HEALTHCHECK NONE` takes nothing after it");
            return None;
        }
        return Some(Healthcheck { test: vec!["NONE".to_owned()], ..Healthcheck::default() });
    }
    if !kind.eq_ignore_ascii_case("CMD") {
        problems.invalid(span, format!("a health check is `NONE` or `CMD` and a command, not `{kind}`"));
        return None;
    }
    let test = match words::json(command) {
        Json::Strings(argv) if !argv.is_empty() => std::iter::once("CMD".to_owned()).chain(argv).collect(),
        Json::No if !command.is_empty() => vec!["CMD-SHELL".to_owned(), command.to_owned()],
        Json::Other => {
            problems.invalid(span, "an exec form holds strings only");
            return None;
        }
        _ => {
            problems.invalid(span, "`HEALTHCHECK CMD` names no command");
            return None;
        }
    };
    let mut time = |name: &str| match flags.get(name) {
        None => Some(0),
        Some(word) => duration_at(&word, problems),
    };
    let [interval, timeout, start_period, start_interval] =
        ["interval", "timeout", "start-period", "start-interval"].map(&mut time);
    let retries = match flags.get("retries") {
        None => Some(0),
        Some(word) => {
            // Docker keeps it in 32 bits with a sign.
            let number = word.text.parse::<u32>().ok().filter(|n| i32::try_from(*n).is_ok());
            if number.is_none() {
                problems.invalid(word.span, format!("`{}` is no number of retries", word.text));
            }
            number
        }
    };
    Some(Healthcheck {
        test,
        interval: interval?,
        timeout: timeout?,
        start_period: start_period?,
        start_interval: start_interval?,
        retries: retries?,
    })
}

fn duration_at(word: &Word, problems: &mut Problems<'_>) -> Option<u64> {
    let what = match duration(&word.text) {
        Some(nanoseconds) if nanoseconds == 0 || nanoseconds >= 1_000_000 => return Some(nanoseconds),
        Some(_) => format!("`{}` is less than a millisecond", word.text),
        None => format!("`{}` is no duration, as `30s` or `1m30s`", word.text),
    };
    problems.invalid(word.span, what);
    None
}

/// Go's `time.ParseDuration` in nanoseconds, without a sign: `1h2m3.5s`, `300ms`, `0`.
fn duration(text: &str) -> Option<u64> {
    if text == "0" {
        return Some(0);
    }
    let mut rest = text;
    let mut total: u64 = 0;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let (number, tail) = rest.split_at(digits);
        let letters = tail.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(tail.len());
        let (unit, tail) = tail.split_at(letters);
        let unit: u64 = match unit {
            "ns" => 1,
            "us" | "µs" | "μs" => 1_000,
            "ms" => 1_000_000,
            "s" => 1_000_000_000,
            "m" => 60_000_000_000,
            "h" => 3_600_000_000_000,
            _ => return None,
        };
        let (whole, part) = number.split_once('.').unwrap_or((number, ""));
        if whole.is_empty() && part.is_empty() || part.contains('.') {
            return None;
        }
        let whole: u64 = if whole.is_empty() { 0 } else { whole.parse().ok()? };
        total = total.checked_add(whole.checked_mul(unit)?)?;
        // More places than a nanosecond has count for nothing.
        let mut place = unit;
        for digit in part.bytes() {
            place /= 10;
            total = total.checked_add(u64::from(digit - b'0') * place)?;
        }
        rest = tail;
    }
    (!text.is_empty() && i64::try_from(total).is_ok()).then_some(total)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_as_go_reads_them() {
        for (text, nanoseconds) in [
            ("0", Some(0)),
            ("30s", Some(30_000_000_000)),
            ("1h2m3.5s", Some(3_723_500_000_000)),
            ("300ms", Some(300_000_000)),
            (".5m", Some(30_000_000_000)),
            ("1µs", Some(1_000)),
            ("", None),
            ("5", None),
            ("-1s", None),
            ("s", None),
            (".s", None),
            ("1.2.3s", None),
            ("1d", None),
            ("99999999999h", None),
        ] {
            assert_eq!(duration(text), nanoseconds, "{text}");
        }
    }
}
