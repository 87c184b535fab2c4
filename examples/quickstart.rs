//! What Coracle does, in one go and offline: build an image from a Dockerfile twice, with a cache between; put two
//! containers on a network, where they find each other by name; kill one, and find its data again.
//!
//! Run it as root: `cargo run --release --example quickstart`. Everything it makes is in a temporary directory, and
//! gone at the end.
#![allow(clippy::print_stdout)]

use std::error::Error;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::time::{Duration, Instant};

use coracle::{BuildSpec, Built, Capture, ContainerSpec, Engine, NetworkSpec, Ready, VolumeSpec, tcp};

/// `notes` is this very program, in a container. It keeps what it is told in a file, and says it again when asked.
const DOCKERFILE: &str = r#"FROM tools AS build
WORKDIR /src
COPY dictionary.txt .
RUN sort dictionary.txt > sorted.txt
COPY greeting.txt .
RUN cat greeting.txt sorted.txt > /banner

FROM tools
COPY --from=build /banner /etc/banner
ENV STORE=/data/notes
VOLUME /data
CMD ["notes", "serve"]
"#;

fn main() -> Result<(), Box<dyn Error>> {
    match std::env::args().nth(1).as_deref() {
        Some("serve") => return serve(),
        Some("ask") => return ask(&std::env::args().skip(2).collect::<Vec<_>>()),
        _ => {}
    }
    let begin = Instant::now();
    let place = tempfile::tempdir()?;
    let engine = Engine::open(place.path().join("state"))?;

    // A base image without a registry: programs of this machine, with all that they need.
    let tools = Capture::new()
        .programs(["/bin/sh", "/bin/cat", "/usr/bin/sort"])
        .program_as(std::env::current_exe()?, "/usr/local/bin/notes");
    let base = engine.capture(&tools, "tools")?;
    println!(
        "image `tools`: programs of this machine, {:.1} MB, in {:.0?}\n",
        base.size() as f64 / 1e6,
        begin.elapsed()
    );

    // Build, change one file, build again: only the lines below the change run.
    let context = place.path().join("app");
    std::fs::create_dir(&context)?;
    std::fs::write(context.join("Dockerfile"), DOCKERFILE)?;
    std::fs::write(context.join("dictionary.txt"), "paddle\ncoracle\nanchor\n")?;
    std::fs::write(context.join("greeting.txt"), "hello\n")?;
    let recipe = BuildSpec::new(&context).tag("notes:1");
    report("first build", &engine.build(&recipe, |_event| {})?);
    std::fs::write(context.join("greeting.txt"), "ahoy\n")?;
    let built = engine.build(&recipe, |_event| {})?;
    report("greeting.txt changed", &built);

    // A network, a volume, and a server that keeps its notes there.
    let network = engine.network(&NetworkSpec::new("harbour"))?;
    let volume = engine.volume(&VolumeSpec::new("notes-data"))?;
    let server = ContainerSpec::new(&built.image)
        .name("store")
        .network(&network)
        .volume(&volume, "/data")
        .ready(Ready::port(tcp(7000)).within(Duration::from_secs(10)));
    let client = |arguments: &[&str]| -> Result<String, Box<dyn Error>> {
        let command = ["notes", "ask"].iter().chain(arguments);
        let container =
            engine.start(&ContainerSpec::new(&built.image).command(command.copied()).network(&network))?;
        let exit = container.wait()?;
        let output = container.output()?;
        if exit.success() { Ok(output.stdout.trim().to_owned()) } else { Err(output.stderr.into()) }
    };

    let first = timed("start `store`", || Ok(engine.start(&server)?))?;
    println!("store has address {}", first.address()?.ok_or("no address")?);
    timed("another container tells it something, by name", || {
        client(&["store", "add", "the boat is tied up"])
    })?;
    println!("and asks: {:?}", client(&["store", "list"])?);

    // Lose it, start it again: a new container, the same volume.
    println!("store {}", first.kill()?);
    drop(first);
    let second = timed("start it again", || Ok(engine.start(&server)?))?;
    let notes = timed("and ask again", || client(&["store", "list"]))?;
    println!("its data: {notes:?}");
    assert_eq!(notes, "ahoy | the boat is tied up");

    drop(second);
    engine.remove_network("harbour")?;
    engine.remove_volume("notes-data")?;
    println!("\nall of it in {:.2?}; nothing is left", begin.elapsed());
    Ok(())
}

fn report(title: &str, built: &Built) {
    println!("{title}: {}", &built.image.id()[..19]);
    for step in &built.steps {
        let what = if step.cached() {
            "cached".to_owned()
        } else if step.built() {
            format!("built in {:.1?}", step.duration)
        } else {
            "-".to_owned()
        };
        println!("  {:2}  {:45} {what}", step.at.line, step.at.text);
    }
    println!();
}

fn timed<T>(what: &str, work: impl FnOnce() -> Result<T, Box<dyn Error>>) -> Result<T, Box<dyn Error>> {
    let begin = Instant::now();
    let result = work()?;
    println!("{what}: {:.1?}", begin.elapsed());
    Ok(result)
}

/// The server: one line in, one line out.
fn serve() -> Result<(), Box<dyn Error>> {
    let store = std::env::var("STORE")?;
    let listener = TcpListener::bind("0.0.0.0:7000")?;
    for client in listener.incoming() {
        // One that goes away in the middle is no reason to stop.
        let _ = client.and_then(|client| answer(client, &store));
    }
    Ok(())
}

fn answer(mut client: TcpStream, store: &str) -> std::io::Result<()> {
    let mut line = String::new();
    BufReader::new(&client).read_line(&mut line)?;
    if let Some(note) = line.trim().strip_prefix("add ") {
        let mut file = std::fs::OpenOptions::new().create(true).append(true).open(store)?;
        writeln!(file, "{note}")?;
        file.sync_all()?;
        return writeln!(client, "noted");
    }
    let banner = std::fs::read_to_string("/etc/banner")?;
    let notes = std::fs::read_to_string(store)?;
    let lines: Vec<&str> = banner.lines().take(1).chain(notes.lines()).collect();
    writeln!(client, "{}", lines.join(" | "))
}

/// The client: finds the server by its name.
fn ask(arguments: &[String]) -> Result<(), Box<dyn Error>> {
    let (host, words) = arguments.split_first().ok_or("whom?")?;
    let mut socket = TcpStream::connect((host.as_str(), 7000))?;
    writeln!(socket, "{}", words.join(" "))?;
    let mut answer = String::new();
    BufReader::new(&socket).read_line(&mut answer)?;
    println!("{}", answer.trim());
    Ok(())
}
