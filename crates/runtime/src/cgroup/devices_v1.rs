//! Device rules as version 1 has them: one default, and exceptions from it. The order that they are written in means
//! nothing to the kernel (Documentation/admin-guide/cgroup-v1/devices.rst), so the order of the spec is resolved here.

use std::collections::BTreeMap;

use super::devices::{Class, MKNOD, READ, Rule, Rules, WRITE};

/// What an exception is about. `None` is any number.
type Key = (Class, Option<u32>, Option<u32>);

/// A default, and the accesses that are not as it says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Exceptions {
    pub(super) allow: bool,
    pub(super) except: BTreeMap<Key, u8>,
}

/// What rules come to.
///
/// # Errors
/// The first rule that takes a part out of an exception, where the kernel can take out only wholes.
pub(super) fn exceptions(rules: &Rules) -> Result<Exceptions, Rule> {
    let mut state = Exceptions::default();
    for rule in &rules.0 {
        if rule.is_all() {
            state = Exceptions { allow: rule.allow, except: BTreeMap::new() };
            continue;
        }
        for class in
            [Class::Block, Class::Char].into_iter().filter(|class| rule.class.is_none_or(|own| own == *class))
        {
            let key = (class, rule.major, rule.minor);
            if rule.allow != state.allow {
                *state.except.entry(key).or_default() |= rule.access;
            } else if !state.take_back(key, rule.access) {
                return Err(*rule);
            }
        }
    }
    state.close();
    Ok(state)
}

impl Exceptions {
    /// Back to the default, for everything that the key covers. Whether that can be said.
    fn take_back(&mut self, key: Key, access: u8) -> bool {
        for (old, bits) in &mut self.except {
            if covers(key, *old) {
                *bits &= !access;
            } else if meet(key, *old).is_some() && *bits & access != 0 {
                return false;
            }
        }
        self.except.retain(|_, bits| *bits != 0);
        true
    }

    /// Where the default is to deny, the kernel wants all of an access from one exception. So each exception gets what
    /// wider ones give, and where two overlap there is one for what they have in common.
    fn close(&mut self) {
        if self.allow {
            return;
        }
        loop {
            let keys: Vec<Key> = self.except.keys().copied().collect();
            let pairs = keys.iter().flat_map(|one| keys.iter().filter_map(|other| meet(*one, *other)));
            let meets: Vec<Key> = pairs.collect();
            let mut changed = false;
            for key in meets {
                let given = self
                    .except
                    .iter()
                    .filter(|(wider, _)| covers(**wider, key))
                    .fold(0, |all, (_, bits)| all | bits);
                changed |= self.except.insert(key, given) != Some(given);
            }
            if !changed {
                return;
            }
        }
    }

    /// The writes that lead from what `devices.list` says, or from a new group, to this.
    pub(super) fn writes(&self, before: Option<&str>) -> Vec<(&'static str, String)> {
        let (same, other) =
            if self.allow { ("devices.allow", "devices.deny") } else { ("devices.deny", "devices.allow") };
        // The list of a group that allows by default shows no exceptions, so there is nothing to start from.
        let before = before.filter(|_| !self.allow).and_then(listed);
        let mut writes = Vec::new();
        if before.is_none() {
            writes.push((same, "a".to_owned()));
        }
        let before = before.unwrap_or_default();
        // What is added is added before anything is taken, so that what stays is there all the time.
        for (key, bits) in &self.except {
            let new = bits & !before.get(key).copied().unwrap_or(0);
            if new != 0 {
                writes.push((other, line(*key, new)));
            }
        }
        for (key, bits) in &before {
            let gone = bits & !self.except.get(key).copied().unwrap_or(0);
            if gone != 0 {
                writes.push((same, line(*key, gone)));
            }
        }
        writes
    }
}

fn line((class, major, minor): Key, access: u8) -> String {
    Rule { allow: true, class: Some(class), major, minor, access }.to_string()
}

fn covers(wide: Key, narrow: Key) -> bool {
    let part = |wide: Option<u32>, narrow: Option<u32>| wide.is_none() || wide == narrow;
    wide.0 == narrow.0 && part(wide.1, narrow.1) && part(wide.2, narrow.2)
}

/// What two keys have in common.
fn meet(one: Key, other: Key) -> Option<Key> {
    let part = |one: Option<u32>, other: Option<u32>| match (one, other) {
        (Some(one), Some(other)) if one != other => None,
        (one, other) => Some(one.or(other)),
    };
    (one.0 == other.0).then_some(())?;
    Some((one.0, part(one.1, other.1)?, part(one.2, other.2)?))
}

/// `devices.list`: `c 1:3 rwm` lines; `None` where the default is to allow.
fn listed(text: &str) -> Option<BTreeMap<Key, u8>> {
    let mut found = BTreeMap::new();
    for line in text.lines() {
        let mut words = line.split([' ', ':']);
        let class = match words.next()? {
            "b" => Class::Block,
            "c" => Class::Char,
            _ => return None,
        };
        let mut number = || words.next().map(|word| word.parse().ok());
        let key = (class, number()?, number()?);
        let access = words.next()?.chars().fold(0, |all, letter| {
            all | match letter {
                'r' => READ,
                'w' => WRITE,
                _ => MKNOD,
            }
        });
        found.insert(key, access);
    }
    Some(found)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cgroup::devices::ALL;

    const NULL: Key = (Class::Char, Some(1), Some(3));

    fn rule(allow: bool, class: Option<Class>, major: Option<u32>, minor: Option<u32>, access: u8) -> Rule {
        Rule { allow, class, major, minor, access }
    }

    #[test]
    fn the_order_of_the_spec_is_resolved() {
        let all = rule(true, None, None, None, ALL);
        let disk = rule(false, Some(Class::Block), Some(8), None, ALL);
        let back = rule(true, Some(Class::Block), Some(8), None, READ);
        let state = exceptions(&Rules(vec![rule(true, NULL.0.into(), NULL.1, NULL.2, ALL), all, disk, back]))
            .unwrap();
        assert_eq!(state.writes(None), [("devices.allow", "a".into()), ("devices.deny", "b 8:* wm".into())]);
        // A part of an exception can't be taken back.
        let part = rule(true, Some(Class::Block), Some(8), Some(1), READ);
        assert_eq!(exceptions(&Rules(vec![all, disk, part])), Err(part));
    }

    #[test]
    fn an_update_writes_the_difference() {
        let rules = Rules(vec![rule(true, NULL.0.into(), NULL.1, NULL.2, READ | WRITE)]);
        let wanted = exceptions(&rules).unwrap();
        let writes = wanted.writes(Some("c 1:3 rm\nb *:* m\n"));
        let expected =
            [("devices.allow", "c 1:3 w"), ("devices.deny", "b *:* m"), ("devices.deny", "c 1:3 m")];
        assert_eq!(writes, expected.map(|(file, text)| (file, text.to_owned())));
        assert_eq!(wanted.writes(Some("a *:* rwm\n")).first(), Some(&("devices.deny", "a".to_owned())));
    }

    #[test]
    fn overlapping_exceptions_have_one_for_what_they_share() {
        let major = rule(true, Some(Class::Char), Some(1), None, READ);
        let minor = rule(true, Some(Class::Char), None, Some(3), WRITE);
        let state = exceptions(&Rules(vec![major, minor])).unwrap();
        assert_eq!(state.except.get(&NULL), Some(&(READ | WRITE)));
    }
}
