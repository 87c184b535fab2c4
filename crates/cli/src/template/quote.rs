//! Go's quoted texts (The Go Programming Language Specification, "String literals", "Rune literals").

/// `strconv.Quote`.
pub(super) fn quote(text: &str) -> String {
    quoted(text, '"', false)
}

/// Between `mark`s, everything but printable characters escaped; with `ascii`, those beyond ASCII, too.
pub(super) fn quoted(text: &str, mark: char, ascii: bool) -> String {
    let mut to = String::with_capacity(text.len() + 2);
    to.push(mark);
    for char in text.chars() {
        match char {
            '\x07' => to.push_str("\\a"),
            '\x08' => to.push_str("\\b"),
            '\x0c' => to.push_str("\\f"),
            '\n' => to.push_str("\\n"),
            '\r' => to.push_str("\\r"),
            '\t' => to.push_str("\\t"),
            '\x0b' => to.push_str("\\v"),
            '\\' => to.push_str("\\\\"),
            _ if char == mark => {
                to.push('\\');
                to.push(char);
            }
            _ if is_print(char) && (char.is_ascii() || !ascii) => to.push(char),
            '\0'..='\x7f' => to += &format!("\\x{:02x}", char as u32),
            '\u{80}'..='\u{ffff}' => to += &format!("\\u{:04x}", char as u32),
            _ => to += &format!("\\U{:08x}", char as u32),
        }
    }
    to.push(mark);
    to
}

/// `strconv.IsPrint`, as far as the standard library knows: letters, marks, numbers, punctuation, symbols, and of blanks
/// only the plain one.
pub(super) fn is_print(char: char) -> bool {
    char == ' '
        || char == '\''
        || char == '"'
        || char == '\\'
        || (!char.is_whitespace() && char.escape_debug().count() == 1)
}

/// The text that a literal between `"`s or `'`s stands for.
pub(super) fn unquote(written: &str) -> Option<String> {
    let mark = written.chars().next()?;
    let mut rest = written.strip_prefix(mark)?.strip_suffix(mark)?;
    let mut bytes = Vec::with_capacity(rest.len());
    while let Some(char) = rest.chars().next() {
        rest = &rest[char.len_utf8()..];
        if char != '\\' {
            bytes.extend(char.encode_utf8(&mut [0; 4]).bytes());
            continue;
        }
        let escape = rest.chars().next()?;
        let (skip, digits, radix) = match escape {
            'x' => (1, 2, 16),
            'u' => (1, 4, 16),
            'U' => (1, 8, 16),
            '0'..='7' => (0, 3, 8),
            _ => {
                bytes.push(plain(escape, mark)?);
                rest = &rest[1..];
                continue;
            }
        };
        let number = u32::from_str_radix(rest.get(skip..skip + digits)?, radix).ok()?;
        rest = &rest[skip + digits..];
        match escape {
            'u' | 'U' => bytes.extend(char::from_u32(number)?.encode_utf8(&mut [0; 4]).bytes()),
            _ => bytes.push(u8::try_from(number).ok()?),
        }
    }
    // What is no UTF-8 could not be printed as text anyway.
    Some(String::from_utf8_lossy(&bytes).into_owned())
}

/// The byte that an escape of one letter stands for.
fn plain(escape: char, mark: char) -> Option<u8> {
    Some(match escape {
        'a' => 7,
        'b' => 8,
        'f' => 12,
        'n' => b'\n',
        'r' => b'\r',
        't' => b'\t',
        'v' => 11,
        '\\' => b'\\',
        _ if escape == mark => u8::try_from(mark).ok()?,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_quoted_as_in_go() {
        let table = [
            ("a\"b'c\\", r#""a\"b'c\\""#),
            ("\n\t\x07\x01\x7f", r#""\n\t\a\x01\x7f""#),
            ("ä…☃", "\"ä…☃\""),
            ("\u{a0}\u{200b}\u{10ffff}", r#""\u00a0\u200b\U0010ffff""#),
        ];
        for (text, written) in table {
            assert_eq!(quote(text), written);
            assert_eq!(unquote(written).as_deref(), Some(text));
        }
        assert_eq!(quoted("ä'", '\'', true), r"'\u00e4\''");
    }

    #[test]
    fn escapes_are_gos() {
        assert_eq!(unquote(r#""\x41\102\u0043\U00000044\v""#).as_deref(), Some("ABCD\x0b"));
        for wrong in [r#""\q""#, r#""\x4""#, r#""\'""#, r#""\400""#, r#""\ud800""#, "\"", "\"a", r#""\ü""#] {
            assert_eq!(unquote(wrong), None, "{wrong}");
        }
    }
}
