//! Resources become settings: what is to be written, and what can't be had here.

use std::collections::{BTreeMap, BTreeSet};

use coracle_host::Kind;
use oci_spec::runtime::LinuxResources;

use super::op::Manner;
use super::{Hierarchies, Place, Version, cpu, devices, io, memory, rest};
use crate::error::Problem;

/// Everything that resources ask of a host.
pub(super) struct Settings<'a> {
    host: &'a Hierarchies,
    /// What a group that is there already has; `None` for a new one.
    pub(super) live: Option<&'a Live>,
    pub(super) wants: Vec<Want>,
    /// The controllers that are needed, by hierarchy.
    pub(super) used: BTreeMap<usize, BTreeSet<String>>,
    pub(super) problems: Vec<Problem>,
}

/// The values of a living group that others are computed from.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Live {
    /// Bytes; -1 for no limit.
    pub(super) memory_limit: Option<i64>,
    /// The first word of `cpu.max` in version 2.
    pub(super) quota: Option<String>,
    /// `devices.list` in version 1.
    pub(super) devices: Option<String>,
}

/// One thing to be done in the group's directory of a hierarchy.
#[derive(Debug)]
pub(super) enum Want {
    Write { home: usize, controller: String, choices: Vec<(String, String)>, setting: String, manner: Manner },
    Below { home: usize, file: &'static str, limit: u64, setting: String },
    Filter { home: usize, rules: devices::Rules },
}

/// Where a controller is.
#[derive(Clone, Copy, Debug)]
pub(super) struct Home<'c> {
    pub(super) index: usize,
    pub(super) version: Version,
    pub(super) controller: &'c str,
}

impl Settings<'_> {
    pub(super) fn of<'a>(
        resources: &LinuxResources,
        host: &'a Hierarchies,
        live: Option<&'a Live>,
    ) -> Settings<'a> {
        let mut settings =
            Settings { host, live, wants: Vec::new(), used: BTreeMap::new(), problems: Vec::new() };
        cpu::settings(resources, &mut settings);
        memory::settings(resources, &mut settings);
        io::settings(resources, &mut settings);
        rest::settings(resources, &mut settings);
        devices::settings(resources, &mut settings);
        settings
    }

    /// Where the controller of a setting is. That it is nowhere is noted as a problem.
    pub(super) fn home<'c>(&mut self, controller: &'c str, setting: &str) -> Option<Home<'c>> {
        let Some(index) = self.host.index_of(controller) else {
            let how = self.how_to_get(controller);
            self.unsupported(
                setting,
                &format!("this host has no control group controller `{controller}`; {how}"),
            );
            return None;
        };
        let hierarchy = &self.host.0[index];
        if !hierarchy.writable {
            let point = hierarchy.point.display();
            let text = format!(
                "linux.resources.{setting}: the controller `{controller}` is mounted read-only at {point}"
            );
            self.problems.push(Problem { kind: Kind::Denied, text });
            return None;
        }
        self.used.entry(index).or_default().insert(controller.to_owned());
        Some(Home { index, version: hierarchy.version, controller })
    }

    fn how_to_get(&self, controller: &str) -> String {
        let boot = match controller {
            "memory" => " (boot with `cgroup_enable=memory`)",
            "hugetlb" => " (the kernel needs CONFIG_CGROUP_HUGETLB)",
            "rdma" => " (the kernel needs CONFIG_CGROUP_RDMA)",
            "net_cls" | "net_prio" => {
                " (the kernel needs CONFIG_CGROUP_NET_CLASSID and _PRIO, and version 1)"
            }
            _ => "",
        };
        let only_v1 = matches!(controller, "net_cls" | "net_prio");
        match self.host.unified().map(|index| &self.host.0[index]) {
            Some(unified) if !only_v1 => format!(
                "it must be in {} or mounted{boot}; in a delegated group, whoever delegates must give it on",
                unified.point.join("cgroup.controllers").display()
            ),
            _ => format!(
                "mount it: `mount -t cgroup -o {controller} cgroup /sys/fs/cgroup/{controller}`{boot}"
            ),
        }
    }

    pub(super) fn write(&mut self, home: Home<'_>, file: &str, value: impl ToString, setting: &str) {
        self.write_first(home, &[(file, value.to_string())], setting, Manner::Must);
    }

    /// As [`write`](Self::write), for a value that the kernel checks against one that is written later.
    pub(super) fn write_again(&mut self, home: Home<'_>, file: &str, value: impl ToString, setting: &str) {
        self.write_first(home, &[(file, value.to_string())], setting, Manner::Again);
    }

    /// Writes to the first of these files that is there.
    pub(super) fn write_first(
        &mut self,
        home: Home<'_>,
        choices: &[(&str, String)],
        setting: &str,
        manner: Manner,
    ) {
        self.wants.push(Want::Write {
            home: home.index,
            controller: home.controller.to_owned(),
            choices: choices.iter().map(|(file, value)| ((*file).to_owned(), value.clone())).collect(),
            setting: setting.to_owned(),
            manner,
        });
    }

    /// Whether the host has a controller.
    pub(super) fn has(&self, controller: &str) -> bool {
        self.host.index_of(controller).is_some()
    }

    /// The setting can't be had on this host, or in this version.
    pub(super) fn unsupported(&mut self, setting: &str, why: &str) {
        let text = format!("linux.resources.{setting}: {why}");
        self.problems.push(Problem { kind: Kind::Unsupported, text });
    }

    pub(super) fn invalid(&mut self, setting: &str, why: &str) {
        let text = format!("linux.resources.{setting}: {why}");
        self.problems.push(Problem { kind: Kind::Invalid, text });
    }

    /// The group is a scope of systemd's: in version 2, which has every controller then.
    pub(super) fn only_v2(&mut self, place: &Place) {
        let v1 = self.host.iter().find_map(|hierarchy| match hierarchy.version {
            Version::V1 => hierarchy.controllers.first(),
            Version::V2 => None,
        });
        let why = match (v1, self.host.unified()) {
            (None, Some(index)) => {
                self.used.entry(index).or_default();
                return;
            }
            (Some(controller), _) => format!("this host has `{controller}` in cgroup v1"),
            (None, None) => "this host has none".to_owned(),
        };
        let text = format!("cgroup {place}: scopes of systemd need cgroup v2 alone, and {why}");
        self.problems.push(Problem { kind: Kind::Unsupported, text });
    }

    /// A setting that version 2 has no counterpart of.
    pub(super) fn only_v1(&mut self, setting: &str) {
        self.unsupported(setting, "cgroup v2 has no such setting; leave it out on this host");
    }
}

/// As the kernel writes no limit: `-1` in version 1, `max` in version 2.
pub(super) fn limit(value: i64, version: Version) -> String {
    match (value, version) {
        (..0, Version::V1) => "-1".to_owned(),
        (..0, Version::V2) => "max".to_owned(),
        _ => value.to_string(),
    }
}
