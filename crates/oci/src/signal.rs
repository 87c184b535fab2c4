//! kill: signals by name or number.

use coracle_host::PidFd;

use crate::error::{Error, Result};
use crate::record::{Home, Status};

/// signal(7), in the numbers that x86, arm and riscv share, from 1 on.
const NAMES: [&str; 31] = [
    "HUP", "INT", "QUIT", "ILL", "TRAP", "ABRT", "BUS", "FPE", "KILL", "USR1", "SEGV", "USR2", "PIPE",
    "ALRM", "TERM", "STKFLT", "CHLD", "CONT", "STOP", "TSTP", "TTIN", "TTOU", "URG", "XCPU", "XFSZ",
    "VTALRM", "PROF", "WINCH", "IO", "PWR", "SYS",
];

const KILL: u8 = 9;

/// `15`, `TERM`, `SIGTERM`, `rtmin+3`.
pub(crate) fn number(text: &str) -> Result<u8> {
    let upper = text.to_ascii_uppercase();
    let name = upper.strip_prefix("SIG").unwrap_or(&upper);
    let named = NAMES.iter().position(|known| *known == name).map(|index| index as u8 + 1);
    let real_time = || match (name.strip_prefix("RTMIN"), name.strip_prefix("RTMAX")) {
        (Some(""), _) => Some(34),
        (Some(more), _) => more.strip_prefix('+')?.parse::<u8>().ok()?.checked_add(34),
        (_, Some("")) => Some(64),
        (_, Some(less)) => 64u8.checked_sub(less.strip_prefix('-')?.parse().ok()?),
        _ => None,
    };
    let number = name.parse().ok().or(named).or_else(real_time);
    number.filter(|number| (1..=64).contains(number)).ok_or_else(|| {
        Error::new(format!("{text:?} is no signal: give a number from 1 to 64 or a name such as SIGTERM"))
    })
}

pub(crate) fn kill(home: &Home, id: &str, signal: &str, all: bool) -> Result<()> {
    let signal = number(signal)?;
    let found = home.find(id)?;
    let status = found.status()?;
    let group = match all {
        true => crate::cgroup::find(found.record()?)?,
        false => None,
    };
    if let Some(group) = group {
        // Also of a container whose first process has ended: that is what callers clean up with.
        if signal == KILL {
            return Ok(group.kill()?);
        }
        for pid in group.processes()? {
            match PidFd::open(pid) {
                Ok(pidfd) => drop(pidfd.signal(signal)?),
                Err(error) if error.kind() == coracle_host::Kind::NotFound => {}
                Err(error) => return Err(error.into()),
            }
        }
        return Ok(());
    }
    let process = match status {
        Status::Created | Status::Running | Status::Paused => found.process()?,
        _ => None,
    };
    match process {
        Some(process) if process.signal(signal)? => Ok(()),
        // runtime.md, "Kill": an error. Callers look for these two words.
        _ => Err(Error::new(format!("container `{id}` is {}: container not running", status.word()))),
    }
}

#[cfg(test)]
mod tests {
    use super::number;

    #[test]
    fn names_and_numbers() {
        let all =
            ["9", "KILL", "SIGKILL", "sigkill", "SIGTERM", "SIGWINCH", "SIGRTMIN+3", "RTMAX-1", "SIGSYS"];
        assert_eq!(all.map(|text| number(text).unwrap()), [9, 9, 9, 9, 15, 28, 37, 63, 31]);
        for text in ["", "0", "65", "SIGHUH", "SIGRTMIN+31", "-1", "RTMIN3"] {
            assert!(number(text).is_err(), "{text}");
        }
    }
}
