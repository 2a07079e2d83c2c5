//! `elastic profile plan`, `run` and `merge`: one profile by many boards.

use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use clap::Args;
use elastic_profiler::check_device;
use elastic_profiler::farm::{Plan as ProfilePlan, Shard, merged, read_records, write_records};
use elastic_space::{Seed, file};
use schemars::JsonSchema;
use serde::Serialize;

use crate::platforms::{self, NamedPlatform, PROFILES};
use crate::process;
use crate::progress::Reporter;
use crate::table::{self, Format};

/// The folder of plans.
const PLANS: &str = "plans";
/// The folder, in a plan's, of what its shards have measured.
const SHARDS: &str = "shards";

/// Plan a profile that many boards of one kind measure in shards.
///
/// Written is a folder with all that a board needs: the plan and the ONNX files. Then `elastic profile run --plan FOLDER --shard
/// 1/4` and so on, on as many boards, and `elastic profile merge --plan FOLDER`. The device need not be there.
#[derive(Debug, Args)]
pub(super) struct Plan {
    /// Platform file: looked for here, then in platforms/.
    #[arg(long)]
    platform: String,
    /// Folder of a finished run [default: the newest in runs/].
    #[arg(long)]
    run: Option<PathBuf>,
    /// Subnets to measure, the largest and the smallest among them [default: the platform file's].
    #[arg(long)]
    subnets: Option<usize>,
    /// Seed of the subnets and of the order of measuring [default: the run's].
    #[arg(long)]
    seed: Option<u64>,
    /// Folder to write [default: plans/PLATFORM].
    #[arg(long)]
    out: Option<PathBuf>,
}

/// Measure one shard of a plan on the device that the plan's platform describes.
///
/// A shard that is measured already is left as it is, so a job that is started again costs nothing.
#[derive(Debug, Args)]
pub(super) struct Run {
    /// Folder of the plan.
    #[arg(long)]
    plan: PathBuf,
    /// The shard, as NUMBER/COUNT; the first is 1.
    #[arg(long, value_name = "NUMBER/COUNT")]
    shard: Shard,
    /// File to write, one JSON value a line [default: shards/NUMBER-of-COUNT.jsonl in the plan's folder].
    #[arg(long)]
    out: Option<PathBuf>,
}

/// Merge shards of a plan into a profile.
///
/// In any order, any number of times: a line that is there twice counts once; of two measurements of one subnet the surer one
/// is taken.
#[derive(Debug, Args)]
pub(super) struct Merge {
    /// Folder of the plan.
    #[arg(long)]
    plan: PathBuf,
    /// Files of shards, or of shards that were merged [default: all in shards/ in the plan's folder].
    files: Vec<PathBuf>,
    /// File to write: a profile, or with the ending .jsonl the lines of all files, though some may be missing [default:
    /// profiles/PLATFORM.json].
    #[arg(long)]
    out: Option<PathBuf>,
}

impl Plan {
    pub(super) fn run(self, reporter: &Reporter, format: Format) -> anyhow::Result<()> {
        let NamedPlatform { name, platform } = platforms::read(&self.platform)?;
        let run = super::open(self.run.as_deref(), reporter)?;
        let seed = self.seed.map_or(run.model.seed(), Seed);
        let count = super::count(self.subnets, &platform)?;
        let folder = self.out.unwrap_or_else(|| Path::new(PLANS).join(&name));
        let candidates = super::candidates(&run, count, seed, platform.batch)?;
        let of_run = (&run.loaded.sha256[..], &run.model.space);
        let plan = ProfilePlan::make(&folder, (&name, &platform), of_run, &candidates, seed)?;
        match format {
            Format::Json => table::print_json(&plan),
            Format::Table => {
                println!("{} subnets of {} for {name}", candidates.len(), run.folder.0.display());
                println!("written: {}", folder.display());
                println!("next, on each board: elastic profile run --plan {} --shard 1/N", folder.display());
                Ok(())
            }
        }
    }
}

impl Run {
    pub(super) fn run(self, reporter: &Reporter, format: Format) -> anyhow::Result<()> {
        let plan = ProfilePlan::read(&self.plan)?;
        plan.platform.validate().with_context(|| format!("read {}", self.plan.display()))?;
        let out = self.out.unwrap_or_else(|| self.plan.join(SHARDS).join(self.shard.file_name()));
        if out.exists() {
            let records = read_records(&out)?;
            let indices = self.shard.indices(plan.subnets.len());
            let id = plan.id();
            let measured =
                |index: &usize| records.iter().any(|record| record.plan == id && record.index == *index);
            if indices.iter().all(measured) {
                reporter.say(&format!("shard {} is measured already: {}", self.shard, out.display()));
                return print_records(records.len(), &out, format);
            }
        }
        check_device(&plan.platform)?;
        file::prepare_folder_of(&out)?;
        let mut task = reporter.task("profile", 0);
        let mut progress = |done, total| task.at(done as u64, total as u64, "");
        let program = process::this_program()?;
        let records = plan.measure(&self.plan, self.shard, Some(&program), &mut progress)?;
        drop(task);
        write_records(&out, &records)?;
        print_records(records.len(), &out, format)
    }
}

/// What a shard, or several, came to.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct Measured {
    /// Subnets.
    measured: usize,
    /// The file.
    written: String,
}

fn print_records(count: usize, out: &Path, format: Format) -> anyhow::Result<()> {
    match format {
        Format::Json => table::print_json(&Measured { measured: count, written: out.display().to_string() }),
        Format::Table => {
            println!("{count} subnets\nwritten: {}", out.display());
            Ok(())
        }
    }
}

impl Merge {
    pub(super) fn run(self, reporter: &Reporter, format: Format) -> anyhow::Result<()> {
        let plan = ProfilePlan::read(&self.plan)?;
        let files = if self.files.is_empty() { shards(&self.plan)? } else { self.files };
        let mut records = Vec::new();
        for path in &files {
            records.extend(read_records(path)?);
        }
        let out = self.out.unwrap_or_else(|| Path::new(PROFILES).join(format!("{}.json", plan.name)));
        if out.extension().is_some_and(|extension| extension == "jsonl") {
            let records = merged(&records);
            write_records(&out, &records)?;
            return print_records(records.len(), &out, format);
        }
        let profile = plan.merge(&records)?;
        profile.write(&out)?;
        super::warn(&profile, reporter);
        match format {
            Format::Json => table::print_json(&profile.latency_model),
            Format::Table => {
                super::print(&profile, &out);
                Ok(())
            }
        }
    }
}

/// All files of shards in a plan's folder.
fn shards(plan: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let folder = plan.join(SHARDS);
    let entries = std::fs::read_dir(&folder).with_context(|| format!("read {}", folder.display()))?;
    let paths = entries.map(|entry| Ok(entry?.path())).collect::<std::io::Result<Vec<_>>>();
    let mut paths = paths.with_context(|| format!("read {}", folder.display()))?;
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "jsonl"));
    paths.sort();
    if paths.is_empty() {
        bail!(
            "{} has no shards: run: elastic profile run --plan {} --shard 1/1",
            folder.display(),
            plan.display()
        );
    }
    Ok(paths)
}
