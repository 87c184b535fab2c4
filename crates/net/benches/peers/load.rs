//! A server in one namespace, callers in another.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::time::{Duration, Instant};

use coracle_host::Namespace;

use crate::Result;

/// How long each figure is taken.
const WINDOW: Duration = Duration::from_millis(200);
/// Callers at once.
const CALLERS: usize = 2;
/// The port that the server is on, inside.
pub(crate) const PORT: u16 = 20000;

/// What one way carries.
#[derive(Clone, Copy)]
pub(crate) struct Figures {
    pub(crate) megabits: f64,
    pub(crate) requests: f64,
    pub(crate) connections: f64,
    /// From the first packet to the first byte of the answer, by one caller alone.
    pub(crate) latency: Duration,
}

impl Figures {
    /// The best of each: what else the machine does takes away and never adds.
    pub(crate) fn best(all: &[Figures]) -> Figures {
        let most = |of: fn(&Figures) -> f64| all.iter().map(of).fold(0.0, f64::max);
        Figures {
            megabits: most(|one| one.megabits),
            requests: most(|one| one.requests),
            connections: most(|one| one.connections),
            latency: all.iter().map(|one| one.latency).min().unwrap_or_default(),
        }
    }
}

/// Serves in a namespace until the process ends: a first byte says what.
pub(crate) fn serve(netns: &Namespace) -> Result<()> {
    let listener = netns.within(|| TcpListener::bind(("0.0.0.0", PORT)))??;
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            std::thread::spawn(move || answer(stream));
        }
    });
    Ok(())
}

fn answer(mut stream: TcpStream) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    let mut what = [0];
    stream.read_exact(&mut what)?;
    let mut buffer = vec![0; 1 << 17];
    match what[0] {
        b'c' => stream.write_all(b"c"),
        b'r' => loop {
            stream.read_exact(&mut buffer[..64])?;
            stream.write_all(&buffer[..64])?;
        },
        _ => {
            let mut total = 0u64;
            loop {
                match stream.read(&mut buffer)? {
                    0 => return stream.write_all(&total.to_be_bytes()),
                    some => total += some as u64,
                }
            }
        }
    }
}

fn connect(to: SocketAddr, what: u8) -> std::io::Result<TcpStream> {
    let mut stream = TcpStream::connect_timeout(&to, Duration::from_secs(2))?;
    stream.set_nodelay(true)?;
    stream.write_all(&[what])?;
    Ok(stream)
}

/// One connection from its first packet to its end. Reset, so that its port is free again at once.
fn visit(to: SocketAddr) -> std::io::Result<()> {
    let mut stream = connect(to, b'c')?;
    stream.read_exact(&mut [0])?;
    rustix::net::sockopt::set_socket_linger(&stream, Some(Duration::ZERO))?;
    Ok(())
}

/// All figures of one way.
pub(crate) fn measure(from: &Namespace, to: SocketAddr) -> Result<Figures> {
    Ok(from.within(|| -> std::io::Result<Figures> {
        let megabits = stream(to)?;
        let requests = together(|until| {
            let mut stream = connect(to, b'r')?;
            let (mut count, mut buffer) = (0, [7; 64]);
            while Instant::now() < until {
                stream.write_all(&buffer)?;
                stream.read_exact(&mut buffer)?;
                count += 1;
            }
            Ok(count)
        })?;
        let connections = together(|until| {
            let mut count = 0;
            while Instant::now() < until {
                visit(to)?;
                count += 1;
            }
            Ok(count)
        })?;
        Ok(Figures { megabits, requests, connections, latency: median_visit(to)? })
    })??)
}

/// What one connection takes, median of a hundred.
pub(crate) fn latency(from: &Namespace, to: SocketAddr) -> Result<Duration> {
    Ok(from.within(|| median_visit(to))??)
}

fn median_visit(to: SocketAddr) -> std::io::Result<Duration> {
    let mut times = Vec::new();
    for _ in 0..100 {
        let begin = Instant::now();
        visit(to)?;
        times.push(begin.elapsed());
    }
    times.sort();
    Ok(times[times.len() / 2])
}

fn stream(to: SocketAddr) -> std::io::Result<f64> {
    let mut stream = connect(to, b's')?;
    let buffer = vec![7; 1 << 17];
    let begin = Instant::now();
    while begin.elapsed() < WINDOW {
        stream.write_all(&buffer)?;
    }
    stream.shutdown(Shutdown::Write)?;
    let mut total = [0; 8];
    stream.read_exact(&mut total)?;
    Ok(u64::from_be_bytes(total) as f64 * 8e-6 / begin.elapsed().as_secs_f64())
}

/// How much all callers did in a second.
fn together(work: impl Fn(Instant) -> std::io::Result<u64> + Sync) -> std::io::Result<f64> {
    let netns = Namespace::current_net().map_err(std::io::Error::other)?;
    let begin = Instant::now();
    let until = begin + WINDOW;
    let counts = std::thread::scope(|scope| {
        let call = || netns.within(|| work(until)).map_err(std::io::Error::other)?;
        let callers: Vec<_> = (0..CALLERS).map(|_| scope.spawn(call)).collect();
        callers.into_iter().map(|caller| caller.join().expect("no panic")).collect::<Vec<_>>()
    });
    let total: std::io::Result<Vec<u64>> = counts.into_iter().collect();
    Ok(total?.into_iter().sum::<u64>() as f64 / begin.elapsed().as_secs_f64())
}
