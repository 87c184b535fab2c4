//! A container's standard streams as this program's own: copied, with the keys that detach, until it ends.

use std::fs::File;
use std::io::{self, Read, Write};
use std::sync::Arc;
use std::sync::mpsc::{Sender, channel};
use std::thread;

use coracle::{Container, Exec, Streams};

use crate::ended;
use crate::fail::{Done, Fail};
use crate::signals::{Forwarding, Told};
use crate::terminal::{Raw, resize};

/// docker's keys for leaving a container alone.
pub(crate) const DETACH: &str = "ctrl-p,ctrl-q";

/// A sequence of keys, as the bytes that a terminal sends for them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Keys(Vec<u8>);

/// `ctrl-p,ctrl-q`, `a`: letters, and `ctrl-` with a letter or one of `@[\]^_`.
pub(crate) fn keys(text: &str) -> Result<Keys, String> {
    let key = |name: &str| match name.as_bytes() {
        [byte] => Some(*byte),
        [b'c', b't', b'r', b'l', b'-', byte @ b'a'..=b'z'] => Some(byte - b'a' + 1),
        [b'c', b't', b'r', b'l', b'-', byte @ (b'@' | b'['..=b'_')] => Some(byte - b'@'),
        _ => None,
    };
    if text.is_empty() {
        return Ok(Keys(Vec::new()));
    }
    let keys = text.split(',').map(|name| key(name).ok_or_else(|| format!("Unknown character: '{name}'")));
    keys.collect::<Result<_, _>>().map(Keys)
}

/// Takes the keys that detach out of what is typed.
struct Watch {
    keys: Vec<u8>,
    seen: usize,
}

impl Watch {
    /// What is to be passed on, and whether the keys were typed.
    fn take(&mut self, typed: &[u8]) -> (Vec<u8>, bool) {
        let mut out = Vec::with_capacity(typed.len());
        for byte in typed {
            if self.keys.get(self.seen) == Some(byte) {
                self.seen += 1;
                if self.seen == self.keys.len() {
                    return (out, true);
                }
                continue;
            }
            out.extend_from_slice(&self.keys[..self.seen]);
            self.seen = usize::from(self.keys.first() == Some(byte));
            if self.seen == 0 {
                out.push(*byte);
            }
        }
        (out, false)
    }
}

/// This program in front of a container.
pub(crate) struct Session {
    forwarding: Option<Forwarding>,
}

/// Why a session is over.
enum Over {
    Ended,
    Detached,
    /// By this signal.
    Signalled(u8),
}

impl Session {
    /// To be called before there is any other thread.
    pub(crate) fn begin(signals: bool) -> Session {
        Session { forwarding: signals.then(Forwarding::begin) }
    }

    /// Until the container ends, whose status becomes ours, or the keys are typed. Then it is let go of.
    pub(crate) fn run(self, container: Container, streams: Streams, input: bool, keys: &Keys) -> Done {
        let container = Arc::new(container);
        let terminal = container.has_terminal();
        if let Some(forwarding) = self.forwarding.as_ref().filter(|_| !terminal) {
            forwarding.to(&container);
        }
        // From now on: one that is removed at its end is gone when all of its output has been seen.
        let waiter = {
            let container = container.clone();
            thread::spawn(move || container.wait())
        };
        if !self.copy(streams, terminal, input, keys)? {
            return Ok(0);
        }
        let exit = waiter.join().map_err(|_| Fail::new(125, "waiting for the container failed"))??;
        if let Some(forwarding) = &self.forwarding {
            forwarding.end();
        }
        Ok(ended::status(&container, exit))
    }

    /// The same for a further process in a container that has a terminal of its own.
    pub(crate) fn exec(self, exec: Exec, streams: Streams, input: bool, keys: &Keys) -> Done {
        // Who detaches leaves it to this program's end, with which it ends.
        Ok(if self.copy(streams, true, input, keys)? { exec.wait().code() } else { 0 })
    }

