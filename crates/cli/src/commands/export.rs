//! `elastic export`

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use clap::Args;
use elastic_data::load_training;
use elastic_exporter::search::{Outcome, Point, Settings, search};
use elastic_exporter::{Batch, GraphOptions, build};
use elastic_profiler::{Measurement, ProfileFile, measure_here, random_inputs};
use elastic_space::budget::Quantity;
use elastic_space::{Budget, Cost, Seed, Subnet, file};
use serde::Serialize;

use crate::exit::BudgetMissed;
use crate::judge::{Judge, Validation};
use crate::platforms;
use crate::progress::Reporter;
use crate::proof::{self, BATCH_KEY, Proof};
use crate::runs::Run;
use crate::table::{self, Format, percent};

/// The key of the subnet in a model's metadata, as JSON.
pub(crate) const SUBNET_KEY: &str = "elastic.subnet";
/// The key of the SHA-256 of the supernet that a model was cut from.
pub(crate) const CHECKPOINT_KEY: &str = "elastic.checkpoint";
/// The key of the preprocessing constants, as JSON.
const PREPROCESSING_KEY: &str = "elastic.preprocessing";

/// Candidates of a search that are measured on the platform before it gives up.
const MEASURED_CANDIDATES: usize = 8;

/// Search the best subnet under budgets and write it as ONNX, verified.
///
/// Accuracy is measured on validation data with the shared weights; the search is an evolution with a
/// seed. With a platform its latency model guides the search, and the winner is measured on the device
/// before it is written: if it misses a latency budget, the next candidate is taken. Written to the
/// output folder: <name>.onnx and <name>.json. A budget that even the smallest subnet misses is an
/// error (exit code 3).
#[derive(Debug, Args)]
pub(crate) struct Export {
    /// A limit: number and unit (mflops gflops, mmacs gmacs, kparams mparams, KB MB, us ms). Repeatable.
    #[arg(long, required = true)]
    budget: Vec<Budget>,
    /// A platform that `elastic profile` has measured; one model is written for each. Repeatable.
    #[arg(long, conflicts_with = "all_platforms")]
    platform: Vec<String>,
    /// One model for every platform that has a profile.
    #[arg(long)]
    all_platforms: bool,
    /// Folder of a finished run [default: the newest in runs/].
    #[arg(long)]
    run: Option<PathBuf>,
    /// Folder to write to.
    #[arg(long, default_value = "exports")]
    out: PathBuf,
    /// Inputs of one run of the model: a number, or `dynamic`.
    #[arg(long, default_value = "1")]
    batch: String,
    /// Accuracies that each search may measure.
    #[arg(long, default_value_t = 200)]
    evaluations: usize,
    /// Subnets of one generation.
    #[arg(long, default_value_t = 32)]
    population: usize,
    /// Validation images that the search uses, at most.
    #[arg(long, default_value_t = 2000)]
    images: usize,
    /// Seed of the search [default: the run's].
    #[arg(long)]
    seed: Option<u64>,
}

/// What is written beside a model.
#[derive(Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
struct Report {
    schema: &'static str,
    file: String,
    sha256: String,
    file_bytes: usize,
    platform: Option<String>,
    subnet: Subnet,
    #[serde(flatten)]
    cost: Cost,
    flops: u64,
    validation_accuracy: f64,
    validation_images: usize,
    /// Median of one run in microseconds, as the latency model predicts it.
    predicted_latency_us: Option<f64>,
    /// The same as measured on the platform before the file was written.
    measured_latency_us: Option<f64>,
    /// Every timed run of that measurement.
    measurement: Option<Measurement>,
    budgets: Vec<BudgetReport>,
    proof: Proof,
    search: SearchReport,
    checkpoint: String,
    run: PathBuf,
    elastic_version: &'static str,
    command: Vec<String>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
struct BudgetReport {
    asked: Budget,
    /// The value before anything was measured, in the base unit of the quantity.
    predicted: f64,
    /// The value of the written file.
    measured: f64,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
struct SearchReport {
    evaluations: usize,
    population: usize,
    seed: u64,
    front: Vec<Point>,
}

/// A candidate that holds every budget.
struct Winner {
    point: Point,
    model: Vec<u8>,
    measurement: Option<Measurement>,
}

impl Export {
    pub(crate) fn run(self, reporter: &Reporter, format: Format) -> anyhow::Result<()> {
        let batch = proof::read_batch(&self.batch).with_context(|| format!("--batch {}", self.batch))?;
        if batch == Some(0) {
            bail!("--batch is 0: it must be at least 1, or `dynamic`");
        }
        let profiles = self.profiles()?;
        if profiles.is_empty() && self.budget.iter().any(|budget| budget.quantity == Quantity::Latency) {
            bail!("a latency budget needs a platform: name one that is profiled with --platform, or --all-platforms");
        }
        let run = Run::open(self.run.as_deref())?;
        for profile in &profiles {
            if profile.space != run.model.space {
                bail!(
                    "the profile of {} was made for another search space than that of {}: run: elastic profile --platform {}.yaml --run {}",
                    profile.name,
                    run.folder.0.display(),
                    profile.name,
                    run.folder.0.display()
                );
            }
        }
        let images = load_training(&run.model.data, run.model.seed())?.validation;
        let validation = Validation::new(&run, &images, self.images);
        let targets = if profiles.is_empty() { vec![None] } else { profiles.iter().map(Some).collect() };
        let mut known = BTreeMap::new();
        let mut reports = Vec::new();
        for profile in targets {
            reports.push(self.export(&run, profile, &validation, batch, &mut known, reporter)?);
        }
        match format {
            Format::Json => table::print_json(&reports),
            Format::Table => {
                print(&reports, &self.out);
                Ok(())
            }
        }
    }

