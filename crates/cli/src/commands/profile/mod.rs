//! `elastic profile`

mod compare;
mod farm;
mod models;
mod near;

use std::path::{Path, PathBuf};

use anyhow::Context;
use clap::{Args, Subcommand};
use elastic_exporter::{Batch, Form, GraphOptions, Sequence, build};
use elastic_profiler::{
    Base, Candidate, Measurement, ProfileFile, ProfileRequest, SubnetNodes, check_device, profile,
};
use elastic_space::budget::Quantity;
use elastic_space::random::Purpose;
use elastic_space::{Platform, Seed, Subnet, file};

use crate::exit::{Exit, WrongUsage};
use crate::operators;
use crate::platforms::{self, NamedPlatform, PROFILES};
use crate::process;
use crate::progress::Reporter;
use crate::report;
use crate::runs::Run;
use crate::table::{self, Format, Output};

pub(crate) use farm::Measured;

/// Measure subnets on a device and fit its latency model.
///
/// The platform file describes the device and how it is reached. If the device is another one, or cannot be reached,
/// nothing is measured (exit code 4). Subnets and a fixed reference, the largest, are measured interleaved in one process, in a
/// new random order every round, and every sample is kept. Written: profiles/PLATFORM.json.
///
/// With --model, ONNX files are measured instead, from wherever they are, and compared with the first of them.
#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
pub(crate) struct Profile {
    #[command(subcommand)]
    action: Option<Action>,
    /// Platform file: looked for here, then in platforms/.
    #[arg(long, required = true)]
    platform: Option<String>,
    /// ONNX file to measure instead of subnets; several are interleaved and compared with the first.
    #[arg(long = "model", value_name = "FILE", conflicts_with_all = ["run", "subnets"])]
    models: Vec<PathBuf>,
    /// Sizes of an input that a --model leaves open, as NAME=1x3x224x224 [default for an open first size: the platform's
    /// batch].
    #[arg(long = "input", value_name = "NAME=SIZES", requires = "models", value_parser = models::parse_input)]
    inputs: Vec<(String, Vec<usize>)>,
    /// Folder of a finished run [default: the newest in runs/].
    #[arg(long)]
    run: Option<PathBuf>,
    /// Subnets to measure, the largest and the smallest among them [default: the platform file's].
    #[arg(long)]
    subnets: Option<usize>,
    #[command(flatten)]
    near: near::Near,
    /// Seed of the subnets and of the order of measuring [default: the run's].
    #[arg(long)]
    seed: Option<u64>,
    /// Also print where the time of the largest and of the smallest subnet goes, operator by operator; with --model, of
    /// each model.
    #[arg(long)]
    operators: bool,
    /// Profile of a similar platform, of the same run: a file, or the platform's name. Where scaling its latency model predicts better
    /// than the measurements alone, that is done; 10 to 20 --subnets are enough then.
    #[arg(long, value_name = "PROFILE", conflicts_with = "models")]
    transfer_from: Option<String>,
    /// Also write an HTML page beside the profile: predicted against measured, residuals, operators, drift.
    #[arg(long, conflicts_with = "models")]
    report: bool,
    /// File to write [default: profiles/PLATFORM.json; with --model, none].
    #[arg(long)]
    out: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
enum Action {
    Compare(compare::Compare),
    Plan(farm::Plan),
    Run(farm::Run),
    Merge(farm::Merge),
}

impl Profile {
    pub(crate) fn run(mut self, reporter: &Reporter, output: Output) -> anyhow::Result<Exit> {
        match self.action.take() {
            Some(Action::Compare(command)) => return command.run(reporter, output),
            Some(Action::Plan(command)) => return command.run(reporter, output.format()?).map(|()| Exit::Ok),
            Some(Action::Run(command)) => return command.run(reporter, output.format()?).map(|()| Exit::Ok),
            Some(Action::Merge(command)) => {
                return command.run(reporter, output.format()?).map(|()| Exit::Ok);
            }
            None => {}
        }
        self.check()?;
        if self.models.is_empty() {
            let format = output.format()?;
            let (profile, path) = self.profile_subnets(reporter)?;
            match format {
                Format::Json => table::print_json(&profile.latency_model)?,
                Format::Table => {
                    if self.operators {
                        print_operators(&profile);
                    }
                    print(&profile, &path);
                }
            }
        } else {
            let named = self.reach()?;
            self.measure_models(&named, reporter, output)?;
        }
        Ok(Exit::Ok)
    }

    /// Checks what the command line says of itself.
    ///
    /// # Errors
    ///
    /// A value that is out of its range, with its flag.
    pub(crate) fn check(&self) -> anyhow::Result<()> {
        self.near.check()
    }

    /// The platform, whose device is there and is the one that is meant: before anything is built, the wrong device is told
    /// at once.
    fn reach(&self) -> anyhow::Result<NamedPlatform> {
        let named = platforms::read(self.platform.as_deref().context("clap asks for --platform")?)?;
        check_device(&named.platform)?;
        Ok(named)
    }

