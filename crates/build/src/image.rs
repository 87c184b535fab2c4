//! The configuration document of an image.

use std::collections::BTreeMap;

use oci_spec::image::{Arch, History, ImageConfiguration, Os, RootFs};
use serde::{Deserialize, Deserializer, Serialize};

use coracle_host::Kind;

use crate::error::{Error, Result};

/// PATH where an image says none; what docker gives an image built from scratch.
pub(crate) const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// An image's configuration (OCI image specification, "Image Configuration"), with docker's extensions `Shell`,
/// `Healthcheck` and `OnBuild`.
///
/// It is not `oci_spec`'s type, because that one drops the extensions and writes maps in random order: here the
/// same configuration is always the same bytes, as the digest of an image must be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImageConfig {
    /// When the image was made, RFC 3339.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub created: Option<String>,
    /// Who made it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub author: Option<String>,
    /// The machine it runs on, in Go's words (`amd64`).
    pub architecture: Arch,
    /// `linux`.
    pub os: Os,
    /// The version of the operating system; not used on Linux.
    #[serde(default, rename = "os.version", skip_serializing_if = "Option::is_none")]
    pub os_version: Option<String>,
    /// Features of the operating system; not used on Linux.
    #[serde(default, rename = "os.features", skip_serializing_if = "Option::is_none")]
    pub os_features: Option<Vec<String>>,
    /// The variant of the machine (`v8`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub variant: Option<String>,
    /// How to run a container from it.
    #[serde(default, deserialize_with = "or_default")]
    pub config: RunConfig,
    /// The layers' diff ids. A [`Worker`](crate::Worker) fills them in from the snapshot.
    pub rootfs: RootFs,
    /// What made each layer, and what made none.
    #[serde(default, deserialize_with = "or_default", skip_serializing_if = "Vec::is_empty")]
    pub history: Vec<History>,
}

/// The execution parameters of an image.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct RunConfig {
    /// `user[:group]`, names or numbers.
    #[serde(deserialize_with = "or_default", skip_serializing_if = "String::is_empty")]
    pub user: String,
    /// `80/tcp`
    #[serde(deserialize_with = "or_default", skip_serializing_if = "BTreeMap::is_empty")]
    pub exposed_ports: BTreeMap<String, Nothing>,
    /// `NAME=value`, in order.
    #[serde(deserialize_with = "or_default", skip_serializing_if = "Vec::is_empty")]
    pub env: Vec<String>,
    /// What is always run.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub entrypoint: Option<Vec<String>>,
    /// Its default arguments, or what is run where there is no entrypoint.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cmd: Option<Vec<String>>,
    /// Docker's: CMD was set by a Dockerfile. It means something on Windows only.
    #[serde(deserialize_with = "or_default", skip_serializing_if = "std::ops::Not::not")]
    pub args_escaped: bool,
    /// Absolute paths.
    #[serde(deserialize_with = "or_default", skip_serializing_if = "BTreeMap::is_empty")]
    pub volumes: BTreeMap<String, Nothing>,
    /// An absolute path.
    #[serde(deserialize_with = "or_default", skip_serializing_if = "String::is_empty")]
    pub working_dir: String,
    /// Free text by key.
    #[serde(deserialize_with = "or_default", skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// `SIGTERM` where empty.
    #[serde(deserialize_with = "or_default", skip_serializing_if = "String::is_empty")]
    pub stop_signal: String,
    /// Docker's: the shell of shell forms, `["/bin/sh", "-c"]` where there is none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub shell: Option<Vec<String>>,
    /// Docker's: `Test`, and `Interval`, `Timeout`, `StartPeriod` and `StartInterval` in nanoseconds, `Retries`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub healthcheck: Option<serde_json::Value>,
    /// Docker's: instructions for builds from this image.
    #[serde(deserialize_with = "or_default", skip_serializing_if = "Vec::is_empty")]
    pub on_build: Vec<String>,
}

/// The empty object that Go writes for the values of a set.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Nothing {}

/// Go writes `null` for what is empty.
fn or_default<'de, D: Deserializer<'de>, T: Deserialize<'de> + Default>(
    from: D,
) -> std::result::Result<T, D::Error> {
    Ok(Option::deserialize(from)?.unwrap_or_default())
}

