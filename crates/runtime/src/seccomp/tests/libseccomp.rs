//! What libseccomp makes of the same profile: for every number that both know, the same answer.

use std::io::Write;
use std::process::{Command, Stdio};

use oci_spec::runtime::Capability;

use crate::seccomp::arch::{Arch, X32_BIT};
use crate::seccomp::numbers::rows;
use crate::seccomp::simulate::{data, run};
use crate::seccomp::{Instruction, Profile, Target};

/// libseccomp's filter, with the answer to foreign architectures made ours. `None`: it isn't here.
fn theirs(profile: &Profile, target: &Target) -> Option<Vec<Instruction>> {
    let mut python = Command::new("python3");
    python.arg("-c").arg(include_str!("libseccomp.py"));
    let mut child =
        python.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().ok()?;
    let json = serde_json::to_vec(&profile.to_oci(target)).unwrap();
    // Without the library it ends before it reads.
    let _ = child.stdin.take().unwrap().write_all(&json);
    let output = child.wait_with_output().unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    if errors.contains("libseccomp.so.2: cannot open shared object file") {
        return None;
    }
    assert!(output.status.success(), "{errors}");
    let words = output.stdout.chunks_exact(8).map(|bytes| Instruction {
        code: u16::from_ne_bytes([bytes[0], bytes[1]]),
        jt: bytes[2],
        jf: bytes[3],
        k: u32::from_ne_bytes([bytes[4], bytes[5], bytes[6], bytes[7]]),
    });
    Some(words.collect())
}

/// Calls up to here are known to libseccomp 2.5.4; `mseal` and others that came later are not.
const LAST: u32 = 448;

fn compare(profile: &Profile, capabilities: &[Capability]) -> bool {
    let target = Target::new(Arch::X86_64, (6, 1), capabilities.iter().copied());
    let ours = profile.compile(&target).unwrap();
    let Some(theirs) = theirs(profile, &target) else { return false };
    let is_large = theirs.len() > 500;
    assert!(
        !is_large || ours.instructions().len() * 3 < theirs.len(),
        "{ours:?}: theirs has {}",
        theirs.len()
    );
    let arguments = [0, 1, 2, 21, 22, 38, 40, 0x2_0000, 0x1000_0011, 0xffff_ffff];
    // `uretprobe` is newer, too, but its number isn't.
    for (name, row) in rows().filter(|(name, _)| *name != "uretprobe") {
        for arch in [Arch::X86_64, Arch::X86, Arch::X32] {
            let Some(number) = row[arch.column()].filter(|number| *number <= LAST || *number >= 512) else {
                continue;
            };
            let number = if arch == Arch::X32 { number | X32_BIT } else { number };
            for first in arguments {
                let words = data(arch.audit(), number, [first, first, 0, first, 0, 0]);
                let (one, other) = (run(ours.instructions(), &words), run(&theirs, &words));
                assert!(one == other, "{arch} {name} ({first:#x}): {one:#x}, libseccomp says {other:#x}");
            }
        }
    }
    true
}

#[test]
fn libseccomp_agrees() {
    let mut profiles = vec![(Profile::docker(), vec![]), (Profile::docker(), vec![Capability::SysAdmin])];
    let custom = r#"{
        "defaultAction": "SCMP_ACT_ALLOW",
        "architectures": ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32"],
        "syscalls": [
            { "names": ["socket", "connect", "shmat"], "action": "SCMP_ACT_ERRNO", "errnoRet": 13 },
            { "names": ["read", "write"], "action": "SCMP_ACT_LOG" },
            { "names": ["read"], "action": "SCMP_ACT_ALLOW" },
            { "names": ["kill"], "action": "SCMP_ACT_TRAP", "args": [
                { "index": 0, "value": 2, "op": "SCMP_CMP_GE" }, { "index": 1, "value": 38, "op": "SCMP_CMP_LE" }] },
            { "names": ["dup2"], "action": "SCMP_ACT_TRACE", "errnoRet": 9, "args": [
                { "index": 0, "value": 2, "op": "SCMP_CMP_EQ" }, { "index": 0, "value": 40, "op": "SCMP_CMP_GT" }] },
            { "names": ["mprotect"], "action": "SCMP_ACT_KILL_PROCESS", "args": [
                { "index": 3, "value": 1, "valueTwo": 1, "op": "SCMP_CMP_MASKED_EQ" }] },
            { "names": ["mmap"], "action": "SCMP_ACT_KILL_THREAD", "args": [
                { "index": 0, "value": 131072, "op": "SCMP_CMP_NE" }] },
            { "names": ["umask"], "action": "SCMP_ACT_ERRNO", "args": [
                { "index": 0, "value": 40, "op": "SCMP_CMP_LT" }] },
            { "names": ["umask"], "action": "SCMP_ACT_ERRNO", "errnoRet": 5 }
        ]
    }"#;
    profiles.push((Profile::from_json(custom).unwrap(), vec![]));
    for (profile, capabilities) in profiles {
        if !compare(&profile, &capabilities) {
            return coracle_testhost::skip("seccomp::libseccomp_agrees", "needs python3 and libseccomp");
        }
    }
}
