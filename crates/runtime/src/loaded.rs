//! The one ONNX Runtime library that this process has loaded.

use std::path::PathBuf;
use std::sync::{Mutex, OnceLock, PoisonError};

use elastic_space::platform::Provider;
use ort::ep::{self, ExecutionProvider};
use ort::logging::LogLevel;

use crate::elf;
use crate::library::{Library, LibraryError};

/// The library and the environment that its sessions live in.
struct Loaded {
    path: PathBuf,
    environment: ort::environment::Environment,
}

// The one exception to "no global state": ONNX Runtime is a C library with a state of its own in the
// process. `ort` keeps the first library that it loads for good and allows one environment, so what
// was loaded must be known to the whole process.
static LOADED: OnceLock<Loaded> = OnceLock::new();

/// Held while a library is loaded, so that two threads do not both try.
static LOADING: Mutex<()> = Mutex::new(());

/// Loads a library, or finds it loaded, and gives its environment.
pub(crate) fn load(library: &Library) -> Result<&'static ort::environment::Environment, LibraryError> {
    let path = std::fs::canonicalize(&library.path)
        .map_err(|reason| LibraryError::Read { path: library.path.clone(), reason })?;
    let _guard = LOADING.lock().unwrap_or_else(PoisonError::into_inner);
    let loaded = match LOADED.get() {
        Some(loaded) => loaded,
        None => {
            let environment = initialise(&path)?;
            LOADED.get_or_init(|| Loaded { path: path.clone(), environment })
        }
    };
    if loaded.path != path {
        return Err(LibraryError::AnotherLoaded { path, loaded: loaded.path.clone() });
    }
    Ok(&loaded.environment)
}

/// Whether the loaded library was built with a provider.
pub(crate) fn offers(provider: Provider) -> ort::Result<bool> {
    match provider {
        Provider::Cpu => ep::CPU::is_available(),
        Provider::Cuda => ep::CUDA::is_available(),
        Provider::Tensorrt => ep::TensorRT::is_available(),
        Provider::Openvino => ep::OpenVINO::is_available(),
        Provider::Coreml => ep::CoreML::is_available(),
        Provider::Nnapi => ep::NNAPI::is_available(),
        Provider::Xnnpack => ep::XNNPACK::is_available(),
    }
}

fn initialise(path: &std::path::Path) -> Result<ort::environment::Environment, LibraryError> {
    let missing =
        elf::missing_bytes(path).map_err(|reason| LibraryError::Read { path: path.to_owned(), reason })?;
    if missing > 0 {
        let reason = format!("the file is cut off, {missing} bytes of it are missing");
        return Err(LibraryError::Load { path: path.to_owned(), reason });
    }
    let builder = ort::init_from(path).map_err(|error| match error {
        ort::LoadDynamicError::BadVersion { version_str, path } => {
            LibraryError::TooOld { path, found: version_str }
        }
        other => LibraryError::Load { path: path.to_owned(), reason: reason(&other) },
    })?;
    let environment = builder
        .with_name("elastic")
        .with_telemetry(false)
        .build()
        .map_err(|error| LibraryError::Load { path: path.to_owned(), reason: error.to_string() })?;
    // ONNX Runtime also prints every error that it returns, through any progress bar; who wants that
    // sets the variable by which `ort` chooses its log level.
    if std::env::var_os("ORT_LOG").is_none() {
        environment.set_log_level(LogLevel::Fatal);
    }
    Ok(environment)
}

/// What went wrong, without the path that the error around it names already.
fn reason(error: &ort::LoadDynamicError) -> String {
    match error {
        // The error itself says no more than that it failed.
        ort::LoadDynamicError::Dlopen { error, .. } => {
            std::error::Error::source(error).map_or_else(|| error.to_string(), ToString::to_string)
        }
        ort::LoadDynamicError::MissingApi { .. } => "it does not export OrtGetApiBase".to_owned(),
        other => other.to_string(),
    }
}
