//! The circumstances of a measurement.

use std::path::PathBuf;
use std::time::{SystemTime, UNIX_EPOCH};

use elastic_space::platform::{Platform, Runtime};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use sysinfo::System;

use crate::identity::{Host, cpu_model};

/// What a latency depends on besides the model.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Environment {
    /// The processor's model name.
    pub cpu_model: Option<String>,
    /// The processor's architecture as Rust names it.
    pub arch: String,
    /// The operating system as Rust names it.
    pub os: String,
    /// The kernel's version.
    pub kernel: Option<String>,
    /// Processor threads that this process may use.
    pub cores: usize,
    /// Name and version of what ran the models.
    pub runtime_version: String,
    /// The library that ran the models, if it was loaded from a file.
    pub library_path: Option<PathBuf>,
    /// The execution provider, or `tract`.
    pub provider: String,
    /// Threads inside one operator.
    pub threads: usize,
    /// The machine's load, averaged over a minute, before the first run; absent where the system has none.
    pub load_before: Option<f64>,
    /// The same after the last run.
    pub load_after: Option<f64>,
    /// When it began, RFC 3339 in UTC.
    pub time: String,
    /// The version of elastic.
    pub elastic_version: String,
}

impl Environment {
    /// Captures this machine before the first run; `load_after` is set by [`Self::finish`].
    pub fn capture(platform: &Platform, runtime_version: String, library_path: Option<PathBuf>) -> Self {
        let host = Host::here();
        let (provider, threads) = match &platform.runtime {
            Runtime::OnnxRuntime(settings) => (settings.provider.onnx_name(), settings.threads),
            Runtime::Tract(_) => ("tract", 1),
        };
        Self {
            cpu_model: cpu_model(),
            arch: host.arch,
            os: host.os,
            kernel: System::kernel_version().ok(),
            cores: host.threads,
            runtime_version,
            library_path,
            provider: provider.to_owned(),
            threads,
            load_before: load(),
            load_after: None,
            time: rfc3339(SystemTime::now()),
            elastic_version: env!("CARGO_PKG_VERSION").to_owned(),
        }
    }

    /// Adds the load after the last run.
    pub fn finish(&mut self) {
        self.load_after = load();
    }
}

fn load() -> Option<f64> {
    System::load_average().ok().map(|load| load.one)
}

/// `2026-11-23T18:48:05Z`; a clock before 1970 counts as 1970.
fn rfc3339(time: SystemTime) -> String {
    let seconds = time.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    let (year, month, day) = civil(seconds / 86_400);
    let of_day = seconds % 86_400;
    let (hour, minute, second) = (of_day / 3600, of_day / 60 % 60, of_day % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z")
}

/// Year, month and day of a day since 1970-01-01, by
/// [Hinnant's algorithm](https://howardhinnant.github.io/date_algorithms.html#civil_from_days):
/// years begin in March, so that the leap day is the last.
fn civil(days: u64) -> (u64, u64, u64) {
    let days = days + 719_468;
    let (era, of_era) = (days / 146_097, days % 146_097);
    let year = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let from_march = (5 * of_year + 2) / 153;
    let day = of_year - (153 * from_march + 2) / 5 + 1;
    let month = if from_march < 10 { from_march + 3 } else { from_march - 9 };
    (era * 400 + year + u64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn times_as_text() {
        // Expected texts from GNU date -u -d @SECONDS.
        for (seconds, expected) in [
            (0, "1970-01-01T00:00:00Z"),
            (951_782_400, "2000-02-29T00:00:00Z"),
            (951_868_799, "2000-02-29T23:59:59Z"),
            (1_709_164_800, "2024-02-29T00:00:00Z"),
            (1_735_689_599, "2024-12-31T23:59:59Z"),
            (4_107_542_400, "2100-03-01T00:00:00Z"),
        ] {
            assert_eq!(rfc3339(UNIX_EPOCH + Duration::from_secs(seconds)), expected, "{seconds}");
        }
    }
}
