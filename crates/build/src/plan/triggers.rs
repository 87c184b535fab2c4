//! What images and stages have for those that start from them (Dockerfile reference, "ONBUILD"), and what that asks for.

use std::collections::{BTreeMap, HashMap};

use super::Origin;
use super::graph::{Graph, Nth, Resolver, first, froms, name_of};
use crate::dockerfile;
use crate::dockerfile::ast::{Instruction, Verb};
use crate::dockerfile::source::Problems;
use crate::error::Result;
use crate::image::ImageConfig;

impl Graph {
    /// The graph with all that triggers of its images ask for (`ONBUILD COPY --from=…`): more stages, whose images may have
    /// triggers again, and more images. `find` gives the configuration of an image, which it is asked for once; `None` where
    /// there is none to be had. What was found comes along, for [`Graph::plan`].
    ///
    /// # Errors
    /// Those of `find`; `Invalid` for triggers that are none, or ask for what is not there.
    pub fn settled(
        mut self,
        mut find: impl FnMut(&Graph, &str) -> Result<Option<ImageConfig>>,
    ) -> Result<(Graph, BTreeMap<String, ImageConfig>)> {
        let mut asked: BTreeMap<String, Option<ImageConfig>> = BTreeMap::new();
        loop {
            let new: Vec<String> =
                self.images().iter().filter(|name| !asked.contains_key(*name)).cloned().collect();
            let bases = |asked: &BTreeMap<String, Option<ImageConfig>>| {
                asked.iter().filter_map(|(name, base)| Some((name.clone(), base.clone()?))).collect()
            };
            if new.is_empty() {
                return Ok((self, bases(&asked)));
            }
            for name in new {
                let found = find(&self, &name)?;
                asked.insert(name, found);
            }
            self = self.triggered(&bases(&asked))?;
        }
    }

    /// The graph with the triggers of all that is in `bases`.
    pub(super) fn triggered(&self, bases: &BTreeMap<String, ImageConfig>) -> Result<Graph> {
        let mut graph = self.clone();
        let mut problems = Problems::new(&self.file.source);
        let first = first(&self.file);
        loop {
            let open: Vec<usize> =
                graph.needed.iter().copied().filter(|stage| graph.nodes[*stage].triggers.is_none()).collect();
            let mut earlier = HashMap::new();
            let mut at = 0;
            let mut grown = false;
            for index in open {
                let Some(texts) = graph.triggers_of(index, bases) else { continue };
                for (index, stage) in self.file.stages.iter().enumerate().take(index).skip(at) {
                    earlier.extend(name_of(stage).map(|name| (name, index)));
                }
                at = index;
                let (earlier, first) = (&earlier, &first);
                let Graph { file, globals, contexts, .. } = self;
                let mut resolver =
                    Resolver { file, globals, contexts, index, earlier, first, problems: &mut problems };
                let from = graph.nodes[index].from.clone();
                let triggers = resolver.triggers(&from, &texts);
                let node = &mut graph.nodes[index];
                for (nth, trigger) in triggers.iter().enumerate() {
                    let copies = trigger
                        .copies
                        .iter()
                        .map(|(mount, origin)| ((Nth::Trigger(nth), *mount), origin.clone()));
                    node.copies.extend(copies);
                    grown |= !trigger.copies.is_empty();
                }
                node.triggers = Some(triggers.into());
            }
            let target = graph.needed.last().copied();
            match target.filter(|_| grown) {
                Some(target) => graph.need(target),
                None => break,
            }
        }
        problems.into_result()?;
        Ok(graph)
    }

    /// The texts; `None` where the image that may have them is not known.
    fn triggers_of(&self, stage: usize, bases: &BTreeMap<String, ImageConfig>) -> Option<Vec<String>> {
        match &self.nodes[stage].from {
            Origin::Image(name) => Some(bases.get(name)?.config.on_build.clone()),
            Origin::Stage(earlier) => {
                let text = |one: &Instruction| match &one.verb {
                    Verb::OnBuild(text) => Some(text.clone()),
                    _ => None,
                };
                Some(self.file.stages[*earlier].instructions.iter().filter_map(text).collect())
            }
            Origin::Scratch | Origin::Context | Origin::Directory(_) => Some(Vec::new()),
        }
    }
}

/// One instruction that a stage's origin has for it.
#[derive(Debug)]
pub(super) struct Trigger {
    pub(super) instruction: Instruction,
    /// How messages call it.
    pub(super) named: String,
    /// By index of the mount where it is a RUN.
    copies: Vec<(usize, Origin)>,
}

impl Resolver<'_, '_> {
    fn triggers(&mut self, from: &Origin, texts: &[String]) -> Vec<Trigger> {
        let span = self.file.stages[self.index].from.image.span;
        let mut triggers = Vec::new();
        for text in texts {
            let squeezed: Vec<&str> = text.split_whitespace().collect();
            let named = format!("`ONBUILD {}` of {from}", squeezed.join(" "));
            self.problems.pin(Some((span, named.clone())));
            match dockerfile::trigger(text) {
                Ok(instruction) => {
                    let froms = froms(&instruction.verb);
                    let copies =
                        froms.into_iter().map(|(mount, word)| (mount, self.copy_from(word))).collect();
                    triggers.push(Trigger { instruction, named, copies });
                }
                Err((kind, what)) => self.problems.add(kind, span, what, None),
            }
        }
        self.problems.pin(None);
        triggers
    }
}
