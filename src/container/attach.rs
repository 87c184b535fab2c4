//! A container's standard streams, in another program's hands.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::AsFd;

use coracle_host::{Call, Dir, PidFd};
use coracle_runtime::Stream;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;

use super::control::{Question, ask};
use crate::error::Result;

/// The standard streams of a running container: what it writes from now on, and where to write what it reads.
#[derive(Debug, Default)]
#[non_exhaustive]
pub struct Streams {
    /// Where to write what it reads: a pipe, or its terminal. `None`: it reads from nowhere, or somebody else has it.
    /// The container's input ends when this is dropped, unless it is to stay open or is a terminal.
    pub stdin: Option<File>,
    /// What it writes to its standard output, or to its terminal. It comes to its end with the container.
    pub stdout: Option<File>,
    /// What it writes to its standard error; with a terminal there is no such thing.
    pub stderr: Option<File>,
}

/// Asks the supervisor for streams.
pub(crate) fn fetch(room: &Dir, output: bool, input: bool) -> Result<Option<Streams>> {
    let Some(mut reached) = ask(room, Question::Attach { output, input })? else { return Ok(None) };
    let (stdout, stderr, stdin) = (reached.report.stdout, reached.report.stderr, reached.report.stdin);
    let mut take = |is_there| reached.take(is_there).map(File::from);
    let (stdout, stderr, stdin) = (take(stdout), take(stderr), take(stdin));
    Ok(Some(Streams { stdin, stdout, stderr }))
}

/// Writes to this program's standard output or error what a process wrote to its own. A program at whose output nobody looks
/// any more is ended by SIGPIPE, and what it runs ends with it: then the process is killed.
pub(crate) fn show(stream: Stream, bytes: &[u8], process: &PidFd) {
    let write = |target: &mut dyn Write| target.write_all(bytes).and_then(|()| target.flush());
    let written = match stream {
        Stream::Stdout => write(&mut std::io::stdout()),
        Stream::Stderr => write(&mut std::io::stderr()),
    };
    // All else that can fail is no business of the process's.
    if written.is_err_and(|error| error.kind() == std::io::ErrorKind::BrokenPipe) {
        let _ = process.signal(9);
    }
}

/// Copies what a container writes to this program's standard output and error, to the end of both, and [`show`]s it.
pub(crate) fn forward(streams: Streams, container: &PidFd) -> Result<()> {
    let Streams { mut stdout, mut stderr, .. } = streams;
    let mut buffer = vec![0; 64 << 10];
    while stdout.is_some() || stderr.is_some() {
        let ready = {
            let mut fds: Vec<PollFd<'_>> = [&stdout, &stderr]
                .into_iter()
                .flatten()
                .map(|pipe| PollFd::from_borrowed_fd(pipe.as_fd(), PollFlags::IN))
                .collect();
            match poll(&mut fds, None) {
                Ok(_) | Err(Errno::INTR) => {}
                Err(errno) => Err(errno).call(|| "poll()")?,
            }
            let mut ready = fds.iter().map(|fd| !fd.revents().is_empty());
            [stdout.is_some() && ready.next() == Some(true), stderr.is_some() && ready.next() == Some(true)]
        };
        let pipes = [(&mut stdout, Stream::Stdout), (&mut stderr, Stream::Stderr)];
        for ((pipe, stream), ready) in pipes.into_iter().zip(ready) {
            let Some(file) = pipe.as_mut().filter(|_| ready) else { continue };
            match file.read(&mut buffer) {
                Ok(0) | Err(_) => *pipe = None,
                Ok(read) => show(stream, &buffer[..read], container),
            }
        }
    }
    Ok(())
}
