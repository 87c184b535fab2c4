//! `--chown=user[:group]`: numbers, or names of the tree that is copied to.

use coracle_host::{Kind, Root};

use crate::error::{Error, Result};

/// The ids that `text` means. A number alone stands for both; a name alone brings its own group (passwd(5)). No user before
/// the colon is root, and no group after it root's.
///
/// # Errors
/// `NotFound` for a name that the tree's `/etc/passwd` or `/etc/group` doesn't have.
pub(crate) fn resolve(root: &Root<'_>, text: &str) -> Result<(u32, u32)> {
    let (user, group) = match text.split_once(':') {
        Some((user, group)) => (user, Some(group)),
        None => (text, None),
    };
    let (uid, own_gid) = match user.parse::<u32>() {
        Ok(uid) => (uid, uid),
        Err(_) if user.is_empty() => (0, 0),
        Err(_) => {
            let line = entry(root, "etc/passwd", user)?.ok_or_else(|| {
                Error::new(Kind::NotFound, format!("there is no user `{user}` in /etc/passwd"))
            })?;
            let id = |field: usize| line.get(field).and_then(|f| f.parse::<u32>().ok());
            id(2)
                .zip(id(3))
                .ok_or_else(|| Error::new(Kind::Corrupt, format!("/etc/passwd has no ids for `{user}`")))?
        }
    };
    let gid = match group {
        None => own_gid,
        Some("") => 0,
        Some(group) => match group.parse::<u32>() {
            Ok(gid) => gid,
            Err(_) => entry(root, "etc/group", group)?
                .and_then(|line| line.get(2).and_then(|f| f.parse().ok()))
                .ok_or_else(|| {
                    Error::new(Kind::NotFound, format!("there is no group `{group}` in /etc/group"))
                })?,
        },
    };
    Ok((uid, gid))
}

/// The fields of the line that begins with `name:`.
fn entry(root: &Root<'_>, file: &str, name: &str) -> Result<Option<Vec<String>>> {
    if name.is_empty() {
        return Ok(None);
    }
    let bytes = root.read_if_there(file)?.unwrap_or_default();
    let text = String::from_utf8_lossy(&bytes);
    let found = text.lines().map(|l| l.split(':')).find(|l| l.clone().next() == Some(name));
    Ok(found.map(|l| l.map(str::to_owned).collect()))
}
