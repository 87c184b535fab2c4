//! A plan is performed.

use std::ffi::{CStr, c_char};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::ptr;

use coracle_host::{Call, Kind, Mount, Namespace, PidFd, Propagation, aside};
use coracle_launch::{Change, Namespaces, Op, STACK_SIZE, Started, Strings};
use rustix::fs::{CWD, Mode, OFlags, openat};
use rustix::thread::{LinkNameSpaceType, ThreadNameSpaceType};

use crate::borrow::Borrow;
use crate::cgroup::Entrance;
use crate::error::{Doing, Error, Result};
use crate::listening::{Listener, Listening};
use crate::realize::{self, Part};
use crate::stdio::{self, Streams};
use crate::step::{Gate, Stop};
use crate::{Bundle, Join, Plan, Running, Stdio, Step, UserNamespace, image, running, terminal};

impl Plan {
    /// Starts a container: returns when its program has been executed. The calling thread is its owner; when it
    /// ends, in whatever way, the kernel kills the container.
    ///
    /// # Errors
    /// What could not be prepared, or which step of the launch failed and why. Nothing is left then.
    pub fn start(&self, bundle: Bundle) -> Result<Running> {
        let Bundle {
            root,
            mounts,
            net,
            user,
            stdio,
            extra,
            go,
            group,
            listener,
            stepper,
            before_pivot,
            root_at,
        } = bundle;
        let stop = Stop::of(stepper, before_pivot)?;
        if self.steps.contains(&Step::Chroot) && root_at.is_none() {
            return Err(Error::invalid("a container among the mounts of others needs a place for its root"));
        }
        let root_at = root_at.as_deref().map_or(Ok(c"/".to_owned()), realize::path)?;
        let user = self.user_namespace(user)?;
        let net = match &user {
            // What its root is to rule must be made in it.
            Some(user) if self.new_net && net.is_none() => {
                Some(user.new_net().doing(|| "make the network namespace")?)
            }
            _ => net,
        };
        // What is mounted inside one that the host's mounts have events in common with would appear on the host.
        // A slave's own are not seen there.
        let slave = |step: &Step| {
            let root = Path::new("/");
            matches!(step, Step::Propagate { at, propagation: Propagation::Slave, .. } if at == root)
        };
        let travels = if self.steps.iter().any(slave) { Propagation::Slave } else { Propagation::Private };
        let root = root.propagation(travels, true).doing(|| "prepare the root")?;
        let root = match self.steps.contains(&Step::NoDevices) {
            true => realize::without_devices(root).doing(|| "prepare the root")?,
            false => root,
        };
        let (parts, terminal) =
            realize::parts(&self.steps, Some(&root), mounts, user.as_ref(), self.terminal(user.as_ref())?)?;
        let dir = realize::root_dir(&root).doing(|| "open the root")?;
        let beside = Beside::new(&self.steps, extra, go, None, self.time(user.as_ref())?)
            .doing(|| "prepare the launch")?;
        let here = Here {
            root: Some((root, &root_at)),
            dir: Some(dir.as_fd()),
            net: net.as_ref(),
            user: user.as_ref(),
            pidfd: None,
            terminal: None,
            group: group.as_ref(),
        };
        let net = if self.new_net && net.is_none() { Namespaces::NET } else { Namespaces::NONE };
        let namespaces = self.namespaces.and(net);
        let running = self.perform(&parts, stdio, &beside, &here, namespaces, Called { stop, listener })?;
        Ok(Running { terminal, ..running })
    }

    /// Starts a further process in the container whose first process is `container`; see [`Plan::exec`].
    ///
    /// It must be waited for even if the container ends: the kernel lets a container's first process end only when all
    /// others in it are reaped (pid_namespaces(7)), and this one is the starting program's to reap. Who waits for both on
    /// one thread must wait for this one first.
    ///
    /// # Errors
    /// As of [`Plan::start`]; `NotFound` where the container has ended.
    pub fn start_in(&self, container: &PidFd, stdio: [Stdio; 3]) -> Result<Running> {
        self.join(container, Join { stdio, ..Join::default() })
    }

