//! Does the steps of a pipeline, one after the other.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, anyhow};
use elastic_trainer::train::Outcome;

use super::inputs::{Decision, Reader, decide, of_files};
use super::report::{Status, StepReport};
use super::state::{Inputs, Record, State};
use super::steps::{Step, Work};
use super::{OnDeviceError, Pipeline};
use crate::exit::{self, Exit, Interrupted};
use crate::interrupt::Interrupt;
use crate::progress::Reporter;

/// A pipeline that runs, or would.
pub(crate) struct Run<'a> {
    pipeline: &'a Pipeline,
    steps: &'a [Step],
    dry_run: bool,
    state: State,
    reader: Reader,
    interrupt: &'a Interrupt,
    reporter: &'a Reporter,
    pub(crate) reports: Vec<StepReport>,
    /// That of the step that ended the pipeline, or else of the first device that was passed over.
    pub(crate) exit: Exit,
    /// Platforms whose device failed.
    without: BTreeSet<String>,
    /// The step that ended the pipeline.
    stopped: Option<String>,
}

impl<'a> Run<'a> {
    /// Reads what is known of the steps.
    ///
    /// # Errors
    ///
    /// A state that is damaged or of another version.
    pub(crate) fn new(
        pipeline: &'a Pipeline,
        steps: &'a [Step],
        dry_run: bool,
        interrupt: &'a Interrupt,
        reporter: &'a Reporter,
    ) -> anyhow::Result<Self> {
        Ok(Self {
            state: State::read(&pipeline.out)?,
            pipeline,
            steps,
            dry_run,
            reader: Reader::default(),
            interrupt,
            reporter,
            reports: Vec::new(),
            exit: Exit::Ok,
            without: BTreeSet::new(),
            stopped: None,
        })
    }

    /// Does what is to be done about the next step.
    ///
    /// # Errors
    ///
    /// What would be wrong with every step: a state that cannot be written, an input that cannot be read. That the step's own
    /// work fails is no error, but stands in the report.
    pub(crate) fn step(&mut self, step: &Step) -> anyhow::Result<&StepReport> {
        let report = self.outcome(step)?;
        self.reports.push(report);
        Ok(self.reports.last().expect("it was pushed"))
    }

    fn outcome(&mut self, step: &Step) -> anyhow::Result<StepReport> {
        let report = |status, why: Option<String>| StepReport {
            name: step.name.clone(),
            command: step.command(),
            model: step.model.clone(),
            platform: (!step.platforms.is_empty()).then(|| step.platforms.join(", ")),
            status,
            why,
            seconds: None,
            exit_code: None,
            error: None,
            outputs: BTreeMap::new(),
        };
        if let Some(failed) = &self.stopped {
            return Ok(report(Status::NotRun, Some(format!("{failed} failed"))));
        }
        if let Some(platform) = step.platforms.iter().find(|platform| self.without.contains(*platform)) {
            return Ok(report(Status::NotRun, Some(format!("the device of {platform} failed"))));
        }
        if let Some(before) = step.needs.iter().find(|need| self.would_run(**need)) {
            return Ok(report(Status::WouldRun, Some(format!("after {}", self.steps[*before]))));
        }
        let inputs = self.reader.inputs(step, self.steps).with_context(|| step.name.clone())?;
        let record = self.state.steps.get(&step.name);
        let decision = decide(step, &inputs, record).with_context(|| step.name.clone())?;
        let (resume, why) = match decision {
            Decision::UpToDate => {
                let outputs = record.map(|record| record.outputs.clone()).unwrap_or_default();
                return Ok(StepReport { outputs, ..report(Status::UpToDate, None) });
            }
            Decision::Run(why) => (false, why),
            Decision::Resume(why) => (true, why),
        };
        if self.dry_run {
            let status = if resume { Status::WouldResume } else { Status::WouldRun };
            return Ok(report(status, Some(why)));
        }
        self.reporter.say(&format!("{step} ({why}): {}", step.command()));
        let start = Instant::now();
        let worked = self.work(step, &inputs, resume);
        let seconds = Some(rounded(start.elapsed()));
        let (status, error) = match worked {
            Ok(outputs) => {
                let status = if resume { Status::Resumed } else { Status::Done };
                return Ok(StepReport { outputs, seconds, ..report(status, Some(why)) });
            }
            Err(error) => (Status::Failed, error),
        };
        let (exit, message) = (exit::of(&error), exit::message(&error));
        self.reporter.finish();
        eprintln!("error: {step}: {message}");
        let is_device = matches!(exit, Exit::Device | Exit::Unstable);
        match &step.platforms[..] {
            [_, ..] if is_device && self.pipeline.on_device_error == OnDeviceError::Skip => {
                // Of several it is not known which.
                if let [platform] = &step.platforms[..] {
                    self.without.insert(platform.clone());
                }
                if self.exit == Exit::Ok {
                    self.exit = exit;
                }
            }
            // It weighs more than a device that was passed over.
            _ => {
                self.stopped = Some(step.name.clone());
                self.exit = exit;
            }
        }
        let (exit_code, error) = (Some(exit as u8), Some(message));
        Ok(StepReport { seconds, exit_code, error, ..report(status, Some(why)) })
    }