impl ImageConfig {
    /// What `FROM scratch` starts with, for this machine.
    pub fn scratch() -> ImageConfig {
        ImageConfig {
            created: None,
            author: None,
            architecture: Arch::from(host_arch()),
            os: Os::Linux,
            os_version: None,
            os_features: None,
            variant: None,
            config: RunConfig {
                env: vec![format!("PATH={DEFAULT_PATH}")],
                working_dir: "/".to_owned(),
                ..RunConfig::default()
            },
            rootfs: RootFs::default(),
            history: Vec::new(),
        }
    }

    /// Reads a configuration document, as the content store has it. Fields that neither the specification nor
    /// docker's extensions name are dropped.
    ///
    /// # Errors
    /// `Corrupt` where it is none.
    pub fn from_json(bytes: &[u8]) -> Result<ImageConfig> {
        serde_json::from_slice(bytes)
            .map_err(|error| Error::new(Kind::Corrupt, format!("read an image configuration: {error}")))
    }

    /// From `oci_spec`'s type, which has no docker extensions: of an image that has them, read the document instead.
    ///
    /// # Errors
    /// `Corrupt` where the two types disagree about the specification.
    pub fn from_oci(config: &ImageConfiguration) -> Result<ImageConfig> {
        let disagree = |error| Error::new(Kind::Corrupt, format!("convert an image configuration: {error}"));
        serde_json::from_value(serde_json::to_value(config).map_err(disagree)?).map_err(disagree)
    }

    /// As `oci_spec`'s type. Docker's extensions are lost on the way.
    ///
    /// # Errors
    /// `Corrupt` where the two types disagree about the specification.
    pub fn to_oci(&self) -> Result<ImageConfiguration> {
        let disagree = |error| Error::new(Kind::Corrupt, format!("convert an image configuration: {error}"));
        serde_json::from_value(serde_json::to_value(self).map_err(disagree)?).map_err(disagree)
    }

    /// The document. Equal configurations are equal bytes.
    pub fn to_json(&self) -> Vec<u8> {
        // A struct of strings, lists and maps by strings always serializes; `null` would say so if it did not.
        serde_json::to_vec(self).unwrap_or_else(|_| b"null".to_vec())
    }
}

/// This machine's architecture in Go's words, as OCI has them.
pub(crate) fn host_arch() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        "x86" => "386",
        "powerpc64" => "ppc64le",
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn documents_come_back_with_dockers_extensions() {
        let text = r#"{"architecture":"amd64","os":"linux","config":{"Env":["A=b"],"Cmd":null,"Volumes":null,
            "Shell":["/bin/ash","-c"],"Healthcheck":{"Test":["NONE"]},"OnBuild":null,"Labels":{"z":"1","a":"2"},
            "ExposedPorts":{"9/udp":{},"8/tcp":{}}},"rootfs":{"type":"layers","diff_ids":[]},"history":null,
            "container":"x"}"#;
        let config = ImageConfig::from_json(text.as_bytes()).unwrap();
        assert_eq!(config.config.shell.as_deref().unwrap(), ["/bin/ash", "-c"]);
        let json = String::from_utf8(config.to_json()).unwrap();
        assert_eq!(
            json,
            concat!(
                r#"{"architecture":"amd64","os":"linux","config":{"ExposedPorts":{"8/tcp":{},"9/udp":{}},"Env":["A=b"],"#,
                r#""Labels":{"a":"2","z":"1"},"Shell":["/bin/ash","-c"],"Healthcheck":{"Test":["NONE"]}},"#,
                r#""rootfs":{"type":"layers","diff_ids":[]}}"#
            )
        );
        assert_eq!(ImageConfig::from_json(json.as_bytes()).unwrap(), config);
        assert_eq!(ImageConfig::from_json(b"{}").unwrap_err().kind(), Kind::Corrupt);
    }

    #[test]
    fn ocis_type_and_back() {
        let mut config = ImageConfig::scratch();
        config.config.labels.insert("a".to_owned(), "b".to_owned());
        config.config.exposed_ports.insert("80/tcp".to_owned(), Nothing {});
        config.config.cmd = Some(vec!["x".to_owned()]);
        let oci = config.to_oci().unwrap();
        assert_eq!(oci.config().as_ref().unwrap().cmd().as_deref(), Some(&["x".to_owned()][..]));
        assert_eq!(ImageConfig::from_oci(&oci).unwrap(), config);
    }

    #[test]
    fn scratch_is_as_docker_has_it() {
        let scratch = ImageConfig::scratch();
        assert_eq!(scratch.config.working_dir, "/");
        assert!(scratch.config.env[0].starts_with("PATH=/usr/local/sbin:"));
    }
}
