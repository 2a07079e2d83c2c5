//! Weights and values as 8-bit integers.
//!
//! A real number r is stored as q with r = scale (q - zero point).

use super::range::Range;
use crate::onnx::TensorProto;

/// How a constant or a value becomes 8-bit integers.
pub(super) struct Affine {
    pub(super) scale: f32,
    pub(super) zero_point: u8,
}

/// Weights as signed 8-bit integers with zero point 0, and the scale of each channel, or of all.
pub(super) struct Weights {
    pub(super) values: Vec<i8>,
    pub(super) scales: Vec<f32>,
}

impl Affine {
    /// Unsigned 8-bit integers that hold every number of the range, and 0 exactly.
    pub(super) fn of(range: Range) -> Self {
        let (low, high) = (range.low.min(0.0), range.high.max(0.0));
        if high <= low {
            return Self { scale: 1.0, zero_point: 0 };
        }
        let scale = (high - low) / 255.0;
        Self { scale, zero_point: (-low / scale).round().clamp(0.0, 255.0) as u8 }
    }
}

impl Weights {
    /// Quantises so that the largest magnitude of a channel becomes 127. `axis` is that of the channels; `None` has one
    /// scale for all.
    pub(super) fn of(values: &[f32], dims: &[i64], axis: Option<usize>) -> Self {
        let channels = axis.map_or(1, |axis| dims[axis] as usize);
        let inner: usize =
            axis.map_or(values.len().max(1), |axis| dims[axis + 1..].iter().product::<i64>() as usize);
        let channel = |index: usize| index / inner % channels;
        let mut largest = vec![0.0_f32; channels];
        for (index, value) in values.iter().enumerate() {
            let largest = &mut largest[channel(index)];
            *largest = largest.max(value.abs());
        }
        // Weights that are all zero need a scale too.
        let scale = |largest: f32| if largest > 0.0 { largest / 127.0 } else { 1.0 };
        let scales: Vec<f32> = largest.into_iter().map(scale).collect();
        let quantise = |(index, value): (usize, &f32)| {
            (value / scales[channel(index)]).round().clamp(-127.0, 127.0) as i8
        };
        Self { values: values.iter().enumerate().map(quantise).collect(), scales }
    }

    /// The values as the bytes of a constant.
    pub(super) fn bytes(&self) -> Vec<u8> {
        self.values.iter().map(|value| value.to_le_bytes()[0]).collect()
    }
}

/// The axis of a weight's outputs: the first of a kernel `[outputs, inputs, height, width]`, the last of a matrix
/// `[inputs, outputs]`.
pub(super) fn output_axis(weight: &TensorProto) -> usize {
    if weight.dims.len() == 4 { 0 } else { weight.dims.len() - 1 }
}
