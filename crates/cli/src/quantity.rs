//! Numbers, sizes, times and fractions as docker's flags take them, with its words for what is wrong with one.

/// A whole number, decimal or with `0x`, `0o` or `0b` before it.
pub(crate) fn integer(text: &str) -> Result<i64, String> {
    whole(text).map_err(|why| format!("strconv.ParseInt: parsing {text:?}: {why}"))
}

/// A whole number that fits into 16 bits.
pub(crate) fn short(text: &str) -> Result<u16, String> {
    let number = whole(text).and_then(|number| match number {
        ..0 => Err(SYNTAX),
        number => u16::try_from(number).map_err(|_| RANGE),
    });
    number.map_err(|why| format!("strconv.ParseUint: parsing {text:?}: {why}"))
}

const SYNTAX: &str = "invalid syntax";
const RANGE: &str = "value out of range";

fn whole(text: &str) -> Result<i64, &'static str> {
    let (sign, digits) = match text.strip_prefix('-') {
        Some(digits) => (-1, digits),
        None => (1, text.strip_prefix('+').unwrap_or(text)),
    };
    let (digits, radix) = match digits.get(..2) {
        Some("0x" | "0X") => (&digits[2..], 16),
        Some("0o" | "0O") => (&digits[2..], 8),
        Some("0b" | "0B") => (&digits[2..], 2),
        _ if digits.len() > 1 && digits.starts_with('0') => (&digits[1..], 8),
        _ => (digits, 10),
    };
    if digits.is_empty() || !digits.chars().all(|digit| digit.is_digit(radix)) {
        return Err(SYNTAX);
    }
    let number = i128::from_str_radix(digits, radix).map_err(|_| RANGE)?;
    i64::try_from(number * sign).map_err(|_| RANGE)
}

/// Bytes: `32m`, `1.5g`, `512`, with units of 1024: b, k, m, g, t, p, also as `kb` or `KiB`.
pub(crate) fn bytes(text: &str) -> Result<u64, String> {
    let invalid = || format!("invalid size: '{text}'");
    let last =
        text.rfind(|char: char| char.is_ascii_digit() || char == '.' || char == ' ').ok_or_else(invalid)?;
    let blank = text[last..].starts_with(' ');
    let (number, suffix) = (&text[..if blank { last } else { last + 1 }], &text[last + 1..]);
    let number: f64 =
        number.parse().map_err(|_| format!("strconv.ParseFloat: parsing {number:?}: {SYNTAX}"))?;
    if number < 0.0 || !number.is_finite() {
        return Err(invalid());
    }
    let suffix = suffix.to_lowercase();
    let (unit, rest) = suffix.split_at(suffix.chars().next().map_or(0, char::len_utf8));
    let power = match unit {
        "" | "b" => 0,
        "k" => 1,
        "m" => 2,
        "g" => 3,
        "t" => 4,
        "p" => 5,
        _ => return Err(format!("invalid suffix: '{suffix}'")),
    };
    if !matches!(rest, "" | "b" | "ib") || (unit == "b" && !rest.is_empty()) {
        return Err(format!("invalid suffix: '{suffix}'"));
    }
    let bytes = number * 1024_f64.powi(power);
    // What Go's conversion would make of more has no meaning.
    if bytes >= i64::MAX as f64 { Err(invalid()) } else { Ok(bytes as u64) }
}

/// Bytes, or -1 for as many as there are.
pub(crate) fn bytes_or_all(text: &str) -> Result<i64, String> {
    if text == "-1" {
        return Ok(-1);
    }
    bytes(text).map(|bytes| i64::try_from(bytes).unwrap_or(i64::MAX))
}

/// CPUs in billionths: `0.5`, `1/2`, `1e1`.
pub(crate) fn cpus(text: &str) -> Result<u64, String> {
    let unparsable = || format!("failed to parse {text} as a rational number");
    let (above, below) = text.split_once('/').unwrap_or((text, "1"));
    let (above, scale) = decimal(above).ok_or_else(unparsable)?;
    let below: i128 = match below.bytes().all(|byte| byte.is_ascii_digit()) {
        true => below.parse().ok().filter(|below| *below != 0).ok_or_else(unparsable)?,
        false => return Err(unparsable()),
    };
    let scale = scale + 9;
    let factor = 10_i128.checked_pow(scale.unsigned_abs()).ok_or_else(unparsable)?;
    let (above, below) = match scale < 0 {
        true => (above, below.checked_mul(factor).ok_or_else(unparsable)?),
        false => (above.checked_mul(factor).ok_or_else(unparsable)?, below),
    };
    if above % below != 0 {
        return Err("value is too precise".into());
    }
    u64::try_from(above / below).map_err(|_| "the number of CPUs can't be negative".into())
}

/// A decimal number as a whole one and a power of ten.
fn decimal(text: &str) -> Option<(i128, i32)> {
    let (digits, power) = match text.split_once(['e', 'E']) {
        Some((digits, power)) => (digits, power.parse::<i32>().ok().filter(|power| power.abs() < 30)?),
        None => (text, 0),
    };
    let (whole, part) = digits.split_once('.').unwrap_or((digits, ""));
    let written = format!("{whole}{part}");
    let unsigned = written.strip_prefix(['+', '-']).unwrap_or(&written);
    if unsigned.is_empty() || unsigned.len() > 30 || !unsigned.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    Some((written.parse().ok()?, power - i32::try_from(part.len()).ok()?))
}

