//! `elastic report`

use std::path::{Path, PathBuf};

use anyhow::bail;
use clap::Args;
use elastic_space::file;
use elastic_trainer::health::{Health, SubnetHealth};
use elastic_trainer::run_folder::RunFolder;
use serde::Serialize;

use crate::health;
use crate::report::{self, RunReport};
use crate::runs::{RUNS, newest, require_folder, run_of_stage};
use crate::table::{self, Format};

/// Write a report of a run: one HTML file with its curves and the health of its subnets.
///
/// The page shows the recipe of every stage, loss, learning rate and accuracy over the steps,
/// accuracy against MACs with the Pareto front, and a table that warns of subnets that have
/// collapsed. It needs no network and no other file. A run that has not finished, or is training just
/// now, is shown as far as its log goes. Written: report.html in the run's folder.
#[derive(Debug, Args)]
pub(crate) struct Report {
    /// Folder of a run, finished or not [default: the newest in runs/].
    run: Option<PathBuf>,
    /// File to write [default: report.html in the run's folder].
    #[arg(long)]
    out: Option<PathBuf>,
}

#[derive(Serialize)]
struct Written<'a> {
    report: &'a Path,
    finished: bool,
    step: u64,
    chance: Option<f64>,
    margin: Option<f64>,
    subnets: Vec<Row<'a>>,
}

#[derive(Serialize)]
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
        let out = self.out.unwrap_or_else(|| run.0.join("report.html"));
        file::write(&out, report::page::html(&report).as_bytes())?;
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
