//! What is known of a container besides what it is doing: what it was made of, and what it has.

use std::collections::HashSet;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use coracle_build::RunConfig;
use coracle_host::{Call, Dir};
use rustix::fs::{AtFlags, FileType, statat};
use rustix::io::Errno;

use super::config;
use super::handle::Container;
use super::healthcheck::HealthCheck;
use super::record::UPPER;
use super::restart::Restart;
use crate::error::{Doing, Result};
use crate::stack::Mode;
use crate::{Attached, Image, Kind, Network, Port};

impl Container {
    /// Whether it was made from this image, or from one that has all of its layers below its own.
    pub fn descends_from(&self, image: &Image) -> bool {
        self.record.image_id == image.id()
            || image.stored().layers().last().is_some_and(|top| self.record.layers.contains(top))
    }

    /// How it is run, in an image's words: its image's configuration, and what its spec says instead.
    pub fn config(&self) -> &RunConfig {
        &self.record.config
    }

    /// Its directory in the state directory (STATE.md).
    pub fn directory(&self) -> &Path {
        self.room.path()
    }

    /// The directories that its image's layers are in, the lowest first; what it changed is in `upper` of its own.
    pub fn trees(&self) -> Vec<PathBuf> {
        let layers = self.engine.path().join("layers");
        self.record.layers.iter().map(|id| layers.join(id.hex()).join("fs")).collect()
    }

    /// Its environment, as `NAME=value`, with what every process has.
    pub fn env(&self) -> &[String] {
        let process = self.record.spec.process().as_ref();
        process.and_then(|process| process.env().as_deref()).unwrap_or_default()
    }

    /// Its working directory.
    pub fn workdir(&self) -> &Path {
        self.record.spec.process().as_ref().map_or(Path::new("/"), |process| process.cwd())
    }

    /// Who runs it, as it was asked for; empty for root.
    pub fn user(&self) -> &str {
        &self.record.config.user
    }

    /// Its host name.
    pub fn hostname(&self) -> &str {
        &self.record.hostname
    }

    /// Whether its streams are a terminal.
    pub fn has_terminal(&self) -> bool {
        self.record.terminal()
    }

    /// Whether its standard input is somebody's: its starter's, or that of those who attach.
    pub fn has_stdin(&self) -> bool {
        self.record.interactive || self.record.open_stdin
    }

    /// Whether its standard input ends with the first one who attaches.
    pub fn has_stdin_once(&self) -> bool {
        self.record.stdin_once
    }

    /// Its NIS domain name, where it was given one.
    pub fn domainname(&self) -> Option<&str> {
        self.record.spec.domainname().as_deref()
    }

    /// How long it has to end after it was asked to, where that was said; [`Duration::MAX`] for no end of it.
    pub fn stop_timeout(&self) -> Option<Duration> {
        self.record.stop_timeout
    }

    /// Whether its root file system can't be written to.
    pub fn is_read_only(&self) -> bool {
        self.record.spec.root().as_ref().is_some_and(|root| root.readonly() == Some(true))
    }

    /// Whether it is removed as soon as it has ended.
    pub fn goes_with_its_end(&self) -> bool {
        !self.record.retain
    }

    /// Whether it is started again when it ends by itself.
    pub fn restart_policy(&self) -> Restart {
        self.record.restart
    }

    /// How it is asked whether it is well, if it is.
    pub fn health_check(&self) -> Option<&HealthCheck> {
        self.record.health.as_ref()
    }

    /// The ports that it wants published, in docker's `-p` form.
    pub fn publishes(&self) -> &[String] {
        &self.record.publish
    }

    /// The ports that it and its image say that they serve, in order.
    pub fn exposed(&self) -> Vec<Port> {
        // What is no port was refused when it was made.
        config::exposed(&self.record.config, &mut Vec::new())
    }

