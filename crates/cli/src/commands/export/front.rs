//! The whole Pareto front of a search: every subnet of it as a model, and one table that compares them.

use std::path::Path;

use elastic_exporter::search::{Evaluator, Point, thin};
use elastic_space::budget::Quantity;
use elastic_space::{Budget, Cost, Subnet, file};
use schemars::JsonSchema;
use serde::Serialize;

use super::candidates::Tried;
use super::job::{Job, Knowledge};
use super::report::{Report, SearchReport};
use crate::table::{self, percent};

/// More than any subnet costs: what a search without a budget stays below.
const NO_LIMIT: f64 = 1e18;

/// What is written as `NAME-pareto.json`.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub(crate) struct FrontReport {
    schema: &'static str,
    /// The JSON file's name.
    file: String,
    platform: Option<String>,
    budgets: Vec<Budget>,
    /// What is used less towards the cheap end.
    usage: &'static str,
    /// All of the front, the cheapest first.
    points: Vec<FrontPoint>,
    search: SearchReport,
}

/// One subnet of the front.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
struct FrontPoint {
    subnet: Subnet,
    validation_accuracy: f64,
    /// Of those that were written.
    test_accuracy: Option<f64>,
    /// The largest share of a budget; without budgets the latency in microseconds, or the FLOPs.
    usage: f64,
    #[serde(flatten)]
    cost: Cost,
    flops: u64,
    /// Of the portable form, or of the file that was written.
    file_bytes: u64,
    /// Median of one run in microseconds, as the latency model predicts it.
    predicted_latency_us: Option<f64>,
    /// The same as measured, of those that were written.
    measured_latency_us: Option<f64>,
    /// Whether it held its budgets when it was measured; those that do not are not written.
    holds: Option<bool>,
    form: Option<String>,
    model: Option<String>,
}

/// Searches, and writes the front.
pub(super) fn export(job: &Job<'_>, knowledge: &mut Knowledge<'_>) -> anyhow::Result<FrontReport> {
    let (usage, whole) = if !job.budgets.is_empty() {
        ("the largest share of a budget", job.budgets.to_vec())
    } else if job.profile.is_some() {
        ("latency", vec![Budget { quantity: Quantity::Latency, limit: NO_LIMIT }])
    } else {
        ("flops", vec![Budget { quantity: Quantity::Flops, limit: NO_LIMIT }])
    };
    let found = job.search(&whole, knowledge)?;
    let used = |point: &Point| {
        let share = |&(quantity, cost): &(Quantity, f64)| {
            let limits = job.budgets.iter().filter(|budget| budget.quantity == quantity);
            let limit = limits.map(|budget| budget.limit).min_by(f64::total_cmp);
            cost / limit.unwrap_or(1.0)
        };
        point.costs.iter().map(share).max_by(f64::total_cmp).unwrap_or_default()
    };
    let mut front: Vec<(f64, &Point)> =
        found.outcome.front.iter().map(|point| (used(point), point)).collect();
    front.sort_by(|a, b| a.0.total_cmp(&b.0));
    let objectives: Vec<(f64, f64)> = front.iter().map(|(usage, point)| (point.accuracy, *usage)).collect();
    let written = thin(&objectives, job.request.pareto_models);
    let mut bench = job.bench()?;
    let gauges = job.gauges(|_| Some(1.0));
    let mut points = Vec::with_capacity(front.len());
    for (place, &(usage, point)) in front.iter().enumerate() {
        let cost = job.run.model.space.cost(&point.subnet);
        let Knowledge { accuracies, .. } = &mut *knowledge;
        let mut judge = job.judge(&gauges, accuracies);
        let mut line = FrontPoint {
            subnet: point.subnet.clone(),
            validation_accuracy: point.accuracy,
            test_accuracy: None,
            usage,
            cost,
            flops: cost.flops(),
            file_bytes: judge.cost(&point.subnet, Quantity::FileSize)? as u64,
            predicted_latency_us: job.predicted_us(&point.subnet),
            measured_latency_us: None,
            holds: None,
            form: None,
            model: None,
        };
        if written.contains(&place) {
            match job.try_on(point, bench.as_mut())? {
                Tried::Misses { p50_us, .. } => {
                    (line.measured_latency_us, line.holds) = (Some(p50_us), Some(false));
                }
                Tried::Holds(winner) => {
                    let name = job.name(&format!("pareto-{}", place + 1));
                    line.tell(&job.write(&name, &found, *winner, Vec::new())?);
                }
            }
        }
        points.push(line);
    }
    let file = job.name("pareto") + ".json";
    let search = SearchReport::of(&found);
    let (schema, platform) = ("elastic.front/v1", job.platform_name().map(str::to_owned));
    let report = FrontReport { schema, file, platform, budgets: job.budgets.to_vec(), usage, points, search };
    let path = job.request.out.join(&report.file);
    file::write_json(&path, &report)?;
    file::write(&path.with_extension("csv"), &csv(&report.points)?)?;
    Ok(report)
}

