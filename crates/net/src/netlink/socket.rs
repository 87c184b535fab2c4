//! One blocking socket, of the network namespace of the thread that opened it.

use std::cell::Cell;
use std::time::Duration;

use coracle_host::Call;
use netlink_packet_core::{
    NLM_F_ACK, NLM_F_DUMP, NLM_F_REQUEST, NLMSG_DONE, NLMSG_ERROR, NetlinkBuffer, NetlinkSerializable,
};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_sys::{SocketAddr, protocols};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;

use super::attrs::{attributes, text};
use crate::{Error, Kind, Result};

const HEADER: usize = 16;
const MSG_DONTWAIT: i32 = 0x40;
/// `NLM_F_DUMP_INTR`: the table changed while it was listed.
const DUMP_INTERRUPTED: u16 = 0x10;
/// `NLM_F_CAPPED` and `NLM_F_ACK_TLVS`: what follows an error code.
const CAPPED: u16 = 0x100;
const EXPLAINED: u16 = 0x200;
const EXPLANATION: u16 = 1;

/// One message to the kernel, and what to call it when it fails.
#[derive(Clone, Debug)]
pub(crate) struct Request {
    kind: u16,
    flags: u16,
    payload: Vec<u8>,
    what: String,
}

impl Request {
    pub(crate) fn new(kind: u16, flags: u16, payload: Vec<u8>, what: impl Into<String>) -> Request {
        Request { kind, flags, payload, what: what.into() }
    }

    pub(crate) fn route(message: RouteNetlinkMessage, flags: u16, what: impl Into<String>) -> Request {
        let mut payload = vec![0; message.buffer_len()];
        message.serialize(&mut payload);
        Request::new(message.message_type(), flags, payload, what)
    }

    #[cfg(test)]
    pub(crate) fn payload(&self) -> &[u8] {
        &self.payload
    }

    fn is_dump(&self) -> bool {
        self.flags & NLM_F_DUMP == NLM_F_DUMP
    }

    fn append_to(&self, buffer: &mut Vec<u8>, sequence: u32, flags: u16) {
        buffer.extend(((HEADER + self.payload.len()) as u32).to_ne_bytes());
        buffer.extend(self.kind.to_ne_bytes());
        buffer.extend((self.flags | flags).to_ne_bytes());
        buffer.extend(sequence.to_ne_bytes());
        buffer.extend([0; 4]);
        buffer.extend(&self.payload);
        buffer.resize(buffer.len().next_multiple_of(4), 0);
    }
}

/// One message from the kernel that is not an acknowledgement.
#[derive(Clone, Debug)]
pub(crate) struct Reply {
    pub(crate) kind: u16,
    pub(crate) payload: Vec<u8>,
}

/// What a monitor hears.
#[derive(Debug)]
pub(crate) enum News {
    Heard(Vec<Reply>),
    /// Something, perhaps.
    Unknown,
}

/// What the kernel answered to each request of one sending.
pub(crate) type Answers = Vec<Result<Vec<Reply>>>;

pub(crate) struct Socket {
    inner: netlink_sys::Socket,
    sequence: Cell<u32>,
}

impl Socket {
    /// For links, addresses and routes (rtnetlink(7)).
    pub(crate) fn route() -> Result<Socket> {
        Socket::open(protocols::NETLINK_ROUTE, "NETLINK_ROUTE")
    }

    /// For nf_tables.
    pub(crate) fn netfilter() -> Result<Socket> {
        Socket::open(protocols::NETLINK_NETFILTER, "NETLINK_NETFILTER")
    }

    /// Hears of every change to a link from now on (`RTNLGRP_LINK`). Nothing is ever sent by it.
    pub(crate) fn link_monitor() -> Result<Socket> {
        let monitor = Socket::route()?;
        monitor.inner.add_membership(1).call(|| "setsockopt(NETLINK_ADD_MEMBERSHIP, RTNLGRP_LINK)")?;
        Ok(monitor)
    }

    /// Hears of every change to an IPv6 address from now on (`RTNLGRP_IPV6_IFADDR`).
    pub(crate) fn address_monitor() -> Result<Socket> {
        let monitor = Socket::route()?;
        let join = || "setsockopt(NETLINK_ADD_MEMBERSHIP, RTNLGRP_IPV6_IFADDR)";
        monitor.inner.add_membership(9).call(join)?;
        Ok(monitor)
    }

