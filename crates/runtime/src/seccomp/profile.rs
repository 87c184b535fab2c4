//! What is wanted.

use std::path::PathBuf;

use super::{Action, Arch, Target};

/// Which calls may be made, and what becomes of the others. See the [module](super) for what it means.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Profile {
    pub(crate) name: String,
    pub(crate) default: Action,
    pub(crate) arches: Arches,
    pub(crate) rules: Vec<Rule>,
    /// `SECCOMP_FILTER_FLAG_*`.
    pub(crate) flags: u32,
    pub(crate) listener: Option<PathBuf>,
    pub(crate) metadata: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Arches {
    /// These.
    Listed(Vec<Arch>),
    /// The native one, and those beside it.
    Map(Vec<(Arch, Vec<Arch>)>),
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Rule {
    pub(crate) names: Vec<String>,
    pub(crate) action: Action,
    pub(crate) conditions: Vec<Comparison>,
    pub(crate) includes: Filter,
    pub(crate) excludes: Filter,
}

/// When a rule is part of the profile, or not. Empty: says nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Filter {
    pub(crate) capabilities: Vec<String>,
    pub(crate) arches: Vec<String>,
    pub(crate) kernel: Option<(u32, u32)>,
}

/// `(argument & mask) operator value`, unsigned.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Comparison {
    /// 0 to 5.
    pub(crate) index: u8,
    pub(crate) operator: Operator,
    pub(crate) mask: u64,
    pub(crate) value: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Operator {
    Equal,
    NotEqual,
    Less,
    AtMost,
    AtLeast,
    Greater,
}

impl Profile {
    /// The architectures that it is about on this target: its own first.
    pub(crate) fn arches(&self, target: &Target) -> Vec<Arch> {
        let named: &[Arch] = match &self.arches {
            Arches::Listed(arches) => arches,
            Arches::Map(map) => {
                map.iter().find(|(native, _)| *native == target.arch).map_or(&[], |(_, beside)| beside)
            }
        };
        let mut all = vec![target.arch];
        // What this kernel can't run makes no calls.
        for arch in named.iter().filter(|arch| target.arch.can_run(**arch)) {
            if !all.contains(arch) {
                all.push(*arch);
            }
        }
        all
    }

    /// The rules that are part of it on this target.
    pub(crate) fn rules<'a>(&'a self, target: &'a Target) -> impl Iterator<Item = &'a Rule> {
        self.rules.iter().filter(|rule| rule.applies(target))
    }
}

impl Rule {
    fn applies(&self, target: &Target) -> bool {
        let arch = target.arch.docker_name();
        let held = |name: &String| target.capabilities.contains(name);
        let Filter { capabilities, arches, kernel } = &self.excludes;
        if capabilities.iter().any(held)
            || arches.iter().any(|name| name == arch)
            || kernel.is_some_and(|kernel| target.kernel >= kernel)
        {
            return false;
        }
        let Filter { capabilities, arches, kernel } = &self.includes;
        capabilities.iter().all(held)
            && (arches.is_empty() || arches.iter().any(|name| name == arch))
            && kernel.is_none_or(|kernel| target.kernel >= kernel)
    }

    /// The alternatives, any of which suffices; of each all must hold.
    pub(crate) fn alternatives(&self) -> Vec<Vec<Comparison>> {
        let twice =
            |one: &Comparison| self.conditions.iter().filter(|other| other.index == one.index).count() > 1;
        if self.conditions.iter().any(twice) {
            self.conditions.iter().map(|condition| vec![*condition]).collect()
        } else {
            vec![self.conditions.clone()]
        }
    }
}
