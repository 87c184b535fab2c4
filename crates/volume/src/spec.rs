//! What volume is wanted, and whether there can be such a one.

use std::collections::BTreeMap;

use crate::local::{Backing, Refusal};
use crate::record::LOCAL;
use crate::{Error, Result};

/// A volume that is wanted. Writing one never fails; [`crate::Volumes::open`] and [`crate::Volumes::create`]
/// report all that is wrong with it at once.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct VolumeSpec {
    name: Option<String>,
    drawn: bool,
    driver: Option<String>,
    base: Option<String>,
    volatile: bool,
    labels: BTreeMap<String, String>,
    options: BTreeMap<String, String>,
}

impl VolumeSpec {
    /// A volume of this name: a letter or digit, then at least one more of letters, digits, `_`, `.` and `-`, as docker
    /// has it; at most 255 in all.
    pub fn new(name: impl Into<String>) -> VolumeSpec {
        VolumeSpec { name: Some(name.into()), ..VolumeSpec::default() }
    }

    /// A new volume whose name is 64 random hexadecimal digits. No two acts on the same spec mean the same volume.
    pub fn anonymous() -> VolumeSpec {
        VolumeSpec::default()
    }

    /// A volume without a name of its own, under one that was drawn before (64 random hexadecimal digits): for those who
    /// write down what they are about to make.
    pub fn drawn(name: impl Into<String>) -> VolumeSpec {
        VolumeSpec { name: Some(name.into()), drawn: true, ..VolumeSpec::default() }
    }

    /// Adds a label, or replaces the value of one. Labels mean nothing here; they are for finding volumes by.
    #[must_use]
    pub fn label(mut self, key: impl Into<String>, value: impl Into<String>) -> VolumeSpec {
        self.labels.insert(key.into(), value.into());
        self
    }

    /// Sets an option of docker's local driver: `type`, `o`, `device`. With `type` `tmpfs` the data is in memory, `o` being
    /// tmpfs(5)'s options and mount flags: it is gone with the borrower, and there can be one at a time. With `o`
    /// `bind` (or `rbind`) it is the host's directory `device`. With any other `type` (`nfs`, `overlay`, `ext4`) the kernel
    /// mounts `device` for each borrower, with the options `o` as they are. A `size` is refused: there are no quotas yet.
    #[must_use]
    pub fn option(mut self, key: impl Into<String>, value: impl Into<String>) -> VolumeSpec {
        self.options.insert(key.into(), value.into());
        self
    }

    /// Who provides its data, `local` unless it is said: others are there where a program brings them
    /// ([`crate::Volumes::with_driver`]), and the options are theirs.
    #[must_use]
    pub fn driver(mut self, driver: impl Into<String>) -> VolumeSpec {
        self.driver = Some(driver.into());
        self
    }

    /// It begins as the frozen volume of this name ([`crate::Volumes::freeze`]) and shows that one's files wherever it has
    /// none of its own: made at once, however big that is. As long as it is there its base can't be removed, and it
    /// can be borrowed by one at a time.
    #[must_use]
    pub fn base(mut self, frozen: impl Into<String>) -> VolumeSpec {
        self.base = Some(frozen.into());
        self
    }

    /// It need not be there after a power cut: making and removing it does not wait for the disk. Right for what goes
    /// with a process.
    #[must_use]
    pub fn volatile(mut self) -> VolumeSpec {
        self.volatile = true;
        self
    }

    /// Whether the volume has no name of its own.
    pub fn is_anonymous(&self) -> bool {
        self.drawn || self.name.is_none()
    }

    /// The name that was wished for.
    pub fn name(&self) -> Option<&str> {
        self.name.as_deref()
    }

    pub(crate) fn labels(&self) -> &BTreeMap<String, String> {
        &self.labels
    }

    pub(crate) fn options(&self) -> &BTreeMap<String, String> {
        &self.options
    }

    pub(crate) fn is_volatile(&self) -> bool {
        self.volatile
    }

    pub(crate) fn base_name(&self) -> Option<&str> {
        self.base.as_deref()
    }

    pub(crate) fn backing(&self) -> Backing {
        match self.other_driver() {
            None => Backing::parse(&self.options).unwrap_or(Backing::Data),
            Some(_) => Backing::Driver,
        }
    }

    /// The driver, where it is not `local`.
    pub(crate) fn other_driver(&self) -> Option<&str> {
        self.driver.as_deref().filter(|driver| *driver != LOCAL)
    }

