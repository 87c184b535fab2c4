//! `coracle build` of what is elsewhere: repositories from a daemon on the test's own loopback, image layouts.

use std::fs;
use std::io::Write;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

use coracle_testhost::{Host, TlsServer, run, skip};

use crate::support::Cli;

/// Serves the repositories below a directory until it is dropped, each connection by a git of its own.
struct Daemon {
    address: SocketAddr,
    over: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Daemon {
    fn start(below: &Path) -> Daemon {
        let base = format!("--base-path={}", below.display());
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let over = Arc::new(AtomicBool::new(false));
        let stop = over.clone();
        let thread = std::thread::spawn(move || {
            for stream in listener.incoming().take_while(|_| !stop.load(Ordering::SeqCst)) {
                let stream = OwnedFd::from(stream.unwrap());
                let mut command = Command::new("git");
                command.args(["daemon", "--inetd", "--export-all", &base]).stderr(Stdio::null());
                command.stdin(stream.try_clone().unwrap()).stdout(stream).status().unwrap();
            }
        });
        Daemon { address, over, thread: Some(thread) }
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        self.over.store(true, Ordering::SeqCst);
        // It looks only when somebody comes.
        let _ = TcpStream::connect(self.address);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn git(dir: &Path, words: &[&str]) -> String {
    let mut command = Command::new("git");
    command.args(["-c", "user.name=n", "-c", "user.email=a@b", "-c", "init.defaultBranch=main"]).args(words);
    let output = command.current_dir(dir).output().unwrap();
    assert!(output.status.success(), "{words:?}: {output:?}");
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

/// Two commits, the first tagged `v1`; returns its id.
fn repository(host: &Host) -> String {
    let repo = host.dir().join("repo");
    fs::create_dir_all(repo.join("docs")).unwrap();
    fs::write(repo.join("Dockerfile"), "FROM base\nCOPY a /a\n").unwrap();
    fs::write(repo.join("docs/d"), "doc").unwrap();
    fs::write(repo.join("a"), "one").unwrap();
    git(&repo, &["init", "-q"]);
    git(&repo, &["add", "."]);
    git(&repo, &["commit", "-qm", "one"]);
    git(&repo, &["tag", "v1"]);
    fs::write(repo.join("a"), "two").unwrap();
    git(&repo, &["commit", "-qam", "two"]);
    git(&repo, &["rev-parse", "v1"])
}

#[test]
fn repositories_are_contexts_and_sources() {
    run(|host| {
        let cli = Cli::new(host);
        let first = repository(host);
        let daemon = Daemon::start(host.dir());
        let url = &format!("git://{}/repo", daemon.address);
        let says = |image: &str, command: &[&str]| {
            cli.ok(&[&["run", "--rm", "--network", "none", image], command].concat())
        };
        cli.ok(&["build", "-q", "-t", "head", url]);
        assert_eq!(says("head", &["cat", "/a"]), "two");
        cli.ok(&["build", "-q", "-t", "tagged", &format!("{url}#v1")]);
        assert_eq!(says("tagged", &["cat", "/a"]), "one");
        let text = format!(
            "FROM base\nADD {url}#v1 /v1/\nADD {url}#{first}:docs /docs/\nADD --keep-git-dir {url}#main /all\nADD {url}#{} /short\n\
             COPY --from=also docs/d /also\n",
            &first[..9]
        );
        let context = host.dir().join("context");
        fs::create_dir_all(&context).unwrap();
        fs::write(context.join("Dockerfile"), text).unwrap();
        let words = [
            "build",
            "-q",
            "-t",
            "added",
            "--build-context",
            &format!("also={url}"),
            context.to_str().unwrap(),
        ];
        let id = cli.ok(&words);
        assert_eq!(
            says("added", &["cat", "/v1/a", "/docs/d", "/all/a", "/short/a", "/also"]),
            "onedoctwoonedoc"
        );
        assert_eq!(says("added", &["ls", "-a", "/v1"]), ".\n..\nDockerfile\na\ndocs\n");
        assert_eq!(says("added", &["stat", "-c", "%a %u", "/all/.git", "/v1/a"]), "755 0\n644 0\n");
        assert_eq!(cli.ok(&words), id, "nothing has changed");
        for (reference, words) in [("nosuch", "has no `nosuch`"), ("--upload-pack=x", "can't begin with `-`")]
        {
            let ended = cli.run(&["build", "-q", &format!("{url}#{reference}")]);
            assert_eq!(ended.status, 1, "{ended:?}");
            assert!(ended.err.contains(words), "{ended:?}");
        }
        let ended = cli.run(&["build", "-q", "http://me:hunter2@127.0.0.1:1/x.git"]);
        assert!(ended.status == 1 && !ended.err.contains("hunter2"), "{ended:?}");
    });
}

#[test]
fn a_stage_starts_from_an_image_layout() {
    run(|host| {
        let cli = Cli::new(host);
        let (tar, dir) = (host.dir().join("o.tar"), host.dir().join("layout"));
        fs::create_dir(&dir).unwrap();
        let context = host.dir().join("context");
        fs::create_dir_all(&context).unwrap();
        fs::write(context.join("Dockerfile"), "FROM base\nENV FROM_LAYOUT=yes\n").unwrap();
        let output = format!("type=oci,dest={}", tar.display());
        let build = ["build", "-q", "-t", "app:1", "--annotation", "org.example.note=hello", "-o", &output];
        let id = cli.ok(&[&build[..], &[context.to_str().unwrap()]].concat());
        let done = Command::new("tar").arg("-xf").arg(&tar).arg("-C").arg(&dir).status().unwrap();
        assert!(done.success());
        let index = fs::read_to_string(dir.join("index.json")).unwrap();
        let index: serde_json::Value = serde_json::from_str(&index).unwrap();
        let digest = index["manifests"][0]["digest"].as_str().unwrap();
        let manifest = fs::read(dir.join("blobs/sha256").join(&digest[7..])).unwrap();
        let manifest: serde_json::Value = serde_json::from_slice(&manifest).unwrap();
        assert_eq!(manifest["annotations"]["org.example.note"], "hello");
        for place in
            [format!("{}:1", dir.display()), format!("{}@{digest}", dir.display()), tar.display().to_string()]
        {
            let named = format!("from=oci-layout://{place}");
            let ended =
                cli.run_with(&["build", "-q", "--build-context", &named, "-"], "FROM from\nENV MORE=1\n");
            assert_eq!(ended.status, 0, "{ended:?}");
            let env = cli.ok(&["inspect", "--format", "{{json .Config.Env}}", ended.out.trim()]);
            assert!(env.contains("FROM_LAYOUT=yes") && env.contains("MORE=1"), "{env}");
            let ended = cli.run_with(&["build", "-q", "--build-context", &named, "-"], "FROM from\n");
            assert_eq!(ended.out, id, "the same image");
        }
        let named = format!("from=oci-layout://{}:2", dir.display());
        let ended = cli.run_with(&["build", "-q", "--build-context", &named, "-"], "FROM from\n");
        assert!(ended.status == 1 && ended.err.contains("no image `2` is in it, but 1"), "{ended:?}");
        let names = cli.ok(&["images", "--format", "{{.Repository}}"]);
        assert!(!names.contains("app"), "the layout's names are not taken over: {names}");
    });
}

#[test]
fn files_come_by_https() {
    run(|host| {
        if !TlsServer::is_possible() {
            return skip(host.test(), "openssl or the system's certificates are not installed");
        }
        let cli = Cli::new(host);
        let server = TlsServer::start(host.dir(), 4433);
        server.put("file", b"text");
        server.put("Dockerfile", b"FROM base\nADD https://localhost:4433/file /a\nRUN cat /a\n");
        let words = ["build", "--progress=plain", "https://localhost:4433/Dockerfile"];
        let stranger = cli.run(&words);
        assert_eq!(stranger.status, 1, "{stranger:?}");
        assert!(stranger.err.contains("certificate"), "{stranger:?}");
        let trusted = server.trusted();
        let built = cli.run(&words);
        assert_eq!(built.status, 0, "{built:?}");
        assert!(built.err.lines().any(|line| line.ends_with(" text")), "{built:?}");
        // A proxy that the environment names is asked, and is not there; for this host itself none is.
        let proxied = |file: &str| {
            let mut command = cli.command(&["build", "-q", "-"]);
            command.env("HTTPS_PROXY", "http://me:hunter2@127.0.0.1:1").stdin(Stdio::piped());
            let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
            child.stdin.take().unwrap().write_all(format!("FROM base\nADD {file} /b\n").as_bytes()).unwrap();
            let output = child.wait_with_output().unwrap();
            (output.status.code(), String::from_utf8(output.stderr).unwrap())
        };
        assert_eq!(proxied("https://localhost:4433/file").0, Some(0));
        let (status, said) = proxied("https://elsewhere.example/file");
        assert_eq!(status, Some(1), "{said}");
        assert!(said.contains("get https://elsewhere.example/file: ") && said.contains("refused"), "{said}");
        assert!(!said.contains("hunter2"), "{said}");
        drop(trusted);
    });
}
