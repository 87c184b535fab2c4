//! Macvlan networks: what there is to do, from records and facts.

use super::{Op, Place, Plan};
use crate::driver::Seat;
use crate::netlink::link::Link;
use crate::options::{MACVLAN_MODE, PARENT};
use crate::record::Record;

/// How those on one parent reach each other (`enum macvlan_mode`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    /// Not at all.
    Private = 1,
    /// By way of a switch outside that sends packets back.
    Vepa = 2,
    /// Directly.
    Bridge = 4,
    /// There is one only.
    Passthru = 8,
}

impl Mode {
    pub(crate) fn read(text: &str) -> Option<Mode> {
        match text {
            "private" => Some(Mode::Private),
            "vepa" => Some(Mode::Vepa),
            "bridge" => Some(Mode::Bridge),
            "passthru" => Some(Mode::Passthru),
            _ => None,
        }
    }

    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Mode::Private => "private",
            Mode::Vepa => "vepa",
            Mode::Bridge => "bridge",
            Mode::Passthru => "passthru",
        }
    }
}

pub(crate) fn mode(record: &Record) -> Mode {
    record.options.get(MACVLAN_MODE).and_then(Mode::read).unwrap_or(Mode::Bridge)
}

/// The interface that a network is on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Below {
    pub(crate) name: String,
    /// The interface below that and the VLAN's number, where the name says so: it is made if it isn't there.
    pub(crate) vlan: Option<(String, u16)>,
}

impl Below {
    pub(crate) fn of(record: &Record) -> Below {
        let name = record.options.get(PARENT).unwrap_or_default();
        let vlan = name.rsplit_once('.').and_then(|(parent, number)| {
            // IEEE 802.1Q: 0 and 4095 are no VLANs.
            let number = number.parse().ok().filter(|number| (1..4095).contains(number))?;
            (!parent.is_empty()).then(|| (parent.to_owned(), number))
        });
        Below { name: name.into(), vlan }
    }
}

/// The group (`IFLA_GROUP`) by which an interface that a network has made is told from somebody else's. It is set in
/// the message that makes it, so that no instant has one without it.
pub(crate) fn group(record: &Record) -> u32 {
    u32::from_str_radix(record.id.get(..8).unwrap_or("1"), 16).unwrap_or(1).max(1)
}

/// `parent` is the interface that the network is on, where it is there.
pub(crate) fn join(record: &Record, below: &Below, parent: Option<&Link>, seat: &Seat) -> Plan {
    let mut outside = Vec::new();
    if let (None, Some((under, number))) = (parent, &below.vlan) {
        let name = below.name.clone();
        outside.push(Op::Vlan { name, parent: under.clone(), number: *number, group: group(record) });
    }
    // Somebody else's is set up by whom it belongs to.
    if parent.is_none_or(|parent| !parent.up && parent.group == group(record)) {
        outside.push(Op::Up { link: below.name.clone() });
    }
    let mode = mode(record);
    outside.push(Op::Macvlan {
        name: seat.interface.clone(),
        parent: below.name.clone(),
        mode,
        mac: (mode != Mode::Passthru).then_some(seat.mac),
        mtu: record.mtu.or(record.options.mtu()),
    });
    let inside = super::bridge::inside(record, seat, !record.internal);
    let mut plan = Plan::of(Place::Host, outside).then(inside);
    // Where there is nothing on the other end of the parent's wire, there is nothing to wait for.
    if parent.is_some_and(|parent| parent.works) {
        plan = plan.then(Plan::of(Place::Inside, [Op::Await { links: vec![seat.interface.clone()] }]));
    }
    plan
}

pub(crate) fn leave(seat: &Seat) -> Plan {
    Plan::of(Place::Inside, [Op::Delete { link: seat.interface.clone() }])
}

pub(crate) fn take_down(record: &Record) -> Plan {
    let below = Below::of(record);
    match below.vlan {
        Some(_) => Plan::of(Place::Host, [Op::DeleteOwn { link: below.name, group: group(record) }]),
        None => Plan::default(),
    }
}
