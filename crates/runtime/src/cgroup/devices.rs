//! Which devices may be used (config-linux.md, "Allowed Device list").

use std::fmt;

use oci_spec::runtime::{LinuxDeviceCgroup, LinuxDeviceCgroupBuilder, LinuxDeviceType, LinuxResources};

use super::Version;
use super::settings::{Settings, Want};
use super::{devices_v1, op::Manner};

/// mknod(2).
pub(super) const MKNOD: u8 = 1;
/// Opening for reading.
pub(super) const READ: u8 = 2;
/// Opening for writing.
pub(super) const WRITE: u8 = 4;
/// All three.
pub(super) const ALL: u8 = MKNOD | READ | WRITE;

/// Block or character devices.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Class {
    Block,
    Char,
}

/// One rule. What is `None` fits everything.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Rule {
    pub(super) allow: bool,
    pub(super) class: Option<Class>,
    pub(super) major: Option<u32>,
    pub(super) minor: Option<u32>,
    /// `MKNOD`, `READ` and `WRITE`.
    pub(super) access: u8,
}

impl Rule {
    /// Whether it is about everything there is.
    pub(super) fn is_all(&self) -> bool {
        (self.class, self.major, self.minor, self.access) == (None, None, None, ALL)
    }

    #[cfg(test)]
    fn fits(&self, class: Class, major: u32, minor: u32) -> bool {
        self.class.is_none_or(|own| own == class)
            && self.major.is_none_or(|own| own == major)
            && self.minor.is_none_or(|own| own == minor)
    }
}

/// `c 1:3 rwm`, as version 1 reads it.
impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let class = match self.class {
            None => 'a',
            Some(Class::Block) => 'b',
            Some(Class::Char) => 'c',
        };
        let number = |number: Option<u32>| number.map_or_else(|| "*".to_owned(), |number| number.to_string());
        write!(f, "{class} {}:{} {}", number(self.major), number(self.minor), letters(self.access))
    }
}

pub(super) fn letters(access: u8) -> String {
    [(READ, 'r'), (WRITE, 'w'), (MKNOD, 'm')]
        .iter()
        .filter(|(bit, _)| access & bit != 0)
        .map(|(_, letter)| letter)
        .collect()
}

/// Rules in the order of the spec. What no rule is about is denied.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Rules(pub(super) Vec<Rule>);

impl Rules {
    /// Those of [`default_devices`] that are not there already, with nothing denied after them.
    fn add_defaults(&mut self) {
        let denied = self.0.iter().rposition(|rule| !rule.allow).map_or(0, |index| index + 1);
        let later = self.0[denied..].to_vec();
        let defaults = default_devices().iter().filter_map(|rule| read(rule).ok()).collect::<Vec<_>>();
        self.0.extend(defaults.into_iter().filter(|rule| !later.contains(rule)));
    }

    /// What the rules mean: of each kind of access, the last rule about it counts.
    #[cfg(test)]
    pub(super) fn allow(&self, class: Class, major: u32, minor: u32, access: u8) -> bool {
        [MKNOD, READ, WRITE].iter().filter(|bit| access & **bit != 0).all(|bit| {
            let about = |rule: &&Rule| rule.access & bit != 0 && rule.fits(class, major, minor);
            self.0.iter().rev().find(about).is_some_and(|rule| rule.allow)
        })
    }
}

/// Reads and checks the rules.
pub(super) fn settings(resources: &LinuxResources, out: &mut Settings<'_>) {
    let Some(list) = resources.devices().as_ref().filter(|list| !list.is_empty()) else { return };
    let mut rules = Rules::default();
    for (index, rule) in list.iter().enumerate() {
        match read(rule) {
            Ok(rule) => rules.0.push(rule),
            Err(why) => out.invalid(&format!("devices[{index}]"), why),
        }
    }
    rules.add_defaults();
    let Some(home) = out.home("devices", "devices") else { return };
    if home.version == Version::V2 {
        out.wants.push(Want::Filter { home: home.index, rules });
        return;
    }
    match devices_v1::exceptions(&rules) {
        Ok(wanted) => {
            let before = out.live.and_then(|live| live.devices.clone());
            for (file, value) in wanted.writes(before.as_deref()) {
                out.write_first(home, &[(file, value)], "devices", Manner::Must);
            }
        }
        Err(rule) => out.unsupported(
            "devices",
            &format!("cgroup v1 can't express `{rule}` as an exception from a wider rule before it"),
        ),
    }
}

