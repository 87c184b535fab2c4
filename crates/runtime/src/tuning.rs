//! How a process is scheduled and where its memory is (runtime-spec config.md, "Linux Process"; config-linux.md,
//! "Personality" and "Memory Policy").

use coracle_launch::Scheduler;
use oci_spec::runtime::{
    IOPriorityClass, LinuxPersonalityDomain, LinuxSchedulerFlag, LinuxSchedulerPolicy, MemoryPolicyFlagType,
    MemoryPolicyModeType, Process, Spec,
};

use crate::Step;
use crate::error::Problem;

/// What is set for the container's first process alone; or all that is wrong.
pub(crate) fn of_container(spec: &Spec) -> Result<Vec<Step>, Vec<Problem>> {
    let (mut steps, mut problems) = (Vec::new(), Vec::new());
    let Some(linux) = spec.linux() else { return Ok(steps) };
    if let Some(personality) = linux.personality() {
        let flags = personality.flags().iter().flatten();
        problems.extend(
            flags.map(|flag| {
                Problem::unsupported(format!("linux.personality.flags: `{flag}` is not supported"))
            }),
        );
        steps.push(Step::Personality(match personality.domain() {
            LinuxPersonalityDomain::PerLinux => 0,
            LinuxPersonalityDomain::PerLinux32 => 8,
        }));
    }
    if let Some(policy) = linux.memory_policy() {
        use MemoryPolicyModeType as Mode;
        let mode = match policy.mode() {
            Mode::MpolDefault => 0,
            Mode::MpolPreferred => 1,
            Mode::MpolBind => 2,
            Mode::MpolInterleave => 3,
            Mode::MpolLocal => 4,
            Mode::MpolPreferredMany => 5,
            Mode::MpolWeightedInterleave => 6,
        };
        let flags = policy.flags().iter().flatten().fold(0, |all, flag| {
            all | match flag {
                MemoryPolicyFlagType::MpolFNumaBalancing => 1 << 13,
                MemoryPolicyFlagType::MpolFRelativeNodes => 1 << 14,
                MemoryPolicyFlagType::MpolFStaticNodes => 1 << 15,
            }
        });
        let words = policy.nodes().as_deref().unwrap_or_default();
        match mask(words) {
            Some(nodes) => {
                steps.push(Step::MemoryPolicy { mode: mode | flags, nodes, words: words.to_owned() })
            }
            None => problems
                .push(Problem::invalid(format!("linux.memoryPolicy.nodes: `{words}` is no list of nodes"))),
        }
    }
    if problems.is_empty() { Ok(steps) } else { Err(problems) }
}

/// What is set for every process: before it is in its control group, and after.
pub(crate) struct OfProcess {
    pub(crate) before: Vec<Step>,
    pub(crate) after: Vec<Step>,
}

/// All of a process; its affinity only where it joins a container (config.md, "execCPUAffinity").
pub(crate) fn of_process(process: &Process, joins: bool) -> Result<OfProcess, Vec<Problem>> {
    let (mut before, mut after, mut problems) = (Vec::new(), Vec::new(), Vec::new());
    if let Some(priority) = process.io_priority() {
        let class = match priority.class() {
            IOPriorityClass::IoprioClassRt => 1,
            IOPriorityClass::IoprioClassBe => 2,
            IOPriorityClass::IoprioClassIdle => 3,
        };
        match u32::try_from(priority.priority()) {
            Ok(level @ 0..=7) => before.push(Step::IoPriority { class, level }),
            _ => problems.push(Problem::invalid(format!(
                "process.ioPriority.priority: {} is not from 0 to 7",
                priority.priority()
            ))),
        }
    }
    if let Some(scheduler) = process.scheduler() {
        use LinuxSchedulerPolicy as Policy;
        let mut attr = Scheduler::new(match scheduler.policy() {
            Policy::SchedOther => 0,
            Policy::SchedFifo => 1,
            Policy::SchedRr => 2,
            Policy::SchedBatch => 3,
            Policy::SchedIso => 4,
            Policy::SchedIdle => 5,
            Policy::SchedDeadline => 6,
        });
        attr.nice = scheduler.nice().unwrap_or_default();
        match u32::try_from(scheduler.priority().unwrap_or_default()) {
            Ok(priority) => attr.priority = priority,
            Err(_) => problems.push(Problem::invalid("process.scheduler.priority: below 0")),
        }
        attr.runtime = scheduler.runtime().unwrap_or_default();
        attr.deadline = scheduler.deadline().unwrap_or_default();
        attr.period = scheduler.period().unwrap_or_default();
        for flag in scheduler.flags().iter().flatten() {
            use LinuxSchedulerFlag as Flag;
            attr.flags |= match flag {
                Flag::SchedResetOnFork => 0x01,
                Flag::SchedFlagReclaim => 0x02,
                Flag::SchedFlagDLOverrun => 0x04,
                Flag::SchedFlagKeepPolicy => 0x08,
                Flag::SchedFlagKeepParams => 0x10,
                Flag::SchedFlagUtilClampMin | Flag::SchedFlagUtilClampMax => {
                    let text =
                        "process.scheduler.flags: limits of utilization have no values in the specification";
                    problems.push(Problem::unsupported(text));
                    0
                }
            };
        }
        before.push(Step::Scheduler(attr));
    }
    if let Some(affinity) = process.exec_cpu_affinity().as_ref().filter(|_| joins) {
        for (name, words, steps) in [
            ("initial", affinity.initial(), &mut before),
            ("final", affinity.cpu_affinity_final(), &mut after),
        ] {
            let Some(words) = words else { continue };
            match mask(words).filter(|mask| !mask.is_empty()) {
                Some(processors) => steps.push(Step::Affinity { processors, words: words.clone() }),
                None => problems.push(Problem::invalid(format!(
                    "process.execCPUAffinity.{name}: `{words}` is no list of processors"
                ))),
            }
        }
    }
    if problems.is_empty() { Ok(OfProcess { before, after }) } else { Err(problems) }
}

/// `0-3,7` as bits (cpuset(7), "List format"); none for nothing.
fn mask(list: &str) -> Option<Vec<u64>> {
    const MOST: usize = 8192;
    let mut words = Vec::new();
    for part in list.split(',').map(str::trim).filter(|part| !part.is_empty()) {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last): (usize, usize) = (first.parse().ok()?, last.parse().ok()?);
        if first > last || last >= MOST {
            return None;
        }
        if words.len() <= last / 64 {
            words.resize(last / 64 + 1, 0u64);
        }
        (first..=last).for_each(|bit| words[bit / 64] |= 1 << (bit % 64));
    }
    Some(words)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists() {
        assert_eq!(mask("0-3,7"), Some(vec![0x8f]));
        assert_eq!(mask("64, 1"), Some(vec![2, 1]));
        assert_eq!(mask(""), Some(vec![]));
        for wrong in ["3-1", "x", "1-", "-1", "8192", "1;2"] {
            assert_eq!(mask(wrong), None, "{wrong}");
        }
    }
}
