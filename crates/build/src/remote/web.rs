//! Files by HTTP.

use std::fs::File;

use serde::{Deserialize, Serialize};

use crate::cancel::Cancel;
use crate::error::Result;

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
    url: &str,
    known: Option<&WebRecord>,
    authorization: Option<&str>,
    into: &mut File,
    cancel: Option<&Cancel>,
) -> Result<Got> {
    client::get(url, known, authorization, into, cancel)
}

#[cfg(not(feature = "http"))]
pub(crate) fn get(
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
mod client {
    use std::io::{Read, Write};
    use std::time::Duration;

    use coracle_host::{Call, Kind};
    use rustix::fs::{Timespec, Timestamps};
    use sha2::{Digest, Sha256};

    use super::{Cancel, File, Got, Result, WebRecord};
    use crate::error::Error;
    use crate::remote::{shown, tls};

    const CONNECT: Duration = Duration::from_secs(30);
    const ANSWER: Duration = Duration::from_secs(60);
    /// A server that sends a byte now and then is not waited for forever.
    const WHOLE: Duration = Duration::from_secs(3600);
    const REDIRECTS: u32 = 10;

    pub(super) fn get(
        url: &str,
        known: Option<&WebRecord>,
        authorization: Option<&str>,
        into: &mut File,
        cancel: Option<&Cancel>,
    ) -> Result<Got> {
        Cancel::go_on(cancel)?;
        let failed =
            |what: &dyn std::fmt::Display| Error::new(Kind::Failed, format!("get {}: {what}", shown(url)));
        let mut config = ureq::Agent::config_builder()
            .timeout_connect(Some(CONNECT))
            .timeout_recv_response(Some(ANSWER))
            .timeout_global(Some(WHOLE))
            .max_redirects(REDIRECTS)
            .http_status_as_error(false)
            // Its default is the environment's, which is not ours to read.
            .proxy(None)
            .user_agent(concat!("coracle/", env!("CARGO_PKG_VERSION")));
        if url.to_ascii_lowercase().starts_with("https:") {
            config = config.tls_config(tls::config()?);
        }
        let agent: ureq::Agent = config.build().into();
        let mut request = agent.get(url);
        if let Some(etag) = known.and_then(|known| known.etag.as_ref()) {
            request = request.header("If-None-Match", etag);
        } else if let Some(changed) = known.and_then(|known| known.changed.as_ref()) {
            request = request.header("If-Modified-Since", changed);
        }
        if let Some(value) = authorization {
            request = request.header("Authorization", value);
        }
        let response = request.call().map_err(|error| failed(&error))?;
        let status = response.status();
        if status == 304 && known.is_some() {
            return Ok(Got::Same);
        }
        if !status.is_success() {
            let kind = match status.as_u16() {
                404 | 410 => Kind::NotFound,
                401 | 403 => Kind::Denied,
                _ => Kind::Failed,
            };
            return Err(Error::new(kind, format!("get {}: the server says {status}", shown(url))));
        }
        let header = |name: &str| response.headers().get(name)?.to_str().ok().map(str::to_owned);
        let (etag, changed) = (header("etag"), header("last-modified"));
        let seconds = changed.as_deref().and_then(seconds).unwrap_or(0);
        let mut body = response.into_body().into_reader();
        let mut hash = Sha256::new();
        let mut buffer = vec![0; 64 << 10];
        loop {
            Cancel::go_on(cancel)?;
            let n = match body.read(&mut buffer) {
                Ok(0) => break,
                Ok(n) => n,
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(failed(&error)),
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
