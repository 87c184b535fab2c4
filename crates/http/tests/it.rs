//! Servers and proxies on loopback.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

use coracle_host::Kind;
use coracle_http::{Client, Proxies, Request, Response};
use coracle_testhost::{TlsServer, run, skip};

fn text(response: Response) -> String {
    let mut text = String::new();
    response.into_reader().read_to_string(&mut text).unwrap();
    text
}

#[test]
fn https_trusts_whom_the_system_trusts() {
    run(|host| {
        if !TlsServer::is_possible() {
            return skip(host.test(), "openssl or the system's certificates are not installed");
        }
        let server = TlsServer::start(host.dir(), 4433);
        server.put("file", b"text");
        let get = |url: &str| Client::new(Proxies::new()).send(&Request::new("GET", url));
        let error = get("https://localhost:4433/file").unwrap_err();
        assert!(error.to_string().contains("certificate") && !error.is_passing(), "{error}");
        let trusted = server.trusted();
        assert_eq!(text(get("https://localhost:4433/file").unwrap()), "text");
        assert_eq!(text(get("https://127.0.0.1:4433/file").unwrap()), "text");
        // The name in the URL is not one of the certificate's.
        let error = get("https://127.0.0.2:4433/file").unwrap_err();
        assert_eq!(error.kind(), Kind::Failed, "nobody is there: {error}");
        drop(trusted);
        assert!(get("https://localhost:4433/file").is_err(), "nothing of it is remembered elsewhere");
    });
}

/// Reads the head of a request.
fn head(stream: &mut BufReader<TcpStream>) -> Vec<String> {
    let mut lines = Vec::new();
    loop {
        let mut line = String::new();
        if stream.read_line(&mut line).unwrap() == 0 || line == "\r\n" {
            return lines;
        }
        lines.push(line.trim_end().to_owned());
    }
}

#[test]
fn a_proxy_is_asked_for_servers_that_are_elsewhere() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let proxy = listener.local_addr().unwrap();
    let asked: Arc<Mutex<Vec<String>>> = Arc::default();
    let log = asked.clone();
    // It is proxy and server in one: what comes after CONNECT is meant for the server.
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = BufReader::new(stream.unwrap());
            let connect = head(&mut stream);
            let credentials =
                connect.iter().find(|line| line.to_lowercase().starts_with("proxy-authorization"));
            log.lock().unwrap().extend([connect[0].clone(), credentials.cloned().unwrap_or_default()]);
            stream.get_mut().write_all(b"HTTP/1.1 200 OK\r\n\r\n").unwrap();
            log.lock().unwrap().extend(head(&mut stream).first().cloned());
            let answer = b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 4\r\n\r\ntext";
            stream.get_mut().write_all(answer).unwrap();
        }
    });
    let proxies = Proxies::new().http(format!("me:pw@{proxy}")).except("direct.example");
    let client = Client::new(proxies);
    let get = |url: &str| client.send(&Request::new("GET", url));
    // No such name is known here: the proxy's is the only way.
    assert_eq!(text(get("http://elsewhere.example/x?y").unwrap()), "text");
    let expected =
        ["CONNECT elsewhere.example:80 HTTP/1.1", "proxy-authorization: basic bWU6cHc=", "GET /x?y HTTP/1.1"];
    let said: Vec<String> = asked.lock().unwrap().drain(..).collect();
    assert_eq!(said.len(), 3, "{said:?}");
    for (said, expected) in said.iter().zip(expected) {
        assert!(said.eq_ignore_ascii_case(expected), "{said:?} is not {expected:?}");
    }
    assert!(get("http://direct.example/x").is_err());
    assert!(get(&format!("http://localhost:{}/x", proxy.port() ^ 1)).is_err());
    assert!(asked.lock().unwrap().is_empty(), "it was asked for neither");
}
