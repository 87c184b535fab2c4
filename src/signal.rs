//! Signals by name (signal(7)).

/// The names of signals 1 to 31, in order.
const NAMES: [&str; 31] = [
    "HUP", "INT", "QUIT", "ILL", "TRAP", "ABRT", "BUS", "FPE", "KILL", "USR1", "SEGV", "USR2", "PIPE",
    "ALRM", "TERM", "STKFLT", "CHLD", "CONT", "STOP", "TSTP", "TTIN", "TTOU", "URG", "XCPU", "XFSZ",
    "VTALRM", "PROF", "WINCH", "IO", "PWR", "SYS",
];
const RTMIN: u8 = 34;
const RTMAX: u8 = 64;

/// The number (1 to 64) of a signal by number or name, with or without SIG: `9`, `KILL`, `SIGRTMIN+3`.
pub fn signal_number(text: &str) -> Option<u8> {
    if let Ok(number) = text.parse::<u8>() {
        return (1..=RTMAX).contains(&number).then_some(number);
    }
    let upper = text.to_ascii_uppercase();
    let name = upper.strip_prefix("SIG").unwrap_or(&upper);
    if let Some(index) = NAMES.iter().position(|known| *known == name) {
        return u8::try_from(index + 1).ok();
    }
    let real_time = |rest: &str, sign: char| match rest.strip_prefix(sign) {
        Some(count) => count.parse::<u8>().ok(),
        None => rest.is_empty().then_some(0),
    };
    let number = match name.strip_prefix("RTMIN") {
        Some(rest) => real_time(rest, '+').and_then(|count| RTMIN.checked_add(count))?,
        None => real_time(name.strip_prefix("RTMAX")?, '-').and_then(|count| RTMAX.checked_sub(count))?,
    };
    (RTMIN..=RTMAX).contains(&number).then_some(number)
}

/// The name of a signal (1 to 64): `SIGTERM`, `SIGRTMIN+3`.
pub(crate) fn signal_name(number: u8) -> String {
    match (usize::from(number).checked_sub(1).and_then(|index| NAMES.get(index)), number.checked_sub(RTMIN)) {
        (Some(name), _) => format!("SIG{name}"),
        (None, Some(0)) => "SIGRTMIN".into(),
        (None, Some(above)) => format!("SIGRTMIN+{above}"),
        (None, None) => number.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_numbers() {
        let table = [
            ("9", 9),
            ("KILL", 9),
            ("SIGKILL", 9),
            ("sigterm", 15),
            ("hup", 1),
            ("USR2", 12),
            ("SYS", 31),
            ("RTMIN", 34),
            ("SIGRTMIN+3", 37),
            ("RTMAX-1", 63),
            ("64", 64),
        ];
        for (text, signal) in table {
            assert_eq!(signal_number(text), Some(signal), "{text}");
            assert_eq!(signal_number(&signal_name(signal)), Some(signal));
        }
        for text in ["", "0", "65", "-9", "SIG", "NOSUCH", "RTMIN+31", "RTMIN-1", "RTMAX-40", "RTMINx"] {
            assert_eq!(signal_number(text), None, "{text}");
        }
    }

    #[test]
    fn names_are_the_kernels() {
        use rustix::process::Signal;
        let known = [
            ("HUP", Signal::HUP),
            ("BUS", Signal::BUS),
            ("USR1", Signal::USR1),
            ("USR2", Signal::USR2),
            ("CHLD", Signal::CHILD),
            ("WINCH", Signal::WINCH),
            ("SYS", Signal::SYS),
        ];
        for (name, signal) in known {
            assert_eq!(signal_number(name).map(i32::from), Some(signal.as_raw()), "{name}");
        }
    }
}