    /// That there can be such a volume, as far as the spec alone tells: what another driver than `local` says of its options
    /// is not in that ([`crate::Volumes::check`]).
    ///
    /// # Errors
    /// `Invalid` with everything that is wrong with it; `Unsupported` for what is well said and not done here.
    pub fn check(&self) -> Result<()> {
        let mut problems = Vec::new();
        if let Some(name) = &self.name {
            problems.extend(wrong_with(name).map(str::to_owned));
        }
        if let Some(base) = &self.base {
            problems.extend(wrong_with(base).map(|why| format!("its base {base:?}: {why}")));
            if !self.options.is_empty() || self.other_driver().is_some() {
                problems.push("one that begins as another takes no options and no driver".to_owned());
            }
        }
        if self.labels.contains_key("") {
            problems.push("a label has an empty key".to_owned());
        }
        let mut unsupported = Vec::new();
        let options = match self.other_driver() {
            None => Backing::parse(&self.options).err().unwrap_or_default(),
            Some("") => vec![Refusal::Invalid("its driver has no name".into())],
            Some(_) => Vec::new(),
        };
        for refusal in options {
            match refusal {
                Refusal::Invalid(why) => problems.push(why),
                Refusal::Unsupported(why) => unsupported.push(why),
            }
        }
        if problems.is_empty() && !unsupported.is_empty() {
            let what = unsupported.join("; ");
            return Err(Error::Unsupported { name: self.name.clone().unwrap_or_default(), what });
        }
        problems.extend(unsupported);
        match problems.is_empty() {
            true => Ok(()),
            false => Err(Error::Invalid { name: self.name.clone().unwrap_or_default(), problems }),
        }
    }
}

/// The error of a name that no volume can have.
pub(crate) fn check_name(name: &str) -> Result<()> {
    match wrong_with(name) {
        None => Ok(()),
        Some(problem) => Err(Error::Invalid { name: name.to_owned(), problems: vec![problem.to_owned()] }),
    }
}

fn wrong_with(name: &str) -> Option<&'static str> {
    let first = |byte: u8| byte.is_ascii_alphanumeric();
    let rest = |byte: u8| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte);
    match name.as_bytes() {
        [] => Some("the name is empty"),
        _ if name.starts_with('/') => Some("a name is wanted here, not a path of the host"),
        [only] if first(*only) => Some("a name has at least two characters"),
        name if name.len() > 255 => Some("a name has at most 255 characters"),
        [start, more @ ..] if first(*start) && more.iter().all(|byte| rest(*byte)) => None,
        _ => Some("a name is a letter or digit, then letters, digits, `_`, `.` and `-`"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn names_as_docker_has_them() {
        for good in ["db", "0a", "a.b_c-d", "A1", &"x".repeat(255), "lost+found".split('+').next().unwrap()] {
            VolumeSpec::new(good).check().unwrap();
        }
        let bad = [
            "",
            "a",
            "-a",
            ".a",
            "..",
            "_a",
            "a/b",
            "a b",
            "a:b",
            "ä1",
            "a\0",
            "/etc",
            "a\n",
            &"x".repeat(256),
        ];
        for bad in bad {
            let error = VolumeSpec::new(bad).check().unwrap_err();
            assert_eq!(error.kind(), coracle_host::Kind::Invalid, "{bad:?}");
            assert!(error.to_string().starts_with(&format!("volume {bad:?}: ")), "{error}");
        }
    }

    #[test]
    fn all_problems_at_once() {
        let error = VolumeSpec::new("/etc").label("", "x").check().unwrap_err();
        let expected =
            "volume \"/etc\": a name is wanted here, not a path of the host; a label has an empty key";
        assert_eq!(error.to_string(), expected);
        assert_eq!(format!("{error:?}"), expected);
        let error = VolumeSpec::new("db").driver("").check().unwrap_err();
        assert_eq!(error.to_string(), "volume \"db\": its driver has no name");
        assert!(VolumeSpec::new("db").driver("local").check().is_ok());
        let error = VolumeSpec::new("db").option("size", "1g").check().unwrap_err();
        assert_eq!(error.kind(), coracle_host::Kind::Unsupported);
        assert!(
            error.to_string().starts_with("volume \"db\": option `size`: quotas are not supported"),
            "{error}"
        );
    }

    proptest! {
        #[test]
        fn a_good_name_is_one_component(name in any::<String>()) {
            if VolumeSpec::new(&*name).check().is_ok() {
                let mut parts = std::path::Path::new(&name).components();
                prop_assert!(matches!(parts.next(), Some(std::path::Component::Normal(part)) if part == &*name));
                prop_assert!(parts.next().is_none());
            }
        }

        #[test]
        fn dockers_pattern_is_ours(name in "[a-zA-Z0-9][a-zA-Z0-9_.-]{1,60}") {
            prop_assert!(VolumeSpec::new(name).check().is_ok());
        }
    }
}
