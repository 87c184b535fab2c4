//! Being let in: passwords, and tokens from whom the registry names (distribution-spec's "Token Authentication").

use std::collections::BTreeMap;
use std::io::Read;
use std::sync::PoisonError;
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use coracle_host::Kind;
use coracle_http::Request;
use serde::Deserialize;

use super::call::{Scopes, Trouble, refusal, shown};
use super::challenge::Challenge;
use super::{Credentials, Registry};
use crate::{Error, Result, json};

/// Of a document with a token in it.
const MOST_TOKEN: u64 = 1 << 20;
/// How long a token is good for that doesn't say.
const LIFE: u64 = 60;
/// So much earlier a token is not used any more.
const MARGIN: u64 = 5;
const CLIENT: &str = "coracle";

/// What the registry wanted to see before, so that it need not ask each time.
#[derive(Default)]
pub(super) struct Tokens {
    basic: bool,
    /// By scopes.
    bearer: BTreeMap<String, (String, Instant)>,
}

impl std::fmt::Debug for Tokens {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Tokens({})", self.bearer.len())
    }
}

#[derive(Deserialize)]
struct Grant {
    token: Option<String>,
    access_token: Option<String>,
    expires_in: Option<u64>,
}

impl Registry {
    /// The `Authorization` for such a request, as far as it is known what the registry wants.
    pub(super) fn known(&self, scopes: &Scopes) -> Result<Option<String>> {
        let tokens = self.0.tokens.lock().unwrap_or_else(PoisonError::into_inner);
        if tokens.basic {
            return Ok(basic(self.0.credentials.as_ref()));
        }
        let token = tokens.bearer.get(&scopes.join(" "));
        Ok(token.filter(|(_, end)| Instant::now() < *end).map(|(token, _)| format!("Bearer {token}")))
    }

    /// What answers a challenge; `None` where there is nothing to answer with, or what there is was refused just now.
    pub(super) fn answer(
        &self,
        challenge: &Challenge,
        scopes: &Scopes,
        refused: Option<&str>,
    ) -> Result<Option<String>, Trouble> {
        let (realm, service) = match challenge {
            Challenge::Basic => {
                let value = basic(self.0.credentials.as_ref());
                self.0.tokens.lock().unwrap_or_else(PoisonError::into_inner).basic = value.is_some();
                return Ok(value.filter(|value| Some(value.as_str()) != refused));
            }
            Challenge::Bearer { realm, service, .. } => (realm, service.as_deref()),
        };
        let (token, life) = self.token(realm, service, scopes)?;
        let end = Instant::now() + Duration::from_secs(life.saturating_sub(MARGIN).min(86_400));
        let value = format!("Bearer {token}");
        let mut tokens = self.0.tokens.lock().unwrap_or_else(PoisonError::into_inner);
        tokens.bearer.insert(scopes.join(" "), (token, end));
        Ok(Some(value))
    }

    /// A token and for how many seconds it is good.
    fn token(&self, realm: &str, service: Option<&str>, scopes: &Scopes) -> Result<(String, u64), Trouble> {
        let credentials = self.0.credentials.as_ref();
        if credentials.is_some() && self.0.base.starts_with("https:") && !realm.starts_with("https:") {
            let what = format!("the registry asks for the password to be sent in clear, to {realm:?}");
            return Err(Error::new(Kind::Denied, what).into());
        }
        let mut form: Vec<(&str, &str)> = service.map(|service| ("service", service)).into_iter().collect();
        // One `scope` each where it is a query, all in one where it is a form.
        let joined = scopes.join(" ");
        let (url, body);
        let mut headers = Vec::new();
        let password = basic(credentials);
        let request = if let Some(Credentials::Identity(identity)) = credentials {
            form.extend([("client_id", CLIENT), ("grant_type", "refresh_token"), ("scope", &joined)]);
            form.push(("refresh_token", identity));
            body = encoded(&form);
            headers.push(("Content-Type", "application/x-www-form-urlencoded"));
            Request::new("POST", realm).headers(&headers).body(body.as_bytes())
        } else {
            form.extend(scopes.iter().map(|scope| ("scope", scope.as_str())));
            let mark = if realm.contains('?') { '&' } else { '?' };
            url = format!("{realm}{mark}{}", encoded(&form));
            headers.extend(password.as_deref().map(|value| ("Authorization", value)));
            Request::new("GET", &url).headers(&headers)
        };
        let response = self.send(&request, None)?;
        let passing = super::call::is_passing(response.status());
        if !response.is_success() {
            return Err(Trouble { error: refusal(&request, response).context("get a token"), passing });
        }
        let mut bytes = Vec::new();
        let read = response.into_reader().take(MOST_TOKEN).read_to_end(&mut bytes);
        read.map_err(|error| Error::reading(&shown(&request), &error))?;
        let grant: Grant = json::parse(&bytes, || format!("the token of {}", shown(&request)))?;
        let token = grant.token.or(grant.access_token).filter(|token| !token.is_empty());
        let none = || Error::corrupt(format!("{}: there is no token in the answer", shown(&request)));
        Ok((token.ok_or_else(none)?, grant.expires_in.unwrap_or(LIFE)))
    }
}

fn basic(credentials: Option<&Credentials>) -> Option<String> {
    let Some(Credentials::Password { user, password }) = credentials else { return None };
    Some(format!("Basic {}", BASE64_STANDARD.encode(format!("{user}:{password}"))))
}

/// As forms and queries have it (`application/x-www-form-urlencoded`).
pub(super) fn encoded(pairs: &[(&str, &str)]) -> String {
    let word = |text: &str| {
        text.bytes().fold(String::new(), |mut out, byte| {
            match byte {
                b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => out.push(byte.into()),
                _ => out += &format!("%{byte:02X}"),
            }
            out
        })
    };
    let all: Vec<String> =
        pairs.iter().map(|(name, value)| format!("{}={}", word(name), word(value))).collect();
    all.join("&")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_sent() {
        assert_eq!(encoded(&[("a", "x y&z"), ("b", "ä:/")]), "a=x%20y%26z&b=%C3%A4%3A%2F");
        let me = Credentials::password("me", "pass:word");
        assert_eq!(basic(Some(&me)).unwrap(), "Basic bWU6cGFzczp3b3Jk");
        assert_eq!(basic(Some(&Credentials::Identity("x".into()))), None);
    }
}
