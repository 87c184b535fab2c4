//! Where profiles come from: the specification's format, docker's and podman's.

use oci_spec::runtime::Capability;

use crate::seccomp::arch::Arch;
use crate::seccomp::simulate::{data, run};
use crate::seccomp::{Action, Profile, Program, Target};

const EPERM: u32 = Action::Errno(1).code_of();
const ENOSYS: u32 = Action::Errno(38).code_of();
const ALLOW: u32 = Action::Allow.code_of();

impl Action {
    const fn code_of(self) -> u32 {
        match self {
            Action::Errno(number) => 0x0005_0000 | number as u32,
            _ => 0x7fff_0000,
        }
    }
}

fn compiled(text: &str, capabilities: &[Capability], kernel: (u32, u32)) -> Program {
    let target = Target::new(Arch::X86_64, kernel, capabilities.iter().copied());
    Profile::from_json(text).unwrap().compile(&target).unwrap()
}

fn call(program: &Program, arch: Arch, number: u32, first: u64) -> u32 {
    run(program.instructions(), &data(arch.audit(), number, [first, 0, 0, 0, 0, 0]))
}

fn refusal(text: &str) -> String {
    Profile::from_json(text).unwrap_err().to_string()
}

#[test]
fn dockers_conditions() {
    let text = r#"{
        "defaultAction": "SCMP_ACT_ERRNO",
        "archMap": [
            { "architecture": "SCMP_ARCH_X86_64", "subArchitectures": ["SCMP_ARCH_X86"] },
            { "architecture": "SCMP_ARCH_S390X", "subArchitectures": ["SCMP_ARCH_S390"] }
        ],
        "syscalls": [
            { "names": ["read", "clone3"], "action": "SCMP_ACT_ALLOW", "args": null, "comment": "" },
            { "name": "write", "action": "SCMP_ACT_ALLOW", "includes": { "caps": ["CAP_KILL", "CAP_CHOWN"] } },
            { "names": ["open"], "action": "SCMP_ACT_ALLOW", "excludes": { "caps": ["CAP_KILL"] } },
            { "names": ["close"], "action": "SCMP_ACT_ALLOW", "includes": { "minKernel": "4.8" } },
            { "names": ["stat"], "action": "SCMP_ACT_ALLOW", "includes": { "arches": ["arm64"] } },
            { "names": ["fstat"], "action": "SCMP_ACT_ALLOW", "excludes": { "arches": ["amd64"] } },
            { "names": ["lstat"], "action": "SCMP_ACT_ALLOW", "includes": { "arches": ["amd64", "x32"] } },
            { "names": ["poll"], "action": "SCMP_ACT_ERRNO", "errnoRet": 5, "errno": "EINVAL" }
        ]
    }"#;
    let answers = |capabilities: &[Capability], kernel| {
        let program = compiled(text, capabilities, kernel);
        [0, 1, 2, 3, 4, 5, 6].map(|number| call(&program, Arch::X86_64, number, 0) == ALLOW)
    };
    assert_eq!(answers(&[], (4, 7)), [true, false, true, false, false, false, true]);
    assert_eq!(answers(&[Capability::Kill], (4, 8)), [true, false, false, true, false, false, true]);
    let both = [Capability::Kill, Capability::Chown];
    assert_eq!(answers(&both, (5, 0)), [true, true, false, true, false, false, true]);
    let program = compiled(text, &[], (5, 0));
    assert_eq!(call(&program, Arch::X86_64, 7, 0), 0x0005_0000 + 22);
    assert_eq!(call(&program, Arch::X86_64, 200, 0), EPERM);
    assert_eq!(call(&program, Arch::X86_64, 436, 0), ENOSYS);
    assert_eq!(call(&program, Arch::X86, 3, 0), ALLOW);
    assert_eq!(call(&program, Arch::X32, 0x4000_0000, 0), Action::KillProcess.code());
    assert_eq!(call(&program, Arch::Arm, 3, 0), Action::KillProcess.code());
}

#[test]
fn podmans_names_of_errnos() {
    let text = r#"{ "defaultAction": "SCMP_ACT_ERRNO", "defaultErrnoRet": 38, "defaultErrno": "ENOSYS",
        "syscalls": [{ "names": ["read"], "action": "SCMP_ACT_ERRNO", "errnoRet": 1, "errno": "EPERM" }] }"#;
    let program = compiled(text, &[], (6, 1));
    assert_eq!([0, 1, 999].map(|number| call(&program, Arch::X86_64, number, 0)), [EPERM, ENOSYS, ENOSYS]);
    assert_eq!(
        refusal(&text.replace("\"EPERM\"", "\"EHUH\"")),
        "linux.seccomp.syscalls[0]: errno \"EHUH\" is not known by name: say its number (errnoRet)"
    );
}

