//! Whether this machine is the device that a platform describes.

use std::fmt;

use elastic_space::Platform;
use elastic_space::platform::Identity;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use sysinfo::{CpuRefreshKind, MemoryRefreshKind, RefreshKind, System};
use thiserror::Error;

/// What can be seen of this machine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Host {
    /// The processor's architecture as Rust names it.
    pub arch: String,
    /// The operating system as Rust names it.
    pub os: String,
    /// The processor's model name, and the board's where a device tree names it.
    pub models: Vec<String>,
    /// Processor threads that this process may use.
    pub threads: usize,
    /// Memory in megabytes (of 1,000,000 bytes), as the system counts it; 0 where it does not say.
    pub memory_mb: u64,
}

/// This machine is not the described device.
#[derive(Debug, Error, PartialEq, Eq)]
#[error(
    "this machine is not the device that the platform describes: {}; run elastic on that device, say with \
     `transport` in the platform file how it is reached from here, or name a platform that fits this machine",
    list(differences)
)]
pub struct IdentityMismatch {
    /// Every field that differs.
    pub differences: Vec<Difference>,
}

/// One field of the identity that differs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Difference {
    /// The field's name in YAML.
    pub field: &'static str,
    /// What the platform asks for.
    pub asked: String,
    /// What this machine has.
    pub here: String,
}

impl Host {
    /// This machine.
    pub fn here() -> Self {
        Self {
            arch: std::env::consts::ARCH.to_owned(),
            os: std::env::consts::OS.to_owned(),
            models: cpu_model().into_iter().chain(board_model()).collect(),
            threads: std::thread::available_parallelism().map_or(1, usize::from),
            memory_mb: memory_mb(),
        }
    }

    /// Compares with a description; letters' case does not matter in model names.
    ///
    /// # Errors
    ///
    /// Every field that differs.
    pub fn check(&self, identity: &Identity) -> Result<(), IdentityMismatch> {
        let mut differences = Vec::new();
        let mut differ = |field, asked: String, here: String| {
            differences.push(Difference { field, asked, here });
        };
        for (field, asked, here) in [("arch", &identity.arch, &self.arch), ("os", &identity.os, &self.os)] {
            if let Some(asked) = asked.as_ref().filter(|&asked| asked != here) {
                differ(field, asked.clone(), here.clone());
            }
        }
        if let Some(part) = &identity.model_contains {
            let lowercase = part.to_lowercase();
            if !self.models.iter().any(|model| model.to_lowercase().contains(&lowercase)) {
                let models = if self.models.is_empty() { "unknown".into() } else { self.models.join(", ") };
                differ("model-contains", part.clone(), models);
            }
        }
        if let Some(least) = identity.min_threads.filter(|&least| least > self.threads) {
            differ("min-threads", least.to_string(), self.threads.to_string());
        }
        if let Some(least) = identity.min_memory_mb.filter(|&least| least > self.memory_mb) {
            differ("min-memory-mb", least.to_string(), self.memory_mb.to_string());
        }
        if differences.is_empty() { Ok(()) } else { Err(IdentityMismatch { differences }) }
    }
}

/// Checks that this machine is the device that `platform` describes.
///
/// # Errors
///
/// Every field that differs, with what was asked, what is here, and the remedy.
pub fn check_identity(platform: &Platform) -> Result<(), IdentityMismatch> {
    Host::here().check(&platform.identity)
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} `{}` is asked, here is `{}`", self.field, self.asked, self.here)
    }
}

fn list(differences: &[Difference]) -> String {
    let texts: Vec<String> = differences.iter().map(ToString::to_string).collect();
    texts.join(", ")
}

fn memory_mb() -> u64 {
    let kind = RefreshKind::nothing().with_memory(MemoryRefreshKind::nothing().with_ram());
    System::new_with_specifics(kind).map_or(0, |system| system.total_memory() / 1_000_000)
}

/// The processor's model name.
pub(crate) fn cpu_model() -> Option<String> {
    let kind = RefreshKind::nothing().with_cpu(CpuRefreshKind::nothing());
    let system = System::new_with_specifics(kind).ok()?;
    let brand = system.cpus().first()?.brand().trim().to_owned();
    (!brand.is_empty()).then_some(brand)
}

/// The board's model name, where the system has a device tree.
fn board_model() -> Option<String> {
    let text = std::fs::read_to_string("/proc/device-tree/model").ok()?;
    let name = text.trim_matches(|c: char| c == '\0' || c.is_whitespace()).to_owned();
    (!name.is_empty()).then_some(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(value: &str) -> Option<String> {
        Some(value.to_owned())
    }

    #[test]
    fn identities_and_a_host() {
        let host = Host {
            arch: "aarch64".into(),
            os: "linux".into(),
            models: vec!["Cortex-A78AE".into(), "NVIDIA Jetson AGX Orin Developer Kit".into()],
            threads: 12,
            memory_mb: 30_600,
        };
        let asked = |arch, os, model_contains, min_threads| Identity {
            arch,
            os,
            model_contains,
            min_threads,
            min_memory_mb: None,
        };
        let memory = |least| Identity { min_memory_mb: Some(least), ..Identity::default() };
        for (identity, differences) in [
            (asked(None, None, None, None), &[][..]),
            (asked(text("aarch64"), text("linux"), text("orin"), Some(12)), &[]),
            (memory(30_600), &[]),
            (memory(60_000), &["min-memory-mb `60000` is asked, here is `30600`"]),
            (asked(text("x86_64"), None, None, None), &["arch `x86_64` is asked, here is `aarch64`"]),
            (asked(None, text("android"), None, None), &["os `android` is asked, here is `linux`"]),
            (
                asked(None, None, text("Xavier"), None),
                &[
                    "model-contains `Xavier` is asked, here is `Cortex-A78AE, NVIDIA Jetson AGX Orin Developer Kit`",
                ],
            ),
            (
                asked(text("x86_64"), None, None, Some(13)),
                &["arch `x86_64` is asked, here is `aarch64`", "min-threads `13` is asked, here is `12`"],
            ),
        ] {
            let found = host.check(&identity).map_or_else(|e| e.differences, |()| Vec::new());
            let found: Vec<String> = found.iter().map(ToString::to_string).collect();
            assert_eq!(found, differences, "{identity:?}");
        }
    }

    #[test]
    fn the_error_names_the_difference_and_the_remedy() {
        let host = Host {
            arch: "x86_64".into(),
            os: "linux".into(),
            models: Vec::new(),
            threads: 2,
            memory_mb: 4000,
        };
        let identity = Identity { model_contains: text("Orin"), min_threads: Some(4), ..Identity::default() };
        let error = host.check(&identity).expect_err("another machine").to_string();
        assert_eq!(
            error,
            "this machine is not the device that the platform describes: model-contains `Orin` is asked, here \
             is `unknown`, min-threads `4` is asked, here is `2`; run elastic on that device, say with `transport` \
             in the platform file how it is reached from here, or name a platform that fits this machine"
        );
    }

    #[test]
    fn this_machine_is_itself() {
        let here = Host::here();
        let identity = Identity {
            arch: Some(here.arch.clone()),
            os: Some(here.os.clone()),
            model_contains: here.models.first().cloned(),
            min_threads: Some(here.threads),
            min_memory_mb: Some(here.memory_mb),
        };
        assert!(here.memory_mb > 0, "{here:?}");
        assert_eq!(here.check(&identity), Ok(()));
        let more = Identity { min_threads: Some(here.threads + 1), ..identity };
        assert!(here.check(&more).is_err(), "{here:?}");
    }
}
