//! Users and groups by name, from an image's own passwd(5) and group(5).

use std::fmt;

/// Who a process runs as, resolved to numbers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resolved {
    /// The user id.
    pub uid: u32,
    /// The group id.
    pub gid: u32,
    /// Supplementary groups: those that list the user, unless a group was named.
    pub groups: Vec<u32>,
    /// The home directory, where the user is known.
    pub home: Option<String>,
}

/// A user or group that is neither a number nor known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unknown {
    what: &'static str,
    name: String,
    file: &'static str,
}

impl fmt::Display for Unknown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "unable to find {} `{}` in the image's {}", self.what, self.name, self.file)
    }
}

impl std::error::Error for Unknown {}

/// Resolves `user`, `uid`, `user:group`, `uid:gid`; the empty string is root (Dockerfile reference, USER). The
/// files' contents may be anything; lines that make no sense are passed over. A number needs no entry.
///
/// # Errors
/// A name that has no entry.
pub fn resolve(user: &str, passwd: &[u8], group: &[u8]) -> Result<Resolved, Unknown> {
    let (user, named_group) = match user.split_once(':') {
        Some((user, group)) => (user, Some(group).filter(|group| !group.is_empty())),
        None => (user, None),
    };
    let user = if user.is_empty() { "0" } else { user };
    let (passwd, group) = (String::from_utf8_lossy(passwd), String::from_utf8_lossy(group));
    let number: Option<u32> = user.parse().ok();
    if number.is_none() && is_number(user) {
        // Whom the image gives that name is not who was meant.
        return Err(Unknown { what: "user", name: user.to_owned(), file: "/etc/passwd" });
    }
    let entry = passwd.lines().find_map(|line| {
        let fields: Vec<&str> = line.split(':').collect();
        let (name, uid, gid) = (*fields.first()?, fields.get(2)?.parse().ok()?, fields.get(3)?.parse().ok()?);
        let found = (number.is_none() && name == user) || number == Some(uid);
        found.then(|| (name.to_owned(), uid, gid, fields.get(5).map(|home| (*home).to_owned())))
    });
    let (name, uid, gid, home) = match (entry, number) {
        (Some(entry), _) => entry,
        (None, Some(uid)) => (String::new(), uid, 0, None),
        (None, None) => return Err(Unknown { what: "user", name: user.to_owned(), file: "/etc/passwd" }),
    };
    let groups = group.lines().filter_map(|line| {
        let fields: Vec<&str> = line.split(':').collect();
        Some((*fields.first()?, fields.get(2)?.parse::<u32>().ok()?, *fields.get(3).unwrap_or(&"")))
    });
    if let Some(named) = named_group {
        let named_so = |(group, ..): &(&str, u32, &str)| *group == named && !is_number(named);
        let known = groups.clone().find(named_so).map(|(_, gid, _)| gid);
        let Some(gid) = known.or_else(|| named.parse().ok()) else {
            return Err(Unknown { what: "group", name: named.to_owned(), file: "/etc/group" });
        };
        return Ok(Resolved { uid, gid, groups: Vec::new(), home });
    }
    let member = |members: &str| !name.is_empty() && members.split(',').any(|member| member.trim() == name);
    let groups = groups.filter(|(.., members)| member(members)).map(|(_, gid, _)| gid).collect();
    Ok(Resolved { uid, gid, groups, home })
}

/// Whether it is meant as a number, also where no id is that large (CVE-2026-46680).
fn is_number(name: &str) -> bool {
    !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_digit())
}

/// Ids of groups by name or number (docker's `--group-add`). A number needs no entry.
///
/// # Errors
/// A name that has no entry.
pub fn groups<'a>(names: impl IntoIterator<Item = &'a str>, group: &[u8]) -> Result<Vec<u32>, Unknown> {
    let text = String::from_utf8_lossy(group);
    let find = |name: &str| {
        let entry = text.lines().find_map(|line| {
            let mut fields = line.split(':');
            (fields.next() == Some(name)).then(|| fields.nth(1)?.parse().ok()).flatten()
        });
        let unknown = || Unknown { what: "group", name: name.to_owned(), file: "/etc/group" };
        let entry = entry.filter(|_| !is_number(name));
        entry.or_else(|| name.parse().ok()).ok_or_else(unknown)
    };
    names.into_iter().map(find).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const PASSWD: &[u8] = b"root:x:0:0:root:/root:/bin/sh\nbroken\napp:x:1000:1001:app:/home/app:/bin/sh\n";
    const GROUP: &[u8] = b"root:x:0:\nwheel:x:10:root,app\napp:x:1001:\n\xff:x:7:app\n";

    fn ids(user: &str) -> (u32, u32, Vec<u32>) {
        let resolved = resolve(user, PASSWD, GROUP).unwrap();
        (resolved.uid, resolved.gid, resolved.groups)
    }

    #[test]
    fn names_and_numbers() {
        assert_eq!(ids(""), (0, 0, vec![10]));
        assert_eq!(ids("app"), (1000, 1001, vec![10, 7]));
        assert_eq!(ids("1000"), (1000, 1001, vec![10, 7]));
        assert_eq!(ids("4242"), (4242, 0, vec![]));
        assert_eq!(ids("app:wheel"), (1000, 10, vec![]));
        assert_eq!(ids("app:77"), (1000, 77, vec![]));
        assert_eq!(ids("5:6"), (5, 6, vec![]));
        assert_eq!(resolve("app", PASSWD, GROUP).unwrap().home.as_deref(), Some("/home/app"));
        let error = resolve("nobody", PASSWD, GROUP).unwrap_err();
        assert_eq!(error.to_string(), "unable to find user `nobody` in the image's /etc/passwd");
        assert!(resolve("app:none", PASSWD, GROUP).is_err());
        assert_eq!(groups(["wheel", "77", "app"], GROUP).unwrap(), [10, 77, 1001]);
        assert!(groups(["none"], GROUP).is_err());
    }

    #[test]
    fn a_number_is_no_name() {
        let passwd = b"4294967296:x:0:0::/root:/bin/sh\n7:x:0:0::/:/bin/sh\n";
        let group = b"4294967296:x:0:\n8:x:0:\n";
        for user in ["4294967296", "99999999999999999999", "7:4294967296"] {
            assert!(resolve(user, passwd, group).is_err(), "{user}");
        }
        let resolved = resolve("7:8", passwd, group).unwrap();
        assert_eq!((resolved.uid, resolved.gid), (7, 8));
        assert!(groups(["4294967296"], group).is_err());
        assert_eq!(groups(["8"], group).unwrap(), [8]);
    }
}