impl FrontReport {
    /// The names of what was written: the models and the table.
    pub(super) fn files(&self) -> Vec<String> {
        self.points.iter().filter_map(|point| point.model.clone()).chain([self.file.clone()]).collect()
    }
}

impl FrontPoint {
    fn tell(&mut self, report: &Report) {
        self.test_accuracy = Some(report.proof.test_accuracy);
        self.file_bytes = report.file_bytes as u64;
        self.measured_latency_us = report.measured_latency_us;
        self.holds = Some(true);
        self.form = Some(report.form.to_string());
        self.model = Some(report.file.clone());
    }
}

/// The front as a table for programs.
fn csv(points: &[FrontPoint]) -> anyhow::Result<Vec<u8>> {
    let mut table = csv::Writer::from_writer(Vec::new());
    table.write_record([
        "model",
        "subnet",
        "validation_accuracy",
        "test_accuracy",
        "usage",
        "params",
        "macs",
        "flops",
        "file_bytes",
        "predicted_latency_us",
        "measured_latency_us",
        "form",
    ])?;
    let number = |value: Option<f64>| value.map(|value| value.to_string()).unwrap_or_default();
    for point in points {
        table.write_record([
            point.model.clone().unwrap_or_default(),
            point.subnet.to_string(),
            point.validation_accuracy.to_string(),
            number(point.test_accuracy),
            point.usage.to_string(),
            point.cost.params.to_string(),
            point.cost.macs.to_string(),
            point.flops.to_string(),
            point.file_bytes.to_string(),
            number(point.predicted_latency_us),
            number(point.measured_latency_us),
            point.form.clone().unwrap_or_default(),
        ])?;
    }
    Ok(table.into_inner()?)
}

/// Prints a table a platform.
pub(super) fn print(fronts: &[FrontReport], out: &Path) {
    for front in fronts {
        let latency = |value: Option<f64>| value.map_or_else(String::new, |us| Quantity::Latency.format(us));
        let rows: Vec<Vec<String>> = front
            .points
            .iter()
            .enumerate()
            .map(|(place, point)| {
                let model = match (&point.model, point.holds) {
                    (Some(_), _) => "written",
                    (None, Some(false)) => "over the budget",
                    (None, _) => "",
                };
                vec![
                    (place + 1).to_string(),
                    point.subnet.to_string(),
                    percent(point.validation_accuracy),
                    point.test_accuracy.map_or_else(String::new, percent),
                    Quantity::Flops.format(point.flops as f64),
                    Quantity::Params.format(point.cost.params as f64),
                    Quantity::FileSize.format(point.file_bytes as f64),
                    latency(point.predicted_latency_us),
                    latency(point.measured_latency_us),
                    model.to_owned(),
                ]
            })
            .collect();
        let titles = [
            "",
            "subnet",
            "validation",
            "test",
            "FLOPs",
            "parameters",
            "file",
            "predicted",
            "measured",
            "model",
        ];
        if let Some(platform) = &front.platform {
            println!("{platform}");
        }
        table::print(&titles, &rows);
        let written = front.points.iter().filter(|point| point.model.is_some()).count();
        let file = out.join(&front.file);
        println!("\n{}: {written} models of a front of {}\n", file.display(), front.points.len());
    }
}
