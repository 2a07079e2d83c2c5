//! `elastic pipeline`

use std::path::PathBuf;

use anyhow::Context;
use clap::Args;

use crate::exit::Exit;
use crate::interrupt::Interrupt;
use crate::pipeline;
use crate::pipeline::report::{Report, Status, StepReport};
use crate::pipeline::run::Run;
use crate::pipeline::state::Lock;
use crate::pipeline::steps;
use crate::progress::Reporter;
use crate::table::{self, Format};

/// Train, profile and export as a file says, and skip what is up to date.
///
/// The file names models, platforms and exports. Each step is one of the commands `elastic train`, `profile` and `export`, and
/// --dry-run shows them. A step runs if anything that it is made from has another SHA-256 than when it last ran to its
/// end (model file, data, supernet, platform file, profile, options, the program's version, the ONNX Runtime library), or if what it made is missing or
/// was changed. So after a failure the same command goes on where it stopped; a training that was stopped or killed goes on
/// from its checkpoint, bit for bit. What is known of the steps is in state.json in the output folder.
///
/// The exit code is that of the step that failed. With `on-device-error: skip` in the file, a platform whose device
/// fails (exit codes 4 and 5) does not stop the others; if nothing else fails, that is the exit code.
#[derive(Debug, Args)]
pub(crate) struct Pipeline {
    /// The pipeline's file.
    #[arg(default_value = "elastic.yaml")]
    file: PathBuf,
    /// Print what would run, and why, and change nothing.
    #[arg(long)]
    dry_run: bool,
}

impl Pipeline {
    pub(crate) fn run(self, reporter: &Reporter, format: Format) -> anyhow::Result<Exit> {
        let pipeline = pipeline::Pipeline::read(&self.file)?;
        let steps = steps::of(&pipeline).with_context(|| format!("read {}", self.file.display()))?;
        let lock = if self.dry_run { None } else { Some(Lock::take(&pipeline.out)?) };
        let interrupt = Interrupt::listen()?;
        let mut run = Run::new(&pipeline, &steps, self.dry_run, &interrupt, reporter)?;
        for step in &steps {
            let report = run.step(step)?;
            if format == Format::Table {
                print(report);
            }
        }
        drop(lock);
        let exit = run.exit;
        if format == Format::Json {
            table::print_json(&Report {
                schema: "elastic.pipeline-report/v1",
                out: pipeline.out.clone(),
                dry_run: self.dry_run,
                exit_code: exit as u8,
                steps: run.reports,
            })?;
        }
        Ok(exit)
    }
}

fn print(report: &StepReport) {
    let StepReport { name, command, status, seconds, .. } = report;
    let why = report.why.as_deref().unwrap_or_default();
    let seconds = seconds.unwrap_or_default();
    match status {
        Status::UpToDate => println!("{name}: up to date"),
        Status::Done => println!("{name}: done in {seconds:.1} s ({why})"),
        Status::Resumed => println!("{name}: resumed, done in {seconds:.1} s ({why})"),
        Status::Failed => {
            println!("{name}: failed with exit code {}", report.exit_code.unwrap_or(Exit::Failure as u8));
        }
        Status::NotRun => println!("{name}: not run ({why})"),
        Status::WouldRun => println!("{name}: would run ({why}): {command}"),
        Status::WouldResume => {
            println!("{name}: would go on from its checkpoint ({why}): {command} --resume");
        }
    }
}
