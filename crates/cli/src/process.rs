//! This process: where its program lies, and what it sets for itself before it starts.

use std::path::PathBuf;

use anyhow::Context;

/// The program that runs, of which each session of a measurement is a process.
pub(crate) fn this_program() -> anyhow::Result<PathBuf> {
    std::env::current_exe().context("find the program that runs")
}

/// Lets the C library keep freed memory for the next step instead of returning it to the kernel.
///
/// A training step frees and asks for the same large buffers again and again; with the default
/// thresholds a quarter of its time goes into mapping pages. A heap that grows by large pieces asks the kernel less often
/// while the first steps find their buffers.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
#[expect(unsafe_code, reason = "mallopt has no safe wrapper; it only sets numbers of the allocator")]
pub(crate) fn keep_freed_memory() {
    const THRESHOLD: libc::c_int = 1 << 30;
    const PIECE: libc::c_int = 64 << 20;
    // SAFETY: mallopt may be called at any time; main calls it before it starts a thread.
    unsafe {
        libc::mallopt(libc::M_MMAP_THRESHOLD, THRESHOLD);
        libc::mallopt(libc::M_TRIM_THRESHOLD, THRESHOLD);
        libc::mallopt(libc::M_TOP_PAD, PIECE);
    }
}

/// Other allocators keep their pages as they see fit.
#[cfg(not(all(target_os = "linux", target_env = "gnu")))]
pub(crate) fn keep_freed_memory() {}

/// Ends the process without a word when the reader of its output goes away, as `elastic schema model |
/// head` does; Rust's own setting would make it a panic.
#[cfg(unix)]
#[expect(unsafe_code, reason = "signal has no safe wrapper; it only restores the system's default")]
pub(crate) fn end_on_broken_pipe() {
    // SAFETY: main calls it before it starts a thread, and SIG_DFL runs no code of ours.
    unsafe {
        libc::signal(libc::SIGPIPE, libc::SIG_DFL);
    }
}

/// Other systems have no such signal.
#[cfg(not(unix))]
pub(crate) fn end_on_broken_pipe() {}