    /// Copies to the end of all output. `false`: the keys to detach were typed.
    fn copy(&self, streams: Streams, terminal: bool, input: bool, keys: &Keys) -> Result<bool, Fail> {
        let mut stdin = streams.stdin.filter(|_| input || terminal);
        let raw = (terminal && input).then(Raw::begin).flatten();
        let (tell, told) = channel();
        if let Some(pty) = stdin.as_ref().filter(|_| terminal) {
            resize(pty);
        }
        if let Some(forwarding) = self.forwarding.as_ref().filter(|_| terminal) {
            let pty = stdin.as_ref().and_then(|pty| pty.try_clone().ok());
            let tell = tell.clone();
            forwarding.to_terminal(move |what| match what {
                Told::Resized => pty.iter().for_each(resize),
                Told::End(signal) => drop(tell.send(Ok(Over::Signalled(signal)))),
            });
        }
        let ends = [(streams.stdout, true), (streams.stderr, false)];
        let copies: Vec<_> = ends
            .into_iter()
            .filter_map(|(from, out)| Some((from?, out)))
            .map(|(from, out)| thread::spawn(move || copy_out(from, out)))
            .collect();
        if let Some(to) = stdin.take().filter(|_| input) {
            let watch = Watch { keys: if raw.is_some() { keys.0.clone() } else { Vec::new() }, seen: 0 };
            let tell = tell.clone();
            // It may wait for a key for ever, and ends with this program.
            thread::spawn(move || copy_in(to, watch, &tell));
        }
        thread::spawn(move || {
            let broken = copies.into_iter().any(|copy| copy.join().is_ok_and(|done| done.is_err()));
            let _ = tell.send(if broken { Err(()) } else { Ok(Over::Ended) });
        });
        let over = told.recv();
        drop(raw);
        match over {
            Ok(Ok(Over::Detached)) => {
                crate::out::say("read escape sequence");
                Ok(false)
            }
            Ok(Ok(Over::Signalled(signal))) => Err(Fail::silent(128 + signal)),
            // Nobody looks at what it writes any more: this program ends as by SIGPIPE, and the container goes on.
            Ok(Err(())) => Err(Fail::silent(141)),
            Ok(Ok(Over::Ended)) | Err(_) => Ok(true),
        }
    }
}

fn copy_out(mut from: File, out: bool) -> io::Result<()> {
    let mut buffer = vec![0; 64 << 10];
    loop {
        let read = match from.read(&mut buffer) {
            Ok(0) => return Ok(()),
            Ok(read) => read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(_) => return Ok(()),
        };
        if out {
            let mut stdout = io::stdout().lock();
            stdout.write_all(&buffer[..read])?;
            stdout.flush()?;
        } else {
            io::stderr().write_all(&buffer[..read])?;
        }
    }
}

fn copy_in(mut to: File, mut watch: Watch, tell: &Sender<Result<Over, ()>>) {
    let mut buffer = vec![0; 16 << 10];
    let mut stdin = io::stdin().lock();
    loop {
        let read = match stdin.read(&mut buffer) {
            Ok(0) => return,
            Ok(read) => read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(_) => return,
        };
        let (typed, detach) = watch.take(&buffer[..read]);
        // A container that doesn't read any more; it is waited for all the same.
        if to.write_all(&typed).is_err() {
            return;
        }
        if detach {
            let _ = tell.send(Ok(Over::Detached));
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_have_names() {
        assert_eq!(keys("ctrl-p,ctrl-q"), Ok(Keys(vec![16, 17])));
        assert_eq!(keys("a,ctrl-@,ctrl-["), Ok(Keys(vec![b'a', 0, 27])));
        assert_eq!(keys("ctrl-"), Err("Unknown character: 'ctrl-'".into()));
        assert!(keys("ab").is_err());
    }

    #[test]
    fn the_keys_are_found_in_what_is_typed() {
        let mut watch = Watch { keys: vec![16, 17], seen: 0 };
        assert_eq!(watch.take(b"ab"), (b"ab".to_vec(), false));
        assert_eq!(watch.take(&[b'x', 16]), (b"x".to_vec(), false));
        assert_eq!(watch.take(b"y"), (vec![16, b'y'], false), "only the first of them");
        assert_eq!(watch.take(&[16, 16]), (vec![16], false));
        assert_eq!(watch.take(&[17, b'z']), (Vec::new(), true));
        assert_eq!(Watch { keys: Vec::new(), seen: 0 }.take(&[16, 17]), (vec![16, 17], false));
    }
}
