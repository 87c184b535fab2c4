//! A private Linux host for one test: its own namespaces, its own tmpfs, and a leak check at the end.
//!
//! ```no_run
//! #[test]
//! fn keeps_a_file() {
//!     coracle_testhost::run(|host| {
//!         // pid 1 of a new pid namespace, with new mount, net, ipc, uts and cgroup namespaces
//!         std::fs::write(host.dir().join("f"), "text").unwrap();
//!     }) // fails if a process, mount, link, nft table, cgroup, fd, thread or lock is left
//! }
//! ```
//!
//! What matters here: [`run`], [`Host`], and for tests with several processes [`run_with`], [`Player`] and
//! [`Role`]. A test that this machine can't do calls [`skip`], which is counted, never silent.
//!
//! [`run`] executes the test binary again, with only this test, inside the new namespaces: what is before
//! `run` in the test function happens twice, what is after it happens outside. It works under `cargo test` and
//! `cargo nextest`. The environment variable `CORACLE_TESTHOST_TIMEOUT` (seconds, 120 unless set) says how
//! long a test may take; `CORACLE_SKIPS` names a file to which skips are appended.
//!
//! # Should I be using this crate?
//!
//! Only in tests. It uses `unsafe` (fork between clone and exec), reads the environment and prints.

mod cgroup;
mod disk;
mod docker;
mod host;
mod hung;
mod inside;
mod leak;
mod nft;
mod outside;
mod record;
mod registry;
mod roles;
mod room;
mod skip;
mod tls;
mod trace;

pub use disk::{Disk, power_cuts};
pub use docker::{Docker, busybox_tree};
pub use host::Host;
pub use record::{Step, What};
pub use registry::DockerRegistry;
pub use roles::{Part, Player, Role};
pub use room::Room;
pub use skip::skip;
pub use tls::{TlsServer, Trusted};

/// Runs the body of a test in a private host. It must be called with a closure written in the test function:
/// the test's name is taken from the closure's type.
///
/// Without root this is a named [`skip`].
///
/// # Panics
/// When the body panics, when it leaves something behind (all of it is listed), when it takes too long, and
/// when the name of the test can't be told from the closure.
pub fn run<F: FnOnce(&Host)>(test: F) {
    run_with(&[], test);
}

/// [`run`], for tests that need more than one process: `roles` are parts that [`Host::play`] starts by name,
/// each in a new process of this test binary inside the same test host.
///
/// ```no_run
/// use coracle_testhost::{Role, run_with};
///
/// fn owner(role: &mut Role) {
///     let _what_dies_with_me = std::fs::File::create(role.dir().join("f")).unwrap();
///     role.say("ready");
///     role.hear(); // until the test says something, ends, or kills
/// }
///
/// #[test]
/// fn survives_its_owner() {
///     run_with(&[("owner", owner)], |host| {
///         let mut owner = host.play("owner");
///         assert_eq!(owner.hear().as_deref(), Some("ready"));
///         owner.kill();
///         assert!(host.dir().join("f").exists());
///     })
/// }
/// ```
///
/// # Panics
/// As [`run`].
pub fn run_with<F: FnOnce(&Host)>(roles: &[(&str, Part)], test: F) {
    let name = test_name(std::any::type_name::<F>());
    if std::env::var(INSIDE).is_ok_and(|inside| inside == name) {
        match std::env::var(ROLE) {
            Ok(role) => roles::play(roles, &role),
            Err(_) => inside::run(&name, test),
        }
    }
    outside::run(&name);
}

/// Set inside, to the name of the test.
const INSIDE: &str = "CORACLE_TESTHOST";
/// Set inside, to the place of the host's own tmpfs.
const PLACE: &str = "CORACLE_TESTHOST_PLACE";
/// Set in the process of a role, to its name.
const ROLE: &str = "CORACLE_TESTHOST_ROLE";
/// What a process exits with that has really run its test: libtest says 0 also when it found none.
const ENDED_WELL: i32 = 42;

/// libtest's name of the test around a closure of this type: `it::race::one_wins::{{closure}}` is `race::one_wins`.
fn test_name(closure: &str) -> String {
    let function = closure.split("::{{closure}}").next().unwrap_or(closure);
    function.split_once("::").map_or(function, |(_crate, name)| name).to_owned()
}

/// The arguments that make a libtest binary run this test alone, uncaptured.
fn only(name: &str) -> [&str; 6] {
    [name, "--exact", "--include-ignored", "--nocapture", "--quiet", "--test-threads=1"]
}

#[cfg(test)]
mod tests {
    #[test]
    fn names_are_libtests() {
        assert_eq!(super::test_name("it::race::one_wins::{{closure}}"), "race::one_wins");
        assert_eq!(super::test_name("it::top::{{closure}}::{{closure}}"), "top");
    }
}