fn read(rule: &LinuxDeviceCgroup) -> Result<Rule, &'static str> {
    let class = match rule.typ().unwrap_or_default() {
        LinuxDeviceType::A => None,
        LinuxDeviceType::B => Some(Class::Block),
        LinuxDeviceType::C | LinuxDeviceType::U => Some(Class::Char),
        LinuxDeviceType::P => return Err("a FIFO is no device; the type is `a`, `b` or `c`"),
    };
    // The kernel's device numbers have 12 and 20 bits (MKDEV). Negative ones mean any, as with runc.
    let number = |number: Option<i64>, bits: u32| match number {
        None | Some(..0) => Ok(None),
        Some(number) => match u32::try_from(number) {
            Ok(number) if number < 1 << bits => Ok(Some(number)),
            _ => Err("a device number that the kernel doesn't have"),
        },
    };
    let mut access = 0;
    for letter in rule.access().as_deref().unwrap_or_default().chars() {
        access |= match letter {
            'r' => READ,
            'w' => WRITE,
            'm' => MKNOD,
            _ => return Err("access is made of `r`, `w` and `m`"),
        };
    }
    if access == 0 {
        return Err("says no access (`r`, `w`, `m`)");
    }
    let (major, minor) = (number(rule.major(), 12)?, number(rule.minor(), 20)?);
    Ok(Rule { allow: rule.allow(), class, major, minor, access })
}

/// Docker's rules: nothing but [`default_devices`] and the console (5:1). What a container gets by `--device` is added after them.
pub fn docker_devices() -> Vec<LinuxDeviceCgroup> {
    let mut rules = vec![rule(false, LinuxDeviceType::A, None, None, "rwm")];
    rules.extend(default_devices());
    rules.push(rule(true, LinuxDeviceType::C, Some(5), Some(1), "rwm"));
    rules
}

/// What every container may do (config-linux.md, "Default Devices"): make nodes, and use those that it has of null, zero,
/// full, tty, random, urandom, ptmx and terminals. A list of rules always comes with these, as with runc and
/// crun: specs rely on it, and say no more than that everything is denied.
pub fn default_devices() -> Vec<LinuxDeviceCgroup> {
    use LinuxDeviceType::{B, C};
    let mut rules = vec![rule(true, C, None, None, "m"), rule(true, B, None, None, "m")];
    for (major, minor) in [
        (1, Some(3)),
        (1, Some(5)),
        (1, Some(7)),
        (1, Some(8)),
        (1, Some(9)),
        (5, Some(0)),
        (5, Some(2)),
        (136, None),
    ] {
        rules.push(rule(true, C, Some(major), minor, "rwm"));
    }
    rules
}

fn rule(
    allow: bool,
    typ: LinuxDeviceType,
    major: Option<i64>,
    minor: Option<i64>,
    access: &str,
) -> LinuxDeviceCgroup {
    let mut rule = LinuxDeviceCgroupBuilder::default().build().unwrap_or_default();
    rule.set_allow(allow)
        .set_typ(Some(typ))
        .set_major(major)
        .set_minor(minor)
        .set_access(Some(access.to_owned()));
    rule
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rules(list: &[LinuxDeviceCgroup]) -> Rules {
        Rules(list.iter().map(|rule| read(rule).unwrap()).collect())
    }

    #[test]
    fn dockers_rules_mean_what_docker_says() {
        let rules = rules(&docker_devices());
        assert!(rules.allow(Class::Char, 1, 3, ALL));
        assert!(rules.allow(Class::Char, 136, 77, READ | WRITE));
        assert!(rules.allow(Class::Block, 8, 0, MKNOD));
        assert!(!rules.allow(Class::Block, 8, 0, READ));
        assert!(!rules.allow(Class::Char, 10, 200, READ)); // /dev/net/tun
        assert!(!rules.allow(Class::Char, 1, 1, READ)); // /dev/mem
    }

    #[test]
    fn bad_rules_are_told() {
        for bad in [
            rule(true, LinuxDeviceType::P, None, None, "rwm"),
            rule(true, LinuxDeviceType::C, Some(1 << 12), None, "rwm"),
            rule(true, LinuxDeviceType::C, None, Some(i64::MAX), "rwm"),
            rule(true, LinuxDeviceType::C, None, None, "rx"),
            rule(true, LinuxDeviceType::C, None, None, ""),
        ] {
            assert!(read(&bad).is_err(), "{bad}");
        }
        assert_eq!(
            read(&rule(true, LinuxDeviceType::U, Some(-1), Some(2), "r")).unwrap().to_string(),
            "c *:2 r"
        );
    }
}
