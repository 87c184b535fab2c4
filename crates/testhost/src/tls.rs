//! Somebody who speaks TLS, with certificates that nobody has seen before.

use std::fs;
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::mount::{UnmountFlags, mount_bind, unmount};

/// A server (openssl's) on 127.0.0.1 that gives files by https, as `localhost` and 127.0.0.1. It ends with the value.
#[derive(Debug)]
pub struct TlsServer {
    child: Child,
    files: PathBuf,
    authority: PathBuf,
}

/// The certificates that this host trusts, where Debian keeps them.
const BUNDLE: &str = "/etc/ssl/certs/ca-certificates.crt";

impl TlsServer {
    /// Whether openssl is installed, and the host has certificates to trust.
    pub fn is_possible() -> bool {
        Path::new("/usr/bin/openssl").exists() && Path::new(BUNDLE).exists()
    }

    /// Makes an authority and a certificate of its, and starts the server.
    ///
    /// # Panics
    /// When openssl does not do it, or does not come up within 20 seconds.
    pub fn start(dir: &Path, port: u16) -> TlsServer {
        let place = dir.join(format!("tls-{port}"));
        let files = place.join("files");
        fs::create_dir_all(&files).unwrap();
        fs::write(place.join("names"), "subjectAltName=DNS:localhost,IP:127.0.0.1\n").unwrap();
        for line in [
            "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -keyout ca.key -out ca.pem -days 2 -subj /CN=authority",
            "req -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -keyout key.pem -out request.pem -subj /CN=server",
            "x509 -req -in request.pem -CA ca.pem -CAkey ca.key -out cert.pem -days 2 -extfile names",
        ] {
            let output =
                Command::new("/usr/bin/openssl").args(line.split(' ')).current_dir(&place).output().unwrap();
            assert!(output.status.success(), "{line}: {}", String::from_utf8_lossy(&output.stderr));
        }
        let accept = format!("127.0.0.1:{port}");
        let child = Command::new("/usr/bin/openssl")
            .args([
                "s_server",
                "-quiet",
                "-accept",
                &accept,
                "-HTTP",
                "-cert",
                "../cert.pem",
                "-key",
                "../key.pem",
            ])
            .current_dir(&files)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let server = TlsServer { child, files, authority: place.join("ca.pem") };
        let deadline = Instant::now() + Duration::from_secs(20);
        while TcpStream::connect(&accept).is_err() {
            assert!(Instant::now() < deadline, "openssl s_server does not start");
            std::thread::sleep(Duration::from_millis(10));
        }
        server
    }

    /// Has it give these bytes under `/name`.
    ///
    /// # Panics
    /// When the file can't be written.
    pub fn put(&self, name: &str, bytes: &[u8]) {
        let head = format!("HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: {}\r\n\r\n", bytes.len());
        fs::write(self.files.join(name), [head.as_bytes(), bytes].concat()).unwrap();
    }

    /// Has this host trust its authority, and nobody else, for as long as the value lives.
    ///
    /// # Panics
    /// When the host's own certificates can't be mounted over.
    pub fn trusted(&self) -> Trusted {
        mount_bind(&self.authority, BUNDLE).unwrap();
        Trusted(())
    }
}

impl Drop for TlsServer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// See [`TlsServer::trusted`].
#[derive(Debug)]
pub struct Trusted(());

impl Drop for Trusted {
    fn drop(&mut self) {
        unmount(BUNDLE, UnmountFlags::DETACH).unwrap();
    }
}
