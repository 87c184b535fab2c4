//! A registry that says what one function of the test says.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use coracle_layers::registry::{Registry, RegistryOptions, Repository};
use coracle_layers::{Blob, Digest, Error, Reference};

/// One request as it came.
#[derive(Clone, Debug)]
pub struct Asked {
    /// `GET /v2/a/blobs/…`
    pub line: String,
    pub headers: Vec<String>,
    pub body: Vec<u8>,
}

impl Asked {
    pub fn header(&self, name: &str) -> Option<&str> {
        let named =
            |line: &&String| line.split_once(':').is_some_and(|(own, _)| own.eq_ignore_ascii_case(name));
        self.headers.iter().find(named)?.split_once(':').map(|(_, value)| value.trim())
    }
}

/// A server for one test.
pub struct Server {
    pub address: String,
    pub log: Arc<Mutex<Vec<Asked>>>,
    over: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Drop for Server {
    fn drop(&mut self) {
        self.over.store(true, Ordering::SeqCst);
        // It looks at that when somebody comes.
        drop(TcpStream::connect(&self.address));
        self.thread.take().unwrap().join().unwrap();
    }
}

/// What is sent: head and body, as they are.
pub type Answer = (String, Vec<u8>);

pub fn ok(status: &str, headers: &str, body: impl Into<Vec<u8>>) -> Answer {
    let body = body.into();
    (
        format!("HTTP/1.1 {status}\r\nConnection: close\r\nContent-Length: {}\r\n{headers}\r\n", body.len()),
        body,
    )
}

impl Server {
    /// `answers` is given the request and how many came before it.
    pub fn new(answers: impl Fn(&Asked, usize, &str) -> Answer + Send + 'static) -> Server {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let log: Arc<Mutex<Vec<Asked>>> = Arc::default();
        let (own, theirs) = (address.clone(), log.clone());
        let over: Arc<AtomicBool> = Arc::default();
        let is_over = over.clone();
        let thread = std::thread::spawn(move || {
            for stream in listener.incoming() {
                if is_over.load(Ordering::SeqCst) {
                    break;
                }
                let mut stream = stream.unwrap();
                let Some(asked) = read(&mut stream) else { continue };
                let before = theirs.lock().unwrap().len();
                theirs.lock().unwrap().push(asked.clone());
                let (head, body) = answers(&asked, before, &own);
                // The client may have heard enough.
                let _ = stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(&body));
            }
        });
        Server { address, log, over, thread: Some(thread) }
    }

    pub fn repository(&self, options: &RegistryOptions) -> Repository {
        let name: Reference = format!("{}/a", self.address).parse().unwrap();
        Registry::of(&name, options).repository(name.path())
    }

    pub fn fetch(&self, bytes: &[u8]) -> Result<Vec<u8>, Error> {
        let mut came = Vec::new();
        let blob = Blob { digest: Digest::of(bytes), size: bytes.len() as u64 };
        self.repository(&RegistryOptions::new()).fetch_blob(blob, &mut came).map(|()| came)
    }

    pub fn lines(&self) -> Vec<String> {
        self.log.lock().unwrap().iter().map(|asked| asked.line.clone()).collect()
    }
}

fn read(stream: &mut TcpStream) -> Option<Asked> {
    let mut reader = BufReader::new(stream);
    let mut lines = Vec::new();
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line).ok()? == 0 || line == "\r\n" {
            break;
        }
        lines.push(line.trim_end().to_owned());
    }
    let first = lines.first()?.trim_end_matches(" HTTP/1.1").to_owned();
    let mut asked = Asked { line: first, headers: lines.split_off(1), body: Vec::new() };
    let length = asked.header("content-length").and_then(|text| text.parse().ok()).unwrap_or(0);
    asked.body.resize(length, 0);
    reader.read_exact(&mut asked.body).ok()?;
    Some(asked)
}

/// What a well-meant registry has: manifests and blobs under their paths, in the repository `a`.
#[derive(Clone, Default)]
pub struct Shelf(Vec<(String, String, Vec<u8>)>);

impl Shelf {
    pub fn blob(&mut self, bytes: &[u8]) -> Blob {
        let digest = Digest::of(bytes);
        self.0.push((format!("/v2/a/blobs/{digest}"), "application/octet-stream".into(), bytes.to_vec()));
        Blob { digest, size: bytes.len() as u64 }
    }

    /// Under its digest, and a tag.
    pub fn manifest(&mut self, tag: &str, media_type: &str, bytes: &[u8]) -> Digest {
        let digest = Digest::of(bytes);
        for which in [tag, &digest.to_string()] {
            let path = format!("/v2/a/manifests/{which}");
            self.0.retain(|(known, _, _)| *known != path);
            self.0.push((path, media_type.into(), bytes.to_vec()));
        }
        digest
    }

    pub fn answer(&self, asked: &Asked) -> Answer {
        let (method, path) = asked.line.split_once(' ').unwrap();
        match self.0.iter().find(|(known, _, _)| known == path) {
            None => ok("404 Not Found", "", r#"{"errors":[{"code":"X","message":"unknown to it"}]}"#),
            Some((_, kind, bytes)) => {
                let digest = Digest::of(bytes);
                let headers = format!("Content-Type: {kind}\r\nDocker-Content-Digest: {digest}\r\n");
                let (head, body) = ok("200 OK", &headers, bytes.clone());
                (head, if method == "HEAD" { Vec::new() } else { body })
            }
        }
    }

    pub fn serve(self) -> Server {
        Server::new(move |asked, _, _| self.answer(asked))
    }
}