    /// [`Plan::start_in`], with more than streams.
    ///
    /// # Errors
    /// As of [`Plan::start_in`].
    pub fn join(&self, container: &PidFd, with: Join) -> Result<Running> {
        let started = running::time_of(container).and_then(|time| match time {
            None => self.start_beside(container, None, with),
            time => {
                let mut plan = self.clone();
                plan.join_time(Step::JoinTime { path: None });
                plan.start_beside(container, time, with)
            }
        });
        // Half-way into a container that ends, the calls have many ways to fail, and none that says so.
        match started {
            Err(error) if error.command_status().is_none() && running::ended(container) => {
                let ended = coracle_host::Error::new(Kind::NotFound, "the container has ended");
                Err(Error::host(error.to_string(), ended))
            }
            other => other,
        }
    }

    fn start_beside(&self, container: &PidFd, time: Option<OwnedFd>, with: Join) -> Result<Running> {
        let Join { stdio, group, extra, listener } = with;
        let user = running::user_of(container)?;
        let wanted_terminal = self.terminal(user.as_ref())?;
        let (parts, _) = realize::parts(&self.steps, None, Vec::new(), user.as_ref(), wanted_terminal)?;
        let wanted = self.steps.iter().any(|step| matches!(step, Step::Terminal { .. }));
        let pair = wanted.then(|| terminal::open_in(container, wanted_terminal)).transpose();
        let pair = pair.doing(|| "open a terminal in the container")?;
        let (terminal, theirs) = pair.map(|pair| (pair.ours, pair.theirs)).unzip();
        // It enters when it has memory of its own: who lacks memory in that group may be killed with all that it shares.
        let beside =
            Beside::new(&self.steps, extra, None, group.as_ref(), time).doing(|| "prepare the launch")?;
        let enters = self.steps.contains(&Step::EnterRoot);
        let dir = enters.then(|| running::root_of(container)).transpose();
        let dir = dir.doing(|| "find the container's root")?;
        let here = Here {
            root: None,
            dir: dir.as_ref().map(AsFd::as_fd),
            net: None,
            user: user.as_ref(),
            pidfd: Some(container),
            terminal: theirs.as_ref(),
            group: group.as_ref(),
        };
        let running =
            self.perform(&parts, stdio, &beside, &here, self.namespaces, Called { stop: None, listener })?;
        Ok(Running { terminal, ..running })
    }

