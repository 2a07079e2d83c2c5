//! Statistics of columns, on all threads.
//!
//! Rows are dealt out in blocks of a fixed size and the blocks' sums are added in their order, in double
//! precision, so results do not depend on the number of threads.

use burn::tensor::TensorData;
use burn_flex::FlexTensor;
use rayon::prelude::*;

use super::elementwise::{filled, floats, part, shape, whole_rows};
use super::kernels;

/// Values of one task.
const BLOCK: usize = 16 * 1024;

fn tensor(values: impl IntoIterator<Item = f64>) -> FlexTensor {
    let values: Vec<f32> = values.into_iter().map(|x| x as f32).collect();
    let columns = values.len();
    FlexTensor::from_data(TensorData::new(values, [columns]))
}

/// Mean and biased variance of each column, in double precision.
struct Moments {
    mean: Vec<f64>,
    variance: Vec<f64>,
}

impl Moments {
    /// Of rows of `columns` values, by the pairwise formula of
    /// [Chan, Golub and LeVeque](https://doi.org/10.1080/00031305.1983.10483115).
    fn of(x: &[f32], columns: usize) -> Self {
        let parts: Vec<_> = x
            .par_chunks(whole_rows(columns, BLOCK))
            .map(|x| {
                let (mut mean, mut squares) = (vec![0.0; columns], vec![0.0; columns]);
                kernels::moments(&mut mean, &mut squares, x);
                (x.len() / columns, mean, squares)
            })
            .collect();
        let mut all = Self { mean: vec![0.0; columns], variance: vec![0.0; columns] };
        let mut rows = 0.0;
        for (part, mean, squares) in parts {
            let part = part as f64;
            let share = part / (rows + part);
            let columns = all.mean.iter_mut().zip(&mut all.variance).zip(mean.iter().zip(&squares));
            for ((mean, variance), (&part_mean, &squares)) in columns {
                let distance = f64::from(part_mean) - *mean;
                *mean += share * distance;
                *variance += f64::from(squares) + rows * share * distance * distance;
            }
            rows += part;
        }
        all.variance.iter_mut().for_each(|sum| *sum /= rows);
        all
    }

    /// One over the columns' deviations.
    fn inverse(&self, epsilon: f32) -> Vec<f64> {
        self.variance.iter().map(|variance| (variance + f64::from(epsilon)).sqrt().recip()).collect()
    }
}

/// Mean and biased variance of each column.
pub(super) fn moments(x: &FlexTensor) -> (FlexTensor, FlexTensor) {
    let x = x.to_contiguous();
    let Moments { mean, variance } = Moments::of(floats(&x), x.layout().shape()[1]);
    (tensor(mean), tensor(variance))
}

/// Batch normalisation by the columns' own statistics.
pub(super) fn batch_norm(x: &FlexTensor, gamma: &FlexTensor, beta: &FlexTensor, epsilon: f32) -> FlexTensor {
    let (x, gamma, beta) = (x.to_contiguous(), gamma.to_contiguous(), beta.to_contiguous());
    let (source, gamma, beta) = (floats(&x), floats(&gamma), floats(&beta));
    let moments = Moments::of(source, gamma.len());
    let factors: Vec<f32> =
        moments.inverse(epsilon).iter().zip(gamma).map(|(inverse, &gamma)| *inverse as f32 * gamma).collect();
    let terms: Vec<f32> = (moments.mean.iter().zip(&factors).zip(beta))
        .map(|((mean, &factor), &beta)| (f64::from(beta) - mean * f64::from(factor)) as f32)
        .collect();
    let block = whole_rows(gamma.len(), BLOCK);
    let ([result], _) = filled(&[(shape(&x), block)], |task, [result]| {
        kernels::affine(result, part(source, block, task), &factors, &terms);
    });
    result
}

/// The gradients of [`batch_norm`] for x, gamma and beta.
pub(super) fn batch_norm_backward(
    x: &FlexTensor,
    gamma: &FlexTensor,
    gradient: &FlexTensor,
    epsilon: f32,
) -> (FlexTensor, FlexTensor, FlexTensor) {
    let (x, gamma, gradient) = (x.to_contiguous(), gamma.to_contiguous(), gradient.to_contiguous());
    let (source, gamma, gradients) = (floats(&x), floats(&gamma), floats(&gradient));
    let columns = gamma.len();
    let moments = Moments::of(source, columns);
    let inverse = moments.inverse(epsilon);
    let (for_beta, along) = sums(source, gradients, &moments.mean);
    let for_gamma: Vec<f64> = along.iter().zip(&inverse).map(|(along, inverse)| along * inverse).collect();

    // gamma * inverse * (g - mean(g) - n * mean(g * n)), with the normalised n written out as (x - mean) * inverse.
    let rows = (source.len() / columns) as f64;
    let factors: Vec<f32> =
        inverse.iter().zip(gamma).map(|(inverse, &gamma)| *inverse as f32 * gamma).collect();
    let slopes: Vec<f64> =
        for_gamma.iter().zip(&inverse).map(|(sum, inverse)| sum / rows * inverse).collect();
    let terms: Vec<f32> = (for_beta.iter().zip(&slopes).zip(&moments.mean))
        .map(|((sum, slope), mean)| (sum / rows - slope * mean) as f32)
        .collect();
    let slopes: Vec<f32> = slopes.into_iter().map(|slope| slope as f32).collect();
    let block = whole_rows(columns, BLOCK);
    let ([result], _) = filled(&[(shape(&x), block)], |task, [result]| {
        let (x, g) = (part(source, block, task), part(gradients, block, task));
        kernels::centre_gradients(result, x, g, (&factors, &slopes, &terms));
    });
    (result, tensor(for_gamma), tensor(for_beta))
}

/// Each column's sum of g, and of g times the distance of x from the mean.
fn sums(x: &[f32], g: &[f32], mean: &[f64]) -> (Vec<f64>, Vec<f64>) {
    let columns = mean.len();
    let mean: Vec<f32> = mean.iter().map(|&mean| mean as f32).collect();
    let block = whole_rows(columns, BLOCK);
    let parts: Vec<_> = x
        .par_chunks(block)
        .zip(g.par_chunks(block))
        .map(|(x, g)| {
            let (mut sums, mut along) = (vec![0.0; columns], vec![0.0; columns]);
            kernels::sum_gradients(&mut sums, &mut along, x, g, &mean);
            (sums, along)
        })
        .collect();
    let (mut sums, mut along) = (vec![0.0; columns], vec![0.0; columns]);
    for (part, part_along) in parts {
        sums.iter_mut().zip(part).for_each(|(sum, part)| *sum += f64::from(part));
        along.iter_mut().zip(part_along).for_each(|(sum, part)| *sum += f64::from(part));
    }
    (sums, along)
}
