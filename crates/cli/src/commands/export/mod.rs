//! `elastic export`

mod burn_crate;
mod candidates;
mod finetune;
mod fleet;
mod forms;
mod front;
mod job;
mod papers;
mod precisions;
mod pretrained;
mod report;

use std::collections::BTreeMap;
use std::path::PathBuf;

use anyhow::bail;
use clap::{Args, ValueEnum};
use elastic_data::Splits;
use elastic_exporter::precision::{Method, Precision};
use elastic_exporter::search::Strategy;
use elastic_exporter::{Form, Sequence};
use elastic_profiler::ProfileFile;
use elastic_space::budget::Quantity;
use elastic_space::{Budget, Limits, SearchSpace, Subnet, file};
use elastic_trainer::calibration::observed_images;
use schemars::JsonSchema;
use serde::Serialize;

use crate::accuracies::Accuracies;
use crate::exit::WrongUsage;
use crate::fewer_bits::{self, AccuracyDrop};
use crate::judge::{Validation, needs_platform};
use crate::metadata::Metadata;
use crate::model_file::{BatchSize, FormChoice, PrecisionChoice, Writing};
use crate::platforms;
use crate::progress::Reporter;
use crate::runs::Run;
use crate::table::{self, Format};

pub(crate) use fleet::FleetReport;
pub(crate) use front::FrontReport;
use job::{Job, Knowledge};
pub(crate) use papers::Manifest;
use papers::Origin;
pub(crate) use pretrained::Report as PretrainedReport;
pub(crate) use report::Report;

/// What is written besides the ONNX file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Emit {
    /// A Rust crate for burn.
    Burn,
}

