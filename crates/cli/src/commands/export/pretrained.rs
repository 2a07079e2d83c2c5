//! `elastic export --model`: weights that others have trained, as they are.

use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use elastic_exporter::precision::Precision;
use elastic_exporter::{Agreement, Form, TOLERANCE, build};
use elastic_profiler::{random_inputs, random_texts};
use elastic_space::budget::Quantity;
use elastic_space::{Array, Cost, Subnet, file};
use elastic_trainer::init::{self, Initial};
use elastic_trainer::layers::Statistics;
use elastic_trainer::{Device, Supernet};
use schemars::JsonSchema;
use serde::Serialize;

use super::Export;
use crate::metadata::Metadata;
use crate::platforms;
use crate::proof;
use crate::runs::{read_model, require_model_file};
use crate::table::{self, Format};

/// Random images on which logits are compared.
const COMPARED_IMAGES: usize = 8;

/// What is written beside the model.
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub(crate) struct Report {
    schema: &'static str,
    file: String,
    sha256: String,
    file_bytes: usize,
    #[serde(flatten)]
    cost: Cost,
    flops: u64,
    subnet: Subnet,
    weights: PathBuf,
    weights_sha256: String,
    form: Form,
    opset: i64,
    agreement: Vec<Agreement>,
    #[serde(skip_serializing_if = "Option::is_none")]
    not_compared: Option<&'static str>,
    tolerance: f64,
    elastic_version: &'static str,
    command: Vec<String>,
}

/// Writes the largest network of a model file with the weights that its `init` names.
///
/// # Errors
///
/// Weights that do not fit, or that lack the statistics of batch normalisation; a runtime that disagrees.
pub(super) fn export(path: &Path, request: &Export, format: Format) -> anyhow::Result<()> {
    require_model_file(path)?;
    let model = read_model(path)?;
    let Some(init) = &model.init else {
        bail!("{} has no `init`, so there are no weights: train it, and export the run", path.display());
    };
    if model.data.mean.is_empty() && model.space.vocabulary().is_none() {
        bail!(
            "{} leaves data.mean and data.std out, and no data is read: give them, the exported file tells how images \
             are prepared",
            path.display()
        );
    }
    if request.precision.0 != Some(Precision::Fp32) {
        bail!("--model writes fp32 alone: what fewer bits cost is measured on the data of a run");
    }
    let [writing] = request.writings(&model.space, false)?[..] else { unreachable!("nothing is measured") };
    elastic_runtime::check(&platforms::onnx_runtime_cpu(1))?;
    let name = path.file_stem().unwrap_or(path.as_os_str()).to_string_lossy();
    let file_name = format!("{name}-pretrained.onnx");
    let target = request.out.join(&file_name);
    file::prepare_folder_of(&target)?;
    let fresh = Supernet::new(model.space.clone(), model.seed(), &Device::flex());
    let Initial { weights, statistics } = init::load(init, &fresh.network, &model.space)?;
    let statistics = match statistics {
        Some(statistics) => statistics,
        None if model.space.needs_calibration() => bail!(
            "{} has no running mean and variance of batch normalisation: without them the network is trained first, \
             and the run exported",
            init.from.display()
        ),
        None => Statistics::default(),
    };
    let supernet = Supernet::from_weights(model.space.clone(), &weights)
        .with_context(|| format!("read {}", init.from.display()))?;
    let subnet = model.space.largest();
    let weights_sha256 = file::sha256(&file::read(&init.from)?);
    let options = Metadata::new(&model, &weights_sha256).options(&subnet, writing)?;
    let bytes = build(&model.space, &subnet, &supernet.extract_by(&subnet, &statistics), &options)?;
    let (input, seed) = (model.space.input(), model.seed());
    let images = match model.space.vocabulary() {
        Some(vocabulary) => random_texts(COMPARED_IMAGES, input[2], vocabulary, seed),
        None => random_inputs(COMPARED_IMAGES, input, seed).remove(0),
    };
    let logits = |images: &Array| supernet.logits_by(images, &subnet, &statistics);
    let inputs = (writing.batch.unwrap_or(COMPARED_IMAGES), writing.sequence);
    let agreement = proof::compare(&bytes, &images, logits, inputs)?;
    file::write(&target, &bytes)?;
    let cost = model.space.cost(&subnet);
    let report = Report {
        schema: "elastic.export-pretrained/v1",
        file: file_name,
        sha256: file::sha256(&bytes),
        file_bytes: bytes.len(),
        cost,
        flops: cost.flops(),
        subnet,
        weights: init.from.clone(),
        weights_sha256,
        form: writing.form,
        opset: writing.opset,
        agreement,
        not_compared: proof::not_compared(&bytes)?,
        tolerance: TOLERANCE,
        elastic_version: env!("CARGO_PKG_VERSION"),
        command: std::env::args().collect(),
    };
    file::write_json(&target.with_extension("json"), &report)?;
    match format {
        Format::Json => table::print_json(&report),
        Format::Table => {
            print(&target, &report);
            Ok(())
        }
    }
}

fn print(target: &Path, report: &Report) {
    let rows: Vec<Vec<String>> = report
        .agreement
        .iter()
        .map(|agreement| vec![agreement.runtime.clone(), format!("{:.2e}", agreement.max_abs_difference)])
        .collect();
    table::print(&["runtime", "largest difference"], &rows);
    if let Some(reason) = report.not_compared {
        println!("{reason}");
    }
    println!(
        "\n{}: {}, {}, {}",
        target.display(),
        Quantity::Params.format(report.cost.params as f64),
        Quantity::Macs.format(report.cost.macs as f64),
        Quantity::FileSize.format(report.file_bytes as f64)
    );
}
