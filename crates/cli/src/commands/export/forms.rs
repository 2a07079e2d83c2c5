//! One subnet in several forms and precisions on its platform: which of them it takes, and how long each runs.

use std::collections::BTreeMap;
use std::path::PathBuf;

use anyhow::Context;
use elastic_exporter::Form;
use elastic_exporter::precision::Precision;
use elastic_profiler::{Measured, Measurement, NotMeasured, ProfileFile, Task, measure_alone, measure_on};
use schemars::JsonSchema;
use serde::Serialize;

use crate::model_file::Writing;
use crate::progress::Reporter;

/// A subnet as the bytes of one file.
#[derive(Clone)]
pub(super) struct File {
    pub(super) writing: Writing,
    pub(super) bytes: Vec<u8>,
}

impl File {
    /// What a platform may refuse.
    fn kind(&self) -> (Form, Precision) {
        (self.writing.form, self.writing.precision)
    }
}

/// What a form came to on a platform.
#[derive(Debug, Clone, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub(super) struct FormReport {
    pub(super) form: Form,
    pub(super) opset: i64,
    pub(super) precision: Precision,
    /// The median of one run, in microseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) p50_us: Option<f64>,
    /// Why the platform does not take it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) refused: Option<String>,
}

/// The files of a subnet as they run on the platform.
pub(super) struct Timed {
    /// The place of each file that the platform takes, and its latency; the fastest first.
    pub(super) fastest_first: Vec<(usize, Measurement)>,
    /// How many times as long the reference takes as it did in the profile.
    pub(super) slowdown: f64,
    pub(super) forms: Vec<FormReport>,
}

/// Measures forms on the platform of a profile.
pub(super) struct Bench<'a> {
    pub(super) profile: &'a ProfileFile,
    /// The profile's reference subnet, as it was measured there.
    pub(super) reference: Vec<u8>,
    /// What a run takes.
    pub(super) task: Task<'a>,
    /// The program that measures in processes of its own.
    pub(super) program: PathBuf,
    pub(super) reporter: &'a Reporter,
    /// What the platform does not take, with its reason.
    pub(super) refused: BTreeMap<(Form, Precision), String>,
}

impl Bench<'_> {
    /// Measures the files interleaved with each other and with the reference. Where one of several is refused, the
    /// others are measured.
    ///
    /// # Errors
    ///
    /// The device does not measure, or takes none of the files.
    pub(super) fn time(&mut self, files: &[File]) -> anyhow::Result<Timed> {
        let mut measurements = match self.measure(&self.taken(files)) {
            Err(error) if error.is_model_refused() && self.taken(files).len() > 1 => {
                self.try_each(files)?;
                self.measure(&self.taken(files))?
            }
            measured => measured?,
        };
        let then = self.profile.measurements.first();
        let then = then.context("the profile holds no measurement: make it anew")?.latency.p50_us;
        let now = measurements.remove(0).p50_us;
        let taken = files.iter().enumerate().filter(|(_, file)| !self.refused.contains_key(&file.kind()));
        let mut measured: Vec<(usize, Measurement)> =
            taken.map(|(place, _)| place).zip(measurements).collect();
        let report = |(place, file): (usize, &File)| FormReport {
            form: file.writing.form,
            opset: file.writing.opset,
            precision: file.writing.precision,
            p50_us: measured.iter().find(|(at, _)| *at == place).map(|(_, measured)| measured.p50_us),
            refused: self.refused.get(&file.kind()).cloned(),
        };
        let forms = files.iter().enumerate().map(report).collect();
        measured.sort_by(|(_, a), (_, b)| a.p50_us.total_cmp(&b.p50_us));
        Ok(Timed { fastest_first: measured, slowdown: now / then, forms })
    }

    /// The files that are not known to be refused.
    fn taken<'f>(&self, files: &'f [File]) -> Vec<&'f [u8]> {
        let taken = files.iter().filter(|file| !self.refused.contains_key(&file.kind()));
        taken.map(|file| &file.bytes[..]).collect()
    }

    /// The reference and the models, in this order.
    fn measure(&self, models: &[&[u8]]) -> Result<Vec<Measurement>, NotMeasured> {
        let models = [&[&self.reference[..]], models].concat();
        let mut task = self.reporter.task("measure", 0);
        let wanted = Task { models: &models, program: Some(&self.program), ..self.task };
        let measured = measure_on(&self.profile.platform, &wanted, &mut |done, total| {
            task.at(done as u64, total as u64, &self.profile.name);
        })?;
        Ok(measured.measurements)
    }

    /// The most memory that a process holds which loads and runs a file alone.
    pub(super) fn memory(&self, file: &File) -> anyhow::Result<Option<u64>> {
        Ok(self.alone(file)?.course.peak_memory_bytes)
    }

    fn alone(&self, file: &File) -> Result<Measured, NotMeasured> {
        let wanted = Task { models: &[&file.bytes], program: Some(&self.program), ..self.task };
        measure_alone(&self.profile.platform, &wanted, 0)
    }

    /// Loads each file alone, and keeps in mind which forms are refused.
    fn try_each(&mut self, files: &[File]) -> anyhow::Result<()> {
        let mut last = None;
        for file in files {
            if self.refused.contains_key(&file.kind()) {
                continue;
            }
            match self.alone(file) {
                Ok(_) => {}
                Err(error) if error.is_model_refused() => {
                    self.reporter.detail(&format!(
                        "{} does not take {} in {}: {error}",
                        self.profile.name, file.writing.form, file.writing.precision
                    ));
                    self.refused.insert(file.kind(), error.to_string());
                    last = Some(error);
                }
                Err(error) => return Err(error.into()),
            }
        }
        match last {
            Some(error) if self.taken(files).is_empty() => Err(error.into()),
            _ => Ok(()),
        }
    }
}