/// Search the best subnet under budgets and write it as ONNX, verified.
///
/// Accuracy is measured on validation data with the shared weights; the search has a seed. With a platform its
/// latency model guides the search, and the winner is measured on the device before it is written: if it misses a
/// latency budget, the next candidate is taken. Written to the output folder: NAME.onnx, NAME.json, NAME.report.html with pictures of the search and the
/// subnet, and for those who must account for the model NAME.manifest.json, NAME.md and NAME.cdx.json (CycloneDX). A budget that even the smallest subnet misses is an
/// error (exit code 3). A platform file may have limits: they are the budgets where --budget names no others of
/// their quantities. With --pareto the search's whole front is written, with --shared or --at-most fewer models
/// than platforms. With --subnet nothing is searched: that subnet is measured, verified and written.
/// With --model nothing is trained either: weights that others have trained become a verified ONNX file.
#[derive(Debug, Args)]
pub(crate) struct Export {
    /// A limit: number and unit (mflops gflops, mmacs gmacs, kparams mparams, KB MB of the file, us ms, uJ mJ of a run), or
    /// `memory=80MB`. Repeatable. It takes the place of a platform's own limit of the same quantity.
    #[arg(long, required_unless_present_any = ["subnet", "model", "pareto", "platform", "all_platforms"])]
    budget: Vec<Budget>,
    /// Export this subnet: `largest`, `smallest` or a name of the model file; budgets then only check it.
    #[arg(long, value_name = "NAME")]
    subnet: Option<String>,
    /// A platform that `elastic profile` has measured; one model is written for each. Repeatable.
    #[arg(long, conflicts_with = "all_platforms")]
    platform: Vec<String>,
    /// One model for every platform that has a profile.
    #[arg(long)]
    all_platforms: bool,
    /// Write every subnet of the Pareto front of accuracy and use of the budget, and NAME-pareto.json and .csv, which
    /// compare them. Without a budget the front is that of accuracy and latency on the platform, or FLOPs; --objective names others.
    #[arg(long, conflicts_with_all = ["subnet", "model"])]
    pareto: bool,
    /// What the front of --pareto is of, besides accuracy: flops macs params file-size latency memory energy. Up to two.
    #[arg(long, requires = "pareto", value_name = "QUANTITY")]
    objective: Vec<Quantity>,
    /// Models that --pareto writes, at most: the ends of the front, and between them those that tell most of it.
    #[arg(long, default_value_t = 8, value_name = "N")]
    pareto_models: usize,
    /// One subnet for all platforms, within every budget of each: as --at-most 1.
    #[arg(long, conflicts_with_all = ["subnet", "model", "pareto", "at_most", "finetune"])]
    shared: bool,
    /// So many subnets for all platforms, at most: those that lose least of the mean accuracy of one for each.
    #[arg(long, value_name = "K", conflicts_with_all = ["subnet", "model", "pareto", "finetune"])]
    at_most: Option<usize>,
    /// Folder of a finished run [default: the newest in runs/].
    #[arg(long)]
    run: Option<PathBuf>,
    /// Export the largest network of this model file with the weights that its `init` names, untrained and without
    /// data. Batch normalisation is by the running mean and variance in the file of weights.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["budget", "subnet", "platform", "all_platforms", "run"])]
    model: Option<PathBuf>,
    /// Folder to write to.
    #[arg(long, default_value = "exports")]
    out: PathBuf,
    /// Inputs of one run of the model: a number, or `dynamic`.
    #[arg(long, default_value = "1")]
    batch: BatchSize,
    /// Tokens of each text of one run: `fixed`, the model file's `length`, or `dynamic`: as many as the caller brings, at most so
    /// many. Accuracy and latency are measured at the full length.
    #[arg(long, default_value = "fixed", value_name = "LENGTH")]
    sequence: Sequence,
    /// How the network is written: `portable`, `opset20`, `attention23`, `contrib-attention`, or `auto`: every form
    /// that the network has is measured on the platform, and the fastest is written. Without a platform `auto` is
    /// `portable`.
    #[arg(long, default_value = "auto", value_name = "FORM")]
    form: FormChoice,
    /// Version of the standard ONNX operators, 13 to 23 [default: the form's own].
    #[arg(long)]
    opset: Option<i64>,
    /// What the file computes in: `fp32`, `fp16`, `int8-dynamic`, `int8-dynamic-per-channel`, `int8-static`, or `auto`: each is
    /// measured on the platform, and the fastest within --max-accuracy-drop is written.
    #[arg(long, default_value = "fp32", value_name = "PRECISION")]
    precision: PrecisionChoice,
    /// Validation accuracy that fewer bits may cost, in points: 1% allows 90 % to become 89 %. More is an error (exit
    /// code 3).
    #[arg(long, default_value = "1%", value_name = "PERCENT")]
    max_accuracy_drop: AccuracyDrop,
    /// How `int8-static` finds the ranges of values: `min-max`, `percentile`, `entropy`.
    #[arg(long, default_value = "min-max", value_name = "METHOD")]
    calibration: Method,
    /// Training images on which `int8-static` observes the values, at most.
    #[arg(long, default_value_t = 256, value_name = "IMAGES")]
    calibration_images: usize,
    /// How the search chooses the next subnets: `predictor` fits a model to the accuracies measured so far and measures what
    /// looks best by it; `nsga2` breeds from the best ones measured; `random` draws.
    #[arg(long, default_value = "predictor", value_name = "STRATEGY")]
    search: Strategy,
    /// Accuracies that each search may measure.
    #[arg(long, default_value_t = 200)]
    evaluations: usize,
    /// Measure every accuracy on all images, also of a subnet that is clearly less accurate than one that costs no more.
    #[arg(long)]
    no_early_stop: bool,
    /// Subnets of one generation.
    #[arg(long, default_value_t = 32)]
    population: usize,
    /// Validation images that the search uses, at most.
    #[arg(long, default_value_t = 2000)]
    images: usize,
    /// Steps in which the chosen subnet is trained alone before it is written, with the largest network as its teacher. Weights
    /// that are worse on the validation data are not kept.
    #[arg(long, default_value_t = 0, value_name = "STEPS", conflicts_with = "model")]
    finetune: u64,
    /// Peak of the learning rate of --finetune [default: a tenth of that of the recipe's last stage].
    #[arg(long, value_name = "RATE", requires = "finetune")]
    finetune_rate: Option<f64>,
    /// `burn`: write a Rust crate too, NAME-burn, that runs the network without ONNX Runtime and without the standard library, in 32-bit
    /// floats. Its build script makes the code through burn-onnx, and its test compares logits.
    #[arg(long, value_enum, hide_possible_values = true, conflicts_with = "model", value_name = "WHAT")]
    emit: Option<Emit>,
    /// Seed of the search and of --finetune [default: the run's].
    #[arg(long)]
    seed: Option<u64>,
    /// What platforms allow, by their names, where a pipeline has read their files; else those are looked for by the profile's
    /// name.
    #[arg(skip)]
    pub(crate) limits: BTreeMap<String, Limits>,
}

