//! Programs in the kernel: a process of its own installs one and makes calls.

use std::os::unix::process::ExitStatusExt;

use coracle_runtime::seccomp::{Instruction, Profile, Program, Target};
use coracle_testhost::{Host, Role, run_with};

/// What this process itself needs to go on.
const NEEDED: &str = r#"["read", "write", "sendto", "recvfrom", "exit_group", "brk", "mmap", "munmap", "mremap",
    "madvise", "futex", "rt_sigprocmask", "sigaltstack", "close", "sched_yield"]"#;

fn install(program: &Program) {
    let instructions = program.instructions();
    let program = libc::sock_fprog {
        len: instructions.len() as u16,
        filter: instructions.as_ptr().cast::<libc::sock_filter>().cast_mut(),
    };
    const { assert!(size_of::<Instruction>() == size_of::<libc::sock_filter>()) };
    // SAFETY: plain numbers.
    assert_eq!(unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) }, 0);
    // SAFETY: the program is `len` live instructions of the kernel's layout, and the kernel copies them.
    let result = unsafe { libc::syscall(libc::SYS_seccomp, 1, 0, &raw const program) };
    assert_eq!(result, 0, "{}", std::io::Error::last_os_error());
}

/// What a call fails with; 0 where it succeeds.
fn call(number: libc::c_long, first: u64) -> i32 {
    // SAFETY: callers only make calls that do nothing with these arguments, or are refused by the filter.
    let result = unsafe { libc::syscall(number, first, 0, 0, 0, 0, 0) };
    if result == -1 { std::io::Error::last_os_error().raw_os_error().unwrap() } else { 0 }
}

/// Installs the profile that it is told, makes the calls that it is told, and says what they fail with.
fn caged(role: &mut Role) {
    let profile = role.hear().unwrap();
    let profile = match profile.as_str() {
        "docker" => Profile::docker(),
        json => Profile::from_json(json).unwrap(),
    };
    install(&profile.compile(&Target::of_this_host([]).unwrap()).unwrap());
    while let Some(line) = role.hear() {
        let (number, first) = line.split_once(' ').unwrap();
        let failed = match number {
            "x86" => by_interrupt(first.parse().unwrap()),
            number => call(number.parse().unwrap(), first.parse().unwrap()),
        };
        role.say(&failed.to_string());
    }
}

/// A call of 32-bit x86. What it fails with; 0 where it succeeds.
#[cfg(target_arch = "x86_64")]
fn by_interrupt(number: i32) -> i32 {
    let mut result = number;
    // SAFETY: the kernel changes no register but eax here, and r8 to r11, which are declared. rbx, the first argument,
    // may be anything for the calls that tests make (getpid, and one that is refused).
    unsafe {
        std::arch::asm!("int 0x80", inout("eax") result, out("r8") _, out("r9") _, out("r10") _, out("r11") _)
    };
    if result < 0 { -result } else { 0 }
}

#[cfg(not(target_arch = "x86_64"))]
fn by_interrupt(_: i32) -> i32 {
    unreachable!("only asked for on x86-64")
}

struct Cage(coracle_testhost::Player);

impl Cage {
    fn new(host: &Host, profile: &str) -> Cage {
        let mut player = host.play("caged");
        player.say(&profile.replace('\n', " "));
        Cage(player)
    }

    fn call(&mut self, number: libc::c_long, first: u64) -> i32 {
        self.0.say(&format!("{number} {first}"));
        self.0.hear().unwrap_or_else(|| panic!("{number} was its end")).parse().unwrap()
    }
}

