//! Two network namespaces get an address and a name each on one bridge, one looks the other up, and the host calls one
//! by a published port.
//!
//! Run it as root: `cargo run -p coracle-net --example net-alone`. It leaves the machine's own network alone: its "host"
//! is a fresh network namespace, too.
#![allow(clippy::print_stdout)]

use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream, ToSocketAddrs, UdpSocket};
use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::Instant;

use coracle_host::{Dir, Namespace, Staging};
use coracle_net::dns::{Responder, Server};
use coracle_net::ports::Publish;
use coracle_net::{Join, NetworkSpec, Networks};

type Result<T, E = Box<dyn std::error::Error + Send + Sync>> = std::result::Result<T, E>;

fn main() -> Result<()> {
    let place = std::env::temp_dir().join(format!("coracle-net-alone-{}", std::process::id()));
    let told = Namespace::new_net()?.within(|| tell(&place))?;
    std::fs::remove_dir_all(&place)?;
    told
}

fn tell(place: &std::path::Path) -> Result<()> {
    let state = Dir::create(place, 0o700)?;
    let staging = Staging::open(&state.make("tmp", 0o700)?)?;
    let networks = Networks::new(state.make("networks", 0o700)?, staging);

    let sea = networks.create(&NetworkSpec::new("sea"))?;
    println!("network `{}` has {}, the host is {} on it", sea.name(), sea.subnet(), sea.gateway());

    let (boat, buoy) = (Namespace::new_net()?, Namespace::new_net()?);
    let join = Join::new(boat.as_fd(), "1").names(["boat"]);
    print!("\nto join it means:\n{}", sea.plan(&join)?);

    let begin = Instant::now();
    let at_boat = sea.join(&join)?;
    println!("\nboat is {} ({}) after {:.1?}", at_boat.address(), at_boat.mac(), begin.elapsed());
    let begin = Instant::now();
    // The fresh "host" has its loopback down.
    coracle_net::loopback_up(Namespace::current_net()?.as_fd())?;
    let light = Publish::tcp(7).on([127, 0, 0, 1]);
    let at_buoy = sea.join(&Join::new(buoy.as_fd(), "2").names(["buoy", "marker"]).publish(light))?;
    println!("buoy is {} ({}) after {:.1?}", at_buoy.address(), at_buoy.mac(), begin.elapsed());

    // The resolver inside `boat`. It has no thread of its own; here one is lent to it for a single question.
    let mut resolver = Server::open(boat.as_fd(), Responder::new(vec![Arc::new(sea.zone())]), vec![])?;
    let asker = boat.within(|| UdpSocket::bind("127.0.0.1:0"))??;
    asker.send_to(&question("marker"), "127.0.0.11:53")?;
    resolver.serve_ready()?;
    let mut answer = [0; 512];
    let length = asker.recv(&mut answer)?;
    let found = Ipv4Addr::from(<[u8; 4]>::try_from(&answer[length - 4..length])?);
    println!("boat asks 127.0.0.11 for `marker`: {found}");

    let listener = buoy.within(|| TcpListener::bind((found, 7)))??;
    let mut call = boat.within(|| connect((found, 7)))??;
    call.write_all(b"ahoy")?;
    drop(call);
    let (mut heard, from) = listener.accept()?;
    let mut text = String::new();
    heard.read_to_string(&mut text)?;
    println!("buoy hears {text:?} from {}", from.ip());

    let published = at_buoy.published();
    println!("buoy's port is published: {}", published[0]);
    let _call = connect((published[0].host, published[0].host_port))?;
    println!("buoy is called from {}", listener.accept()?.1.ip());

    let begin = Instant::now();
    at_boat.leave()?;
    at_buoy.leave()?;
    networks.remove("sea")?;
    println!("both gone, and the network, after {:.1?}", begin.elapsed());
    Ok(())
}

fn connect(to: impl ToSocketAddrs) -> Result<TcpStream> {
    Ok(TcpStream::connect(to)?)
}

/// RFC 1035, section 4.1: a header that asks one question, and the question: an A record of a one-label name.
fn question(name: &str) -> Vec<u8> {
    let mut message = b"\0\x01\x01\0\0\x01\0\0\0\0\0\0".to_vec();
    message.push(name.len() as u8);
    message.extend(name.as_bytes());
    message.extend(b"\0\0\x01\0\x01");
    message
}
