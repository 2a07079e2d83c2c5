//! `elastic agent`

use std::io::{self, BufReader};
use std::path::PathBuf;

use anyhow::{Context, bail};
use clap::Args;
use elastic_profiler::agent::{Ending, Store, serve};
use elastic_runtime::environment::CACHE_VARIABLE;
use elastic_space::file;

use crate::exit::Exit;

/// Measure models for another machine, on the one that this runs on.
///
/// `elastic profile` and `elastic export` start it themselves, through the transport that a platform file names (ssh,
/// adb, or any command that gives a pipe). It reads requests from standard input and answers on standard
/// output, one JSON value a line, and ends when its input ends. It keeps models in its work folder, by the hash of
/// their content, and writes nowhere else.
#[derive(Debug, Args)]
pub(crate) struct Agent {
    /// Folder for models [default: `agent` in the cache folder].
    #[arg(long)]
    work: Option<PathBuf>,
    /// Megabytes of models to keep; the ones that were used longest ago make room.
    #[arg(long, default_value_t = 2000)]
    disk_limit_mb: u64,
    /// File that is locked while models are measured, so that no two agents measure at once [default: `lease` in the work
    /// folder].
    #[arg(long)]
    lease: Option<PathBuf>,
}

impl Agent {
    pub(crate) fn run(self) -> anyhow::Result<Exit> {
        let work = match self.work {
            Some(work) => work,
            None => elastic_runtime::Environment::current()
                .cache
                .with_context(|| {
                    format!(
                        "there is no cache folder here: name a folder with --work, or set {CACHE_VARIABLE}"
                    )
                })?
                .join("agent"),
        };
        if self.disk_limit_mb == 0 {
            bail!("--disk-limit-mb is 0: no model would fit");
        }
        let store = Store::open(&work, self.disk_limit_mb.saturating_mul(1_000_000))?;
        let store = match self.lease {
            Some(lease) => {
                file::prepare_folder_of(&lease)?;
                store.with_lease(lease)
            }
            None => store,
        };
        match serve(BufReader::new(io::stdin()), io::stdout(), store)? {
            Ending::Closed => Ok(Exit::Ok),
            Ending::Hung => bail!("a run hangs: the agent ends, and the run with it"),
        }
    }
}
