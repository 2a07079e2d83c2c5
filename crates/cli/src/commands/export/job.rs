//! The export of one model: search, measure, prove, write.

use std::collections::BTreeMap;
use std::fmt;
use std::rc::Rc;

use anyhow::Context;
use elastic_data::Examples;
use elastic_exporter::precision::{Precision, ReduceError, calibrate, reduce, with_metadata};
use elastic_exporter::search::{Evaluator, Outcome, Point, Settings, search};
use elastic_exporter::{Form, build};
use elastic_profiler::{Measurement, ProfileFile, Shapes, Task};
use elastic_space::budget::Quantity;
use elastic_space::platform::{Provider, Runtime};
use elastic_space::{Budget, Platform, Seed, Subnet, file};

use super::burn_crate;
use super::finetune::{self, Tuned};
use super::forms::{Bench, File, FormReport};
use super::papers::{self, Origin};
use super::precisions;
use super::report::{BudgetReport, Report, SearchReport};
use super::{Emit, Export};
use crate::accuracies::Accuracies;
use crate::exit::{BudgetMissed, SubnetOverBudget};
use crate::fewer_bits::{self, ACCURACY_KEY, AccuracyDropped, FewerBits};
use crate::judge::{Gauge, Judge, Validation};
use crate::metadata::{self, FINETUNED_KEY, Metadata, VALIDATION_KEY};
use crate::model_file::Writing;
use crate::platforms::onnx_runtime_cpu;
use crate::process;
use crate::progress::Reporter;
use crate::proof::{self, DYNAMIC_BATCH, Proof};
use crate::runs::Run;
use crate::table::percent;

/// Candidates of a search that are measured on the platform before it gives up.
pub(super) const MEASURED_CANDIDATES: usize = 8;
/// Candidates that are taken by what was predicted of them; from then on predictions are corrected by what they came to.
const TRUSTED_CANDIDATES: usize = 4;

/// Our own graphs leave no sizes open where they are measured.
static NO_SHAPES: Shapes = Shapes::new();

/// A machine that is this much slower than when it was profiled is told of.
const SLOWER: f64 = 1.1;

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
    /// Accuracies that this command asked for: the next search begins with them.
    pub(super) known: BTreeMap<Subnet, f64>,
    /// Accuracies of earlier commands: they cost nothing, and change no search.
    pub(super) accuracies: Accuracies<'a>,
}

/// What a search found, and how many of its accuracies an earlier command had measured.
pub(super) struct Found {
    pub(super) settings: Settings,
    pub(super) outcome: Outcome,
    pub(super) cached: usize,
}

/// A candidate that was measured.
pub(super) enum Tried {
    /// It holds every budget.
    Holds(Box<Winner>),
    /// It is over a budget.
    Misses {
        missed: Missed,
        p50_us: f64,
        /// How many times as long the reference takes as it did in the profile.
        slowdown: f64,
    },
}

/// A budget that a candidate was over when it was measured.
#[derive(Clone, Copy)]
pub(super) struct Missed {
    budget: Budget,
    measured: f64,
}

impl Missed {
    /// How much of the budget it takes; above 1.
    fn share(self) -> f64 {
        self.measured / self.budget.limit
    }
}

impl fmt::Display for Missed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let quantity = self.budget.quantity;
        let verb = if quantity == Quantity::Latency { "took" } else { "needed" };
        write!(f, "{verb} {}", quantity.format(self.measured))
    }
}

/// A candidate that holds every budget.
#[derive(Clone)]
pub(super) struct Winner {
    pub(super) point: Point,
    pub(super) file: File,
    pub(super) measurement: Option<Measurement>,
    /// What a process needs on the platform that loads and runs it alone, where that was measured.
    memory_bytes: Option<u64>,
    pub(super) forms: Vec<FormReport>,
    fewer_bits: Option<FewerBits>,
    tuned: Option<Rc<Tuned>>,
}

/// The fastest file that is accurate enough.
struct Chosen {
    /// Its place among the files.
    place: usize,
    measurement: Measurement,
    cost: Option<FewerBits>,
}

impl Winner {
    /// Microseconds of one run on the platform, where it was measured.
    pub(super) fn measured_us(&self) -> Option<f64> {
        self.measured(Quantity::Latency)
    }

