//! The export of one model: search, measure, prove, write.

use std::collections::BTreeMap;

use anyhow::Context;
use elastic_data::Images;
use elastic_exporter::build;
use elastic_exporter::search::{Evaluator, Outcome, Point, Settings, search};
use elastic_profiler::{Measurement, ProfileFile, Task, measure_on};
use elastic_space::budget::Quantity;
use elastic_space::{Budget, Seed, Subnet, file};

use super::Export;
use super::report::{BudgetReport, Report, SearchReport};
use crate::exit::{BudgetMissed, SubnetOverBudget};
use crate::judge::{Judge, Validation};
use crate::model_file;
use crate::progress::Reporter;
use crate::proof::{self, Proof};
use crate::runs::Run;
use crate::table::percent;

/// Candidates of a search that are measured on the platform before it gives up.
const MEASURED_CANDIDATES: usize = 8;

/// A machine that is this much slower than when it was profiled is told of.
const SLOWER: f64 = 1.1;

/// What one model is made from.
pub(super) struct Job<'a> {
    pub(super) request: &'a Export,
    /// The subnet to export without a search.
    pub(super) named: Option<&'a Subnet>,
    pub(super) run: &'a Run,
    pub(super) profile: Option<&'a ProfileFile>,
    /// The validation images, all of them.
    pub(super) images: &'a Images,
    /// Those that the search uses.
    pub(super) validation: &'a Validation,
    /// `None` is dynamic.
    pub(super) batch: Option<usize>,
    pub(super) reporter: &'a Reporter,
}

/// A candidate that holds every budget.
struct Winner {
    point: Point,
    model: Vec<u8>,
    measurement: Option<Measurement>,
}

/// What a user should know of a machine that has become slower; else nothing.
fn slowdown_note(slowdown: f64) -> String {
    if slowdown < SLOWER {
        return String::new();
    }
    format!(
        "; the machine is {slowdown:.1} times slower than when it was profiled: let it rest, or profile it again"
    )
}

