//! What is written beside a model for those who must account for it: where it came from, what it is good for, and what it
//! is made of.

mod bom;
mod card;
mod manifest;

use std::path::Path;

use elastic_data::{DataConfig, Examples};
use elastic_profiler::ProfileFile;
use elastic_space::{SearchSpace, file};
use schemars::JsonSchema;
use serde::Serialize;

use super::report::Report;
use crate::digest::{Digest, digest};
use crate::report;
use crate::runs::Run;

pub(crate) use manifest::Manifest;

/// What went into a model, by SHA-256.
#[derive(Debug, Clone, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub(super) struct Origin {
    /// The run's `config.yaml`.
    pub(super) config_sha256: String,
    /// Images to learn from.
    pub(super) train_images: Digest,
    /// Images to choose by.
    pub(super) validation_images: Digest,
    /// The program.
    pub(super) program_sha256: String,
    /// The ONNX Runtime library that verified and judged.
    pub(super) onnx_runtime_sha256: String,
}

impl Origin {
    /// Hashes what is on disk and in memory.
    ///
    /// # Errors
    ///
    /// A file that cannot be read, or no ONNX Runtime library.
    pub(super) fn new(run: &Run, train: &Examples, validation: &Examples) -> anyhow::Result<Self> {
        let of_file = |path: &Path| anyhow::Ok(file::sha256(&file::read(path)?));
        Ok(Self {
            config_sha256: of_file(&run.folder.config())?,
            train_images: digest(train),
            validation_images: digest(validation),
            program_sha256: of_file(&std::env::current_exe()?)?,
            onnx_runtime_sha256: of_file(&elastic_runtime::library::find()?.path)?,
        })
    }
}

/// Writes `NAME.manifest.json`, `NAME.md` and `NAME.cdx.json` beside `NAME.onnx`.
///
/// # Errors
///
/// A file that cannot be written.
pub(super) fn write(model: &Path, report: &Report, origin: &Origin, data: &DataConfig) -> anyhow::Result<()> {
    file::write_json(&model.with_extension("manifest.json"), &manifest::of(report, origin))?;
    file::write_json(&model.with_extension("cdx.json"), &bom::of(report, origin, data))?;
    file::write(&model.with_extension("md"), card::of(report, origin, data).as_bytes())?;
    Ok(())
}

/// Writes `NAME.report.html` beside `NAME.onnx`, from what `NAME.json` says.
///
/// # Errors
///
/// A file that cannot be written.
pub(super) fn write_page(
    model: &Path,
    report: &Report,
    space: &SearchSpace,
    profile: Option<&ProfileFile>,
) -> anyhow::Result<()> {
    let exported = serde_json::from_value(serde_json::to_value(report)?)?;
    let page = report::export::html(&exported, space, profile, None);
    file::write(&model.with_extension("report.html"), page.as_bytes())?;
    Ok(())
}
