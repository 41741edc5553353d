//! A system call that fails on demand, in one thread of a child process: what no test can bring about from outside.

use std::io;

/// Lets the next `call` that `thread` makes return `error`, and lets go of the thread.
pub fn fail_next(thread: i32, call: i64, error: i32) {
    request(libc::PTRACE_SEIZE, thread, 0, libc::PTRACE_O_TRACESYSGOOD as usize);
    request(libc::PTRACE_INTERRUPT, thread, 0, 0);
    wait(thread);
    loop {
        request(libc::PTRACE_SYSCALL, thread, 0, 0);
        wait(thread);
        #[expect(unsafe_code, reason = "registers are plain integers")]
        // SAFETY: a C struct of integers, for which all zeroes is a value.
        let mut registers: libc::user_regs_struct = unsafe { std::mem::zeroed() };
        request(libc::PTRACE_GETREGS, thread, 0, std::ptr::from_mut(&mut registers) as usize);
        // At the entry of a call its result is ENOSYS.
        if registers.orig_rax == call as u64 && registers.rax != -i64::from(libc::ENOSYS) as u64 {
            registers.rax = -i64::from(error) as u64;
            request(libc::PTRACE_SETREGS, thread, 0, std::ptr::from_ref(&registers) as usize);
            request(libc::PTRACE_DETACH, thread, 0, 0);
            return;
        }
    }
}

fn request(request: libc::c_uint, thread: i32, address: usize, data: usize) {
    #[expect(unsafe_code, reason = "std cannot trace")]
    // SAFETY: the thread is one of our child; where data is an address, that of a struct as the request wants it, which outlives the call.
    let result = unsafe { libc::ptrace(request, thread, address, data) };
    assert!(result >= 0, "ptrace {request}: {}", io::Error::last_os_error());
}

/// Waits until the thread stops.
fn wait(thread: i32) {
    let mut status = 0;
    #[expect(unsafe_code, reason = "std waits for processes only")]
    // SAFETY: the status outlives the call; the thread is traced by this one.
    let result = unsafe { libc::waitpid(thread, &raw mut status, libc::__WALL) };
    assert!(result == thread && libc::WIFSTOPPED(status), "{result}, status {status:#x}: {}", io::Error::last_os_error());
}
