//! Joining a time namespace, which nobody may who shares memory with another process (time_namespaces(7)).

use super::{Plan, Step};

impl Plan {
    /// Has the process do this step, which joins a time namespace, as soon as it has memory of its own. For that it keeps
    /// `CAP_SYS_ADMIN` to the end of its launch.
    pub(crate) fn join_time(&mut self, step: Step) {
        if !self.steps.iter().any(|step| matches!(step, Step::LetGo { .. })) {
            self.carry();
        }
        let detach = self.steps.iter().position(|step| *step == Step::Detach).unwrap_or_default();
        self.steps.insert(detach + 1, step);
    }
}
