//! Plans for processes that don't end with who started them, and that wait to be let go.

use super::{Plan, Step};

impl Plan {
    /// Lets the process live on when the thread that started it has ended, and its program with it. Nobody of ours kills
    /// it then; it begins a session of its own.
    pub fn outlive(&mut self) {
        self.steps.retain(|step| *step != Step::DieWithParent);
        let detach = self.steps.iter().position(|step| *step == Step::Detach);
        if let (Some(detach), false) = (detach, self.steps.contains(&Step::Session)) {
            // Which comes with dying together otherwise.
            self.steps.insert(detach + 1, Step::Session);
        }
    }

    /// Holds the process where nothing is left to do but to execute its program: [`Plan::start`] returns when it is there,
    /// and it goes on when it has read one byte from [`Bundle::go`](crate::Bundle::go).
    pub fn hold(&mut self) {
        if self.steps.contains(&Step::Await) {
            return;
        }
        // Who answers the calls of a filter is there now, and perhaps not later.
        let notifies = self.notifies();
        let last = |step: &Step| match step {
            Step::Filter(_) => !notifies,
            step => matches!(step, Step::Init | Step::Exec { .. }),
        };
        let exec = self.steps.iter().position(last);
        let exec = exec.unwrap_or(self.steps.len());
        self.steps.splice(exec..exec, [Step::Undumpable, Step::Await]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Facts, docker_spec};

    #[test]
    fn a_held_plan_waits_last_and_dies_alone() {
        let mut spec = docker_spec();
        spec.process_mut().as_mut().unwrap().set_args(Some(vec!["/bin/true".into()]));
        let mut plan = Plan::container(&spec, &Facts::assumed(&[])).unwrap();
        let steps = plan.steps().len();
        plan.hold();
        plan.hold();
        assert_eq!(plan.steps().len(), steps + 2);
        plan.outlive();
        let end: Vec<String> = plan.steps().iter().rev().take(5).rev().map(Step::to_string).collect();
        let expected = [
            "go on in sealed memory",
            "begin a session",
            "undumpable",
            "wait for the word to go",
            "exec /bin/true",
        ];
        assert_eq!(end, expected);
        assert!(!plan.steps().contains(&Step::DieWithParent));
    }
}
