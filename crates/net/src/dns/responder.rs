//! What to answer, without a socket in sight.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use hickory_proto::op::{Edns, Message, MessageType, OpCode, ResponseCode};
use hickory_proto::rr::rdata::{A, AAAA, PTR};
use hickory_proto::rr::{DNSClass, Name, RData, Record, RecordType};

use super::message;
use crate::Result;

/// Where the names of one network come from. [`super::Zone`] is the one that reads a network's directory.
pub trait Names: Send + Sync {
    /// The network's name: `web.backend` is `web` on the network `backend`.
    fn network(&self) -> &str;

    /// Whether it speaks for the address, so that the question whose it is goes no further.
    fn owns(&self, address: IpAddr) -> bool;

    /// The addresses of a name, compared without regard to case; none for an unknown one.
    ///
    /// # Errors
    /// The source can't be read. The answer is then SERVFAIL.
    fn addresses(&self, name: &str) -> Result<Vec<IpAddr>>;

    /// The first name of an address.
    ///
    /// # Errors
    /// The source can't be read.
    fn name_of(&self, address: IpAddr) -> Result<Option<String>>;
}

/// What becomes of a query.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Answer {
    /// Send this back.
    Reply(Vec<u8>),
    /// Somebody else knows.
    Forward,
    /// Say nothing: it isn't a query, or too short to be answered.
    Ignore,
}

/// Answers A, AAAA and PTR questions for the names of some networks (RFC 1035).
///
/// A name without dots that nobody has does not exist; one with dots is somebody else's to answer. All addresses
/// of a name are given, in turn. The lifetime of answers is zero seconds: a name is gone when its owner is.
#[derive(Default)]
pub struct Responder {
    networks: Vec<Arc<dyn Names>>,
    turn: AtomicUsize,
}

/// Our side's limit for datagrams, as DNS Flag Day 2020 recommends.
const PAYLOAD: u16 = 1232;
const LIFETIME: u32 = 0;

impl Responder {
    /// A responder for the names of these networks.
    pub fn new(networks: Vec<Arc<dyn Names>>) -> Responder {
        Responder { networks, turn: AtomicUsize::new(0) }
    }

    /// What to do about a query, of any length and content. A reply may be longer than the client takes over UDP.
    pub fn answer(&self, query: &[u8]) -> Answer {
        if query.len() < message::HEADER || message::is_response(query) {
            return Answer::Ignore;
        }
        let Ok(parsed) = Message::from_vec(query) else {
            return Answer::Reply(message::refusal(query, ResponseCode::FormErr));
        };
        let verdict = self.judge(&parsed);
        let (code, answers) = match verdict {
            Verdict::Elsewhere => return Answer::Forward,
            Verdict::Code(code) => (code, Vec::new()),
            Verdict::Records(records) => (ResponseCode::NoError, records),
        };
        let reply = reply(&parsed, code, answers);
        Answer::Reply(reply.to_vec().unwrap_or_else(|_| message::refusal(query, ResponseCode::ServFail)))
    }

    fn judge(&self, query: &Message) -> Verdict {
        if query.metadata.op_code != OpCode::Query {
            return Verdict::Code(ResponseCode::NotImp);
        }
        let [question] = query.queries.as_slice() else { return Verdict::Code(ResponseCode::FormErr) };
        if query.edns.as_ref().is_some_and(|edns| edns.version() > 0) {
            return Verdict::Code(ResponseCode::BADVERS);
        }
        if !matches!(question.query_class(), DNSClass::IN | DNSClass::ANY) {
            return Verdict::Code(ResponseCode::Refused);
        }
        let text = question.name().to_ascii().to_ascii_lowercase();
        let text = text.strip_suffix('.').unwrap_or(&text);
        let done = match reverse(text) {
            Some(address) => self.reverse(question.name(), question.query_type(), address),
            None => self.forward(question.name(), question.query_type(), text),
        };
        done.unwrap_or(Verdict::Code(ResponseCode::ServFail))
    }