/// What an export wrote.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(untagged)]
pub(crate) enum Written {
    /// A model a platform.
    Models(Vec<Report>),
    /// A front a platform.
    Fronts(Vec<FrontReport>),
    /// A few models for all platforms.
    Fleet(Box<FleetReport>),
}

impl Written {
    /// The names of the files: models, and tables of several.
    pub(crate) fn files(&self) -> Vec<String> {
        match self {
            Self::Models(reports) => reports.iter().map(|report| report.file.clone()).collect(),
            Self::Fronts(fronts) => fronts.iter().flat_map(FrontReport::files).collect(),
            Self::Fleet(fleet) => fleet.files(),
        }
    }
}

impl Export {
    pub(crate) fn run(self, reporter: &Reporter, format: Format) -> anyhow::Result<()> {
        self.check()?;
        if let Some(model) = &self.model {
            return pretrained::export(model, &self, format);
        }
        let (written, accuracies) = self.export(reporter)?;
        match (format, &written) {
            (Format::Json, _) => return table::print_json(&written),
            (Format::Table, Written::Models(reports)) => report::print(reports, &self.out, &accuracies),
            (Format::Table, Written::Fronts(fronts)) => front::print(fronts, &self.out),
            (Format::Table, Written::Fleet(fleet)) => fleet::print(fleet, &self.out),
        }
        Ok(())
    }

    /// Checks what the command line says of itself.
    ///
    /// # Errors
    ///
    /// A number that is too small, with its flag; a latency budget without a platform.
    pub(crate) fn check(&self) -> anyhow::Result<()> {
        for (flag, value, least) in [
            ("--evaluations", self.evaluations, 1),
            ("--population", self.population, 2),
            ("--images", self.images, 1),
            ("--calibration-images", self.calibration_images, 1),
            ("--pareto-models", self.pareto_models, 1),
            ("--at-most", self.at_most.unwrap_or(1), 1),
        ] {
            if value < least {
                return Err(WrongUsage(format!("{flag} is {value}: it must be at least {least}")).into());
            }
        }
        if let Some(rate) = self.finetune_rate.filter(|rate| !(*rate > 0.0 && rate.is_finite())) {
            return Err(WrongUsage(format!("--finetune-rate is {rate}: it must be above 0")).into());
        }
        if let [first, second, ..] = self.objective[..]
            && (self.objective.len() > 2 || first == second)
        {
            let problem = "--objective names up to two different quantities, besides the accuracy";
            return Err(WrongUsage(problem.to_owned()).into());
        }
        let budgets = self.budget.iter().map(|budget| ("a budget", budget.quantity));
        let mut wishes = budgets.chain(self.objective.iter().map(|objective| ("an objective", *objective)));
        let measured = wishes.find(|(_, quantity)| quantity.is_measured());
        if let Some((wish, quantity)) = measured.filter(|_| self.platform.is_empty() && !self.all_platforms) {
            return Err(needs_platform(wish, quantity));
        }
        if (self.shared || self.at_most.is_some()) && self.platform.is_empty() && !self.all_platforms {
            let problem =
                "--shared and --at-most choose for platforms: name them with --platform, or --all-platforms";
            return Err(WrongUsage(problem.to_owned()).into());
        }
        Ok(())
    }

