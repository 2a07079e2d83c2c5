//! A target device, described in one YAML file; the file's stem is its name.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use thiserror::Error;

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
    /// What runs the model.
    pub runtime: Runtime,
    /// Inputs of one run.
    pub batch: usize,
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
    /// Timed runs of one visit; one more, before them, is discarded.
    pub runs_per_visit: usize,
    /// Timed runs of one subnet in all, at least.
    pub min_samples: usize,
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
            ("measure.runs-per-visit", self.measure.runs_per_visit),
            ("measure.min-samples", self.measure.min_samples),
        ] {
            if value == 0 {
                return Err(InvalidPlatform::Zero { field });
            }
        }
        Ok(())
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