    fn forward(&self, name: &Name, kind: RecordType, text: &str) -> Result<Verdict> {
        let mut addresses = Vec::new();
        for network in &self.networks {
            addresses.extend(network.addresses(text)?);
            let own = text.strip_suffix(&network.network().to_ascii_lowercase());
            if let Some(short) = own.and_then(|rest| rest.strip_suffix('.')) {
                addresses.extend(network.addresses(short)?);
            }
        }
        if addresses.is_empty() {
            // Zones may well have one label ("com"); hosts have not.
            let zone = matches!(kind, RecordType::NS | RecordType::SOA | RecordType::DS | RecordType::DNSKEY);
            let ours = !text.is_empty() && !text.contains('.') && !zone;
            return Ok(if ours { Verdict::Code(ResponseCode::NXDomain) } else { Verdict::Elsewhere });
        }
        addresses.retain(|address| match kind {
            RecordType::A => address.is_ipv4(),
            RecordType::AAAA => address.is_ipv6(),
            RecordType::ANY => true,
            _ => false,
        });
        addresses.sort_unstable();
        addresses.dedup();
        if !addresses.is_empty() {
            let first = self.turn.fetch_add(1, Ordering::Relaxed) % addresses.len();
            addresses.rotate_left(first);
        }
        let data = |address| match address {
            IpAddr::V4(address) => RData::A(A(address)),
            IpAddr::V6(address) => RData::AAAA(AAAA(address)),
        };
        let record = |address| Record::from_rdata(name.clone(), LIFETIME, data(address));
        Ok(Verdict::Records(addresses.into_iter().map(record).collect()))
    }

    fn reverse(&self, name: &Name, kind: RecordType, address: IpAddr) -> Result<Verdict> {
        let Some(network) = self.networks.iter().find(|network| network.owns(address)) else {
            return Ok(Verdict::Elsewhere);
        };
        let Some(found) = network.name_of(address)? else { return Ok(Verdict::Code(ResponseCode::NXDomain)) };
        if !matches!(kind, RecordType::PTR | RecordType::ANY) {
            return Ok(Verdict::Records(Vec::new()));
        }
        let Ok(target) = Name::from_ascii(format!("{found}.{}.", network.network())) else {
            return Ok(Verdict::Code(ResponseCode::ServFail)); // a label of more than 63 bytes
        };
        Ok(Verdict::Records(vec![Record::from_rdata(name.clone(), LIFETIME, RData::PTR(PTR(target)))]))
    }
}

enum Verdict {
    Records(Vec<Record>),
    Code(ResponseCode),
    Elsewhere,
}

fn reply(query: &Message, code: ResponseCode, answers: Vec<Record>) -> Message {
    let mut reply = Message::new(query.metadata.id, MessageType::Response, query.metadata.op_code);
    reply.metadata.recursion_desired = query.metadata.recursion_desired;
    reply.metadata.recursion_available = true;
    reply.metadata.authoritative = matches!(code, ResponseCode::NoError | ResponseCode::NXDomain);
    reply.metadata.response_code = code;
    reply.add_queries(query.queries.iter().cloned());
    reply.add_answers(answers);
    if query.edns.is_some() {
        let mut edns = Edns::new();
        edns.set_max_payload(PAYLOAD).set_version(0).set_rcode_high(code.high());
        reply.set_edns(edns);
    }
    reply
}

/// The address that `9.0.1.10.in-addr.arpa` (RFC 1035, section 3.5) or `2.0.….d.f.ip6.arpa` (RFC 3596, section 2.5)
/// asks about.
fn reverse(name: &str) -> Option<IpAddr> {
    if let Some(digits) = name.strip_suffix(".in-addr.arpa") {
        let [a, b, c, d] = digits.parse::<Ipv4Addr>().ok()?.octets();
        return Some(Ipv4Addr::new(d, c, b, a).into());
    }
    let digits = name.strip_suffix(".ip6.arpa")?;
    if digits.len() != 63 {
        return None;
    }
    let mut bits = 0u128;
    for digit in digits.rsplit('.') {
        let one = digit.len() == 1 && digit.bytes().all(|byte| byte.is_ascii_hexdigit());
        bits = bits << 4 | u128::from_str_radix(digit, 16).ok().filter(|_| one)?;
    }
    Some(Ipv6Addr::from(bits).into())
}

#[cfg(test)]
mod tests;
