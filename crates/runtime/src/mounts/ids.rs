//! Mounts whose owners are mapped (config.md, "Mounts", `uidMappings` and `gidMappings`, and the options `idmap` and
//! `ridmap`).

use oci_spec::runtime::Mount;

use super::Options;
use crate::Shown;
use crate::error::Problem;
use crate::userns::IdMap;

/// Whether anything of it is said.
pub(super) fn asked(mount: &Mount, options: &Options) -> bool {
    options.mapped.is_some() || mount.uid_mappings().is_some() || mount.gid_mappings().is_some()
}

/// How the owners are shown, where not as they are. Without a mapping of its own a mount has the container's.
pub(super) fn shown(
    mount: &Mount,
    options: &Options,
    name: &str,
    users: bool,
) -> Result<Option<Shown>, Problem> {
    if !asked(mount, options) {
        return Ok(None);
    }
    let recursive = options.mapped == Some(true);
    let (uids, gids) = (mount.uid_mappings().as_deref(), mount.gid_mappings().as_deref());
    if uids.is_some() || gids.is_some() {
        let map = IdMap::of(uids, gids, &format!("{name}: "));
        let map = map.map_err(|texts| Problem::invalid(texts.join("; ")))?;
        return Ok(Some(Shown { map: Some(map), recursive }));
    }
    if !users {
        let text = format!("{name}: `idmap` without mappings, and the container has no user namespace");
        return Err(Problem::invalid(text));
    }
    Ok(Some(Shown { map: None, recursive }))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use crate::check::tests::merged;
    use crate::{Facts, Plan};

    fn attached(mount: serde_json::Value, user: bool) -> Result<String, String> {
        let ids = json!([{ "containerID": 0, "hostID": 1000, "size": 10 }]);
        let namespaces = json!([{ "type": "mount" }, { "type": "user" }]);
        let linux = match user {
            true => json!({ "namespaces": namespaces, "uidMappings": ids, "gidMappings": ids }),
            false => json!({}),
        };
        let spec = merged(json!({ "mounts": [mount], "linux": linux }));
        let plan = Plan::container(&spec, &Facts::assumed(&[])).map_err(|error| error.to_string())?;
        let lines: Vec<String> = plan.steps().iter().map(ToString::to_string).collect();
        Ok(lines.into_iter().find(|line| line.ends_with("at ./m")).unwrap())
    }

    #[test]
    fn of_its_own_or_of_the_container() {
        let bind = |more: serde_json::Value| {
            let mut all = json!({ "destination": "/m", "type": "bind", "source": "/s" });
            all.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            all
        };
        let ids = json!([{ "containerID": 0, "hostID": 7, "size": 1 }]);
        let own = json!({ "uidMappings": ids, "gidMappings": ids });
        let text = "attach bind of /s, mapped (uids 0:7:1, gids 0:7:1) at ./m";
        assert_eq!(attached(bind(own.clone()), false).unwrap(), text);
        let mut deep = own;
        deep["options"] = json!(["rbind", "ridmap", "ro"]);
        let text = "attach rbind of /s (ro), with all below it mapped (uids 0:7:1, gids 0:7:1) at ./m";
        assert_eq!(attached(bind(deep), true).unwrap(), text);
        let container = bind(json!({ "options": ["idmap"] }));
        assert_eq!(attached(container.clone(), true).unwrap(), "attach bind of /s, mapped at ./m");
        let refused = "mounts[/m]: `idmap` without mappings, and the container has no user namespace";
        assert_eq!(attached(container, false).unwrap_err(), refused);
        let half = attached(bind(json!({ "uidMappings": ids })), false).unwrap_err();
        assert_eq!(half, "mounts[/m]: gidMappings: 0 ranges, and 1 to 340 are allowed");
    }
}
