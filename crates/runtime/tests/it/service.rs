//! What a supervisor does beside waiting.

use std::fs::{self, File};
use std::io::BufReader;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use coracle_host::{Dir, Exit};
use coracle_runtime::{Log, LogLimits, Pump, Running, Service, Stdio, Stream, supervise};
use coracle_testhost::run;
use rustix::event::PollFlags;

use crate::support::{self, bundle, plan, script, start};

fn log_in(dir: &std::path::Path) -> Log {
    Log::new(&Dir::open(dir).unwrap(), "log", LogLimits { max_size: None, max_files: 1 })
}

#[test]
fn a_pump_takes_everything() {
    run(|host| {
        let text = "head -c 5000000 /dev/zero | tr '\\0' 'o' & head -c 5000000 /dev/zero | tr '\\0' 'e' >&2; wait; echo end";
        let Running { pidfd, stdout, stderr, .. } = start(host.dir(), &script(text)).unwrap();
        let path = host.dir().join("log");
        let mut counts = [0usize; 2];
        let mut pump = Pump::new(stdout, stderr)
            .unwrap()
            .to_log(log_in(host.dir()))
            .to(|stream, bytes: &[u8]| counts[stream as usize] += bytes.len());
        assert_eq!(supervise(&pidfd, &mut [&mut pump]).unwrap(), Exit::Code(0));
        assert!(pump.is_at_end() && pump.failure().is_none());
        drop(pump);
        assert_eq!(counts, [5_000_004, 5_000_000]);
        let entries = Log::read(BufReader::new(File::open(path).unwrap())).unwrap();
        let text = |stream| {
            let entries = entries.iter().filter(|entry| entry.stream == stream);
            entries.map(|entry| entry.log.as_str()).collect::<String>()
        };
        assert!(text(Stream::Stdout) == format!("{}end\n", "o".repeat(5_000_000)));
        assert!(text(Stream::Stderr) == "e".repeat(5_000_000));
        // The lines are in the order of their times.
        assert!(entries.is_sorted_by(|a, b| a.time <= b.time));
    });
}

#[test]
fn what_was_written_before_the_end_is_taken_after_it() {
    run(|host| {
        let text = "read go; head -c 1000000 /dev/zero | tr '\\0' 'o'";
        let stdio = [Stdio::Pipe, Stdio::Pipe, Stdio::Null];
        let bundle = coracle_runtime::Bundle { stdio, ..bundle(host.dir()) };
        let Running { pidfd, stdin, stdout, .. } = plan(&script(text)).start(bundle).unwrap();
        rustix::pipe::fcntl_setpipe_size(stdout.as_ref().unwrap(), 1 << 20).unwrap();
        drop(stdin);
        assert!(pidfd.ended_within(Some(support::SOON)).unwrap());
        let mut count = 0;
        let mut pump = Pump::new(stdout, None).unwrap().to(|_, bytes: &[u8]| count += bytes.len());
        supervise(&pidfd, &mut [&mut pump]).unwrap();
        drop(pump);
        assert_eq!(count, 1_000_000);
    });
}

#[test]
fn a_full_disk_holds_nobody_up() {
    run(|host| {
        let disk = host.small_disk(64 << 10);
        fs::write(disk.join("filler"), vec![0u8; 40 << 10]).unwrap();
        let filler = disk.join("filler");
        let text = "for i in $(seq 1 2000); do echo line number $i; done; echo enough; read go; echo after";
        let stdio = [Stdio::Pipe, Stdio::Pipe, Stdio::Null];
        let Running { pidfd, stdin, stdout, .. } =
            plan(&script(text)).start(coracle_runtime::Bundle { stdio, ..bundle(host.dir()) }).unwrap();
        let log = disk.join("log");
        let mut seen = String::new();
        let mut stdin = stdin;
        let mut pump = Pump::new(stdout, None).unwrap().to_log(log_in(&disk)).to(|_, bytes: &[u8]| {
            seen.push_str(std::str::from_utf8(bytes).unwrap());
            // When there is room again, the process goes on.
            if seen.ends_with("enough\n") {
                fs::remove_file(&filler).unwrap();
                stdin = None;
            }
        });
        assert_eq!(supervise(&pidfd, &mut [&mut pump]).unwrap(), Exit::Code(0));
        let failure = pump.failure().unwrap();
        assert_eq!(failure.kind(), std::io::ErrorKind::StorageFull);
        assert!(pump.failure().is_none());
        drop(pump);
        assert!(seen.starts_with("line number 1\n") && seen.ends_with("line number 2000\nenough\nafter\n"));
        // The log has its beginning and what came when there was room, each line whole.
        let entries = Log::read(BufReader::new(File::open(log).unwrap())).unwrap();
        assert_eq!(entries[0].log, "line number 1\n");
        assert_eq!(entries.last().unwrap().log, "after\n");
        assert!(entries.len() < 2000, "{}", entries.len());
        assert!(entries.iter().all(|entry| entry.log.ends_with('\n')));
    });
}

