//! As whom registries are spoken with: what `docker login` left in docker's own file.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use coracle::{Credentials, EngineOptions, Reference, RegistryOptions};
use serde::Deserialize;

use crate::env::{self, Lookup};
use crate::fail::Fail;

/// The name that docker's file has for Docker Hub.
const HUB: &str = "https://index.docker.io/v1/";

/// docker's `config.json`, as much of it as is about credentials.
#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Config {
    auths: BTreeMap<String, Auth>,
    creds_store: Option<String>,
    cred_helpers: BTreeMap<String, String>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Auth {
    /// `user:password` in base64.
    auth: Option<String>,
    username: Option<String>,
    password: Option<String>,
    identitytoken: Option<String>,
}

/// What a `docker-credential-…` program answers.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Stored {
    username: String,
    secret: String,
}

/// What this program brings along for registries that an engine asks by itself.
pub(crate) fn engine_options() -> EngineOptions {
    EngineOptions::new().registries(|name| Ok(found(name, &env::own)?))
}

/// How the registry of that image name is spoken with: by way of the environment's proxies, with docker's credentials.
pub(crate) fn options(name: &str, lookup: Lookup<'_>) -> Result<RegistryOptions, Fail> {
    let name: Reference = name.parse().map_err(|error| Fail::new(1, error))?;
    found(&name, lookup).map_err(|error| Fail::new(1, error))
}

fn found(name: &Reference, lookup: Lookup<'_>) -> Result<RegistryOptions, String> {
    let options = RegistryOptions::new().proxies(env::proxies(lookup));
    let directory = lookup("DOCKER_CONFIG").filter(|path| !path.is_empty()).map(PathBuf::from);
    let directory = directory.or_else(|| lookup("HOME").map(|home| PathBuf::from(home).join(".docker")));
    let Some(path) = directory.map(|directory| directory.join("config.json")) else { return Ok(options) };
    let bad = |error: &dyn std::fmt::Display| format!("{path:?}: {error}");
    let config: Config = match std::fs::read(&path) {
        Ok(bytes) => serde_json::from_slice(&bytes).map_err(|error| bad(&error))?,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(options),
        Err(error) => return Err(bad(&error)),
    };
    let found = credentials(&config, name.domain()).map_err(|error| bad(&error))?;
    Ok(match found {
        Some(credentials) => options.credentials(credentials),
        None => options,
    })
}

/// What the file, or the program that it names, has for a registry.
fn credentials(config: &Config, domain: &str) -> Result<Option<Credentials>, String> {
    let own = if domain == "docker.io" { HUB } else { domain };
    if let Some(helper) = config.cred_helpers.get(own).or(config.creds_store.as_ref()) {
        return stored(helper, own);
    }
    // The keys may be URLs.
    let matches = |key: &str| key == own || host(key) == own;
    let Some((_, auth)) = config.auths.iter().find(|(key, _)| matches(key)) else { return Ok(None) };
    if let Some(token) = auth.identitytoken.as_ref().filter(|token| !token.is_empty()) {
        return Ok(Some(Credentials::Identity(token.clone())));
    }
    let whole = |text: &String| {
        let bytes = BASE64_STANDARD.decode(text.trim()).ok()?;
        let text = String::from_utf8(bytes).ok()?;
        let (user, password) = text.split_once(':')?;
        Some(Credentials::password(user, password.trim_end_matches('\0')))
    };
    match (&auth.auth, &auth.username, &auth.password) {
        (Some(text), _, _) if !text.is_empty() => {
            whole(text).map(Some).ok_or_else(|| format!("`auth` of {own} is no user and password in base64"))
        }
        (_, Some(user), Some(password)) => Ok(Some(Credentials::password(user, password))),
        _ => Ok(None),
    }
}

fn host(key: &str) -> &str {
    let rest = key.split_once("://").map_or(key, |(_, rest)| rest);
    rest.split('/').next().unwrap_or(rest)
}

/// Asks a `docker-credential-…` program, as docker does.
fn stored(helper: &str, registry: &str) -> Result<Option<Credentials>, String> {
    let program = format!("docker-credential-{helper}");
    let failed = |error: &dyn std::fmt::Display| format!("{program} get: {error}");
    let mut child = Command::new(&program)
        .arg("get")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .map_err(|error| failed(&error))?;
    if let Some(mut input) = child.stdin.take() {
        // Who has read enough says so by its answer.
        let _ = input.write_all(registry.as_bytes());
    }
    let output = child.wait_with_output().map_err(|error| failed(&error))?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stdout).trim().to_owned();
        return match said.contains("credentials not found") {
            true => Ok(None),
            false => Err(failed(&said)),
        };
    }
    let Stored { username, secret } =
        serde_json::from_slice(&output.stdout).map_err(|_| failed(&"its answer is not understood"))?;
    Ok(Some(match username.as_str() {
        "<token>" => Credentials::Identity(secret),
        user => Credentials::password(user, secret),
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(config: &str, domain: &str) -> String {
        let config: Config = serde_json::from_str(config).unwrap();
        match credentials(&config, domain) {
            Ok(Some(Credentials::Password { user, password })) => format!("{user} {password}"),
            Ok(Some(Credentials::Identity(token))) => format!("identity {token}"),
            Ok(None) => "nobody".into(),
            Err(error) => error,
        }
    }

    #[test]
    fn dockers_file() {
        // me:pass:word, you:x
        let auths = r#"{"auths": {
            "https://index.docker.io/v1/": {"auth": "bWU6cGFzczp3b3Jk"},
            "registry.example:5000": {"auth": "eW91Ong="},
            "https://by.url/v2/": {"username": "u", "password": "p"},
            "token.example": {"auth": "", "identitytoken": "t"},
            "empty.example": {},
            "bad.example": {"auth": "???"}
        }, "HttpHeaders": {"x": "y"}}"#;
        for (domain, expected) in [
            ("docker.io", "me pass:word"),
            ("registry.example:5000", "you x"),
            ("registry.example", "nobody"),
            ("by.url", "u p"),
            ("token.example", "identity t"),
            ("empty.example", "nobody"),
            ("bad.example", "`auth` of bad.example is no user and password in base64"),
        ] {
            assert_eq!(found(auths, domain), expected, "{domain}");
        }
        assert_eq!(found("{}", "docker.io"), "nobody");
        let helper = found(r#"{"credsStore": "no-such-program-of-this-test"}"#, "h");
        assert!(helper.starts_with("docker-credential-no-such-program-of-this-test get: "), "{helper}");
    }
}