    /// Writes the models of a run; no result is printed. Also given is the file of the accuracies that were measured.
    pub(crate) fn export(&self, reporter: &Reporter) -> anyhow::Result<(Written, PathBuf)> {
        let profiles = self.profiles()?;
        let targets = if profiles.is_empty() { vec![None] } else { profiles.iter().map(Some).collect() };
        let budgets = targets.iter().map(|profile| self.budgets(*profile)).collect::<Result<Vec<_>, _>>()?;
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
        let named = self.named(&run)?;
        let writings = self.writings(&run.model.space, !profiles.is_empty())?;
        // What would end the work is looked for before it begins.
        elastic_runtime::check(&platforms::onnx_runtime_cpu(1))?;
        file::prepare_folder_of(&self.out.join("model.onnx"))?;
        let (run, Splits { train, validation: images }) = run.with_images(reporter)?;
        let observe = writings.iter().any(|writing| writing.precision == Precision::Int8Static);
        let fewer_bits = fewer_bits::Settings {
            allowed: self.max_accuracy_drop,
            method: self.calibration,
            observed: observe.then(|| observed_images(&run.model, &train, self.calibration_images)),
        };
        let origin = Origin::new(&run, &train, &images)?;
        let train = (self.finetune > 0).then_some(train);
        let validation = Validation::new(&run, &images, self.images);
        let accuracies = Accuracies::open(&run, &validation, reporter)?;
        let mut knowledge = Knowledge { known: BTreeMap::new(), accuracies };
        let seed = self.seed.unwrap_or(run.model.seed);
        let metadata = |(profile, budgets): (&Option<&ProfileFile>, &Vec<Budget>)| {
            Metadata::of_run(&run)
                .made_from(&origin.config_sha256, [&origin.train_images, &origin.validation_images])
                .chosen_for(profile.map(|profile| &profile.name[..]), budgets, seed, validation.labels.len())
                .fine_tuned(self.finetune)
        };
        let metadata: Vec<Metadata<'_>> = targets.iter().zip(&budgets).map(metadata).collect();
        let of_target = targets.into_iter().zip(&budgets).zip(&metadata);
        let jobs: Vec<Job<'_>> = of_target
            .map(|((profile, budgets), metadata)| Job {
                request: self,
                budgets,
                named: named.as_ref(),
                run: &run,
                profile,
                train: train.as_ref(),
                images: &images,
                validation: &validation,
                writings: &writings,
                fewer_bits: &fewer_bits,
                origin: &origin,
                metadata,
                reporter,
            })
            .collect();
        let most = self.at_most.or(self.shared.then_some(1));
        let written = if let Some(most) = most {
            Written::Fleet(Box::new(fleet::export(&jobs, most, &mut knowledge)?))
        } else if self.pareto {
            let fronts = jobs.iter().map(|job| front::export(job, &mut knowledge));
            Written::Fronts(fronts.collect::<anyhow::Result<_>>()?)
        } else {
            let models = jobs.iter().map(|job| job.export(&mut knowledge));
            Written::Models(models.collect::<anyhow::Result<_>>()?)
        };
        Ok((written, knowledge.accuracies.path().to_owned()))
    }

    /// What a model must hold: the budgets that were asked for, and the platform's limits of other quantities.
    fn budgets(&self, profile: Option<&ProfileFile>) -> anyhow::Result<Vec<Budget>> {
        let Some(profile) = profile else { return Ok(self.budget.clone()) };
        let limits = match self.limits.get(&profile.name) {
            Some(limits) => limits.clone(),
            None => platforms::limits(profile)?,
        };
        if self.lacks_budget(&limits) {
            let problem = format!(
                "there is no budget for {}: name one with --budget, or write `limits` in its platform file",
                profile.name
            );
            return Err(WrongUsage(problem).into());
        }
        let budgets = limits.with(&self.budget);
        let limited = budgets.iter().map(|budget| (format!("the budget {budget}"), budget.quantity));
        let objectives = self.objective.iter().map(|one| (format!("the objective {}", one.name()), *one));
        let is_unknown = |quantity: Quantity| quantity.is_measured() && profile.model(quantity).is_none();
        match limited.chain(objectives).find(|(_, quantity)| is_unknown(*quantity)) {
            Some((wish, quantity)) => Err(not_profiled(profile, &wish, quantity)),
            None => Ok(budgets),
        }
    }

