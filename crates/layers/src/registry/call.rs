//! One request to a registry: let in where that is asked for, repeated where that may help, its failure in a sentence.

use std::io::Read;
use std::sync::atomic::Ordering;
use std::thread;
use std::time::Duration;

use coracle_host::Kind;
use coracle_http::{Request, Response, same_server};
use serde::Deserialize;

use super::Registry;
use super::challenge::Challenge;
use crate::{Error, Result};

/// How often what fails by nobody's fault is asked.
pub(super) const TRIES: u32 = 5;
const PAUSE: Duration = Duration::from_millis(250);
/// A registry that wants to be left alone for longer is not waited for.
const LONGEST_PAUSE: Duration = Duration::from_secs(60);
/// Of a document that says what went wrong.
const MOST_TROUBLE: u64 = 64 << 10;

/// What may be asked: scopes, as tokens have them (`repository:a/b:pull`).
pub(super) type Scopes = [String];

impl Registry {
    /// Asks until there is an answer that is worth having, and gives it if its status is one of `good`.
    ///
    /// # Errors
    /// As its status says; what the network comes to.
    pub(super) fn call(&self, request: &Request<'_>, scopes: &Scopes, good: &[u16]) -> Result<Response> {
        let response = self.ask(request, scopes)?;
        if good.contains(&response.status()) { Ok(response) } else { Err(refusal(request, response)) }
    }

    /// [`Registry::call`] where its absence is an answer, too.
    pub(super) fn find(&self, request: &Request<'_>, scopes: &Scopes) -> Result<Option<Response>> {
        match self.ask(request, scopes)? {
            response if response.status() == 404 => Ok(None),
            response if response.status() == 200 => Ok(Some(response)),
            response => Err(refusal(request, response)),
        }
    }

    fn ask(&self, request: &Request<'_>, scopes: &Scopes) -> Result<Response> {
        let mut tried = 0;
        loop {
            tried += 1;
            match self.once(request, scopes) {
                Ok(response) if tried < TRIES && is_passing(response.status()) => {
                    thread::sleep(pause(tried, response.header("retry-after")));
                }
                // Who can't be reached at all is not waited for: the name is wrong, or the network is not there.
                Err(Trouble { passing: true, .. }) if tried < TRIES && self.was_reached() => {
                    thread::sleep(pause(tried, None));
                }
                other => return other.map_err(|trouble| trouble.error),
            }
        }
    }

    /// Asks once, and a second time with what the registry wants to see.
    pub(super) fn once(&self, request: &Request<'_>, scopes: &Scopes) -> Result<Response, Trouble> {
        let home = same_server(request.url, &self.0.base);
        let known = if home { self.known(scopes)? } else { None };
        let response = self.send(request, known.as_deref())?;
        // Somebody else, whom a redirect or an upload led to, is not told who asks: CVE-2020-15157.
        if response.status() != 401 || !same_server(response.url(), &self.0.base) {
            return Ok(response);
        }
        let Some(challenge) = Challenge::of(response.headers("www-authenticate")) else {
            return Ok(response);
        };
        match self.answer(&challenge, scopes, known.as_deref())? {
            Some(value) => self.send(request, Some(&value)),
            None => Ok(response),
        }
    }

    /// Asks as somebody, or as nobody.
    pub(super) fn send(&self, request: &Request<'_>, who: Option<&str>) -> Result<Response, Trouble> {
        let mut headers = request.headers.to_vec();
        headers.extend(who.map(|value| ("Authorization", value)));
        let asked = Request { headers: &headers, ..*request };
        let answer = self.0.client.send(&asked).map_err(|error| Trouble {
            passing: error.is_passing(),
            error: Error::new(error.kind(), format!("{}: {error}", shown(request))),
        })?;
        self.0.reached.store(true, Ordering::Relaxed);
        Ok(answer)
    }

    fn was_reached(&self) -> bool {
        self.0.reached.load(Ordering::Relaxed)
    }
}

/// A failure, and whether asking again may help.
#[derive(Debug)]
pub(super) struct Trouble {
    pub(super) error: Error,
    pub(super) passing: bool,
}

impl From<Error> for Trouble {
    fn from(error: Error) -> Trouble {
        Trouble { error, passing: false }
    }
}

pub(super) fn is_passing(status: u16) -> bool {
    [408, 429, 500, 502, 503, 504].contains(&status)
}

/// Before the next try, after so many.
pub(super) fn pause(tried: u32, wanted: Option<&str>) -> Duration {
    let own = PAUSE * 2u32.saturating_pow(tried.saturating_sub(1).min(8));
    let wanted = wanted.and_then(|text| text.trim().parse().ok()).map(Duration::from_secs);
    wanted.unwrap_or(own).min(LONGEST_PAUSE)
}

/// Method and URL, without what may be a secret in it.
pub(super) fn shown(request: &Request<'_>) -> String {
    let url = request.url.split(['?', '#']).next().unwrap_or("");
    format!("{} {url}", request.method)
}

/// An answer that is not the one that was hoped for.
pub(super) fn refusal(request: &Request<'_>, response: Response) -> Error {
    let kind = match response.status() {
        400 | 416 => Kind::Invalid,
        401 | 403 => Kind::Denied,
        404 => Kind::NotFound,
        405 | 501 => Kind::Unsupported,
        413 | 429 => Kind::Exhausted,
        _ => Kind::Failed,
    };
    let said = format!("{}: the registry says {}", shown(request), response.status_line());
    let mut body = Vec::new();
    // It is a courtesy: what can't be read is left out.
    let _ = response.into_reader().take(MOST_TROUBLE).read_to_end(&mut body);
    match reasons(&body).as_str() {
        "" => Error::new(kind, said),
        reasons => Error::new(kind, format!("{said}: {reasons}")),
    }
}

/// What a registry gives as its reasons (distribution-spec, "Error Codes"), on one line.
fn reasons(body: &[u8]) -> String {
    #[derive(Deserialize)]
    struct Errors {
        errors: Vec<Reason>,
    }
    #[derive(Deserialize)]
    struct Reason {
        #[serde(default)]
        code: String,
        #[serde(default)]
        message: String,
    }
    let Ok(all) = serde_json::from_slice::<Errors>(body) else { return String::new() };
    let one = |reason: Reason| if reason.message.is_empty() { reason.code } else { reason.message };
    let all: Vec<String> = all.errors.into_iter().take(4).map(one).collect();
    all.join(", ").chars().filter(|c| !c.is_control()).take(400).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_and_end() {
        let millis = |tried| pause(tried, None).as_millis();
        assert_eq!([millis(1), millis(2), millis(3)], [250, 500, 1000]);
        assert_eq!(pause(99, None), LONGEST_PAUSE);
        assert_eq!(pause(1, Some("3")), Duration::from_secs(3));
        assert_eq!(pause(1, Some("86400")), LONGEST_PAUSE);
        assert_eq!(pause(1, Some("Sun, 06 Nov 1994 08:49:37 GMT")), PAUSE);
    }

    #[test]
    fn reasons_are_one_line() {
        let body =
            br#"{"errors":[{"code":"DENIED","message":"not\nyou\u001b[31m","detail":{"a":1}},{"code":"X"}]}"#;
        assert_eq!(reasons(body), "notyou[31m, X");
        assert_eq!(reasons(b"<html>"), "");
        assert_eq!(shown(&Request::new("PUT", "https://h/x?token=secret")), "PUT https://h/x");
    }
}
