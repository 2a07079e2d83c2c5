//! Finds the ONNX Runtime library, and says its version and the execution providers it offers.

use std::env::consts;
use std::fmt;
use std::path::{Path, PathBuf};

use elastic_space::platform::Provider;
use thiserror::Error;

use crate::environment::{CACHE_VARIABLE, Environment, LIBRARY_VARIABLE, ORT_VARIABLE};
use crate::loaded;
use crate::version;

/// The version of ONNX Runtime that `elastic runtime install` gets.
pub const PINNED_VERSION: &str = "1.24.4";

/// The least minor version `N` of ONNX Runtime `1.N` that can be used.
pub const LEAST_MINOR: u32 = ort::MINOR_VERSION;

/// An ONNX Runtime library file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Library {
    /// The file.
    pub path: PathBuf,
    /// How it was found.
    pub origin: Origin,
}

/// Why a library is looked for in a place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// The environment variable of this name holds the path.
    Variable(&'static str),
    /// `elastic runtime install` puts it there.
    Cache,
    /// It lies beside the running program.
    Executable,
    /// The system keeps libraries there.
    System,
}

/// One place that is looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Candidate {
    /// Why it is looked at.
    pub origin: Origin,
    /// The library there, or where it would be.
    pub path: PathBuf,
    /// Whether a file is there.
    pub present: bool,
}

/// Why no library can be used.
#[derive(Debug, Error)]
pub enum LibraryError {
    /// There is none.
    #[error("find the ONNX Runtime library: none in {}; run: elastic runtime install", places(looked))]
    Missing {
        /// The places that were looked at, in order.
        looked: Vec<PathBuf>,
    },
    /// A variable names a path where no file is.
    #[error(
        "find the ONNX Runtime library: {variable} is set to {}, where there is no file; correct it, or unset it \
         and run: elastic runtime install",
        path.display()
    )]
    Variable {
        /// The variable's name.
        variable: &'static str,
        /// Its value.
        path: PathBuf,
    },
    /// The file is no library that can be loaded here.
    #[error("load {} as ONNX Runtime: {reason}; run: elastic runtime install", path.display())]
    Load {
        /// The file.
        path: PathBuf,
        /// What the loader or ONNX Runtime says.
        reason: String,
    },
    /// The library is older than the interface that is used.
    #[error(
        "use {}: it is ONNX Runtime {found}, at least 1.{LEAST_MINOR} is needed; run: elastic runtime install",
        path.display()
    )]
    TooOld {
        /// The file.
        path: PathBuf,
        /// Its version.
        found: String,
    },
    /// The file could not be read.
    #[error("read {}: {reason}; run: elastic runtime install", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system says.
        reason: std::io::Error,
    },
    /// The file does not say which ONNX Runtime it is.
    #[error("read the version of {}: it holds none, so it is no ONNX Runtime library; run: elastic runtime install", path.display())]
    NoVersion {
        /// The file.
        path: PathBuf,
    },
    /// This process runs another library: a process can load only one.
    #[error("load {}: this process has loaded {} and can load only one; start again", path.display(), loaded.display())]
    AnotherLoaded {
        /// The file that was asked for.
        path: PathBuf,
        /// The one that is loaded.
        loaded: PathBuf,
    },
}

/// There is no folder to keep the library in.
#[derive(Debug, Error)]
#[error("find the user's cache folder: no home folder is known; set {CACHE_VARIABLE} to a folder")]
pub struct NoCacheFolder;

/// Every place that is looked at on this machine, in order.
pub fn candidates() -> Vec<Candidate> {
    candidates_in(&Environment::current())
}

/// Every place that is looked at in `environment`, in order.
pub fn candidates_in(environment: &Environment) -> Vec<Candidate> {
    let variables = [(LIBRARY_VARIABLE, &environment.library), (ORT_VARIABLE, &environment.ort_library)];
    let named = variables.into_iter().filter_map(|(variable, path)| {
        let path = path.clone()?;
        Some(Candidate { origin: Origin::Variable(variable), present: path.is_file(), path })
    });
    let cache = cache_folder_in(environment).ok().map(|folder| (Origin::Cache, folder));
    let executable = environment.executable_folder.clone().map(|folder| (Origin::Executable, folder));
    let system = environment.system_folders.iter().cloned().map(|folder| (Origin::System, folder));
    let folders = cache.into_iter().chain(executable).chain(system).map(|(origin, folder)| {
        let found = library_in(&folder);
        let present = found.is_some();
        Candidate { origin, path: found.unwrap_or_else(|| folder.join(file_name())), present }
    });
    named.chain(folders).collect()
}

