//! `--chmod`: permissions in octal, or as changes in chmod(1)'s words.

use std::fmt;

use crate::plan::values;

/// What `--chmod` makes of a file's permission bits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chmod {
    text: String,
    meaning: Meaning,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Meaning {
    Bits(u32),
    Changes(Vec<Change>),
}

/// `ug+rX`
#[derive(Clone, Debug, PartialEq, Eq)]
struct Change {
    who: Vec<char>,
    operator: char,
    what: Vec<char>,
}

impl Chmod {
    /// Reads `0755`, `u=rwX,go=rX`, `+x` and so on. Where nobody is named, all are meant, whatever the umask is.
    pub(crate) fn parse(text: &str) -> Result<Chmod, String> {
        let octal = text.starts_with(|c: char| c.is_ascii_digit());
        let meaning = if octal {
            Meaning::Bits(values::mode(text)?)
        } else {
            let changes: Option<Vec<Vec<Change>>> = text.split(',').map(clause).collect();
            let bad = || format!("`{text}` is no mode, as `644` or `u=rwX,go=rX`");
            Meaning::Changes(changes.ok_or_else(bad)?.concat())
        };
        Ok(Chmod { text: text.to_owned(), meaning })
    }

    /// The permission bits in place of `mode`. `X` gives the right to execute to directories, and to files that
    /// somebody may execute already.
    pub fn apply(&self, mode: u32, directory: bool) -> u32 {
        match &self.meaning {
            Meaning::Bits(bits) => *bits,
            Meaning::Changes(changes) => {
                changes.iter().fold(mode, |mode, change| change.apply(mode, directory))
            }
        }
    }

    /// Whether the bits that were there matter.
    pub(crate) fn is_relative(&self) -> bool {
        matches!(self.meaning, Meaning::Changes(_))
    }
}

impl fmt::Display for Chmod {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// One or more operations for the same people: `u+x-w`.
fn clause(text: &str) -> Option<Vec<Change>> {
    let operators = ['+', '-', '='];
    let end = text.find(operators)?;
    let who: Vec<char> = text[..end].chars().collect();
    if !who.iter().all(|c| "ugoa".contains(*c)) {
        return None;
    }
    let mut changes: Vec<Change> = Vec::new();
    for c in text[end..].chars() {
        match changes.last_mut() {
            _ if operators.contains(&c) => {
                changes.push(Change { who: who.clone(), operator: c, what: Vec::new() })
            }
            Some(change) if "rwxXstugo".contains(c) => change.what.push(c),
            _ => return None,
        }
    }
    Some(changes)
}

impl Change {
    fn apply(&self, mode: u32, directory: bool) -> u32 {
        let everybody = self.who.is_empty() || self.who.contains(&'a');
        let mut mask = 0;
        for (name, bits) in [('u', 0o4700), ('g', 0o2070), ('o', 0o1007)] {
            if everybody || self.who.contains(&name) {
                mask |= bits;
            }
        }
        let mut bits = 0;
        for c in &self.what {
            bits |= match c {
                'r' => 0o444,
                'w' => 0o222,
                'x' => 0o111,
                'X' if directory || mode & 0o111 != 0 => 0o111,
                's' => 0o6000,
                't' => 0o1000,
                'u' => (mode >> 6 & 7) * 0o111,
                'g' => (mode >> 3 & 7) * 0o111,
                'o' => (mode & 7) * 0o111,
                _ => 0,
            };
        }
        match self.operator {
            '+' => mode | bits & mask,
            '-' => mode & !(bits & mask),
            _ => mode & !mask | bits & mask,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn table() {
        for (text, before, directory, after) in [
            ("0644", 0o755, false, 0o644),
            ("u=rw,go=r", 0o777, false, 0o644),
            ("a+x", 0o644, false, 0o755),
            ("+x", 0o600, false, 0o711),
            ("go-rwx", 0o777, false, 0o700),
            ("u=rwX,go=rX", 0o600, false, 0o644),
            ("u=rwX,go=rX", 0o700, false, 0o755),
            ("u=rwX,go=rX", 0o600, true, 0o755),
            ("u+s,g-w", 0o775, false, 0o4755),
            ("+t", 0o777, true, 0o1777),
            ("g=u", 0o750, false, 0o770),
            ("u+x-w", 0o644, false, 0o544),
            ("o=", 0o777, false, 0o770),
        ] {
            let chmod = Chmod::parse(text).unwrap();
            assert_eq!(chmod.apply(before, directory), after, "{text} {before:o}");
        }
        for bad in ["", "x", "u", "q+x", "u+q", "u=rw,", "888", "77777", "u+x,9"] {
            assert!(Chmod::parse(bad).is_err(), "{bad}");
        }
    }
}
