//! What networks cost: joins, leaves, ports, names; and beside them the same by hand, with ip(8) and iptables(8).
//!
//! As root: `cargo bench -p coracle-net`. Everything happens in a network namespace made for it.
#![allow(clippy::print_stdout)]

use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use coracle_host::{Dir, Namespace, Staging};
use coracle_net::dns::{Responder, Server};
use coracle_net::ports::parse;
use coracle_net::{Endpoint, Join, Network, NetworkSpec, Networks};

type Result<T, E = Box<dyn std::error::Error + Send + Sync>> = std::result::Result<T, E>;

const ROUNDS: usize = 21;

fn main() -> Result<()> {
    let place = std::env::temp_dir().join(format!("coracle-net-bench-{}", std::process::id()));
    let told = Namespace::new_net()?.within(|| tell(&place))?;
    std::fs::remove_dir_all(&place)?;
    told
}

fn tell(place: &std::path::Path) -> Result<()> {
    coracle_net::loopback_up(Namespace::current_net()?.as_fd())?;
    let state = Dir::create(place, 0o700)?;
    let staging = Staging::open(&state.make("tmp", 0o700)?)?;
    let networks = Networks::new(state.make("networks", 0o700)?, staging);
    for _ in 0..2 {
        // The kernel loads what it needs.
        life(&networks)?;
    }
    report("network: create and remove", || {
        let (made, _) = timed(|| networks.create(&NetworkSpec::new("n")))?;
        Ok(made + timed(|| networks.remove("n"))?.0)
    })?;
    report("network: create and remove, ephemeral", || {
        Ok(timed(|| networks.create_ephemeral(&NetworkSpec::new("n")).map(drop))?.0)
    })?;
    report("network: up with its first endpoint, down with its last", || life(&networks))?;
    let sea = networks.create(&NetworkSpec::new("sea"))?;
    let _hold = at(&sea, &[])?;
    report("endpoint: join", || Ok(joined(&sea, &[])?.0))?;
    report("endpoint: leave", || Ok(joined(&sea, &[])?.1))?;
    report("endpoint: leave with its namespace", || {
        let (netns, endpoint) = at(&sea, &[])?;
        let begin = Instant::now();
        endpoint.leave_behind()?;
        drop(netns);
        Ok(begin.elapsed())
    })?;
    for count in [1, 99, 999] {
        let text = format!("20000-{}:1-{count}", 19999 + count);
        report(&format!("endpoint with {count} ports: join"), || Ok(joined(&sea, &[&text])?.0))?;
        report(&format!("endpoint with {count} ports: leave"), || Ok(joined(&sea, &[&text])?.1))?;
    }
    let six = networks.create(&NetworkSpec::new("six").ipv6(true))?;
    let _hold6 = at(&six, &[])?;
    report("endpoint with IPv6: join", || Ok(joined(&six, &[])?.0))?;
    report("resolver: open", || {
        let netns = Namespace::new_net()?;
        coracle_net::loopback_up(netns.as_fd())?;
        Ok(timed(|| Server::open(netns.as_fd(), Responder::default(), Vec::new()))?.0)
    })?;
    let (up, down) = many(&networks, 200)?;
    println!("{:58} {up:>9.1?}", "200 endpoints on 8 networks at once: join all");
    println!("{:58} {down:>9.1?}", "200 endpoints on 8 networks at once: leave all");
    by_hand()
}

/// The median of some rounds, and the worst.
fn report(what: &str, mut once: impl FnMut() -> Result<Duration>) -> Result<()> {
    let mut times = (0..ROUNDS).map(|_| once()).collect::<Result<Vec<_>>>()?;
    times.sort();
    println!("{what:58} {:>9.2?}  worst {:>9.2?}", times[ROUNDS / 2], times[ROUNDS - 1]);
    Ok(())
}

fn timed<T, E>(act: impl FnOnce() -> std::result::Result<T, E>) -> Result<(Duration, T)>
where
    E: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let begin = Instant::now();
    let done = act().map_err(Into::into)?;
    Ok((begin.elapsed(), done))
}

fn at(network: &Network, ports: &[&str]) -> Result<(Namespace, Endpoint)> {
    let netns = Namespace::new_net()?;
    let mut join = Join::new(netns.as_fd(), "c").names(["c"]);
    for text in ports {
        join = parse(text)?.into_iter().fold(join, Join::publish);
    }
    let endpoint = network.join(&join)?;
    Ok((netns, endpoint))
}