#[test]
fn every_call_is_decided_as_the_profile_says() {
    run_with(&[("caged", caged)], |host| {
        let profile = format!(
            r#"{{ "defaultAction": "SCMP_ACT_ERRNO", "defaultErrnoRet": 777, "syscalls": [
                {{ "names": {NEEDED}, "action": "SCMP_ACT_ALLOW" }},
                {{ "names": ["personality", "getpriority"], "action": "SCMP_ACT_ERRNO", "errnoRet": 888 }},
                {{ "names": ["umask"], "action": "SCMP_ACT_ERRNO", "errnoRet": 999, "args": [
                    {{ "index": 0, "value": 4294967303, "op": "SCMP_CMP_GE" }}] }},
                {{ "names": ["listmount"], "action": "SCMP_ACT_ERRNO", "errnoRet": 3 }}
            ] }}"#
        );
        let needed: Vec<libc::c_long> = vec![
            libc::SYS_read,
            libc::SYS_write,
            libc::SYS_sendto,
            libc::SYS_recvfrom,
            libc::SYS_exit_group,
            libc::SYS_brk,
            libc::SYS_mmap,
            libc::SYS_munmap,
            libc::SYS_mremap,
            libc::SYS_madvise,
            libc::SYS_futex,
            libc::SYS_rt_sigprocmask,
            libc::SYS_sigaltstack,
            libc::SYS_close,
            libc::SYS_sched_yield,
        ];
        // Kernels from 6.14 on let these two by unfiltered, and punish who calls them by himself (`uretprobe`, `uprobe`).
        let unfiltered = [335, 336];
        let mut cage = Cage::new(host, &profile);
        for number in (0..520).filter(|number| !needed.contains(number) && !unfiltered.contains(number)) {
            let expected = match number {
                libc::SYS_personality | libc::SYS_getpriority => 888,
                458 => 3, // listmount, the newest that is named
                459.. => libc::ENOSYS,
                _ => 777,
            };
            assert_eq!(cage.call(number, 0), expected, "{number}");
        }
        assert_eq!(cage.call(libc::SYS_sched_yield, 0), 0);
        let umask = [0x1_0000_0006, 0x1_0000_0007, 0x2_0000_0000, 0xffff_ffff];
        assert_eq!(umask.map(|value| cage.call(libc::SYS_umask, value)), [777, 999, 999, 777]);
        cage.0.hang_up().join();
    });
}

#[test]
fn dockers_default_keeps_out_what_it_should() {
    run_with(&[("caged", caged)], |host| {
        let mut cage = Cage::new(host, "docker");
        let refused = [
            (libc::SYS_unshare, 0x1000_0000),
            (libc::SYS_clone, 0x1000_0011),
            (libc::SYS_keyctl, 0),
            (libc::SYS_add_key, 0),
            (libc::SYS_bpf, 0),
            (libc::SYS_userfaultfd, 0),
            (libc::SYS_io_uring_setup, 0),
            (libc::SYS_perf_event_open, 0),
            (libc::SYS_mount, 0),
            (libc::SYS_swapon, 0),
            (libc::SYS_socket, 40),
            (libc::SYS_socket, 0x1_0000_0028),
            (libc::SYS_socket, 38),
            (libc::SYS_personality, 0x0040_0000),
        ];
        for (number, first) in refused {
            assert_eq!(cage.call(number, first), libc::EPERM, "{number} {first:#x}");
        }
        assert_eq!(cage.call(libc::SYS_clone3, 0), libc::ENOSYS);
        assert_eq!(cage.call(471, 0), libc::ENOSYS);
        let made = [libc::SYS_getppid, libc::SYS_sched_yield, libc::SYS_umask];
        assert_eq!(made.map(|number| cage.call(number, 0o22)), [0; 3]);
        assert_eq!(cage.call(libc::SYS_personality, 0xffff_ffff), 0);
        // The family is a valid one, the type is not.
        assert_eq!(cage.call(libc::SYS_socket, 1), libc::ESOCKTNOSUPPORT);
        cage.0.hang_up().join();
    });
}

#[test]
#[cfg(target_arch = "x86_64")]
fn other_architectures_are_other_numbers_or_death() {
    run_with(&[("caged", caged)], |host| {
        let interrupt = |cage: &mut Cage, number: i32| {
            cage.0.say(&format!("x86 {number}"));
            cage.0.hear().map(|answer| answer.parse::<i32>().unwrap())
        };
        let mut cage = Cage::new(host, "docker");
        // getpid; 26 is ptrace there, and msync here; 20 is writev here.
        assert_eq!(interrupt(&mut cage, 20), Some(0));
        // 217 is pivot_root there, and getdents64 here.
        assert_eq!(interrupt(&mut cage, 217), Some(libc::EPERM));
        cage.0.hang_up().join();
        let profile = r#"{ "defaultAction": "SCMP_ACT_ALLOW",
            "syscalls": [{ "names": ["swapon"], "action": "SCMP_ACT_ERRNO" }] }"#;
        let mut cage = Cage::new(host, profile);
        assert_eq!(cage.call(libc::SYS_swapon, 0), libc::EPERM);
        assert_eq!(interrupt(&mut cage, 20), None);
        assert_eq!(cage.0.wait().signal(), Some(libc::SIGSYS));
    });
}
