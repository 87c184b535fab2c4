//! Docker's default profile, as of its releases of 2026 (28 and later).
//!
//! What it keeps out: what changes the machine (modules, clocks, swap, reboot), what opens namespaces or mounts
//! without the capability for it, kernel surfaces that no namespace knows (`keyctl`, `add_key`, `bpf`, `io_uring`,
//! `userfaultfd`, `perf_event_open`, sockets of the vsock, AF_ALG and other rare families).

use super::profile::{Arches, Comparison, Filter, Operator, Rule};
use super::{Action, Arch, Profile};

/// Permitted to everyone.
const ALWAYS: &str = "
    accept accept4 access adjtimex alarm bind brk cachestat capget capset chdir chmod chown chown32 clock_adjtime
    clock_adjtime64 clock_getres clock_getres_time64 clock_gettime clock_gettime64 clock_nanosleep
    clock_nanosleep_time64 close close_range connect copy_file_range creat dup dup2 dup3 epoll_create epoll_create1
    epoll_ctl epoll_ctl_old epoll_pwait epoll_pwait2 epoll_wait epoll_wait_old eventfd eventfd2 execve execveat exit
    exit_group faccessat faccessat2 fadvise64 fadvise64_64 fallocate fanotify_mark fchdir fchmod fchmodat fchmodat2
    fchown fchown32 fchownat fcntl fcntl64 fdatasync fgetxattr flistxattr flock fork fremovexattr fsetxattr fstat
    fstat64 fstatat64 fstatfs fstatfs64 fsync ftruncate ftruncate64 futex futex_requeue futex_time64 futex_wait
    futex_waitv futex_wake futimesat getcpu getcwd getdents getdents64 getegid getegid32 geteuid geteuid32 getgid
    getgid32 getgroups getgroups32 getitimer getpeername getpgid getpgrp getpid getppid getpriority getrandom
    getresgid getresgid32 getresuid getresuid32 getrlimit get_robust_list getrusage getsid getsockname getsockopt
    get_thread_area gettid gettimeofday getuid getuid32 getxattr getxattrat inotify_add_watch inotify_init
    inotify_init1 inotify_rm_watch io_cancel ioctl io_destroy io_getevents io_pgetevents io_pgetevents_time64
    ioprio_get ioprio_set io_setup io_submit ipc kill landlock_add_rule landlock_create_ruleset
    landlock_restrict_self lchown lchown32 lgetxattr link linkat listen listmount listxattr listxattrat llistxattr
    _llseek lremovexattr lseek lsetxattr lstat lstat64 madvise map_shadow_stack membarrier memfd_create memfd_secret
    mincore mkdir mkdirat mknod mknodat mlock mlock2 mlockall mmap mmap2 mprotect mq_getsetattr mq_notify mq_open
    mq_timedreceive mq_timedreceive_time64 mq_timedsend mq_timedsend_time64 mq_unlink mremap mseal msgctl msgget
    msgrcv msgsnd msync munlock munlockall munmap name_to_handle_at nanosleep newfstatat _newselect open openat
    openat2 pause pidfd_open pidfd_send_signal pipe pipe2 pkey_alloc pkey_free pkey_mprotect poll ppoll ppoll_time64
    prctl pread64 preadv preadv2 prlimit64 process_mrelease pselect6 pselect6_time64 pwrite64 pwritev pwritev2 read
    readahead readlink readlinkat readv recv recvfrom recvmmsg recvmmsg_time64 recvmsg remap_file_pages removexattr
    removexattrat rename renameat renameat2 restart_syscall riscv_hwprobe rmdir rseq rt_sigaction rt_sigpending
    rt_sigprocmask rt_sigqueueinfo rt_sigreturn rt_sigsuspend rt_sigtimedwait rt_sigtimedwait_time64
    rt_tgsigqueueinfo sched_getaffinity sched_getattr sched_getparam sched_get_priority_max sched_get_priority_min
    sched_getscheduler sched_rr_get_interval sched_rr_get_interval_time64 sched_setaffinity sched_setattr
    sched_setparam sched_setscheduler sched_yield seccomp select semctl semget semop semtimedop semtimedop_time64
    send sendfile sendfile64 sendmmsg sendmsg sendto setfsgid setfsgid32 setfsuid setfsuid32 setgid setgid32
    setgroups setgroups32 setitimer setpgid setpriority setregid setregid32 setresgid setresgid32 setresuid
    setresuid32 setreuid setreuid32 setrlimit set_robust_list setsid setsockopt set_thread_area set_tid_address
    setuid setuid32 setxattr setxattrat shmat shmctl shmdt shmget shutdown sigaltstack signalfd signalfd4
    sigprocmask sigreturn socketcall socketpair splice stat stat64 statfs statfs64 statmount statx symlink symlinkat
    sync sync_file_range syncfs sysinfo tee tgkill time timer_create timer_delete timer_getoverrun timer_gettime
    timer_gettime64 timer_settime timer_settime64 timerfd_create timerfd_gettime timerfd_gettime64 timerfd_settime
    timerfd_settime64 times tkill truncate truncate64 ugetrlimit umask uname unlink unlinkat uretprobe utime
    utimensat utimensat_time64 utimes vfork vmsplice wait4 waitid waitpid write writev";