/// The library that this machine's settings lead to: `ELASTIC_ORT_LIBRARY`, `ORT_DYLIB_PATH`, the
/// user's cache folder, the program's folder, the system's library folders.
///
/// # Errors
///
/// [`LibraryError::Variable`] where a variable names no file; [`LibraryError::Missing`].
pub fn find() -> Result<Library, LibraryError> {
    find_in(&Environment::current())
}

/// [`find`], in a given environment.
///
/// # Errors
///
/// Those of [`find`].
pub fn find_in(environment: &Environment) -> Result<Library, LibraryError> {
    let candidates = candidates_in(environment);
    for candidate in &candidates {
        match candidate.origin {
            Origin::Variable(variable) if !candidate.present => {
                return Err(LibraryError::Variable { variable, path: candidate.path.clone() });
            }
            _ if candidate.present => {
                return Ok(Library { path: candidate.path.clone(), origin: candidate.origin });
            }
            _ => {}
        }
    }
    Err(LibraryError::Missing { looked: candidates.into_iter().map(|candidate| candidate.path).collect() })
}

/// The folder where `elastic runtime install` puts the library:
/// `<cache>/onnxruntime/<pinned version>`, where `<cache>` is `ELASTIC_CACHE` or `elastic` in the
/// user's cache folder.
///
/// # Errors
///
/// [`NoCacheFolder`] where neither is known.
pub fn cache_folder() -> Result<PathBuf, NoCacheFolder> {
    cache_folder_in(&Environment::current())
}

/// [`cache_folder`], in a given environment.
///
/// # Errors
///
/// Those of [`cache_folder`].
pub fn cache_folder_in(environment: &Environment) -> Result<PathBuf, NoCacheFolder> {
    let cache = environment.cache.as_ref().ok_or(NoCacheFolder)?;
    Ok(cache.join("onnxruntime").join(PINNED_VERSION))
}

/// The version of a library, such as `1.24.4`, read from its file: nothing is loaded.
///
/// # Errors
///
/// [`LibraryError::Read`], [`LibraryError::NoVersion`].
pub fn version(library: &Library) -> Result<String, LibraryError> {
    let path = &library.path;
    let bytes = std::fs::read(path).map_err(|reason| LibraryError::Read { path: path.clone(), reason })?;
    version::in_library(&bytes).ok_or_else(|| LibraryError::NoVersion { path: path.clone() })
}

/// The execution providers that a library was built with, of those that a platform file can name,
/// as ONNX Runtime names them. It loads the library.
///
/// # Errors
///
/// That the library cannot be loaded.
pub fn providers(library: &Library) -> Result<Vec<String>, LibraryError> {
    loaded::load(library)?;
    let mut names = Vec::new();
    for provider in [
        Provider::Tensorrt,
        Provider::Cuda,
        Provider::Openvino,
        Provider::Coreml,
        Provider::Nnapi,
        Provider::Xnnpack,
        Provider::Cpu,
    ] {
        let offered = loaded::offers(provider)
            .map_err(|error| LibraryError::Load { path: library.path.clone(), reason: error.to_string() })?;
        if offered {
            names.push(provider.onnx_name().to_owned());
        }
    }
    Ok(names)
}

impl fmt::Display for Origin {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Variable(name) => write!(formatter, "environment variable {name}"),
            Self::Cache => formatter.write_str("cache folder"),
            Self::Executable => formatter.write_str("beside the program"),
            Self::System => formatter.write_str("system folder"),
        }
    }
}

/// Whether a file's name is that of the ONNX Runtime library itself on this system, not of one of its
/// providers: `libonnxruntime.so.1.24.4`.
pub(crate) fn is_library(name: &str) -> bool {
    match consts::OS {
        "macos" => name.starts_with("libonnxruntime.") && name.ends_with(".dylib"),
        "windows" => name == "onnxruntime.dll",
        _ => name == "libonnxruntime.so" || name.starts_with("libonnxruntime.so."),
    }
}

/// The name of the library without a version.
pub(crate) fn file_name() -> String {
    format!("{}onnxruntime{}", consts::DLL_PREFIX, consts::DLL_SUFFIX)
}

