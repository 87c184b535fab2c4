//! systemd is asked to make, change and remove a scope.

use std::path::Path;
use std::time::Duration;

use coracle_host::{Error, Kind, Result};

use super::connection::Connection;
use super::hold::Holder;
use super::message::Arg;
use super::unit::Unit;
use super::value::Value;
use super::{Scope, value::Property};
use crate::cgroup::read;

/// How long a job may take.
const PATIENCE: Duration = Duration::from_secs(30);
/// How long the unit of a group that is gone may take to be gone, too.
const LEAVING: Duration = Duration::from_secs(5);

/// Starts the scope. It lasts while the process that it comes with does, or another one has entered its directory.
///
/// # Errors
/// `AlreadyExists` where there is one; as of [`Connection::open`], and what systemd refuses.
pub(in crate::cgroup) fn start(unit: &Unit, dir: &Path) -> Result<Holder> {
    let name = unit.scope.unit();
    match try_start(unit, dir) {
        // It may have ended, and wait to be collected.
        Err(error) if error.kind() == Kind::AlreadyExists && !is_populated(dir)? => {
            let gone = Connection::open(LEAVING).and_then(|mut manager| {
                // An answer comes behind the signals of what was before: one that is still there is heard to go.
                match manager.call("GetUnit", &[Arg::Str(name)]) {
                    Err(error) if error.kind() == Kind::NotFound => Ok(()),
                    Err(error) => Err(error),
                    Ok(_) => manager.wait("UnitRemoved", name).map(drop),
                }
            });
            gone.map_err(|_| error)?;
            try_start(unit, dir)
        }
        other => other,
    }
}

fn try_start(unit: &Unit, dir: &Path) -> Result<Holder> {
    let name = unit.scope.unit();
    let mut manager = Connection::open(PATIENCE)?;
    let holder = Holder::start()?;
    let pid = holder.pid()?;
    let mut properties: Vec<Property> = unit.properties();
    properties.push(("PIDs".to_owned(), Value::U32s(vec![pid])));
    let args = [Arg::Str(name), Arg::Str("fail"), Arg::Properties(&properties), Arg::NoUnits];
    let job = manager.call("StartTransientUnit", &args)?;
    done(&mut manager, &job, "start", name)?;
    let there = read::text(&dir.join("cgroup.procs"))?;
    if !there.lines().any(|line| line.trim().parse() == Ok(pid)) {
        let text = format!(
            "systemd has made {name}, and its processes are not in {}: this process sees other control groups than systemd",
            dir.display()
        );
        return Err(Error::new(Kind::Unsupported, text));
    }
    Ok(holder)
}

/// Changes what its resources are, for as long as it is there.
///
/// # Errors
/// What systemd refuses.
pub(in crate::cgroup) fn set(unit: &Unit) -> Result<()> {
    let args = [Arg::Str(unit.scope.unit()), Arg::Bool(true), Arg::Properties(&unit.resources)];
    Connection::open(PATIENCE)?.call("SetUnitProperties", &args).map(drop)
}

/// Stops it, and waits until it is gone. Nothing has to be in it: what is, is killed. That there is none is fine.
///
/// # Errors
/// What systemd refuses, `Timeout`.
pub(in crate::cgroup) fn stop(scope: &Scope) -> Result<()> {
    let mut manager = Connection::open(PATIENCE)?;
    match manager.call("StopUnit", &[Arg::Str(scope.unit()), Arg::Str("replace")]) {
        Err(error) if error.kind() == Kind::NotFound => Ok(()),
        Err(error) => Err(error),
        Ok(job) => done(&mut manager, &job, "stop", scope.unit()),
    }
}

/// Waits for the job that was the answer.
fn done(manager: &mut Connection, job: &[String], verb: &str, name: &str) -> Result<()> {
    let Some(job) = job.first() else {
        let text = format!("systemd: {verb} {name}: it names no job");
        return Err(Error::new(Kind::Corrupt, text));
    };
    match manager.wait("JobRemoved", job)?.last().map(String::as_str) {
        Some("done") => Ok(()),
        result => {
            let result = result.unwrap_or_default();
            let text = format!("systemd: {verb} {name}: {result}; `systemctl status {name}` may say more");
            Err(Error::new(if result == "timeout" { Kind::Timeout } else { Kind::Failed }, text))
        }
    }
}

/// Whether a process is in it, or in a group below it.
fn is_populated(dir: &Path) -> Result<bool> {
    let events = read::optional(&dir.join("cgroup.events"))?.unwrap_or_default();
    Ok(events.lines().any(|line| line == "populated 1"))
}
