//! Finds the ranges of a file's values by running it on calibration data.

use std::collections::BTreeMap;

use elastic_runtime::{OpenError, RunError, spread};
use elastic_space::Array;
use elastic_space::platform::Runtime;
use prost::Message;
use thiserror::Error;

use super::decode;
use super::proto::{declare, shapes};
use super::range::{BINS, Method, Range};
use super::static_int8::reduced_values;
use crate::graph::read::ReadModelError;
use crate::onnx::tensor_proto::DataType;
use crate::verify::batches;

/// Why no ranges were found.
#[derive(Debug, Error)]
pub enum CalibrateError {
    /// The bytes are no ONNX file.
    #[error(transparent)]
    Read(#[from] ReadModelError),
    /// The runtime does not take the file with its inner values as outputs.
    #[error("calibrate the model: {0}")]
    Open(#[from] OpenError),
    /// A run failed.
    #[error("calibrate the model: {0}")]
    Run(#[from] RunError),
    /// There are no images.
    #[error("calibrate the model: there are no images; give at least one")]
    NoImages,
    /// A value is not a number.
    #[error("calibrate the model: `{value}` holds {found} on calibration data: the network is damaged")]
    NotFinite {
        /// The value.
        value: String,
        /// What it holds.
        found: f32,
    },
}

/// The ranges of the values that become 8-bit integers. `batch` is the number of inputs of one run.
///
/// # Shapes
///
/// images `[samples, channels, height, width]`
///
/// # Errors
///
/// [`CalibrateError`]
pub fn calibrate(
    model: &[u8],
    runtime: &Runtime,
    images: &Array,
    batch: usize,
    method: Method,
) -> Result<BTreeMap<String, Range>, CalibrateError> {
    if images.shape.first().is_none_or(|&count| count == 0) {
        return Err(CalibrateError::NoImages);
    }
    let (mut model, mut graph) = decode(model)?;
    let values = reduced_values(&graph);
    let shapes = shapes(&graph);
    let (inputs, inner): (Vec<_>, Vec<_>) = values
        .into_iter()
        .partition(|name| graph.input.iter().any(|input| input.name.as_ref() == Some(name)));
    // What was asked for before comes first, and is dropped.
    let dropped = graph.output.len();
    graph.output.extend(inner.iter().map(|name| declare(name, DataType::Float, shapes.get(name))));
    graph.value_info.retain(|info| !inner.iter().any(|name| info.name.as_ref() == Some(name)));
    model.graph = Some(graph);
    let mut session = elastic_runtime::open(runtime, &model.encode_to_vec())?;
    let mut run = |visit: &mut dyn FnMut(usize, &[f32])| -> Result<(), CalibrateError> {
        for images in batches(images, batch) {
            let inputs = spread(images, session.inputs().len());
            let outputs = session.run(&inputs)?;
            for (place, array) in outputs.iter().skip(dropped).enumerate() {
                visit(place, &array.data);
            }
        }
        Ok(())
    };
    let mut observed = vec![Range::EMPTY; inner.len()];
    let mut damaged = None;
    run(&mut |place, values| {
        observed[place] = observed[place].with(values);
        if let Some(&found) = values.iter().find(|value| !value.is_finite()) {
            damaged = Some((place, found));
        }
    })?;
    if let Some((place, found)) = damaged {
        return Err(CalibrateError::NotFinite { value: inner[place].clone(), found });
    }
    let mut histograms = vec![vec![0_u64; BINS]; inner.len()];
    if method != Method::MinMax {
        run(&mut |place, values| count(&mut histograms[place], observed[place].magnitude(), values))?;
    }
    let of_inputs = inputs.into_iter().map(|name| (name, Range::EMPTY.with(&images.data)));
    let kept = observed.into_iter().zip(&histograms).map(|(range, histogram)| method.range(range, histogram));
    Ok(of_inputs.chain(inner.into_iter().zip(kept)).collect())
}

/// Counts magnitudes in equal bins up to the largest.
fn count(histogram: &mut [u64], largest: f32, values: &[f32]) {
    let last = histogram.len() - 1;
    let per_unit = if largest > 0.0 { histogram.len() as f32 / largest } else { 0.0 };
    for value in values {
        // A cast from float saturates.
        histogram[((value.abs() * per_unit) as usize).min(last)] += 1;
    }
}
