//! ADD of what is elsewhere: files from a server on loopback, repositories from a fetcher of the test.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use coracle_build::{Cancel, Error, Git, GitSource};
use coracle_host::Kind;

#[cfg(feature = "http")]
use crate::bench::built;
use crate::bench::{Bench, cached};

/// Has a tree for each reference, and counts.
#[derive(Default)]
struct Repository {
    checkouts: AtomicUsize,
}

impl Git for Repository {
    fn checkout(&self, source: &GitSource, into: &Path, _: Option<&Cancel>) -> Result<String, Error> {
        self.checkouts.fetch_add(1, Ordering::Relaxed);
        let commit = match source.reference.as_deref() {
            None | Some("main") => "a".repeat(40),
            Some(commit) if commit.len() == 40 => commit.to_owned(),
            Some(other) => return Err(Error::new(Kind::NotFound, format!("`{source}`: no `{other}`"))),
        };
        fs::create_dir_all(into.join(".git")).unwrap();
        fs::write(into.join(".git/HEAD"), &commit).unwrap();
        fs::create_dir_all(into.join("docs")).unwrap();
        fs::write(into.join("docs/a.md"), "text").unwrap();
        fs::write(into.join("run"), "x").unwrap();
        fs::set_permissions(into.join("run"), fs::Permissions::from_mode(0o700)).unwrap();
        fs::set_permissions(into.join("docs/a.md"), fs::Permissions::from_mode(0o600)).unwrap();
        for (name, to) in [("out", "/etc"), ("up", "../../../../../../etc")] {
            std::os::unix::fs::symlink(to, into.join(name)).unwrap();
        }
        Ok(commit)
    }
}

#[test]
fn repositories_are_fetched_by_whom_the_program_gives() {
    let mut bench = Bench::new();
    let text = "FROM base\nADD git@h:tool.git /all/\nADD --keep-git-dir https://me:pass@h/tool.git#main:docs /docs\n";
    let spec = bench.dockerfile(text);
    let error = bench.error(&spec);
    assert!(
        error.starts_with("Dockerfile:2:5: `git@h:tool.git`: this program gives builds no way"),
        "{error}"
    );
    let git = Arc::new(Repository::default());
    let spec = spec.git(git.clone());
    bench.build(&spec);
    assert_eq!(bench.read("all/docs/a.md").as_deref(), Some("text"));
    assert_eq!(bench.read("docs/a.md").as_deref(), Some("text"));
    assert!(bench.read("all/.git/HEAD").is_none(), "only where it is to be kept");
    let modes = ["all/run", "all/docs/a.md", "all/docs"].map(|path| bench.metadata(path).mode() & 0o7777);
    assert_eq!(modes, [0o755, 0o644, 0o755], "whatever the mask was");
    assert_eq!(git.checkouts.load(Ordering::Relaxed), 2);
    assert_eq!(cached(&bench.build(&spec)), [2, 3]);
    let history = bench.last_image().1["history"].to_string();
    assert!(history.contains("xxxxx:xxxxx@h/tool.git#main:docs") && !history.contains("pass@"), "{history}");
    // A whole commit's id never means anything else.
    let pinned = "b".repeat(40);
    let spec =
        bench.dockerfile(&format!("FROM base\nADD --keep-git-dir git://h/t#{pinned} /g\n")).git(git.clone());
    bench.build(&spec);
    assert_eq!(bench.read("g/.git/HEAD"), Some(pinned.clone()));
    let before = git.checkouts.load(Ordering::Relaxed);
    assert_eq!(cached(&bench.build(&spec)), [2]);
    assert_eq!(git.checkouts.load(Ordering::Relaxed), before, "nobody was asked");
    let spec = bench.dockerfile("FROM base\nADD --checksum=bbbbbbbb git@h:t.git /g\n").git(git.clone());
    let error = bench.try_build(&spec).unwrap_err();
    assert!(error.to_string().contains("is the commit aaaa") && error.kind() == Kind::Invalid, "{error}");
    for link in ["out", "up/ssl"] {
        let spec = bench.dockerfile(&format!("FROM base\nADD git@h:t.git#main:{link} /g\n")).git(git.clone());
        let error = bench.try_build(&spec).unwrap_err();
        assert_eq!(error.kind(), Kind::NotFound, "{error}");
    }
    let spec = bench.dockerfile("FROM base\nADD git@h:t.git#nosuch /g\n").git(git);
    assert_eq!(bench.try_build(&spec).unwrap_err().kind(), Kind::NotFound);
}

