//! DNS over TCP: messages with their length in front (RFC 1035, section 4.2.2), on sockets that never block.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use coracle_host::Call;
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType, connect, socket_with};

use crate::Result;

/// How long a connection may be of no use.
const PATIENCE: Duration = Duration::from_secs(10);

/// What a connection is for.
#[derive(Debug)]
pub(crate) enum Role {
    /// A container asks.
    Client,
    /// We ask `server` on behalf of the connection `client`.
    Upstream { client: u64, server: usize, query: Vec<u8>, tries: usize },
}

#[derive(Debug)]
pub(crate) struct Connection {
    stream: TcpStream,
    pub(crate) role: Role,
    input: Vec<u8>,
    output: Vec<u8>,
    pub(crate) deadline: Instant,
}

/// Whether a connection goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    Open,
    Closed,
}

impl Connection {
    pub(crate) fn accepted(stream: TcpStream, now: Instant) -> Result<Connection> {
        stream.set_nonblocking(true).call(|| "fcntl(127.0.0.11:53, O_NONBLOCK)")?;
        Ok(Connection::new(stream, Role::Client, now))
    }

    /// Begins to connect to a server; whether that works is known when it becomes writable.
    pub(crate) fn to(server: SocketAddr, role: Role, now: Instant) -> Result<Connection> {
        let family = if server.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let socket = socket_with(family, SocketType::STREAM, flags, None).call(|| "socket(SOCK_STREAM)")?;
        match connect(&socket, &server) {
            Ok(()) | Err(Errno::INPROGRESS) => Ok(Connection::new(socket.into(), role, now)),
            Err(errno) => Err(crate::Error::os(format!("connect({server})"), errno)),
        }
    }

    fn new(stream: TcpStream, role: Role, now: Instant) -> Connection {
        Connection { stream, role, input: Vec::new(), output: Vec::new(), deadline: now + PATIENCE }
    }

    pub(crate) fn stream(&self) -> &TcpStream {
        &self.stream
    }

    pub(crate) fn wants_to_write(&self) -> bool {
        !self.output.is_empty()
    }

    /// Queues a message. What is longer than a length can say does not exist in DNS.
    pub(crate) fn push(&mut self, message: &[u8]) {
        if let Ok(length) = u16::try_from(message.len()) {
            self.output.extend(length.to_be_bytes());
            self.output.extend(message);
        }
    }

    /// Sends what can be sent now.
    pub(crate) fn write(&mut self, now: Instant) -> State {
        while !self.output.is_empty() {
            match (&self.stream).write(&self.output) {
                Ok(0) => return State::Closed,
                Ok(sent) => {
                    self.output.drain(..sent);
                    self.deadline = now + PATIENCE;
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(_) => return State::Closed,
            }
        }
        State::Open
    }

    /// Reads what is there, at most a few messages at a time, and returns those that are whole.
    pub(crate) fn read(&mut self, now: Instant) -> (Vec<Vec<u8>>, State) {
        let mut buffer = [0; 8192];
        let mut state = State::Open;
        for _ in 0..8 {
            match (&self.stream).read(&mut buffer) {
                Ok(0) => {
                    state = State::Closed;
                    break;
                }
                Ok(got) => self.input.extend(&buffer[..got]),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(_) => {
                    state = State::Closed;
                    break;
                }
            }
        }
        let messages = split(&mut self.input);
        // Only whole messages buy time, so that nobody keeps a connection by dripping bytes.
        if !messages.is_empty() {
            self.deadline = now + PATIENCE;
        }
        (messages, state)
    }
}

/// Takes the whole messages off the front.
fn split(input: &mut Vec<u8>) -> Vec<Vec<u8>> {
    let (mut messages, mut at) = (Vec::new(), 0);
    while let Some(length) = input.get(at..at + 2) {
        let length = u16::from_be_bytes([length[0], length[1]]) as usize;
        let Some(message) = input.get(at + 2..at + 2 + length) else { break };
        messages.push(message.to_vec());
        at += 2 + length;
    }
    input.drain(..at);
    messages
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_split_wherever_they_are_cut() {
        let stream = b"\0\x03abc\0\0\0\x02de\0\x05xyz";
        for cut in 0..stream.len() {
            let mut input = stream[..cut].to_vec();
            let mut messages = split(&mut input);
            input.extend(&stream[cut..]);
            messages.extend(split(&mut input));
            assert_eq!(messages, [b"abc".to_vec(), vec![], b"de".to_vec()]);
            assert_eq!(input, b"\0\x05xyz");
        }
    }
}
