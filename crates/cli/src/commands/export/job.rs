//! The export of one model: search, measure, prove, write.

use std::collections::BTreeMap;

use anyhow::Context;
use elastic_data::Examples;
use elastic_exporter::precision::{Precision, ReduceError, calibrate, reduce};
use elastic_exporter::search::{Evaluator, Outcome, Point, Settings, search};
use elastic_exporter::{Form, build};
use elastic_profiler::{ProfileFile, Shapes, Task};
use elastic_space::budget::Quantity;
use elastic_space::platform::{Provider, Runtime};
use elastic_space::{Budget, Seed, Subnet, file};

use super::burn_crate;
use super::candidates::Winner;
use super::finetune::Tuned;
use super::forms::{Bench, File};
use super::papers::{self, Origin};
use super::report::{BudgetReport, Report, SearchReport};
use super::{Emit, Export};
use crate::accuracies::Accuracies;
use crate::exit::SubnetOverBudget;
use crate::fewer_bits;
use crate::judge::{Gauge, Judge, Validation};
use crate::metadata::Metadata;
use crate::model_file::Writing;
use crate::platforms::onnx_runtime_cpu;
use crate::process;
use crate::progress::Reporter;
use crate::proof::{self, DYNAMIC_BATCH, Proof};
use crate::runs::Run;
use crate::table::percent;

/// Our own graphs leave no sizes open where they are measured.
static NO_SHAPES: Shapes = Shapes::new();

/// What one model is made from.
#[derive(Clone, Copy)]
pub(super) struct Job<'a> {
    pub(super) request: &'a Export,
    /// What was asked for, and what else the platform allows.
    pub(super) budgets: &'a [Budget],
    /// The subnet to export without a search.
    pub(super) named: Option<&'a Subnet>,
    pub(super) run: &'a Run,
    pub(super) profile: Option<&'a ProfileFile>,
    /// What the chosen subnet is trained on alone, where it is.
    pub(super) train: Option<&'a Examples>,
    /// The validation images, all of them.
    pub(super) images: &'a Examples,
    /// Those that the search uses.
    pub(super) validation: &'a Validation,
    /// How the model may be written, in the order of preference where nothing is measured.
    pub(super) writings: &'a [Writing],
    pub(super) fewer_bits: &'a fewer_bits::Settings,
    pub(super) origin: &'a Origin,
    /// What the file says of itself.
    pub(super) metadata: &'a Metadata<'a>,
    pub(super) reporter: &'a Reporter,
}

/// What one search after the other learns of the run's subnets.
pub(super) struct Knowledge<'a> {
    /// Accuracies that this command asked for and were measured in full: the next search begins with them.
    pub(super) known: BTreeMap<Subnet, f64>,
    /// Accuracies of earlier commands: they cost nothing, and change no search.
    pub(super) accuracies: Accuracies<'a>,
}

/// What a search found, and how many of its accuracies had been measured before.
pub(super) struct Found {
    pub(super) settings: Settings,
    pub(super) outcome: Outcome,
    pub(super) cached: usize,
}

