//! Debian's docker-registry, as somebody to speak with.

use std::fs;
use std::io::ErrorKind;
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// A registry of the test's own, on loopback, that ends with the value.
#[derive(Debug)]
pub struct DockerRegistry {
    child: Child,
    address: String,
}

/// `me`, and `hunter2` by bcrypt.
const USERS: &str = "me:$2y$05$Urz3HrqBCisPWuSmiNJDtuou3339W7u57eoThdw3.24.6KeqxV3bu\n";

impl DockerRegistry {
    /// Whether it is installed (Debian's package docker-registry).
    pub fn is_there() -> bool {
        Path::new("/usr/bin/docker-registry").exists()
    }

    /// Starts one that keeps everything below `dir`, on this port; `locked`, it lets in nobody but `me` with the password
    /// `hunter2`.
    ///
    /// # Panics
    /// When it does not come up within 20 seconds, with its log.
    pub fn start(dir: &Path, port: u16, locked: bool) -> DockerRegistry {
        let place = dir.join(format!("registry-{port}"));
        fs::create_dir_all(&place).unwrap();
        let (users, config, log) = (place.join("users"), place.join("config.yml"), place.join("log"));
        fs::write(&users, USERS).unwrap();
        let mut text = format!(
            "version: 0.1\nstorage:\n  filesystem:\n    rootdirectory: {}\nhttp:\n  addr: 127.0.0.1:{port}\n",
            place.join("data").display()
        );
        if locked {
            text += &format!("auth:\n  htpasswd:\n    realm: test\n    path: {}\n", users.display());
        }
        fs::write(&config, text).unwrap();
        let out = fs::File::create(&log).unwrap();
        let child = Command::new("/usr/bin/docker-registry")
            .arg("serve")
            .arg(&config)
            .stdin(Stdio::null())
            .stdout(out.try_clone().unwrap())
            .stderr(out)
            .spawn()
            .unwrap();
        let registry = DockerRegistry { child, address: format!("127.0.0.1:{port}") };
        let deadline = Instant::now() + Duration::from_secs(20);
        while let Err(error) = TcpStream::connect(&registry.address) {
            let said = fs::read_to_string(&log).unwrap_or_default();
            assert!(error.kind() == ErrorKind::ConnectionRefused, "{error}");
            assert!(Instant::now() < deadline, "docker-registry does not start: {said}");
            std::thread::sleep(Duration::from_millis(20));
        }
        registry
    }

    /// `127.0.0.1:5000`, as image names begin.
    pub fn address(&self) -> &str {
        &self.address
    }
}

impl Drop for DockerRegistry {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