    /// Whether all of these were to be published ([`ContainerSpec::publish_exposed`](crate::ContainerSpec::publish_exposed)).
    pub fn publishes_exposed(&self) -> bool {
        self.record.publish_exposed
    }

    /// The name servers that it asks for instead of the host's.
    pub fn dns(&self) -> &[IpAddr] {
        &self.record.resolver.servers
    }

    /// The search domains that it asks for instead of the host's.
    pub fn dns_search(&self) -> &[String] {
        &self.record.resolver.search
    }

    /// The options of resolv.conf(5) that it asks for instead of the host's.
    pub fn dns_options(&self) -> &[String] {
        &self.record.resolver.options
    }

    /// The lines that were added to its `/etc/hosts`: names, each with an address, or `host-gateway` for the host's.
    pub fn added_hosts(&self) -> Vec<(&str, String)> {
        self.record.hosts.iter().map(|(name, address)| (name.as_str(), String::from(*address))).collect()
    }

    /// The networks that it asks for, by name; `host` for the host's own, `none` for loopback only, and the id of the
    /// container whose network it shares.
    pub fn network_names(&self) -> Vec<&str> {
        match &self.record.network {
            Mode::Host => vec!["host"],
            Mode::None => vec!["none"],
            Mode::Container(id) => vec![id],
            Mode::Networks(networks) => networks.iter().map(|one| one.network.as_str()).collect(),
        }
    }

    /// Its places on its networks, while it runs.
    ///
    /// # Errors
    /// `Corrupt` where a lease can't be read.
    pub fn endpoints(&self) -> Result<Vec<(Network, Attached)>> {
        let Mode::Networks(networks) = &self.record.network else { return Ok(Vec::new()) };
        let mut endpoints = Vec::new();
        for one in networks {
            let network = match self.engine.0.network(&one.network) {
                Err(error) if error.kind() == Kind::NotFound => continue,
                network => network?,
            };
            let attached = network.attached()?.into_iter().find(|one| one.container == self.record.id);
            endpoints.extend(attached.map(|attached| (Network(network), attached)));
        }
        Ok(endpoints)
    }

    /// How much it has written into its root file system: the lengths of all files of its own layer, in bytes. A file of
    /// several names counts once, and what vanishes meanwhile doesn't.
    ///
    /// # Errors
    /// As of openat(2) and getdents(2).
    pub fn written(&self) -> Result<u64> {
        let doing = || format!("measure container `{}`", self.name());
        let Some(upper) = self.room.dir_if_there(UPPER).doing(doing)? else { return Ok(0) };
        let mut bytes = 0;
        let mut seen = HashSet::new();
        let mut ahead = vec![(upper.names().doing(doing)?, upper)];
        while let Some((names, dir)) = ahead.last_mut() {
            let Some(name) = names.pop() else {
                ahead.pop();
                continue;
            };
            let stat = match statat(&*dir, &name, AtFlags::SYMLINK_NOFOLLOW) {
                Err(Errno::NOENT) => continue,
                stat => stat.call(|| format!("lstat({:?})", dir.path_of(&name))).doing(doing)?,
            };
            if FileType::from_raw_mode(stat.st_mode) == FileType::Directory {
                // Somebody in it may have replaced it by now.
                match below(dir, &name) {
                    Ok(found) => ahead.push(found),
                    Err(error)
                        if matches!(error.errno(), Some(Errno::NOENT | Errno::NOTDIR | Errno::LOOP)) => {}
                    Err(error) => return Err(error).doing(doing),
                }
            } else if stat.st_nlink < 2 || seen.insert((stat.st_dev, stat.st_ino)) {
                bytes += u64::try_from(stat.st_size).unwrap_or(0);
            }
        }
        Ok(bytes)
    }
}

fn below(dir: &Dir, name: &std::ffi::OsStr) -> coracle_host::Result<(Vec<std::ffi::OsString>, Dir)> {
    let dir = dir.dir(name)?;
    Ok((dir.names()?, dir))
}