#[cfg(not(feature = "http"))]
#[test]
fn without_the_feature_it_is_said() {
    let mut bench = Bench::new();
    let spec = bench.dockerfile("FROM base\nADD http://127.0.0.1:1/x /x\n");
    let error = bench.try_build(&spec).unwrap_err();
    assert_eq!(error.kind(), Kind::Unsupported);
    assert!(error.to_string().contains("without the feature `http`"), "{error}");
}

#[cfg(feature = "http")]
mod web {
    use std::collections::BTreeMap;
    use std::io::{BufRead, BufReader, Write};
    use std::net::{TcpListener, TcpStream};
    use std::sync::Mutex;

    use sha2::{Digest, Sha256};

    use super::*;

    /// Path → version and bytes; the version is its ETag.
    type Files = Arc<Mutex<BTreeMap<String, (u32, Vec<u8>)>>>;

    struct Server {
        address: String,
        files: Files,
        /// Method, path and status of each request.
        log: Arc<Mutex<Vec<String>>>,
    }

    impl Server {
        fn new() -> Server {
            let listener = TcpListener::bind("127.0.0.1:0").unwrap();
            let address = listener.local_addr().unwrap().to_string();
            let (files, log) = (Files::default(), Arc::new(Mutex::new(Vec::new())));
            let (theirs, log_too) = (files.clone(), log.clone());
            // It ends with the test's process.
            std::thread::spawn(move || {
                for stream in listener.incoming() {
                    let _ = answer(stream.unwrap(), &theirs, &log_too);
                }
            });
            Server { address, files, log }
        }

        fn put(&self, path: &str, bytes: impl Into<Vec<u8>>) {
            let mut files = self.files.lock().unwrap();
            let version = files.get(path).map_or(1, |(version, _)| version + 1);
            files.insert(path.to_owned(), (version, bytes.into()));
        }

        /// What was asked since the last time.
        fn asked(&self) -> Vec<String> {
            std::mem::take(&mut self.log.lock().unwrap())
        }
    }

    fn answer(mut stream: TcpStream, files: &Files, log: &Mutex<Vec<String>>) -> std::io::Result<()> {
        let mut reader = BufReader::new(stream.try_clone()?);
        let mut lines = Vec::new();
        loop {
            let mut line = String::new();
            if reader.read_line(&mut line)? == 0 || line == "\r\n" {
                break;
            }
            lines.push(line.trim_end().to_owned());
        }
        let path = lines[0].split(' ').nth(1).unwrap_or("").to_owned();
        let allowed = lines.iter().any(|line| line.eq_ignore_ascii_case("authorization: Bearer hunter2"));
        if path == "/private" && !allowed {
            return stream
                .write_all(b"HTTP/1.1 401 Unauthorized\r\nConnection: close\r\nContent-Length: 0\r\n\r\n");
        }
        let known = lines
            .iter()
            .find_map(|line| line.to_ascii_lowercase().strip_prefix("if-none-match: ").map(str::to_owned));
        let file = files.lock().unwrap().get(path.split('?').next().unwrap()).cloned();
        let (status, headers, body) = match (path.strip_prefix("/to"), file) {
            (Some(elsewhere), _) => ("302 Found", format!("Location: {elsewhere}\r\n"), Vec::new()),
            (_, None) => ("404 Not Found", String::new(), b"no".to_vec()),
            (_, Some((version, _))) if known == Some(format!("\"{version}\"")) => {
                ("304 Not Modified", String::new(), Vec::new())
            }
            (_, Some((version, bytes))) => {
                let date = "Last-Modified: Sun, 06 Nov 1994 08:49:37 GMT";
                ("200 OK", format!("ETag: \"{version}\"\r\n{date}\r\n"), bytes)
            }
        };
        log.lock().unwrap().push(format!("{path} {}", &status[..3]));
        let head = format!(
            "HTTP/1.1 {status}\r\nConnection: close\r\nContent-Length: {}\r\n{headers}\r\n",
            body.len()
        );
        stream.write_all(head.as_bytes())?;
        stream.write_all(&body)
    }