/// Nanoseconds: `1m30s`, `200ms`, `1.5h`, also below zero.
pub(crate) fn duration(text: &str) -> Result<i64, String> {
    let invalid = || format!("time: invalid duration {text:?}");
    let (sign, mut rest) = match text.strip_prefix('-') {
        Some(rest) => (-1, rest),
        None => (1, text.strip_prefix('+').unwrap_or(text)),
    };
    if rest == "0" {
        return Ok(0);
    }
    if rest.is_empty() {
        return Err(invalid());
    }
    let mut total = 0.0;
    while !rest.is_empty() {
        let end = rest.find(|char: char| !char.is_ascii_digit() && char != '.').unwrap_or(rest.len());
        let (number, after) = rest.split_at(end);
        let number: f64 = number.parse().map_err(|_| invalid())?;
        let end = after.find(|char: char| char.is_ascii_digit() || char == '.').unwrap_or(after.len());
        let (unit, after) = after.split_at(end);
        total += number
            * match unit {
                "ns" => 1.0,
                "us" | "µs" | "μs" => 1e3,
                "ms" => 1e6,
                "s" => 1e9,
                "m" => 60e9,
                "h" => 3600e9,
                "" => return Err(format!("time: missing unit in duration {text:?}")),
                unit => return Err(format!("time: unknown unit {unit:?} in duration {text:?}")),
            };
        rest = after;
    }
    if total >= i64::MAX as f64 { Err(invalid()) } else { Ok(sign * total.round() as i64) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn sizes_are_dockers() {
        let table = [
            ("32m", 33_554_432),
            ("1.5g", 1_610_612_736),
            ("32MB", 33_554_432),
            ("32MiB", 33_554_432),
            ("1024", 1024),
            ("3kb", 3072),
            ("0", 0),
            ("7b", 7),
            ("1e3", 1000),
            ("5 m", 5_242_880),
        ];
        for (text, size) in table {
            assert_eq!(bytes(text), Ok(size), "{text}");
        }
        for (text, problem) in [
            ("x", "invalid size: 'x'"),
            ("", "invalid size: ''"),
            ("-1", "invalid size: '-1'"),
            ("10q", "invalid suffix: 'q'"),
            ("10kq", "invalid suffix: 'kq'"),
            ("10bb", "invalid suffix: 'bb'"),
            ("0x10", "strconv.ParseFloat: parsing \"0x10\": invalid syntax"),
            (" 5 m", "strconv.ParseFloat: parsing \" 5\": invalid syntax"),
            ("99999999999t", "invalid size: '99999999999t'"),
        ] {
            assert_eq!(bytes(text).unwrap_err(), problem, "{text}");
        }
        assert_eq!(bytes_or_all("-1"), Ok(-1));
        assert_eq!(bytes_or_all("64m"), Ok(67_108_864));
    }

    #[test]
    fn fractions_of_cpus() {
        let table = [
            ("0.5", 500_000_000),
            ("1.123456789", 1_123_456_789),
            ("1/2", 500_000_000),
            ("1e1", 10_000_000_000),
            (".25", 250_000_000),
            ("2", 2_000_000_000),
            ("0", 0),
        ];
        for (text, nanos) in table {
            assert_eq!(cpus(text), Ok(nanos), "{text}");
        }
        assert_eq!(cpus("1.1234567891").unwrap_err(), "value is too precise");
        assert_eq!(cpus("1/3").unwrap_err(), "value is too precise");
        for text in ["x", "", "1/0", "1/x", "-", "1.2.3", "1e99"] {
            assert_eq!(cpus(text).unwrap_err(), format!("failed to parse {text} as a rational number"));
        }
        assert!(cpus("-1").is_err());
    }

    #[test]
    fn times_are_gos() {
        let table = [
            ("1m30s", 90_000_000_000),
            ("200ms", 200_000_000),
            ("1h2m3.5s", 3_723_500_000_000),
            ("200us", 200_000),
            (".5s", 500_000_000),
            ("0", 0),
            ("-5s", -5_000_000_000),
            ("3ns", 3),
        ];
        for (text, nanos) in table {
            assert_eq!(duration(text), Ok(nanos), "{text}");
        }
        for (text, problem) in [
            ("5", "time: missing unit in duration \"5\""),
            ("5x", "time: unknown unit \"x\" in duration \"5x\""),
            ("", "time: invalid duration \"\""),
            ("s", "time: invalid duration \"s\""),
            ("1.2.3s", "time: invalid duration \"1.2.3s\""),
        ] {
            assert_eq!(duration(text).unwrap_err(), problem);
        }
    }

    #[test]
    fn integers_are_gos() {
        assert_eq!(integer("0x1F"), Ok(31));
        assert_eq!(integer("-010"), Ok(-8));
        assert_eq!(integer("x").unwrap_err(), "strconv.ParseInt: parsing \"x\": invalid syntax");
        assert_eq!(
            integer("9999999999999999999").unwrap_err(),
            "strconv.ParseInt: parsing \"9999999999999999999\": value out of range"
        );
        assert_eq!(short("300"), Ok(300));
        assert_eq!(short("70000").unwrap_err(), "strconv.ParseUint: parsing \"70000\": value out of range");
        assert!(short("-1").is_err());
    }

    proptest! {
        #[test]
        fn nothing_makes_them_fail_badly(text in any::<String>(), number in "[-+]?[0-9.]{0,25}[a-zA-Zµ/ ]{0,3}[0-9e]{0,4}") {
            for text in [text, number] {
                let _ = (integer(&text), short(&text), bytes(&text), cpus(&text), duration(&text));
            }
        }

        #[test]
        fn whole_sizes_are_exact(size in 0..1_u64 << 50) {
            prop_assert_eq!(bytes(&size.to_string()), Ok(size));
        }
    }
}