/// The ONNX Runtime library in a folder: the one without a version in its name, else the last in
/// the order of names.
pub(crate) fn library_in(folder: &Path) -> Option<PathBuf> {
    let names =
        std::fs::read_dir(folder).ok()?.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    let mut paths: Vec<PathBuf> = names
        .filter(|name| is_library(name))
        .map(|name| folder.join(name))
        .filter(|path| path.is_file())
        .collect();
    paths.sort_by_key(|path| (path.ends_with(file_name()), path.clone()));
    paths.pop()
}

/// At most four places, then how many more.
fn places(looked: &[PathBuf]) -> String {
    const SHOWN: usize = 4;
    if looked.is_empty() {
        return "any known folder".to_owned();
    }
    let shown: Vec<String> = looked.iter().take(SHOWN).map(|path| path.display().to_string()).collect();
    match looked.len().saturating_sub(SHOWN) {
        0 => shown.join(", "),
        more => format!("{} and {more} other places", shown.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn touch(path: &Path) {
        std::fs::create_dir_all(path.parent().expect("a file has a folder")).expect("make the folder");
        std::fs::write(path, b"library").expect("write the file");
    }

    #[test]
    fn the_first_place_that_holds_a_library_wins() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let root = folder.path();
        let environment = Environment {
            library: Some(root.join("named.so")),
            ort_library: Some(root.join("ort.so")),
            cache: Some(root.join("cache")),
            executable_folder: Some(root.join("bin")),
            system_folders: vec![root.join("lib")],
            ..Environment::default()
        };
        let without = |first: usize| {
            let mut environment = environment.clone();
            if first > 0 {
                environment.library = None;
            }
            if first > 1 {
                environment.ort_library = None;
            }
            if first > 2 {
                environment.cache = None;
            }
            if first > 3 {
                environment.executable_folder = None;
            }
            environment
        };
        let cached = cache_folder_in(&environment).expect("a cache folder").join(file_name());
        let rows = [
            (root.join("named.so"), Origin::Variable(LIBRARY_VARIABLE)),
            (root.join("ort.so"), Origin::Variable(ORT_VARIABLE)),
            (cached, Origin::Cache),
            (root.join("bin").join(file_name()), Origin::Executable),
            (root.join("lib").join(file_name()), Origin::System),
        ];
        for (path, _) in &rows {
            touch(path);
        }
        for (first, (path, origin)) in rows.into_iter().enumerate() {
            let found = find_in(&without(first)).unwrap_or_else(|error| panic!("row {first}: {error}"));
            assert_eq!(found, Library { path, origin }, "row {first}");
        }
    }

    #[test]
    fn a_variable_that_names_no_file_is_not_passed_over() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("libnothing.so");
        touch(&folder.path().join("lib").join(file_name()));
        let system_folders = vec![folder.path().join("lib")];
        let named = Environment { library: Some(path.clone()), system_folders, ..Environment::default() };
        let ort = Environment { library: None, ort_library: Some(path.clone()), ..named.clone() };
        for (environment, variable) in [(named, LIBRARY_VARIABLE), (ort, ORT_VARIABLE)] {
            let text = find_in(&environment).expect_err(variable).to_string();
            assert!(
                text.contains(variable) && text.contains(&path.display().to_string()),
                "{variable}: {text}"
            );
            assert!(text.ends_with("run: elastic runtime install"), "{variable}: {text}");
        }
    }

    #[test]
    fn a_missing_library_is_an_error_with_the_remedy() {
        let nowhere = Environment::default();
        let folders = (0..6).map(|n| PathBuf::from(format!("no/folder/{n}"))).collect();
        let six = Environment { system_folders: folders, ..Environment::default() };
        for (environment, part) in [(nowhere, "any known folder"), (six, "and 2 other places")] {
            let text = find_in(&environment).expect_err(part).to_string();
            assert!(text.contains(part), "{part}: {text}");
            assert!(text.ends_with("run: elastic runtime install"), "{part}: {text}");
        }
    }

    #[test]
    fn providers_and_other_files_are_not_the_library() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        touch(&folder.path().join("libonnxruntime_providers_shared.so"));
        touch(&folder.path().join("notes.txt"));
        assert_eq!(library_in(folder.path()), None);
        touch(&folder.path().join(file_name()));
        assert_eq!(library_in(folder.path()), Some(folder.path().join(file_name())));
    }

    #[test]
    fn a_file_that_is_no_library_has_no_version() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join(file_name());
        let library = Library { path: path.clone(), origin: Origin::System };
        assert!(matches!(version(&library), Err(LibraryError::Read { .. })));
        touch(&path);
        assert!(matches!(version(&library), Err(LibraryError::NoVersion { .. })));
    }
}