#[test]
fn an_old_detour_is_guarded() {
    let text = r#"{ "defaultAction": "SCMP_ACT_ALLOW", "architectures": ["SCMP_ARCH_X86"],
        "syscalls": [{ "names": ["socket", "shmat"], "action": "SCMP_ACT_ERRNO" }] }"#;
    let program = compiled(text, &[], (6, 1));
    assert_eq!([1, 2].map(|kind| call(&program, Arch::X86, 102, kind)), [EPERM, ALLOW]);
    // Whatever version of it is asked for.
    assert_eq!([21, 0x1_0015, 22].map(|kind| call(&program, Arch::X86, 117, kind)), [EPERM, EPERM, ALLOW]);
}

#[test]
fn ints_are_compared_as_the_kernel_reads_them() {
    let target = Target::new(Arch::X86_64, (6, 1), []);
    let program = Profile::docker().compile(&target).unwrap();
    let socket = |family| call(&program, Arch::X86_64, 41, family);
    assert_eq!([1, 2, 10, 16, 17].map(socket), [ALLOW; 5]);
    // AF_VSOCK and AF_ALG, and both with something above the int.
    assert_eq!([40, 38, 0x1_0000_0028, 0x1_0000_0026].map(socket), [EPERM; 4]);
    assert_eq!(call(&program, Arch::X86_64, 135, 0xffff_ffff_ffff_ffff), ALLOW);
    let clone = |flags| call(&program, Arch::X86_64, 56, flags);
    assert_eq!([0x11, 0x0002_0011, 0x1000_0011, 0x4000_0011].map(clone), [ALLOW, EPERM, EPERM, EPERM]);
    assert_eq!(call(&program, Arch::X86_64, 435, 0), ENOSYS);
}

#[test]
fn everything_wrong_is_said_at_once() {
    let text = r#"{ "defaultAction": "SCMP_ACT_NOTIFY", "listenerMetadata": "x",
        "flags": ["SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV"] }"#;
    assert_eq!(
        refusal(text),
        "linux.seccomp.defaultAction: SCMP_ACT_NOTIFY is none; \
         linux.seccomp.listenerMetadata: without listenerPath nobody gets it; \
         linux.seccomp.flags: SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV needs listenerPath"
    );
    let text = r#"{ "defaultAction": "SCMP_ACT_ALLOW", "architectures": [], "archMap": [], "syscalls": [
        { "names": [], "action": "SCMP_ACT_ERRNO" },
        { "name": "a", "names": ["b"], "action": "SCMP_ACT_ERRNO" },
        { "names": ["a"], "action": "SCMP_ACT_ERRNO", "errnoRet": 4096 },
        { "names": ["a"], "action": "SCMP_ACT_KILL", "errnoRet": 1 },
        { "names": ["a"], "action": "SCMP_ACT_LOG", "args": [{ "index": 6, "value": 0, "op": "SCMP_CMP_EQ" }] },
        { "names": ["a"], "action": "SCMP_ACT_LOG", "includes": { "minKernel": "new" } }
    ] }"#;
    let expected = [
        "archMap: not together with architectures",
        "syscalls[0]: no names",
        "syscalls[1]: both name and names",
        "syscalls[2]: errnoRet: 4096 is no errno (0 to 4095)",
        "syscalls[3]: errnoRet: SCMP_ACT_KILL takes no errno, and 1 is given",
        "syscalls[4]: args: 6 is no index (0 to 5)",
        "syscalls[5]: includes.minKernel: \"new\" is no version (such as 4.8)",
    ];
    let expected: Vec<String> = expected.iter().map(|text| format!("linux.seccomp.{text}")).collect();
    assert_eq!(refusal(text).split("; ").collect::<Vec<_>>(), expected);
    let text = r#"{ "defaultAction": "SCMP_ACT_ALLOW", "sycalls": [] }"#;
    assert!(refusal(text).starts_with("seccomp profile: unknown field `sycalls`"), "{}", refusal(text));
    assert!(refusal("").starts_with("seccomp profile: EOF"), "{}", refusal(""));
}

#[test]
fn flags_and_unknown_names_are_kept() {
    let text = r#"{ "defaultAction": "SCMP_ACT_ALLOW", "flags": ["SECCOMP_FILTER_FLAG_TSYNC",
        "SECCOMP_FILTER_FLAG_LOG", "SECCOMP_FILTER_FLAG_SPEC_ALLOW"],
        "syscalls": [{ "names": ["raed", "read", "raed"], "action": "SCMP_ACT_KILL_PROCESS" }] }"#;
    let program = compiled(text, &[], (6, 1));
    assert_eq!((program.flags(), program.unknown()), (7, &["raed".to_owned()][..]));
    assert_eq!(call(&program, Arch::X86_64, 0, 0), 0x8000_0000);
}
