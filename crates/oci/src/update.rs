//! update: other limits for a container that is there.

use std::io::Read;

use coracle_runtime::cgroup::Hierarchies;
use oci_spec::runtime::{LinuxBlockIo, LinuxCpu, LinuxMemory, LinuxPids, LinuxResources};

use crate::cgroup;
use crate::cli::Update;
use crate::error::{During, Error, Result};
use crate::record::{Home, Status};

pub(crate) fn update(home: &Home, options: &Update) -> Result<()> {
    let found = home.find(&options.id)?;
    let _lock = found.lock()?;
    if found.status()? == Status::Stopped {
        return Err(Error::new(format!("container `{}` is stopped", options.id)));
    }
    let resources = match &options.resources {
        Some(path) => read(path)?,
        None => resources(options),
    };
    let mut group = cgroup::of(found.record()?)?;
    let updated = group.update(&resources, &Hierarchies::of_this_host()?);
    let _kept = group.leave();
    Ok(updated?)
}

fn read(path: &std::path::Path) -> Result<LinuxResources> {
    let mut text = Vec::new();
    if path == std::path::Path::new("-") {
        std::io::stdin().read_to_end(&mut text).during(|| "read standard input".to_owned())?;
    } else {
        text = std::fs::read(path).during(|| format!("read {path:?}"))?;
    }
    serde_json::from_slice(&text).during(|| format!("read {path:?}"))
}

fn resources(options: &Update) -> LinuxResources {
    let mut resources = LinuxResources::default();
    resources.set_devices(None);
    let mut memory = LinuxMemory::default();
    memory
        .set_limit(options.memory)
        .set_reservation(options.memory_reservation)
        .set_swap(options.memory_swap);
    if memory != LinuxMemory::default() {
        resources.set_memory(Some(memory));
    }
    let mut cpu = LinuxCpu::default();
    cpu.set_shares(options.cpu_shares)
        .set_quota(options.cpu_quota)
        .set_period(options.cpu_period)
        .set_cpus(options.cpuset_cpus.clone())
        .set_mems(options.cpuset_mems.clone());
    if cpu != LinuxCpu::default() {
        resources.set_cpu(Some(cpu));
    }
    if let Some(limit) = options.pids_limit {
        let mut pids = LinuxPids::default();
        pids.set_limit(limit);
        resources.set_pids(Some(pids));
    }
    if let Some(weight) = options.blkio_weight {
        let mut io = LinuxBlockIo::default();
        io.set_weight(Some(weight));
        resources.set_block_io(Some(io));
    }
    resources
}
