//! A target device, described in one YAML file; the file's stem is its name.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::limits::Limits;

/// The only value of `schema` in a platform file.
pub const SCHEMA: &str = "elastic.platform/v1";

/// One target device and how subnets are measured on it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Platform {
    /// The file format: `elastic.platform/v1`.
    pub schema: String,
    /// One line for people.
    pub description: String,
    /// What the device must be; a mismatch is an error.
    #[serde(default)]
    pub identity: Identity,
    /// How the device is reached; left out, it is the machine that `elastic` runs on.
    #[serde(default)]
    pub transport: Transport,
    /// What runs the model.
    pub runtime: Runtime,
    /// Inputs of one run.
    pub batch: usize,
    /// The processor's cores, by number, that a session may run on: the big ones of a processor with two kinds. Left out, the system
    /// chooses. On Linux and Android.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub affinity: Vec<usize>,
    /// How the clocks are fixed while models are measured; left out, they are taken as they are.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub clocks: Option<Clocks>,
    /// How warm the device may be; left out, its temperature is not looked at.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub thermal: Option<Thermal>,
    /// How much memory a session may hold; left out, there is no limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory: Option<Memory>,
    /// What a model may cost here, by quantity: `{latency: 70us, file-size: 300KB}`. They are the budgets of an export that names
    /// no others of these quantities.
    #[serde(default, skip_serializing_if = "Limits::is_empty")]
    pub limits: Limits,
    /// How latency is measured.
    pub measure: Measure,
}

/// What a device must be. Fields that are left out are not checked.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Identity {
    /// The processor's architecture as Rust names it: `x86_64`, `aarch64`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub arch: Option<String>,
    /// The operating system as Rust names it: `linux`, `macos`, `android`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub os: Option<String>,
    /// A part of the processor's or board's model name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub model_contains: Option<String>,
    /// The least number of processor threads.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub min_threads: Option<usize>,
    /// The least memory in megabytes (of 1,000,000 bytes), as the system counts it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub min_memory_mb: Option<u64>,
}

/// Commands that fix the clocks. They run on the device, as the user who measures.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Clocks {
    /// Commands before each session, each as its words; one that fails is an error.
    pub setup: Vec<Vec<String>>,
    /// Commands after each session, also after one that failed.
    pub restore: Vec<Vec<String>>,
}

/// How warm the device may be.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Thermal {
    /// Degrees Celsius of the warmest sensor, at most, when a session begins; it waits until then. A visit that ends warmer than
    /// that by more than `tolerance-celsius` is flagged as slowed.
    pub max_celsius: f64,
    /// Degrees above `max-celsius` that a session may reach.
    pub tolerance_celsius: f64,
    /// Seconds that a session waits for the device to cool down; then it is an error.
    pub wait_s: u64,
}

/// How much memory a session may hold.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Memory {
    /// Megabytes (of 1,000,000 bytes) that a session may have held at its end, with all models loaded; more is an error.
    pub max_session_mb: u64,
}

/// How a device is reached. All but `local` start `elastic agent` on it, at the other end of a pipe.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Transport {
    /// It is this machine.
    #[default]
    Local,
    /// Through `ssh`, with the user's own settings and keys; it must not ask for a password.
    Ssh(Ssh),
    /// Through Android's `adb shell`.
    Adb(Adb),
    /// Through any command whose standard input and output reach an agent.
    Exec(Exec),
}

/// A device that `ssh` reaches.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Ssh {
    /// The host as `ssh` takes it: `pi@raspberrypi.local`, or a name in its settings.
    pub host: String,
    /// Further options of `ssh`, each as one word of the command.
    #[serde(default)]
    pub options: Vec<String>,
    /// The program on the device.
    pub program: String,
    /// Seconds that the models may take to load, or one visit to run, before the device counts as hung.
    pub timeout_s: u64,
}

/// A device that `adb` reaches.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Adb {
    /// The device's serial number, where more than one is connected.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub serial: Option<String>,
    /// The program on the device.
    pub program: String,
    /// Seconds that the models may take to load, or one visit to run, before the device counts as hung.
    pub timeout_s: u64,
}