    /// Waits until there is something to hear, and says what; nothing at all when `patience` is over. News that were lost
    /// for lack of memory, or a signal, are [`News::Unknown`]: whoever listens asks for the state then.
    pub(crate) fn news(&self, patience: Duration) -> Result<Option<News>> {
        let limit = Timespec { tv_sec: patience.as_secs() as i64, tv_nsec: patience.subsec_nanos().into() };
        let mut fds = [PollFd::new(&self.inner, PollFlags::IN)];
        match poll(&mut fds, Some(&limit)) {
            Ok(0) => return Ok(None),
            Err(Errno::INTR) => return Ok(Some(News::Unknown)),
            Err(errno) => return Err(Error::os("poll(netlink)", errno)),
            Ok(_) => {}
        }
        let mut heard = Vec::new();
        loop {
            match self.receive(MSG_DONTWAIT) {
                Ok(None) => return Ok(Some(News::Heard(heard))),
                Ok(Some(datagram)) => heard.extend(messages(&datagram).map(|message| Reply {
                    kind: message.message_type(),
                    payload: message.payload().to_vec(),
                })),
                Err(error) if error.errno() == Some(Errno::NOBUFS) => return Ok(Some(News::Unknown)),
                Err(error) => return Err(error),
            }
        }
    }

    fn open(protocol: isize, name: &str) -> Result<Socket> {
        let mut inner = netlink_sys::Socket::new(protocol).call(|| format!("socket(AF_NETLINK, {name})"))?;
        inner.bind_auto().call(|| format!("bind({name})"))?;
        inner.connect(&SocketAddr::new(0, 0)).call(|| format!("connect({name})"))?;
        // Both only make errors shorter and clearer, so kernels without them will do.
        let _ = inner.set_cap_ack(true);
        let _ = inner.set_ext_ack(true);
        Ok(Socket { inner, sequence: Cell::new(1) })
    }

    /// Sends the requests in one call and returns the answer to each. The kernel performs them in order, and
    /// goes on after one that fails. A dump must be alone.
    pub(crate) fn each(&self, requests: &[Request]) -> Result<Answers> {
        let mut buffer = Vec::with_capacity(512);
        let first = self.sequence.get();
        for (request, sequence) in requests.iter().zip(first..) {
            request.append_to(&mut buffer, sequence, NLM_F_REQUEST | NLM_F_ACK);
        }
        self.sequence.set(first.wrapping_add(requests.len() as u32));
        self.send(&buffer)?;
        let mut answers: Vec<_> = requests.iter().map(|_| (Vec::new(), None)).collect();
        while answers.iter().any(|(_, end)| end.is_none()) {
            let datagram = self.receive(0)?.unwrap_or_default();
            for message in messages(&datagram) {
                let at = message.sequence_number().wrapping_sub(first) as usize;
                let Some((request, answer)) = requests.get(at).zip(answers.get_mut(at)) else { continue };
                match message.message_type() {
                    NLMSG_ERROR => answer.1 = Some(verdict(&message, &request.what)),
                    NLMSG_DONE if request.is_dump() => answer.1 = Some(Ok(())),
                    kind => {
                        if message.flags() & DUMP_INTERRUPTED != 0 {
                            answer.1 = Some(Err(Error::os(&request.what, Errno::INTR)));
                        }
                        answer.0.push(Reply { kind, payload: message.payload().to_vec() });
                    }
                }
            }
        }
        Ok(answers.into_iter().map(|(replies, end)| end.unwrap_or(Ok(())).map(|()| replies)).collect())
    }

    /// [`Socket::each`], where any failure is the failure of all.
    pub(crate) fn all(&self, requests: &[Request]) -> Result<Vec<Vec<Reply>>> {
        if requests.is_empty() {
            return Ok(Vec::new());
        }
        self.each(requests)?.into_iter().collect()
    }

    pub(crate) fn one(&self, request: Request) -> Result<Vec<Reply>> {
        Ok(self.all(&[request])?.pop().unwrap_or_default())
    }

    /// All entries of a table. Started again while the table changes under it.
    pub(crate) fn dump(&self, mut request: Request) -> Result<Vec<Reply>> {
        request.flags |= NLM_F_DUMP;
        for _ in 0..32 {
            match self.one(request.clone()) {
                Err(error) if error.errno() == Some(Errno::INTR) => self.drain()?,
                done => return done,
            }
        }
        Err(Error::new(
            Kind::Interrupted,
            format!("{}: it changed on every one of 32 readings", request.what),
        ))
    }

