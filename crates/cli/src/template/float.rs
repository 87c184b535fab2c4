//! Floats as Go's strconv writes them.

/// `%g`, `%e`, `%f`.
#[derive(Clone, Copy, PartialEq)]
pub(super) enum Shape {
    General,
    Exponent,
    Decimal,
}

/// With this many digits after the point (`%g`: digits in all), or as many as it takes to tell the number.
pub(super) fn format(number: f64, shape: Shape, precision: Option<usize>) -> String {
    if number.is_nan() {
        return "NaN".into();
    }
    if number.is_infinite() {
        return if number > 0.0 { "+Inf".into() } else { "-Inf".into() };
    }
    // No float has more digits than this; what is wanted beyond is zeros.
    let exact = precision.map(|wanted| wanted.min(MOST));
    let more = "0".repeat(precision.unwrap_or(0).saturating_sub(MOST));
    match (shape, exact) {
        (Shape::Decimal, None) => format!("{number}"),
        (Shape::Decimal, Some(precision)) => format!("{number:.precision$}{more}"),
        (Shape::Exponent, None) => exponent(&format!("{number:e}")),
        (Shape::Exponent, Some(precision)) => {
            exponent(&format!("{number:.precision$e}").replace('e', &format!("{more}e")))
        }
        (Shape::General, precision) => general(number, precision),
    }
}

const MOST: usize = 1100;

/// The exponent is below -4, or the number has more digits before its point than are wanted: then it is written with an
/// exponent.
fn general(number: f64, precision: Option<usize>) -> String {
    let scientific = match precision {
        None => format!("{number:e}"),
        Some(digits) => format!("{number:.*e}", digits.max(1) - 1),
    };
    let (digits, power) = scientific.split_once('e').unwrap_or((&scientific, "0"));
    let power: i32 = power.parse().unwrap_or(0);
    let trimmed = match digits.contains('.') {
        true => digits.trim_end_matches('0').trim_end_matches('.'),
        false => digits,
    };
    let most = match precision {
        None => SHORTEST,
        Some(precision) => i32::try_from(precision.max(1)).unwrap_or(i32::MAX),
    };
    if power < -4 || power >= most {
        return exponent(&format!("{trimmed}e{power}"));
    }
    let after = trimmed.trim_start_matches('-').len().saturating_sub(2);
    let after = i32::try_from(after).unwrap_or(0) - power;
    format!("{number:.*}", usize::try_from(after).unwrap_or(0))
}

/// From how many digits before the point on a shortest form has an exponent.
const SHORTEST: i32 = 6;

/// Go writes at least two digits of an exponent, and its sign.
fn exponent(text: &str) -> String {
    let (digits, power) = text.split_once('e').unwrap_or((text, "0"));
    let (sign, power) = match power.strip_prefix('-') {
        Some(power) => ('-', power),
        None => ('+', power),
    };
    format!("{digits}e{sign}{power:0>2}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn floats_are_gos() {
        let table = [
            (0.0, None, "0"),
            (-2.5, None, "-2.5"),
            (100_000.0, None, "100000"),
            (1e6, None, "1e+06"),
            (1e-5, None, "1e-05"),
            (123_456_789.0, Some(3), "1.23e+08"),
            (0.1, Some(20), "0.10000000000000000555"),
            (f64::INFINITY, None, "+Inf"),
        ];
        for (number, precision, text) in table {
            assert_eq!(format(number, Shape::General, precision), text);
        }
        assert_eq!(format(0.5, Shape::Decimal, Some(2000)).len(), 2002);
        assert_eq!(format(12.0, Shape::Exponent, Some(2)), "1.20e+01");
        assert!(format(12.0, Shape::Exponent, Some(1200)).ends_with("00e+01"));
    }
}
