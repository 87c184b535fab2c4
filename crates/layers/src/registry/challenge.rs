//! What a registry wants to see first: `WWW-Authenticate` (RFC 9110, section 11.6.1; distribution's token specification).

/// One way to be let in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Challenge {
    /// Name and password with each request (RFC 7617).
    Basic,
    /// A token, from somebody who gives them (RFC 6750).
    Bearer {
        /// Where tokens are to be had.
        realm: String,
        service: Option<String>,
        scope: Option<String>,
    },
}

impl Challenge {
    /// The best of what these headers ask for: a token before a password. `None` where no way of them is known.
    pub(super) fn of<'h>(headers: impl Iterator<Item = &'h str>) -> Option<Challenge> {
        let all: Vec<Challenge> = headers.flat_map(parse).collect();
        let bearer = all.iter().find(|one| matches!(one, Challenge::Bearer { .. }));
        bearer.or(all.first()).cloned()
    }
}

/// The challenges of one header that are known; there may be several in it.
fn parse(header: &str) -> Vec<Challenge> {
    let mut found = Vec::new();
    let mut scheme = String::new();
    let mut given: Vec<(String, String)> = Vec::new();
    let mut rest = header;
    loop {
        rest = rest.trim_start_matches([' ', '\t', ',']);
        let (word, after) = token(rest);
        if word.is_empty() {
            break;
        }
        match after.trim_start().strip_prefix('=') {
            Some(value) if !scheme.is_empty() => {
                let Some((value, after)) = value_of(value.trim_start()) else { break };
                given.push((word.to_ascii_lowercase(), value));
                rest = after;
            }
            _ => {
                found.extend(challenge(&scheme, std::mem::take(&mut given)));
                scheme = word.to_ascii_lowercase();
                rest = after;
            }
        }
    }
    found.extend(challenge(&scheme, given));
    found
}

fn challenge(scheme: &str, mut given: Vec<(String, String)>) -> Option<Challenge> {
    let mut take = |name: &str| {
        let at = given.iter().position(|(own, _)| own == name)?;
        Some(given.swap_remove(at).1)
    };
    match scheme {
        "basic" => Some(Challenge::Basic),
        "bearer" => {
            Some(Challenge::Bearer { realm: take("realm")?, service: take("service"), scope: take("scope") })
        }
        _ => None,
    }
}

fn token(text: &str) -> (&str, &str) {
    let ends = |c: char| !(c.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~".contains(c));
    text.split_at(text.find(ends).unwrap_or(text.len()))
}

/// A token or a quoted string, and what follows.
fn value_of(text: &str) -> Option<(String, &str)> {
    let Some(quoted) = text.strip_prefix('"') else {
        let (word, after) = token(text);
        return Some((word.to_owned(), after));
    };
    let mut value = String::new();
    let mut chars = quoted.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            '"' => return Some((value, &quoted[at + 1..])),
            '\\' => value.push(chars.next()?.1),
            c => value.push(c),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn bearer(realm: &str, service: Option<&str>, scope: Option<&str>) -> Option<Challenge> {
        let own = |text: Option<&str>| text.map(str::to_owned);
        Some(Challenge::Bearer { realm: realm.into(), service: own(service), scope: own(scope) })
    }

    #[test]
    fn what_is_wanted() {
        for (headers, expected) in [
            (
                &["Bearer realm=\"https://a/token\",service=\"r.io\",scope=\"repository:a/b:pull,push\""][..],
                bearer("https://a/token", Some("r.io"), Some("repository:a/b:pull,push")),
            ),
            (&["bearer REALM=x , service=y"], bearer("x", Some("y"), None)),
            (&["Basic realm=\"Registry \\\"one\\\"\""], Some(Challenge::Basic)),
            (&["Basic realm=\"x\", Bearer realm=\"y\""], bearer("y", None, None)),
            (&["Basic", "Bearer realm=y"], bearer("y", None, None)),
            (&["Negotiate", "Digest realm=x, qop=\"a,b\""], None),
            (&["Bearer service=x"], None),
            (&["Bearer realm=\"open"], None),
            (&["", ",,", "= x"], None),
        ] {
            assert_eq!(Challenge::of(headers.iter().copied()), expected, "{headers:?}");
        }
    }

    proptest! {
        #[test]
        fn never_panics(text in "\\PC{0,60}|([a-zA-Z]{1,9}[ =,\"\\\\]{1,3}){0,9}") {
            Challenge::of(std::iter::once(text.as_str()));
        }
    }
}
