//! Queries on their way to an upstream server over UDP: who asked, whom we asked, until when we wait.

use std::collections::{HashMap, VecDeque};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use super::message;

/// How long one server has before the next is asked.
pub(crate) const PATIENCE: Duration = Duration::from_secs(2);

/// One query under way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Flight {
    pub(crate) client: SocketAddr,
    /// As the client sent it.
    pub(crate) query: Vec<u8>,
    /// Which of the servers was asked.
    pub(crate) server: usize,
    /// How many times one was asked.
    pub(crate) tries: usize,
}

/// All queries under way, each under an id of its own. There may be as many as there are ids.
#[derive(Default)]
pub(crate) struct Flights {
    by_id: HashMap<u16, (Flight, u64)>,
    /// When each is given up, in order. What has landed since is skipped by its number.
    deadlines: VecDeque<(Instant, u16, u64)>,
    count: u64,
}

impl Flights {
    /// Notes a query, under an id at or after `wish`, which should be random: ids are what stops others from
    /// answering in a server's place. `None` when all are taken.
    pub(crate) fn start(&mut self, flight: Flight, wish: u16, now: Instant) -> Option<u16> {
        let id =
            (0..=u16::MAX).map(|step| wish.wrapping_add(step)).find(|id| !self.by_id.contains_key(id))?;
        self.count += 1;
        self.by_id.insert(id, (flight, self.count));
        self.deadlines.push_back((now + PATIENCE, id, self.count));
        Some(id)
    }

    /// The query that a datagram from a server answers, if any. It is under way no more.
    pub(crate) fn land(&mut self, server: usize, reply: &[u8]) -> Option<Flight> {
        let id = message::id(reply);
        let (flight, _) = self.by_id.get(&id)?;
        if flight.server != server || !message::answers(reply, &flight.query) {
            return None;
        }
        self.by_id.remove(&id).map(|(flight, _)| flight)
    }

    /// Forgets a query that could not even be sent.
    pub(crate) fn abandon(&mut self, id: u16) {
        self.by_id.remove(&id);
    }

    /// Those whose time is over.
    pub(crate) fn overdue(&mut self, now: Instant) -> Vec<Flight> {
        let mut overdue = Vec::new();
        while let Some(&(deadline, id, number)) = self.deadlines.front() {
            let current = self.by_id.get(&id).is_some_and(|(_, own)| *own == number);
            if current && deadline > now {
                break;
            }
            self.deadlines.pop_front();
            if current {
                overdue.extend(self.by_id.remove(&id).map(|(flight, _)| flight));
            }
        }
        overdue
    }

    /// Those that asked a server which turns out not to be there.
    pub(crate) fn refused(&mut self, server: usize) -> Vec<Flight> {
        let ids: Vec<u16> =
            self.by_id.iter().filter(|(_, (flight, _))| flight.server == server).map(|(id, _)| *id).collect();
        ids.iter().filter_map(|id| self.by_id.remove(id)).map(|(flight, _)| flight).collect()
    }

    /// When to look at [`Flights::overdue`] next.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        self.deadlines.front().map(|(deadline, _, _)| *deadline)
    }

    #[cfg(test)]
    fn len(&self) -> usize {
        self.by_id.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use hickory_proto::op::ResponseCode::NoError;

    const QUERY: &[u8] = b"\x12\x34\x01\x00\0\x01\0\0\0\0\0\0\x03web\0\0\x01\0\x01";

    fn flight(server: usize) -> Flight {
        Flight { client: ([127, 0, 0, 1], 5).into(), query: QUERY.into(), server, tries: 1 }
    }

    fn reply(id: u16) -> Vec<u8> {
        let mut reply = message::refusal(QUERY, NoError);
        message::set_id(&mut reply, id);
        reply
    }

    #[test]
    fn only_the_asked_server_answers_and_only_the_question() {
        let mut flights = Flights::default();
        let id = flights.start(flight(1), 9, Instant::now()).unwrap();
        assert_eq!(flights.land(0, &reply(id)), None, "another server");
        assert_eq!(flights.land(1, &reply(id + 1)), None, "another id");
        let mut other = reply(id);
        other[13] = b'x';
        assert_eq!(flights.land(1, &other), None, "another question");
        assert_eq!(flights.land(1, QUERY), None, "no answer at all");
        assert_eq!(flights.land(1, &reply(id)), Some(flight(1)));
        assert_eq!(flights.land(1, &reply(id)), None, "twice");
    }

    #[test]
    fn as_many_as_there_are_ids() {
        let (mut flights, now) = (Flights::default(), Instant::now());
        for _ in 0..=u16::MAX {
            flights.start(flight(0), 77, now).unwrap();
            if flights.len() == 300 {
                break; // The search from one wish is quadratic: enough to see it go on.
            }
        }
        assert_eq!(flights.start(flight(0), 77, now), Some(77 + 300));
    }

    #[test]
    fn time_runs_out_for_those_that_have_not_landed() {
        let (mut flights, now) = (Flights::default(), Instant::now());
        let one = flights.start(flight(0), 1, now).unwrap();
        flights.start(flight(1), 2, now + PATIENCE / 2).unwrap();
        assert!(flights.overdue(now).is_empty());
        flights.land(0, &reply(one)).unwrap();
        assert!(flights.overdue(now + PATIENCE).is_empty());
        assert_eq!(flights.deadline(), Some(now + PATIENCE * 3 / 2));
        assert_eq!(flights.overdue(now + PATIENCE * 2), [flight(1)]);
        assert_eq!(flights.deadline(), None);
        flights.start(flight(1), 2, now).unwrap();
        assert!(flights.refused(0).is_empty());
        assert_eq!(flights.refused(1), [flight(1)]);
    }
}
