//! `html`, `js` and `urlquery`.

use super::quote::is_print;

/// `template.HTMLEscapeString`.
pub(super) fn html(text: &str) -> String {
    let mut to = String::with_capacity(text.len());
    for char in text.chars() {
        match char {
            '\0' => to.push(char::REPLACEMENT_CHARACTER),
            '"' => to.push_str("&#34;"),
            '\'' => to.push_str("&#39;"),
            '&' => to.push_str("&amp;"),
            '<' => to.push_str("&lt;"),
            '>' => to.push_str("&gt;"),
            char => to.push(char),
        }
    }
    to
}

/// `template.JSEscapeString`.
pub(super) fn js(text: &str) -> String {
    let mut to = String::with_capacity(text.len());
    for char in text.chars() {
        match char {
            '\\' => to.push_str("\\\\"),
            '\'' => to.push_str("\\'"),
            '"' => to.push_str("\\\""),
            '<' | '>' | '&' | '=' | '\0'..='\x1f' => to += &format!("\\u{:04X}", char as u32),
            _ if char.is_ascii() || is_print(char) => to.push(char),
            _ => to += &format!("\\u{:04X}", char as u32),
        }
    }
    to
}

/// `url.QueryEscape`.
pub(super) fn query(text: &str) -> String {
    let mut to = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b' ' => to.push('+'),
            b'-' | b'_' | b'.' | b'~' => to.push(char::from(byte)),
            _ if byte.is_ascii_alphanumeric() => to.push(char::from(byte)),
            _ => to += &format!("%{byte:02X}"),
        }
    }
    to
}