impl Job<'_> {
    /// Searches, proves and writes the model. `knowledge` gets what this search learns.
    pub(super) fn export(&self, knowledge: &mut Knowledge<'_>) -> anyhow::Result<Report> {
        let found = self.search(&[], knowledge)?;
        let winner = self.choose(&found.outcome)?;
        self.write(&self.name(""), &found, winner, Vec::new())
    }

    /// Proves a model and writes it, with what belongs beside it. `shared_with` are other platforms that it serves.
    pub(super) fn write(
        &self,
        name: &str,
        found: &Found,
        winner: Winner,
        shared_with: Vec<String>,
    ) -> anyhow::Result<Report> {
        self.reporter.detail(&format!("verifying {}", winner.point.subnet));
        let job = self.with(winner.tuned.as_deref());
        let proof = proof::prove(
            job.run,
            &winner.point.subnet,
            [&job.build(&winner.point.subnet, winner.file.writing)?, &winner.file.bytes],
            winner.file.writing,
            self.images,
            self.reporter,
        )?;
        let file_name = format!("{name}.onnx");
        let path = self.request.out.join(&file_name);
        file::write(&path, &winner.file.bytes)?;
        if let Some(tuned) = &winner.tuned {
            tuned.write(&path)?;
        }
        let burn_crate = match self.request.emit {
            Some(Emit::Burn) => Some(burn_crate::write(&job, &winner.point.subnet, &path)?),
            None => None,
        };
        let report = Report { burn_crate, shared_with, ..self.report(file_name, found, winner, proof) };
        file::write_json(&path.with_extension("json"), &report)?;
        papers::write(&path, &report, self.origin, &self.run.model.data)?;
        papers::write_page(&path, &report, &self.run.model.space, self.profile)?;
        Ok(report)
    }

    /// Searches under the budgets on the platform. `objectives` are as in [`Settings`].
    pub(super) fn search(
        &self,
        objectives: &[Quantity],
        knowledge: &mut Knowledge<'_>,
    ) -> anyhow::Result<Found> {
        let gauges = self.gauges(|_| Some(1.0));
        let title =
            self.profile.map_or_else(|| "search".to_owned(), |profile| format!("search {}", profile.name));
        self.search_by(&title, (self.budgets, objectives), &gauges, knowledge)
    }

    /// What predicts the costs that were measured on the platform, in units of those that have one.
    pub(super) fn gauges(&self, unit: impl Fn(Quantity) -> Option<f64>) -> Vec<Gauge<'_>> {
        let gauge =
            |quantity| Some(Gauge { quantity, model: self.profile?.model(quantity)?, unit: unit(quantity)? });
        Quantity::ALL.into_iter().filter_map(gauge).collect()
    }

    /// What answers for subnets, by the predictions of `gauges`.
    pub(super) fn judge<'j, 'r>(
        &'j self,
        gauges: &'j [Gauge<'j>],
        accuracies: &'j mut Accuracies<'r>,
    ) -> Judge<'j, 'r> {
        Judge::new(self.run, (self.writings[0], self.metadata), gauges, self.validation, accuracies)
    }

    /// Searches under budgets by the predictions of `gauges`.
    pub(super) fn search_by(
        &self,
        title: &str,
        (budgets, objectives): (&[Budget], &[Quantity]),
        gauges: &[Gauge<'_>],
        knowledge: &mut Knowledge<'_>,
    ) -> anyhow::Result<Found> {
        let Knowledge { known, accuracies } = knowledge;
        let margins = |subnet: &Subnet| accuracies.get(subnet).expect("what was measured is kept").clone();
        let settings = Settings {
            strategy: self.request.search,
            population: self.request.population,
            max_evaluations: self.request.evaluations,
            mutation_probability: 0.1,
            seed: self.request.seed.map_or(self.run.model.seed(), Seed),
            objectives: objectives.to_vec(),
            early_stop: !self.request.no_early_stop,
            known: known.keys().map(|subnet| (subnet.clone(), margins(subnet))).collect(),
        };
        let mut task = self.reporter.task(title, settings.max_evaluations as u64);
        let lines = self.scaling()?;
        let mut judge = self.judge(gauges, accuracies).in_precisions(self.precisions(), &lines);
        if let Some(subnet) = self.named {
            let outcome = self.only(subnet, &mut judge)?;
            return Ok(Found { settings, outcome, cached: judge.cached });
        }
        let outcome = search(&self.run.model.space, budgets, &mut judge, &settings, &mut |progress| {
            let (done, total) = (progress.evaluations as u64, progress.max_evaluations as u64);
            task.at(done, total, &format!("best {}", percent(progress.best)));
        })?;
        let cached = judge.cached;
        known.extend(outcome.ranking.iter().map(|point| (point.subnet.clone(), point.accuracy)));
        Ok(Found { settings, outcome, cached })
    }

    /// What a search that sees one subnet finds.
    fn only(&self, subnet: &Subnet, judge: &mut Judge<'_, '_>) -> anyhow::Result<Outcome> {
        let mut costs = Vec::new();
        for budget in self.budgets {
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
        let accuracy = judge.margins(subnet, &|_| false)?.accuracy();
        let point = Point { subnet: subnet.clone(), accuracy, stopped_after: None, costs };
        let points = vec![point];
        Ok(Outcome { evaluated: points.clone(), ranking: points.clone(), front: points, evaluations: 1 })
    }

    pub(super) fn platform_name(&self) -> Option<&str> {
        self.profile.map(|profile| &profile.name[..])
    }

    /// The same with the weights of a subnet that was trained alone.
    pub(super) fn with<'b>(&'b self, tuned: Option<&'b Tuned>) -> Job<'b> {
        Job { run: tuned.map_or(self.run, |tuned| &tuned.run), ..*self }
    }

    /// What measures forms on the platform, beside the profile's reference.
    pub(super) fn bench(&self) -> anyhow::Result<Option<Bench<'_>>> {
        let Some(profile) = self.profile else { return Ok(None) };
        let reference = self.build(&profile.reference, Writing::portable(Some(profile.platform.batch)))?;
        let model = &self.run.model;
        let task = Task { models: &[], shapes: &NO_SHAPES, seed: model.seed(), nodes_of: &[], program: None };
        let program = process::this_program()?;
        let (reporter, refused) = (self.reporter, BTreeMap::new());
        Ok(Some(Bench { profile, reference, task, program, reporter, refused }))
    }

    /// The subnet in every form and precision that may be written and holds the budgets of the file.
    pub(super) fn files(&self, subnet: &Subnet) -> anyhow::Result<Vec<File>> {
        let mut files = Vec::with_capacity(self.writings.len());
        for &writing in self.writings {
            if !self.may_choose(writing.form) {
                continue;
            }
            let Some(file) = self.file(subnet, writing)? else { continue };
            let mut limits = self.budgets.iter().filter(|budget| budget.quantity == Quantity::FileSize);
            // Of one precision the first is the one that the search weighed.
            if (files.is_empty() && !self.has_precisions())
                || limits.all(|budget| file.bytes.len() as f64 <= budget.limit)
            {
                files.push(file);
            }
        }
        Ok(files)
    }

    /// Whether the platform may choose a form: operators of ONNX Runtime's own are proven on its CPU provider alone, and
    /// another runtime that reads them may take them for something else. A form that is named is no choice.
    pub(super) fn may_choose(&self, form: Form) -> bool {
        let runtime = self.profile.map(|profile| &profile.platform.runtime);
        let is_cpu =
            matches!(runtime, Some(Runtime::OnnxRuntime(settings)) if settings.provider == Provider::Cpu);
        self.request.form.0.is_some() || form.is_standard() || is_cpu
    }

    /// The files with the batch that the platform measures.
    pub(super) fn at_platform(&self, subnet: &Subnet, files: &[File]) -> anyhow::Result<Vec<File>> {
        let mut at_platform = Vec::with_capacity(files.len());
        for file in files {
            let batch = self.profile.map(|profile| profile.platform.batch);
            let writing = batch.map_or(file.writing, |batch| file.writing.measured(batch));
            let same = writing == file.writing;
            let file = if same { Some(file.clone()) } else { self.file(subnet, writing)? };
            at_platform.push(file.context("a file of another batch has no operator to reduce")?);
        }
        Ok(at_platform)
    }

    /// The subnet as a file; `None` where it is one of several and has nothing that the precision applies to.
    pub(super) fn file(&self, subnet: &Subnet, writing: Writing) -> anyhow::Result<Option<File>> {
        let bytes = self.build(subnet, writing)?;
        if writing.precision == Precision::Fp32 {
            return Ok(Some(File { writing, bytes }));
        }
        let ranges = match &self.fewer_bits.observed {
            Some(images) if writing.precision == Precision::Int8Static => {
                let batch = writing.batch.unwrap_or(DYNAMIC_BATCH);
                calibrate(&bytes, &onnx_runtime_cpu(1), images, batch, self.fewer_bits.method)?
            }
            _ => BTreeMap::new(),
        };
        match reduce(&bytes, writing.precision, &ranges) {
            Err(ReduceError::Nothing { .. }) if self.writings.len() > 1 => Ok(None),
            reduced => Ok(Some(File { writing, bytes: reduced? })),
        }
    }

    /// The subnet as a file of 32-bit floats.
    pub(super) fn build(&self, subnet: &Subnet, writing: Writing) -> anyhow::Result<Vec<u8>> {
        let weights = self.run.loaded.supernet.extract(subnet);
        Ok(build(&self.run.model.space, subnet, &weights, &self.metadata.options(subnet, writing)?)?)
    }

    /// Each budget with what the winner costs.
    pub(super) fn budget_reports(&self, winner: &Winner) -> Vec<BudgetReport> {
        let budget = |&asked: &Budget| {
            let cost = winner.point.costs.iter().find(|(quantity, _)| *quantity == asked.quantity);
            let predicted = cost.expect("the search asks for the cost of every budget").1;
            BudgetReport { asked, predicted, measured: winner.measured(asked.quantity).unwrap_or(predicted) }
        };
        self.budgets.iter().map(budget).collect()
    }

    /// Microseconds of one run on the platform, as its latency model predicts it.
    pub(super) fn predicted_us(&self, subnet: &Subnet) -> Option<f64> {
        self.profile.map(|profile| profile.predicted_us(subnet))
    }

    fn report(&self, file_name: String, found: &Found, winner: Winner, proof: Proof) -> Report {
        let budgets = self.budget_reports(&winner);
        let measured_latency_us = winner.measured_us();
        let Winner { point, file: model, measurement, memory_bytes, forms, fewer_bits, tuned } = winner;
        let cost = self.run.model.space.cost(&point.subnet);
        Report {
            schema: "elastic.export/v1",
            file: file_name,
            sha256: file::sha256(&model.bytes),
            file_bytes: model.bytes.len(),
            family: self.run.model.space.family().to_owned(),
            form: model.writing.form,
            opset: model.writing.opset,
            precision: model.writing.precision,
            fewer_bits,
            finetune: tuned.map(|tuned| tuned.report.clone()),
            burn_crate: None,
            forms,
            platform: self.platform_name().map(str::to_owned),
            shared_with: Vec::new(),
            cost,
            flops: cost.flops(),
            validation_accuracy: point.accuracy,
            validation_images: self.validation.labels.len(),
            predicted_latency_us: self.predicted_us(&point.subnet),
            measured_latency_us,
            measured_memory_bytes: memory_bytes,
            budgets,
            measurement,
            proof,
            search: SearchReport::of(found),
            subnet: point.subnet,
            checkpoint: self.run.loaded.sha256.clone(),
            run: self.run.folder.0.clone(),
            elastic_version: env!("CARGO_PKG_VERSION"),
            command: std::env::args().collect(),
        }
    }

    /// The name of what is written for the platform.
    pub(super) fn name(&self, kind: &str) -> String {
        self.request.name(self.run, self.platform_name(), kind)
    }
}
