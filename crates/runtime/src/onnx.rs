//! Runs a model through the ONNX Runtime library.

pub(crate) mod runner;

use elastic_space::Array;
use elastic_space::platform::{CpuFallback, OnnxRuntime, Optimization, Provider};
use ort::ep;
use ort::session::SessionInputValue;
use ort::session::builder::{GraphOptimizationLevel, SessionBuilder};
use ort::value::{Outlet, TensorElementType, TensorRef, ValueType};

use crate::element::Element;
use crate::library::{self, Library, LibraryError};
use crate::loaded;
use crate::session::{Input, OpenError, RunError, Session, check_inputs};

/// What ONNX Runtime says of a model of which a part would run on the CPU, where that is forbidden: it has no code of its own.
const FORBIDDEN: &str = "fallback to CPU EP has been explicitly disabled";

/// A product of a `[1, 4]` with a `[4, 4]` matrix, in opset 17: some providers only see when they get a model that their device is
/// not there.
const PROBE: &[u8] = include_bytes!("onnx/probe.onnx");

/// A model on one execution provider of ONNX Runtime.
pub(crate) struct OnnxSession {
    session: ort::session::Session,
    inputs: Vec<Input>,
    provider: Provider,
}

impl OnnxSession {
    /// Loads a model so that every node runs on the provider that `settings` name.
    pub(crate) fn open(settings: &OnnxRuntime, model: &[u8]) -> Result<Self, OpenError> {
        let provider = settings.provider;
        let session = commit(builder(settings)?, provider, model)?;
        let inputs =
            session.inputs().iter().map(|input| of(input, Element::is_taken)).collect::<Result<_, _>>()?;
        let float = |output| of(output, |element| element == Element::Float32).map(drop);
        session.outputs().iter().try_for_each(float)?;
        Ok(Self { session, inputs, provider })
    }
}

/// Loads a model with these options.
fn commit(
    mut builder: SessionBuilder,
    provider: Provider,
    model: &[u8],
) -> Result<ort::session::Session, OpenError> {
    builder.commit_from_memory(model).map_err(|error| {
        let reason = error.to_string();
        if reason.contains(FORBIDDEN) {
            return OpenError::Elsewhere { provider: provider.onnx_name() };
        }
        OpenError::Model { runtime: name(provider), reason }
    })
}

impl Session for OnnxSession {
    fn inputs(&self) -> &[Input] {
        &self.inputs
    }

    fn run(&mut self, inputs: &[Array]) -> Result<Vec<Array>, RunError> {
        check_inputs(&self.inputs, inputs)?;
        let failed =
            |error: ort::Error| RunError::Failed { runtime: name(self.provider), reason: error.to_string() };
        let mut values: Vec<SessionInputValue> = Vec::with_capacity(inputs.len());
        for (input, array) in self.inputs.iter().zip(inputs) {
            values.push(match input.element {
                Element::Float32 => {
                    TensorRef::from_array_view((array.shape.as_slice(), array.data.as_slice()))
                        .map_err(failed)?
                        .into()
                }
                other => runner::value(other, array).map_err(failed)?.into(),
            });
        }
        let outputs = self.session.run(values.as_slice()).map_err(failed)?;
        let arrays = outputs.values().map(|value| {
            let (shape, data) = value.try_extract_tensor::<f32>()?;
            // A size of a result is never negative: -1 stands for an open size only in declared types.
            let shape = shape.iter().map(|&size| size as usize).collect();
            Ok(Array { shape, data: data.to_vec() })
        });
        arrays.collect::<ort::Result<_>>().map_err(failed)
    }
}

/// Loads the library, starts the provider and gives it a small model.
pub(crate) fn check(settings: &OnnxRuntime) -> Result<(), OpenError> {
    let library = library::find()?;
    if let Some(asked) = &settings.version {
        let found = library::version(&library)?;
        if !is_within(&found, asked) {
            return Err(OpenError::Version { asked: asked.clone(), library: library.path, found });
        }
    }
    match commit(builder(settings)?, settings.provider, PROBE) {
        // It has started: that a provider is made for other operators says nothing against it.
        Ok(_) | Err(OpenError::Elsewhere { .. }) => Ok(()),
        Err(OpenError::Model { reason, .. }) => Err(OpenError::ProviderFailed {
            provider: settings.provider.onnx_name(),
            library: library.path,
            reason,
        }),
        Err(error) => Err(error),
    }
}

