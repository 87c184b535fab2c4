//! The machine code of the second program on aarch64; see [`super`] for what it does with which entry.

/// `EM_AARCH64`.
pub(super) const MACHINE: u16 = 183;

/// The code. What follows it in the image is where its last label is.
pub(super) fn code() -> &'static [u8] {
    let (begin, end): (*const u8, *const u8);
    // In a section of constants: in this program's memory it is bytes. Registers: x19 the entry, w20 what to answer when
    // no candidate can be executed, x21 argv, x22 envp, w23 the descriptor for reports, w24 the entry's kind (and the
    // child's process id in init). The kernel changes none but x0.
    // SAFETY: two addresses are loaded; everything else is bytes in another section.
    unsafe {
        core::arch::asm!(
            ".pushsection .rodata.coracle_image, \"a\", %progbits",
            ".balign 16",
            "70:",
            "ldr x9, [sp]",
            "add x21, sp, #8",
            "add x22, x21, x9, lsl #3",
            "add x22, x22, #8",
            "adr x19, 71f",
            "ldr w23, [x19]",
            "add x19, x19, #16",
            "mov w20, #2", // ENOENT
            // The report descriptor ends with this program: fcntl(F_SETFD, FD_CLOEXEC).
            "mov w0, w23",
            "mov x1, #2",
            "mov x2, #1",
            "mov x8, #25",
            "svc #0",
            "mov x9, x0",
            "mov x0, #127",
            "tbnz x9, #63, 9f", // there is none: it was executed by a program that it executed
            "2:", // the entry
            "ldr w8, [x19]",
            "ldr w24, [x19, #4]",
            "ldp x0, x1, [x19, #8]",
            "ldp x2, x3, [x19, #24]",
            "ldp x4, x5, [x19, #40]",
            "cmp w24, #1",
            "b.eq 4f",
            "cmp w24, #2",
            "b.eq 5f",
            "cmp w24, #3",
            "b.eq 8f",
            "cmp w24, #4",
            "b.eq 20f",
            "cmp w24, #5",
            "b.eq 25f",
            "svc #0",
            "tbnz x0, #63, 6f",
            "3:", // the next one
            "add x19, x19, #64",
            "b 2b",
            "4:", // exec
            "mov x1, x21",
            "mov x2, x22",
            "svc #0",
            "neg w0, w0",
            "cmp w0, #2", // ENOENT
            "b.eq 3b",
            "cmp w0, #20", // ENOTDIR
            "b.eq 3b",
            "cmp w0, #13", // EACCES
            "b.ne 7f",
            "mov w20, #13",
            "b 3b",
            "5:", // no candidate
            "mov w0, w20",
            "b 7f",
            "6:", // a call failed
            "neg w0, w0",
            "7:", // report step and errno, and end
            "ldr w9, [x19, #56]",
            "stp w9, w0, [sp, #-16]!",
            "mov w0, w23",
            "mov x1, sp",
            "mov x2, #8",
            "mov x8, #64", // write
            "svc #0",
            "mov x0, #127",
            "9:",
            "mov x8, #94", // exit_group
            "svc #0",
            "brk #0",
            "8:", // read
            "sub x1, sp, #16",
            "svc #0",
            "cmp x0, #1",
            "b.eq 3b",
            "cmn x0, #4", // EINTR
            "b.eq 2b",
            "mov x0, #127",
            "b 9b",
            "20:", // init: first rt_sigprocmask(SIG_BLOCK, all)
            "sub sp, sp, #256",
            "mov x9, #-1",
            "str x9, [sp, #128]",
            "mov x0, #0",
            "add x1, sp, #128",
            "mov x2, #0",
            "mov x3, #8",
            "mov x8, #135",
            "svc #0",
            "mov x0, #17", // clone(SIGCHLD)
            "mov x1, #0",
            "mov x2, #0",
            "mov x3, #0",
            "mov x4, #0",
            "mov x8, #220",
            "svc #0",
            "tbnz x0, #63, 6b",
            "cbz x0, 24f",
            "mov w24, w0",
            "mov w0, w23",
            "mov x8, #57", // close
            "svc #0",
            "21:", // rt_sigtimedwait(all, info, no timeout)
            "add x0, sp, #128",
            "mov x1, sp",
            "mov x2, #0",
            "mov x3, #8",
            "mov x8, #137",
            "svc #0",
            "tbnz x0, #63, 21b",
            "cmp w0, #17", // SIGCHLD
            "b.eq 22f",
            "mov w1, w0",
            "mov w0, w24",
            "mov x8, #129", // kill
            "svc #0",
            "b 21b",
            "22:", // wait4(any, status, WNOHANG)
            "mov x0, #-1",
            "mov x1, sp",
            "mov x2, #1",
            "mov x3, #0",
            "mov x8, #260",
            "svc #0",
            "cmp w0, #0",
            "b.le 21b",
            "cmp w0, w24",
            "b.ne 22b",
            "ldr w9, [sp]",
            "ands w0, w9, #127",
            "b.ne 23f",
            "ubfx w0, w9, #8, #8",
            "b 9b",
            "23:",
            "add w0, w0, #128",
            "b 9b",
            "24:", // the child: setpgid(0, 0); ioctl(0, TIOCSPGRP, getpid()), which fails where it is no terminal
            "mov x0, #0",
            "mov x1, #0",
            "mov x8, #154",
            "svc #0",
            "mov x8, #172",
            "svc #0",
            "str w0, [sp]",
            "mov x0, #0",
            "mov x1, #0x5410",
            "mov x2, sp",
            "mov x8, #29",
            "svc #0",
            "str xzr, [sp, #128]", // rt_sigprocmask(SIG_SETMASK, none)
            "mov x0, #2",
            "add x1, sp, #128",
            "mov x2, #0",
            "mov x3, #8",
            "mov x8, #135",
            "svc #0",
            "add sp, sp, #256",
            "b 3b",
            "25:", // again: clone3 with the entry's flags and control group, pidfd to 80 of the frame
            "sub sp, sp, #256",
            "add x9, sp, #80",
            "stp x0, x9, [sp, #128]",
            "stp xzr, xzr, [sp, #144]",
            "stp xzr, xzr, [sp, #160]",
            "stp xzr, xzr, [sp, #176]",
            "stp xzr, xzr, [sp, #192]",
            "str x1, [sp, #208]",
            "add x0, sp, #128",
            "mov x1, #88",
            "mov x8, #435",
            "svc #0",
            "tbnz x0, #63, 6b",
            "cbnz x0, 26f",
            "add sp, sp, #256",
            "b 3b",
            // The first one hands the pidfd over and ends. On the stack: a msghdr, at 56 the data, at 64 the control message
            // with the descriptor at 80, at 96 the iovec.
            "26:",
            "add x9, sp, #56",
            "mov x10, #1",
            "stp x9, x10, [sp, #96]",
            "mov x9, #0x21",
            "mov x10, #20",
            "stp x9, x10, [sp, #56]",
            "mov w9, #1",
            "stp w9, w9, [sp, #72]", // SOL_SOCKET, SCM_RIGHTS
            "stp xzr, xzr, [sp]",
            "add x9, sp, #96",
            "mov x10, #1",
            "stp x9, x10, [sp, #16]",
            "add x9, sp, #64",
            "mov x10, #24",
            "stp x9, x10, [sp, #32]",
            "str xzr, [sp, #48]",
            "mov w0, w23",
            "mov x1, sp",
            "mov x2, #0",
            "mov x8, #211", // sendmsg
            "svc #0",
            "tbnz x0, #63, 6b",
            "mov x0, #0",
            "b 9b",
            ".balign 16",
            "71:",
            ".popsection",
            "adrp {begin}, 70b",
            "add {begin}, {begin}, :lo12:70b",
            "adrp {end}, 71b",
            "add {end}, {end}, :lo12:71b",
        begin = out(reg) begin,
        end = out(reg) end,
        options(nomem, nostack, pure, preserves_flags),
        );
    }
    // SAFETY: the two labels are in the one section above, the second behind the first, and what is between them is
    // constant bytes that live as long as the program.
    unsafe { core::slice::from_raw_parts(begin, end.addr() - begin.addr()) }
}