/// Permitted to who has the capability.
const WITH: [(&str, &str); 14] = [
    ("CAP_DAC_READ_SEARCH", "open_by_handle_at"),
    (
        "CAP_SYS_ADMIN",
        "bpf clone clone3 fanotify_init fsconfig fsmount fsopen fspick lookup_dcookie lsm_get_self_attr
        lsm_list_modules lsm_set_self_attr mount mount_setattr move_mount open_tree perf_event_open quotactl
        quotactl_fd setdomainname sethostname setns syslog umount umount2 unshare",
    ),
    ("CAP_SYS_BOOT", "reboot"),
    ("CAP_SYS_CHROOT", "chroot"),
    ("CAP_SYS_MODULE", "delete_module init_module finit_module"),
    ("CAP_SYS_PACCT", "acct"),
    ("CAP_SYS_PTRACE", "kcmp pidfd_getfd process_madvise process_vm_readv process_vm_writev ptrace"),
    ("CAP_SYS_RAWIO", "iopl ioperm"),
    ("CAP_SYS_TIME", "settimeofday stime clock_settime clock_settime64"),
    ("CAP_SYS_TTY_CONFIG", "vhangup"),
    ("CAP_SYS_NICE", "get_mempolicy mbind set_mempolicy set_mempolicy_home_node"),
    ("CAP_SYSLOG", "syslog"),
    ("CAP_BPF", "bpf"),
    ("CAP_PERFMON", "perf_event_open"),
];

/// Permitted on some machines.
const ON: [(&[&str], &str); 4] = [
    (&["arm", "arm64"], "arm_fadvise64_64 arm_sync_file_range breakpoint cacheflush set_tls"),
    (&["amd64", "x32"], "arch_prctl"),
    (&["amd64", "x32", "x86"], "modify_ldt"),
    (&["riscv64"], "riscv_flush_icache"),
];

/// The families that sockets may be of, from 12 on (linux/socket.h); below that all may be.
const FAMILIES: [u64; 25] =
    [13, 14, 15, 16, 17, 18, 21, 22, 24, 26, 27, 28, 29, 30, 31, 32, 33, 35, 36, 39, 41, 42, 43, 44, 45];

/// Linux, 32-bit, with and without the kernel's old name, and the question what it is (personality(2)).
const PERSONALITIES: [u64; 5] = [0, 0x0008, 0x2_0000, 0x2_0008, 0xffff_ffff];

/// `CLONE_NEWNS` and the others that make namespaces.
const NEW_NAMESPACES: u64 = 0x7e02_0000;

/// The half of a register that an `int` is in. The kernel ignores the other one, so a filter must, too.
const INT: u64 = 0xffff_ffff;

impl Profile {
    /// Docker's default profile. Its conditions on `int` arguments look at 32 bits, where docker's look at 64: what
    /// the kernel doesn't see can neither hide a forbidden value nor spoil a permitted one.
    pub fn docker() -> Profile {
        let mut rules = vec![allow(ALWAYS)];
        let traced = Filter { kernel: Some((4, 8)), ..Filter::default() };
        // Before 4.8 a tracer could change a call after it was filtered.
        rules.push(Rule { includes: traced, ..allow("process_vm_readv process_vm_writev ptrace") });
        let families = (0..12).chain(FAMILIES);
        rules.extend(families.map(|family| allow_if("socket", INT, family)));
        rules.extend(PERSONALITIES.map(|domain| allow_if("personality", INT, domain)));
        rules.extend(ON.map(|(arches, names)| {
            let arches = arches.iter().map(|arch| (*arch).to_owned()).collect();
            Rule { includes: Filter { arches, ..Filter::default() }, ..allow(names) }
        }));
        rules.extend(WITH.map(|(name, names)| Rule { includes: capability(name), ..allow(names) }));
        rules.push(Rule { excludes: capability("CAP_SYS_ADMIN"), ..allow_if("clone", NEW_NAMESPACES, 0) });
        // Its flags are in memory, out of a filter's sight; programs fall back to clone.
        rules.push(Rule {
            action: Action::Errno(38),
            excludes: capability("CAP_SYS_ADMIN"),
            ..allow("clone3")
        });
        Profile {
            name: "default".to_owned(),
            default: Action::Errno(1),
            arches: Arches::Map(vec![
                (Arch::X86_64, vec![Arch::X86, Arch::X32]),
                (Arch::Aarch64, vec![Arch::Arm]),
                (Arch::Riscv64, vec![]),
            ]),
            rules,
            flags: 0,
            listener: None,
            metadata: None,
        }
    }
}

fn allow(names: &str) -> Rule {
    Rule {
        names: names.split_whitespace().map(str::to_owned).collect(),
        action: Action::Allow,
        conditions: Vec::new(),
        includes: Filter::default(),
        excludes: Filter::default(),
    }
}

/// Where `mask` of the first argument is `value`.
fn allow_if(name: &str, mask: u64, value: u64) -> Rule {
    let comparison = Comparison { index: 0, operator: Operator::Equal, mask, value };
    Rule { conditions: vec![comparison], ..allow(name) }
}

fn capability(name: &str) -> Filter {
    Filter { capabilities: vec![name.to_owned()], ..Filter::default() }
}
