//! What the processor says of itself around a visit: frequency, throttling, energy.

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
    /// What the board draws at its input, in microwatts (the INA3221 of NVIDIA's Jetson boards).
    pub power_uw: Option<u64>,
    /// The temperature of the warmest sensor, where the platform limits it.
    pub millicelsius: Option<u64>,
}

impl Vitals {
    /// The energy used from one reading to another that came so many microseconds later, in microjoules: by the meter where there
    /// is one, else by the mean of the power at both ends.
    pub(crate) fn energy_until(&self, later: &Self, wall_us: f64) -> Option<f64> {
        // A meter that begins anew in between tells nothing.
        let counted =
            self.energy_uj.zip(later.energy_uj).map(|(from, to)| Some(to.checked_sub(from)? as f64));
        let drawn = || Some((self.power_uw? as f64 + later.power_uw? as f64) / 2.0 * wall_us / 1e6);
        counted.unwrap_or_else(drawn)
    }
}

/// Labels of the channel that measures a board's whole input; others measure a part of it, or overlap.
const BOARD_INPUTS: [&str; 2] = ["VDD_IN", "POM_5V_IN"];

/// Where vitals are read: the files of Linux's `/sys`.
#[derive(Debug, Clone)]
pub(crate) struct Sensors {
    frequencies: Vec<PathBuf>,
    throttles: Vec<PathBuf>,
    energies: Vec<PathBuf>,
    /// The board's input in millivolts and in milliamperes.
    power: Option<[PathBuf; 2]>,
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
            power: board_input(&root.join("class/hwmon")),
        }
    }

    pub(crate) fn read(&self) -> Vitals {
        let all = |paths: &[PathBuf]| paths.iter().map(|path| read(path)).collect::<Option<Vec<u64>>>();
        let sum = |paths: &[PathBuf]| all(paths).filter(|all| !all.is_empty()).map(|all| all.iter().sum());
        Vitals {
            frequency_khz: all(&self.frequencies).and_then(|all| all.into_iter().max()),
            throttles: sum(&self.throttles),
            energy_uj: sum(&self.energies),
            power_uw: self.power.as_ref().and_then(|[volts, amperes]| Some(read(volts)? * read(amperes)?)),
            millicelsius: all(&self.temperatures).and_then(|all| all.into_iter().max()),
        }
    }
}

/// The files of the channel that measures the board's input, if it has one.
fn board_input(folder: &Path) -> Option<[PathBuf; 2]> {
    let text = |path: PathBuf| std::fs::read_to_string(path).unwrap_or_default().trim().to_owned();
    let monitors = std::fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path());
    let monitors = monitors.filter(|monitor| text(monitor.join("name")) == "ina3221");
    let mut channels = monitors.flat_map(|monitor| (1..=3).map(move |channel| (monitor.clone(), channel)));
    channels.find_map(|(monitor, channel)| {
        let label = text(monitor.join(format!("in{channel}_label")));
        let files = ["in", "curr"].map(|kind| monitor.join(format!("{kind}{channel}_input")));
        let readable = files.iter().all(|file| read(file).is_some());
        (BOARD_INPUTS.contains(&&label[..]) && readable).then_some(files)
    })
}

fn read(path: &Path) -> Option<u64> {
    std::fs::read_to_string(path).ok()?.trim().parse().ok()
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
        for (channel, label, millivolts, milliamperes) in
            [(1, "VDD_CPU_GPU_CV", 5000, 100), (2, "VDD_IN", 5000, 1200)]
        {
            let monitor = "class/hwmon/hwmon3";
            write(&format!("{monitor}/name"), "ina3221\n");
            write(&format!("{monitor}/in{channel}_label"), &format!("{label}\n"));
            write(&format!("{monitor}/in{channel}_input"), &format!("{millivolts}\n"));
            write(&format!("{monitor}/curr{channel}_input"), &format!("{milliamperes}\n"));
        }
        write("class/hwmon/hwmon0/name", "nvme\n");
        let vitals = Vitals {
            frequency_khz: Some(3_600_000),
            throttles: Some(5),
            energy_uj: Some(107),
            power_uw: Some(6_000_000),
            millicelsius: Some(52_500),
        };
        assert_eq!(Sensors::below(folder.path()).read(), vitals);
    }

    #[test]
    fn energy_by_a_meter_and_by_power() {
        let with = |energy_uj, power_uw| Vitals { energy_uj, power_uw, ..Vitals::default() };
        for (before, after, expected) in [
            (with(Some(100), None), with(Some(140), None), Some(40.0)),
            // The meter counts, whatever power says; one that began anew says nothing.
            (with(Some(100), Some(1)), with(Some(140), Some(1)), Some(40.0)),
            (with(Some(100), Some(1)), with(Some(90), Some(1)), None),
            // 5 W in the mean for 2 ms are 10 mJ.
            (with(None, Some(4_000_000)), with(None, Some(6_000_000)), Some(10_000.0)),
            (with(None, Some(4_000_000)), with(None, None), None),
        ] {
            assert_eq!(before.energy_until(&after, 2000.0), expected, "{before:?} {after:?}");
        }
    }
}