impl Job<'_> {
    /// Searches, proves and writes the model. `known` holds accuracies of earlier searches, and gets
    /// those of this one.
    pub(super) fn export(&self, known: &mut BTreeMap<Subnet, f64>) -> anyhow::Result<Report> {
        let settings = Settings {
            population: self.request.population,
            max_evaluations: self.request.evaluations,
            mutation_probability: 0.1,
            seed: self.request.seed.map_or(self.run.model.seed(), Seed),
            known: known.iter().map(|(subnet, accuracy)| (subnet.clone(), *accuracy)).collect(),
        };
        let outcome = self.search(&settings, known)?;
        let winner = self.choose(&outcome)?;
        self.reporter.detail(&format!("verifying {}", winner.point.subnet));
        let proof = proof::prove(
            self.run,
            &winner.point.subnet,
            &winner.model,
            self.batch,
            self.images,
            self.reporter,
        )?;
        let path = self.request.out.join(self.file_name());
        file::write(&path, &winner.model)?;
        let report = self.report(&settings, &outcome, winner, proof);
        file::write_json(&path.with_extension("json"), &report)?;
        Ok(report)
    }

    fn search(&self, settings: &Settings, known: &mut BTreeMap<Subnet, f64>) -> anyhow::Result<Outcome> {
        let title =
            self.profile.map_or_else(|| "search".to_owned(), |profile| format!("search {}", profile.name));
        let mut task = self.reporter.task(&title, settings.max_evaluations as u64);
        let latency_model = self.profile.map(|profile| &profile.latency_model);
        let mut judge = Judge::new(self.run, self.batch, latency_model, self.validation);
        if let Some(subnet) = self.named {
            return self.only(subnet, &mut judge);
        }
        let outcome =
            search(&self.run.model.space, &self.request.budget, &mut judge, settings, &mut |progress| {
                let (done, total) = (progress.evaluations as u64, progress.max_evaluations as u64);
                task.at(done, total, &format!("best {}", percent(progress.best)));
            })?;
        known.append(&mut judge.measured);
        Ok(outcome)
    }

    /// What a search that sees one subnet finds.
    fn only(&self, subnet: &Subnet, judge: &mut Judge<'_>) -> anyhow::Result<Outcome> {
        let mut costs = Vec::new();
        for budget in &self.request.budget {
            let cost = judge.cost(subnet, budget.quantity)?;
            if cost > budget.limit {
                return Err(SubnetOverBudget {
                    subnet: subnet.to_string(),
                    cost: budget.quantity.format(cost),
                    budget: budget.to_string(),
                }
                .into());
            }
            costs.push((budget.quantity, cost));
        }
        let point = Point { subnet: subnet.clone(), accuracy: judge.accuracy(subnet)?, costs };
        let points = vec![point];
        Ok(Outcome { evaluated: points.clone(), ranking: points.clone(), front: points, evaluations: 1 })
    }

    /// The best candidate that holds the budgets when it is measured on its platform.
    fn choose(&self, outcome: &Outcome) -> anyhow::Result<Winner> {
        let (mut best, mut slowdown) = (f64::INFINITY, 1.0_f64);
        for point in outcome.ranking.iter().take(MEASURED_CANDIDATES) {
            let model = self.build(&point.subnet, self.batch)?;
            let point = point.clone();
            let Some(profile) = self.profile else {
                return Ok(Winner { point, model, measurement: None });
            };
            let (measurement, slower) = self.measure(profile, &point.subnet)?;
            let mut limits = self.request.budget.iter().filter(|budget| budget.quantity == Quantity::Latency);
            if limits.all(|budget| measurement.p50_us <= budget.limit) {
                return Ok(Winner { point, model, measurement: Some(measurement) });
            }
            self.reporter.say(&format!(
                "{} took {} on {}: over the budget, the next candidate is taken{}",
                point.subnet,
                Quantity::Latency.format(measurement.p50_us),
                profile.name,
                slowdown_note(slower)
            ));
            (best, slowdown) = (best.min(measurement.p50_us), slowdown.max(slower));
        }
        let budgets: Vec<String> = self.request.budget.iter().map(ToString::to_string).collect();
        Err(BudgetMissed {
            budget: budgets.join(" and "),
            platform: self.profile.map_or_else(String::new, |profile| profile.name.clone()),
            tried: outcome.ranking.len().min(MEASURED_CANDIDATES),
            best: Quantity::Latency.format(best),
            unstable: slowdown >= SLOWER,
            note: slowdown_note(slowdown),
        }
        .into())
    }

    /// The latency of a subnet on its platform, beside the profile's reference; and how many times as long the
    /// reference takes as it did in the profile.
    fn measure(&self, profile: &ProfileFile, subnet: &Subnet) -> anyhow::Result<(Measurement, f64)> {
        let batch = Some(profile.platform.batch);
        let models = [self.build(&profile.reference, batch)?, self.build(subnet, batch)?];
        let models = [&models[0][..], &models[1][..]];
        let (space, seed) = (&self.run.model.space, self.run.model.seed());
        let wanted = Task { models: &models, input: space.input(), seed, nodes_of: &[] };
        let mut task = self.reporter.task("measure", 0);
        let measured = measure_on(&profile.platform, &wanted, &mut |done, total| {
            task.at(done as u64, total as u64, &profile.name);
        })?;
        let [reference, measurement] = <[Measurement; 2]>::try_from(measured.measurements)
            .ok()
            .context("the device measured another number of models than it was given")?;
        let then = profile.measurements.first().context("the profile holds no measurement: make it anew")?;
        Ok((measurement, reference.p50_us / then.latency.p50_us))
    }

    fn build(&self, subnet: &Subnet, batch: Option<usize>) -> anyhow::Result<Vec<u8>> {
        let weights = self.run.loaded.supernet.extract(subnet);
        Ok(build(&self.run.model.space, subnet, &weights, &model_file::options(self.run, subnet, batch)?)?)
    }

    fn report(&self, settings: &Settings, outcome: &Outcome, winner: Winner, proof: Proof) -> Report {
        let Winner { point, model, measurement } = winner;
        let cost = self.run.model.space.cost(&point.subnet);
        let features = self.run.model.space.features(&point.subnet);
        let predicted_latency_us =
            self.profile.map(|profile| 1e6 * profile.latency_model.predict(&features).as_secs_f64());
        let measured_latency_us = measurement.as_ref().map(|measurement| measurement.p50_us);
        let budget = |&asked: &Budget| {
            let cost = point.costs.iter().find(|(quantity, _)| *quantity == asked.quantity);
            let predicted = cost.expect("the search asks for the cost of every budget").1;
            let measured = match asked.quantity {
                Quantity::Latency => measured_latency_us.unwrap_or(predicted),
                Quantity::FileSize => model.len() as f64,
                _ => predicted,
            };
            BudgetReport { asked, predicted, measured }
        };
        Report {
            schema: "elastic.export/v1",
            file: self.file_name(),
            sha256: file::sha256(&model),
            file_bytes: model.len(),
            platform: self.profile.map(|profile| profile.name.clone()),
            cost,
            flops: cost.flops(),
            validation_accuracy: point.accuracy,
            validation_images: self.validation.labels.len(),
            predicted_latency_us,
            measured_latency_us,
            budgets: self.request.budget.iter().map(budget).collect(),
            measurement,
            proof,
            search: SearchReport {
                evaluations: outcome.evaluations,
                population: settings.population,
                seed: settings.seed.0,
                front: outcome.front.clone(),
            },
            subnet: point.subnet,
            checkpoint: self.run.loaded.sha256.clone(),
            run: self.run.folder.0.clone(),
            elastic_version: env!("CARGO_PKG_VERSION"),
            command: std::env::args().collect(),
        }
    }

    fn file_name(&self) -> String {
        let platform = self.profile.map(|profile| profile.name.clone());
        let subnet = self.request.subnet.clone();
        let budgets = self.request.budget.iter().map(ToString::to_string);
        let parts: Vec<String> =
            std::iter::once(self.run.name()).chain(platform).chain(subnet).chain(budgets).collect();
        format!("{}.onnx", parts.join("-"))
    }
}
