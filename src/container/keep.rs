//! Kept containers: their supervisor is a process of its own, this very program run again.

use std::io::{BufRead, BufReader, Read, Write};
use std::os::fd::AsFd;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use coracle_host::{Dir, Kind, Lock};
use serde::{Deserialize, Serialize};

use super::attach::{self, Streams};
use super::control::Failure;
use super::record::{self, Record};
use super::room;
use super::supervisor::{self, Manner, Said};
use crate::Engine;
use crate::engine::{EngineOptions, Inner};
use crate::error::{Error, Result};

/// The name that the program is run again under.
const SUPERVISOR: &str = "coracle-supervisor";
/// Its last argument, where somebody wants to see all of the output.
const WATCHED: &str = "watched";

/// Whether this program's `main` lets it serve as a supervisor. Without that, running it again would run the
/// program itself again.
static HOOKED: AtomicBool = AtomicBool::new(false);

/// Lets this program serve as the supervisor of kept containers. Call it first thing in `main`; it returns at once,
/// unless the program was started to supervise: then it does that and ends the process.
///
/// Only programs that use [`ContainerSpec::keep`](crate::ContainerSpec::keep) need it.
pub fn supervise() {
    supervise_with(&EngineOptions::new());
}

/// [`supervise`], for supervisors that have what this program brings along to its engines
/// ([`Engine::open_with`](crate::Engine::open_with)).
pub fn supervise_with(options: &EngineOptions) {
    HOOKED.store(true, Ordering::Relaxed);
    let mut arguments = std::env::args_os();
    if arguments.next().is_none_or(|name| name != SUPERVISOR) {
        return;
    }
    let (stage, state, id) = (arguments.next(), arguments.next(), arguments.next());
    let watched = arguments.next();
    let (Some(stage), Some(state), Some(id)) = (stage, state.map(PathBuf::from), id) else {
        std::process::exit(2);
    };
    if stage == "detach" {
        // Our parent waits for this process only: the supervisor itself is nobody's child, and nobody's zombie.
        let detached = Command::new("/proc/self/exe")
            .arg0(SUPERVISOR)
            .args(["run".as_ref(), state.as_os_str(), &id])
            .args(watched)
            .spawn();
        std::process::exit(i32::from(detached.is_err()));
    }
    serve(&state, options, &id.to_string_lossy(), watched.is_some());
    std::process::exit(0);
}

/// What the supervisor tells the program that started it.
#[derive(Serialize, Deserialize)]
enum Answer {
    /// It can be asked for the output.
    Listening,
    Started,
    Failed(Failure),
}

/// Starts a supervisor for the container whose room this is, and returns when it has started the container. The
/// supervisor inherits the room's lock, so that the room is never without an owner.
pub(crate) fn spawn(
    engine: &Inner,
    room: &Dir,
    record: &Record,
    lock: &Lock,
    watched: bool,
) -> Result<Streams> {
    if !HOOKED.load(Ordering::Relaxed) {
        let text =
            "keep(): this program can't serve as a supervisor; call coracle::supervise() first thing in main";
        return Err(Error::new(Kind::Unsupported, text));
    }
    let lock = lock.as_fd().try_clone_to_owned().map_err(failed)?;
    let state = std::path::absolute(engine.state.dir.path()).map_err(failed)?;
    let mut detacher = Command::new("/proc/self/exe")
        .arg0(SUPERVISOR)
        .args(["detach".as_ref(), state.as_os_str(), record.id.as_ref()])
        .args(watched.then_some(WATCHED))
        .stdin(lock)
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .env_clear()
        .current_dir("/")
        .spawn()
        .map_err(failed)?;
    let told = detacher.stdout.take().map(|pipe| listen(room, pipe));
    detacher.wait().map_err(failed)?;
    told.unwrap_or_else(|| Err(Error::new(Kind::Other, "no pipe to the supervisor")))
}

/// Hears what a supervisor says, a line a word, until it has started the container.
fn listen(room: &Dir, pipe: impl Read) -> Result<Streams> {
    let mut streams = Streams::default();
    for line in BufReader::new(pipe).lines() {
        match serde_json::from_str(&line.map_err(failed)?) {
            Ok(Answer::Listening) => {
                streams = attach::fetch(room, true, false)?.unwrap_or_default();
            }
            Ok(Answer::Started) => {
                if streams.stdout.is_some() {
                    streams.stdin = attach::fetch(room, false, true)?.and_then(|streams| streams.stdin);
                }
                return Ok(streams);
            }
            Ok(Answer::Failed(failure)) => return Err(failure.into()),
            Err(_) => break,
        }
    }
    Err(Error::new(Kind::Interrupted, "the container's supervisor ended before it could start it"))
}

/// The life of a supervisor process: standard input is the room's lock, standard output leads to the starter.
fn serve(state: &std::path::Path, options: &EngineOptions, id: &str, watched: bool) {
    // A session of our own: no terminal's signals come here. It fails only for a group leader, which we are not.
    let _ = rustix::process::setsid();
    let opened = Engine::open_with(state, options).and_then(|engine| {
        let room = engine.0.state.containers.dir(id)?;
        let record = Arc::new(Record::read(&room)?);
        Ok((engine, room, record))
    });
    let (engine, room, record) = match opened {
        Ok(opened) => opened,
        Err(error) => return answer(&failure(&error)),
    };
    let manner = Manner { watched, ..Manner::default() };
    supervisor::run(&engine.0, &room, record.clone(), manner, |said| {
        answer(&match said {
            Said::Listening => return answer(&Answer::Listening),
            Said::Started(_) => Answer::Started,
            Said::Failed(error) => failure(&error),
            Said::Ended | Said::Again(_) => return,
        });
        // From here on nobody listens.
        if let Ok(null) = std::fs::OpenOptions::new().write(true).open("/dev/null") {
            let _ = rustix::stdio::dup2_stdout(null);
        }
        // Starting took more than waiting does.
        coracle_host::give_back_memory();
    });
    // The room's lock is our standard input, held to the end of this process.
    if !record.retain {
        let _ = room::discard(&engine.0, &record);
    }
}

fn failure(error: &Error) -> Answer {
    Answer::Failed(error.into())
}

fn answer(answer: &Answer) {
    if let Ok(mut text) = record::json(answer) {
        text.push(b'\n');
        // A starter that was killed meanwhile doesn't hear it; the container was wanted all the same.
        let _ = std::io::stdout().write_all(&text).and_then(|()| std::io::stdout().flush());
    }
}

fn failed(error: std::io::Error) -> Error {
    const DOING: &str = "start a supervisor process";
    match rustix::io::Errno::from_io_error(&error) {
        Some(errno) => coracle_host::Error::os(DOING, errno).into(),
        None => Error::new(Kind::Other, format!("{DOING}: {error}")),
    }
}
