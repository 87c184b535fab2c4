"""Compiles a profile of the OCI specification (stdin) with libseccomp, as runc does; the filter goes to stdout."""
import ctypes, json, os, sys

lib = ctypes.CDLL("libseccomp.so.2")
lib.seccomp_init.restype = ctypes.c_void_p


class Arg(ctypes.Structure):
    _fields_ = [("arg", ctypes.c_uint), ("op", ctypes.c_int), ("a", ctypes.c_uint64), ("b", ctypes.c_uint64)]


ARCHES = {"SCMP_ARCH_X86_64": 0xC000003E, "SCMP_ARCH_X86": 0x40000003, "SCMP_ARCH_X32": 0x4000003E}
OPERATORS = {"NE": 1, "LT": 2, "LE": 3, "EQ": 4, "GE": 5, "GT": 6, "MASKED_EQ": 7}
CODES = {
    "KILL": 0, "KILL_THREAD": 0, "KILL_PROCESS": 0x80000000, "TRAP": 0x30000, "NOTIFY": 0x7FC00000,
    "LOG": 0x7FFC0000, "ALLOW": 0x7FFF0000, "ERRNO": 0x50000, "TRACE": 0x7FF00000,
}


def code(action, number):
    word = action[len("SCMP_ACT_"):]
    return CODES[word] | ((1 if number is None else number) if word in ("ERRNO", "TRACE") else 0)


profile = json.load(sys.stdin)
default = code(profile["defaultAction"], profile.get("defaultErrnoRet"))
context = ctypes.c_void_p(lib.seccomp_init(ctypes.c_uint32(default)))
for arch in profile["architectures"]:
    lib.seccomp_arch_add(context, ctypes.c_uint32(ARCHES[arch]))
for rule in profile["syscalls"]:
    action = code(rule["action"], rule.get("errnoRet"))
    if action == default:
        continue
    args = [
        Arg(a["index"], OPERATORS[a["op"][len("SCMP_CMP_"):]], a["value"], a.get("valueTwo") or 0)
        for a in rule.get("args") or []
    ]
    indexes = [a.arg for a in args]
    alternatives = [args] if len(set(indexes)) == len(indexes) else [[a] for a in args]
    for name in rule["names"]:
        number = lib.seccomp_syscall_resolve_name(name.encode())
        for all in alternatives if number != -1 else []:
            array = (Arg * len(all))(*all)
            result = lib.seccomp_rule_add_array(context, ctypes.c_uint32(action), number, len(all), array)
            if result:
                sys.exit(f"seccomp_rule_add_array({name}): {os.strerror(-result)}")
if lib.seccomp_export_bpf(context, 1):
    sys.exit("seccomp_export_bpf")
