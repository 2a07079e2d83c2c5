//! `--emit burn`: a Rust crate that runs the network without ONNX Runtime.
//!
//! The crate holds the network as an ONNX file, in the form and precision that burn-onnx reads; its build script lets burn-onnx
//! generate the code, so that it can be made for any target that burn has.

use std::path::{Path, PathBuf};

use anyhow::bail;
use elastic_data::Source;
use elastic_exporter::build;
use elastic_space::{Array, Subnet, file};

use super::job::Job;
use crate::judge::Validation;
use crate::model_file::Writing;

/// The version of burn that the crate asks for: the one that trained the network.
const BURN: &str = "0.22.1";
/// The version of burn-onnx for that of burn.
const BURN_ONNX: &str = "0.22.0";
/// Validation examples whose logits the crate's test compares, at least.
const COMPARED: usize = 8;

/// Writes the crate of a subnet beside its model, and returns its folder.
///
/// # Errors
///
/// A file that cannot be written.
pub(super) fn write(job: &Job<'_>, subnet: &Subnet, model: &Path) -> anyhow::Result<PathBuf> {
    let (space, data) = (&job.run.model.space, &job.run.model.data);
    let stem = model.file_stem().unwrap_or(model.as_os_str()).to_string_lossy().into_owned();
    let folder = model.with_file_name(format!("{stem}-burn"));
    let batch = job.request.batch.0.unwrap_or(1);
    let weights = job.run.loaded.supernet.extract(subnet);
    let options = job.metadata.options(subnet, Writing::portable(Some(batch)))?;
    let onnx = build(space, subnet, &weights, &options)?;
    let examples = Validation::new(job.run, job.images, COMPARED.div_ceil(batch) * batch);
    let whole = examples.labels.len() / batch * batch;
    if whole == 0 {
        bail!(
            "--emit burn compares the logits of at least one batch of {batch}, and there are {} validation examples: give a \
             smaller --batch",
            examples.labels.len()
        );
    }
    let inputs = first(&examples.images, whole);
    let logits = job.run.loaded.supernet.logits(&inputs, subnet);
    let [channels, height, width] = space.input();
    let is_text = space.vocabulary().is_some();
    let (call, sizes, takes) = if is_text {
        let takes = format!(
            "three tensors of whole numbers, `[{batch}, {width}]` each: the tokens' ids, 1 for a token and 0 for padding, the \
             tokens' segments"
        );
        (include_str!("texts.rs.in"), vec![width], takes)
    } else {
        let takes = format!("images, `[{batch}, {channels}, {height}, {width}]`,");
        (include_str!("images.rs.in"), vec![channels, height, width], takes)
    };
    let preprocessing = match &data.source {
        Source::Texts(texts) => format!("Texts are cut into tokens as `{}` says.", texts.tokenizer.display()),
        _ => format!(
            "A pixel of 0 to 255 becomes (pixel / 255 - mean) / std of its channel, with mean {:?} and std {:?}.",
            data.mean, data.std
        ),
    };
    let name = crate_name(&stem);
    let values = [
        ("version", env!("CARGO_PKG_VERSION").to_owned()),
        ("file", format!("{stem}.onnx")),
        ("library", name.replace('-', "_")),
        ("name", name),
        ("burn_onnx", BURN_ONNX.to_owned()),
        ("burn", BURN.to_owned()),
        ("inputs", takes),
        ("batch", batch.to_string()),
        ("classes", space.classes().to_string()),
        ("preprocessing", preprocessing),
        ("rank", sizes.len().to_string()),
        ("input", format!("{sizes:?}")),
        ("class_names", format!("{:?}", data.class_names)),
        ("names", data.class_names.len().to_string()),
        ("tensors", if is_text { "Int, Tensor".to_owned() } else { "Tensor".to_owned() }),
        ("call", call.to_owned()),
        ("values", (batch * channels * height * width).to_string()),
    ];
    let filled = |template: &str| {
        let fill = |text: String, (key, value): &(&str, String)| text.replace(&format!("{{{key}}}"), value);
        values.iter().fold(template.to_owned(), fill)
    };
    for (path, template) in [
        ("Cargo.toml", include_str!("Cargo.toml.in")),
        ("build.rs", include_str!("build.rs.in")),
        ("src/lib.rs", include_str!("lib.rs.in")),
        ("tests/logits.rs", include_str!("logits.rs.in")),
    ] {
        file::write(&folder.join(path), filled(template).as_bytes())?;
    }
    file::write(&folder.join("model.onnx"), &onnx)?;
    file::write(&folder.join("tests/inputs.f32"), &bytes(&inputs))?;
    file::write(&folder.join("tests/logits.f32"), &bytes(&logits))?;
    Ok(folder)
}

/// The first rows of an array.
fn first(array: &Array, rows: usize) -> Array {
    let row: usize = array.shape[1..].iter().product();
    Array { shape: [&[rows], &array.shape[1..]].concat(), data: array.data[..rows * row].to_vec() }
}

fn bytes(array: &Array) -> Vec<u8> {
    array.data.iter().flat_map(|value| value.to_le_bytes()).collect()
}

/// A name that cargo takes, of a model's.
fn crate_name(stem: &str) -> String {
    let plain = |letter: char| if letter.is_ascii_alphanumeric() { letter.to_ascii_lowercase() } else { '-' };
    let name: String = stem.chars().map(plain).collect();
    if name.starts_with(|letter: char| letter.is_ascii_alphabetic()) { name } else { format!("model-{name}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_cargo_takes() {
        for (stem, expected) in [
            ("vit-fashion-4mflops", "vit-fashion-4mflops"),
            ("Run_2-host-0.5ms", "run-2-host-0-5ms"),
            ("3d", "model-3d"),
            ("été", "model--t-"),
        ] {
            assert_eq!(crate_name(stem), expected);
        }
    }

    #[test]
    fn the_first_rows() {
        let array = Array { shape: vec![3, 1, 2], data: vec![1.0, 2.0, 3.0, 4.0, 5.0, 6.0] };
        assert_eq!(first(&array, 2), Array { shape: vec![2, 1, 2], data: vec![1.0, 2.0, 3.0, 4.0] });
        assert_eq!(bytes(&first(&array, 1)), [0, 0, 128, 63, 0, 0, 0, 64]);
    }
}