    /// What was measured of the file, in the base unit of the quantity.
    fn measured(&self, quantity: Quantity) -> Option<f64> {
        match quantity {
            Quantity::Latency => self.measurement.as_ref().map(|measurement| measurement.p50_us),
            Quantity::Energy => self.measurement.as_ref().and_then(|measurement| measurement.energy_uj),
            Quantity::Memory => self.memory_bytes.map(|bytes| bytes as f64),
            Quantity::FileSize => Some(self.file.bytes.len() as f64),
            Quantity::Flops | Quantity::Macs | Quantity::Params => None,
        }
    }

    /// Its accuracy as it is written.
    fn accuracy(&self) -> f64 {
        self.fewer_bits.as_ref().map_or(self.point.accuracy, |cost| cost.measured.accuracy)
    }

    /// With what was measured in the file's metadata; what fewer bits cost, so that the file can be verified.
    fn recorded(mut self, images: usize) -> anyhow::Result<Self> {
        let accuracy = metadata::validation(self.point.accuracy, images);
        self.file.bytes = with_metadata(&self.file.bytes, VALIDATION_KEY, &accuracy)?;
        if let Some(tuned) = &self.tuned {
            self.file.bytes = with_metadata(&self.file.bytes, FINETUNED_KEY, &tuned.entry())?;
        }
        if let Some(cost) = &self.fewer_bits {
            let measured = serde_json::to_string(&cost.measured)?;
            self.file.bytes = with_metadata(&self.file.bytes, ACCURACY_KEY, &measured)?;
        }
        Ok(self)
    }
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
    /// Searches, proves and writes the model. `knowledge` gets what this search learns.
    pub(super) fn export(&self, knowledge: &mut Knowledge<'_>) -> anyhow::Result<Report> {
        let found = self.search(self.budgets, knowledge)?;
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

    /// Searches under budgets on the platform.
    pub(super) fn search(&self, budgets: &[Budget], knowledge: &mut Knowledge<'_>) -> anyhow::Result<Found> {
        let gauges = self.gauges(|_| Some(1.0));
        let title =
            self.profile.map_or_else(|| "search".to_owned(), |profile| format!("search {}", profile.name));
        self.search_by(&title, budgets, &gauges, knowledge)
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
        budgets: &[Budget],
        gauges: &[Gauge<'_>],
        knowledge: &mut Knowledge<'_>,
    ) -> anyhow::Result<Found> {
        let Knowledge { known, accuracies } = knowledge;
        let settings = Settings {
            strategy: self.request.search,
            population: self.request.population,
            max_evaluations: self.request.evaluations,
            mutation_probability: 0.1,
            seed: self.request.seed.map_or(self.run.model.seed(), Seed),
            known: known.iter().map(|(subnet, accuracy)| (subnet.clone(), *accuracy)).collect(),
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
        known.append(&mut judge.measured);
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
        let point = Point { subnet: subnet.clone(), accuracy: judge.accuracy(subnet)?, costs };
        let points = vec![point];
        Ok(Outcome { evaluated: points.clone(), ranking: points.clone(), front: points, evaluations: 1 })
    }

    /// The best candidate that holds the budgets when it is measured on its platform, in its fastest form.
    fn choose(&self, outcome: &Outcome) -> anyhow::Result<Winner> {
        let (mut closest, mut slowest): (Option<Missed>, f64) = (None, 1.0);
        let mut bench = self.bench()?;
        // What is the most accurate may change with the precision.
        let wanted = if self.has_precisions() && bench.is_some() { precisions::JUDGED } else { 1 };
        let mut held: Vec<Winner> = Vec::new();
        let mut left: Vec<&Point> = outcome.ranking.iter().collect();
        let (mut tried, mut excess) = (0, 1.0_f64);
        while tried < MEASURED_CANDIDATES && held.len() < wanted && !left.is_empty() {
            let correction = if tried < TRUSTED_CANDIDATES { 1.0 } else { excess };
            let point = left.remove(self.most_promising(&left, correction));
            tried += 1;
            match self.try_on(point, bench.as_mut())? {
                Tried::Holds(winner) => held.push(*winner),
                Tried::Misses { missed, slowdown, .. } => {
                    excess = excess.max(missed.share() / self.share(point));
                    let is_closer = closest.is_none_or(|closest| missed.share() < closest.share());
                    closest = if is_closer { Some(missed) } else { closest };
                    slowest = slowest.max(slowdown);
                }
            }
        }
        // Of equal ones the first, as the search ranks them.
        let best_written = held.into_iter().rev().max_by(|a, b| a.accuracy().total_cmp(&b.accuracy()));
        match (best_written, closest) {
            (Some(winner), _) => Ok(winner),
            (None, Some(closest)) => Err(self.missed(tried, closest, slowest).into()),
            (None, None) => anyhow::bail!("the search found no subnet to measure"),
        }
    }

    /// The most accurate subnet that holds the budgets if its costs on the platform are so many times what is predicted; where
    /// there is none, the one that costs least.
    fn most_promising(&self, left: &[&Point], correction: f64) -> usize {
        let least = || (0..left.len()).min_by(|&a, &b| self.share(left[a]).total_cmp(&self.share(left[b])));
        let holds = left.iter().position(|point| self.share(point) * correction <= 1.0);
        holds.or_else(least).unwrap_or_default()
    }

    /// The largest share of a budget of what the platform measures, as it is predicted.
    fn share(&self, point: &Point) -> f64 {
        let share = |budget: &Budget| {
            let cost = point.costs.iter().find(|(quantity, _)| *quantity == budget.quantity);
            cost.map_or(0.0, |(_, cost)| cost / budget.limit)
        };
        let measured = self.budgets.iter().filter(|budget| budget.quantity.is_measured());
        measured.map(share).fold(0.0, f64::max)
    }

    /// What is said where none of so many candidates holds the budgets when it is measured.
    pub(super) fn missed(&self, tried: usize, closest: Missed, slowdown: f64) -> BudgetMissed {
        let budgets: Vec<String> = self.budgets.iter().map(ToString::to_string).collect();
        BudgetMissed {
            budget: budgets.join(" and "),
            platform: self.platform_name().unwrap_or_default().to_owned(),
            tried,
            closest: closest.to_string(),
            unstable: slowdown >= SLOWER && closest.budget.quantity != Quantity::Memory,
            note: slowdown_note(slowdown),
        }
    }

    pub(super) fn platform_name(&self) -> Option<&str> {
        self.profile.map(|profile| &profile.name[..])
    }

    /// Measures a candidate on the platform in every form, and takes the fastest file that is accurate enough. Without a
    /// platform nothing is measured.
    pub(super) fn try_on(&self, point: &Point, bench: Option<&mut Bench<'_>>) -> anyhow::Result<Tried> {
        let (mut point, images) = (point.clone(), self.validation.labels.len());
        let mut files = self.files(&point.subnet)?;
        let Some(bench) = bench else {
            let tuned = self.tune(&mut point, &mut files)?;
            let file = files.swap_remove(0);
            let cost = self.with(tuned.as_deref()).cost(&file, &point.subnet)?;
            if let Some(cost) = cost.clone().filter(|cost| !cost.holds()) {
                return Err(AccuracyDropped { precision: file.writing.precision, cost }.into());
            }
            let winner = Winner {
                point,
                file,
                measurement: None,
                memory_bytes: None,
                forms: Vec::new(),
                fewer_bits: cost,
                tuned,
            };
            return Ok(Tried::Holds(Box::new(winner.recorded(images)?)));
        };
        let at_platform = self.at_platform(&point.subnet, &files)?;
        let timed = bench.time(&at_platform)?;
        let fastest = timed.fastest_first.first().map_or(f64::INFINITY, |(_, measured)| measured.p50_us);
        // Weights change no latency: what is too slow is not trained.
        let tuned = if self.is_fast(fastest) { self.tune(&mut point, &mut files)? } else { None };
        let Chosen { place, measurement, cost } =
            self.with(tuned.as_deref()).accurate(&files, &point.subnet, timed.fastest_first)?;
        let p50_us = measurement.p50_us;
        let weighed = self.is_fast(p50_us) && self.is_weighed(&bench.profile.platform);
        let memory_bytes = if weighed { bench.memory(&at_platform[place])? } else { None };
        let winner = Winner {
            point,
            file: files.swap_remove(place),
            measurement: Some(measurement),
            memory_bytes,
            forms: timed.forms,
            fewer_bits: cost,
            tuned,
        };
        let Some(missed) = self.over(&winner)? else {
            return Ok(Tried::Holds(Box::new(winner.recorded(images)?)));
        };
        self.reporter.say(&format!(
            "{} {missed} on {}: over the budget, the next candidate is taken{}",
            winner.point.subnet,
            bench.profile.name,
            slowdown_note(timed.slowdown)
        ));
        Ok(Tried::Misses { missed, p50_us, slowdown: timed.slowdown })
    }

    /// Whether the memory of what is written is measured.
    fn is_weighed(&self, platform: &Platform) -> bool {
        platform.measure.memory || self.budgets.iter().any(|budget| budget.quantity == Quantity::Memory)
    }

    /// The first budget that a measured candidate is over.
    fn over(&self, winner: &Winner) -> anyhow::Result<Option<Missed>> {
        for &budget in self.budgets.iter().filter(|budget| budget.quantity.is_measured()) {
            let name = budget.quantity.name();
            let measured = winner.measured(budget.quantity);
            let measured =
                measured.with_context(|| format!("the platform does not tell the {name} of a run"))?;
            if measured > budget.limit {
                return Ok(Some(Missed { budget, measured }));
            }
        }
        Ok(None)
    }

    /// Whether a latency in microseconds holds the budgets.
    fn is_fast(&self, p50_us: f64) -> bool {
        let mut limits = self.budgets.iter().filter(|budget| budget.quantity == Quantity::Latency);
        limits.all(|budget| p50_us <= budget.limit)
    }

    /// Trains a candidate alone, where that is asked for: its accuracy and its files are then by the weights that are better.
    fn tune(&self, point: &mut Point, files: &mut Vec<File>) -> anyhow::Result<Option<Rc<Tuned>>> {
        let Some(train) = self.train else { return Ok(None) };
        let tuned = finetune::tune(self, train, point)?;
        *files = self.with(Some(&tuned)).files(&point.subnet)?;
        Ok(Some(Rc::new(tuned)))
    }

    /// The same with the weights of a subnet that was trained alone.
    fn with<'b>(&'b self, tuned: Option<&'b Tuned>) -> Job<'b> {
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

    /// The fastest of the files that lose no more accuracy than is allowed.
    fn accurate(
        &self,
        files: &[File],
        subnet: &Subnet,
        fastest_first: Vec<(usize, Measurement)>,
    ) -> anyhow::Result<Chosen> {
        let mut closest: Option<AccuracyDropped> = None;
        for (place, measurement) in fastest_first {
            let precision = files[place].writing.precision;
            let cost = self.cost(&files[place], subnet)?;
            let Some(lossy) = cost.clone().filter(|cost| !cost.holds()) else {
                return Ok(Chosen { place, measurement, cost });
            };
            let dropped = AccuracyDropped { precision, cost: lossy };
            self.reporter.detail(&dropped.to_string());
            if closest.as_ref().is_none_or(|least| dropped.cost.accuracy_drop < least.cost.accuracy_drop) {
                closest = Some(dropped);
            }
        }
        Err(closest.context("the device measured no form of the subnet")?.into())
    }

    /// What fewer bits cost a file, if it has fewer.
    fn cost(&self, file: &File, subnet: &Subnet) -> anyhow::Result<Option<FewerBits>> {
        let File { writing, bytes } = file;
        if writing.precision == Precision::Fp32 {
            return Ok(None);
        }
        let fp32 = self.build(subnet, *writing)?;
        self.fewer_bits.cost(writing.precision, [&fp32, bytes], writing.batch, self.validation)
    }

    /// The subnet in every form and precision that may be written and holds the budgets of the file.
    fn files(&self, subnet: &Subnet) -> anyhow::Result<Vec<File>> {
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
    fn at_platform(&self, subnet: &Subnet, files: &[File]) -> anyhow::Result<Vec<File>> {
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
    fn build(&self, subnet: &Subnet, writing: Writing) -> anyhow::Result<Vec<u8>> {
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
        let features = self.run.model.space.cost_features(subnet);
        self.profile.map(|profile| profile.latency_model.predict(&features))
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
