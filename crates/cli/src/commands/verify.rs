//! `elastic verify`

use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use clap::Args;
use elastic_data::Splits;
use elastic_exporter::precision::{PRECISION_KEY, Precision};
use elastic_exporter::{Form, Sequence, build, opsets, read_metadata};
use elastic_space::subnet::METADATA_KEY as SUBNET_KEY;
use elastic_space::{Subnet, file};
use elastic_trainer::{Supernet, checkpoint};

use crate::fewer_bits::{self, ACCURACY_KEY};
use crate::metadata::{
    BATCH_KEY, CHECKPOINT_KEY, FINETUNED_KEY, FORM_KEY, Finetuned, Metadata, SEQUENCE_KEY,
};
use crate::model_file::{BatchSize, Writing};
use crate::progress::Reporter;
use crate::proof::{self, Proof};
use crate::runs::{Run, short_hash};
use crate::table::{self, Format, percent};

/// Compare an exported model with its supernet and read its test accuracy.
///
/// The model runs in ONNX Runtime and in tract on real validation images; logits must agree with the
/// supernet's to 1e-4, with the same top class everywhere, else the exit code is 8. A model of the form
/// `contrib-attention` runs in ONNX Runtime alone, which is said. Of a model in fewer bits the same network in 32-bit floats is
/// compared, and the accuracy that the file says of itself is measured again.
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
        let writing = self.writing(&model)?;
        let mut run = Run::open(self.run.as_deref())?;
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
        if let Some(entry) = metadata.get(FINETUNED_KEY) {
            let Finetuned { weights, .. } = serde_json::from_str(entry)
                .with_context(|| format!("{}: metadata `{FINETUNED_KEY}` is damaged", self.file.display()))?;
            if let Some(sha256) = weights {
                run.loaded.supernet = self.finetuned(&sha256)?;
            }
        }
        reporter.detail(&format!("verifying {} against {}", self.file.display(), run.folder.0.display()));
        let (run, Splits { validation, .. }) = run.with_images(reporter)?;
        let reduced =
            metadata.get(PRECISION_KEY).is_some_and(|precision| precision != Precision::Fp32.name());
        let fp32 = if reduced { in_fp32(&run, &subnet, writing)? } else { model.clone() };
        let proof = proof::prove(&run, &subnet, [&fp32, &model], writing, &validation, reporter)?;
        if reduced {
            let recorded = serde_json::from_str(entry(ACCURACY_KEY)?)
                .with_context(|| format!("{}: metadata `{ACCURACY_KEY}` is damaged", self.file.display()))?;
            fewer_bits::verify(&recorded, &model, writing.batch, &run, &validation)?;
        }
        match format {
            Format::Json => table::print_json(&proof),
            Format::Table => {
                print(&self.file, &subnet, &proof);
                Ok(())
            }
        }
    }
}

impl Verify {
    /// The supernet's file that `elastic export --finetune` wrote beside the model.
    fn finetuned(&self, sha256: &str) -> anyhow::Result<Supernet> {
        let path = self.file.with_extension("safetensors");
        if !path.exists() {
            bail!(
                "{} was fine-tuned, and its weights, {}, are not beside it: copy them there, or export it again",
                self.file.display(),
                path.display()
            );
        }
        let loaded = checkpoint::load_supernet(&path)?;
        if loaded.sha256 != sha256 {
            bail!(
                "{} was made from the weights {}, but {} is {}: export it again",
                self.file.display(),
                short_hash(sha256),
                path.display(),
                short_hash(&loaded.sha256)
            );
        }
        Ok(loaded.supernet)
    }

    /// How the file was written, in 32-bit floats.
    fn writing(&self, model: &[u8]) -> anyhow::Result<Writing> {
        let metadata = read_metadata(model)?;
        let damaged = |key: &str| format!("{}: metadata `{key}` is missing or damaged", self.file.display());
        let entry = |key: &str| metadata.get(key).map_or("", String::as_str);
        let BatchSize(batch) = entry(BATCH_KEY).parse().with_context(|| damaged(BATCH_KEY))?;
        let form: Form = entry(FORM_KEY).parse().with_context(|| damaged(FORM_KEY))?;
        let sequence = match metadata.get(SEQUENCE_KEY) {
            Some(sequence) => sequence.parse().with_context(|| damaged(SEQUENCE_KEY))?,
            None => Sequence::Fixed,
        };
        let opset = opsets(model)?.get("").copied().unwrap_or(form.opset());
        Ok(Writing { batch, sequence, form, opset, precision: Precision::Fp32 })
    }
}

/// The network of a file in fewer bits, in 32-bit floats.
fn in_fp32(run: &Run, subnet: &Subnet, writing: Writing) -> anyhow::Result<Vec<u8>> {
    let options = Metadata::of_run(run).options(subnet, writing)?;
    Ok(build(&run.model.space, subnet, &run.loaded.supernet.extract(subnet), &options)?)
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
