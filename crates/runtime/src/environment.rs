//! What the process's surroundings say about where libraries and tools lie.
//!
//! Everything that looks for a file takes this as an argument, so that a test can describe a machine
//! instead of changing the variables of its own process.

use std::env::{self, consts};
use std::ffi::OsString;
use std::path::{Path, PathBuf};

use etcetera::BaseStrategy;

/// The variable that names the ONNX Runtime library to use; it goes before everything else.
pub const LIBRARY_VARIABLE: &str = "ELASTIC_ORT_LIBRARY";

/// The variable by which other programs that use `ort` name the library; the second place to look.
pub const ORT_VARIABLE: &str = "ORT_DYLIB_PATH";

/// The variable that moves elastic's cache folder.
pub const CACHE_VARIABLE: &str = "ELASTIC_CACHE";

/// Where libraries and tools may lie on one machine.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Environment {
    /// The value of [`LIBRARY_VARIABLE`], if it is set and not empty.
    pub library: Option<PathBuf>,
    /// The value of [`ORT_VARIABLE`], if it is set and not empty.
    pub ort_library: Option<PathBuf>,
    /// elastic's cache folder: the value of [`CACHE_VARIABLE`], else `elastic` in the user's cache
    /// folder; `None` where the user has none.
    pub cache: Option<PathBuf>,
    /// The folder of the running program.
    pub executable_folder: Option<PathBuf>,
    /// Folders where the system keeps libraries, in the order in which they are looked at.
    pub system_folders: Vec<PathBuf>,
    /// The Python 3 whose pip downloads the library.
    pub python: OsString,
}

impl Environment {
    /// The surroundings of this process.
    pub fn current() -> Self {
        Self {
            library: path_variable(LIBRARY_VARIABLE),
            ort_library: path_variable(ORT_VARIABLE),
            cache: path_variable(CACHE_VARIABLE).or_else(|| {
                let strategy = etcetera::choose_base_strategy().ok()?;
                Some(strategy.cache_dir().join("elastic"))
            }),
            executable_folder: env::current_exe().ok().and_then(|path| path.parent().map(Path::to_owned)),
            system_folders: system_folders(),
            python: if consts::OS == "windows" { "python" } else { "python3" }.into(),
        }
    }
}

/// The absolute path that a variable holds: `ort` would take a relative one from the program's folder.
fn path_variable(name: &str) -> Option<PathBuf> {
    let value = env::var_os(name).filter(|value| !value.is_empty())?;
    Some(std::path::absolute(&value).unwrap_or_else(|_| value.into()))
}

/// The folders that the dynamic loader looks at, and those of the usual package managers.
fn system_folders() -> Vec<PathBuf> {
    let variable = match consts::OS {
        "macos" => "DYLD_LIBRARY_PATH",
        "windows" => "PATH",
        _ => "LD_LIBRARY_PATH",
    };
    let mut folders: Vec<PathBuf> = env::var_os(variable)
        .map(|value| env::split_paths(&value).filter(|path| path.is_absolute()).collect())
        .unwrap_or_default();
    match consts::OS {
        "macos" => folders.extend(["/opt/homebrew/lib", "/usr/local/lib"].map(PathBuf::from)),
        "windows" => {}
        _ => {
            let multiarch = format!("/usr/lib/{}-linux-gnu", consts::ARCH);
            folders.extend(["/usr/local/lib", &multiarch, "/usr/lib64", "/usr/lib"].map(PathBuf::from));
        }
    }
    folders
}
