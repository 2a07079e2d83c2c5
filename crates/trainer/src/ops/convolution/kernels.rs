//! The inner loops over elements, columns and pixels; see `ops::kernels`.

use crate::ops::kernels::{add_rows_to, kernels};

/// max(min(x, 6), 0)
#[inline(always)]
fn clip6(x: f32) -> f32 {
    x.clamp(0.0, 6.0)
}

/// g where the condition holds, else zero.
#[inline(always)]
fn if_so(condition: bool, g: f32) -> f32 {
    if condition { g } else { 0.0 }
}

#[inline(always)]
fn apply(result: &mut [f32], x: &[f32], function: impl Fn(f32) -> f32) {
    for (result, &x) in result.iter_mut().zip(x) {
        *result = function(x);
    }
}

#[inline(always)]
fn change(g: &mut [f32], x: &[f32], function: impl Fn(f32, f32) -> f32) {
    for (g, &x) in g.iter_mut().zip(x) {
        *g = function(x, *g);
    }
}

kernels! {
    /// max(x, 0)
    fn relu(result: &'a mut [f32], x: &'a [f32]) {
        apply(result, x, |x| x.max(0.0));
    }

    /// Multiplies g with the derivative of [`relu`] at x.
    fn relu_backward(g: &'a mut [f32], x: &'a [f32]) {
        change(g, x, |x, g| if_so(x > 0.0, g));
    }

    /// max(min(x, 6), 0)
    fn relu6(result: &'a mut [f32], x: &'a [f32]) {
        apply(result, x, clip6);
    }

    /// Multiplies g with the derivative of [`relu6`] at x.
    fn relu6_backward(g: &'a mut [f32], x: &'a [f32]) {
        change(g, x, |x, g| if_so(x > 0.0 && x < 6.0, g));
    }

    /// x times [`hard_sigmoid`].
    fn hard_swish(result: &'a mut [f32], x: &'a [f32]) {
        apply(result, x, |x| x * (clip6(x + 3.0) * (1.0 / 6.0)));
    }

    /// Multiplies g with the derivative of [`hard_swish`] at x.
    fn hard_swish_backward(g: &'a mut [f32], x: &'a [f32]) {
        change(g, x, |x, g| {
            g * (1.0 / 6.0) * (clip6(x + 3.0) + if_so(x > -3.0 && x < 3.0, x))
        });
    }

    /// max(min(x + 3, 6), 0) / 6
    fn hard_sigmoid(result: &'a mut [f32], x: &'a [f32]) {
        apply(result, x, |x| clip6(x + 3.0) * (1.0 / 6.0));
    }

    /// Multiplies g with the derivative of [`hard_sigmoid`] at x.
    fn hard_sigmoid_backward(g: &'a mut [f32], x: &'a [f32]) {
        change(g, x, |x, g| if_so(x > -3.0 && x < 3.0, g * (1.0 / 6.0)));
    }

    /// The mean of each column, and the sum of the squares of the distances from it.
    fn moments(mean: &'a mut [f32], squares: &'a mut [f32], x: &'a [f32]) {
        let inverse = mean.len() as f32 / x.len() as f32;
        add_rows_to(mean, x);
        mean.iter_mut().for_each(|sum| *sum *= inverse);
        for row in x.chunks_exact(mean.len()) {
            for ((sum, &x), &mean) in squares.iter_mut().zip(row).zip(&*mean) {
                *sum += (x - mean) * (x - mean);
            }
        }
    }

    /// Each column times its factor, plus its term.
    fn affine(result: &'a mut [f32], x: &'a [f32], factors: &'a [f32], terms: &'a [f32]) {
        let columns = factors.len();
        for (result, x) in result.chunks_exact_mut(columns).zip(x.chunks_exact(columns)) {
            for (((result, &x), &factor), &term) in result.iter_mut().zip(x).zip(factors).zip(terms) {
                *result = factor * x + term;
            }
        }
    }

    /// Adds each column's sum of g, and of g times the distance of x from the mean.
    fn sum_gradients(sums: &'a mut [f32], along: &'a mut [f32], x: &'a [f32], g: &'a [f32], mean: &'a [f32]) {
        let columns = mean.len();
        for (x, g) in x.chunks_exact(columns).zip(g.chunks_exact(columns)) {
            let places = sums.iter_mut().zip(along.iter_mut()).zip(mean);
            for (((sum, along), &mean), (&x, &g)) in places.zip(x.iter().zip(g)) {
                *sum += g;
                *along += g * (x - mean);
            }
        }
    }

    /// factors * (g - slopes * x - terms), column by column.
    fn centre_gradients(
        result: &'a mut [f32],
        x: &'a [f32],
        g: &'a [f32],
        columns: (&'a [f32], &'a [f32], &'a [f32]),
    ) {
        let (factors, slopes, terms) = columns;
        let width = factors.len();
        let rows = x.chunks_exact(width).zip(g.chunks_exact(width));
        for (result, (x, g)) in result.chunks_exact_mut(width).zip(rows) {
            let places = factors.iter().zip(slopes).zip(terms);
            for ((result, (&x, &g)), ((&factor, &slope), &term)) in result.iter_mut().zip(x.iter().zip(g)).zip(places) {
                *result = factor * (g - slope * x - term);
            }
        }
    }

    /// Each pixel of an image times the gate of its channels.
    fn scale(result: &'a mut [f32], x: &'a [f32], gate: &'a [f32]) {
        let channels = gate.len();
        for (result, x) in result.chunks_exact_mut(channels).zip(x.chunks_exact(channels)) {
            for ((result, &x), &gate) in result.iter_mut().zip(x).zip(gate) {
                *result = x * gate;
            }
        }
    }

    /// Adds the products of the pixels of two images.
    fn sum_products(sums: &'a mut [f32], a: &'a [f32], b: &'a [f32]) {
        let channels = sums.len();
        for (a, b) in a.chunks_exact(channels).zip(b.chunks_exact(channels)) {
            for ((sum, &a), &b) in sums.iter_mut().zip(a).zip(b) {
                *sum += a * b;
            }
        }
    }

    /// Adds the values.
    fn add(sums: &'a mut [f32], x: &'a [f32]) {
        for (sum, &x) in sums.iter_mut().zip(x) {
            *sum += x;
        }
    }
}
