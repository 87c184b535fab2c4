//! Images in one file, as they travel without a registry: an OCI image layout (image-layout.md) that is a docker archive
//! too (`manifest.json`, `repositories`).

mod document;
mod load;
mod members;
mod save;

use serde::{Deserialize, Serialize};

pub use load::Loaded;

const LAYOUT: &str = "oci-layout";
const INDEX: &str = "index.json";
const MANIFEST: &str = "manifest.json";
const REPOSITORIES: &str = "repositories";

/// One image of docker's `manifest.json`.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Listed {
    config: String,
    #[serde(default)]
    repo_tags: Option<Vec<String>>,
    #[serde(default)]
    layers: Option<Vec<String>>,
}
