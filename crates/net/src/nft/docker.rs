//! Chain `DOCKER-USER`, where docker leaves room for others: docker makes the host drop whatever it doesn't know on its
//! way through (`FORWARD` has the policy DROP), and says that this is where to say otherwise.
//!
//! ```text
//! chain DOCKER-USER in table ip filter (and ip6 filter), where there is one
//!   iifname <bridge> accept
//!   oifname <bridge> accept
//! ```
//!
//! Our own walls stand all the same. Both rules carry a comment by which they are found again.

use rustix::io::Errno;

use super::expr::{Rule, Side, Verdict};
use super::table::Table;
use crate::Result;
use crate::netlink::{Attrs, Reply, Request, attributes};

const SUBSYSTEM: u16 = 10 << 8;
const GET_CHAIN: u16 = SUBSYSTEM | 4;
const NEW_RULE: u16 = SUBSYSTEM | 6;
const GET_RULE: u16 = SUBSYSTEM | 7;
const DEL_RULE: u16 = SUBSYSTEM | 8;
/// `NLM_F_CREATE`; without `NLM_F_APPEND` a rule goes to the front.
const CREATE: u16 = 0x400;
/// `NFPROTO_IPV4` and `NFPROTO_IPV6`
const FAMILIES: [u8; 2] = [2, 10];
/// `NFTA_RULE_HANDLE` and `NFTA_RULE_USERDATA`
const HANDLE: u16 = 3;
const NOTE: u16 = 7;

fn message(kind: u16, flags: u16, family: u8, attrs: Attrs) -> Request {
    let payload = [vec![family, 0, 0, 0], attrs.into_bytes()].concat();
    Request::new(kind, flags, payload, "nft(chain filter DOCKER-USER)")
}

fn place() -> Attrs {
    Attrs::new().text(1, "filter").text(2, "DOCKER-USER")
}

/// A comment as nft(8) writes one: type, length, text.
fn note(bridge: &str) -> Vec<u8> {
    let text = format!("coracle {bridge}\0");
    [vec![0, text.len() as u8], text.into_bytes()].concat()
}

impl Table {
    /// The families for which there is the chain.
    pub(crate) fn docker_families(&self) -> Result<Vec<u8>> {
        let mut there = Vec::new();
        for family in FAMILIES {
            let attrs = Attrs::new().text(1, "filter").text(3, "DOCKER-USER");
            match self.socket.one(message(GET_CHAIN, 0, family, attrs)) {
                Ok(_) => there.push(family),
                Err(error) if error.errno() == Some(Errno::NOENT) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(there)
    }

    /// Lets what comes from a bridge and goes to it pass docker's policy. Idempotent.
    pub(crate) fn pass_docker(&self, bridge: &str) -> Result<()> {
        let mut batch = Vec::new();
        for family in self.docker_families()? {
            if !self.own_rules(family, bridge)?.is_empty() {
                continue;
            }
            for side in [Side::In, Side::Out] {
                let rule = Rule::new().interface_is(side, bridge).verdict(Verdict::Accept);
                let attrs = place().nest(4, rule).bytes(NOTE, &note(bridge));
                batch.push(message(NEW_RULE, CREATE, family, attrs));
            }
        }
        if batch.is_empty() { Ok(()) } else { self.commit("nft(pass docker)", &batch) }
    }

    /// Takes that back.
    pub(crate) fn forget_docker(&self, bridge: &str) -> Result<()> {
        let mut batch = Vec::new();
        for family in self.docker_families()? {
            let rules = self.own_rules(family, bridge)?.into_iter();
            batch.extend(rules.map(|handle| message(DEL_RULE, 0, family, place().bytes(HANDLE, &handle))));
        }
        match batch.is_empty() {
            true => Ok(()),
            // Somebody flushed the chain meanwhile.
            false => match self.commit("nft(forget docker)", &batch) {
                Err(error) if error.errno() == Some(Errno::NOENT) => Ok(()),
                done => done,
            },
        }
    }

    /// The handles of the rules about a bridge.
    fn own_rules(&self, family: u8, bridge: &str) -> Result<Vec<Vec<u8>>> {
        let rules = match self.socket.dump(message(GET_RULE, 0, family, place())) {
            Err(error) if error.errno() == Some(Errno::NOENT) => return Ok(Vec::new()),
            rules => rules?,
        };
        Ok(rules.iter().filter_map(|rule| handle_of(rule, &note(bridge))).collect())
    }
}

fn handle_of(rule: &Reply, note: &[u8]) -> Option<Vec<u8>> {
    let bytes = rule.payload.get(4..)?;
    let find = |wanted| attributes(bytes).find(|(kind, _)| *kind == wanted).map(|(_, value)| value);
    find(HANDLE).filter(|_| find(NOTE).as_deref() == Some(note))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_are_known_by_their_notes() {
        let rule = |note: &[u8]| {
            let attrs = place().bytes(HANDLE, &7u64.to_be_bytes()).bytes(NOTE, note);
            Reply { kind: NEW_RULE, payload: [vec![2, 0, 0, 0], attrs.into_bytes()].concat() }
        };
        assert_eq!(handle_of(&rule(&note("cor-1")), &note("cor-1")), Some(7u64.to_be_bytes().to_vec()));
        assert_eq!(handle_of(&rule(&note("cor-12")), &note("cor-1")), None);
        assert_eq!(handle_of(&rule(b""), &note("cor-1")), None);
    }
}
