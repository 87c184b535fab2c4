//! Profiles from and to the OCI specification (config-linux.md#seccomp).

use oci_spec::runtime::{
    LinuxSeccomp, LinuxSeccompAction, LinuxSeccompArg, LinuxSeccompArgBuilder, LinuxSeccompFilterFlag,
    LinuxSeccompOperator, LinuxSyscall,
};

use super::profile::{Arches, Comparison, Filter, Operator, Rule};
use super::{Action, Arch, Profile, Target};
use crate::error::{Error, Problem, Result};
use coracle_host::Kind;

/// `SECCOMP_FILTER_FLAG_*`.
pub(crate) const TSYNC: u32 = 1;
const LOG: u32 = 1 << 1;
const SPEC_ALLOW: u32 = 1 << 2;
pub(crate) const WAIT_KILLABLE_RECV: u32 = 1 << 5;

impl Profile {
    /// The profile that a container's configuration has.
    ///
    /// # Errors
    /// `Invalid`, with all that the specification forbids: an errno with an action that takes none, a rule without
    /// names, an argument beyond the sixth, `SCMP_ACT_NOTIFY` as the default action, listener metadata without
    /// a listener.
    pub fn from_oci(seccomp: &LinuxSeccomp) -> Result<Profile> {
        let mut problems = Vec::new();
        let mut profile = Profile {
            name: "profile".to_owned(),
            default: Action::KillProcess,
            arches: Arches::Listed(
                seccomp.architectures().iter().flatten().filter_map(|arch| Arch::from_oci(*arch)).collect(),
            ),
            rules: Vec::new(),
            flags: seccomp.flags().iter().flatten().fold(0, |flags, flag| flags | bit(*flag)),
            listener: seccomp.listener_path().clone().filter(|path| !path.as_os_str().is_empty()),
            metadata: seccomp.listener_metadata().clone().filter(|text| !text.is_empty()),
        };
        match Action::from_oci(seccomp.default_action(), seccomp.default_errno_ret()) {
            Ok(Action::Notify) => problems.push("defaultAction: SCMP_ACT_NOTIFY is none".to_owned()),
            Ok(action) => profile.default = action,
            Err(problem) => problems.push(format!("defaultErrnoRet: {problem}")),
        }
        if profile.listener.is_none() && profile.metadata.is_some() {
            problems.push("listenerMetadata: without listenerPath nobody gets it".to_owned());
        }
        if profile.flags & WAIT_KILLABLE_RECV != 0 && profile.listener.is_none() {
            problems.push("flags: SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV needs listenerPath".to_owned());
        }
        for (index, call) in seccomp.syscalls().iter().flatten().enumerate() {
            match rule(call) {
                Ok(rule) => profile.rules.push(rule),
                Err(problem) => problems.push(format!("syscalls[{index}]: {problem}")),
            }
        }
        if problems.is_empty() { Ok(profile) } else { Err(refused(problems)) }
    }

    /// What this profile is on `target`, as a container's configuration has it.
    pub fn to_oci(&self, target: &Target) -> LinuxSeccomp {
        let (action, number) = self.default.to_oci();
        let mut seccomp = LinuxSeccomp::default();
        let flags: Vec<LinuxSeccompFilterFlag> =
            FLAGS.into_iter().filter(|flag| self.flags & bit(*flag) != 0).collect();
        seccomp
            .set_default_action(action)
            .set_default_errno_ret(number)
            .set_architectures(Some(self.arches(target).into_iter().map(Arch::to_oci).collect()))
            .set_flags((!flags.is_empty()).then_some(flags))
            .set_listener_path(self.listener.clone())
            .set_listener_metadata(self.metadata.clone())
            .set_syscalls(Some(self.rules(target).map(syscall).collect()));
        seccomp
    }
}

/// `linux.seccomp.` before each.
pub(crate) fn refused(problems: Vec<String>) -> Error {
    let name = |text: String| Problem { kind: Kind::Invalid, text: format!("linux.seccomp.{text}") };
    Error::problems(problems.into_iter().map(name).collect())
}

const FLAGS: [LinuxSeccompFilterFlag; 4] = [
    LinuxSeccompFilterFlag::SeccompFilterFlagTsync,
    LinuxSeccompFilterFlag::SeccompFilterFlagLog,
    LinuxSeccompFilterFlag::SeccompFilterFlagSpecAllow,
    LinuxSeccompFilterFlag::SeccompFilterFlagWaitKillableRecv,
];

