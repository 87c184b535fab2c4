//! Requests and answers.

use std::io::Read;
use std::sync::OnceLock;
use std::time::Duration;

use coracle_host::Kind;
use ureq::http;

use crate::{Error, Proxies, Result, trust, url};

const CONNECT: Duration = Duration::from_secs(30);
const ANSWER: Duration = Duration::from_secs(60);
/// As long nothing at all may come.
const SILENCE: Duration = Duration::from_secs(60);
/// A server that sends a byte now and then is not waited for forever.
const WHOLE: Duration = Duration::from_secs(3600);
const REDIRECTS: usize = 10;
const AUTHORIZATION: &str = "Authorization";

/// A client, with connections that are kept for the next request. Blocking, and to be shared between threads.
#[derive(Debug)]
pub struct Client {
    plain: ureq::Agent,
    /// Made when https is first spoken: only that needs certificates.
    secure: OnceLock<ureq::Agent>,
    proxies: Proxies,
}

/// What is asked.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    /// `GET`, `PUT`.
    pub method: &'a str,
    /// Beginning with `http://` or `https://`.
    pub url: &'a str,
    /// Names and values.
    pub headers: &'a [(&'a str, &'a str)],
    /// What is sent along; `None` where the method has nothing to send.
    pub body: Option<&'a [u8]>,
}

impl<'a> Request<'a> {
    /// A request without headers and body.
    pub fn new(method: &'a str, url: &'a str) -> Request<'a> {
        Request { method, url, headers: &[], body: None }
    }

    /// With these headers.
    #[must_use]
    pub fn headers(mut self, headers: &'a [(&'a str, &'a str)]) -> Request<'a> {
        self.headers = headers;
        self
    }

    /// With this sent along.
    #[must_use]
    pub fn body(mut self, body: &'a [u8]) -> Request<'a> {
        self.body = Some(body);
        self
    }

    /// Whether the same is asked where a redirect of that status leads (RFC 9110, section 15.4).
    fn follows(&self, status: u16) -> bool {
        match status {
            301..=303 => ["GET", "HEAD"].contains(&self.method),
            307 | 308 => true,
            _ => false,
        }
    }
}

/// What a server answered, whatever its status.
#[derive(Debug)]
pub struct Response {
    inner: http::Response<ureq::Body>,
    url: String,
}

impl Client {
    /// A client that asks these proxies.
    pub fn new(proxies: Proxies) -> Client {
        Client { plain: agent(None), secure: OnceLock::new(), proxies }
    }

    /// Asks, and follows where the answer leads: ten times at most, with `Authorization` only as long as it is the same
    /// server (scheme, host and port).
    ///
    /// # Errors
    /// Where no answer came: see [`Error::kind`]. `NotFound` where https finds no certificates to trust.
    pub fn send(&self, request: &Request<'_>) -> Result<Response> {
        if url::origin(request.url).is_none() {
            return Err(Error::new(Kind::Invalid, "the URL has no scheme"));
        }
        let mut at = request.url.to_owned();
        let mut away = false;
        for _ in 0..=REDIRECTS {
            let response = self.once(request, &at, away)?;
            let next = response.header("location").filter(|_| request.follows(response.status()));
            let Some(next) = next.and_then(|location| url::join(&at, location)) else { return Ok(response) };
            // Once away, always away: the way back is the other server's choice, not the caller's.
            away |= !url::same_server(request.url, &next);
            at = next;
        }
        Err(Error::new(Kind::Failed, format!("there are more than {REDIRECTS} redirects")))
    }

    fn once(&self, request: &Request<'_>, url: &str, away: bool) -> Result<Response> {
        let mut built = http::Request::builder().method(request.method).uri(url);
        for (name, value) in request.headers {
            if !(away && name.eq_ignore_ascii_case(AUTHORIZATION)) {
                built = built.header(*name, *value);
            }
        }
        let agent = self.agent(url)?;
        let proxy = self.proxies.of(url)?;
        let inner = match request.body {
            Some(body) => {
                let built = built.body(body).map_err(ureq::Error::from)?;
                agent.run(agent.configure_request(built).proxy(proxy).build())
            }
            None => {
                let built = built.body(()).map_err(ureq::Error::from)?;
                agent.run(agent.configure_request(built).proxy(proxy).build())
            }
        };
        Ok(Response { inner: inner?, url: url.to_owned() })
    }

    fn agent(&self, url: &str) -> Result<&ureq::Agent> {
        if !url.to_ascii_lowercase().starts_with("https:") {
            return Ok(&self.plain);
        }
        if self.secure.get().is_none() {
            // Where another thread was faster, its agent is as good.
            let _ = self.secure.set(agent(Some(trust::config()?)));
        }
        Ok(self.secure.get().unwrap_or(&self.plain))
    }
}

fn agent(tls: Option<ureq::tls::TlsConfig>) -> ureq::Agent {
    let mut config = ureq::Agent::config_builder()
        .timeout_connect(Some(CONNECT))
        .timeout_recv_response(Some(ANSWER))
        .timeout_per_read(Some(SILENCE))
        .timeout_per_write(Some(SILENCE))
        .timeout_global(Some(WHOLE))
        .max_redirects(0)
        .max_redirects_will_error(false)
        .http_status_as_error(false)
        // Its default is the environment's, which is not ours to read.
        .proxy(None)
        .user_agent(concat!("coracle/", env!("CARGO_PKG_VERSION")));
    if let Some(tls) = tls {
        config = config.tls_config(tls);
    }
    config.build().into()
}

impl Response {
    /// The status: 200.
    pub fn status(&self) -> u16 {
        self.inner.status().as_u16()
    }

    /// The status as people read it: `404 Not Found`.
    pub fn status_line(&self) -> String {
        self.inner.status().to_string()
    }

    /// Whether it was done as asked (2xx).
    pub fn is_success(&self) -> bool {
        self.inner.status().is_success()
    }

    /// A header by its name, in any case; the first of several. What is no text counts as missing.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.inner.headers().get(name)?.to_str().ok()
    }

    /// All headers of a name.
    pub fn headers(&self, name: &str) -> impl Iterator<Item = &str> {
        self.inner.headers().get_all(name).iter().filter_map(|value| value.to_str().ok())
    }

    /// Who answered it, where redirects have led.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Where its `Location` leads, in full; `None` without one.
    pub fn location(&self) -> Option<String> {
        url::join(&self.url, self.header("location")?)
    }

    /// Its bytes, to be read as they come; what is longer than the caller expects is the caller's to notice.
    pub fn into_reader(self) -> impl Read {
        self.inner.into_body().into_reader()
    }
}
