//! A registry that does what none should: what it says is one function of the test.

use std::io::Write;
use std::sync::{Arc, Mutex};

use coracle_host::Kind;
use coracle_layers::registry::{Credentials, RegistryOptions, media_type};
use coracle_layers::{Blob, Digest, Error};

use crate::server::{Server, ok};

fn writes(bytes: &[u8]) -> impl FnOnce(&mut dyn Write) -> Result<(), Error> {
    |out| {
        out.write_all(bytes).unwrap();
        Ok(())
    }
}

#[track_caller]
pub fn fails<T>(result: Result<T, Error>, kind: Kind, words: &str) {
    let error = result.err().expect("it succeeded");
    assert_eq!(error.kind(), kind, "{error}");
    assert!(error.to_string().contains(words), "{error}");
}

#[test]
fn bytes_are_those_of_the_digest_and_no_more() {
    let wrong = Server::new(|_, _, _| ok("200 OK", "", "tekst"));
    fails(wrong.fetch(b"text!"), Kind::Corrupt, "came in its place");
    fails(wrong.fetch(b"tex"), Kind::Corrupt, "more than its 3 bytes came");
    // It says nothing of its length and would go on until the connection breaks: 100 MB, of which a few bytes are read.
    let endless =
        Server::new(|_, _, _| ("HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n".into(), vec![b'x'; 100 << 20]));
    fails(endless.fetch(b"text"), Kind::Corrupt, "more than its 4 bytes came");
    fails(
        endless.repository(&RegistryOptions::new()).manifest("1", &[media_type::IMAGE_MANIFEST]),
        Kind::Invalid,
        "more than 4194304 bytes",
    );
    let other = Server::new(|_, _, _| ok("200 OK", "", "{}"));
    let digest = Digest::of(b"text").to_string();
    fails(
        other.repository(&RegistryOptions::new()).manifest(&digest, &[media_type::IMAGE_MANIFEST]),
        Kind::Corrupt,
        "came, not",
    );
}

#[test]
fn a_download_that_is_cut_goes_on_where_it_was() {
    const TEXT: &[u8] = b"0123456789";
    // Three bytes at a time, however many were promised.
    let cut = |ranges: bool| {
        Server::new(move |asked, _, _| {
            let at = asked.header("range").and_then(|text| text[6..].trim_end_matches('-').parse().ok());
            let at: usize = at.filter(|_| ranges).unwrap_or(0);
            let status = if at > 0 { "206 Partial Content" } else { "200 OK" };
            let end = if ranges { (at + 3).min(TEXT.len()) } else { TEXT.len() };
            let head = format!(
                "HTTP/1.1 {status}\r\nConnection: close\r\nContent-Range: bytes {at}-9/10\r\nContent-Length: {}\r\n\r\n",
                TEXT.len() - at
            );
            (head, TEXT[at..end].to_vec())
        })
    };
    let server = cut(true);
    assert_eq!(server.fetch(TEXT).unwrap(), TEXT);
    assert_eq!(server.lines().len(), 4);
    assert_eq!(cut(false).fetch(TEXT).unwrap(), TEXT);
    // Who sends another part than was asked for is not believed.
    let astray = Server::new(|asked, _, _| match asked.header("range") {
        None => ("HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 10\r\n\r\n".into(), b"01".to_vec()),
        Some(_) => ok("206 Partial Content", "Content-Range: bytes 0-9/10\r\n", TEXT),
    });
    fails(astray.fetch(TEXT), Kind::Corrupt, "another part came");
    // Who forgets what it has already sent, and knows no ranges, begins anew.
    let anew = Server::new(|_, before, _| match before {
        0 => ("HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 10\r\n\r\n".into(), b"01".to_vec()),
        _ => ok("200 OK", "", TEXT),
    });
    assert_eq!(anew.fetch(TEXT).unwrap(), TEXT);
    let never = Server::new(|_, _, _| {
        ("HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 10\r\n\r\n".into(), vec![])
    });
    fails(never.fetch(TEXT), Kind::Failed, "0 of 10 bytes came");
    assert_eq!(never.lines().len(), 5, "tried so often");
}

