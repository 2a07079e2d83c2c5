//! Measures models on the device that a platform describes: here, in a process of its own, or far away.

use std::path::Path;

use elastic_runtime::{NodeTime, NodesError, OpenError, node_times, peak_memory};
use elastic_space::Seed;
use elastic_space::platform::{CpuFallback, Measure, OnnxRuntime, Platform, Provider, Runtime, Transport};
use thiserror::Error;

use crate::agent::protocol::FailureKind;
use crate::agent::{RemoteError, check_remote, measure_remote};
use crate::conditions::{ConditionError, check_memory};
use crate::environment::Environment;
use crate::identity::{Host, IdentityMismatch, check_identity};
use crate::inputs::{GivenInput, Shapes, random_values};
use crate::local::{LocalDevice, OpenDeviceError, Startup};
use crate::measure::{MeasureError, measure_rounds};
use crate::summary::{Course, Measurement, summarise};

/// Runs in which nodes are timed one by one.
const NODE_RUNS: usize = 20;

/// Models that were measured on a device.
#[derive(Debug, Clone, PartialEq)]
pub struct Measured {
    /// The circumstances.
    pub environment: Environment,
    /// What each model needed before its steady state.
    pub startups: Vec<Startup>,
    /// The inputs of each model's runs.
    pub inputs: Vec<Vec<GivenInput>>,
    /// How it went.
    pub course: Course,
    /// The latency of each model; the first is the reference.
    pub measurements: Vec<Measurement>,
    /// The nodes of each model of [`Task::nodes_of`]; none where the runtime does not time them.
    pub nodes: Vec<Vec<NodeTime>>,
}

/// Models to measure.
#[derive(Debug, Clone, Copy)]
pub struct Task<'a> {
    /// The ONNX files; the first is the reference.
    pub models: &'a [&'a [u8]],
    /// Sizes of inputs that the graphs leave open.
    pub shapes: &'a Shapes,
    /// The seed of inputs and order.
    pub seed: Seed,
    /// The models, by their place in `models`, whose nodes are timed one by one after the rounds.
    pub nodes_of: &'a [usize],
    /// The program `elastic`: on this machine each session is a process of it. Without it all sessions are in this process,
    /// which is not a fresh one.
    pub program: Option<&'a Path>,
}

