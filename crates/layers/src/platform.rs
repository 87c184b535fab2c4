//! Platforms as docker writes them: `os[/architecture[/variant]]` (OCI image-spec, image-index.md, `platform`).

use std::fmt;
use std::str::FromStr;

use oci_spec::image::{Descriptor, ImageConfiguration};

use crate::import::host_architecture;
use crate::{Error, Result};

/// What machine is meant, as far as it is said: `linux`, `arm64`, `linux/arm/v7`. Parsing knows the names that docker knows:
/// `x86_64` is `amd64`, and `linux/arm64/v8` is `linux/arm64`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Platform {
    os: Option<String>,
    architecture: Option<String>,
    variant: Option<String>,
}

impl Platform {
    /// This host's.
    ///
    /// # Errors
    /// `Unsupported` on a machine that images have no name for.
    pub fn host() -> Result<Platform> {
        Ok(Platform::of("linux", &host_architecture()?.to_string(), None))
    }

    fn of(os: &str, architecture: &str, variant: Option<&str>) -> Platform {
        let (architecture, variant) = normal(architecture, variant);
        Platform { os: Some(os.to_owned()), architecture: Some(architecture.to_owned()), variant }
    }

    /// The operating system, if it is said.
    pub fn os(&self) -> Option<&str> {
        self.os.as_deref()
    }

    /// The architecture by its usual name, if it is said.
    pub fn architecture(&self) -> Option<&str> {
        self.architecture.as_deref()
    }

    /// The variant, where it is said and not the usual one.
    pub fn variant(&self) -> Option<&str> {
        self.variant.as_deref()
    }

    /// Whether an image with that config is for it, as far as it is said.
    pub(crate) fn takes(&self, config: &ImageConfiguration) -> bool {
        let (os, architecture) = (config.os().to_string(), config.architecture().to_string());
        self.fits(&os, &architecture, config.variant().as_deref())
    }

    fn fits(&self, os: &str, architecture: &str, variant: Option<&str>) -> bool {
        let (architecture, variant) = normal(architecture, variant);
        let fits = |wanted: &Option<String>, has: &str| wanted.as_ref().is_none_or(|wanted| wanted == has);
        fits(&self.os, os)
            && fits(&self.architecture, architecture)
            && (self.variant.is_none() || self.variant == variant)
    }

    /// What is not said as this host has it.
    #[cfg(feature = "registry")]
    pub(crate) fn completed(&self) -> Result<Platform> {
        let host = Platform::host()?;
        let (architecture, variant) = match &self.architecture {
            Some(own) => (Some(own.clone()), self.variant.clone()),
            None => (host.architecture, host.variant),
        };
        Ok(Platform { os: self.os.clone().or(host.os), architecture, variant })
    }

    /// The entries of an index that are for it, the best first: of those that such a machine runs, too, older variants and the
    /// 32-bit architecture come after its own, as containerd has it. One without a platform is for any; attestations say that
    /// they are for none. Nothing may be left unsaid.
    pub(crate) fn choose<'d>(&self, listed: &'d [Descriptor]) -> Vec<&'d Descriptor> {
        let runs = self.runs();
        let rank = |one: &Descriptor| match one.platform() {
            None => Some(runs.len()),
            Some(has) => {
                let has = Platform::of(
                    &has.os().to_string(),
                    &has.architecture().to_string(),
                    has.variant().as_deref(),
                );
                runs.iter().position(|own| *own == has)
            }
        };
        let mut ranked: Vec<_> = listed.iter().filter_map(|one| Some((rank(one)?, one))).collect();
        ranked.sort_by_key(|(rank, _)| *rank);
        ranked.into_iter().map(|(_, one)| one).collect()
    }

    /// All that such a machine runs, the best first.
    fn runs(&self) -> Vec<Platform> {
        let (Some(os), Some(architecture)) = (&self.os, &self.architecture) else {
            return vec![self.clone()];
        };
        let mut all = vec![self.clone()];
        let mut older = |architecture: &str, from: Option<&str>, least: u32| {
            let from =
                from.and_then(|variant| variant.strip_prefix('v')?.parse::<u32>().ok()).unwrap_or(least);
            let below = (least..from.min(99)).rev().map(|number| format!("v{number}"));
            all.extend(below.map(|variant| Platform::of(os, architecture, Some(&variant))));
        };
        match architecture.as_str() {
            "amd64" => {
                older("amd64", self.variant(), 1);
                all.push(Platform::of(os, "386", None));
            }
            "arm" => older("arm", self.variant(), 5),
            // Of 32-bit code such a machine may run all that there is.
            "arm64" => older("arm", Some("v9"), 5),
            _ => {}
        }
        all
    }
}

impl FromStr for Platform {
    type Err = Error;

    /// One word is an operating system, if it is known as one, or else an architecture of Linux.
    fn from_str(text: &str) -> Result<Platform> {
        let lower = text.to_ascii_lowercase();
        let words: Vec<&str> = lower.split('/').collect();
        let is_word = |word: &&str| {
            !word.is_empty()
                && word.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_-.".contains(&byte))
        };
        match words[..] {
            _ if !words.iter().all(is_word) => {}
            [os @ ("linux" | "windows" | "darwin" | "freebsd")] => {
                return Ok(Platform { os: Some(os.to_owned()), ..Platform::default() });
            }
            [architecture] => return Ok(Platform::of("linux", architecture, None)),
            [os, architecture] => return Ok(Platform::of(os, architecture, None)),
            [os, architecture, variant] => return Ok(Platform::of(os, architecture, Some(variant))),
            _ => {}
        }
        Err(Error::invalid(format!("platform `{text}`: not os[/architecture[/variant]]")))
    }
}