#[test]
fn what_fails_in_passing_is_asked_again() {
    let once = Server::new(|_, before, _| match before {
        0 => ok("503 Service Unavailable", "Retry-After: 0\r\n", ""),
        1 => ok("429 Too Many Requests", "Retry-After: 0\r\n", ""),
        // The connection ends without a word.
        2 => (String::new(), Vec::new()),
        _ => ok("200 OK", "", "text"),
    });
    assert_eq!(once.fetch(b"text").unwrap(), b"text");
    let always = Server::new(|_, _, _| ok("500 Oops", "Retry-After: 0\r\n", "<html>"));
    fails(always.fetch(b"text"), Kind::Failed, "the registry says 500");
    assert_eq!(always.lines().len(), 5);
    let gone = Server::new(|_, _, _| ok("404 Not Found", "", ""));
    fails(gone.fetch(b"text"), Kind::NotFound, "404");
    assert_eq!(gone.lines().len(), 1, "what is not there is asked for once");
}

#[test]
fn redirects_end_and_carry_no_password_away() {
    let around = Server::new(|_, _, own| ok("307 Temporary", &format!("Location: http://{own}/x\r\n"), ""));
    fails(around.fetch(b"text"), Kind::Failed, "more than 10 redirects");
    let elsewhere = Server::new(|_, _, _| ok("200 OK", "", "text"));
    let there = format!("Location: http://{}/there\r\n", elsewhere.address);
    let registry = Server::new(move |asked, _, _| match asked.header("authorization") {
        None => ok("401 Unauthorized", "WWW-Authenticate: Basic realm=x\r\n", ""),
        Some(_) => ok("302 Found", &there, ""),
    });
    let me = RegistryOptions::new().credentials(Credentials::password("me", "pw"));
    let mut came = Vec::new();
    let blob = Blob { digest: Digest::of(b"text"), size: 4 };
    registry.repository(&me).fetch_blob(blob, &mut came).unwrap();
    assert_eq!(came, b"text");
    assert_eq!(registry.lines().len(), 2, "the password goes along once it is known to be wanted");
    let asked = elsewhere.log.lock().unwrap()[0].clone();
    assert_eq!((asked.line.as_str(), asked.header("authorization")), ("GET /there", None));
}

#[test]
fn nobody_else_is_told_who_asks() {
    let thief = Server::new(|_, _, own| {
        let wanted =
            format!("WWW-Authenticate: Bearer realm=\"http://{own}/token\"\r\nWWW-Authenticate: Basic\r\n");
        ok("401 Unauthorized", &wanted, "")
    });
    let there = format!("Location: http://{}/there\r\n", thief.address);
    let registry = Server::new(move |asked, _, _| match &asked.line[..4] {
        "HEAD" => ok("404 Not Found", "", ""),
        "POST" => ok("202 Accepted", &there, ""),
        _ => ok("307 Temporary Redirect", &there, ""),
    });
    let me = RegistryOptions::new().credentials(Credentials::password("me", "pw"));
    let blob = Blob { digest: Digest::of(b"text"), size: 4 };
    fails(registry.repository(&me).fetch_blob(blob, &mut Vec::new()), Kind::Denied, "401");
    fails(registry.repository(&me).push_blob(blob, writes(b"text")), Kind::Denied, "401");
    assert_eq!(thief.lines().len(), 2, "asked for the blob, and sent it: {:?}", thief.lines());
    for asked in thief.log.lock().unwrap().iter() {
        assert_eq!(asked.header("authorization"), None, "{asked:?}");
    }
}

#[test]
fn tokens_are_had_once_and_for_what_is_done() {
    // Registry and giver of tokens in one.
    let server = Server::new(|asked, _, own| match (&*asked.line, asked.header("authorization")) {
        (line, who) if line.starts_with("GET /token") => {
            assert_eq!(who, Some("Basic bWU6cHc="));
            let scope = line.split("scope=").nth(1).unwrap();
            ok("200 OK", "", format!("{{\"token\":\"for-{scope}\",\"expires_in\":300}}"))
        }
        (_, Some(who)) if who.starts_with("Bearer for-repository%3Aa%3Apull") => ok("200 OK", "", "text"),
        _ => {
            let wanted = format!("WWW-Authenticate: Bearer realm=\"http://{own}/token\",service=\"s\"\r\n");
            ok("401 Unauthorized", &wanted, "")
        }
    });
    let me = RegistryOptions::new().credentials(Credentials::password("me", "pw"));
    let repository = server.repository(&me);
    let blob = Blob { digest: Digest::of(b"text"), size: 4 };
    for _ in 0..2 {
        repository.fetch_blob(blob, &mut Vec::new()).unwrap();
    }
    let url = format!("GET /v2/a/blobs/{}", blob.digest);
    let token = "GET /token?service=s&scope=repository%3Aa%3Apull".to_owned();
    assert_eq!(server.lines(), [url.clone(), token, url.clone(), url]);
}