/// A device that a command reaches.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Exec {
    /// The command and its arguments, for instance `[kubectl, exec, -i, POD, --, elastic, agent]`.
    pub command: Vec<String>,
    /// Seconds that the models may take to load, or one visit to run, before the device counts as hung.
    pub timeout_s: u64,
}

/// What runs the model.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Runtime {
    /// The ONNX Runtime library.
    OnnxRuntime(OnnxRuntime),
    /// tract, in pure Rust, on one thread.
    Tract(Tract),
}

/// How ONNX Runtime is set up.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct OnnxRuntime {
    /// The execution provider that must run the model; never replaced by the CPU in silence.
    pub provider: Provider,
    /// Threads inside one operator.
    pub threads: usize,
    /// How far the graph is optimised when it is loaded.
    pub optimization: Optimization,
    /// Whether idle threads spin; off is steadier on a machine that does other work.
    pub spinning: bool,
    /// The versions of ONNX Runtime that will do, as Cargo writes them: `>=1.24, <2`; left out, any will.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// Whether nodes may run on the CPU that the provider cannot run; left out, none may.
    #[serde(default)]
    pub cpu_fallback: CpuFallback,
    /// Further options of the execution provider, by ONNX Runtime's own names.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub options: BTreeMap<String, String>,
}

/// Whether nodes of a graph may run on the CPU instead of the execution provider.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum CpuFallback {
    /// None; a model of which the provider cannot run all is an error.
    #[default]
    Forbid,
    /// So many nodes of each model, at most. Where they ran is read from ONNX Runtime's own profile.
    MaxNodes(usize),
}

impl OnnxRuntime {
    /// The CPU provider on so many threads, with every optimisation.
    pub fn cpu(threads: usize) -> Self {
        Self {
            provider: Provider::Cpu,
            threads,
            optimization: Optimization::All,
            spinning: false,
            version: None,
            cpu_fallback: CpuFallback::Forbid,
            options: BTreeMap::new(),
        }
    }
}

/// How tract is set up.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Tract {}

/// An execution provider of ONNX Runtime.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Provider {
    /// The default CPU provider.
    Cpu,
    /// NVIDIA CUDA.
    Cuda,
    /// NVIDIA TensorRT.
    Tensorrt,
    /// Intel OpenVINO.
    Openvino,
    /// Apple's Core ML.
    Coreml,
    /// Android's Neural Networks API.
    Nnapi,
    /// XNNPACK, on the processor.
    Xnnpack,
}

/// How far ONNX Runtime optimises a graph when it is loaded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Optimization {
    /// Nothing.
    None,
    /// Only rewrites that keep the operators.
    Basic,
    /// Also fusions.
    Extended,
    /// Also layouts for the processor.
    All,
}

/// How latency is measured.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Measure {
    /// Subnets that `elastic profile` measures unless told otherwise.
    pub subnets: usize,
    /// Processes, one after the other, that measure all subnets, at least.
    pub sessions: usize,
    /// Timed runs of one visit; one more, before them, is discarded.
    pub runs_per_visit: usize,
    /// Timed runs of one subnet in all, at least.
    pub min_samples: usize,
    /// Timed runs of one subnet in all, at most: where `interval-percent` is not reached, the measurement ends here.
    pub max_samples: usize,
    /// How wide the 95 % interval of each subnet's median may be, in percent of it; more sessions follow until it is.
    pub interval_percent: f64,
    /// How much the reference may drift, in percent, between the beginning and the end of a block of visits; a block in
    /// which it drifts more is measured again.
    pub max_drift_percent: f64,
    /// Seconds of rest before each session but the first.
    pub cool_down_s: u64,
    /// Whether the memory of each subnet is measured too, in a process of its own each.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub memory: bool,
}