    /// Whether a step would run, were this not a dry run.
    fn would_run(&self, step: usize) -> bool {
        matches!(self.reports[step].status, Status::WouldRun | Status::WouldResume)
    }

    /// Does a step, and keeps in the state that it began and that it is done.
    fn work(
        &mut self,
        step: &Step,
        inputs: &Inputs,
        resume: bool,
    ) -> anyhow::Result<BTreeMap<PathBuf, String>> {
        let before = self.state.steps.get(&step.name);
        let (is_ours, old) =
            (before.is_some(), before.map(|record| record.outputs.clone()).unwrap_or_default());
        if let Some(run) = step.run_folder()
            && is_ours
            && !resume
            && run.0.exists()
        {
            // Training refuses a folder that holds another run; this one was begun here.
            fs::remove_dir_all(&run.0).with_context(|| format!("remove {}", run.0.display()))?;
        }
        let record = |done, outputs| Record { done, inputs: inputs.clone(), outputs };
        // A run that was not begun here is finished and taken as it is, or refused; it must not count as begun here then.
        let is_others =
            !is_ours && step.run_folder().is_some_and(|run| run.is_finished() || run.checkpoint().exists());
        if !is_others {
            self.state.steps.insert(step.name.clone(), record(false, old.clone()));
            self.state.write(&self.pipeline.out)?;
        }
        let outputs = of_files(self.make(step, resume)?)?;
        for stale in old.keys().filter(|path| !outputs.contains_key(*path) && path.exists()) {
            fs::remove_file(stale).with_context(|| format!("remove {}", stale.display()))?;
        }
        self.state.steps.insert(step.name.clone(), record(true, outputs.clone()));
        self.state.write(&self.pipeline.out)?;
        Ok(outputs)
    }

    /// Does a step; the files that it made.
    fn make(&self, step: &Step, resume: bool) -> anyhow::Result<Vec<PathBuf>> {
        match &step.work {
            Work::Train(train) => {
                let resumed = if resume { Some(step.resumed()?) } else { None };
                let train = resumed.as_ref().unwrap_or(train);
                let run = train.folder();
                match train.train(self.reporter, self.interrupt)? {
                    Outcome::Finished => Ok(vec![run.config(), run.supernet()]),
                    Outcome::Stopped { step } => Err(Interrupted { step }.into()),
                }
            }
            Work::Profile { command, .. } => {
                let (_, path) = command.profile_subnets(self.reporter)?;
                let page = path.with_extension("html");
                Ok([path, page].into_iter().filter(|path| path.exists()).collect())
            }
            Work::Export(command) => {
                let mut files = Vec::new();
                let (written, _) = command.export(self.reporter)?;
                for file in written.files() {
                    files.extend(beside(&step.target.join(&file))?);
                }
                Ok(files)
            }
        }
    }
}

/// A model and what is written beside it: the files whose names are equal up to the ending.
fn beside(model: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let folder = model.parent().ok_or_else(|| anyhow!("{} lies in no folder", model.display()))?;
    let stem = format!("{}.", model.file_stem().unwrap_or_default().to_string_lossy());
    let entries = fs::read_dir(folder).with_context(|| format!("list {}", folder.display()))?;
    let mut files = Vec::new();
    for entry in entries {
        let entry = entry.with_context(|| format!("list {}", folder.display()))?;
        if entry.file_name().to_string_lossy().starts_with(&stem) {
            files.push(entry.path());
        }
    }
    files.sort();
    Ok(files)
}

fn rounded(time: Duration) -> f64 {
    (time.as_secs_f64() * 10.0).round() / 10.0
}