/// Why models were not measured.
#[derive(Debug, Error)]
pub enum NotMeasured {
    /// This machine is another device.
    #[error(transparent)]
    Identity(#[from] IdentityMismatch),
    /// The runtime or its execution provider is missing.
    #[error(transparent)]
    Runtime(OpenError),
    /// A model cannot be loaded.
    #[error(transparent)]
    Open(#[from] OpenDeviceError),
    /// A run failed.
    #[error(transparent)]
    Measure(#[from] MeasureError),
    /// The nodes of a model were not timed.
    #[error(transparent)]
    Nodes(#[from] NodesError),
    /// A part of a model ran elsewhere.
    #[error(
        "node `{node}` ({operator}) ran on {found}, the platform asks for {asked}: its latency would be another device's; \
         name the provider that runs all of the model, or export another form of it"
    )]
    OtherProvider {
        /// The node.
        node: String,
        /// Its operator.
        operator: String,
        /// What ran it.
        found: String,
        /// What the platform names.
        asked: &'static str,
    },
    /// The platform's conditions do not hold.
    #[error(transparent)]
    Condition(#[from] ConditionError),
    /// More of a model ran on the CPU than the platform allows.
    #[error(
        "{found} nodes ran on CPUExecutionProvider, for instance `{node}` ({operator}); the platform allows {allowed} beside {asked}: \
         its latency would be another device's"
    )]
    Fallback {
        /// Nodes on the CPU.
        found: usize,
        /// The first of them.
        node: String,
        /// Its operator.
        operator: String,
        /// Nodes that may run there.
        allowed: usize,
        /// What the platform names.
        asked: &'static str,
    },
    /// It cannot be found out whether this device measures already.
    #[error("lock the file that says that this device measures: {0}; name another one with --lease")]
    Lease(std::io::Error),
    /// A session in a process of its own, here or on a remote device, did not measure.
    #[error(transparent)]
    Remote(#[from] RemoteError),
}

impl NotMeasured {
    /// Whether the described device is not there: another machine, one that cannot be reached, or a runtime or
    /// provider that is missing.
    pub fn is_device_missing(&self) -> bool {
        match self {
            Self::Identity(_) | Self::Runtime(_) => true,
            Self::Remote(RemoteError::Refused { kind, .. }) => {
                matches!(kind, FailureKind::Identity | FailureKind::Runtime)
            }
            Self::Remote(error) => !error.is_here(),
            Self::Condition(_)
            | Self::Fallback { .. }
            | Self::Lease(_)
            | Self::Open(_)
            | Self::Measure(_)
            | Self::Nodes(_)
            | Self::OtherProvider { .. } => false,
        }
    }

    /// Whether the device is there, but cannot load or run a model, or not all of it on the provider.
    pub fn is_model_refused(&self) -> bool {
        match self {
            Self::Open(_) | Self::OtherProvider { .. } | Self::Fallback { .. } => true,
            Self::Remote(RemoteError::Refused { kind, .. }) => {
                matches!(kind, FailureKind::Model | FailureKind::Provider)
            }
            _ => false,
        }
    }
}

/// Measures models on the device that a platform describes, interleaved. `progress` hears how many of how many visits
/// are done.
///
/// # Errors
///
/// [`NotMeasured`]; if the device is not the one that `platform` describes, nothing was run.
pub fn measure_on(
    platform: &Platform,
    task: &Task<'_>,
    progress: &mut dyn FnMut(usize, usize),
) -> Result<Measured, NotMeasured> {
    if platform.transport != Transport::Local || task.program.is_some() {
        let program = task.program.filter(|_| platform.transport == Transport::Local);
        return Ok(measure_remote(platform, &Task { program, ..*task }, progress)?);
    }
    let (mut environment, mut device) = open_here(platform, task)?;
    check_fallback(platform, task, device.inputs())?;
    let (rounds, warm_ups) =
        measure_rounds(&mut device, task.models.len(), &platform.measure, task.seed, progress)?;
    let nodes = task.nodes_of.iter().map(|&model| nodes_here(platform, task, model, &device.inputs()[model]));
    let nodes = nodes.collect::<Result<_, _>>()?;
    environment.finish();
    let (startups, inputs) = (device.startups().to_vec(), device.inputs().to_vec());
    let held = peak_memory();
    check_memory(platform.memory.as_ref(), held)?;
    let course = Course::new(&rounds, &warm_ups, held);
    Ok(Measured { environment, startups, inputs, course, measurements: summarise(&rounds), nodes })
}

/// Loads and runs one of a task's models in a session of its own: whether the device takes it, and what it needs.
///
/// # Errors
///
/// [`NotMeasured`]
pub fn measure_alone(platform: &Platform, task: &Task<'_>, model: usize) -> Result<Measured, NotMeasured> {
    let plan = &platform.measure;
    let once = Measure {
        sessions: 1,
        runs_per_visit: 1,
        min_samples: 1,
        max_samples: 1,
        cool_down_s: 0,
        ..plan.clone()
    };
    let platform = Platform { measure: once, ..platform.clone() };
    let alone = Task { models: &task.models[model..=model], nodes_of: &[], ..*task };
    measure_on(&platform, &alone, &mut |_, _| ())
}

/// The memory of each model of a task, where the platform asks for it; `progress` hears how many of how many are done.
///
/// # Errors
///
/// [`NotMeasured`]
pub(crate) fn memory_of_each(
    platform: &Platform,
    task: &Task<'_>,
    progress: &mut dyn FnMut(usize, usize),
) -> Result<Vec<Option<u64>>, NotMeasured> {
    let count = task.models.len();
    if !platform.measure.memory {
        return Ok(vec![None; count]);
    }
    let memory = |model: usize| {
        progress(model, count);
        Ok(measure_alone(platform, task, model)?.course.peak_memory_bytes)
    };
    (0..count).map(memory).collect()
}

/// Checks that the device is the one that the platform describes and that its runtime starts; returns who it is, and the
/// runtime's name and version.
///
/// # Errors
///
/// [`NotMeasured`] with what differs, or what is missing.
pub fn check_device(platform: &Platform) -> Result<(Host, String), NotMeasured> {
    if platform.transport == Transport::Local {
        Ok((Host::here(), check_here(platform)?))
    } else {
        Ok(check_remote(platform)?)
    }
}

/// [`check_device`] for this machine, however the platform says that it is reached.
pub(crate) fn check_here(platform: &Platform) -> Result<String, NotMeasured> {
    check_identity(platform)?;
    elastic_runtime::check(&platform.runtime).map_err(NotMeasured::Runtime)?;
    elastic_runtime::runtime_version(&platform.runtime).map_err(NotMeasured::Runtime)
}

/// Every model loaded on this machine, however the platform says that it is reached.
pub(crate) fn open_here(
    platform: &Platform,
    task: &Task<'_>,
) -> Result<(Environment, LocalDevice), NotMeasured> {
    let version = check_here(platform)?;
    let library = match platform.runtime {
        Runtime::OnnxRuntime(_) => elastic_runtime::library::find().ok().map(|library| library.path),
        Runtime::Tract(_) => None,
    };
    let environment = Environment::capture(platform, version, library);
    Ok((environment, LocalDevice::open(platform, task.models, task.shapes, task.seed)?))
}

/// The nodes of one model of a task, timed on this machine, all where the platform wants them.
pub(crate) fn nodes_here(
    platform: &Platform,
    task: &Task<'_>,
    model: usize,
    inputs: &[GivenInput],
) -> Result<Vec<NodeTime>, NotMeasured> {
    let Runtime::OnnxRuntime(settings) = &platform.runtime else { return Ok(Vec::new()) };
    let values = random_values(inputs, task.seed);
    let nodes = node_times(settings, task.models[model], &values, NODE_RUNS)?;
    check_placement(settings, &nodes)?;
    Ok(nodes)
}

/// Checks where every model runs, before anything is measured. Where no node may run elsewhere the runtime itself refuses
/// such a model when it is loaded.
pub(crate) fn check_fallback(
    platform: &Platform,
    task: &Task<'_>,
    inputs: &[Vec<GivenInput>],
) -> Result<(), NotMeasured> {
    let Runtime::OnnxRuntime(settings) = &platform.runtime else { return Ok(()) };
    if settings.cpu_fallback == CpuFallback::Forbid {
        return Ok(());
    }
    for (model, inputs) in task.models.iter().zip(inputs) {
        check_placement(settings, &node_times(settings, model, &random_values(inputs, task.seed), 1)?)?;
    }
    Ok(())
}

fn check_placement(settings: &OnnxRuntime, nodes: &[NodeTime]) -> Result<(), NotMeasured> {
    let asked = settings.provider.onnx_name();
    let cpu = Provider::Cpu.onnx_name();
    let elsewhere = || nodes.iter().filter(|node| node.provider != asked);
    let Some(first) = elsewhere().next() else { return Ok(()) };
    let CpuFallback::MaxNodes(allowed) = settings.cpu_fallback else {
        return Err(other_provider(first, asked));
    };
    if let Some(node) = elsewhere().find(|node| node.provider != cpu) {
        return Err(other_provider(node, asked));
    }
    let found = elsewhere().count();
    if found <= allowed {
        return Ok(());
    }
    let (node, operator) = (first.name.clone(), first.operator.clone());
    Err(NotMeasured::Fallback { found, node, operator, allowed, asked })
}

fn other_provider(node: &NodeTime, asked: &'static str) -> NotMeasured {
    NotMeasured::OtherProvider {
        node: node.name.clone(),
        operator: node.operator.clone(),
        found: node.provider.clone(),
        asked,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nodes_run_where_the_platform_wants_them() {
        let nodes = |providers: &[Provider]| -> Vec<NodeTime> {
            let node = |(index, provider): (usize, &Provider)| NodeTime {
                name: format!("n{index}"),
                operator: "Gemm".into(),
                provider: provider.onnx_name().into(),
                median_us: 1.0,
            };
            providers.iter().enumerate().map(node).collect()
        };
        let (cuda, cpu, openvino) = (Provider::Cuda, Provider::Cpu, Provider::Openvino);
        for (fallback, providers, expected) in [
            (CpuFallback::Forbid, &[cuda, cuda][..], ""),
            (CpuFallback::Forbid, &[cuda, cpu], "node `n1` (Gemm) ran on CPUExecutionProvider"),
            (CpuFallback::MaxNodes(1), &[cuda, cpu], ""),
            (
                CpuFallback::MaxNodes(1),
                &[cpu, cuda, cpu],
                "2 nodes ran on CPUExecutionProvider, for instance `n0`",
            ),
            (
                CpuFallback::MaxNodes(5),
                &[cuda, openvino],
                "node `n1` (Gemm) ran on OpenVINOExecutionProvider",
            ),
        ] {
            let settings = OnnxRuntime { provider: cuda, cpu_fallback: fallback, ..OnnxRuntime::cpu(1) };
            let found = check_placement(&settings, &nodes(providers)).err().map(|error| error.to_string());
            let found = found.unwrap_or_default();
            assert_eq!(found.is_empty(), expected.is_empty(), "{fallback:?} {providers:?}: {found}");
            assert!(found.contains(expected), "{fallback:?} {providers:?}: {found}");
        }
    }
}
