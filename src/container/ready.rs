//! When a container counts as started.

use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use super::{Container, LogQuery, Logs, State};
use crate::Kind;
use crate::error::{Error, Result};
use crate::port::{Port, tcp};

/// How often is looked again.
const PAUSE: Duration = Duration::from_millis(5);

/// A condition that [`Engine::start`](crate::Engine::start) waits for. The container must not end before.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ready {
    what: What,
    within: Duration,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum What {
    Log(String),
    Port(Port),
}

impl Ready {
    /// A line that contains this text has been written to its standard output or error.
    pub fn log(text: impl Into<String>) -> Ready {
        Ready { what: What::Log(text.into()), within: Duration::from_secs(60) }
    }

    /// The port accepts connections at the container's address. The container needs a network for that.
    pub fn port(port: Port) -> Ready {
        Ready { what: What::Port(port), within: Duration::from_secs(60) }
    }

    /// How long is waited at most; a minute unless it is said.
    #[must_use]
    pub fn within(mut self, patience: Duration) -> Ready {
        self.within = patience;
        self
    }

    /// What is wrong with it, if anything.
    pub(crate) fn problem(&self) -> Option<String> {
        match &self.what {
            What::Port(port) if *port != tcp(port.number()) => {
                Some(format!("ready when port {port} answers: only TCP ports can be asked"))
            }
            _ => None,
        }
    }

    /// Waits for it.
    pub(crate) fn wait(&self, container: &Container) -> Result<()> {
        if matches!(self.what, What::Port(_)) && !container.has_network() {
            let text = format!("container `{}` has no network to wait on until {self}", container.name());
            return Err(Error::new(Kind::Invalid, text));
        }
        let deadline = Instant::now() + self.within;
        let mut logs = match &self.what {
            What::Log(_) => Some(container.read_logs(&LogQuery::new())?),
            What::Port(_) => None,
        };
        loop {
            // The state first: what a container wrote before its end counts, too.
            let state = container.state()?;
            if self.is_so(container, logs.as_mut())? {
                return Ok(());
            }
            if !matches!(state, State::Starting | State::Running) {
                let tail = container.output()?.tail(10);
                let text = format!("container `{}` {state} before {self}{tail}", container.name());
                return Err(Error::new(Kind::Failed, text));
            }
            if Instant::now() >= deadline {
                let tail = container.output()?.tail(10);
                let within = self.within;
                let text =
                    format!("container `{}`: waited {within:?} in vain until {self}{tail}", container.name());
                return Err(Error::new(Kind::Timeout, text));
            }
            std::thread::sleep(PAUSE);
        }
    }

    fn is_so(&self, container: &Container, logs: Option<&mut Logs<'_>>) -> Result<bool> {
        match &self.what {
            What::Log(text) => {
                let Some(logs) = logs else { return Ok(false) };
                while let Some(line) = logs.next_now()? {
                    if line.log.contains(text.as_str()) {
                        return Ok(true);
                    }
                }
                Ok(false)
            }
            What::Port(port) => {
                // No address: it has just ended, which the next look will tell.
                Ok(container.address()?.is_some_and(|address| accepts(address, *port)))
            }
        }
    }
}

fn accepts(address: Ipv4Addr, port: Port) -> bool {
    TcpStream::connect_timeout(&SocketAddr::from((address, port.number())), Duration::from_secs(1)).is_ok()
}

impl std::fmt::Display for Ready {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.what {
            What::Log(text) => write!(f, "{text:?} was in its log"),
            What::Port(port) => write!(f, "port {port} accepted a connection"),
        }
    }
}
