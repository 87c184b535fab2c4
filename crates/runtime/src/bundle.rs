//! What a process brings, and what is got of it.

use std::os::fd::OwnedFd;
use std::path::PathBuf;

use coracle_host::{Mount, Namespace, PidFd};

use crate::cgroup::Entrance;
use crate::step::{BeforePivot, Stepper};
use crate::{Listener, Stdio, Terminal, UserNamespace};

/// The kernel objects that a container is made of. They are used up by the start; what the container doesn't
/// keep is gone with it.
pub struct Bundle {
    /// The root file system: a detached mount.
    pub root: Mount,
    /// The mounts of the plan's [`Step::AttachGiven`](crate::Step::AttachGiven) steps, in their order.
    pub mounts: Vec<Mount>,
    /// The network namespace to join. `None`: a new one with only a loopback interface, where the spec asks for one.
    pub net: Option<Namespace>,
    /// The user namespace to join, for a spec with one. `None`: the one of the spec. Who owns the root and the mounts is for
    /// the caller to have seen to ([`Mount::mapped`]).
    pub user: Option<UserNamespace>,
    /// Standard input, output and error; each [`Stdio::Null`] where the spec asks for a terminal, which they then are.
    pub stdio: [Stdio; 3],
    /// What the process gets as descriptors 3 and on, open over exec.
    pub extra: Vec<OwnedFd>,
    /// For a plan that [holds](crate::Plan::hold): the byte that lets the process go is read from here. That it comes to an end
    /// instead ends the process, so who may be gone by then gives a FIFO that is open for both.
    pub go: Option<OwnedFd>,
    /// The control group to enter, where the spec asks for one (`linux.cgroupsPath`, `linux.resources`).
    pub group: Option<Entrance>,
    /// Where the filter of system calls has some that somebody answers (`SCMP_ACT_NOTIFY`).
    pub listener: Option<Listener>,
    /// Called with the index of each launch operation when the child has performed all before it and waits to be let on.
    /// For tests that kill at every one, and for looking at a half-made container in a debugger.
    pub stepper: Option<Stepper>,
    /// Called once, on another thread, when the container's namespaces and mounts are there and its root is not entered yet:
    /// runtime-spec's moment for createContainer hooks. Not together with a stepper.
    pub before_pivot: Option<BeforePivot>,
    /// Where the root is in the container's mount namespace until it is entered: a directory of this host's by its absolute
    /// path. `/` where nothing is said. A container without a mount namespace of its own (`linux.namespaces`) needs it: there
    /// it is in the namespace of others and stays when the container has ended, until it is taken away
    /// ([`Mount::detach`]; all that the container has mounted in it goes along).
    pub root_at: Option<PathBuf>,
}

impl Bundle {
    /// A root and nothing else: no further mounts, streams that lead to `/dev/null`.
    pub fn new(root: Mount) -> Bundle {
        Bundle {
            root,
            mounts: Vec::new(),
            net: None,
            user: None,
            stdio: Default::default(),
            extra: Vec::new(),
            go: None,
            group: None,
            listener: None,
            stepper: None,
            before_pivot: None,
            root_at: None,
        }
    }
}

/// What a further process in a container brings.
#[derive(Default)]
pub struct Join {
    /// Standard input, output and error; each [`Stdio::Null`] where it gets a terminal, which they then are.
    pub stdio: [Stdio; 3],
    /// The control group to enter, where the plan has that ([`Plan::enter_group`](crate::Plan::enter_group)).
    pub group: Option<Entrance>,
    /// As of [`Bundle::extra`].
    pub extra: Vec<OwnedFd>,
    /// As of [`Bundle::listener`].
    pub listener: Option<Listener>,
}

/// A process that runs the program it was started for.
#[derive(Debug)]
#[non_exhaustive]
pub struct Running {
    /// The process. It is a child of this program and dies with the thread that started it.
    pub pidfd: PidFd,
    /// Our end of its standard input, where that is a pipe.
    pub stdin: Option<OwnedFd>,
    /// Our end of its standard output, where that is a pipe.
    pub stdout: Option<OwnedFd>,
    /// Our end of its standard error, where that is a pipe.
    pub stderr: Option<OwnedFd>,
    /// Our side of its terminal, where it has one (`process.terminal`).
    pub terminal: Option<Terminal>,
}
