//! What a changed file would cost.

use std::collections::BTreeSet;

use super::{CopyFrom, Op, Origin, Plan};
use crate::glob;
use crate::ignore::Ignore;
use crate::mount::RunMount;

impl Plan {
    /// The lines whose steps would be built again if the file at `changed` (relative to the context) had other
    /// content: the COPY that takes it, and what comes after that in its stage and in stages made from it.
    ///
    /// It is told from the plan alone, and errs to the long side: a step after that turns out to be the same all the
    /// same (a `COPY --from` of files that came out equal) is not built again by [`build`](crate::build()).
    pub fn affected_by(&self, changed: &str, ignore: &Ignore) -> Vec<usize> {
        let changed = changed.trim_matches('/');
        let mut lines = Vec::new();
        if ignore.ignores(changed) {
            return lines;
        }
        let mut stages = BTreeSet::new();
        for stage in &self.stages {
            let mut dirty = matches!(stage.from, Origin::Stage(index) if stages.contains(&index));
            for step in &stage.steps {
                if let Op::Copy(copy) = &step.op {
                    dirty |= match copy.from {
                        Origin::Context => copy.sources.iter().any(|s| takes(s, changed)),
                        Origin::Stage(index) => stages.contains(&index),
                        Origin::Scratch | Origin::Image(_) | Origin::Directory(_) => false,
                    };
                }
                if let Op::Run(command) = &step.op {
                    dirty |= command.mounts.iter().any(|mount| match mount {
                        RunMount::Bind { from, .. } => match &from.origin {
                            Origin::Context => takes(&CopyFrom::Path(from.path.clone()), changed),
                            Origin::Stage(index) => stages.contains(index),
                            Origin::Scratch | Origin::Image(_) | Origin::Directory(_) => false,
                        },
                        _ => false,
                    });
                }
                if dirty && step.op != Op::Set {
                    lines.push(step.line);
                }
            }
            if dirty {
                stages.insert(stage.index);
            }
        }
        lines
    }
}

/// Whether the source, component by component, is the path or above it.
fn takes(source: &CopyFrom, path: &str) -> bool {
    let CopyFrom::Path(source) = source else { return false };
    let mut names = path.split('/');
    // What may be at any depth may be anywhere.
    let components = source.split('/').filter(|c| !c.is_empty() && *c != ".").take_while(|c| *c != "**");
    components.into_iter().all(|component| {
        let name = names.next().unwrap_or("");
        match glob::parse(component) {
            Ok(tokens) if glob::is_pattern(component) => !name.is_empty() && glob::matches(&tokens, name),
            _ => component == name,
        }
    })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use crate::{BuildSpec, Dockerfile, Graph, Ignore};

    #[test]
    fn lines_after_the_copy_that_takes_it() {
        let text = "\
FROM scratch AS a
COPY package*.json .
RUN install
COPY . .
RUN build
FROM scratch AS b
RUN other
FROM scratch
COPY --from=b x .
COPY --from=a y .
ENV z=1
";
        let file = Dockerfile::parse("D", text.as_bytes()).unwrap();
        let plan = Graph::new(&file, &BuildSpec::new(".")).unwrap().plan(&BTreeMap::new()).unwrap();
        let ignore = Ignore::parse("i", b"*.md").unwrap();
        assert_eq!(plan.affected_by("package.json", &ignore), [2, 3, 4, 5, 10]);
        assert_eq!(plan.affected_by("src/a.c", &ignore), [4, 5, 10]);
        assert_eq!(plan.affected_by("src/package.json", &ignore), [4, 5, 10]);
        assert_eq!(plan.affected_by("README.md", &ignore), Vec::<usize>::new());
    }
}
