//! What the processor says of itself around a visit: frequency, throttling, energy; and the memory of this process.

use std::path::{Path, PathBuf};

/// A clock below this share of the fastest that was seen has been slowed down.
pub(crate) const SLOWED_BELOW: f64 = 0.9;

/// Readings at one moment; absent where the system has none, or keeps them from this user.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Vitals {
    /// The fastest core's frequency.
    pub frequency_khz: Option<u64>,
    /// How often cores have been slowed down because of heat, since the system started.
    pub throttles: Option<u64>,
    /// The energy that the processors have used, in microjoules since some moment (Intel's RAPL, which AMD has too).
    pub energy_uj: Option<u64>,
    /// The temperature of the warmest sensor, where the platform limits it.
    pub millicelsius: Option<u64>,
}

/// Where vitals are read: the files of Linux's `/sys`.
#[derive(Debug, Clone)]
pub(crate) struct Sensors {
    frequencies: Vec<PathBuf>,
    throttles: Vec<PathBuf>,
    energies: Vec<PathBuf>,
    temperatures: Vec<PathBuf>,
}

impl Sensors {
    /// Those of this machine; temperatures only where they are asked for, since on some boards it takes long to read them.
    pub(crate) fn here(with_temperatures: bool) -> Self {
        let all = Self::below(Path::new("/sys"));
        if with_temperatures { all } else { Self { temperatures: Vec::new(), ..all } }
    }

    /// Those that can be read below a folder.
    fn below(root: &Path) -> Self {
        let readable = |folder: &str, prefix: &str, file: &str| {
            let entries = std::fs::read_dir(root.join(folder)).into_iter().flatten().flatten();
            let mut found: Vec<PathBuf> = entries
                .filter(|entry| {
                    let name = entry.file_name();
                    let number = name.to_str().and_then(|name| name.strip_prefix(prefix));
                    // `intel-rapl:0` is a processor, `intel-rapl:0:1` a part of it.
                    number.is_some_and(|number| number.parse::<u32>().is_ok())
                })
                .map(|entry| entry.path().join(file))
                .filter(|path| read(path).is_some())
                .collect();
            found.sort();
            found
        };
        let cpus = "devices/system/cpu";
        Self {
            frequencies: readable(cpus, "cpu", "cpufreq/scaling_cur_freq"),
            throttles: readable(cpus, "cpu", "thermal_throttle/core_throttle_count"),
            temperatures: readable("class/thermal", "thermal_zone", "temp"),
            energies: readable("class/powercap", "intel-rapl:", "energy_uj"),
        }
    }

    pub(crate) fn read(&self) -> Vitals {
        let all = |paths: &[PathBuf]| paths.iter().map(|path| read(path)).collect::<Option<Vec<u64>>>();
        let sum = |paths: &[PathBuf]| all(paths).filter(|all| !all.is_empty()).map(|all| all.iter().sum());
        Vitals {
            frequency_khz: all(&self.frequencies).and_then(|all| all.into_iter().max()),
            throttles: sum(&self.throttles),
            energy_uj: sum(&self.energies),
            millicelsius: all(&self.temperatures).and_then(|all| all.into_iter().max()),
        }
    }
}

fn read(path: &Path) -> Option<u64> {
    std::fs::read_to_string(path).ok()?.trim().parse().ok()
}

/// The most memory that this process has held, in bytes.
#[cfg(unix)]
pub(crate) fn peak_memory() -> Option<u64> {
    use nix::sys::resource::{UsageWho, getrusage};
    let size = u64::try_from(getrusage(UsageWho::RUSAGE_SELF).ok()?.max_rss()).ok()?;
    // Apple counts bytes, the others kilobytes.
    Some(if cfg!(target_vendor = "apple") { size } else { size * 1024 })
}

/// Other systems are not asked.
#[cfg(not(unix))]
pub(crate) fn peak_memory() -> Option<u64> {
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn readings_of_a_made_up_machine() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        assert_eq!(Sensors::below(folder.path()).read(), Vitals::default());
        let write = |path: &str, text: &str| {
            let path = folder.path().join(path);
            std::fs::create_dir_all(path.parent().expect("a folder")).expect("folders");
            std::fs::write(path, text).expect("a file");
        };
        for (cpu, khz, throttles) in [(0, "1800000\n", "2\n"), (1, "3600000\n", "3\n")] {
            write(&format!("devices/system/cpu/cpu{cpu}/cpufreq/scaling_cur_freq"), khz);
            write(&format!("devices/system/cpu/cpu{cpu}/thermal_throttle/core_throttle_count"), throttles);
        }
        write("devices/system/cpu/cpufreq/scaling_cur_freq", "9");
        for (zone, energy) in [("0", "100\n"), ("0:1", "40\n"), ("1", "7\n")] {
            write(&format!("class/powercap/intel-rapl:{zone}/energy_uj"), energy);
        }
        for (zone, millicelsius) in [(0, "41000\n"), (1, "52500\n")] {
            write(&format!("class/thermal/thermal_zone{zone}/temp"), millicelsius);
        }
        let vitals = Vitals {
            frequency_khz: Some(3_600_000),
            throttles: Some(5),
            energy_uj: Some(107),
            millicelsius: Some(52_500),
        };
        assert_eq!(Sensors::below(folder.path()).read(), vitals);
    }

    #[test]
    fn this_process_has_held_memory() {
        assert!(peak_memory().is_some_and(|bytes| bytes > 1_000_000), "{:?}", peak_memory());
    }
}
