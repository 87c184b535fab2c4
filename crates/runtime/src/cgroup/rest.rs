//! Process counts, huge pages, network tags, RDMA, and settings of version 2 by their own names (config-linux.md,
//! "PIDs", "Huge page limits", "Network", "RDMA", "Unified").

use oci_spec::runtime::LinuxResources;

use super::Version;
use super::op::Manner;
use super::settings::{Settings, limit};

pub(super) fn settings(resources: &LinuxResources, out: &mut Settings<'_>) {
    if let Some(pids) = resources.pids().as_ref().filter(|pids| pids.limit() != 0)
        && let Some(home) = out.home("pids", "pids.limit")
    {
        out.write(home, "pids.max", limit(pids.limit(), Version::V2), "pids.limit");
    }
    hugetlb(resources, out);
    network(resources, out);
    let mut rdma: Vec<_> = resources.rdma().iter().flatten().collect();
    rdma.sort_by_key(|(device, _)| *device);
    for (device, limits) in rdma {
        let Some(home) = out.home("rdma", "rdma") else { continue };
        let mut value = device.clone();
        for (key, limit) in [("hca_handle", limits.hca_handles()), ("hca_object", limits.hca_objects())] {
            value += &limit.map_or_else(String::new, |limit| format!(" {key}={limit}"));
        }
        out.write(home, "rdma.max", value, "rdma");
    }
    unified(resources, out);
}

fn hugetlb(resources: &LinuxResources, out: &mut Settings<'_>) {
    for page in resources.hugepage_limits().iter().flatten() {
        let (size, setting) = (page.page_size(), "hugepageLimits");
        let unit = size.trim_start_matches(|c: char| c.is_ascii_digit());
        if unit.len() == size.len() || !matches!(unit, "KB" | "MB" | "GB") {
            out.invalid(setting, &format!("{size:?} is no page size, as in `2MB`"));
            continue;
        }
        let Some(home) = out.home("hugetlb", setting) else { continue };
        let file = if home.version == Version::V1 { "limit_in_bytes" } else { "max" };
        let value = limit(page.limit(), home.version);
        out.write(home, &format!("hugetlb.{size}.{file}"), &value, setting);
        // What is reserved counts against a limit of its own since Linux 5.7, and without it only when used.
        out.write_first(home, &[(&format!("hugetlb.{size}.rsvd.{file}"), value)], setting, Manner::IfThere);
    }
}

fn network(resources: &LinuxResources, out: &mut Settings<'_>) {
    let Some(network) = resources.network() else { return };
    if let Some(class) = network.class_id().filter(|class| *class != 0)
        && let Some(home) = out.home("net_cls", "network.classID")
    {
        out.write(home, "net_cls.classid", class, "network.classID");
    }
    for priority in network.priorities().iter().flatten() {
        let Some(home) = out.home("net_prio", "network.priorities") else { continue };
        let value = format!("{} {}", priority.name(), priority.priority());
        out.write(home, "net_prio.ifpriomap", value, "network.priorities");
    }
}

/// File names of version 2 and what to write to them, a line at a time.
fn unified(resources: &LinuxResources, out: &mut Settings<'_>) {
    let mut files: Vec<_> = resources.unified().iter().flatten().collect();
    files.sort();
    for (file, text) in files {
        let setting = format!("unified[{file:?}]");
        let controller = file.split('.').next().unwrap_or_default();
        if file.contains('/') || controller.len() == file.len() || controller.is_empty() {
            out.invalid(&setting, "is no file of a control group");
            continue;
        }
        // `cgroup.freeze` and the like are of the kernel's core, and say where processes may be, not what they get.
        if controller == "cgroup" {
            out.invalid(&setting, "is no resource");
            continue;
        }
        let Some(home) = out.home(controller, &setting) else { continue };
        if home.version == Version::V1 {
            out.unsupported(&setting, &format!("the controller `{controller}` is mounted as cgroup v1 here"));
            continue;
        }
        for line in text.lines() {
            out.write(home, file, line, &setting);
        }
    }
}
