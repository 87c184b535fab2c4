//! Resource limits (setrlimit(2); runtime-spec config.md, "rlimits").

use std::fmt;

use oci_spec::runtime::{PosixRlimit, PosixRlimitType, Process};

use crate::error::Problem;
use crate::{Facts, Step};

/// The kernel's numbers, which are the same on all architectures that there is code for.
const NAMES: [&str; 16] = [
    "RLIMIT_CPU",
    "RLIMIT_FSIZE",
    "RLIMIT_DATA",
    "RLIMIT_STACK",
    "RLIMIT_CORE",
    "RLIMIT_RSS",
    "RLIMIT_NPROC",
    "RLIMIT_NOFILE",
    "RLIMIT_MEMLOCK",
    "RLIMIT_AS",
    "RLIMIT_LOCKS",
    "RLIMIT_SIGPENDING",
    "RLIMIT_MSGQUEUE",
    "RLIMIT_NICE",
    "RLIMIT_RTPRIO",
    "RLIMIT_RTTIME",
];

/// `RLIMIT_NOFILE`.
pub(crate) fn name(resource: u32) -> &'static str {
    NAMES.get(resource as usize).copied().unwrap_or("RLIMIT_UNKNOWN")
}

/// A number of them, or none.
pub(crate) struct Value(pub(crate) u64);

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0 == u64::MAX { f.write_str("unlimited") } else { write!(f, "{}", self.0) }
    }
}

fn number(typ: PosixRlimitType) -> Option<u32> {
    let word = typ.to_string();
    NAMES.iter().position(|name| *name == word).and_then(|index| u32::try_from(index).ok())
}

/// What is wrong with them.
pub(crate) fn check(process: &Process) -> Vec<Problem> {
    let mut problems = Vec::new();
    let limits: Vec<&PosixRlimit> = process.rlimits().iter().flatten().collect();
    for (index, limit) in limits.iter().enumerate() {
        let typ = limit.typ();
        if number(typ).is_none() {
            problems.push(Problem::unsupported(format!(
                "process.rlimits[{typ}]: this kernel interface is not known"
            )));
        }
        if limit.soft() > limit.hard() {
            let text = format!(
                "process.rlimits[{typ}]: the soft limit {} is above the hard one {}",
                limit.soft(),
                limit.hard()
            );
            problems.push(Problem::invalid(text));
        }
        if limits[..index].iter().any(|other| other.typ() == typ) {
            problems.push(Problem::invalid(format!("process.rlimits: {typ} is there twice")));
        }
    }
    problems
}

/// Hard limits above the starting program's, which take a privilege that is soon gone; and all of them, which are set last:
/// a limit that the launch itself meets is the container's, not the launch's.
pub(crate) fn steps(process: &Process, facts: &Facts) -> (Vec<Step>, Vec<Step>) {
    let (mut raise, mut set) = (Vec::new(), Vec::new());
    for limit in process.rlimits().iter().flatten() {
        let Some(resource) = number(limit.typ()) else { continue };
        let (soft, hard) = (limit.soft(), limit.hard());
        let (own_soft, own_hard) = facts.limit(resource);
        if hard > own_hard {
            raise.push(Step::Raise { resource, soft: own_soft, hard });
        }
        set.push(Step::Limit { resource, soft, hard });
    }
    (raise, set)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_limit_of_the_specification_has_its_number() {
        use PosixRlimitType as Type;
        let all = [
            Type::RlimitCpu,
            Type::RlimitFsize,
            Type::RlimitData,
            Type::RlimitStack,
            Type::RlimitCore,
            Type::RlimitRss,
            Type::RlimitNproc,
            Type::RlimitNofile,
            Type::RlimitMemlock,
            Type::RlimitAs,
            Type::RlimitLocks,
            Type::RlimitSigpending,
            Type::RlimitMsgqueue,
            Type::RlimitNice,
            Type::RlimitRtprio,
            Type::RlimitRttime,
        ];
        for (index, typ) in (0..).zip(all) {
            assert_eq!(number(typ), Some(index), "{typ}");
        }
        assert_eq!(libc::RLIMIT_NOFILE, 7);
        assert_eq!(libc::RLIMIT_RTTIME, 15);
    }
}
