//! `elastic verify`

use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use clap::Args;
use elastic_exporter::read_metadata;
use elastic_space::{Subnet, file};

use crate::model_file::{BATCH_KEY, BatchSize, CHECKPOINT_KEY, SUBNET_KEY};
use crate::progress::Reporter;
use crate::proof::{self, Proof};
use crate::runs::{Run, short_hash};
use crate::table::{self, Format, percent};

/// Compare an exported model with its supernet and read its test accuracy.
///
/// The model runs in ONNX Runtime and in tract on real validation images; logits must agree with the
/// supernet's to 1e-4, with the same top class everywhere, else the exit code is 8. A model of the form
/// `contrib-attention` runs in ONNX Runtime alone, which is said.
#[derive(Debug, Args)]
pub(crate) struct Verify {
    /// The model that `elastic export` wrote.
    file: PathBuf,
    /// Folder of the run that it was exported from [default: the newest in runs/].
    #[arg(long)]
    run: Option<PathBuf>,
}

impl Verify {
    pub(crate) fn run(self, reporter: &Reporter, format: Format) -> anyhow::Result<()> {
        let model = file::read(&self.file)?;
        let metadata = read_metadata(&model)
            .with_context(|| format!("{} is no ONNX model of elastic", self.file.display()))?;
        let entry = |key: &str| {
            metadata.get(key).with_context(|| {
                format!("{} has no metadata `{key}`: `elastic export` writes it", self.file.display())
            })
        };
        let subnet: Subnet = serde_json::from_str(entry(SUBNET_KEY)?)
            .with_context(|| format!("{}: metadata `{SUBNET_KEY}` is damaged", self.file.display()))?;
        let BatchSize(batch) = entry(BATCH_KEY)?
            .parse()
            .with_context(|| format!("{}: metadata `{BATCH_KEY}` is damaged", self.file.display()))?;
        let run = Run::open(self.run.as_deref())?;
        let made_from = entry(CHECKPOINT_KEY)?;
        if *made_from != run.loaded.sha256 {
            bail!(
                "{} was exported from checkpoint {}, but {} is {}: name the run that it came from with --run",
                self.file.display(),
                short_hash(made_from),
                run.folder.supernet().display(),
                short_hash(&run.loaded.sha256)
            );
        }
        run.model.space.encode(&subnet)?;
        reporter.detail(&format!("verifying {} against {}", self.file.display(), run.folder.0.display()));
        let (run, validation) = run.with_images(reporter)?;
        let proof = proof::prove(&run, &subnet, &model, batch, &validation, reporter)?;
        match format {
            Format::Json => table::print_json(&proof),
            Format::Table => {
                print(&self.file, &subnet, &proof);
                Ok(())
            }
        }
    }
}

fn print(path: &Path, subnet: &Subnet, proof: &Proof) {
    println!("{}: {subnet}\n", path.display());
    let rows: Vec<Vec<String>> = proof
        .agreement
        .iter()
        .map(|agreement| {
            vec![
                agreement.runtime.clone(),
                format!("{:.2e}", agreement.max_abs_difference),
                format!("{} of {}", agreement.same_top1, agreement.samples),
            ]
        })
        .collect();
    table::print(&["runtime", "largest difference", "same top-1"], &rows);
    if let Some(reason) = proof.not_compared {
        println!("\n{reason}");
    }
    println!("\nallowed difference of a logit: {:.0e}", proof.tolerance);
    println!("accuracy on {} test images: {}", proof.test_images, percent(proof.test_accuracy));
}