    /// Measures subnets and writes the profile; no result is printed. Also given is the profile's file.
    pub(crate) fn profile_subnets(&self, reporter: &Reporter) -> anyhow::Result<(ProfileFile, PathBuf)> {
        let NamedPlatform { name, platform } = &self.reach()?;
        let run = open(self.run.as_deref(), reporter)?;
        let seed = self.seed.map_or(run.model.seed(), Seed);
        let count = count(self.subnets, platform)?;
        let default = || Path::new(PROFILES).join(format!("{name}.json"));
        let path = self.out.clone().unwrap_or_else(default);
        file::prepare_folder_of(&path)?;
        let similar = self.transfer_from.as_deref().map(platforms::read_profile).transpose()?;
        let base =
            similar.as_ref().map(|similar| Base { name: &similar.name, model: &similar.latency_model });
        let candidates = candidates(&run, count, seed, platform.batch)?;
        reporter.say(&format!(
            "profiling {} subnets of {} on {name} ({})",
            candidates.len(),
            run.folder.0.display(),
            platform.runtime.label()
        ));
        let request = ProfileRequest {
            name,
            platform,
            checkpoint: &run.loaded.sha256,
            space: &run.model.space,
            candidates: &candidates,
            seed,
            program: Some(&process::this_program()?),
            base,
        };
        let mut task = reporter.task("profile", 0);
        let profile = profile(&request, &mut |done, total| task.at(done as u64, total as u64, ""))?;
        drop(task);
        profile.write(&path)?;
        let profile = self.near.extend(profile, &request, &run, &path, reporter)?;
        if self.report {
            let page = path.with_extension("html");
            file::write(&page, report::profile::html(&profile, None).as_bytes())?;
            reporter.say(&format!("written: {}", page.display()));
        }
        warn(&profile, reporter);
        Ok((profile, path))
    }
}

/// A finished run, with what its subnets need before they can be extracted.
fn open(folder: Option<&Path>, reporter: &Reporter) -> anyhow::Result<Run> {
    let run = Run::open(folder)?;
    if run.model.space.needs_calibration() { Ok(run.with_images(reporter)?.0) } else { Ok(run) }
}

/// How many subnets are measured.
fn count(asked: Option<usize>, platform: &Platform) -> anyhow::Result<usize> {
    let count = asked.unwrap_or(platform.measure.subnets);
    if count < 2 {
        return Err(WrongUsage(format!("--subnets is {count}: a latency model needs at least 2")).into());
    }
    Ok(count)
}

/// The largest, which is the reference, the smallest, and random ones in which every choice is as frequent as its neighbours.
fn candidates(run: &Run, count: usize, seed: Seed, batch: usize) -> anyhow::Result<Vec<Candidate>> {
    let subnets = run.model.space.draw_with_ends(count, &mut seed.generator(Purpose::Candidates, 1));
    built(run, subnets, batch)
}

/// Subnets as they are measured.
fn built(run: &Run, subnets: Vec<Subnet>, batch: usize) -> anyhow::Result<Vec<Candidate>> {
    let space = &run.model.space;
    let options = GraphOptions {
        batch: Batch::Fixed(batch),
        sequence: Sequence::Fixed,
        form: Form::Portable,
        opset: Form::Portable.opset(),
        class_names: run.model.data.class_names.clone(),
        metadata: Default::default(),
    };
    subnets
        .into_iter()
        .map(|subnet| {
            let model = build(space, &subnet, &run.loaded.supernet.extract(&subnet), &options)?;
            Ok(Candidate { subnet, model })
        })
        .collect()
}

fn warn(profile: &ProfileFile, reporter: &Reporter) {
    let count = |is: fn(&Measurement) -> bool| profile.measurements.iter().filter(|m| is(&m.latency)).count();
    let (contended, unsteady) = (count(|latency| latency.contended), count(|latency| latency.unsteady));
    let all = profile.measurements.len();
    if contended > 0 {
        reporter.warn(&format!(
            "{contended} of {all} subnets were measured while other work used the processor: stop it and profile again"
        ));
    } else if unsteady > 0 {
        reporter.warn(&format!(
            "the device was unsteady while {unsteady} of {all} subnets were measured: let it rest, fix its clocks, and profile again"
        ));
    }
}

fn print_operators(profile: &ProfileFile) {
    for SubnetNodes { subnet, nodes } in &profile.nodes {
        operators::print(&subnet.to_string(), nodes, &profile.environment);
    }
    if profile.nodes.is_empty() {
        println!("{}\n", operators::NONE);
    }
}

fn print(profile: &ProfileFile, path: &Path) {
    let rows: Vec<Vec<String>> = profile
        .measurements
        .iter()
        .map(|m| {
            vec![
                format!("{:.1}", m.latency.p50_us),
                m.latency.p90_us.map_or_else(String::new, |p90| format!("{p90:.1}")),
                format!("{:.3}", m.latency.ratio_to_reference),
                Quantity::Macs.format(profile.space.cost(&m.subnet).macs as f64),
                m.subnet.to_string(),
            ]
        })
        .collect();
    table::print(&["p50 us", "p90 us", "ratio", "MACs", "subnet"], &rows);
    let (environment, cv) = (&profile.environment, &profile.latency_model.cv);
    println!(
        "\n{} on {}, {} x {}",
        environment.runtime_version,
        environment.cpu_model.as_deref().unwrap_or("an unnamed processor"),
        environment.provider,
        environment.threads
    );
    let model = &profile.latency_model;
    if let Some(name) = &model.transferred_from {
        println!("latency model: scaled from that of {name}");
    } else if model.residual.is_some() {
        println!("latency model: additive, with a boosted residual");
    }
    println!(
        "latency model: mean error {:.1} %, 90 % of errors below {:.1} %, rank correlation {:.3} ({}-fold cross-validation); drift {:.1} %",
        cv.mape_percent, cv.p90_abs_percent, cv.spearman, cv.folds, profile.drift_percent
    );
    println!("{}", models::course(&profile.course));
    println!("written: {}", path.display());
}