    fn perform(
        &self,
        parts: &[Part],
        stdio: [Stdio; 3],
        beside: &Beside,
        here: &Here<'_>,
        namespaces: Namespaces,
        called: Called,
    ) -> Result<Running> {
        let Called { stop, listener } = called;
        let mut listening = Listening::of(self, listener, beside.numbers())?;
        let (uid, gid) = self.owner(here.user)?;
        let terminal = here.terminal(parts);
        if terminal.is_some() && !stdio.iter().all(|stream| matches!(stream, Stdio::Null)) {
            return Err(Error::invalid(
                "process.terminal: the standard streams are the terminal, and others were given",
            ));
        }
        let Streams { child: streams, ours: [stdin, stdout, stderr] } =
            stdio::open(stdio, uid, gid, beside.lowest()).doing(|| "open standard streams")?;
        let strings = Lists::of(parts);
        let (mut argv, mut envp) = (strings.space(&strings.args), strings.space(&strings.env));
        let (Some(argv), Some(envp)) =
            (Strings::new(&strings.args, &mut argv), Strings::new(&strings.env, &mut envp))
        else {
            return Err(Error::invalid("the command has more arguments than room was made for"));
        };
        let gate = stop.is_some().then(Gate::new).transpose().doing(|| "prepare the launch")?;
        let detach = self.steps.iter().position(|step| *step == Step::Detach).unwrap_or_default();
        if self.steps.contains(&Step::Await) != beside.go.is_some() {
            return Err(Error::invalid(
                "a plan that holds its process, and what lets it go, need each other",
            ));
        }
        let group = self.group(here)?;
        let numbers = beside.numbers();
        let calls = image::calls(&self.steps, parts, detach + 1, numbers)?;
        let image = image::make(numbers, &calls).doing(|| "prepare the launch")?;
        let terminal = terminal.map(|terminal| stdio::copy_above(terminal, beside.lowest()));
        let terminal = terminal.transpose().doing(|| "prepare the launch")?;
        let streams_now = match &terminal {
            Some(terminal) => [terminal.as_fd(); 3],
            None => streams.each_ref().map(AsFd::as_fd),
        };
        let child: Vec<_> = streams_now.into_iter().chain(beside.extra.iter().map(AsFd::as_fd)).collect();
        let kept: Vec<_> = beside.kept().collect();
        let keep: Vec<_> =
            gate.iter().map(Gate::child).chain([image.as_fd()]).chain(kept.iter().copied()).collect();
        let mut ops = Vec::with_capacity(self.steps.len());
        let mut origin = Vec::with_capacity(self.steps.len());
        if let Some(gate) = &gate {
            ops.push(gate.close());
            origin.push(0);
        }
        for (index, (step, part)) in self.steps[..=detach].iter().zip(parts).enumerate() {
            if let (Step::EnterGroup, Some(group)) = (step, group) {
                // One of version 2 it is born in.
                for door in group.joins() {
                    ops.push(Op::EnterGroup(door));
                    origin.push(index);
                }
                continue;
            }
            let op = match step {
                Step::DieWithParent => Some(Op::DieWithParent { parent: self.parent }),
                Step::Detach => Some(Op::Exec {
                    image: image.as_fd(),
                    report: numbers.report,
                    again: self.steps.contains(&Step::Again),
                    keep: &kept,
                    argv,
                    envp,
                }),
                Step::Stdio | Step::Terminal { .. } => Some(Op::Descriptors(&child)),
                Step::CloseFrom(first) => {
                    let first = *first + beside.extra.len() as u32;
                    Some(Op::CloseFrom { first, keep: &keep })
                }
                _ => here.op(step).or_else(|| realize::op(step, part)),
            };
            let op = match op {
                Some(op) => op,
                // A new one comes with the clone; and the mounts were made so.
                None if step.may_be_nothing() => continue,
                None => return Err(Error::invalid(format!("nothing was given for the step `{step}`"))),
            };
            if let Some(gate) = &gate
                && stop.as_ref().is_some_and(|stop| stop.is_at(step))
            {
                ops.push(Op::Await(gate.child()));
                origin.push(index);
            }
            ops.push(op);
            origin.push(index);
        }
        let born = group.filter(|_| beside.doors.is_empty()).and_then(Entrance::into_fd);
        let mut launch = || launch(&ops, namespaces, born, &mut |process| listening.hand_on(process));
        let (started, stepped) = match (&gate, stop) {
            (Some(gate), Some(stop)) => gate.while_stepping(stop.stepper(), &mut launch),
            _ => (launch(), Ok(())),
        };
        drop(streams);
        let started = started.call(|| "clone()").doing(|| "start the process")?;
        let pidfd = self.outcome(started, &origin)?;
        if stepped.is_err() || listening.outcome.is_err() {
            pidfd.signal(9).doing(|| "end the process that goes no further")?;
            pidfd.reap().doing(|| "reap the process that goes no further")?;
        }
        if let Err(panic) = stepped {
            std::panic::resume_unwind(panic);
        }
        listening.outcome.doing(|| "hand on the listener of seccomp")?;
        Ok(Running { pidfd, stdin, stdout, stderr, terminal: None })
    }

    /// The control group to enter: there where the plan has one, and only there.
    fn group<'a>(&self, here: &'a Here<'_>) -> Result<Option<&'a Entrance>> {
        match (self.steps.contains(&Step::EnterGroup), here.group) {
            (true, None) => Err(Error::invalid("nothing was given for the step `enter the control group`")),
            (false, Some(_)) => {
                Err(Error::invalid("the plan has no place for the control group that was given"))
            }
            (_, group) => Ok(group),
        }
    }

    /// Who will own the streams: the user of the plan.
    fn owner(&self, user: Option<&UserNamespace>) -> Result<(u32, u32)> {
        let ids = self.steps.iter().find_map(|step| match step {
            Step::Ids { uid, gid, .. } => Some((*uid, *gid)),
            _ => None,
        });
        let (uid, gid) = ids.unwrap_or((0, 0));
        let Some(user) = user else { return Ok((uid, gid)) };
        let ids = user.user(uid).and_then(|uid| Ok((uid, user.group(gid)?)));
        ids.doing(|| "process.user")
    }

    fn terminal(&self, user: Option<&UserNamespace>) -> Result<terminal::Wanted> {
        let size = self.steps.iter().find_map(|step| match step {
            Step::Terminal { size } => *size,
            _ => None,
        });
        Ok(terminal::Wanted { size, uid: self.owner(user)?.0 })
    }

