//! Conditions of a session: fixed clocks, a device that is cool enough, memory that is enough.

use std::process::{Command, Stdio};

use elastic_space::platform::{Clocks, Memory, Thermal};
use thiserror::Error;

/// Why a session's conditions do not hold.
#[derive(Debug, Error, PartialEq)]
pub enum ConditionError {
    /// A command that fixes the clocks failed.
    #[error("fix the clocks: `{command}` {reason} (clocks.setup in the platform file)")]
    Setup {
        /// The command.
        command: String,
        /// What happened.
        reason: String,
    },
    /// A core that this device has not, or that this process may not use.
    #[error(
        "the platform's affinity names core {core}, which this process cannot use here: see `nproc`, or leave it out"
    )]
    NoCore {
        /// The core.
        core: usize,
    },
    /// The system does not keep a thread on chosen cores.
    #[error("keep the session on the platform's affinity: {0}")]
    Affinity(String),
    /// The device does not say how warm it is.
    #[error(
        "the platform limits the temperature, and this device has no sensor below /sys/class/thermal: leave out `thermal`"
    )]
    NoSensor,
    /// The device does not cool down.
    #[error(
        "the device has {celsius:.1} degrees Celsius after {wait_s} s of waiting, the platform allows {limit:.1}: cool it, or raise thermal.max-celsius"
    )]
    Hot {
        /// What it has.
        celsius: f64,
        /// What is allowed.
        limit: f64,
        /// How long it was waited for.
        wait_s: u64,
    },
    /// A session held more memory than the platform allows.
    #[error(
        "the session has held {held_mb} MB with all models loaded, the platform allows {limit_mb}: measure fewer at a time, or raise memory.max-session-mb"
    )]
    Memory {
        /// What it held.
        held_mb: u64,
        /// What is allowed.
        limit_mb: u64,
    },
}

/// Keeps this thread, and those that it starts from now on, on some cores; all stay as they are where none is named.
#[cfg(any(target_os = "linux", target_os = "android"))]
pub(crate) fn stay_on(cores: &[usize]) -> Result<(), ConditionError> {
    use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
    use nix::unistd::Pid;

    if cores.is_empty() {
        return Ok(());
    }
    let this = Pid::from_raw(0);
    let allowed = sched_getaffinity(this).map_err(|error| ConditionError::Affinity(error.to_string()))?;
    let mut set = CpuSet::new();
    for &core in cores {
        if !allowed.is_set(core).unwrap_or(false) {
            return Err(ConditionError::NoCore { core });
        }
        set.set(core).map_err(|_| ConditionError::NoCore { core })?;
    }
    sched_setaffinity(this, &set).map_err(|error| ConditionError::Affinity(error.to_string()))
}

/// Cores cannot be chosen here.
#[cfg(not(any(target_os = "linux", target_os = "android")))]
pub(crate) fn stay_on(cores: &[usize]) -> Result<(), ConditionError> {
    if cores.is_empty() {
        Ok(())
    } else {
        Err(ConditionError::Affinity("this system does not offer it".into()))
    }
}

/// Clocks that are fixed until this value goes away.
pub(crate) struct FixedClocks<'a>(Option<&'a Clocks>);

impl<'a> FixedClocks<'a> {
    /// Runs the commands of `setup`.
    pub(crate) fn set(clocks: Option<&'a Clocks>) -> Result<Self, ConditionError> {
        // From the first command on, what was changed is changed back.
        let fixed = Self(clocks);
        for words in clocks.into_iter().flat_map(|clocks| &clocks.setup) {
            run(words).map_err(|reason| ConditionError::Setup { command: words.join(" "), reason })?;
        }
        Ok(fixed)
    }
}

impl Drop for FixedClocks<'_> {
    fn drop(&mut self) {
        for words in self.0.into_iter().flat_map(|clocks| &clocks.restore) {
            if let Err(reason) = run(words) {
                // The client shows what an agent writes there when a session fails.
                eprintln!("restore the clocks: `{}` {reason}", words.join(" "));
            }
        }
    }
}

fn run(words: &[String]) -> Result<(), String> {
    // Standard output belongs to the protocol.
    let command =
        Command::new(&words[0]).args(&words[1..]).stdin(Stdio::null()).stdout(Stdio::null()).output();
    match command {
        Ok(output) if output.status.success() => Ok(()),
        Ok(output) => {
            let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
            Err(format!("ended with {}{}{said}", output.status, if said.is_empty() { "" } else { ": " }))
        }
        Err(error) => Err(format!("cannot be started: {error}")),
    }
}

