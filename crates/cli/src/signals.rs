//! Signals: their names, and passing them on to a container.

use std::sync::{Arc, OnceLock, Weak};

use coracle::Container;
use nix::sys::signal::{SigSet, Signal};

/// The names of signals 1 to 31, in order.
const NAMES: [&str; 31] = [
    "HUP", "INT", "QUIT", "ILL", "TRAP", "ABRT", "BUS", "FPE", "KILL", "USR1", "SEGV", "USR2", "PIPE",
    "ALRM", "TERM", "STKFLT", "CHLD", "CONT", "STOP", "TSTP", "TTIN", "TTOU", "URG", "XCPU", "XFSZ",
    "VTALRM", "PROF", "WINCH", "IO", "PWR", "SYS",
];
const RTMIN: u8 = 34;
const RTMAX: u8 = 64;

/// A signal by number or name, with or without SIG: `9`, `KILL`, `SIGRTMIN+3`.
pub(crate) fn number(text: &str) -> Option<u8> {
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

/// How many times one asks politely.
const POLITE: usize = 3;

/// Passes the signals that this program gets on to a container, as docker does for one in the foreground.
pub(crate) struct Forwarding(Arc<OnceLock<Weak<Container>>>);

impl Forwarding {
    /// From now on. Before there is a container, a signal ends the program. To be called before there is any other
    /// thread: threads inherit what is blocked here.
    pub(crate) fn begin() -> Forwarding {
        let ours = [
            Signal::SIGHUP,
            Signal::SIGINT,
            Signal::SIGQUIT,
            Signal::SIGTERM,
            Signal::SIGUSR1,
            Signal::SIGUSR2,
            Signal::SIGWINCH,
            Signal::SIGCONT,
        ];
        let set: SigSet = ours.into_iter().collect();
        let target = Arc::new(OnceLock::new());
        // It fails only for bad arguments; then signals keep their usual effect.
        if set.thread_block().is_ok() {
            let target = target.clone();
            std::thread::spawn(move || forward(&set, &target));
        }
        Forwarding(target)
    }

    /// This is the one.
    pub(crate) fn to(&self, container: &Arc<Container>) {
        let _ = self.0.set(Arc::downgrade(container));
    }
}

fn forward(set: &SigSet, target: &OnceLock<Weak<Container>>) {
    let mut asked = 0;
    while let Ok(signal) = set.wait() {
        let number = u8::try_from(signal as i32).unwrap_or_default();
        let Some(container) = target.get() else {
            if matches!(signal, Signal::SIGWINCH | Signal::SIGCONT) {
                continue;
            }
            // Whatever is half started dies with us.
            std::process::exit(128 + i32::from(number));
        };
        let Some(container) = container.upgrade() else { return };
        asked += usize::from(matches!(signal, Signal::SIGINT | Signal::SIGTERM));
        if asked >= POLITE {
            crate::out::say("coracle: got 3 SIGTERM/SIGINTs, killing the container");
            let _ = container.signal(9);
        } else {
            // It may just have ended.
            let _ = container.signal(number);
        }
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
            assert_eq!(number(text), Some(signal), "{text}");
        }
        for text in ["", "0", "65", "-9", "SIG", "NOSUCH", "RTMIN+31", "RTMIN-1", "RTMAX-40", "RTMINx"] {
            assert_eq!(number(text), None, "{text}");
        }
    }

    #[test]
    fn names_are_the_kernels() {
        for (index, name) in NAMES.iter().enumerate() {
            let signal: Signal = format!("SIG{name}").parse().unwrap();
            assert_eq!(signal as usize, index + 1, "{name}");
        }
    }
}
