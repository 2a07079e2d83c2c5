//! `elastic runtime`

use std::path::PathBuf;

use clap::{Args, Subcommand};
use elastic_runtime::install::{Source, install};
use elastic_runtime::library::PINNED_VERSION;

use crate::progress::Reporter;

/// Install the ONNX Runtime library.
#[derive(Debug, Subcommand)]
pub(crate) enum Runtime {
    Install(Install),
}

/// Put the pinned ONNX Runtime library into your cache folder.
///
/// The library comes from its PyPI wheel by your own pip (python3 -m pip download), and its SHA-256 is
/// checked. Python is not needed after that. The folder is that of your system's caches, or
/// ELASTIC_CACHE.
#[derive(Debug, Args)]
pub(crate) struct Install {
    /// Take the library from this wheel, zip, .tgz or library file instead of downloading it.
    #[arg(long)]
    archive: Option<PathBuf>,
}

impl Runtime {
    pub(crate) fn run(self, reporter: &Reporter) -> anyhow::Result<()> {
        let Self::Install(command) = self;
        reporter.say(&format!("installing ONNX Runtime (pinned version {PINNED_VERSION})"));
        let source = command.archive.map_or(Source::Pip, Source::Archive);
        let path = install(source, &mut |line| reporter.say(line))?;
        println!("{}", path.display());
        Ok(())
    }
}
