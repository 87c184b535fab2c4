//! The socket of systemd's manager.

use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use coracle_host::{Call, Error, Kind, Result};
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags};

use super::message::{self, Arg, Incoming};

/// Where the system's manager answers root without a bus in between.
const SOCKET: &str = "/run/systemd/private";
/// systemd's names of errors.
const ERRORS: [(&str, Kind); 6] = [
    ("org.freedesktop.systemd1.UnitExists", Kind::AlreadyExists),
    ("org.freedesktop.systemd1.NoSuchUnit", Kind::NotFound),
    ("org.freedesktop.DBus.Error.AccessDenied", Kind::Denied),
    ("org.freedesktop.DBus.Error.PropertyReadOnly", Kind::Unsupported),
    ("org.freedesktop.DBus.Error.UnknownMethod", Kind::Unsupported),
    ("org.freedesktop.DBus.Error.InvalidArgs", Kind::Invalid),
];

/// A connection. Signals that come between answers are kept for whoever waits for them.
pub(super) struct Connection {
    stream: UnixStream,
    received: Vec<u8>,
    serial: u32,
    signals: Vec<(String, Vec<String>)>,
    deadline: Instant,
}

impl Connection {
    /// Connects; everything that is asked for has to be done in that time.
    ///
    /// # Errors
    /// `Unsupported` where this host is not run by systemd, or where that counts processes otherwise; `Denied` but for root.
    pub(super) fn open(patience: Duration) -> Result<Connection> {
        let stream = UnixStream::connect(SOCKET).call(|| format!("connect({SOCKET:?})"));
        let stream = stream.map_err(|error| match error.errno() {
            Some(Errno::NOENT | Errno::CONNREFUSED) => {
                let text = format!(
                    "this host is not run by systemd, which would make the scope ({error}): boot it with systemd, or \
                     have the group made without (a path for `slice:prefix:name`, the caller's cgroupfs driver)"
                );
                Error::new(Kind::Unsupported, text)
            }
            _ => error,
        })?;
        // It would take a number of ours for another process of its own, and kill that with the scope.
        if coracle_host::peer(&stream)? != Some(1) {
            let text = format!(
                "{SOCKET}: systemd runs in another pid namespace, and so counts processes otherwise: scopes can be made in \
                 its own only"
            );
            return Err(Error::new(Kind::Unsupported, text));
        }
        let (received, signals) = (Vec::new(), Vec::new());
        let deadline = Instant::now() + patience;
        let mut new = Connection { stream, received, serial: 0, signals, deadline };
        new.authenticate()?;
        Ok(new)
    }

    /// D-Bus specification, "Authentication Protocol": who we are the kernel says. All of it goes out at once, as sd-bus
    /// does: what systemd reads together with `BEGIN` it takes up only when more comes.
    fn authenticate(&mut self) -> Result<()> {
        let uid = rustix::process::geteuid().as_raw().to_string();
        let hex: String = uid.bytes().map(|byte| format!("{byte:02x}")).collect();
        self.send(format!("\0AUTH EXTERNAL {hex}\r\nBEGIN\r\n").as_bytes())?;
        let end = loop {
            match self.received.windows(2).position(|two| two == b"\r\n") {
                Some(end) => break end,
                None => self.receive()?,
            }
        };
        let line: Vec<u8> = self.received.drain(..end + 2).collect();
        if line.starts_with(b"OK ") {
            return Ok(());
        }
        let said = String::from_utf8_lossy(&line[..end]).into_owned();
        Err(Error::new(Kind::Denied, format!("{SOCKET}: systemd does not let us in: {said:?}")))
    }

    /// Calls the manager, waits for the answer, and gives the strings of that.
    ///
    /// # Errors
    /// What systemd refuses, with its words; `Timeout`.
    pub(super) fn call(&mut self, member: &str, args: &[Arg<'_>]) -> Result<Vec<String>> {
        self.serial += 1;
        let serial = self.serial;
        self.send(&message::call(serial, member, args))?;
        loop {
            match self.next()? {
                Incoming::Reply { to, strings } if to == serial => return Ok(strings),
                Incoming::Refusal { to, name, text } if to == serial => {
                    let known = ERRORS.iter().find(|(error, _)| *error == name);
                    let kind = known.map_or(Kind::Other, |(_, kind)| *kind);
                    return Err(Error::new(kind, format!("systemd: {member}(): {text} ({name})")));
                }
                Incoming::Signal { member, strings } => self.signals.push((member, strings)),
                _ => {}
            }
        }
    }

    /// Waits for a signal of this name with this string in it, which may have come before, and gives all of its strings.
    ///
    /// # Errors
    /// `Timeout`.
    pub(super) fn wait(&mut self, member: &str, with: &str) -> Result<Vec<String>> {
        let is = |name: &str, strings: &[String]| name == member && strings.iter().any(|one| one == with);
        if let Some(at) = self.signals.iter().position(|(name, strings)| is(name, strings)) {
            return Ok(self.signals.swap_remove(at).1);
        }
        loop {
            if let Incoming::Signal { member: name, strings } = self.next()?
                && is(&name, &strings)
            {
                return Ok(strings);
            }
        }
    }

    fn next(&mut self) -> Result<Incoming> {
        loop {
            if let Some((message, size)) = message::incoming(&self.received)? {
                self.received.drain(..size);
                return Ok(message);
            }
            self.receive()?;
        }
    }

    fn send(&mut self, bytes: &[u8]) -> Result<()> {
        let left = self.left()?;
        self.stream.set_write_timeout(Some(left)).call(|| "setsockopt(SO_SNDTIMEO)")?;
        let mut rest = bytes;
        while !rest.is_empty() {
            // Without a signal where the other end is closed.
            match rustix::net::send(&self.stream, rest, SendFlags::NOSIGNAL) {
                Ok(sent) => rest = &rest[sent..],
                Err(Errno::INTR) => {}
                Err(errno) => return Err(failed("send", errno)),
            }
        }
        Ok(())
    }

    fn receive(&mut self) -> Result<()> {
        let left = self.left()?;
        self.stream.set_read_timeout(Some(left)).call(|| "setsockopt(SO_RCVTIMEO)")?;
        let mut some = [0; 4096];
        match rustix::net::recv(&self.stream, &mut some, RecvFlags::empty()) {
            Ok((0, _)) => {
                Err(Error::new(Kind::Interrupted, format!("{SOCKET}: systemd has closed the connection")))
            }
            Ok((size, _)) => {
                self.received.extend(&some[..size]);
                Ok(())
            }
            Err(Errno::INTR) => Ok(()),
            Err(errno) => Err(failed("recv", errno)),
        }
    }

    fn left(&self) -> Result<Duration> {
        let left = self.deadline.saturating_duration_since(Instant::now());
        if left.is_zero() { Err(silent()) } else { Ok(left) }
    }
}

fn failed(call: &str, errno: Errno) -> Error {
    match errno {
        Errno::AGAIN => silent(),
        _ => Error::os(format!("{call}({SOCKET:?})"), errno),
    }
}

fn silent() -> Error {
    Error::new(Kind::Timeout, format!("{SOCKET}: systemd has not answered in time"))
}
