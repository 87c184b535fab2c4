//! The variables of a stage: what its image, ENV and ARG have set, in the order of setting.

use std::collections::HashMap;

use crate::expand::Lookup;
use crate::image::host_arch;

/// Names and values; a later value takes the place of the earlier one.
#[derive(Clone, Debug, Default)]
pub(crate) struct Vars {
    pairs: Vec<(String, String)>,
    places: HashMap<String, usize>,
}

impl Vars {
    /// From `NAME=value`, as images have it.
    pub(crate) fn from_env(env: &[String]) -> Vars {
        let mut vars = Vars::default();
        for entry in env {
            let (name, value) = entry.split_once('=').unwrap_or((entry, ""));
            vars.set(name, value.to_owned());
        }
        vars
    }

    pub(crate) fn set(&mut self, name: &str, value: String) {
        match self.places.get(name) {
            Some(at) => self.pairs[*at].1 = value,
            None => {
                self.places.insert(name.to_owned(), self.pairs.len());
                self.pairs.push((name.to_owned(), value));
            }
        }
    }

    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        self.pairs.iter().map(|(name, _)| name.as_str())
    }

    /// Bytes of all of it.
    pub(crate) fn bytes(&self) -> usize {
        self.pairs.iter().map(|(name, value)| name.len() + value.len()).sum()
    }

    pub(crate) fn to_pairs(&self) -> Vec<(String, String)> {
        self.pairs.clone()
    }

    pub(crate) fn to_env(&self) -> Vec<String> {
        self.pairs.iter().map(|(name, value)| format!("{name}={value}")).collect()
    }
}

impl Lookup for Vars {
    fn get(&self, name: &str) -> Option<&str> {
        self.places.get(name).map(|at| self.pairs[*at].1.as_str())
    }
}

/// Arguments that every build has before its first FROM (Dockerfile reference, "Automatic platform ARGs in the global
/// scope"). A stage sees those that it asks for by `ARG name`.
pub(crate) fn platform_args() -> Vec<(&'static str, String)> {
    let arch = host_arch();
    let mut args = Vec::new();
    for [platform, os, own_arch, variant] in [
        ["TARGETPLATFORM", "TARGETOS", "TARGETARCH", "TARGETVARIANT"],
        ["BUILDPLATFORM", "BUILDOS", "BUILDARCH", "BUILDVARIANT"],
    ] {
        args.push((platform, format!("linux/{arch}")));
        args.push((os, "linux".to_owned()));
        args.push((own_arch, arch.to_owned()));
        args.push((variant, String::new()));
    }
    args
}
