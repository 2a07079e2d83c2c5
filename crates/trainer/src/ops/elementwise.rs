//! Element by element over the whole tensor, on all threads, with the processor's widest registers.

use burn_flex::FlexTensor;
use burn::tensor::{DType, TensorData};
use rayon::prelude::*;

/// Elements of one task: large enough that handing it out costs nothing.
const CHUNK: usize = 16 * 1024;

/// f(x) for each element; the layout is contiguous after it.
pub(super) fn unary(x: FlexTensor, f: impl Fn(f32) -> f32 + Sync) -> FlexTensor {
    let x = x.to_contiguous();
    let shape = x.layout().shape().clone();
    let source = floats(&x);
    let mut result = vec![0.0_f32; source.len()];
    result.par_chunks_mut(CHUNK).zip(source.par_chunks(CHUNK)).for_each(|(result, x)| {
        pulp::Arch::new().dispatch(|| {
            for (result, &x) in result.iter_mut().zip(x) {
                *result = f(x);
            }
        });
    });
    FlexTensor::from_data(TensorData::new(result, shape))
}

/// f(a, b) for each pair of elements of two tensors of one shape; contiguous after it.
pub(super) fn binary(a: FlexTensor, b: FlexTensor, f: impl Fn(f32, f32) -> f32 + Sync) -> FlexTensor {
    let (a, b) = (a.to_contiguous(), b.to_contiguous());
    let shape = a.layout().shape().clone();
    let (left, right) = (floats(&a), floats(&b));
    let mut result = vec![0.0_f32; left.len()];
    result.par_chunks_mut(CHUNK).zip(left.par_chunks(CHUNK)).zip(right.par_chunks(CHUNK)).for_each(
        |((result, a), b)| {
            pulp::Arch::new().dispatch(|| {
                for ((result, &a), &b) in result.iter_mut().zip(a).zip(b) {
                    *result = f(a, b);
                }
            });
        },
    );
    FlexTensor::from_data(TensorData::new(result, shape))
}

fn floats(tensor: &FlexTensor) -> &[f32] {
    assert_eq!(tensor.dtype(), DType::F32, "supernets hold 32-bit floats");
    tensor.as_slice().expect("a contiguous tensor is a slice")
}