/// Why a platform is refused.
#[derive(Debug, Error, PartialEq)]
pub enum InvalidPlatform {
    /// Another file format.
    #[error("schema is `{found}`: this version reads `{SCHEMA}`")]
    Schema {
        /// What the file says.
        found: String,
    },
    /// A number is zero.
    #[error("{field} is 0: it must be at least 1")]
    Zero {
        /// The field's name in YAML.
        field: &'static str,
    },
    /// A share makes no sense.
    #[error("{field} is {found}: it must be a number of percent above 0")]
    Percent {
        /// The field's name in YAML.
        field: &'static str,
        /// What was given.
        found: f64,
    },
    /// The most samples are fewer than the least.
    #[error(
        "measure.max-samples is {most}, measure.min-samples is {least}: the first must not be the smaller"
    )]
    Samples {
        /// The most samples.
        most: usize,
        /// The least samples.
        least: usize,
    },
    /// More threads than cores.
    #[error("affinity names {cores} cores for {threads} threads: name as many cores, or use fewer threads")]
    Affinity {
        /// The cores.
        cores: usize,
        /// The runtime's threads.
        threads: usize,
    },
    /// A range of versions that cannot be read.
    #[error("runtime.onnx-runtime.version is `{found}`: {reason}; write it like `>=1.24, <2`")]
    Version {
        /// What was given.
        found: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A temperature makes no sense.
    #[error("{field} is {found}: it must be a number of degrees Celsius, 0 or more")]
    Celsius {
        /// The field's name in YAML.
        field: &'static str,
        /// What was given.
        found: f64,
    },
    /// A name or a command is empty.
    #[error("{field} is empty: {remedy}")]
    Empty {
        /// The field's name in YAML.
        field: &'static str,
        /// What belongs there.
        remedy: &'static str,
    },
    /// A host that `ssh` would take for an option.
    #[error(
        "transport.ssh.host is `{host}`: a host does not begin with a dash; options belong in transport.ssh.options"
    )]
    Host {
        /// What was given.
        host: String,
    },
}

impl Platform {
    /// Checks every rule that the type cannot hold.
    ///
    /// # Errors
    ///
    /// The first rule that is broken.
    pub fn validate(&self) -> Result<(), InvalidPlatform> {
        if self.schema != SCHEMA {
            return Err(InvalidPlatform::Schema { found: self.schema.clone() });
        }
        let threads = match &self.runtime {
            Runtime::OnnxRuntime(settings) => settings.threads,
            Runtime::Tract(_) => 1,
        };
        for (field, value) in [
            ("batch", self.batch),
            ("runtime.onnx-runtime.threads", threads),
            ("measure.subnets", self.measure.subnets),
            ("measure.sessions", self.measure.sessions),
            ("measure.runs-per-visit", self.measure.runs_per_visit),
            ("measure.min-samples", self.measure.min_samples),
        ] {
            if value == 0 {
                return Err(InvalidPlatform::Zero { field });
            }
        }
        for (field, found) in [
            ("measure.interval-percent", self.measure.interval_percent),
            ("measure.max-drift-percent", self.measure.max_drift_percent),
        ] {
            if !(found > 0.0 && found.is_finite()) {
                return Err(InvalidPlatform::Percent { field, found });
            }
        }
        let cores = BTreeSet::from_iter(&self.affinity).len();
        if cores > 0 && cores < threads {
            return Err(InvalidPlatform::Affinity { cores, threads });
        }
        let (most, least) = (self.measure.max_samples, self.measure.min_samples);
        if most < least {
            return Err(InvalidPlatform::Samples { most, least });
        }
        if let Runtime::OnnxRuntime(OnnxRuntime { version: Some(found), .. }) = &self.runtime
            && let Err(error) = semver::VersionReq::parse(found)
        {
            return Err(InvalidPlatform::Version { found: found.clone(), reason: error.to_string() });
        }
        if let Some(thermal) = &self.thermal {
            for (field, found) in [
                ("thermal.max-celsius", thermal.max_celsius),
                ("thermal.tolerance-celsius", thermal.tolerance_celsius),
            ] {
                if !(found >= 0.0 && found.is_finite()) {
                    return Err(InvalidPlatform::Celsius { field, found });
                }
            }
        }
        if let Some(clocks) = &self.clocks {
            for (field, commands) in [("clocks.setup", &clocks.setup), ("clocks.restore", &clocks.restore)] {
                if commands.iter().any(|words| words.first().is_none_or(String::is_empty)) {
                    let remedy = "each command is a list of its words";
                    return Err(InvalidPlatform::Empty { field, remedy });
                }
            }
        }
        self.transport.validate()
    }
}