    /// Sends requests between the two marks of an nf_tables transaction: all of them happen, or none.
    ///
    /// The kernel works a transaction off before sendmsg(2) returns, so that every answer is there already;
    /// what gave none was not performed.
    pub(crate) fn transaction(&self, begin: Request, requests: &[Request], end: Request) -> Result<()> {
        let first = self.sequence.get();
        self.sequence.set(first.wrapping_add(requests.len() as u32 + 2));
        let mut buffer = Vec::with_capacity(4096);
        begin.append_to(&mut buffer, first, NLM_F_REQUEST);
        for (request, sequence) in requests.iter().zip(first + 1..) {
            request.append_to(&mut buffer, sequence, NLM_F_REQUEST | NLM_F_ACK);
        }
        end.append_to(&mut buffer, first + 1 + requests.len() as u32, NLM_F_REQUEST);
        self.send(&buffer)?;
        let mut acknowledged = 0;
        while let Some(datagram) = self.receive(MSG_DONTWAIT)? {
            for message in messages(&datagram).filter(|message| message.message_type() == NLMSG_ERROR) {
                let at = message.sequence_number().wrapping_sub(first) as usize;
                let what = match at.checked_sub(1).and_then(|at| requests.get(at)) {
                    Some(request) => &request.what,
                    None => &begin.what,
                };
                if let Err(error) = verdict(&message, what) {
                    self.drain()?;
                    return Err(error);
                }
                acknowledged += 1;
            }
        }
        if acknowledged < requests.len() {
            let (got, sent) = (acknowledged, requests.len());
            return Err(Error::new(
                Kind::Other,
                format!("{}: {got} of {sent} messages answered", begin.what),
            ));
        }
        Ok(())
    }

    fn send(&self, buffer: &[u8]) -> Result<()> {
        loop {
            match self.inner.send(buffer, 0).call(|| "sendmsg(netlink)") {
                Ok(_) => return Ok(()),
                Err(error) if error.errno() == Some(Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }

    fn receive(&self, flags: i32) -> Result<Option<Vec<u8>>> {
        // The kernel fills at most 32 KiB at once.
        let mut buffer = Vec::with_capacity(1 << 16);
        loop {
            match self.inner.recv(&mut buffer, flags).call(|| "recvmsg(netlink)") {
                Ok(_) => return Ok(Some(buffer)),
                Err(error) if error.errno() == Some(Errno::AGAIN) => return Ok(None),
                Err(error) if error.errno() == Some(Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Throws away the rest of an answer that nobody will read.
    fn drain(&self) -> Result<()> {
        while self.receive(MSG_DONTWAIT)?.is_some() {}
        Ok(())
    }
}

fn messages(datagram: &[u8]) -> impl Iterator<Item = NetlinkBuffer<&[u8]>> {
    let mut rest = datagram;
    std::iter::from_fn(move || {
        let message = NetlinkBuffer::new_checked(rest).ok()?;
        let length = (message.length() as usize).next_multiple_of(4).max(HEADER);
        let message = NetlinkBuffer::new(&rest[..message.length() as usize]);
        rest = rest.get(length..).unwrap_or_default();
        Some(message)
    })
}

/// What an `NLMSG_ERROR` says, which is an acknowledgement when the number in it is zero.
fn verdict(message: &NetlinkBuffer<&[u8]>, what: &str) -> Result<()> {
    let payload = message.payload();
    let code = payload.get(..4).and_then(|code| code.try_into().ok()).map_or(0, i32::from_ne_bytes);
    if code == 0 {
        return Ok(());
    }
    let mut explanation = None;
    if message.flags() & EXPLAINED != 0 {
        let request = match message.flags() & CAPPED {
            0 => payload.get(4..8).and_then(super::attrs::ne32).unwrap_or(0) as usize,
            _ => HEADER,
        };
        let rest = payload.get(4 + request.next_multiple_of(4)..).unwrap_or_default();
        explanation = attributes(rest).find(|(kind, _)| *kind == EXPLANATION).map(|(_, value)| text(&value));
    }
    Err(Error::os(what, Errno::from_raw_os_error(code.wrapping_neg())).explained(explanation.as_deref()))
}
