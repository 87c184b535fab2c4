//! One prepared database, cloned for twenty tests that run at once.
//!
//! `sudo cargo run --release --example templates [STATE-DIRECTORY]`
//!
//! The "database" is a directory that a shell script fills; what matters is that preparing it is slow, that every test
//! wants it as it was prepared, and that no test may see what another one did to it.
#![allow(clippy::print_stdout)]

use std::error::Error;
use std::path::PathBuf;
use std::thread;
use std::time::Instant;

use coracle::{Capture, ContainerSpec, Engine, Template};

const TESTS: usize = 20;
const ROWS: usize = 2000;

fn main() -> Result<(), Box<dyn Error>> {
    let given = std::env::args_os().nth(1).map(PathBuf::from);
    let state = given.unwrap_or_else(|| std::env::temp_dir().join("coracle-templates"));
    let engine = Engine::open(&state)?;

    let begun = Instant::now();
    let template = match engine.template("prepared")? {
        // Another run, or another test program, has prepared it.
        Some(template) => template,
        None => prepare(&engine)?,
    };
    println!("prepared in {:.0?}", begun.elapsed());

    let begun = Instant::now();
    let (at, from) = (&engine, &template);
    thread::scope(|scope| {
        let tests: Vec<_> = (0..TESTS).map(|number| scope.spawn(move || test(at, from, number))).collect();
        tests.into_iter().try_for_each(|test| test.join().expect("a test panicked"))
    })?;
    println!("{TESTS} tests, each with {ROWS} rows of its own, in {:.0?}", begun.elapsed());

    engine.remove_template("prepared")?;
    Ok(())
}

/// Starts it once, fills it, and keeps it as it is then.
fn prepare(engine: &Engine) -> coracle::Result<Template> {
    engine.capture(&Capture::new().programs(["/bin/sh", "/bin/rm", "/bin/ls"]), "shell")?;
    let script = format!(
        "i=0; while [ $i -lt {ROWS} ]; do echo row $i > /data/$i; i=$((i+1)); done; echo ready > /state"
    );
    let first = engine.start(
        &ContainerSpec::new("shell")
            .command(["sh", "-c", &script])
            .volume("prepared-data", "/data")
            .no_network(),
    )?;
    first.wait()?;
    let template = first.freeze("prepared")?;
    drop(first);
    engine.remove_volume("prepared-data")?;
    Ok(template)
}

/// Finds everything as it was prepared, and spoils it for nobody but itself.
fn test(engine: &Engine, template: &Template, number: usize) -> coracle::Result<()> {
    let script = format!(
        "read state < /state; set -- /data/*; echo $state $#; rm /data/*; echo test {number} > /state; echo > /data/mine"
    );
    let mine = engine.start(&template.spec().command(["sh", "-c", &script]).no_network())?;
    mine.wait()?;
    assert_eq!(mine.output()?.stdout, format!("ready {ROWS}\n"));
    Ok(())
}