    /// The time namespace to join: by its path, or made for the user namespace.
    fn time(&self, user: Option<&UserNamespace>) -> Result<Option<OwnedFd>> {
        let namespace = self.steps.iter().find_map(|step| match (step, user) {
            (Step::JoinTime { path: Some(path) }, _) => Some(realize::open_namespace(path)),
            (Step::JoinNewTime { offsets }, Some(user)) => Some(user.new_time(offsets)),
            _ => None,
        });
        namespace.transpose().doing(|| "linux.namespaces[time]")
    }

    /// The user namespace to join: there where the plan has one, and only there.
    fn user_namespace(&self, given: Option<UserNamespace>) -> Result<Option<UserNamespace>> {
        match (&self.user, given) {
            (Some(wanted), None) => wanted.get().map(Some),
            (None, Some(_)) => {
                Err(Error::invalid("the plan has no place for the user namespace that was given"))
            }
            (_, given) => Ok(given),
        }
    }

    fn outcome(&self, started: Started, origin: &[usize]) -> Result<PidFd> {
        // It may have gone on in others; the last of them is the process.
        let mut pidfd = PidFd::from_fd(aside(started.pidfd));
        for next in [started.cloned, started.again].into_iter().flatten() {
            pidfd.reap().doing(|| "reap the first of two processes")?;
            pidfd = PidFd::from_fd(aside(next));
        }
        let Some(failure) = started.failure else { return Ok(pidfd) };
        // It has ended, or is about to; and should somebody else have spoken in its name, it has not.
        pidfd.signal(9).doing(|| "end the process that failed to start")?;
        pidfd.reap().doing(|| "reap the process that failed to start")?;
        let index = match failure.step.checked_sub(image::FIRST) {
            Some(step) => step as usize,
            None => origin.get(failure.step as usize).copied().unwrap_or_default(),
        };
        let step = self.steps.get(index).map_or_else(String::new, Step::to_string);
        let exec = matches!(self.steps.get(index), Some(Step::Exec { .. }));
        let source = coracle_host::Error::os(step, failure.errno);
        Err(Error::step(index + 1, self.steps.len(), exec, source))
    }
}

/// What a process gets besides its standard streams, out of the way of the numbers that mean something.
struct Beside {
    extra: Vec<OwnedFd>,
    /// For a number that is given up again.
    scratch: Option<OwnedFd>,
    proc: Option<OwnedFd>,
    go: Option<OwnedFd>,
    /// Ways into a control group, for the image: files of version 1, then the directory of version 2.
    doors: Vec<OwnedFd>,
    /// A time namespace.
    time: Option<OwnedFd>,
    numbers: image::Numbers,
}

impl Beside {
    fn new(
        steps: &[Step],
        extra: Vec<OwnedFd>,
        go: Option<OwnedFd>,
        group: Option<&Entrance>,
        time: Option<OwnedFd>,
    ) -> coracle_host::Result<Beside> {
        let notifies = |step: &Step| matches!(step, Step::Filter(program) if program.notifies());
        let confines = steps.iter().any(Step::asks_a_module);
        let numbers = image::Numbers {
            scratch: confines || steps.iter().any(notifies),
            proc: confines,
            held: go.is_some(),
            tasks: group.map_or(0, |group| group.joins().count() as u32),
            unified: group.is_some_and(|group| group.into_fd().is_some()),
            time: time.is_some(),
            ..image::Numbers::behind(3 + extra.len())
        };
        let lowest = numbers.free();
        let move_up = |fd| stdio::above(fd, lowest);
        let path = |path: &str| {
            let flags = OFlags::PATH | OFlags::CLOEXEC;
            openat(CWD, path, flags, Mode::empty()).call(|| format!("open({path:?})")).and_then(move_up)
        };
        let scratch = numbers.scratch.then(|| path("/dev/null")).transpose()?;
        // The host's: what the container has there may be anything.
        let proc = numbers.proc.then(|| path("/proc")).transpose()?;
        let extra = extra.into_iter().map(move_up).collect::<coracle_host::Result<_>>()?;
        let doors = group.into_iter().flat_map(|group| group.joins().chain(group.into_fd()));
        let doors = doors.map(|door| stdio::copy_above(door, lowest));
        let doors = doors.collect::<coracle_host::Result<_>>()?;
        let (go, time) = (go.map(move_up).transpose()?, time.map(move_up).transpose()?);
        Ok(Beside { extra, scratch, proc, go, doors, time, numbers })
    }

