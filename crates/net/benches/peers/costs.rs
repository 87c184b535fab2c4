//! What ports, endpoints and networks cost to make and to remove, and whether many ports slow a connection down.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use coracle_host::Namespace;
use coracle_net::NetworkSpec;

use crate::Result;
use crate::load::{PORT, latency, serve};
use crate::worlds::{Coracle, Docker, Podman, Program, join};

/// So often, where it takes milliseconds; for the programs of others fewer times.
const ROUNDS: usize = 15;
const FEW: usize = 3;

pub(crate) fn tell(coracle: &Coracle, docker: Option<&Docker>, podman: Option<&Podman>) -> Result<()> {
    println!(
        "\n(coracle: join and leave; the others: run and rm of a container, of which the lines without ports are the rest)"
    );
    println!("{:34} {:8} {:>10} {:>12} {:>12} {:>12}", "", "", "processes", "start", "remove", "latency");
    for count in [0, 1, 99, 999] {
        let [start, remove, latency] = own(coracle, count)?;
        line(count, "coracle", 0, [start, remove, latency]);
        if count <= 99 {
            if let Some(docker) = docker {
                others(docker, "docker-proxy", count)?;
            }
            if let Some(podman) = podman {
                others(podman, "rootlessport", count)?;
            }
        }
    }
    println!("\n{:34} {:8} {:>12}", "network: create and remove", "coracle", show(own_networks(coracle)?));
    if let Some(docker) = docker {
        println!("{:34} {:8} {:>12}", "", "docker", show(networks(docker)?));
    }
    if let Some(podman) = podman {
        println!("{:34} {:8} {:>12}", "", "podman", show(networks(podman)?));
    }
    Ok(())
}

fn line(count: u16, name: &str, processes: usize, times: [Duration; 3]) {
    let [start, remove, latency] = times.map(show);
    let what = match count {
        0 => "endpoint without ports".to_owned(),
        count => format!("endpoint with {count} ports"),
    };
    println!("{what:34} {name:8} {processes:>10} {start:>12} {remove:>12} {latency:>12}");
}

fn show(time: Duration) -> String {
    if time.is_zero() { "-".into() } else { format!("{time:.2?}") }
}

fn range(count: u16) -> String {
    if count == 1 {
        return format!("{PORT}:{PORT}");
    }
    let last = PORT + count - 1;
    format!("{PORT}-{last}:{PORT}-{last}")
}

fn median(mut times: Vec<[Duration; 3]>) -> [Duration; 3] {
    [0, 1, 2].map(|at| {
        times.sort_by_key(|times| times[at]);
        times[times.len() / 2][at]
    })
}

/// Join and leave of one endpoint, and a connection to its first port by way of loopback.
fn own(coracle: &Coracle, count: u16) -> Result<[Duration; 3]> {
    let network = coracle.networks.open(&NetworkSpec::new("bench"))?;
    let ports: Vec<String> = (count > 0).then(|| range(count)).into_iter().collect();
    let once = || -> Result<[Duration; 3]> {
        let netns = Namespace::new_net()?;
        coracle_net::loopback_up(std::os::fd::AsFd::as_fd(&netns))?;
        let begin = Instant::now();
        let endpoint = join(&network, &netns, &ports)?;
        let start = begin.elapsed();
        serve(&netns)?;
        let here = Namespace::current_net()?;
        let called = match count {
            0 => Duration::ZERO,
            _ => latency(&here, SocketAddr::from((Ipv4Addr::LOCALHOST, PORT)))?,
        };
        let begin = Instant::now();
        endpoint.leave_behind()?;
        Ok([start, begin.elapsed(), called])
    };
    coracle.on_host(|| {
        let held = Namespace::new_net()?;
        let hold = join(&network, &held, &[])?;
        let times = (0..ROUNDS).map(|_| once()).collect::<Result<Vec<_>>>()?;
        hold.leave()?;
        Ok(median(times))
    })
}

fn others<P: Program>(program: &P, proxy: &str, count: u16) -> Result<()> {
    let ports = (count > 0).then(|| range(count));
    let flags: Vec<&str> = ports.iter().flat_map(|ports| ["-p", ports.as_str()]).collect();
    let (mut all, mut processes) = (Vec::new(), 0);
    let _ = program.remove("server");
    for _ in 0..FEW {
        let begin = Instant::now();
        program.start("many", &flags)?;
        let start = begin.elapsed();
        processes = running(proxy);
        let called = match count {
            0 => Duration::ZERO,
            _ => {
                serve(&program.look("many")?.0)?;
                latency(program.host(), SocketAddr::from((Ipv4Addr::LOCALHOST, PORT)))?
            }
        };
        let begin = Instant::now();
        program.remove("many")?;
        all.push([start, begin.elapsed(), called]);
    }
    line(count, P::NAME, processes, median(all));
    Ok(())
}

/// Processes whose command line begins with this name.
fn running(name: &str) -> usize {
    let all = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    let lines = all.filter_map(|entry| std::fs::read(entry.path().join("cmdline")).ok());
    lines
        .filter(|line| {
            String::from_utf8_lossy(line).split('\0').next().is_some_and(|first| first.ends_with(name))
        })
        .count()
}

fn own_networks(coracle: &Coracle) -> Result<Duration> {
    coracle.on_host(|| {
        let once = || -> Result<[Duration; 3]> {
            let begin = Instant::now();
            coracle.networks.create(&NetworkSpec::new("made"))?;
            coracle.networks.remove("made")?;
            Ok([begin.elapsed(); 3])
        };
        Ok(median((0..ROUNDS).map(|_| once()).collect::<Result<_>>()?)[0])
    })
}

fn networks<P: Program>(program: &P) -> Result<Duration> {
    let once = || -> Result<[Duration; 3]> {
        let begin = Instant::now();
        program.ask(&["network", "create", "made"])?;
        program.ask(&["network", "rm", "made"])?;
        Ok([begin.elapsed(); 3])
    };
    Ok(median((0..FEW).map(|_| once()).collect::<Result<_>>()?)[0])
}
