//! Wildcards in COPY sources, with the meaning of Go's `filepath.Match`: one path component at a time.

/// One token of a component.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Token {
    /// This character.
    Char(char),
    /// `?`: any one but a slash.
    One,
    /// `*`: any number of them.
    Star,
    /// `[a-z]` or `[^a-z]`.
    Class {
        /// It is a `[^…]`.
        not: bool,
        /// Both ends included.
        ranges: Vec<(char, char)>,
    },
}

impl Token {
    /// Whether it takes this character; a star takes any number of such.
    pub(crate) fn takes(&self, c: char) -> bool {
        match self {
            Token::Char(own) => *own == c,
            Token::One | Token::Star => c != '/',
            Token::Class { not, ranges } => {
                c != '/' && ranges.iter().any(|(a, b)| (*a..=*b).contains(&c)) != *not
            }
        }
    }
}

/// A wildcard has one of these; without them a path is taken as it is.
pub(crate) fn is_pattern(text: &str) -> bool {
    text.contains(['*', '?', '['])
}

/// Reads one component.
///
/// # Errors
/// The reason why it is malformed.
pub(crate) fn parse(pattern: &str) -> Result<Vec<Token>, String> {
    let mut tokens = Vec::new();
    let mut chars = pattern.chars().peekable();
    while let Some(c) = chars.next() {
        tokens.push(match c {
            '*' => {
                // Several in a row say the same as one.
                if tokens.last() == Some(&Token::Star) {
                    continue;
                }
                Token::Star
            }
            '?' => Token::One,
            '[' => class(&mut chars).ok_or_else(|| format!("`[` is not closed or empty in `{pattern}`"))?,
            '\\' => Token::Char(chars.next().ok_or_else(|| format!("`\\` ends `{pattern}`"))?),
            c => Token::Char(c),
        });
    }
    Ok(tokens)
}

/// The rest of a class after its `[`.
pub(crate) fn class(chars: &mut std::iter::Peekable<std::str::Chars<'_>>) -> Option<Token> {
    let not = chars.next_if_eq(&'^').is_some();
    let mut ranges = Vec::new();
    loop {
        let low = match chars.next()? {
            ']' if !ranges.is_empty() => return Some(Token::Class { not, ranges }),
            ']' | '-' => return None,
            '\\' => chars.next()?,
            c => c,
        };
        let high = if chars.next_if_eq(&'-').is_some() {
            match chars.next()? {
                '\\' => chars.next()?,
                ']' | '-' => return None,
                c => c,
            }
        } else {
            low
        };
        ranges.push((low, high));
    }
}

/// Whether the component is one that the pattern means. Steps are at most tokens times characters.
pub(crate) fn matches(tokens: &[Token], name: &str) -> bool {
    let name: Vec<char> = name.chars().collect();
    let (mut t, mut n) = (0, 0);
    let mut last_star = None;
    while n < name.len() {
        match tokens.get(t) {
            Some(Token::Star) => {
                last_star = Some((t, n));
                t += 1;
            }
            Some(token) if token.takes(name[n]) => {
                t += 1;
                n += 1;
            }
            _ => match last_star {
                // The star takes one more. Only the last star needs that: an earlier one can't do better.
                Some((star, from)) => {
                    last_star = Some((star, from + 1));
                    t = star + 1;
                    n = from + 1;
                }
                None => return false,
            },
        }
    }
    tokens[t..].iter().all(|t| *t == Token::Star)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn table() {
        for (pattern, name, expected) in [
            ("package*", "package-lock.json", true),
            ("package*", "apackage", false),
            ("*.[ch]", "a.c", true),
            ("*.[ch]", "a.o", false),
            ("*.[^ch]", "a.o", true),
            ("a?c", "abc", true),
            ("a?c", "ac", false),
            ("a\\*c", "a*c", true),
            ("a\\*c", "abc", false),
            ("*a*b*c", "xaybzc", true),
            ("*a*b*c", "xaybz", false),
            ("[a-cx]z", "xz", true),
            ("[\\]]", "]", true),
            ("ä*", "äö", true),
            ("", "", true),
        ] {
            assert_eq!(matches(&parse(pattern).unwrap(), name), expected, "{pattern} {name}");
        }
        for bad in ["[", "[]", "[a", "[a-]", "[-a]", "a\\"] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn many_stars_end_soon() {
        let pattern = parse(&"a*".repeat(200)).unwrap();
        assert!(!matches(&pattern, &format!("{}b", "a".repeat(199))) || pattern.is_empty());
        assert!(!matches(&parse(&format!("{}b", "a*".repeat(200))).unwrap(), &"a".repeat(5000)));
    }

    proptest! {
        #[test]
        fn never_panics(pattern in "[]ab*?\\[\\\\^-]{0,20}", name in "[ab]{0,20}") {
            if let Ok(tokens) = parse(&pattern) {
                matches(&tokens, &name);
            }
        }
    }
}