    /// Whether nothing says what a model may cost on a platform of these limits, though a search has to know.
    pub(crate) fn lacks_budget(&self, limits: &Limits) -> bool {
        self.budget.is_empty() && limits.is_empty() && self.subnet.is_none() && !self.pareto
    }

    /// The name of what is written for a platform, or for several; limits of the platform's own are not part of it.
    fn name(&self, run: &Run, platform: Option<&str>, kind: &str) -> String {
        let mut parts = vec![run.name()];
        parts.extend(platform.map(str::to_owned));
        parts.extend(self.subnet.clone());
        parts.extend(self.budget.iter().map(|budget| budget.to_string().replace('=', "-")));
        parts.extend(Some(kind.to_owned()).filter(|kind| !kind.is_empty()));
        parts.join("-")
    }

    /// How the model may be written. More than one where the fastest is to be `measured`.
    fn writings(&self, space: &SearchSpace, measured: bool) -> anyhow::Result<Vec<Writing>> {
        let opset = |form: Form| self.opset.unwrap_or(form.opset());
        let first = self.form.0.unwrap_or(Form::Portable);
        first.check(space, opset(first))?;
        self.sequence.check(space)?;
        let mut forms = vec![first];
        if self.form.0.is_none() && measured {
            // A form that the asked opset lacks is no choice.
            let fits = |form: &Form| form.check(space, opset(*form)).is_ok();
            forms.extend(
                elastic_exporter::forms(space).into_iter().filter(|form| *form != first).filter(fits),
            );
        }
        let precisions = match self.precision.0 {
            Some(precision) => vec![precision],
            None if measured => Precision::ALL.to_vec(),
            None => bail!(
                "--precision auto measures on a platform: name one with --platform, or name a precision"
            ),
        };
        let mut writings = Vec::with_capacity(forms.len() * precisions.len());
        for precision in precisions {
            let (batch, sequence) = (self.batch.0, self.sequence);
            let writing = |&form: &Form| Writing { batch, sequence, form, opset: opset(form), precision };
            writings.extend(forms.iter().map(writing));
        }
        Ok(writings)
    }

    /// The subnet of --subnet.
    fn named(&self, run: &Run) -> anyhow::Result<Option<Subnet>> {
        let Some(name) = &self.subnet else { return Ok(None) };
        let mut named = run.model.named_subnets();
        let Some(subnet) = named.remove(name) else {
            let known: Vec<String> = named.into_keys().collect();
            bail!(
                "--subnet is {name}: {} has {}; add others under `subnets` in the model file before training",
                run.folder.config().display(),
                known.join(", ")
            );
        };
        Ok(Some(subnet))
    }

    fn profiles(&self) -> anyhow::Result<Vec<ProfileFile>> {
        let names = if self.all_platforms { platforms::profiled()? } else { self.platform.clone() };
        names.iter().map(|name| platforms::read_profile(name)).collect()
    }
}

/// What is said of a budget or an objective of something that the profile has not measured.
fn not_profiled(profile: &ProfileFile, wish: &str, asked: Quantity) -> anyhow::Error {
    let (name, quantity) = (&profile.name, asked.name());
    let remedy = if asked == Quantity::Memory {
        format!(
            "write `memory: true` under `measure` in its platform file, and run: elastic profile --platform {name}.yaml"
        )
    } else {
        "the device has no meter of energy that elastic reads (RAPL, or an INA3221 on the board)".to_owned()
    };
    anyhow::anyhow!("{wish} needs the {quantity} of subnets, and the profile of {name} has none: {remedy}")
}