/// Whether a version is within a range; a platform's range has been checked.
fn is_within(found: &str, range: &str) -> bool {
    let range = semver::VersionReq::parse(range);
    let found = semver::Version::parse(found);
    range.is_ok_and(|range| found.is_ok_and(|found| range.matches(&found)))
}

/// `ONNX Runtime` and the version of the library that [`library::find`] gives.
pub(crate) fn version() -> Result<String, OpenError> {
    Ok(format!("ONNX Runtime {}", library::version(&library::find()?)?))
}

/// The session options, with the provider started.
fn builder(settings: &OnnxRuntime) -> Result<SessionBuilder, OpenError> {
    let library = library::find()?;
    let environment = loaded::load(&library)?;
    let setting = |setting: &'static str| {
        move |error: ort::Error<SessionBuilder>| OpenError::Setting { setting, reason: error.to_string() }
    };
    let level = match settings.optimization {
        Optimization::None => GraphOptimizationLevel::Disable,
        Optimization::Basic => GraphOptimizationLevel::Level1,
        Optimization::Extended => GraphOptimizationLevel::Level2,
        Optimization::All => GraphOptimizationLevel::All,
    };
    let builder = SessionBuilder::new(environment)
        .map_err(|error| LibraryError::Load { path: library.path.clone(), reason: error.to_string() })?;
    let builder = builder
        .with_intra_threads(settings.threads)
        .map_err(setting("threads"))?
        .with_inter_threads(1)
        .map_err(setting("threads"))?
        .with_parallel_execution(false)
        .map_err(setting("threads"))?
        .with_optimization_level(level)
        .map_err(setting("optimization"))?
        .with_intra_op_spinning(settings.spinning)
        .map_err(setting("spinning"))?;
    start_provider(builder, environment, settings, &library)
}

/// Registers the one provider that may run the model.
fn start_provider(
    builder: SessionBuilder,
    environment: &ort::environment::Environment,
    settings: &OnnxRuntime,
    library: &Library,
) -> Result<SessionBuilder, OpenError> {
    let provider = settings.provider;
    let offered = loaded::offers(provider)
        .map_err(|error| LibraryError::Load { path: library.path.clone(), reason: error.to_string() })?;
    if !offered {
        return Err(OpenError::ProviderMissing {
            provider: provider.onnx_name(),
            library: library.path.clone(),
            available: library::providers(library)?,
        });
    }
    if provider == Provider::Cpu && !settings.options.is_empty() {
        let reason = "the CPU provider has none".to_owned();
        return Err(OpenError::Setting { setting: "options", reason });
    }
    let started = match provider {
        Provider::Cpu => start_cpu(builder, environment),
        Provider::Cuda => start_device(builder, ep::CUDA::default(), settings),
        Provider::Tensorrt => start_device(builder, ep::TensorRT::default(), settings),
        // OpenVINO has threads of its own, as many as the machine has unless it is told.
        Provider::Openvino => {
            start_device(builder, ep::OpenVINO::default().with_num_threads(settings.threads), settings)
        }
        Provider::Coreml => start_device(builder, ep::CoreML::default(), settings),
        // NNAPI's are flags of a function of its own.
        Provider::Nnapi if !settings.options.is_empty() => {
            let reason = "NNAPI takes none by name".to_owned();
            return Err(OpenError::Setting { setting: "options", reason });
        }
        Provider::Nnapi => add_device(builder, ep::NNAPI::default().build(), settings.cpu_fallback),
        Provider::Xnnpack => start_device(builder, ep::XNNPACK::default(), settings),
    };
    started.map_err(|error| OpenError::ProviderFailed {
        provider: provider.onnx_name(),
        library: library.path.clone(),
        reason: error.to_string(),
    })
}