    fn profiles(&self) -> anyhow::Result<Vec<ProfileFile>> {
        let names = if self.all_platforms { platforms::profiled()? } else { self.platform.clone() };
        names.iter().map(|name| platforms::read_profile(name)).collect()
    }

    /// Searches, proves and writes one model.
    fn export(
        &self,
        run: &Run,
        profile: Option<&ProfileFile>,
        validation: &Validation,
        batch: Option<usize>,
        known: &mut BTreeMap<Subnet, f64>,
        reporter: &Reporter,
    ) -> anyhow::Result<Report> {
        let settings = Settings {
            population: self.population,
            max_evaluations: self.evaluations,
            mutation_probability: 0.2,
            seed: self.seed.map_or(run.model.seed(), Seed),
            known: known.iter().map(|(subnet, accuracy)| (subnet.clone(), *accuracy)).collect(),
        };
        let title = profile.map_or_else(|| "search".to_owned(), |profile| format!("search {}", profile.name));
        let mut task = reporter.task(&title, settings.max_evaluations as u64);
        let placeholder = options(run, &run.model.space.largest(), batch)?;
        let mut judge = Judge::new(run, placeholder, profile.map(|profile| &profile.latency_model), validation);
        let outcome = search(&run.model.space, &self.budget, &mut judge, &settings, &mut |progress| {
            let (done, total) = (progress.evaluations as u64, progress.max_evaluations as u64);
            task.at(done, total, &format!("best {}", percent(progress.best)));
        })?;
        known.append(&mut judge.measured);
        drop(task);
        let winner = self.choose(run, profile, &outcome, batch, reporter)?;
        reporter.detail(&format!("verifying {}", winner.point.subnet));
        let proof = proof::prove(run, &winner.point.subnet, &winner.model, batch)?;
        let report = self.report(run, profile, validation, &settings, &outcome, winner.point, winner.measurement, proof, &winner.model);
        let path = self.out.join(&report.file);
        file::write(&path, &winner.model)?;
        file::write_json(&path.with_extension("json"), &report)?;
        Ok(report)
    }

    /// The best candidate that holds the budgets when it is measured on its platform.
    fn choose(
        &self,
        run: &Run,
        profile: Option<&ProfileFile>,
        outcome: &Outcome,
        batch: Option<usize>,
        reporter: &Reporter,
    ) -> anyhow::Result<Winner> {
        let mut best: Option<f64> = None;
        for point in outcome.ranking.iter().take(MEASURED_CANDIDATES) {
            let weights = run.loaded.supernet.extract(&point.subnet);
            let model = build(&run.model.space, &point.subnet, &weights, &options(run, &point.subnet, batch)?)?;
            let Some(profile) = profile else {
                return Ok(Winner { point: point.clone(), model, measurement: None });
            };
            let measurement = measure(run, profile, &point.subnet, reporter)?;
            let limits = self.budget.iter().filter(|budget| budget.quantity == Quantity::Latency);
            if limits.clone().all(|budget| measurement.p50_us <= budget.limit) {
                return Ok(Winner { point: point.clone(), model, measurement: Some(measurement) });
            }
            reporter.say(&format!(
                "{} took {} on {}: over the budget, the next candidate is taken",
                point.subnet,
                Quantity::Latency.format(measurement.p50_us),
                profile.name
            ));
            best = Some(best.map_or(measurement.p50_us, |best| best.min(measurement.p50_us)));
        }
        let budgets: Vec<String> = self.budget.iter().map(ToString::to_string).collect();
        Err(BudgetMissed {
            budget: budgets.join(" and "),
            platform: profile.map_or_else(String::new, |profile| profile.name.clone()),
            tried: outcome.ranking.len().min(MEASURED_CANDIDATES),
            best: best.map_or_else(String::new, |best| Quantity::Latency.format(best)),
        }
        .into())
    }

