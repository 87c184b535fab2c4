//! Platforms as docker writes them: `os[/architecture[/variant]]` (OCI image-spec, image-index.md, `platform`).

use coracle_build::ImageConfig;

/// What is asked for, as far as it is said.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Platform {
    pub(crate) os: Option<String>,
    pub(crate) architecture: Option<String>,
    pub(crate) variant: Option<String>,
}

impl Platform {
    /// One word is an operating system or an architecture, whichever is known by that name.
    ///
    /// # Errors
    /// A sentence for what is no platform.
    pub(crate) fn parse(text: &str) -> Result<Platform, String> {
        let lower = text.to_ascii_lowercase();
        let words: Vec<&str> = lower.split('/').collect();
        let is_word = |word: &&str| {
            !word.is_empty()
                && word.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_-.".contains(&byte))
        };
        let some = |word: &str| Some(word.to_owned());
        match words[..] {
            _ if !words.iter().all(is_word) => {}
            ["linux" | "windows" | "darwin" | "freebsd"] => {
                return Ok(Platform { os: some(words[0]), ..Platform::default() });
            }
            [one] => {
                let (architecture, variant) = normal(one, None);
                return Ok(Platform { os: None, architecture: some(architecture), variant });
            }
            [os, architecture] | [os, architecture, _] => {
                let (architecture, variant) = normal(architecture, words.get(2).copied());
                return Ok(Platform { os: some(os), architecture: some(architecture), variant });
            }
            _ => {}
        }
        Err(format!("platform `{text}`: not os[/architecture[/variant]]"))
    }

    /// Whether an image is for it.
    pub(crate) fn fits(&self, image: &ImageConfig) -> bool {
        let architecture = image.architecture.to_string();
        let (architecture, variant) = normal(&architecture, image.variant.as_deref());
        let fits = |wanted: &Option<String>, has: &str| wanted.as_ref().is_none_or(|wanted| wanted == has);
        fits(&self.os, &image.os.to_string())
            && fits(&self.architecture, architecture)
            && (self.variant.is_none() || self.variant == variant)
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
        ("i386", variant) => ("386", variant.map(Into::into)),
        (other, variant) => (other, variant.map(Into::into)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_mean_the_same() {
        let same = [
            ("linux/amd64", "linux/x86_64"),
            ("linux/amd64/v1", "LINUX/amd64"),
            ("linux/arm64", "linux/aarch64/v8"),
            ("linux/arm", "linux/arm/v7"),
            ("amd64", "x86-64"),
        ];
        for (one, other) in same {
            assert_eq!(Platform::parse(one), Platform::parse(other), "{one} {other}");
        }
        for text in ["", "linux/", "a/b/c/d", "linux/a md64", "/amd64"] {
            assert!(Platform::parse(text).unwrap_err().contains("os[/architecture[/variant]]"), "{text}");
        }
    }

    #[test]
    fn an_image_is_for_one() {
        let image: ImageConfig = ImageConfig::from_json(
            br#"{"os":"linux","architecture":"amd64","rootfs":{"type":"layers","diff_ids":[]}}"#,
        )
        .unwrap();
        for (text, fits) in [
            ("linux/amd64", true),
            ("linux", true),
            ("amd64", true),
            ("linux/arm64", false),
            ("windows", false),
        ] {
            assert_eq!(Platform::parse(text).unwrap().fits(&image), fits, "{text}");
        }
    }
}
