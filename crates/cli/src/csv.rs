//! Comma-separated values, as docker has them in flags.

/// The fields of one line of comma-separated values (RFC 4180): a field in double quotes may have commas in it.
pub(crate) fn fields(line: &str) -> Result<Vec<String>, String> {
    let mut fields = Vec::new();
    let mut rest = line;
    loop {
        let mut field = String::new();
        match rest.strip_prefix('"') {
            None => {
                let end = rest.find(',').unwrap_or(rest.len());
                field.push_str(&rest[..end]);
                if field.contains('"') {
                    return Err(format!("bare \" in non-quoted field {field:?}"));
                }
                rest = &rest[end..];
            }
            Some(quoted) => {
                let mut after = quoted;
                loop {
                    let Some(end) = after.find('"') else {
                        return Err("missing \" at the end of a field".into());
                    };
                    field.push_str(&after[..end]);
                    after = &after[end + 1..];
                    match after.strip_prefix('"') {
                        Some(more) => {
                            field.push('"');
                            after = more;
                        }
                        None => break,
                    }
                }
                rest = after;
                if !rest.is_empty() && !rest.starts_with(',') {
                    return Err(format!("something follows the quoted field {field:?}"));
                }
            }
        }
        fields.push(field);
        match rest.strip_prefix(',') {
            Some(more) => rest = more,
            None => return Ok(fields),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quotes_keep_commas() {
        assert_eq!(fields("a=1,\"b=2,3\",c=\"").unwrap_err(), "bare \" in non-quoted field \"c=\\\"\"");
        assert_eq!(fields("a=1,\"b=2,3\",\"c\"\"d\"").unwrap(), ["a=1", "b=2,3", "c\"d"]);
        assert_eq!(fields("a,,").unwrap(), ["a", "", ""]);
        assert!(fields("\"a").is_err());
    }
}