impl Transport {
    fn validate(&self) -> Result<(), InvalidPlatform> {
        let (timeout, field) = match self {
            Self::Local => return Ok(()),
            Self::Ssh(ssh) => (ssh.timeout_s, "transport.ssh.timeout-s"),
            Self::Adb(adb) => (adb.timeout_s, "transport.adb.timeout-s"),
            Self::Exec(exec) => (exec.timeout_s, "transport.exec.timeout-s"),
        };
        if timeout == 0 {
            return Err(InvalidPlatform::Zero { field });
        }
        let program = "name the program on the device, such as elastic or /usr/local/bin/elastic";
        let (empty, field, remedy) = match self {
            Self::Ssh(ssh) if ssh.host.starts_with('-') => {
                return Err(InvalidPlatform::Host { host: ssh.host.clone() });
            }
            Self::Ssh(ssh) if ssh.host.is_empty() => (true, "transport.ssh.host", "name it as ssh takes it"),
            Self::Ssh(ssh) => (ssh.program.is_empty(), "transport.ssh.program", program),
            Self::Adb(adb) => (adb.program.is_empty(), "transport.adb.program", program),
            Self::Exec(exec) => {
                let empty = exec.command.first().is_none_or(String::is_empty);
                (empty, "transport.exec.command", "list the program and its arguments")
            }
            Self::Local => return Ok(()),
        };
        if empty { Err(InvalidPlatform::Empty { field, remedy }) } else { Ok(()) }
    }

    /// The command that starts an agent, and how long the device may be silent; none where it is this machine.
    pub fn command(&self) -> Option<(Vec<String>, Duration)> {
        let words = |words: &[&str]| words.iter().map(ToString::to_string).collect::<Vec<_>>();
        let (command, timeout) = match self {
            Self::Local => return None,
            Self::Ssh(ssh) => {
                // No question that nobody answers, and no terminal.
                let mut command = words(&["ssh", "-T", "-o", "BatchMode=yes", "-o", "ConnectTimeout=15"]);
                command.extend(ssh.options.iter().cloned());
                command.extend([ssh.host.clone(), format!("{} agent", ssh.program)]);
                (command, ssh.timeout_s)
            }
            Self::Adb(adb) => {
                let mut command = words(&["adb"]);
                command.extend(adb.serial.iter().flat_map(|serial| ["-s".to_owned(), serial.clone()]));
                command.extend([words(&["shell", "-T"]), vec![format!("{} agent", adb.program)]].concat());
                (command, adb.timeout_s)
            }
            Self::Exec(exec) => (exec.command.clone(), exec.timeout_s),
        };
        Some((command, Duration::from_secs(timeout)))
    }
}

impl Provider {
    /// The name that ONNX Runtime uses.
    pub fn onnx_name(self) -> &'static str {
        match self {
            Self::Cpu => "CPUExecutionProvider",
            Self::Cuda => "CUDAExecutionProvider",
            Self::Tensorrt => "TensorrtExecutionProvider",
            Self::Openvino => "OpenVINOExecutionProvider",
            Self::Coreml => "CoreMLExecutionProvider",
            Self::Nnapi => "NnapiExecutionProvider",
            Self::Xnnpack => "XnnpackExecutionProvider",
        }
    }
}

impl Runtime {
    /// The name that tables show: the execution provider, or `tract`.
    pub fn label(&self) -> String {
        match self {
            Self::OnnxRuntime(settings) => format!("{} x{}", settings.provider.onnx_name(), settings.threads),
            Self::Tract(_) => "tract x1".to_owned(),
        }
    }
}