    fn numbers(&self) -> image::Numbers {
        self.numbers
    }

    /// What the image has, in the order of its numbers.
    fn kept(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        let first = self.scratch.iter().chain(&self.proc).chain(&self.go);
        first.chain(&self.doors).chain(&self.time).map(AsFd::as_fd)
    }

    /// The lowest number that means nothing.
    fn lowest(&self) -> u32 {
        self.numbers.free()
    }
}

/// Whom the launch calls on its way.
struct Called {
    stop: Option<Stop>,
    listener: Option<Listener>,
}

/// What steps refer to without naming it.
struct Here<'a> {
    /// And where it is put.
    root: Option<(Mount, &'a CStr)>,
    /// The root directory.
    dir: Option<BorrowedFd<'a>>,
    net: Option<&'a Namespace>,
    user: Option<&'a UserNamespace>,
    pidfd: Option<&'a PidFd>,
    terminal: Option<&'a OwnedFd>,
    group: Option<&'a Entrance>,
}

/// Every namespace that a container has for certain; where it shares one with us, joining that changes nothing.
const ALL: ThreadNameSpaceType = ThreadNameSpaceType::MOUNT
    .union(ThreadNameSpaceType::CONTROL_GROUP)
    .union(ThreadNameSpaceType::HOST_NAME_AND_NIS_DOMAIN_NAME)
    .union(ThreadNameSpaceType::INTER_PROCESS_COMMUNICATION)
    .union(ThreadNameSpaceType::PROCESS_ID)
    .union(ThreadNameSpaceType::NETWORK);

impl Here<'_> {
    /// The process's side of its terminal.
    fn terminal<'a>(&'a self, parts: &'a [Part]) -> Option<BorrowedFd<'a>> {
        let own = parts.iter().find_map(|part| match part {
            Part::Console { terminal, .. } => Some(terminal),
            _ => None,
        });
        own.or(self.terminal).map(AsFd::as_fd)
    }

    fn op(&self, step: &Step) -> Option<Op<'_>> {
        match (step, &self.root) {
            (Step::AttachRoot, Some((mount, at))) => Some(Op::AttachRoot { root: mount.as_fd(), at }),
            (Step::KeepRootApart { propagation }, Some((mount, _))) => {
                let propagation = realize::travels(*propagation);
                Some(Op::Change(Change { propagation, recursive: true, ..Change::of(mount.as_fd()) }))
            }
            (Step::EnterRoot, _) => self.dir.map(Op::Enter),
            (Step::JoinNet, _) => self.net.map(|net| Op::Join(net.as_fd(), LinkNameSpaceType::Network)),
            (Step::JoinUser, _) => self.user.map(|user| Op::Join(user.as_fd(), LinkNameSpaceType::User)),
            (Step::JoinContainer, _) => self.pidfd.map(|pidfd| {
                // The kernel refuses to join the user namespace that one is in.
                let users = self.user.map_or(ThreadNameSpaceType::empty(), |_| ThreadNameSpaceType::USER);
                Op::JoinAll(pidfd.as_fd(), ALL.union(users))
            }),
            _ => None,
        }
    }
}

/// The strings of the exec step, in the forms that its operation borrows.
struct Lists<'a> {
    args: Vec<&'a CStr>,
    env: Vec<&'a CStr>,
}

impl<'a> Lists<'a> {
    fn of(parts: &'a [Part]) -> Lists<'a> {
        let mut lists = Lists { args: Vec::new(), env: Vec::new() };
        for part in parts {
            if let Part::Exec { args, env, .. } = part {
                lists.args = args.iter().map(|text| text.as_c_str()).collect();
                lists.env = env.iter().map(|text| text.as_c_str()).collect();
            }
        }
        lists
    }

    fn space(&self, list: &[&CStr]) -> Vec<*const c_char> {
        vec![ptr::null(); list.len() + 1]
    }
}

pub(crate) fn launch(
    ops: &[Op<'_>],
    namespaces: Namespaces,
    group: Option<BorrowedFd<'_>>,
    listening: &mut dyn FnMut(BorrowedFd<'_>) -> bool,
) -> rustix::io::Result<Started> {
    let _borrow = Borrow::new();
    coracle_launch::start(ops, namespaces, group, &mut vec![0; STACK_SIZE], listening)
}
