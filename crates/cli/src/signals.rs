//! Signals: their names, and passing them on to a container.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use coracle::Container;
use nix::sys::signal::{SigSet, Signal};

/// How many times one asks politely.
const POLITE: usize = 3;

/// Passes the signals that this program gets on to a container, as docker does for one in the foreground.
pub(crate) struct Forwarding(Arc<Mutex<Post>>);

/// What signals mean to who sits at a terminal.
pub(crate) enum Told {
    /// It has another size.
    Resized,
    /// This program is to end, by this signal.
    End(u8),
}

/// Where signals go.
#[derive(Default)]
struct Post {
    container: Option<Weak<Container>>,
    /// The container has a terminal: nothing is passed on, and this is told instead.
    terminal: Option<Box<dyn Fn(Told) + Send>>,
    /// Those that came while the container was being started.
    waiting: Vec<u8>,
    asked: usize,
}

impl Forwarding {
    /// From now on. To be called before there is any other thread: threads inherit what is blocked here.
    pub(crate) fn begin() -> Forwarding {
        let ours = [
            Signal::SIGHUP,
            Signal::SIGINT,
            Signal::SIGQUIT,
            Signal::SIGTERM,
            Signal::SIGUSR1,
            Signal::SIGUSR2,
            Signal::SIGWINCH,
            Signal::SIGCONT,
        ];
        let set: SigSet = ours.into_iter().collect();
        let post = Arc::new(Mutex::new(Post::default()));
        // It fails only for bad arguments; then signals keep their usual effect.
        if set.thread_block().is_ok() {
            let post = post.clone();
            std::thread::spawn(move || {
                while let Ok(signal) = set.wait() {
                    lock(&post).take(signal);
                }
            });
        }
        Forwarding(post)
    }

    /// This is the one; it gets what came before, too.
    pub(crate) fn to(&self, container: &Arc<Container>) {
        let mut post = lock(&self.0);
        post.container = Some(Arc::downgrade(container));
        for signal in std::mem::take(&mut post.waiting) {
            post.deliver(signal);
        }
    }

    /// It has a terminal: nothing is passed on, and this is told instead.
    pub(crate) fn to_terminal(&self, tell: impl Fn(Told) + Send + 'static) {
        lock(&self.0).terminal = Some(Box::new(tell));
    }

    /// It has ended. From here on nobody but the caller has the container.
    pub(crate) fn end(&self) {
        lock(&self.0).container = Some(Weak::new());
    }
}

fn lock(post: &Mutex<Post>) -> MutexGuard<'_, Post> {
    post.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Post {
    fn take(&mut self, signal: Signal) {
        let number = u8::try_from(signal as i32).unwrap_or_default();
        if let Some(tell) = &self.terminal {
            return match signal {
                Signal::SIGWINCH => tell(Told::Resized),
                Signal::SIGCONT | Signal::SIGUSR1 | Signal::SIGUSR2 => {}
                _ => tell(Told::End(number)),
            };
        }
        let ends = matches!(signal, Signal::SIGINT | Signal::SIGTERM | Signal::SIGQUIT | Signal::SIGHUP);
        self.asked += usize::from(ends);
        if self.container.is_some() {
            self.deliver(number);
        } else if self.asked < 2 {
            self.waiting.push(number);
        } else {
            // The start takes too long for somebody; whatever is half started dies with us.
            std::process::exit(128 + i32::from(number));
        }
    }

    fn deliver(&self, signal: u8) {
        let Some(container) = self.container.as_ref().and_then(Weak::upgrade) else { return };
        if self.asked >= POLITE {
            crate::out::say("coracle: got 3 signals to end, killing the container");
            let _ = container.signal(9);
        } else {
            // It may just have ended.
            let _ = container.signal(signal);
        }
    }
}
