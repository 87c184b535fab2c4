//! The machine code of the second program on x86_64; see [`super`] for what it does with which entry.

/// `EM_X86_64`.
pub(super) const MACHINE: u16 = 62;

/// The code. What follows it in the image is where its last label is.
pub(super) fn code() -> &'static [u8] {
    let (begin, end): (*const u8, *const u8);
    // In a section of constants: in this program's memory it is bytes. Registers: rbx the entry, r12 what to answer when
    // no candidate can be executed, r13 argv, r14 envp, r15 the descriptor for reports, rbp the entry's kind (and the
    // child's process id in init). The kernel changes none but rax, rcx and r11.
    // SAFETY: two addresses are loaded; everything else is bytes in another section.
    unsafe {
        core::arch::asm!(
            ".pushsection .rodata.coracle_image, \"a\", @progbits",
            ".balign 16",
            "70:",
            "mov r12, [rsp]",
            "lea r13, [rsp + 8]",
            "lea r14, [r13 + r12*8 + 8]",
            "lea rbx, [rip + 71f]",
            "mov r15d, [rbx]",
            "add rbx, 16",
            "mov r12d, 2", // ENOENT
            // The report descriptor ends with this program: fcntl(F_SETFD, FD_CLOEXEC).
            "mov edi, r15d",
            "mov esi, 2",
            "mov edx, 1",
            "mov eax, 72",
            "syscall",
            "test eax, eax", // there is none: it was executed by a program that it executed
            "mov edi, 127",
            "js 9f",
            "2:", // the entry
            "mov rbp, [rbx]",
            "mov eax, ebp",
            "shr rbp, 32",
            "mov rdi, [rbx + 8]",
            "mov rsi, [rbx + 16]",
            "mov rdx, [rbx + 24]",
            "mov r10, [rbx + 32]",
            "mov r8, [rbx + 40]",
            "mov r9, [rbx + 48]",
            "cmp ebp, 1",
            "je 4f",
            "cmp ebp, 2",
            "je 5f",
            "cmp ebp, 3",
            "je 8f",
            "cmp ebp, 4",
            "je 20f",
            "cmp ebp, 5",
            "je 25f",
            "syscall",
            "test rax, rax",
            "js 6f",
            "3:", // the next one
            "add rbx, 64",
            "jmp 2b",
            "4:", // exec
            "mov rsi, r13",
            "mov rdx, r14",
            "syscall",
            "neg eax",
            "cmp eax, 2", // ENOENT
            "je 3b",
            "cmp eax, 20", // ENOTDIR
            "je 3b",
            "cmp eax, 13", // EACCES
            "jne 7f",
            "mov r12d, 13",
            "jmp 3b",
            "5:", // no candidate
            "mov eax, r12d",
            "jmp 7f",
            "6:", // a call failed
            "neg eax",
            "7:", // report step and errno, and end
            "mov ecx, [rbx + 56]",
            "shl rax, 32",
            "or rax, rcx",
            "push rax",
            "mov edi, r15d",
            "mov rsi, rsp",
            "mov edx, 8",
            "mov eax, 1", // write
            "syscall",
            "mov edi, 127",
            "9:",
            "mov eax, 231", // exit_group
            "syscall",
            "ud2",
            "8:", // read
            "lea rsi, [rsp - 16]",
            "syscall",
            "cmp rax, 1",
            "je 3b",
            "cmp rax, -4", // EINTR
            "je 2b",
            "mov edi, 127",
            "jmp 9b",
            "20:", // init: first rt_sigprocmask(SIG_BLOCK, all)
            "sub rsp, 256",
            "mov qword ptr [rsp + 128], -1",
            "xor edi, edi",
            "lea rsi, [rsp + 128]",
            "xor edx, edx",
            "mov r10d, 8",
            "mov eax, 14",
            "syscall",
            "mov eax, 57", // fork
            "syscall",
            "test eax, eax",
            "js 6b",
            "jz 24f",
            "mov ebp, eax",
            "mov edi, r15d",
            "mov eax, 3", // close
            "syscall",
            "21:", // rt_sigtimedwait(all, info, no timeout)
            "lea rdi, [rsp + 128]",
            "mov rsi, rsp",
            "xor edx, edx",
            "mov r10d, 8",
            "mov eax, 128",
            "syscall",
            "test eax, eax",
            "js 21b",
            "cmp eax, 17", // SIGCHLD
            "je 22f",
            "mov edi, ebp",
            "mov esi, eax",
            "mov eax, 62", // kill
            "syscall",
            "jmp 21b",
            "22:", // wait4(any, status, WNOHANG)
            "mov edi, -1",
            "mov rsi, rsp",
            "mov edx, 1",
            "xor r10d, r10d",
            "mov eax, 61",
            "syscall",
            "test eax, eax",
            "jle 21b",
            "cmp eax, ebp",
            "jne 22b",
            "mov eax, [rsp]",
            "mov edi, eax",
            "and edi, 127",
            "jnz 23f",
            "shr eax, 8",
            "movzx edi, al",
            "jmp 9b",
            "23:",
            "add edi, 128",
            "jmp 9b",
            "24:", // the child: setpgid(0, 0); ioctl(0, TIOCSPGRP, getpid()), which fails where it is no terminal
            "xor edi, edi",
            "xor esi, esi",
            "mov eax, 109",
            "syscall",
            "mov eax, 39",
            "syscall",
            "mov [rsp], eax",
            "xor edi, edi",
            "mov esi, 0x5410",
            "mov rdx, rsp",
            "mov eax, 16",
            "syscall",
            "mov qword ptr [rsp + 128], 0", // rt_sigprocmask(SIG_SETMASK, none)
            "mov edi, 2",
            "lea rsi, [rsp + 128]",
            "xor edx, edx",
            "mov r10d, 8",
            "mov eax, 14",
            "syscall",
            "add rsp, 256",
            "jmp 3b",
            "25:", // again: clone3 with the entry's flags and control group, pidfd to 80 of the frame
            "sub rsp, 256",
            "xor eax, eax",
            "lea rdx, [rsp + 128]",
            "mov ecx, 11",
            "27:",
            "mov [rdx + rcx*8 - 8], rax",
            "dec ecx",
            "jnz 27b",
            "mov [rdx], rdi",
            "mov [rdx + 80], rsi",
            "lea rax, [rsp + 80]",
            "mov [rdx + 8], rax",
            "mov rdi, rdx",
            "mov esi, 88",
            "mov eax, 435",
            "syscall",
            "test eax, eax",
            "js 6b",
            "jnz 26f",
            "add rsp, 256",
            "jmp 3b",
            // The first one hands the pidfd over and ends. On the stack: a msghdr, at 56 the data, at 64 the control message
            // with the descriptor at 80, at 96 the iovec.
            "26:",
            "lea rax, [rsp + 56]",
            "mov [rsp + 96], rax",
            "mov qword ptr [rsp + 104], 1",
            "mov qword ptr [rsp + 56], 0x21",
            "mov qword ptr [rsp + 64], 20",
            "mov dword ptr [rsp + 72], 1", // SOL_SOCKET
            "mov dword ptr [rsp + 76], 1", // SCM_RIGHTS
            "mov qword ptr [rsp], 0",
            "mov qword ptr [rsp + 8], 0",
            "lea rax, [rsp + 96]",
            "mov [rsp + 16], rax",
            "mov qword ptr [rsp + 24], 1",
            "lea rax, [rsp + 64]",
            "mov [rsp + 32], rax",
            "mov qword ptr [rsp + 40], 24",
            "mov qword ptr [rsp + 48], 0",
            "mov edi, r15d",
            "mov rsi, rsp",
            "xor edx, edx",
            "mov eax, 46", // sendmsg
            "syscall",
            "test rax, rax",
            "js 6b",
            "xor edi, edi",
            "jmp 9b",
            ".balign 16",
            "71:",
            ".popsection",
            "lea {begin}, [rip + 70b]",
            "lea {end}, [rip + 71b]",
        begin = out(reg) begin,
        end = out(reg) end,
        options(nomem, nostack, pure, preserves_flags),
        );
    }
    // SAFETY: the two labels are in the one section above, the second behind the first, and what is between them is
    // constant bytes that live as long as the program.
    unsafe { core::slice::from_raw_parts(begin, end.addr() - begin.addr()) }
}
