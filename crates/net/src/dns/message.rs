//! What can be done to a message (RFC 1035, section 4) without understanding all of it.

use hickory_proto::op::{Message, ResponseCode};

pub(crate) const HEADER: usize = 12;
/// The largest answer over UDP to someone who doesn't say that he takes more (RFC 1035, section 4.2.1).
const SMALLEST_LIMIT: usize = 512;

pub(crate) fn id(message: &[u8]) -> u16 {
    u16::from_be_bytes([message.first().copied().unwrap_or(0), message.get(1).copied().unwrap_or(0)])
}

pub(crate) fn set_id(message: &mut [u8], id: u16) {
    if let Some(place) = message.get_mut(..2) {
        place.copy_from_slice(&id.to_be_bytes());
    }
}

pub(crate) fn is_response(message: &[u8]) -> bool {
    message.get(2).is_some_and(|flags| flags & 0x80 != 0)
}

/// The bytes of the only question: its name, without compression, type and class.
pub(crate) fn question(message: &[u8]) -> Option<&[u8]> {
    if message.get(4..6)? != [0, 1] {
        return None;
    }
    let mut end = HEADER;
    loop {
        match *message.get(end)? as usize {
            0 => return message.get(HEADER..end + 5),
            label @ 1..=63 => end += label + 1,
            _ => return None,
        }
    }
}

/// Whether `reply` answers `query`: a response to the same question. Names may differ in case, ids are not
/// looked at.
pub(crate) fn answers(reply: &[u8], query: &[u8]) -> bool {
    is_response(reply)
        && match (question(reply), question(query)) {
            (Some(a), Some(b)) => a.eq_ignore_ascii_case(b),
            // Some servers leave the question out of an error.
            (None, Some(_)) => reply.get(4..6) == Some(&[0, 0]) && reply.get(3).is_some_and(|f| f & 15 != 0),
            _ => false,
        }
}

/// An answer that says nothing but `code`, made from the query's header and question alone.
pub(crate) fn refusal(query: &[u8], code: ResponseCode) -> Vec<u8> {
    let mut reply = query.get(..HEADER).unwrap_or(&[0; HEADER]).to_vec();
    reply[2] = reply[2] & 0x79 | 0x80; // a response; opcode and "recursion desired" stay
    reply[3] = 0x80 | code.low(); // recursion available
    reply[4..].fill(0);
    if let Some(question) = question(query) {
        reply[5] = 1;
        reply.extend(question);
    }
    reply
}

/// How large a datagram the sender of `query` takes (RFC 6891, section 6.2.3).
pub(crate) fn limit(query: &[u8]) -> usize {
    let edns = Message::from_vec(query).ok().and_then(|query| query.edns.map(|edns| edns.max_payload()));
    edns.map_or(SMALLEST_LIMIT, usize::from).max(SMALLEST_LIMIT)
}

/// `reply` if it is within `limit` bytes; else its head with TC set, so that the client asks again over TCP.
pub(crate) fn fit(reply: Vec<u8>, limit: usize) -> Vec<u8> {
    if reply.len() <= limit {
        return reply;
    }
    let cut = Message::from_vec(&reply).ok().and_then(|message| message.truncate().to_vec().ok());
    let mut cut = cut.unwrap_or_else(|| refusal(&reply, ResponseCode::NoError));
    cut[2] |= 0x82;
    cut
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// An A query for `web`, id 0x1234, recursion desired.
    const QUERY: &[u8] = b"\x12\x34\x01\x00\0\x01\0\0\0\0\0\0\x03web\0\0\x01\0\x01";

    #[test]
    fn refusals_repeat_the_question() {
        let reply = refusal(QUERY, ResponseCode::ServFail);
        assert_eq!(reply, b"\x12\x34\x81\x82\0\x01\0\0\0\0\0\0\x03web\0\0\x01\0\x01");
        assert!(answers(&reply, QUERY));
        assert!(!answers(QUERY, QUERY), "a query answers nothing");
        assert!(!answers(&refusal(&QUERY.to_ascii_uppercase()[..14], ResponseCode::NoError), QUERY));
        assert!(answers(&refusal(&QUERY[..HEADER], ResponseCode::ServFail), QUERY));
    }

    #[test]
    fn large_answers_are_cut_and_say_so() {
        let small = refusal(QUERY, ResponseCode::NoError);
        assert_eq!(fit(small.clone(), 512), small);
        let cut = fit(small.clone(), 20);
        assert_eq!((cut[2] & 2, question(&cut)), (2, question(QUERY)));
    }

    proptest! {
        #[test]
        fn nothing_here_panics(bytes in proptest::collection::vec(any::<u8>(), 0..80), limit in 0usize..90) {
            let (_, _, _) = (id(&bytes), question(&bytes), answers(&bytes, QUERY));
            let _ = super::limit(&bytes);
            prop_assert!(is_response(&refusal(&bytes, ResponseCode::FormErr)));
            fit(refusal(&bytes, ResponseCode::FormErr), limit);
        }
    }
}
