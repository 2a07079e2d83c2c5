//! What a few models for many platforms come to.

use std::path::Path;

use elastic_space::Subnet;
use elastic_space::budget::Quantity;
use schemars::JsonSchema;
use serde::Serialize;

use super::super::candidates::Winner;
use super::super::forms::FormReport;
use super::super::job::Job;
use super::super::report::{BudgetReport, Report};
use crate::table::{self, percent};

/// What is written as `NAME.fleet.json`.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub(crate) struct FleetReport {
    schema: &'static str,
    /// The name of this file.
    pub(super) file: String,
    /// Subnets that were allowed.
    at_most: usize,
    /// Subnets that were chosen.
    subnets: usize,
    /// Whether no other choice of the evaluated subnets has a higher mean accuracy.
    exact: bool,
    platforms: Vec<Served>,
    mean_accuracy: f64,
    /// The mean where each platform has its own.
    mean_own_accuracy: f64,
    mean_loss: f64,
    /// Accuracies that all searches asked for.
    evaluations: usize,
    /// How many of them had been measured before.
    cached: usize,
    /// Subnets whose accuracy was known to the last search.
    evaluated: usize,
    models: Vec<Report>,
}

/// A platform and its model.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub(super) struct Served {
    platform: String,
    file: String,
    subnet: Subnet,
    validation_accuracy: f64,
    /// The most accurate subnet that is known to hold the platform's budgets; those that were measured and did not are left out.
    own_accuracy: f64,
    loss: f64,
    /// Median of one run in microseconds, as the latency model predicts it.
    predicted_latency_us: Option<f64>,
    /// The same as measured on the platform before the file was written.
    measured_latency_us: Option<f64>,
    budgets: Vec<BudgetReport>,
    forms: Vec<FormReport>,
}

impl Served {
    pub(super) fn new(job: &Job<'_>, winner: &Winner, file: String, own_accuracy: f64) -> Self {
        Self {
            platform: job.platform_name().unwrap_or_default().to_owned(),
            file,
            subnet: winner.point.subnet.clone(),
            validation_accuracy: winner.point.accuracy,
            own_accuracy,
            loss: own_accuracy - winner.point.accuracy,
            predicted_latency_us: job.predicted_us(&winner.point.subnet),
            measured_latency_us: winner.measured_us(),
            budgets: job.budget_reports(winner),
            forms: winner.forms.clone(),
        }
    }
}

impl FleetReport {
    pub(super) fn new(
        file: String,
        at_most: usize,
        exact: bool,
        platforms: Vec<Served>,
        models: Vec<Report>,
    ) -> Self {
        let mean = |of: fn(&Served) -> f64| platforms.iter().map(of).sum::<f64>() / platforms.len() as f64;
        let mut subnets: Vec<&Subnet> = platforms.iter().map(|served| &served.subnet).collect();
        subnets.sort();
        subnets.dedup();
        Self {
            schema: "elastic.fleet/v1",
            file,
            at_most,
            subnets: subnets.len(),
            exact,
            mean_accuracy: mean(|served| served.validation_accuracy),
            mean_own_accuracy: mean(|served| served.own_accuracy),
            mean_loss: mean(|served| served.loss),
            evaluations: 0,
            cached: 0,
            evaluated: 0,
            platforms,
            models,
        }
    }

    /// The names of what was written: the models and the table.
    pub(in super::super) fn files(&self) -> Vec<String> {
        self.models.iter().map(|model| model.file.clone()).chain([self.file.clone()]).collect()
    }

    /// With what the searches took.
    pub(super) fn searched(self, [evaluations, cached]: [usize; 2], evaluated: usize) -> Self {
        Self { evaluations, cached, evaluated, ..self }
    }
}

/// Prints one row a platform.
pub(in super::super) fn print(report: &FleetReport, out: &Path) {
    let latency = |value: Option<f64>| value.map_or_else(String::new, |us| Quantity::Latency.format(us));
    let points = |loss: f64| format!("{:.2} points", 100.0 * loss);
    let rows: Vec<Vec<String>> = report
        .platforms
        .iter()
        .map(|served| {
            let budgets = served.budgets.iter().map(ToString::to_string);
            vec![
                served.platform.clone(),
                served.file.clone(),
                served.subnet.to_string(),
                percent(served.validation_accuracy),
                percent(served.own_accuracy),
                points(served.loss),
                latency(served.predicted_latency_us),
                latency(served.measured_latency_us),
                budgets.collect::<Vec<_>>().join(", "),
            ]
        })
        .collect();
    let titles =
        ["platform", "model", "subnet", "validation", "own best", "loss", "predicted", "measured", "budgets"];
    table::print(&titles, &rows);
    let FleetReport { subnets, mean_accuracy, mean_own_accuracy, mean_loss, .. } = report;
    println!(
        "\n{subnets} {} for {} platforms: mean accuracy {}, one for each {}, loss {}{}",
        if *subnets == 1 { "subnet" } else { "subnets" },
        report.platforms.len(),
        percent(*mean_accuracy),
        percent(*mean_own_accuracy),
        points(*mean_loss),
        if report.exact { "" } else { "; not all choices were looked at" },
    );
    println!("{} accuracies for all of them, {} measured before", report.evaluations, report.cached);
    for model in &report.models {
        println!("{}", out.join(&model.file).display());
    }
    println!("{}", out.join(&report.file).display());
}