/// Waits until the device is cool enough; `wait` takes one second.
pub(crate) fn cool_down(
    thermal: &Thermal,
    millicelsius: &mut dyn FnMut() -> Option<u64>,
    wait: &mut dyn FnMut(),
) -> Result<(), ConditionError> {
    for waited in 0.. {
        let celsius = millicelsius().ok_or(ConditionError::NoSensor)? as f64 / 1e3;
        if celsius <= thermal.max_celsius {
            return Ok(());
        }
        if waited >= thermal.wait_s {
            let (limit, wait_s) = (thermal.max_celsius, thermal.wait_s);
            return Err(ConditionError::Hot { celsius, limit, wait_s });
        }
        wait();
    }
    Ok(())
}

/// Whether a session held no more than it may.
pub(crate) fn check_memory(memory: Option<&Memory>, held_bytes: Option<u64>) -> Result<(), ConditionError> {
    match (memory, held_bytes.map(|bytes| bytes / 1_000_000)) {
        (Some(&Memory { max_session_mb: limit_mb }), Some(held_mb)) if held_mb > limit_mb => {
            Err(ConditionError::Memory { held_mb, limit_mb })
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[cfg(target_os = "linux")]
    #[test]
    fn a_session_stays_on_its_cores() {
        use nix::sched::{CpuSet, sched_getaffinity};
        use nix::unistd::Pid;

        let stayed = std::thread::spawn(|| {
            let allowed = sched_getaffinity(Pid::from_raw(0)).expect("this thread has cores");
            let all: Vec<usize> =
                (0..CpuSet::count()).filter(|&core| allowed.is_set(core) == Ok(true)).collect();
            stay_on(&all[..1]).expect("a core that is allowed");
            // A thread that is started from here inherits it.
            let now = std::thread::spawn(|| sched_getaffinity(Pid::from_raw(0)).expect("cores"));
            let now = now.join().expect("no panic");
            let left: Vec<usize> =
                (0..CpuSet::count()).filter(|&core| now.is_set(core) == Ok(true)).collect();
            (all[..1].to_vec(), left)
        });
        let (asked, left) = stayed.join().expect("no panic");
        assert_eq!(left, asked);
        let beyond = CpuSet::count() - 1;
        let refused = std::thread::spawn(move || stay_on(&[0, beyond])).join().expect("no panic");
        assert_eq!(refused, Err(ConditionError::NoCore { core: beyond }));
    }

    #[test]
    fn a_session_waits_until_the_device_is_cool() {
        let thermal = Thermal { max_celsius: 60.0, tolerance_celsius: 10.0, wait_s: 3 };
        let wait = |readings: &[Option<u64>]| {
            let (mut left, mut waited) = (readings.iter(), 0);
            let mut read = || *left.next().expect("no more readings than that");
            (cool_down(&thermal, &mut read, &mut || waited += 1), waited)
        };
        assert_eq!(wait(&[Some(60_000)]), (Ok(()), 0));
        assert_eq!(wait(&[Some(70_000), Some(61_000), Some(59_000)]), (Ok(()), 2));
        let hot = ConditionError::Hot { celsius: 62.0, limit: 60.0, wait_s: 3 };
        assert_eq!(wait(&[Some(70_000), Some(65_000), Some(63_000), Some(62_000)]), (Err(hot), 3));
        assert_eq!(wait(&[None]), (Err(ConditionError::NoSensor), 0));
    }

    #[test]
    fn memory_is_held_against_the_limit() {
        let memory = Memory { max_session_mb: 100 };
        assert_eq!(check_memory(Some(&memory), Some(100_999_999)), Ok(()));
        assert_eq!(check_memory(Some(&memory), None), Ok(()));
        assert_eq!(check_memory(None, Some(u64::MAX)), Ok(()));
        let error = ConditionError::Memory { held_mb: 101, limit_mb: 100 };
        assert_eq!(check_memory(Some(&memory), Some(101_000_000)), Err(error));
    }

    #[cfg(unix)]
    #[test]
    fn clocks_are_restored_whatever_happens() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let log = folder.path().join("log");
        let shell =
            |script: &str| vec!["sh".to_owned(), "-c".to_owned(), format!("{script} >> '{}'", log.display())];
        let read = || std::fs::read_to_string(&log).unwrap_or_default();
        let mut clocks = Clocks { setup: vec![shell("echo fast")], restore: vec![shell("echo slow")] };
        let fixed = FixedClocks::set(Some(&clocks)).expect("the command runs");
        assert_eq!(read(), "fast\n");
        drop(fixed);
        assert_eq!(read(), "fast\nslow\n");
        clocks.setup.push(vec!["sh".into(), "-c".into(), "echo no right >&2; exit 3".into()]);
        let error = FixedClocks::set(Some(&clocks)).err().expect("a command fails").to_string();
        assert!(error.contains("ended with exit status: 3: no right"), "{error}");
        assert_eq!(read(), "fast\nslow\nfast\nslow\n");
        clocks.setup = vec![vec!["no-such-program".into()]];
        let error = FixedClocks::set(Some(&clocks)).err().expect("there is none").to_string();
        assert!(error.contains("`no-such-program` cannot be started"), "{error}");
    }
}
