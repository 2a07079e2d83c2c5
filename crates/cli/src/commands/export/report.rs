//! What is written beside a model, and the table of several.

use std::fmt;
use std::path::{Path, PathBuf};

use elastic_exporter::Form;
use elastic_exporter::precision::Precision;
use elastic_exporter::search::{Point, Strategy};
use elastic_profiler::Measurement;
use elastic_space::budget::Quantity;
use elastic_space::{Budget, Cost, Subnet};
use schemars::JsonSchema;
use serde::Serialize;

use super::finetune::FinetuneReport;
use super::forms::FormReport;
use super::job::Found;
use crate::fewer_bits::{Accuracies, FewerBits};
use crate::proof::Proof;
use crate::table::{self, percent};

/// What is written beside a model.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub(crate) struct Report {
    pub(super) schema: &'static str,
    /// Its name in the output folder.
    pub(crate) file: String,
    pub(super) sha256: String,
    pub(super) file_bytes: usize,
    pub(super) family: String,
    pub(super) form: Form,
    /// The version of the standard operators.
    pub(super) opset: i64,
    pub(super) precision: Precision,
    /// What fewer bits than 32 cost, where there are fewer.
    pub(super) fewer_bits: Option<FewerBits>,
    /// What training the subnet alone came to, where it was.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) finetune: Option<FinetuneReport>,
    /// The folder of the Rust crate that was written too.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) burn_crate: Option<PathBuf>,
    /// Every form and precision that was measured on the platform, or that it refused.
    pub(super) forms: Vec<FormReport>,
    pub(super) platform: Option<String>,
    /// Other platforms that the file serves.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) shared_with: Vec<String>,
    pub(super) subnet: Subnet,
    #[serde(flatten)]
    pub(super) cost: Cost,
    pub(super) flops: u64,
    pub(super) validation_accuracy: f64,
    pub(super) validation_images: usize,
    /// Median of one run in microseconds, as the latency model predicts it.
    pub(super) predicted_latency_us: Option<f64>,
    /// The same as measured on the platform before the file was written.
    pub(super) measured_latency_us: Option<f64>,
    /// The most memory that a process held there which loaded and ran it alone, in bytes, where that was measured.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) measured_memory_bytes: Option<u64>,
    /// Every timed run of that measurement.
    pub(super) measurement: Option<Measurement>,
    pub(super) budgets: Vec<BudgetReport>,
    pub(super) proof: Proof,
    pub(super) search: SearchReport,
    pub(super) checkpoint: String,
    pub(super) run: PathBuf,
    pub(super) elastic_version: &'static str,
    pub(super) command: Vec<String>,
}

#[derive(Debug, Clone, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub(super) struct BudgetReport {
    pub(super) asked: Budget,
    /// The value before anything was measured, in the base unit of the quantity.
    pub(super) predicted: f64,
    /// The value of the written file.
    pub(super) measured: f64,
}

impl fmt::Display for BudgetReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let quantity = self.asked.quantity;
        // Bytes are those of the file where nothing else is said.
        let name = if quantity == Quantity::Memory { "memory " } else { "" };
        write!(f, "{name}{} of {}", quantity.format(self.measured), quantity.format(self.asked.limit))
    }
}

#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub(super) struct SearchReport {
    pub(super) strategy: Strategy,
    /// Accuracies that the search asked for.
    pub(super) evaluations: usize,
    /// How many of them had been measured before.
    pub(super) cached: usize,
    pub(super) population: usize,
    pub(super) seed: u64,
    pub(super) front: Vec<Point>,
    /// Every subnet whose accuracy was asked for or known: those of earlier searches of this command that hold the budgets, then this
    /// search's in their order. Costs are in the base unit of their quantity.
    pub(super) evaluated: Vec<Point>,
}

impl SearchReport {
    pub(super) fn of(Found { settings, outcome, cached }: &Found) -> Self {
        Self {
            strategy: settings.strategy,
            evaluations: outcome.evaluations,
            cached: *cached,
            population: settings.population,
            seed: settings.seed.0,
            front: outcome.front.clone(),
            evaluated: outcome.evaluated.clone(),
        }
    }
}

/// Prints one row a model; accuracies that were not measured again are from the file `accuracies`.
pub(super) fn print(reports: &[Report], out: &Path, accuracies: &Path) {
    let rows: Vec<Vec<String>> = reports
        .iter()
        .map(|report| {
            let worst = report.proof.agreement.iter().map(|a| a.max_abs_difference).fold(0.0, f64::max);
            let latency =
                |value: Option<f64>| value.map_or_else(String::new, |us| Quantity::Latency.format(us));
            vec![
                report.platform.clone().unwrap_or_else(|| "any".into()),
                report.subnet.to_string(),
                percent(report.validation_accuracy),
                percent(report.proof.test_accuracy),
                Quantity::Flops.format(report.flops as f64),
                Quantity::FileSize.format(report.file_bytes as f64),
                report.form.to_string(),
                latency(report.predicted_latency_us),
                latency(report.measured_latency_us),
                format!("{worst:.1e}"),
            ]
        })
        .collect();
    table::print(
        &[
            "platform",
            "subnet",
            "validation",
            "test",
            "FLOPs",
            "file",
            "form",
            "predicted",
            "measured",
            "difference",
        ],
        &rows,
    );
    println!();
    for report in reports {
        let budgets: Vec<String> = report.budgets.iter().map(ToString::to_string).collect();
        if let Some(reason) = report.proof.not_compared {
            println!("{}: {reason}", report.file);
        }
        if let Some(cost) = &report.fewer_bits {
            let Accuracies { images, accuracy_fp32, accuracy } = &cost.measured;
            println!(
                "{}: {}, validation accuracy {} in fp32, {} as written ({images} images)",
                report.file,
                report.precision,
                percent(*accuracy_fp32),
                percent(*accuracy)
            );
        }
        if let Some(tuned) = &report.finetune {
            let kept = if tuned.kept { "" } else { ": worse, so the supernet's weights were kept" };
            println!(
                "{}: fine-tuned in {} steps, validation accuracy {} before, {} after{kept} ({} images)",
                report.file,
                tuned.steps,
                percent(tuned.accuracy_before),
                percent(tuned.accuracy_after),
                report.validation_images
            );
        }
        if let Some(folder) = &report.burn_crate {
            println!(
                "{}: a Rust crate in 32-bit floats; prove it with: cargo test --release",
                folder.display()
            );
        }
        let file = out.join(&report.file);
        if budgets.is_empty() {
            println!("{}", file.display());
        } else {
            println!("{}: budget {}", file.display(), budgets.join(", "));
        }
    }
    let sum = |of: fn(&SearchReport) -> usize| reports.iter().map(|report| of(&report.search)).sum::<usize>();
    let (cached, evaluations) = (sum(|search| search.cached), sum(|search| search.evaluations));
    if cached > 0 {
        println!("{cached} of {evaluations} accuracies were measured before: {}", accuracies.display());
    }
}