fn joined(network: &Network, ports: &[&str]) -> Result<(Duration, Duration)> {
    let netns = Namespace::new_net()?;
    let mut join = Join::new(netns.as_fd(), "c").names(["c"]);
    for text in ports {
        join = parse(text)?.into_iter().fold(join, Join::publish);
    }
    let (join, endpoint) = timed(|| network.join(&join))?;
    Ok((join, timed(|| endpoint.leave())?.0))
}

fn life(networks: &Networks) -> Result<Duration> {
    let network = networks.create(&NetworkSpec::new("n"))?;
    let (join, leave) = joined(&network, &[])?;
    networks.remove("n")?;
    Ok(join + leave)
}

fn many(networks: &Networks, count: usize) -> Result<(Duration, Duration)> {
    let all: Vec<Network> =
        (0..8).map(|at| networks.create(&NetworkSpec::new(format!("many{at}")))).collect::<Result<_, _>>()?;
    let spaces: Vec<Namespace> = (0..count).map(|_| Namespace::new_net()).collect::<Result<_, _>>()?;
    let (up, endpoints) = timed(|| {
        std::thread::scope(|scope| {
            let join = |(index, netns): (usize, &Namespace)| {
                let (network, netns) = (all[index % all.len()].clone(), netns.try_clone());
                scope.spawn(move || -> Result<Endpoint> {
                    let netns = netns?;
                    Ok(network.join(&Join::new(netns.as_fd(), index.to_string()))?)
                })
            };
            let threads: Vec<_> = spaces.iter().enumerate().map(join).collect();
            threads.into_iter().map(|thread| thread.join().expect("no panic")).collect::<Result<Vec<_>>>()
        })
    })?;
    let (down, _) = timed(|| {
        std::thread::scope(|scope| {
            let threads: Vec<_> =
                endpoints.into_iter().map(|endpoint| scope.spawn(move || endpoint.leave())).collect();
            threads.into_iter().try_for_each(|thread| thread.join().expect("no panic"))
        })
    })?;
    Ok((up, down))
}

/// The floor: one program for each step, as scripts do it.
fn by_hand() -> Result<()> {
    let run = |line: &str| -> Result<()> {
        let status = std::process::Command::new("sh").args(["-c", line]).status()?;
        if status.success() { Ok(()) } else { Err(format!("{line}: {status}").into()) }
    };
    if run("command -v ip iptables nsenter >/dev/null").is_err() {
        println!("by hand: ip(8), iptables(8) or nsenter(1) is not installed");
        return Ok(());
    }
    run("ip link add hand0 type bridge && ip addr add 10.250.0.1/24 dev hand0 && ip link set hand0 up")?;
    let line = |netns: &Namespace| {
        let (pid, fd) = (std::process::id(), std::os::fd::AsRawFd::as_raw_fd(&netns.as_fd()));
        format!(
            "ip link add hv0 type veth peer name hp0 && ip link set hv0 master hand0 up && \
             ip link set hp0 netns /proc/{pid}/fd/{fd} && nsenter --net=/proc/{pid}/fd/{fd} sh -c \
             'ip link set hp0 name eth0 && ip addr add 10.250.0.2/24 dev eth0 && ip link set lo up && \
              ip link set eth0 up && ip route add default via 10.250.0.1'"
        )
    };
    let once = || -> Result<(Duration, Duration)> {
        let netns = Namespace::new_net()?;
        let (up, ()) = timed(|| run(&line(&netns)))?;
        Ok((up, timed(|| run("ip link del hv0"))?.0))
    };
    report("by hand, ip(8): join", || Ok(once()?.0))?;
    report("by hand, ip(8): leave", || Ok(once()?.1))?;
    let rules = |act: &str| {
        format!(
            "for port in $(seq 1 99); do iptables -w -t nat -{act} PREROUTING -p tcp --dport $((20000 + port)) \
             -j DNAT --to-destination 10.250.0.2:$port || exit 1; done"
        )
    };
    let (open, ()) = timed(|| run(&rules("A")))?;
    let (close, ()) = timed(|| run(&rules("D")))?;
    println!("{:58} {open:>9.1?}", "by hand, iptables(8): 99 ports opened");
    println!("{:58} {close:>9.1?}", "by hand, iptables(8): 99 ports closed");
    run("ip link del hand0")
}