    fn sha256(bytes: &[u8]) -> String {
        Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
    }

    #[test]
    fn a_url_is_fetched_when_it_has_changed() {
        let (mut bench, server) = (Bench::new(), Server::new());
        server.put("/a/tool.sh", "one");
        let base = &server.address;
        let spec = bench.dockerfile(&format!("FROM base\nADD --chmod=755 http://{base}/a/tool.sh?v=1 /bin/\nADD http://{base}/to/a/tool.sh /exact\n"));
        bench.build(&spec);
        assert_eq!(bench.read("bin/tool.sh").as_deref(), Some("one"));
        assert_eq!(bench.read("exact").as_deref(), Some("one"));
        let (tool, exact) = (bench.metadata("bin/tool.sh"), bench.metadata("exact"));
        assert_eq!((tool.mode() & 0o7777, exact.mode() & 0o7777), (0o755, 0o600), "docker's mode for URLs");
        server.asked();
        assert_eq!(cached(&bench.build(&spec)), [2, 3]);
        assert_eq!(
            server.asked(),
            ["/a/tool.sh?v=1 304", "/to/a/tool.sh 302", "/a/tool.sh 304"],
            "asked, not fetched"
        );
        server.put("/a/tool.sh", "two");
        assert_eq!(built(&bench.build(&spec)), [2, 3]);
        assert_eq!(bench.read("bin/tool.sh").as_deref(), Some("two"));
        // The same bytes under a new version are the same step.
        server.put("/a/tool.sh", "two");
        assert_eq!(cached(&bench.build(&spec)), [2, 3]);
        server.asked();
        bench.build(&spec.clone().no_cache(true));
        assert_eq!(server.asked()[0], "/a/tool.sh?v=1 200", "without the cache it is fetched");
        fs::remove_dir_all(bench.path("cache")).unwrap();
        fs::create_dir(bench.path("cache")).unwrap();
    }

    #[test]
    fn a_checksum_is_checked_and_makes_asking_needless() {
        let (mut bench, server) = (Bench::new(), Server::new());
        server.put("/f", "content");
        let url = format!("http://{}/f", server.address);
        let good = sha256(b"content");
        let spec = bench.dockerfile(&format!("FROM base\nARG SUM\nADD --checksum=sha256:$SUM {url} /f\n"));
        let right = spec.clone().arg("SUM", &good);
        bench.build(&right);
        assert_eq!(bench.read("f").as_deref(), Some("content"));
        server.asked();
        assert_eq!(cached(&bench.build(&right)), [3]);
        assert_eq!(server.asked(), [""; 0]);
        let error = bench.try_build(&spec.clone().arg("SUM", sha256(b"other"))).unwrap_err();
        assert_eq!(error.kind(), Kind::Invalid);
        let error = error.to_string();
        assert!(
            error.starts_with("Dockerfile:3:")
                && error.contains(&format!("is sha256:{good}, and not sha256:")),
            "{error}"
        );
        assert_eq!(bench.try_build(&spec.arg("SUM", "12")).unwrap_err().kind(), Kind::Invalid);
    }

    #[test]
    fn a_secret_opens_what_is_private_and_is_seen_nowhere() {
        let (mut bench, server) = (Bench::new(), Server::new());
        server.put("/private", "mine");
        let spec = bench.dockerfile(&format!("FROM base\nADD http://{}/private /f\n", server.address));
        assert_eq!(bench.try_build(&spec).unwrap_err().kind(), Kind::Denied);
        let spec = spec.secret(format!("HTTP_AUTH_TOKEN_{}", server.address), "hunter2\n");
        bench.build(&spec);
        assert_eq!(bench.read("f").as_deref(), Some("mine"));
        for record in bench.records().iter().filter(|record| record.is_file()) {
            assert!(!fs::read_to_string(record).unwrap().contains("hunter2"));
        }
    }

