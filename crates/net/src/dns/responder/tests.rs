use std::collections::BTreeMap;

use hickory_proto::op::Query;
use proptest::prelude::*;

use super::*;
use crate::{Error, Kind};

/// A network as a map, with one name that can't be read.
struct Map(&'static str, BTreeMap<&'static str, Vec<IpAddr>>);

impl Names for Map {
    fn network(&self) -> &str {
        self.0
    }

    fn owns(&self, address: IpAddr) -> bool {
        ["10.1.0.0/24", "fd00::/64"].iter().any(|own| own.parse::<crate::Subnet>().unwrap().contains(address))
    }

    fn addresses(&self, name: &str) -> Result<Vec<IpAddr>> {
        if name == "broken" {
            return Err(Error::new(Kind::Other, "unreadable"));
        }
        Ok(self.1.get(name).cloned().unwrap_or_default())
    }

    fn name_of(&self, address: IpAddr) -> Result<Option<String>> {
        Ok(self.1.iter().find(|(_, all)| all.contains(&address)).map(|(name, _)| name.to_string()))
    }
}

fn ip(last: u8) -> IpAddr {
    Ipv4Addr::new(10, 1, 0, last).into()
}

fn ip6(last: u16) -> IpAddr {
    Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, last).into()
}

fn responder() -> Responder {
    let names = [
        ("web", vec![ip(2)]),
        ("pool", vec![ip(3), ip(4), ip(5)]),
        ("a.b", vec![ip(6)]),
        ("both", vec![ip(7), ip6(7)]),
    ];
    Responder::new(vec![Arc::new(Map("Back", names.into()))])
}

fn query(name: &str, kind: RecordType) -> Message {
    let mut query = Message::new(77, MessageType::Query, OpCode::Query);
    query.metadata.recursion_desired = true;
    query.add_query(Query::query(Name::from_ascii(name).unwrap(), kind));
    query
}

/// The answer as one line: `NoError 10.1.0.2`, `NXDomain`, `forward`, `ignore`.
fn ask(responder: &Responder, query: &Message) -> String {
    match responder.answer(&query.to_vec().unwrap()) {
        Answer::Forward => "forward".into(),
        Answer::Ignore => "ignore".into(),
        Answer::Reply(reply) => {
            let reply = Message::from_vec(&reply).unwrap();
            assert_eq!((reply.metadata.id, reply.metadata.message_type), (77, MessageType::Response));
            assert_eq!((&reply.queries, reply.edns.is_some()), (&query.queries, query.edns.is_some()));
            let mut line = format!("{:?}", reply.metadata.response_code);
            for record in &reply.answers {
                assert_eq!(record.ttl, 0);
                line.push_str(&format!(" {}", record.data));
            }
            line
        }
    }
}

#[test]
fn table() {
    use RecordType::{A, AAAA, ANY, MX, NS, PTR};
    let cases = [
        ("web.", A, "NoError 10.1.0.2"),
        ("WeB.", A, "NoError 10.1.0.2"),
        ("web.back.", A, "NoError 10.1.0.2"),
        ("a.b.", A, "NoError 10.1.0.6"),
        ("web.", ANY, "NoError 10.1.0.2"),
        ("web.", AAAA, "NoError"),
        ("web.", MX, "NoError"),
        ("both.", A, "NoError 10.1.0.7"),
        ("both.", AAAA, "NoError fd00::7"),
        (
            "7.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.d.f.ip6.arpa.",
            PTR,
            "NoError both.Back.",
        ),
        ("8.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.d.f.ip6.arpa.", PTR, "NXDomain"),
        ("8.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.e.f.ip6.arpa.", PTR, "forward"),
        ("0.d.f.ip6.arpa.", PTR, "forward"),
        ("nobody.", A, "NXDomain"),
        ("nobody.", AAAA, "NXDomain"),
        ("nobody.back.", A, "forward"),
        ("webback.", A, "NXDomain"),
        ("example.org.", A, "forward"),
        ("com.", NS, "forward"),
        (".", NS, "forward"),
        ("broken.", A, "ServFail"),
        ("2.0.1.10.in-addr.arpa.", PTR, "NoError web.Back."),
        ("99.0.1.10.in-addr.arpa.", PTR, "NXDomain"),
        ("2.0.1.10.in-addr.arpa.", A, "NoError"),
        ("8.8.8.8.in-addr.arpa.", PTR, "forward"),
        ("1.10.in-addr.arpa.", PTR, "forward"),
    ];
    let responder = responder();
    for (name, kind, expected) in cases {
        assert_eq!(ask(&responder, &query(name, kind)), expected, "{name} {kind}");
    }
}

