//! Files by HTTP.

use std::fs::File;

#[cfg(feature = "http")]
pub(crate) use coracle_http::{Client, Proxies};
use serde::{Deserialize, Serialize};

use crate::cancel::Cancel;
use crate::error::Result;

/// Without the feature nobody is asked, by no way.
#[cfg(not(feature = "http"))]
#[derive(Clone, Debug, Default)]
pub(crate) struct Proxies;

#[cfg(not(feature = "http"))]
#[derive(Debug)]
pub(crate) struct Client;

#[cfg(not(feature = "http"))]
impl Client {
    pub(crate) fn new(_: Proxies) -> Client {
        Client
    }
}

/// What is known of a file from the last time.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct WebRecord {
    /// The server's name for this version of it.
    pub(crate) etag: Option<String>,
    /// When the server says that it was changed, as the server writes it.
    pub(crate) changed: Option<String>,
    /// Of its bytes, `sha256:…`.
    pub(crate) digest: String,
}

/// What came of asking.
#[cfg_attr(not(feature = "http"), allow(dead_code, reason = "nobody asks"))]
pub(crate) enum Got {
    /// It is what it was.
    Same,
    /// It was fetched.
    New(WebRecord),
}

/// Asks for the file, with that `Authorization` (to the host alone: no other that it leads to gets it). The file is
/// written to `into` unless it is still what is `known`. Its time there becomes that of the server, or 1970, so that it doesn't depend on when it was fetched.
///
/// # Errors
/// `NotFound` for 404 and 410, `Denied` for 401 and 403, `Failed` for other statuses and what the network comes to.
#[cfg(feature = "http")]
pub(crate) fn get(
    client: &Client,
    url: &str,
    known: Option<&WebRecord>,
    authorization: Option<&str>,
    into: &mut File,
    cancel: Option<&Cancel>,
) -> Result<Got> {
    asking::get(client, url, known, authorization, into, cancel)
}

#[cfg(not(feature = "http"))]
pub(crate) fn get(
    _: &Client,
    url: &str,
    _: Option<&WebRecord>,
    _: Option<&str>,
    _: &mut File,
    _: Option<&Cancel>,
) -> Result<Got> {
    let what = format!(
        "`{}`: this program was built without the feature `http`, which fetches URLs",
        super::shown(url)
    );
    Err(crate::error::Error::new(coracle_host::Kind::Unsupported, what))
}

#[cfg(feature = "http")]
mod asking {
    use std::io::{Read, Write};

    use coracle_host::{Call, Kind};
    use coracle_http::Request;
    use rustix::fs::{Timespec, Timestamps};
    use sha2::{Digest, Sha256};

    use super::{Cancel, Client, File, Got, Result, WebRecord};
    use crate::error::Error;
    use crate::remote::shown;

    pub(super) fn get(
        client: &Client,
        url: &str,
        known: Option<&WebRecord>,
        authorization: Option<&str>,
        into: &mut File,
        cancel: Option<&Cancel>,
    ) -> Result<Got> {
        Cancel::go_on(cancel)?;
        let failed =
            |error: coracle_http::Error| Error::new(error.kind(), format!("get {}: {error}", shown(url)));
        let mut headers = Vec::new();
        if let Some(etag) = known.and_then(|known| known.etag.as_deref()) {
            headers.push(("If-None-Match", etag));
        } else if let Some(changed) = known.and_then(|known| known.changed.as_deref()) {
            headers.push(("If-Modified-Since", changed));
        }
        headers.extend(authorization.map(|value| ("Authorization", value)));
        let response = client.send(&Request::new("GET", url).headers(&headers)).map_err(failed)?;
        if response.status() == 304 && known.is_some() {
            return Ok(Got::Same);
        }
        if !response.is_success() {
            let kind = match response.status() {
                404 | 410 => Kind::NotFound,
                401 | 403 => Kind::Denied,
                _ => Kind::Failed,
            };
            let what = format!("get {}: the server says {}", shown(url), response.status_line());
            return Err(Error::new(kind, what));
        }
        let header = |name: &str| response.header(name).map(str::to_owned);
        let (etag, changed) = (header("etag"), header("last-modified"));
        let seconds = changed.as_deref().and_then(seconds).unwrap_or(0);
        let mut body = response.into_reader();
        let mut hash = Sha256::new();
        let mut buffer = vec![0; 64 << 10];
        loop {
            Cancel::go_on(cancel)?;
            let n = match body.read(&mut buffer) {
                Ok(0) => break,
                Ok(n) => n,
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(failed(coracle_http::Error::reading(&error))),
            };
            hash.update(&buffer[..n]);
            into.write_all(&buffer[..n]).call(|| format!("write(what {} gave)", shown(url)))?;
        }
        let time = Timespec { tv_sec: seconds, tv_nsec: 0 };
        let times = Timestamps { last_access: time, last_modification: time };
        rustix::fs::futimens(&*into, &times).call(|| format!("futimens(what {} gave)", shown(url)))?;
        let digest =
            hash.finalize().iter().fold("sha256:".to_owned(), |text, byte| format!("{text}{byte:02x}"));
        Ok(Got::New(WebRecord { etag, changed, digest }))
    }

    /// RFC 9110, section 5.6.7: `Sun, 06 Nov 1994 08:49:37 GMT`.
    fn seconds(text: &str) -> Option<i64> {
        let time = jiff::fmt::strtime::parse("%a, %d %b %Y %H:%M:%S GMT", text).ok()?;
        let time = time.to_datetime().ok()?.to_zoned(jiff::tz::TimeZone::UTC).ok()?;
        Some(time.timestamp().as_second())
    }

    #[cfg(test)]
    mod tests {
        #[test]
        fn http_dates() {
            assert_eq!(super::seconds("Sun, 06 Nov 1994 08:49:37 GMT"), Some(784_111_777));
            assert_eq!(super::seconds("yesterday"), None);
        }
    }
}
