//! The export of one model: search, measure, prove, write.

use std::collections::BTreeMap;

use elastic_data::Images;
use elastic_exporter::build;
use elastic_exporter::search::{Evaluator, Outcome, Point, Settings, search};
use elastic_profiler::{Measurement, ProfileFile, Shapes, Task};
use elastic_space::budget::Quantity;
use elastic_space::{Budget, Seed, Subnet, file};

use super::Export;
use super::forms::{Bench, File, FormReport};
use super::report::{BudgetReport, Report, SearchReport};
use crate::exit::{BudgetMissed, SubnetOverBudget};
use crate::judge::{Judge, Validation};
use crate::model_file::{self, Writing};
use crate::progress::Reporter;
use crate::proof::{self, Proof};
use crate::runs::Run;
use crate::table::percent;

/// Candidates of a search that are measured on the platform before it gives up.
const MEASURED_CANDIDATES: usize = 8;

/// Our own graphs leave no sizes open where they are measured.
static NO_SHAPES: Shapes = Shapes::new();

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
    /// How the model may be written, in the order of preference where nothing is measured.
    pub(super) writings: &'a [Writing],
    pub(super) reporter: &'a Reporter,
}

/// A candidate that holds every budget.
struct Winner {
    point: Point,
    file: File,
    measurement: Option<Measurement>,
    forms: Vec<FormReport>,
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
            &winner.file.bytes,
            winner.file.writing.batch,
            self.images,
            self.reporter,
        )?;
        let path = self.request.out.join(self.file_name());
        file::write(&path, &winner.file.bytes)?;
        let report = self.report(&settings, &outcome, winner, proof);
        file::write_json(&path.with_extension("json"), &report)?;
        Ok(report)
    }

    fn search(&self, settings: &Settings, known: &mut BTreeMap<Subnet, f64>) -> anyhow::Result<Outcome> {
        let title =
            self.profile.map_or_else(|| "search".to_owned(), |profile| format!("search {}", profile.name));
        let mut task = self.reporter.task(&title, settings.max_evaluations as u64);
        let latency_model = self.profile.map(|profile| &profile.latency_model);
        let mut judge = Judge::new(self.run, self.writings[0], latency_model, self.validation);
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

    /// The best candidate that holds the budgets when it is measured on its platform, in its fastest form.
    fn choose(&self, outcome: &Outcome) -> anyhow::Result<Winner> {
        let (mut best, mut slowdown) = (f64::INFINITY, 1.0_f64);
        let mut bench = self.profile.map(|profile| self.bench(profile)).transpose()?;
        for point in outcome.ranking.iter().take(MEASURED_CANDIDATES) {
            let point = point.clone();
            let mut files = self.files(&point.subnet)?;
            let Some(bench) = &mut bench else {
                let file = files.swap_remove(0);
                return Ok(Winner { point, file, measurement: None, forms: Vec::new() });
            };
            let fastest = bench.fastest(&self.at_platform(&point.subnet, &files)?)?;
            let measurement = fastest.measurement;
            let mut limits = self.request.budget.iter().filter(|budget| budget.quantity == Quantity::Latency);
            if limits.all(|budget| measurement.p50_us <= budget.limit) {
                let file = files.swap_remove(fastest.place);
                return Ok(Winner { point, file, measurement: Some(measurement), forms: fastest.forms });
            }
            self.reporter.say(&format!(
                "{} took {} on {}: over the budget, the next candidate is taken{}",
                point.subnet,
                Quantity::Latency.format(measurement.p50_us),
                bench.profile.name,
                slowdown_note(fastest.slowdown)
            ));
            (best, slowdown) = (best.min(measurement.p50_us), slowdown.max(fastest.slowdown));
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

    /// What measures forms on the platform, beside the profile's reference.
    fn bench<'a>(&'a self, profile: &'a ProfileFile) -> anyhow::Result<Bench<'a>> {
        let reference = self.build(&profile.reference, Writing::portable(Some(profile.platform.batch)))?;
        let model = &self.run.model;
        let task = Task { models: &[], shapes: &NO_SHAPES, seed: model.seed(), nodes_of: &[] };
        Ok(Bench { profile, reference, task, reporter: self.reporter, refused: BTreeMap::new() })
    }

    /// The subnet in every form that may be written and holds the budgets of the file.
    fn files(&self, subnet: &Subnet) -> anyhow::Result<Vec<File>> {
        let mut files = Vec::with_capacity(self.writings.len());
        for &writing in self.writings {
            let bytes = self.build(subnet, writing)?;
            let mut limits =
                self.request.budget.iter().filter(|budget| budget.quantity == Quantity::FileSize);
            // The first is the one that the search weighed.
            if files.is_empty() || limits.all(|budget| bytes.len() as f64 <= budget.limit) {
                files.push(File { writing, bytes });
            }
        }
        Ok(files)
    }

    /// The files with the batch that the platform measures.
    fn at_platform(&self, subnet: &Subnet, files: &[File]) -> anyhow::Result<Vec<File>> {
        let batch = self.profile.map(|profile| profile.platform.batch);
        let file = |file: &File| {
            let writing = Writing { batch, ..file.writing };
            Ok(File { writing, bytes: self.build(subnet, writing)? })
        };
        files.iter().map(file).collect()
    }

    fn build(&self, subnet: &Subnet, writing: Writing) -> anyhow::Result<Vec<u8>> {
        let weights = self.run.loaded.supernet.extract(subnet);
        Ok(build(&self.run.model.space, subnet, &weights, &model_file::options(self.run, subnet, writing)?)?)
    }

    fn report(&self, settings: &Settings, outcome: &Outcome, winner: Winner, proof: Proof) -> Report {
        let Winner { point, file: model, measurement, forms } = winner;
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
                Quantity::FileSize => model.bytes.len() as f64,
                _ => predicted,
            };
            BudgetReport { asked, predicted, measured }
        };
        Report {
            schema: "elastic.export/v1",
            file: self.file_name(),
            sha256: file::sha256(&model.bytes),
            file_bytes: model.bytes.len(),
            form: model.writing.form,
            opset: model.writing.opset,
            forms,
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
