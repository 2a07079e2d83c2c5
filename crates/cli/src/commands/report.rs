//! `elastic report`

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use clap::Args;
use elastic_profiler::ProfileFile;
use elastic_space::file;
use elastic_trainer::health::{Health, SubnetHealth};
use elastic_trainer::run_folder::RunFolder;
use schemars::JsonSchema;
use serde::Serialize;

use crate::health;
use crate::platforms;
use crate::report::export::Exported;
use crate::report::site::Site;
use crate::report::{self, RunReport};
use crate::runs::{RUNS, newest, require_folder, run_of_stage};
use crate::table::{self, Format};

/// Write a report of a run: one HTML file with its curves and the health of its subnets, or a site with its models.
///
/// The page shows the recipe of every stage, loss, learning rate and accuracy over the steps,
/// accuracy against MACs with the Pareto front, and a table that warns of subnets that have
/// collapsed. It needs no network and no other file. A run that has not finished, or is training just
/// now, is shown as far as its log goes. Written: report.html in the run's folder.
///
/// With --site a folder is written instead: index.html and pages of the training, of every profile of the run's supernet,
/// and of every model that was cut out of it, with the cloud that the search saw and the architecture of what it chose.
#[derive(Debug, Args)]
pub(crate) struct Report {
    /// Folder of a run, finished or not [default: the newest in runs/].
    run: Option<PathBuf>,
    /// File to write [default: report.html in the run's folder].
    #[arg(long)]
    out: Option<PathBuf>,
    /// Folder to write a site into, with profiles and exported models.
    #[arg(long, value_name = "FOLDER", conflicts_with = "out")]
    site: Option<PathBuf>,
    /// Folder of the profiles of --site; those of other supernets are passed over.
    #[arg(long, value_name = "FOLDER", default_value = platforms::PROFILES, requires = "site")]
    profiles: PathBuf,
    /// Folder of the exported models of --site, and of folders with more; those of other supernets are passed over.
    #[arg(long, value_name = "FOLDER", default_value = "exports", requires = "site")]
    exports: PathBuf,
}

#[derive(Serialize, JsonSchema)]
pub(super) struct Written<'a> {
    report: &'a Path,
    finished: bool,
    step: u64,
    chance: Option<f64>,
    margin: Option<f64>,
    subnets: Vec<Row<'a>>,
}

#[derive(Serialize, JsonSchema)]
struct Row<'a> {
    name: &'a str,
    params: u64,
    macs: u64,
    accuracy: f64,
    collapsed: bool,
}

impl Report {
    pub(crate) fn run(self, format: Format) -> anyhow::Result<()> {
        let run = RunFolder(match self.run {
            Some(run) => run,
            None => newest(RunFolder::metrics, "its folder", || {
                format!("no run in `{RUNS}` has a log: run `elastic train`")
            })?,
        });
        require_folder(&run)?;
        if let (Some(whole), false) = (run_of_stage(&run.0), run.metrics().exists()) {
            bail!(
                "{} is a stage, its log is that of the whole run: run: elastic report {}",
                run.0.display(),
                whole.display()
            );
        }
        if !run.metrics().exists() {
            bail!(
                "{0} has no metrics.jsonl: no training has begun there (run: elastic train --out {0})",
                run.0.display()
            );
        }
        let report = RunReport::read(&run)?;
        let out = match &self.site {
            Some(site) => {
                write_site(site, &run, &report, &self.profiles, &self.exports)?;
                site.join("index.html")
            }
            None => {
                let out = self.out.unwrap_or_else(|| run.0.join("report.html"));
                file::write(&out, report::page::html(&report, None).as_bytes())?;
                out
            }
        };
        match format {
            Format::Json => table::print_json(&written(&report, &out)),
            Format::Table => {
                if let Some(health) = &report.health {
                    health::print(health, &format!("accuracy after step {}", report.step()));
                    println!();
                }
                println!("report: {}", out.display());
                Ok(())
            }
        }
    }
}

/// Writes every page of a site, and removes no page of an earlier one.
fn write_site(
    folder: &Path,
    run: &RunFolder,
    report: &RunReport,
    profiles: &Path,
    exports: &Path,
) -> anyhow::Result<()> {
    let supernet = if run.is_finished() { Some(file::sha256(&file::read(&run.supernet())?)) } else { None };
    let is_ours = |checkpoint: &str| supernet.as_deref() == Some(checkpoint);
    let mut site = Site { report, profiles: Vec::new(), exports: BTreeMap::new() };
    for path in json_files(profiles, false)? {
        // A file of another kind, or of another version, is no profile of this run.
        let Ok(profile) = ProfileFile::read(&path) else { continue };
        if is_ours(&profile.checkpoint) {
            site.profiles.push(profile);
        }
    }
    for path in json_files(exports, true)? {
        let Ok(exported) = file::read_json::<Exported>(&path) else { continue };
        if is_ours(&exported.checkpoint) {
            let name = path.strip_prefix(exports).unwrap_or(&path).with_extension("");
            let parts: Vec<String> =
                name.components().map(|part| part.as_os_str().to_string_lossy().into_owned()).collect();
            site.exports.insert(parts.join("-"), exported);
        }
    }
    for (page, html) in site.pages() {
        file::write(&folder.join(page), html.as_bytes())?;
    }
    Ok(())
}

/// The JSON files in a folder, and with `below` in those in it; none if there is no such folder.
fn json_files(folder: &Path, below: bool) -> anyhow::Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    if !folder.is_dir() {
        return Ok(files);
    }
    for entry in std::fs::read_dir(folder).with_context(|| format!("list {}", folder.display()))? {
        let path = entry.with_context(|| format!("list {}", folder.display()))?.path();
        if path.is_dir() && below {
            files.extend(json_files(&path, below)?);
        } else if path.extension().is_some_and(|extension| extension == "json") {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

fn written<'a>(report: &'a RunReport, out: &'a Path) -> Written<'a> {
    let row = |subnet: &'a SubnetHealth| Row {
        name: &subnet.name,
        params: subnet.cost.params,
        macs: subnet.cost.macs,
        accuracy: subnet.accuracy,
        collapsed: subnet.collapsed,
    };
    let health = report.health.as_ref();
    Written {
        report: out,
        finished: report.finished,
        step: report.step(),
        chance: health.map(|health| health.threshold.chance),
        margin: health.map(|health| health.threshold.margin),
        subnets: health.into_iter().flat_map(Health::subnets).map(row).collect(),
    }
}
