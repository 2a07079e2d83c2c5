//! The memory of this process.

/// The most memory that this process has held, in bytes; `None` where the system does not tell.
///
/// Not `ru_maxrss`: on Linux that begins with what the process held which started this one.
#[cfg(any(target_os = "linux", target_os = "android"))]
pub fn peak_memory() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kilobytes: u64 = peak.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kilobytes * 1024)
}

/// The most memory that this process has held, in bytes; `None` where the system does not tell.
#[cfg(all(unix, not(any(target_os = "linux", target_os = "android"))))]
pub fn peak_memory() -> Option<u64> {
    use nix::sys::resource::{UsageWho, getrusage};
    let size = u64::try_from(getrusage(UsageWho::RUSAGE_SELF).ok()?.max_rss()).ok()?;
    // Apple counts bytes, the others kilobytes.
    Some(if cfg!(target_vendor = "apple") { size } else { size * 1024 })
}

/// The most memory that this process has held, in bytes; `None` where the system does not tell.
#[cfg(not(unix))]
pub fn peak_memory() -> Option<u64> {
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_has_held_memory() {
        assert!(peak_memory().is_some_and(|bytes| bytes > 1_000_000), "{:?}", peak_memory());
    }
}
