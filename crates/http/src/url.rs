//! As much of URLs as following them takes (RFC 3986).

/// Whether both URLs are of the same server: scheme, host and port.
pub fn same_server(one: &str, other: &str) -> bool {
    origin(one).is_some_and(|own| origin(other) == Some(own))
}

/// Scheme and authority, without the user: whom one speaks with. The port is there even where it is the scheme's own.
pub(crate) fn origin(url: &str) -> Option<String> {
    let (scheme, rest) = url.split_once("://")?;
    let scheme = scheme.to_ascii_lowercase();
    let authority = &rest[..rest.find(['/', '?', '#']).unwrap_or(rest.len())];
    let host = authority.rsplit_once('@').map_or(authority, |(_, host)| host).to_ascii_lowercase();
    let has_port = host.rsplit_once(':').is_some_and(|(_, port)| !port.contains(']'));
    let port = match scheme.as_str() {
        _ if has_port => "",
        "https" => ":443",
        _ => ":80",
    };
    Some(format!("{scheme}://{host}{port}"))
}

/// The host of a URL, without brackets and port.
pub(crate) fn host(url: &str) -> Option<String> {
    let origin = origin(url)?;
    let (_, authority) = origin.split_once("://")?;
    let (host, _) = authority.rsplit_once(':')?;
    Some(host.trim_start_matches('[').trim_end_matches(']').to_owned())
}

/// What a `Location` means that came from `base` (section 5.2, without `..`, which servers don't send).
pub(crate) fn join(base: &str, location: &str) -> Option<String> {
    let (scheme, rest) = base.split_once("://")?;
    let authority = &rest[..rest.find(['/', '?', '#']).unwrap_or(rest.len())];
    let path = &rest[authority.len()..rest.find(['?', '#']).unwrap_or(rest.len())];
    let location = location.split('#').next()?;
    Some(match location {
        "" => return None,
        absolute if absolute.contains("://") && !absolute.starts_with(['/', '?']) => absolute.to_owned(),
        elsewhere if elsewhere.starts_with("//") => format!("{scheme}:{elsewhere}"),
        rooted if rooted.starts_with('/') => format!("{scheme}://{authority}{rooted}"),
        query if query.starts_with('?') => format!("{scheme}://{authority}{path}{query}"),
        beside => {
            let folder = path.rfind('/').map_or("/", |slash| &path[..=slash]);
            format!("{scheme}://{authority}{folder}{beside}")
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_is_spoken_with() {
        for (url, expected) in [
            ("HTTPS://me:pw@Host/a@b", "https://host:443"),
            ("http://h", "http://h:80"),
            ("http://h:8080?x=://", "http://h:8080"),
            ("http://[::1]/x", "http://[::1]:80"),
            ("http://[::1]:5000/x", "http://[::1]:5000"),
        ] {
            assert_eq!(origin(url).as_deref(), Some(expected), "{url}");
        }
        assert_eq!(origin("nothing"), None);
        assert_eq!(host("http://[::1]:5000/x").as_deref(), Some("::1"));
        assert_eq!(host("https://h/x").as_deref(), Some("h"));
    }

    #[test]
    fn where_a_location_leads() {
        let base = "https://h:1/v2/a/b?x=/y";
        for (location, expected) in [
            ("http://o/x", "http://o/x"),
            ("//o/x", "https://o/x"),
            ("/x?a=http://z", "https://h:1/x?a=http://z"),
            ("c", "https://h:1/v2/a/c"),
            ("?y", "https://h:1/v2/a/b?y"),
            ("/x#part", "https://h:1/x"),
        ] {
            assert_eq!(join(base, location).as_deref(), Some(expected), "{location}");
        }
        assert_eq!(join("http://h", "x").as_deref(), Some("http://h/x"));
        assert_eq!(join(base, ""), None);
    }
}
