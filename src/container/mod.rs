//! Containers: a spec becomes a record, a record is launched by a supervisor, a handle reaches it.

mod about;
mod attach;
mod check;
mod control;
mod desk;
mod exec;
mod handle;
mod health;
mod keep;
mod launch;
mod life;
mod output;
mod prober;
mod ready;
mod record;
mod resolve;
mod restart;
mod room;
mod spec;
mod start;
mod supervisor;

pub use attach::Streams;
pub use coracle_runtime::{LogEntry, Stream};
pub use exec::ExecSpec;
pub use handle::Container;
pub use health::{Health, HealthCheck, HealthStatus, Probe};
pub use keep::supervise;
pub(crate) use launch::set_user;
pub use life::{State, Status};
pub use output::Output;
pub use ready::Ready;
pub(crate) use record::json;
pub use restart::Restart;
pub(crate) use room::{new_id, reclaim};
pub use spec::{ContainerSpec, Source};
pub use start::StartPlan;
