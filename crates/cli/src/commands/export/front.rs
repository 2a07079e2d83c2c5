//! The whole Pareto front of a search: every subnet of it as a model, and one table that compares them.

use std::path::Path;

use elastic_exporter::search::{self, Evaluator, Objectives, Point, thin};
use elastic_space::budget::Quantity;
use elastic_space::{Budget, Cost, Subnet, file};
use schemars::JsonSchema;
use serde::Serialize;

use super::candidates::Tried;
use super::job::{Job, Knowledge};
use super::report::{Report, SearchReport};
use crate::table::{self, percent};

/// What is written as `NAME-pareto.json`.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub(crate) struct FrontReport {
    schema: &'static str,
    /// The JSON file's name.
    file: String,
    platform: Option<String>,
    budgets: Vec<Budget>,
    /// What is to be small besides an accuracy that is to be large; none where that is the use of the budget.
    objectives: Vec<Quantity>,
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
    /// The largest share of a budget, or the first of the objectives in its base unit.
    usage: f64,
    /// What the search weighed, each in the base unit of its quantity.
    costs: Vec<(Quantity, f64)>,
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
    let objectives = match &job.request.objective[..] {
        [] if !job.budgets.is_empty() => Vec::new(),
        [] if job.profile.is_some() => vec![Quantity::Latency],
        [] => vec![Quantity::Flops],
        asked => asked.to_vec(),
    };
    let found = job.search(&objectives, knowledge)?;
    let of_point = |point: &Point| {
        let used = search::usage(&point.costs, job.budgets).unwrap_or_default();
        Objectives::new(point.accuracy, &point.costs, &objectives, used)
    };
    let mut front: Vec<(Objectives, &Point)> =
        found.outcome.front.iter().map(|point| (of_point(point), point)).collect();
    front.sort_by(|a, b| a.0.cheaper(&b.0));
    let wanted: Vec<Objectives> = front.iter().map(|(wanted, _)| *wanted).collect();
    let written = thin(&wanted, job.request.pareto_models);
    let mut bench = job.bench()?;
    let gauges = job.gauges(|_| Some(1.0));
    let mut points = Vec::with_capacity(front.len());
    for (place, &(Objectives { costs: [usage, _], .. }, point)) in front.iter().enumerate() {
        let cost = job.run.model.space.cost(&point.subnet);
        let Knowledge { accuracies, .. } = &mut *knowledge;
        let mut judge = job.judge(&gauges, accuracies);
        let mut line = FrontPoint {
            subnet: point.subnet.clone(),
            validation_accuracy: point.accuracy,
            test_accuracy: None,
            usage,
            costs: point.costs.clone(),
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
    let usage = objectives.first().map_or("the largest share of a budget", |first| first.name());
    let budgets = job.budgets.to_vec();
    let report = FrontReport { schema, file, platform, budgets, objectives, usage, points, search };
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
