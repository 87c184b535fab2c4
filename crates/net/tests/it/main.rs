//! What the kernel makes of our plans. Every test has a host of its own; the machine's network is never touched.

mod support;
mod talk;

mod crash;
mod dns;
mod dns_load;
mod ephemeral;
mod firewalls;
mod ipv6;
mod live;
mod macvlan;
mod manners;
mod matrix;
mod ports;
mod reach;
mod sctp;
mod walls;