#[test]
fn a_log_that_cannot_be_opened_holds_nobody_up() {
    run(|host| {
        let Running { pidfd, stdout, stderr, .. } = start(host.dir(), &script("echo x; exit 4")).unwrap();
        let place = host.dir().join("none");
        fs::create_dir(&place).unwrap();
        let log = log_in(&place);
        fs::remove_dir(&place).unwrap();
        let mut pump = Pump::new(stdout, stderr).unwrap().to_log(log);
        assert_eq!(supervise(&pidfd, &mut [&mut pump]).unwrap(), Exit::Code(4));
        assert_eq!(pump.failure().unwrap().kind(), std::io::ErrorKind::NotFound);
    });
}

/// Answers on a socket, and counts its deadlines.
struct Echo {
    socket: std::os::unix::net::UnixDatagram,
    answered: usize,
    ticks: usize,
    finished: usize,
    next: Instant,
}

impl Service for Echo {
    fn interests(&self) -> Vec<(BorrowedFd<'_>, PollFlags)> {
        vec![(self.socket.as_fd(), PollFlags::IN)]
    }

    fn deadline(&self) -> Option<Instant> {
        Some(self.next)
    }

    fn ready(&mut self) {
        let mut bytes = [0; 64];
        while let Ok(read) = self.socket.recv(&mut bytes) {
            self.socket.send(&bytes[..read]).unwrap();
            self.answered += 1;
        }
        if self.next <= Instant::now() {
            self.ticks += 1;
            self.next = Instant::now() + Duration::from_millis(5);
        }
    }

    fn finish(&mut self) {
        self.finished += 1;
    }
}

#[test]
fn services_are_served_until_the_end() {
    run(|host| {
        let (ours, theirs) = std::os::unix::net::UnixDatagram::pair().unwrap();
        ours.set_nonblocking(true).unwrap();
        // The container speaks to the service through its standard input and output.
        let fd = || Stdio::Fd(OwnedFd::from(theirs.try_clone().unwrap()));
        let text = "for i in 1 2 3; do echo $i; head -c 1 > /dev/null; done; sleep 0.1; exit 6";
        let bundle = coracle_runtime::Bundle { stdio: [fd(), fd(), Stdio::Null], ..bundle(host.dir()) };
        let running = plan(&script(text)).start(bundle).unwrap();
        let mut echo = Echo { socket: ours, answered: 0, ticks: 0, finished: 0, next: Instant::now() };
        assert_eq!(supervise(&running.pidfd, &mut [&mut echo]).unwrap(), Exit::Code(6));
        assert_eq!((echo.answered, echo.finished), (3, 1));
        assert!(echo.ticks >= 2, "{}", echo.ticks);
    });
}

#[test]
fn without_services_it_waits() {
    run(|host| {
        let running = plan(&script("exit 9")).start(support::bundle(host.dir())).unwrap();
        assert_eq!(supervise(&running.pidfd, &mut []).unwrap(), Exit::Code(9));
        // A second time there is nothing to reap, and what the kernel kept of it is told.
        let again = supervise(&running.pidfd, &mut []).unwrap();
        assert!(matches!(again, Exit::Code(9) | Exit::Unknown), "{again}");
    });
}
