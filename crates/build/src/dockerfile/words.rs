//! Cutting an instruction's text into words: at blanks, at blanks outside quotes, or as a JSON array.

use std::ops::Range;

/// Words between blanks, from byte `from` on; quotes mean nothing (COPY, EXPOSE, VOLUME, FROM).
pub(crate) fn blank(text: &str, from: usize) -> Vec<Range<usize>> {
    let mut words = Vec::new();
    let mut start = None;
    for (i, c) in text.char_indices().skip_while(|(i, _)| *i < from) {
        match (c.is_whitespace(), start) {
            (true, Some(s)) => {
                words.push(s..i);
                start = None;
            }
            (false, None) => start = Some(i),
            _ => {}
        }
    }
    words.extend(start.map(|s| s..text.len()));
    words
}

/// Words between blanks that are neither quoted nor escaped (ENV, LABEL, ARG). Quotes stay in the words.
pub(crate) fn quoted(text: &str, from: usize, escape: char) -> Vec<Range<usize>> {
    let mut words = Vec::new();
    let mut start = None;
    let mut quote = None;
    let mut chars = text.char_indices().skip_while(|(i, _)| *i < from);
    while let Some((i, c)) = chars.next() {
        if quote.is_none() && c.is_whitespace() {
            words.extend(start.take().map(|s| s..i));
            continue;
        }
        start.get_or_insert(i);
        if c == escape && quote != Some('\'') {
            chars.next();
        } else if quote == Some(c) {
            quote = None;
        } else if quote.is_none() && (c == '"' || c == '\'') {
            quote = Some(c);
        }
    }
    words.extend(start.map(|s| s..text.len()));
    words
}

/// What the text is when read as the exec form.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Json {
    /// An array of strings.
    Strings(Vec<String>),
    /// An array, but not only of strings: an error in every instruction.
    Other,
    /// No JSON: the shell form.
    No,
}

/// Reads the exec form, which must be strict JSON, as the Dockerfile reference says.
pub(crate) fn json(text: &str) -> Json {
    let text = text.trim();
    if !text.starts_with('[') {
        return Json::No;
    }
    match serde_json::from_str::<Vec<serde_json::Value>>(text) {
        Err(_) => Json::No,
        Ok(values) => values
            .into_iter()
            .map(|v| if let serde_json::Value::String(s) = v { Some(s) } else { None })
            .collect::<Option<Vec<_>>>()
            .map_or(Json::Other, Json::Strings),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_of_each_kind() {
        let get =
            |text: &str| quoted(text, 0, '\\').into_iter().map(|r| text[r].to_owned()).collect::<Vec<_>>();
        assert_eq!(get(r#"a="b c" d='e "f' g\ h i"#), [r#"a="b c""#, r#"d='e "f'"#, r"g\ h", "i"]);
        assert_eq!(get(r#"a="b \" c" d"#), [r#"a="b \" c""#, "d"]);
        assert_eq!(get(r#"a="open d"#), [r#"a="open d"#]);
        assert_eq!(
            get(r"a='b\' c='d\ e'"),
            [r"a='b\'", r"c='d\ e'"],
            "between single quotes nothing is escaped"
        );
        let text = "COPY  \"a b\tc ";
        assert_eq!(blank(text, 4).into_iter().map(|r| &text[r]).collect::<Vec<_>>(), ["\"a", "b", "c"]);
        assert_eq!(json(r#" ["a", "b c"] "#), Json::Strings(vec!["a".into(), "b c".into()]));
        assert_eq!(json("[]"), Json::Strings(vec![]));
        assert_eq!(json(r#"["a", 1]"#), Json::Other);
        assert_eq!(json("['a']"), Json::No);
        assert_eq!(json("[ -f x ] && y"), Json::No);
    }
}
