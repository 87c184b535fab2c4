//! What a file itself wants of checks.

use super::RULES;

const EXPERIMENTAL: [&str; 1] = ["InvalidDefinitionDescription"];

/// `# check=skip=A,B;error=true;experimental=C`: what the file itself wants of checks.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Wishes {
    skip: Vec<String>,
    experimental: Vec<String>,
    pub(crate) error: bool,
    /// What was named that is no rule here: later versions of BuildKit have more of them.
    pub(super) unknown: Vec<String>,
}

impl Wishes {
    pub(in crate::dockerfile) fn parse(text: &str) -> Result<Wishes, String> {
        let mut wishes = Wishes::default();
        for part in text.split(';').map(str::trim).filter(|part| !part.is_empty()) {
            let (key, value) = part.split_once('=').ok_or_else(|| format!("`{part}`: want key=value"))?;
            match key.trim() {
                "skip" => wishes.skip = wishes.names(value),
                "experimental" => wishes.experimental = wishes.names(value),
                "error" => match value.trim() {
                    "1" | "t" | "T" | "true" | "TRUE" | "True" => wishes.error = true,
                    "0" | "f" | "F" | "false" | "FALSE" | "False" => wishes.error = false,
                    other => return Err(format!("`error` is `true` or `false`, not `{other}`")),
                },
                other => return Err(format!("`{other}` is no option of `check`: skip, error, experimental")),
            }
        }
        Ok(wishes)
    }

    fn names(&mut self, value: &str) -> Vec<String> {
        let names = value.split(',').map(str::trim).filter(|name| !name.is_empty());
        let is_known = |name: &&str| *name == "all" || RULES.iter().any(|r| r.eq_ignore_ascii_case(name));
        let (known, unknown): (Vec<&str>, Vec<&str>) = names.partition(is_known);
        self.unknown.extend(unknown.into_iter().map(str::to_owned));
        known.into_iter().map(str::to_owned).collect()
    }

    pub(super) fn wants(&self, rule: &str) -> bool {
        let in_list =
            |list: &[String]| list.iter().any(|name| name == "all" || name.eq_ignore_ascii_case(rule));
        !in_list(&self.skip) && (!EXPERIMENTAL.contains(&rule) || in_list(&self.experimental))
    }
}

#[cfg(test)]
mod tests {
    use super::Wishes;

    #[test]
    fn wishes_as_they_are_written() {
        let wishes = Wishes::parse(" skip=StageNameCasing, nosuch ; error=T; experimental=all").unwrap();
        assert!(wishes.error && !wishes.wants("StageNameCasing") && wishes.wants("FromAsCasing"));
        assert!(wishes.wants("InvalidDefinitionDescription"));
        assert_eq!(wishes.unknown, ["nosuch"], "is told of, and no reason not to build");
        assert!(!Wishes::parse("skip=all").unwrap().wants("FromAsCasing"));
        for bad in ["skip", "error=maybe", "warn=x"] {
            assert!(Wishes::parse(bad).is_err(), "{bad}");
        }
    }
}