    #[test]
    fn archives_are_unpacked_where_it_is_asked() {
        let (mut bench, server) = (Bench::new(), Server::new());
        let mut tar = tar::Builder::new(Vec::new());
        let mut header = tar::Header::new_gnu();
        header.set_size(2);
        header.set_mode(0o644);
        header.set_uid(rustix::process::geteuid().as_raw().into());
        header.set_gid(rustix::process::getegid().as_raw().into());
        tar.append_data(&mut header, "d/in", &b"in"[..]).unwrap();
        server.put("/a.tar", tar.into_inner().unwrap());
        let url = format!("http://{}/a.tar", server.address);
        let spec = bench.dockerfile(&format!(
            "FROM base\nADD {url} /as-is/\nADD --unpack=true {url} /un\nADD Dockerfile {url} /both/\n"
        ));
        bench.build(&spec);
        assert!(bench.metadata("as-is/a.tar").is_file() && bench.metadata("both/a.tar").is_file());
        assert_eq!(bench.read("un/d/in").as_deref(), Some("in"));
        assert!(bench.metadata("both/Dockerfile").is_file());
        assert_eq!(cached(&bench.build(&spec)), [2, 3, 4]);
    }

    #[test]
    fn failures_name_the_url_and_no_password() {
        let (mut bench, server) = (Bench::new(), Server::new());
        let host = server.address.clone();
        let mut fails = |url: &str| {
            let spec = bench.dockerfile(&format!("FROM base\nADD {url} /f\n"));
            let error = bench.try_build(&spec).unwrap_err();
            assert!(error.to_string().starts_with("Dockerfile:2:5: "), "{error}");
            (error.kind(), error.diagnostics()[0].message().to_owned())
        };
        let (kind, message) = fails(&format!("http://me:hunter2@{host}/none"));
        assert_eq!(kind, Kind::NotFound);
        assert!(message.contains("the server says 404") && !message.contains("hunter2"), "{message}");
        let closed = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let (kind, message) = fails(&format!("http://{closed}/x"));
        assert_eq!(kind, Kind::Failed);
        assert!(message.starts_with(&format!("get http://{closed}/x: ")), "{message}");
    }

    #[test]
    fn a_context_is_an_archive_or_a_dockerfile() {
        use coracle_build::{Fetch, Remote, RemoteContext, fetch_context};
        let (bench, server) = (Bench::new(), Server::new());
        let state = coracle_host::Dir::open(bench.path("")).unwrap();
        let staging = coracle_host::Staging::open(&state.make("tmp", 0o700).unwrap()).unwrap();
        let fetch = |path: &str| {
            let remote = Remote::parse(&format!("http://{}{path}", server.address)).unwrap();
            fetch_context(&remote, &Fetch::new().git(&Repository::default()), &staging)
        };
        server.put("/Dockerfile", "FROM a");
        assert!(
            matches!(fetch("/Dockerfile").unwrap(), RemoteContext::Dockerfile(text) if text == b"FROM a")
        );
        let mut tar = tar::Builder::new(Vec::new());
        let mut header = tar::Header::new_gnu();
        header.set_size(2);
        header.set_mode(0o644);
        tar.append_data(&mut header, "in", &b"in"[..]).unwrap();
        server.put("/c.tar.zst", zstd::encode_all(&tar.into_inner().unwrap()[..], 1).unwrap());
        let RemoteContext::Directory(context) = fetch("/c.tar.zst").unwrap() else { panic!() };
        assert_eq!(fs::read_to_string(context.path().join("in")).unwrap(), "in");
        let RemoteContext::Directory(context) = fetch("/x.git#main:docs").unwrap() else { panic!() };
        assert_eq!(fs::read_to_string(context.path().join("a.md")).unwrap(), "text");
        assert!(matches!(fetch("/x.git#main:no/such"), Err(error) if error.kind() == Kind::NotFound));
        // CVE-2026-33748: a link leads nowhere else.
        for link in ["out", "up", "out/ssl"] {
            assert!(fetch(&format!("/x.git#main:{link}")).is_err(), "{link}");
        }
        assert!(matches!(fetch("/nothing"), Err(error) if error.kind() == Kind::NotFound));
    }
}