fn bit(flag: LinuxSeccompFilterFlag) -> u32 {
    match flag {
        LinuxSeccompFilterFlag::SeccompFilterFlagTsync => TSYNC,
        LinuxSeccompFilterFlag::SeccompFilterFlagLog => LOG,
        LinuxSeccompFilterFlag::SeccompFilterFlagSpecAllow => SPEC_ALLOW,
        LinuxSeccompFilterFlag::SeccompFilterFlagWaitKillableRecv => WAIT_KILLABLE_RECV,
    }
}

/// What is called between the filter and the program.
const OWN: [&str; 3] = ["close", "read", "write"];

pub(crate) fn rule(call: &LinuxSyscall) -> Result<Rule, String> {
    if call.names().is_empty() {
        return Err("no names".to_owned());
    }
    if let (LinuxSeccompAction::ScmpActNotify, Some(own)) =
        (call.action(), call.names().iter().find(|name| OWN.contains(&name.as_str())))
    {
        return Err(format!("{own}: a listener can't answer what is called before there is one"));
    }
    let conditions: Result<Vec<Comparison>, String> = call.args().iter().flatten().map(comparison).collect();
    Ok(Rule {
        names: call.names().clone(),
        action: Action::from_oci(call.action(), call.errno_ret())
            .map_err(|text| format!("errnoRet: {text}"))?,
        conditions: conditions?,
        includes: Filter::default(),
        excludes: Filter::default(),
    })
}

fn comparison(arg: &LinuxSeccompArg) -> Result<Comparison, String> {
    let index = u8::try_from(arg.index()).ok().filter(|index| *index < 6);
    let index = index.ok_or_else(|| format!("args: {} is no index (0 to 5)", arg.index()))?;
    let (operator, mask, value) = match arg.op() {
        LinuxSeccompOperator::ScmpCmpNe => (Operator::NotEqual, !0, arg.value()),
        LinuxSeccompOperator::ScmpCmpLt => (Operator::Less, !0, arg.value()),
        LinuxSeccompOperator::ScmpCmpLe => (Operator::AtMost, !0, arg.value()),
        LinuxSeccompOperator::ScmpCmpEq => (Operator::Equal, !0, arg.value()),
        LinuxSeccompOperator::ScmpCmpGe => (Operator::AtLeast, !0, arg.value()),
        LinuxSeccompOperator::ScmpCmpGt => (Operator::Greater, !0, arg.value()),
        // Here the first value is the mask.
        LinuxSeccompOperator::ScmpCmpMaskedEq => (Operator::Equal, arg.value(), arg.value_two().unwrap_or(0)),
    };
    Ok(Comparison { index, operator, mask, value })
}

fn syscall(rule: &Rule) -> LinuxSyscall {
    let (action, number) = rule.action.to_oci();
    let mut call = LinuxSyscall::default();
    let args: Vec<LinuxSeccompArg> = rule.conditions.iter().map(arg).collect();
    call.set_names(rule.names.clone())
        .set_action(action)
        .set_errno_ret(number)
        .set_args((!args.is_empty()).then_some(args));
    call
}

fn arg(comparison: &Comparison) -> LinuxSeccompArg {
    let Comparison { index, operator, mask, value } = *comparison;
    let builder = LinuxSeccompArgBuilder::default().index(usize::from(index));
    let builder = match operator {
        Operator::Equal if mask != !0 => {
            builder.op(LinuxSeccompOperator::ScmpCmpMaskedEq).value(mask).value_two(value)
        }
        Operator::Equal => builder.op(LinuxSeccompOperator::ScmpCmpEq).value(value),
        Operator::NotEqual => builder.op(LinuxSeccompOperator::ScmpCmpNe).value(value),
        Operator::Less => builder.op(LinuxSeccompOperator::ScmpCmpLt).value(value),
        Operator::AtMost => builder.op(LinuxSeccompOperator::ScmpCmpLe).value(value),
        Operator::AtLeast => builder.op(LinuxSeccompOperator::ScmpCmpGe).value(value),
        Operator::Greater => builder.op(LinuxSeccompOperator::ScmpCmpGt).value(value),
    };
    builder.build().expect("all fields are given or optional")
}