    #[expect(clippy::too_many_arguments, reason = "a report gathers everything that made the file")]
    fn report(
        &self,
        run: &Run,
        profile: Option<&ProfileFile>,
        validation: &Validation,
        settings: &Settings,
        outcome: &Outcome,
        point: Point,
        measurement: Option<Measurement>,
        proof: Proof,
        model: &[u8],
    ) -> Report {
        let cost = run.model.space.cost(&point.subnet);
        let predicted_latency_us = profile.map(|profile| {
            1e6 * profile.latency_model.predict(&run.model.space.features(&point.subnet)).as_secs_f64()
        });
        let measured_latency_us = measurement.as_ref().map(|measurement| measurement.p50_us);
        let budgets = self
            .budget
            .iter()
            .map(|&asked| {
                let predicted = point.costs.iter().find(|(quantity, _)| *quantity == asked.quantity).map_or(0.0, |c| c.1);
                let measured = match asked.quantity {
                    Quantity::Latency => measured_latency_us.unwrap_or(predicted),
                    Quantity::FileSize => model.len() as f64,
                    _ => predicted,
                };
                BudgetReport { asked, predicted, measured }
            })
            .collect();
        Report {
            schema: "elastic.export/v1",
            file: self.file_name(run, profile),
            sha256: file::sha256(model),
            file_bytes: model.len(),
            platform: profile.map(|profile| profile.name.clone()),
            cost,
            flops: cost.flops(),
            validation_accuracy: point.accuracy,
            validation_images: validation.labels.len(),
            predicted_latency_us,
            measured_latency_us,
            measurement,
            budgets,
            proof,
            search: SearchReport {
                evaluations: outcome.evaluations,
                population: settings.population,
                seed: settings.seed.0,
                front: outcome.front.clone(),
            },
            subnet: point.subnet,
            checkpoint: run.loaded.sha256.clone(),
            run: run.folder.0.clone(),
            elastic_version: env!("CARGO_PKG_VERSION"),
            command: std::env::args().collect(),
        }
    }

    fn file_name(&self, run: &Run, profile: Option<&ProfileFile>) -> String {
        let platform = profile.map(|profile| profile.name.clone());
        let budgets = self.budget.iter().map(ToString::to_string);
        let parts: Vec<String> = std::iter::once(run.name()).chain(platform).chain(budgets).collect();
        format!("{}.onnx", parts.join("-"))
    }
}

/// The latency of a subnet on its platform, beside the profile's reference.
fn measure(run: &Run, profile: &ProfileFile, subnet: &Subnet, reporter: &Reporter) -> anyhow::Result<Measurement> {
    let space = &run.model.space;
    let batch = Some(profile.platform.batch);
    let models = [&profile.reference, subnet]
        .map(|subnet| Ok(build(space, subnet, &run.loaded.supernet.extract(subnet), &options(run, subnet, batch)?)?));
    let models = models.into_iter().collect::<anyhow::Result<Vec<_>>>()?;
    let bytes: Vec<&[u8]> = models.iter().map(|model| &model[..]).collect();
    let inputs = random_inputs(profile.platform.batch, space.input(), run.model.seed());
    let mut task = reporter.task("measure", 0);
    let measured = measure_here(&profile.platform, &bytes, inputs, run.model.seed(), &mut |done, total| {
        task.at(done as u64, total as u64, &profile.name);
    })?;
    measured.measurements.into_iter().nth(1).context("the device measured fewer models than it was given")
}

/// What is written into a model besides the network; nothing that changes from run to run.
fn options(run: &Run, subnet: &Subnet, batch: Option<usize>) -> anyhow::Result<GraphOptions> {
    let data = &run.model.data;
    let preprocessing = serde_json::json!({
        "scale": 1.0 / 255.0,
        "mean": data.mean,
        "std": data.std,
        "formula": "(pixel * scale - mean) / std, per channel",
    });
    let metadata = BTreeMap::from([
        (SUBNET_KEY.to_owned(), serde_json::to_string(subnet)?),
        (CHECKPOINT_KEY.to_owned(), run.loaded.sha256.clone()),
        (PREPROCESSING_KEY.to_owned(), preprocessing.to_string()),
        (BATCH_KEY.to_owned(), batch.map_or_else(|| "dynamic".to_owned(), |batch| batch.to_string())),
    ]);
    let batch = batch.map_or(Batch::Dynamic, Batch::Fixed);
    Ok(GraphOptions { batch, class_names: data.class_names.clone(), metadata })
}

fn print(reports: &[Report], out: &Path) {
    let rows: Vec<Vec<String>> = reports
        .iter()
        .map(|report| {
            let worst = report.proof.agreement.iter().map(|a| a.max_abs_difference).fold(0.0, f64::max);
            let latency = |value: Option<f64>| value.map_or_else(String::new, |us| Quantity::Latency.format(us));
            vec![
                report.platform.clone().unwrap_or_else(|| "any".into()),
                report.subnet.to_string(),
                percent(report.validation_accuracy),
                percent(report.proof.test_accuracy),
                Quantity::Flops.format(report.flops as f64),
                Quantity::FileSize.format(report.file_bytes as f64),
                latency(report.predicted_latency_us),
                latency(report.measured_latency_us),
                format!("{worst:.1e}"),
            ]
        })
        .collect();
    table::print(
        &["platform", "subnet", "validation", "test", "FLOPs", "file", "predicted", "measured", "difference"],
        &rows,
    );
    println!();
    for report in reports {
        let budgets: Vec<String> = report
            .budgets
            .iter()
            .map(|b| format!("{} of {}", b.asked.quantity.format(b.measured), b.asked.quantity.format(b.asked.limit)))
            .collect();
        println!("{}: budget {}", out.join(&report.file).display(), budgets.join(", "));
    }
}
