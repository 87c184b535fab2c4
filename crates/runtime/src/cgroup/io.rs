//! Block devices' time and throughput (config-linux.md, "Block IO").

use oci_spec::runtime::{LinuxBlockIo, LinuxResources, LinuxThrottleDevice, LinuxWeightDevice};

use super::Version;
use super::op::Manner;
use super::settings::{Home, Settings};

pub(super) fn settings(resources: &LinuxResources, out: &mut Settings<'_>) {
    let Some(io) = resources.block_io() else { return };
    weights(io, out);
    for (devices, v1, v2, setting) in [
        (io.throttle_read_bps_device(), "read_bps_device", "rbps", "blockIO.throttleReadBpsDevice"),
        (io.throttle_write_bps_device(), "write_bps_device", "wbps", "blockIO.throttleWriteBpsDevice"),
        (io.throttle_read_iops_device(), "read_iops_device", "riops", "blockIO.throttleReadIOPSDevice"),
        (io.throttle_write_iops_device(), "write_iops_device", "wiops", "blockIO.throttleWriteIOPSDevice"),
    ] {
        for device in devices.iter().flatten() {
            throttle(device, v1, v2, setting, out);
        }
    }
}

/// The controller has a name of its own in each version.
fn home(setting: &str, out: &mut Settings<'_>) -> Option<Home<'static>> {
    let controller = if out.has("blkio") { "blkio" } else { "io" };
    out.home(controller, setting)
}

fn throttle(device: &LinuxThrottleDevice, v1: &str, v2: &str, setting: &str, out: &mut Settings<'_>) {
    let Some(home) = home(setting, out) else { return };
    let (major, minor, rate) = (device.major(), device.minor(), device.rate());
    match home.version {
        Version::V1 => {
            out.write(home, &format!("blkio.throttle.{v1}"), format!("{major}:{minor} {rate}"), setting);
        }
        // In version 1, zero takes a limit back.
        Version::V2 => {
            let rate = if rate == 0 { "max".to_owned() } else { rate.to_string() };
            out.write(home, "io.max", format!("{major}:{minor} {v2}={rate}"), setting);
        }
    }
}

fn weights(io: &LinuxBlockIo, out: &mut Settings<'_>) {
    if let Some(weight) = io.weight().filter(|weight| *weight != 0) {
        let setting = "blockIO.weight";
        if let Some(home) = home(setting, out).filter(|_| in_range(weight, setting, out)) {
            out.write_first(home, &choices(home, None, weight), setting, Manner::Must);
        }
    }
    leaf(io.leaf_weight(), "blkio.leaf_weight", None, "blockIO.leafWeight", out);
    for device in io.weight_device().iter().flatten() {
        per_device(device, out);
    }
}

fn per_device(device: &LinuxWeightDevice, out: &mut Settings<'_>) {
    let place = (device.major(), device.minor());
    if let Some(weight) = device.weight() {
        let setting = "blockIO.weightDevice";
        if let Some(home) = home(setting, out).filter(|_| in_range(weight, setting, out)) {
            out.write_first(home, &choices(home, Some(place), weight), setting, Manner::Must);
        }
    }
    leaf(
        device.leaf_weight(),
        "blkio.leaf_weight_device",
        Some(place),
        "blockIO.weightDevice.leafWeight",
        out,
    );
}

/// The files that may take a weight. The scheduler BFQ has its own, with the scale of version 1 in both versions, and
/// they are there only while it is loaded; `io.weight` is that of the iocost controller.
fn choices(home: Home<'_>, device: Option<(i64, i64)>, weight: u16) -> Vec<(&'static str, String)> {
    let of = |weight: u32| match device {
        Some((major, minor)) => format!("{major}:{minor} {weight}"),
        None => weight.to_string(),
    };
    let plain = of(weight.into());
    match (home.version, device) {
        (Version::V1, None) => vec![("blkio.weight", plain.clone()), ("blkio.bfq.weight", plain)],
        (Version::V1, Some(_)) => {
            vec![("blkio.weight_device", plain.clone()), ("blkio.bfq.weight_device", plain)]
        }
        (Version::V2, _) => vec![("io.bfq.weight", plain), ("io.weight", of(io_weight(weight)))],
    }
}

/// Weights of a group's own processes against its children: version 1 with the CFQ scheduler, up to Linux 4.20.
fn leaf(weight: Option<u16>, file: &str, device: Option<(i64, i64)>, setting: &str, out: &mut Settings<'_>) {
    let Some(weight) = weight.filter(|weight| *weight != 0) else { return };
    let Some(home) = home(setting, out).filter(|_| in_range(weight, setting, out)) else { return };
    if home.version == Version::V2 {
        return out.only_v1(setting);
    }
    let value =
        device.map_or_else(String::new, |(major, minor)| format!("{major}:{minor} ")) + &weight.to_string();
    out.write(home, file, value, setting);
}

fn in_range(weight: u16, setting: &str, out: &mut Settings<'_>) -> bool {
    let fits = (10..=1000).contains(&weight);
    if !fits {
        out.invalid(setting, "must be from 10 to 1000");
    }
    fits
}

/// 10 to 1000 (version 1) on the scale from 1 to 10000 (version 2), linear as the specification's runtimes do.
fn io_weight(weight: u16) -> u32 {
    1 + (u32::from(weight) - 10) * 9999 / 990
}
