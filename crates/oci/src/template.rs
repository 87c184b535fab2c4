//! spec: a config.json to begin with.

use std::path::Path;

use coracle_runtime::docker_spec;
use oci_spec::runtime::Root;

use crate::error::{During, Error, Result};

pub(crate) fn write(bundle: &Path) -> Result<()> {
    let path = bundle.join("config.json");
    let mut spec = docker_spec();
    let mut root = Root::default();
    root.set_path("rootfs".into()).set_readonly(Some(true));
    spec.set_root(Some(root)).set_hostname(Some("coracle".into()));
    if let Some(process) = spec.process_mut() {
        process.set_args(Some(vec!["sh".into()]));
    }
    let text = serde_json::to_vec_pretty(&spec).during(|| "write the example".to_owned())?;
    let file = std::fs::File::options().write(true).create_new(true).open(&path);
    let written = file.and_then(|mut file| std::io::Write::write_all(&mut file, &text));
    written.map_err(|error| match error.kind() {
        std::io::ErrorKind::AlreadyExists => Error::new(format!("{path:?} exists already")),
        _ => Error::new(format!("write {path:?}: {error}")),
    })
}