#[test]
fn an_identity_is_exchanged_for_a_token() {
    let server = Server::new(|asked, _, own| match (&*asked.line, asked.header("authorization")) {
        ("POST /token", None) => {
            let body = String::from_utf8(asked.body.clone()).unwrap();
            assert!(
                body.contains("grant_type=refresh_token") && body.contains("refresh_token=id%2F1"),
                "{body}"
            );
            ok("200 OK", "", "{\"access_token\":\"t\"}")
        }
        (_, Some("Bearer t")) => ok("200 OK", "", "text"),
        _ => {
            ok("401 Unauthorized", &format!("WWW-Authenticate: Bearer realm=\"http://{own}/token\"\r\n"), "")
        }
    });
    let me = RegistryOptions::new().credentials(Credentials::Identity("id/1".into()));
    let blob = Blob { digest: Digest::of(b"text"), size: 4 };
    server.repository(&me).fetch_blob(blob, &mut Vec::new()).unwrap();
}

#[test]
fn who_is_never_let_in_asks_no_more() {
    let never = Server::new(|asked, _, own| match asked.line.starts_with("GET /token") {
        true => ok("200 OK", "", "{\"token\":\"useless\"}"),
        false => {
            ok("401 Unauthorized", &format!("WWW-Authenticate: Bearer realm=\"http://{own}/token\"\r\n"), "")
        }
    });
    fails(never.fetch(b"text"), Kind::Denied, "401");
    assert_eq!(never.lines().len(), 3, "asked, with a token, and that was it");
    for body in ["", "{}", "{\"token\":\"\"}", "[1"] {
        let useless = Server::new(move |asked, _, own| match asked.line.starts_with("GET /token") {
            true => ok("200 OK", "", body),
            false => ok(
                "401 Unauthorized",
                &format!("WWW-Authenticate: Bearer realm=\"http://{own}/token\"\r\n"),
                "",
            ),
        });
        fails(useless.fetch(b"text"), Kind::Corrupt, "token");
    }
    let broken =
        Server::new(|_, _, _| ok("401 Unauthorized", "WWW-Authenticate: Bearer realm=nowhere\r\n", ""));
    fails(broken.fetch(b"text"), Kind::Invalid, "no scheme");
}

#[test]
fn an_upload_goes_on_from_what_arrived() {
    const SIZE: usize = (8 << 20) + 5;
    let arrived: Arc<Mutex<Vec<u8>>> = Arc::default();
    let got = arrived.clone();
    let server = Server::new(move |asked, before, own| {
        let mut got = got.lock().unwrap();
        let range = |got: &[u8]| format!("Location: /up?state=1\r\nRange: 0-{}\r\n", got.len().max(1) - 1);
        match asked.line.split(' ').next().unwrap() {
            "HEAD" => ok("404 Not Found", "", ""),
            "POST" => ok("202 Accepted", &format!("Location: http://{own}/up\r\n"), ""),
            // Half of it is lost, and the answer as well.
            "PATCH" if before == 2 => {
                got.extend_from_slice(&asked.body[..1000]);
                (String::new(), Vec::new())
            }
            "PATCH" => {
                assert_eq!(
                    asked.header("content-range"),
                    Some(&*format!("{}-{}", got.len(), got.len() + asked.body.len() - 1))
                );
                got.extend_from_slice(&asked.body);
                ok("202 Accepted", &range(&got), "")
            }
            "GET" => ok("204 No Content", &range(&got), ""),
            "PUT" => ok("201 Created", "", ""),
            _ => ok("400 Bad Request", "", ""),
        }
    });
    let bytes: Vec<u8> = (0..SIZE).map(|at| (at / 3) as u8).collect();
    let blob = Blob { digest: Digest::of(&bytes), size: SIZE as u64 };
    let repository = server.repository(&RegistryOptions::new());
    assert!(repository.push_blob(blob, writes(&bytes)).unwrap());
    assert!(*arrived.lock().unwrap() == bytes, "each byte once");
    let lines = server.lines();
    let methods: Vec<&str> = lines.iter().map(|line| line.split(' ').next().unwrap()).collect();
    assert_eq!(methods, ["HEAD", "POST", "PATCH", "GET", "PATCH", "PATCH", "PUT"]);
    assert!(lines[6].starts_with("PUT /up?state=1&digest=sha256%3A"), "{lines:?}");
    fails(
        repository.push_blob(Blob { size: 3, ..blob }, writes(b"four")),
        Kind::Corrupt,
        "4 bytes were written of 3",
    );
}