/// Puts the CPU provider, and nothing else, into the options.
///
/// `ort`'s own `ep::CPU` only switches the memory arena. Without a registered provider the device
/// policy that `ort` sets on every session would choose one, and that need not be the CPU.
fn start_cpu(
    builder: SessionBuilder,
    environment: &ort::environment::Environment,
) -> ort::Result<SessionBuilder> {
    let is_cpu =
        |device: &ort::device::Device| device.ep().is_ok_and(|name| name == Provider::Cpu.onnx_name());
    // An empty list of devices is the same as no list, and leaves the choice to the policy.
    let cpu = environment.devices().find(is_cpu).ok_or_else(|| ort::Error::new("it lists no CPU"))?;
    Ok(builder.with_devices([cpu], None)?)
}

/// Puts another provider into the options, with the platform's options for it.
fn start_device<P>(
    builder: SessionBuilder,
    provider: P,
    settings: &OnnxRuntime,
) -> ort::Result<SessionBuilder>
where
    P: ep::ArbitrarilyConfigurableExecutionProvider + Into<ep::ExecutionProviderDispatch>,
{
    let configured = settings
        .options
        .iter()
        .fold(provider, |provider, (key, value)| provider.with_arbitrary_config(key, value));
    add_device(builder, configured.into(), settings.cpu_fallback)
}

/// Puts another provider into the options. By default `ort` drops one that does not start, and ONNX
/// Runtime gives what a provider cannot run to the CPU: the first is forbidden, and the second unless the platform allows it;
/// then whoever measures counts the nodes.
fn add_device(
    builder: SessionBuilder,
    provider: ep::ExecutionProviderDispatch,
    fallback: CpuFallback,
) -> ort::Result<SessionBuilder> {
    let builder = builder.with_execution_providers([provider.error_on_failure()])?;
    match fallback {
        CpuFallback::Forbid => Ok(builder.with_disable_cpu_fallback()?),
        CpuFallback::MaxNodes(_) => Ok(builder),
    }
}

/// The runtime's name in messages.
fn name(provider: Provider) -> String {
    format!("ONNX Runtime on {}", provider.onnx_name())
}

/// An input or output, if it is a tensor of a type that will do.
fn of(outlet: &Outlet, will_do: impl Fn(Element) -> bool) -> Result<Input, OpenError> {
    match declared(outlet) {
        Some(input) if will_do(input.element) => Ok(input),
        _ => Err(OpenError::NotFloat { name: outlet.name().to_owned(), found: outlet.dtype().to_string() }),
    }
}

/// An input or output, if it is a tensor of numbers or booleans.
fn declared(outlet: &Outlet) -> Option<Input> {
    let ValueType::Tensor { ty, shape, .. } = outlet.dtype() else { return None };
    let element = match ty {
        TensorElementType::Float16 => Element::Float16,
        TensorElementType::Bfloat16 => Element::Bfloat16,
        TensorElementType::Float32 => Element::Float32,
        TensorElementType::Float64 => Element::Float64,
        TensorElementType::Int8 => Element::Int8,
        TensorElementType::Int16 => Element::Int16,
        TensorElementType::Int32 => Element::Int32,
        TensorElementType::Int64 => Element::Int64,
        TensorElementType::Uint8 => Element::Uint8,
        TensorElementType::Uint16 => Element::Uint16,
        TensorElementType::Uint32 => Element::Uint32,
        TensorElementType::Uint64 => Element::Uint64,
        TensorElementType::Bool => Element::Bool,
        _ => return None,
    };
    let sizes = shape.iter().map(|&size| usize::try_from(size).ok()).collect::<Vec<_>>();
    // ONNX Runtime gives a tensor of unknown rank the shape of a scalar; it checks both itself.
    let shape = (!sizes.is_empty()).then_some(sizes);
    Some(Input { name: outlet.name().to_owned(), element, shape })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_held_against_a_range() {
        for (found, range, within) in [
            ("1.24.4", ">=1.24, <2", true),
            ("1.23.9", ">=1.24, <2", false),
            ("2.0.0", ">=1.24, <2", false),
            ("1.24.4", "~1.24.1", true),
            ("1.24.4", "=1.24.4", true),
            ("something", ">=1", false),
        ] {
            assert_eq!(is_within(found, range), within, "{found} in {range}");
        }
    }
}