impl fmt::Display for Platform {
    /// `linux/arm/v6`; what is not said is left out.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let words: Vec<&str> =
            [&self.os, &self.architecture, &self.variant].into_iter().flatten().map(String::as_str).collect();
        f.write_str(&words.join("/"))
    }
}

/// An architecture by its usual name, and its variant where that is not the usual one.
fn normal<'a>(architecture: &'a str, variant: Option<&str>) -> (&'a str, Option<String>) {
    let variant = variant.filter(|variant| !variant.is_empty());
    match (architecture, variant) {
        ("x86_64" | "x86-64" | "amd64", variant) => {
            ("amd64", variant.filter(|variant| *variant != "v1").map(Into::into))
        }
        ("aarch64" | "arm64", variant) => {
            ("arm64", variant.filter(|variant| !matches!(*variant, "8" | "v8")).map(Into::into))
        }
        ("armhf", _) => ("arm", Some("v7".into())),
        ("armel", _) => ("arm", Some("v6".into())),
        ("arm", None) => ("arm", Some("v7".into())),
        ("arm", Some(number @ ("5" | "6" | "7" | "8"))) => ("arm", Some(format!("v{number}"))),
        ("i386", variant) => ("386", variant.map(Into::into)),
        (other, variant) => (other, variant.map(Into::into)),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn names_that_mean_the_same() {
        let same = [
            ("linux/amd64", "linux/x86_64"),
            ("linux/amd64/v1", "LINUX/amd64"),
            ("linux/arm64", "linux/aarch64/v8"),
            ("linux/arm", "linux/arm/v7"),
            ("linux/arm/6", "linux/armel"),
            ("amd64", "x86-64"),
        ];
        let parse = |text: &str| text.parse::<Platform>().unwrap();
        for (one, other) in same {
            assert_eq!(parse(one), parse(other), "{one} {other}");
        }
        for (text, shown) in [("linux/armel", "linux/arm/v6"), ("linux", "linux"), ("X86_64", "linux/amd64")]
        {
            assert_eq!(parse(text).to_string(), shown);
        }
        for text in ["", "linux/", "a/b/c/d", "linux/a md64", "/amd64"] {
            let error = text.parse::<Platform>().unwrap_err();
            assert!(error.to_string().contains("os[/architecture[/variant]]"), "{text}");
        }
    }

    #[test]
    fn an_image_is_for_one() {
        for (text, fits) in [
            ("linux/amd64", true),
            ("linux", true),
            ("amd64", true),
            ("linux/arm64", false),
            ("windows", false),
        ] {
            assert_eq!(text.parse::<Platform>().unwrap().fits("linux", "amd64", None), fits, "{text}");
        }
    }

    #[test]
    fn the_best_of_an_index() {
        let all = [
            "linux/arm/v5",
            "linux/arm/v6",
            "linux/arm/v7",
            "linux/arm64/v8",
            "linux/386",
            "linux/amd64",
            "windows/amd64",
            "unknown/unknown",
            "linux/amd64/v3",
            "linux/riscv64",
        ];
        let listed: Vec<Descriptor> = all
            .iter()
            .map(|text| {
                let words: Vec<&str> = text.split('/').collect();
                serde_json::from_value(serde_json::json!({
                    "mediaType": "application/vnd.oci.image.manifest.v1+json", "size": 1,
                    "digest": format!("sha256:{}", "0".repeat(64)),
                    "platform": { "os": words[0], "architecture": words[1], "variant": words.get(2) },
                }))
                .unwrap()
            })
            .collect();
        let chosen = |text: &str| {
            let platform: Platform = text.parse().unwrap();
            let at = |one: &Descriptor| listed.iter().position(|own| std::ptr::eq(own, one)).unwrap();
            let chosen = platform.choose(&listed);
            chosen.into_iter().map(|one| all[at(one)]).collect::<Vec<_>>().join(" ")
        };
        assert_eq!(chosen("linux/amd64"), "linux/amd64 linux/386");
        assert_eq!(chosen("linux/amd64/v3"), "linux/amd64/v3 linux/amd64 linux/386");
        assert_eq!(chosen("linux/arm64"), "linux/arm64/v8 linux/arm/v7 linux/arm/v6 linux/arm/v5");
        assert_eq!(chosen("linux/arm/v6"), "linux/arm/v6 linux/arm/v5");
        assert_eq!(chosen("linux/riscv64"), "linux/riscv64");
        assert_eq!(chosen("linux/s390x"), "");
        assert_eq!(chosen("windows/amd64"), "windows/amd64");
    }

    proptest! {
        #[test]
        fn never_panics_and_round_trips(text in "\\PC{0,30}|[a-z0-9/._-]{0,20}|linux/arm(64)?/v?[0-9]{1,12}|armhf|armel|i386") {
            if let Ok(platform) = text.parse::<Platform>() {
                prop_assert_eq!(&platform.to_string().parse::<Platform>().unwrap(), &platform);
                platform.choose(&[]);
            }
        }
    }
}
