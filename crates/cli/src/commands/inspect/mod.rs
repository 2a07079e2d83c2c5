//! `elastic inspect`

mod exported;

pub(super) use exported::FileReport;

use std::path::{Path, PathBuf};

use clap::Args;
use elastic_exporter::{Batch, Form, GraphOptions, Sequence, file_size};
use elastic_space::Subnet;
use elastic_space::budget::Quantity;
use elastic_trainer::Model;
use elastic_trainer::run_folder::RunFolder;
use schemars::JsonSchema;
use serde::Serialize;

use crate::runs::{Run, read_model, require_folder, require_model_file};
use crate::table::{self, Format};

/// Show the search space and what its subnets cost, or what an exported file says of itself.
///
/// Parameters and MACs are those of the exported graph. 1 MAC = 2 FLOPs; normalisation, softmax and
/// additions are not counted. Of an ONNX file its metadata are shown: the subnet, the accuracy, how inputs are prepared, and
/// what it was made from.
#[derive(Debug, Args)]
pub(crate) struct Inspect {
    /// Show this ONNX file instead.
    #[arg(conflicts_with_all = ["model", "run"])]
    file: Option<PathBuf>,
    /// Model file.
    #[arg(long, default_value = "models/vit-fashion.yaml")]
    model: PathBuf,
    /// Show the space of a run instead, or of one of its stages: only what has been trained.
    #[arg(long, conflicts_with = "model")]
    run: Option<PathBuf>,
}

#[derive(Serialize, JsonSchema)]
pub(super) struct Report {
    family: &'static str,
    subnets: String,
    slots: Vec<Slot>,
    named: Vec<Row>,
}

#[derive(Serialize, JsonSchema)]
struct Slot {
    name: String,
    dimension: elastic_space::Dimension,
    choices: usize,
}

#[derive(Serialize, JsonSchema)]
struct Row {
    name: String,
    subnet: Subnet,
    params: u64,
    macs: u64,
    flops: u64,
    file_bytes: u64,
}

impl Inspect {
    pub(crate) fn run(self, format: Format) -> anyhow::Result<()> {
        if let Some(file) = &self.file {
            return exported::show(file, format);
        }
        let (path, model) = match self.run.map(RunFolder) {
            Some(run) if run.is_finished() => (run.config(), Run::open(Some(&run.0))?.model),
            Some(run) => {
                require_folder(&run)?;
                (run.config(), read_model(&run.config())?)
            }
            None => {
                require_model_file(&self.model)?;
                let model = read_model(&self.model)?;
                (self.model, model)
            }
        };
        let report = report(&model);
        match format {
            Format::Json => table::print_json(&report),
            Format::Table => {
                print(&path, &report);
                Ok(())
            }
        }
    }
}

fn report(model: &Model) -> Report {
    let options = GraphOptions {
        batch: Batch::Fixed(1),
        sequence: Sequence::Fixed,
        form: Form::Portable,
        opset: Form::Portable.opset(),
        class_names: model.data.class_names.clone(),
        metadata: Default::default(),
    };
    let slot = |slot: elastic_space::Slot| Slot {
        name: slot.name,
        dimension: slot.dimension,
        choices: slot.choices.len(),
    };
    let row = |(name, subnet): (String, Subnet)| {
        let cost = model.space.cost(&subnet);
        let file_bytes = file_size(&model.space, &subnet, &options);
        Row { name, subnet, params: cost.params, macs: cost.macs, flops: cost.flops(), file_bytes }
    };
    Report {
        family: model.space.family(),
        subnets: model.space.size().to_string(),
        slots: model.space.slots().into_iter().map(slot).collect(),
        named: model.named_subnets().into_iter().map(row).collect(),
    }
}

fn print(path: &Path, report: &Report) {
    println!(
        "{}: family {}, {} decisions, {} different subnets\n",
        path.display(),
        report.family,
        report.slots.len(),
        report.subnets
    );
    let rows: Vec<Vec<String>> = report
        .named
        .iter()
        .map(|row| {
            vec![
                row.name.clone(),
                Quantity::Params.format(row.params as f64),
                Quantity::Macs.format(row.macs as f64),
                Quantity::Flops.format(row.flops as f64),
                Quantity::FileSize.format(row.file_bytes as f64),
                row.subnet.to_string(),
            ]
        })
        .collect();
    table::print(&["subnet", "parameters", "MACs", "FLOPs", "ONNX file", "choices"], &rows);
    println!("\n1 MAC = 2 FLOPs, for one input; the file without its metadata.");
}
