//! `elastic platform`

use clap::{Args, Subcommand};
use elastic_profiler::{Host, check_device};
use elastic_space::Limits;
use schemars::JsonSchema;
use serde::Serialize;

use crate::platforms::{self, NamedPlatform};
use crate::table::{self, Format};

/// Look at platform files.
#[derive(Debug, Subcommand)]
pub(crate) enum Platform {
    Check(Check),
}

/// Check a platform file, and that its device is there and can measure.
///
/// The file is read, the device is reached as it says, its identity is held against the file, and the runtime is
/// started on it; its limits are listed. Nothing is measured. Exit code 4: the device is another one, or cannot be reached.
#[derive(Debug, Args)]
pub(crate) struct Check {
    /// Platform file: looked for here, then in platforms/.
    platform: String,
}

/// What was found.
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub(super) struct Found {
    platform: String,
    description: String,
    runtime: String,
    device: Host,
    /// What a model may cost, by quantity.
    limits: Limits,
}

impl Platform {
    pub(crate) fn run(self, format: Format) -> anyhow::Result<()> {
        let Self::Check(Check { platform }) = self;
        let NamedPlatform { name, platform } = platforms::read(&platform)?;
        let (device, runtime) = check_device(&platform)?;
        let (description, limits) = (platform.description.clone(), platform.limits.clone());
        let found = Found { platform: name, description, runtime, device, limits };
        match format {
            Format::Json => table::print_json(&found),
            Format::Table => {
                let Found { platform: name, description, runtime, device, limits } = found;
                let models =
                    if device.models.is_empty() { "unnamed".to_owned() } else { device.models.join(", ") };
                println!("{name}: {description}");
                println!(
                    "device: {models}, {} threads, {} MB of memory, {} {}",
                    device.threads, device.memory_mb, device.os, device.arch
                );
                println!("runtime: {runtime}, {}", platform.runtime.label());
                let limits: Vec<String> = limits.0.values().map(ToString::to_string).collect();
                if !limits.is_empty() {
                    println!("limits: {}", limits.join(", "));
                }
                Ok(())
            }
        }
    }
}
