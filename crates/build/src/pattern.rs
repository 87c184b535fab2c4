//! Shell patterns of substitutions: `*` and `?`, as BuildKit has them.

/// A pattern cut at its stars. What is between them is found from the left, so that a match takes at most
/// (pattern × value) steps.
#[derive(Debug)]
pub(crate) struct Pattern {
    /// At least one; `a*b` has two, `*` two empty ones. `None` in one is any character.
    segments: Vec<Vec<Option<char>>>,
}

/// Longer ones are mistakes or attacks.
const LONGEST: usize = 4096;

impl Pattern {
    /// # Errors
    /// The reason why it is malformed.
    pub(crate) fn parse(text: &str) -> Result<Pattern, String> {
        if text.len() > LONGEST {
            return Err(format!("the pattern is longer than {LONGEST} bytes"));
        }
        let mut segments = vec![Vec::new()];
        let mut chars = text.chars();
        while let Some(c) = chars.next() {
            let one = match c {
                '*' => {
                    segments.push(Vec::new());
                    continue;
                }
                '?' => None,
                '\\' => Some(chars.next().ok_or("`\\` ends the pattern")?),
                c => Some(c),
            };
            if let Some(last) = segments.last_mut() {
                last.push(one);
            }
        }
        Ok(Pattern { segments })
    }

    /// At most how many steps it takes to look for it in `value`.
    pub(crate) fn steps(&self, value: &str) -> usize {
        self.segments.iter().map(|segment| segment.len() + 1).sum::<usize>().saturating_mul(value.len() + 1)
    }

    /// `${x#p}`, with `longest` `${x##p}`.
    pub(crate) fn without_prefix<'v>(&self, value: &'v str, longest: bool) -> &'v str {
        let chars: Vec<char> = value.chars().collect();
        let taken = self.anchored(&chars, longest).unwrap_or(0);
        let at = value.char_indices().nth(taken).map_or(value.len(), |(at, _)| at);
        &value[at..]
    }

    /// `${x%p}`, with `longest` `${x%%p}`.
    pub(crate) fn without_suffix(&self, value: &str, longest: bool) -> String {
        let mut segments: Vec<_> = self.segments.clone();
        segments.reverse();
        segments.iter_mut().for_each(|s| s.reverse());
        let backwards: String = value.chars().rev().collect();
        let rest = Pattern { segments };
        rest.without_prefix(&backwards, longest).chars().rev().collect()
    }

    /// `${x/p/new}`, with `all` `${x//p/new}`. Each match is the longest that begins there.
    pub(crate) fn replaced(&self, value: &str, new: &str, all: bool) -> String {
        let chars: Vec<char> = value.chars().collect();
        let mut out = String::new();
        let mut at = 0;
        while at < chars.len() {
            let Some((start, length)) = self.first(&chars[at..]) else { break };
            out.extend(&chars[at..at + start]);
            out.push_str(new);
            at += start + length;
            if !all {
                break;
            }
        }
        out.extend(&chars[at..]);
        out
    }

    /// How many characters a match at the very beginning takes.
    fn anchored(&self, chars: &[char], longest: bool) -> Option<usize> {
        let (first, rest) = self.segments.split_first()?;
        if !begins(first, chars) {
            return None;
        }
        let mut at = first.len();
        for (i, segment) in rest.iter().enumerate() {
            let last = i + 1 == rest.len();
            let starts = at..=chars.len().checked_sub(segment.len())?;
            let found = match last && longest {
                true => starts.rev().find(|s| begins(segment, &chars[*s..])),
                false => starts.into_iter().find(|s| begins(segment, &chars[*s..])),
            };
            at = found? + segment.len();
        }
        Some(at)
    }

    /// Where the first match begins, and how many characters the longest there takes; never none.
    fn first(&self, chars: &[char]) -> Option<(usize, usize)> {
        let first = self.segments.first()?;
        // Where the rest isn't found after the first place, it is not after a later one either.
        let start = (0..chars.len()).find(|s| begins(first, &chars[*s..]))?;
        let length = self.anchored(&chars[start..], true)?;
        (length > 0).then_some((start, length))
    }
}

fn begins(segment: &[Option<char>], chars: &[char]) -> bool {
    segment.len() <= chars.len() && segment.iter().zip(chars).all(|(s, c)| s.is_none_or(|s| s == *c))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn matches_at_both_ends_and_between() {
        let pattern = |text: &str| Pattern::parse(text).unwrap();
        assert_eq!(pattern("*").without_prefix("abc", false), "abc");
        assert_eq!(pattern("*").without_prefix("abc", true), "");
        assert_eq!(pattern("*/").without_prefix("/a/b/c", true), "c");
        assert_eq!(pattern("a*c").without_prefix("abcbcd", false), "bcd");
        assert_eq!(pattern(".*").without_suffix("a.tar.gz", false), "a.tar");
        assert_eq!(pattern(".*").without_suffix("a.tar.gz", true), "a");
        assert_eq!(pattern("ä?").without_suffix("xäö", true), "x");
        assert_eq!(pattern("").replaced("abc", "x", true), "abc");
        assert_eq!(pattern("b*").replaced("abcb", "x", true), "ax");
        assert_eq!(pattern("a?").replaced("abacad", "-", true), "---");
        assert_eq!(pattern("x*").replaced("abc", "-", false), "abc");
        assert_eq!(pattern("\\*").replaced("a*b*", "-", true), "a-b-");
        assert!(Pattern::parse("a\\").is_err());
    }
}
