//! Who is asked in a server's stead, and for which servers nobody is.

use std::fmt;
use std::net::IpAddr;

use coracle_host::Kind;

use crate::{Error, Result, url};

/// The proxies of programs, as the variables `HTTP_PROXY`, `HTTPS_PROXY` and `NO_PROXY` say them in the form that Go's
/// programs (docker among them) read. A value, since no library reads its caller's environment; the default is none.
///
/// Servers of both schemes are reached by the method CONNECT (RFC 9110, section 9.3.6), so that no proxy sees what is
/// said. This host's own addresses and `localhost` are never asked for at a proxy.
///
/// `Debug` shows no password.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Proxies {
    http: Option<String>,
    https: Option<String>,
    none: Vec<String>,
}

impl Proxies {
    /// No proxies.
    pub fn new() -> Proxies {
        Proxies::default()
    }

    /// For `http://`: `[http://][user:password@]host[:port]`. Nothing for an empty text.
    #[must_use]
    pub fn http(mut self, proxy: impl Into<String>) -> Proxies {
        self.http = Some(proxy.into()).filter(|proxy| !proxy.is_empty());
        self
    }

    /// For `https://`.
    #[must_use]
    pub fn https(mut self, proxy: impl Into<String>) -> Proxies {
        self.https = Some(proxy.into()).filter(|proxy| !proxy.is_empty());
        self
    }

    /// Servers that are asked themselves, separated by commas: `*`, addresses, networks (`10.0.0.0/8`), names (with all below
    /// them; of `.name` only those below), each with a port or without.
    #[must_use]
    pub fn except(mut self, list: &str) -> Proxies {
        self.none.extend(list.split(',').map(|one| one.trim().to_ascii_lowercase()));
        self.none.retain(|one| !one.is_empty());
        self
    }

    /// # Errors
    /// `Invalid` for a proxy that is no URL, `Unsupported` for one of another kind.
    pub(crate) fn of(&self, url: &str) -> Result<Option<ureq::Proxy>> {
        let own = if url.to_ascii_lowercase().starts_with("https:") { &self.https } else { &self.http };
        let Some(own) = own.as_ref().filter(|_| !self.excepted(url)) else { return Ok(None) };
        let whole = if own.contains("://") { own.clone() } else { format!("http://{own}") };
        if !["http://", "https://"].iter().any(|scheme| whole.starts_with(scheme)) {
            let what = format!("a proxy is reached by http or https, not as {:?}", hidden(own));
            return Err(Error::new(Kind::Unsupported, what));
        }
        let bad = |_| Error::new(Kind::Invalid, format!("the proxy {:?} is no URL", hidden(own)));
        ureq::Proxy::new(&whole).map(Some).map_err(bad)
    }

    fn excepted(&self, url: &str) -> bool {
        let (Some(host), Some(origin)) = (url::host(url), url::origin(url)) else { return false };
        let port = origin.rsplit_once(':').map_or("", |(_, port)| port);
        let address = host.parse::<IpAddr>().ok();
        if host == "localhost" || address.is_some_and(|address| address.is_loopback()) {
            return true;
        }
        self.none.iter().any(|one| {
            let (name, wanted) = match one.rsplit_once(':') {
                Some((name, wanted)) if !name.contains(':') || name.ends_with(']') => (name, Some(wanted)),
                _ => (one.as_str(), None),
            };
            let name = name.trim_start_matches('[').trim_end_matches(']');
            wanted.is_none_or(|wanted| wanted == port) && matches(name, &host, address)
        })
    }
}

fn matches(pattern: &str, host: &str, address: Option<IpAddr>) -> bool {
    if pattern == "*" || pattern == host {
        return true;
    }
    if let Some(address) = address {
        return pattern.split_once('/').is_some_and(|(net, bits)| within(net, bits, address));
    }
    let below = |name: &str| host.strip_suffix(name).is_some_and(|rest| rest.ends_with('.'));
    match pattern.strip_prefix('*').unwrap_or(pattern).strip_prefix('.') {
        Some(name) => below(name),
        None => below(pattern),
    }
}

fn within(net: &str, bits: &str, address: IpAddr) -> bool {
    let (Ok(net), Ok(bits)) = (net.parse::<IpAddr>(), bits.parse::<u32>()) else { return false };
    match (net, address) {
        (IpAddr::V4(net), IpAddr::V4(address)) if bits <= 32 => {
            let shift = 32 - bits;
            u32::from(net).checked_shr(shift) == u32::from(address).checked_shr(shift)
        }
        (IpAddr::V6(net), IpAddr::V6(address)) if bits <= 128 => {
            let shift = 128 - bits;
            u128::from(net).checked_shr(shift) == u128::from(address).checked_shr(shift)
        }
        _ => false,
    }
}

/// Without the password.
fn hidden(proxy: &str) -> String {
    match proxy.rsplit_once('@') {
        Some((user, host)) => {
            let scheme = user.split_once("://").map_or(String::new(), |(scheme, _)| format!("{scheme}://"));
            format!("{scheme}xxxxx@{host}")
        }
        None => proxy.to_owned(),
    }
}

impl fmt::Debug for Proxies {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let hide = |proxy: &Option<String>| proxy.as_deref().map(hidden);
        f.debug_struct("Proxies")
            .field("http", &hide(&self.http))
            .field("https", &hide(&self.https))
            .field("except", &self.none)
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn for_which_servers() {
        let proxies = Proxies::new()
            .http("me:secret@p:3128")
            .https("http://q")
            .except("example.org, .below.net,10.0.0.0/8,h:8080,*.star.io,[fe80::1]:9,::2");
        for (url, proxied) in [
            ("http://other/x", true),
            ("https://other/x", true),
            ("http://example.org/x", false),
            ("http://a.example.org", false),
            ("http://anexample.org", true),
            ("http://below.net", true),
            ("http://a.below.net", false),
            ("https://10.9.8.7", false),
            ("https://11.9.8.7", true),
            ("http://h:8080", false),
            ("http://h", true),
            ("http://a.star.io", false),
            ("http://[fe80::1]:9/", false),
            ("http://[fe80::1]/", true),
            ("http://[::2]/", false),
            ("http://localhost:1/", false),
            ("http://127.1.2.3/", false),
            ("http://[::1]:5000/", false),
        ] {
            assert_eq!(proxies.of(url).unwrap().is_some(), proxied, "{url}");
        }
        assert!(Proxies::new().http("p").except("*").of("http://h").unwrap().is_none());
        assert!(Proxies::new().http("").of("http://h").unwrap().is_none());
        assert!(Proxies::new().http("p").of("https://h").unwrap().is_none());
        let shown = format!("{proxies:?}");
        assert!(shown.contains("xxxxx@p:3128") && !shown.contains("secret"), "{shown}");
        let error = Proxies::new().http("socks5://me:secret@p").of("http://h").unwrap_err();
        assert_eq!(error.kind(), Kind::Unsupported);
        assert!(error.to_string().contains("socks5://xxxxx@p"), "{error}");
    }
}
