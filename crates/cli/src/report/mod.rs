//! What a report of a run shows, read from the run's folder.

mod chart;
mod curves;
mod document;
pub(crate) mod export;
mod front;
pub(crate) mod page;
pub(crate) mod profile;
mod scatter;
pub(crate) mod site;
mod strip;
#[cfg(test)]
mod tests;

use std::path::PathBuf;

use anyhow::{Context, bail};
use elastic_space::sampling::{Distribution, Law};
use elastic_space::{Sampling, file};
use elastic_trainer::Model;
use elastic_trainer::health::Health;
use elastic_trainer::metrics::{self, Record, Spread};
use elastic_trainer::plan::{PlannedStage, plan};
use elastic_trainer::run_folder::RunFolder;

use crate::runs::{read_model, run_name};

/// A run as far as its log goes.
pub(crate) struct RunReport {
    /// The run's name.
    pub(crate) name: String,
    /// Its folder.
    pub(crate) folder: PathBuf,
    /// Its configuration.
    pub(crate) model: Model,
    /// The text of its configuration.
    pub(crate) config: String,
    /// Its log; at least one record.
    pub(crate) records: Vec<Record>,
    /// Its stages, those to come too.
    pub(crate) stages: Vec<StageReport>,
    /// Whether all stages are done.
    pub(crate) finished: bool,
    /// What its last evaluation says; nothing before the first.
    pub(crate) health: Option<Health>,
}

/// A stage as far as the log goes.
pub(crate) struct StageReport {
    /// What was planned.
    pub(crate) planned: PlannedStage,
    /// What the log has of it.
    pub(crate) logged: Option<Logged>,
}

/// What the log has of one stage.
pub(crate) struct Logged {
    /// Steps of the run before it.
    pub(crate) begin: u64,
    /// Steps of the run at its last record.
    pub(crate) end: u64,
    /// Images per second: the median of its records.
    pub(crate) images_per_second: Option<f64>,
    /// Forward and backward passes of one subnet over one batch, per second: the median.
    pub(crate) subnet_updates_per_second: Option<f64>,
    /// Highest resident memory so far in bytes.
    pub(crate) peak_memory_bytes: Option<u64>,
}

impl RunReport {
    /// Reads a run's folder.
    ///
    /// # Errors
    ///
    /// If the folder has no run, its log is empty or damaged, or was written with another configuration.
    pub(crate) fn read(folder: &RunFolder) -> anyhow::Result<Self> {
        let (config, log) = (folder.config(), folder.metrics());
        let model = read_model(&config)?;
        let text = String::from_utf8_lossy(&file::read(&config)?).into_owned();
        let records = metrics::read(&log)?;
        let report = Self::new(run_name(&folder.0), model, text, records)
            .with_context(|| format!("read {}", log.display()))?;
        Ok(Self { folder: folder.0.clone(), finished: folder.is_finished(), ..report })
    }

    /// A report of an unfinished run.
    fn new(name: String, model: Model, config: String, records: Vec<Record>) -> anyhow::Result<Self> {
        if records.is_empty() {
            bail!(
                "it has no line yet: the first comes with the first evaluation, {} steps into a stage or at its end",
                model.training.evaluate_every
            );
        }
        let health = match metrics::last_validation(&records) {
            Some(last) => Health::of(&model, last)?,
            None => None,
        };
        let stage = |planned: PlannedStage| StageReport {
            logged: logged(&records, &planned, model.training.evaluate_every),
            planned,
        };
        let stages = plan(&model)?.into_iter().map(stage).collect();
        let folder = PathBuf::from(&name);
        Ok(Self { name, folder, model, config, records, stages, finished: false, health })
    }

    /// The last step of the log.
    pub(crate) fn step(&self) -> u64 {
        self.records.last().map_or(0, Record::step)
    }

    /// The stages that have begun, with what the log has of them.
    pub(crate) fn begun(&self) -> impl Iterator<Item = (&PlannedStage, &Logged)> {
        self.stages.iter().filter_map(|stage| Some((&stage.planned, stage.logged.as_ref()?)))
    }
}

fn logged(records: &[Record], stage: &PlannedStage, evaluate_every: u64) -> Option<Logged> {
    let own: Vec<&Record> = records.iter().filter(|record| record.stage() == stage.name).collect();
    let (first, last) = (own.first()?, own.last()?);
    let (mut images, mut updates, mut peak) = (Vec::new(), Vec::new(), None);
    for record in &own {
        if let Record::Train { images_per_second, subnet_updates_per_second, peak_memory_bytes, .. } = record
        {
            images.push(*images_per_second);
            updates.push(*subnet_updates_per_second);
            peak = peak.max(*peak_memory_bytes);
        }
    }
    let median = |values: &[f64]| Spread::of(values).map(|spread| spread.median);
    Some(Logged {
        // The first record of a stage comes after so many of its steps.
        begin: first.step().saturating_sub(evaluate_every.min(stage.steps)),
        end: last.step(),
        images_per_second: median(&images),
        subnet_updates_per_second: median(&updates),
        peak_memory_bytes: peak,
    })
}

/// How subnets are drawn, in words.
fn in_words(sampling: &Sampling) -> String {
    match sampling {
        Sampling::Fixed(names) => names.join(", "),
        Sampling::Random => "random".to_owned(),
        Sampling::PerStage => "per-stage".to_owned(),
        Sampling::Distribution(Distribution::Law(law)) => match law {
            Law::Uniform => "uniform".to_owned(),
            Law::Flops => "by FLOPs".to_owned(),
            Law::InverseFlops => "by 1 / FLOPs".to_owned(),
        },
        Sampling::Distribution(Distribution::Tables(tables)) => {
            format!("by tables for {}", tables.keys().cloned().collect::<Vec<_>>().join(", "))
        }
        Sampling::Mixed(mixed) => format!("{}, rest {}", mixed.fixed.join(", "), in_words(&mixed.rest)),
        Sampling::Empty(empty) => format!("kept at {}", empty.keep),
        Sampling::ByDimension(parts) => {
            let part = |(dimension, sampling): (&elastic_space::Dimension, &Sampling)| {
                format!("{} {}", dimension.name(), in_words(sampling))
            };
            parts.iter().map(part).collect::<Vec<_>>().join("; ")
        }
    }
}
