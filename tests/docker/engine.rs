//! This engine's side of the comparison.

use std::path::Path;

use coracle::{BuildSpec, Engine, Image, StepNetwork};
use coracle_host::{Dir, Staging};
use coracle_layers::Store;

use crate::Case;
use crate::look::{self, Tree};

pub(crate) struct Ours {
    engine: Engine,
    store: Store,
}

impl Ours {
    pub(crate) fn open(state: &Path, base: &Path) -> Ours {
        let engine = Engine::open(state).unwrap();
        engine.import(std::fs::File::open(base).unwrap(), "acc-base:1").unwrap();
        let dir = Dir::open(state).unwrap();
        let store = Store::open(&dir, &Staging::open(&dir.dir("tmp").unwrap()).unwrap()).unwrap();
        Ours { engine, store }
    }

    pub(crate) fn build(&self, case: &Case, context: &Path) -> Result<Image, String> {
        let mut spec = BuildSpec::new(context).dockerfile_text(case.text.as_str()).network(StepNetwork::None);
        for (flag, value) in &case.flags {
            let (name, rest) = value.split_once('=').unwrap_or((value, ""));
            spec = match flag.as_str() {
                "--build-arg" => spec.arg(name, rest),
                "--label" => spec.label(name, rest),
                "--target" => spec.target(value),
                "--secret" => {
                    let (id, file) = rest.split_once(",src=").unwrap();
                    spec.secret_file(id, context.join(file))
                }
                crate::EXCEPT => spec,
                other => panic!("{other}"),
            };
        }
        self.engine.build(&spec, |_| {}).map(|built| built.image).map_err(|error| error.to_string())
    }

    pub(crate) fn look(&self, image: &Image) -> Tree {
        let image = self.store.image(&image.id()).unwrap().unwrap();
        let rootfs = self.store.rootfs(image.layers(), None, false).unwrap();
        look::mounted(&rootfs.mount)
    }

    pub(crate) fn config(&self, image: &Image) -> serde_json::Value {
        let image = self.store.image(&image.id()).unwrap().unwrap();
        let blob = self.store.blobs().read(&image.id().digest(), 1 << 20).unwrap();
        serde_json::from_slice::<serde_json::Value>(&blob).unwrap()["config"].clone()
    }
}
