//! Control groups that systemd makes: scopes (systemd.scope(5)), in version 2.
//!
//! Who writes to a hierarchy that systemd keeps has to leave it to systemd, or be given a part of it
//! (systemd.resource-control(5), `Delegate=`): a *scope* is such a part, for processes that others start. It is named by
//! `slice:prefix:name` where the runtimes' configuration has a path, and lives as long as a process is in it: what is
//! killed with all that it made leaves no unit.
//!
//! systemd is asked through its own socket, as systemctl(1) does, in the few messages of D-Bus that this takes: no bus
//! has to run, and no library brings threads of its own along. `value`, `message`, `scope` and `properties` only compute.

mod connection;
mod hold;
mod manager;
mod message;
mod properties;
mod scope;
mod unit;
mod value;

pub(super) use hold::Holder;
pub(super) use manager::{set, start, stop};
pub(super) use scope::Scope;
pub(super) use unit::{ITS_CONTROLLERS, Unit};