#[test]
fn all_addresses_in_turn() {
    let responder = responder();
    let rounds: Vec<String> = (0..4).map(|_| ask(&responder, &query("pool.", RecordType::A))).collect();
    assert_eq!(rounds[0], "NoError 10.1.0.3 10.1.0.4 10.1.0.5");
    assert_eq!(rounds[1], "NoError 10.1.0.4 10.1.0.5 10.1.0.3");
    assert_eq!(rounds[2], "NoError 10.1.0.5 10.1.0.3 10.1.0.4");
    assert_eq!(rounds[3], rounds[0]);
}

#[test]
fn what_is_no_plain_query_gets_its_due() {
    let responder = responder();
    let with = |change: fn(&mut Message)| {
        let mut message = query("web.", RecordType::A);
        change(&mut message);
        ask(&responder, &message)
    };
    assert_eq!(with(|m| m.metadata.message_type = MessageType::Response), "ignore");
    assert_eq!(with(|m| m.metadata.op_code = OpCode::Notify), "NotImp");
    assert_eq!(with(|m| m.queries.clear()), "FormErr");
    assert_eq!(with(|m| m.queries.extend(m.queries.clone())), "FormErr");
    assert_eq!(
        with(|m| m.queries[0] = m.queries[0].clone().set_query_class(DNSClass::CH).clone()),
        "Refused"
    );
    assert_eq!(with(|m| m.edns = Some(Edns::new())), "NoError 10.1.0.2");
    // Code 16 is BADVERS here; BADSIG, which the decoder calls it, is the same number in signed messages.
    assert_eq!(with(|m| m.edns = Some(Edns::new().set_version(1).clone())), "BADSIG");
}

#[test]
fn broken_bytes_get_a_format_error_or_nothing() {
    let bytes = query("web.", RecordType::A).to_vec().unwrap();
    for length in 0..bytes.len() {
        match responder().answer(&bytes[..length]) {
            Answer::Ignore => assert!(length < 12),
            Answer::Reply(reply) => assert_eq!((&reply[..2], reply[3] & 15), (&[0, 77][..], 1), "{length}"),
            Answer::Forward => panic!("{length} bytes forwarded"),
        }
    }
    // A name that points at itself.
    let reply = responder().answer(b"\0\x4d\x01\0\0\x01\0\0\0\0\0\0\xc0\x0c\0\x01\0\x01");
    assert_eq!(reply, Answer::Reply(b"\0\x4d\x81\x81\0\0\0\0\0\0\0\0".to_vec()));
}

proptest! {
    #[test]
    fn random_bytes_never_stop_it(bytes in proptest::collection::vec(any::<u8>(), 0..600)) {
        if let Answer::Reply(reply) = responder().answer(&bytes) {
            prop_assert!(message::is_response(&reply));
            prop_assert_eq!(message::id(&reply), message::id(&bytes));
        }
    }

    #[test]
    fn damaged_queries_never_stop_it(at in 0usize..30, byte: u8, cut in 0usize..40) {
        let mut bytes = query("pool.", RecordType::A).to_vec().unwrap();
        if let Some(place) = bytes.get_mut(at) {
            *place = byte;
        }
        bytes.truncate(cut);
        responder().answer(&bytes);
    }
}
