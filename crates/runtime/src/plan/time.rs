//! Joining a time namespace, which nobody may who shares memory with another process (time_namespaces(7)).

use std::path::PathBuf;

use super::{Plan, Step};

impl Plan {
    /// Has the process join the time namespace at the path, or the one that it is given at its start, as soon as it has
    /// memory of its own. For that it keeps `CAP_SYS_ADMIN` to the end of its launch.
    pub(crate) fn join_time(&mut self, path: Option<PathBuf>) {
        if !self.steps.iter().any(|step| matches!(step, Step::LetGo { .. })) {
            self.carry();
        }
        let detach = self.steps.iter().position(|step| *step == Step::Detach).unwrap_or_default();
        self.steps.insert(detach + 1, Step::JoinTime { path });
    }
}
