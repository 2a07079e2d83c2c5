//! The inner loops, each compiled for the widest vector registers of the processor it runs on.
//!
//! Every kernel takes whole rows, or any number of elements where there are no rows.

use super::math;

/// Independent sums of one row, so that the compiler can use vector registers.
const LANES: usize = 16;

/// Defines functions whose bodies are compiled once per instruction set and chosen at run time.
///
/// The body must be inlined into pulp's dispatch to be compiled for its instruction set; a closure is
/// not when it is large, a method with `inline(always)` is.
macro_rules! kernels {
    ($($(#[$doc:meta])* fn $name:ident($($argument:ident: $type:ty),* $(,)?) $body:block)*) => {$(
        $(#[$doc])*
        pub(super) fn $name<'a>($($argument: $type),*) {
            struct Kernel<'a> { $($argument: $type),* }

            impl pulp::NullaryFnOnce for Kernel<'_> {
                type Output = ();

                #[inline(always)]
                fn call(self) {
                    let Self { $($argument),* } = self;
                    $body
                }
            }

            pulp::Arch::new().dispatch(Kernel { $($argument),* });
        }
    )*};
}

kernels! {
    /// x * Phi(x).
    fn gelu(result: &'a mut [f32], x: &'a [f32]) {
        for (result, &x) in result.iter_mut().zip(x) {
            *result = math::gelu(x);
        }
    }

    /// g times the derivative of [`gelu`] at x.
    fn gelu_backward(result: &'a mut [f32], x: &'a [f32], g: &'a [f32]) {
        for ((result, &x), &g) in result.iter_mut().zip(x).zip(g) {
            *result = g * math::gelu_derivative(x);
        }
    }

    /// Softmax of each row times `scale`.
    fn softmax(result: &'a mut [f32], x: &'a [f32], columns: usize, scale: f32) {
        for (result, row) in result.chunks_exact_mut(columns).zip(x.chunks_exact(columns)) {
            let highest = max(row);
            for (result, &x) in result.iter_mut().zip(row) {
                *result = math::exp((x - highest) * scale);
            }
            let inverse = sum(result).recip();
            result.iter_mut().for_each(|value| *value *= inverse);
        }
    }

    /// The gradient of [`softmax`] from its output y.
    fn softmax_backward(result: &'a mut [f32], y: &'a [f32], g: &'a [f32], columns: usize, scale: f32) {
        let rows = y.chunks_exact(columns).zip(g.chunks_exact(columns));
        for (result, (y, g)) in result.chunks_exact_mut(columns).zip(rows) {
            let common = dot(y, g);
            for ((result, &y), &g) in result.iter_mut().zip(y).zip(g) {
                *result = scale * y * (g - common);
            }
        }
    }

    /// Layer normalisation of each row.
    fn layer_norm(result: &'a mut [f32], x: &'a [f32], gamma: &'a [f32], beta: &'a [f32], epsilon: f32) {
        let columns = gamma.len();
        for (result, row) in result.chunks_exact_mut(columns).zip(x.chunks_exact(columns)) {
            normalise(row, epsilon, result);
            for ((result, &gamma), &beta) in result.iter_mut().zip(gamma).zip(beta) {
                *result = *result * gamma + beta;
            }
        }
    }

    /// The gradient of [`layer_norm`] for x; what belongs to gamma and beta is added to `sums`.
    fn layer_norm_backward(
        result: &'a mut [f32],
        sums: (&'a mut [f32], &'a mut [f32]),
        x: &'a [f32],
        gamma: &'a [f32],
        g: &'a [f32],
        epsilon: f32,
    ) {
        let columns = gamma.len();
        let (for_gamma, for_beta) = sums;
        let (mut normal, mut scaled) = (vec![0.0; columns], vec![0.0; columns]);
        let rows = x.chunks_exact(columns).zip(g.chunks_exact(columns));
        for (result, (x, g)) in result.chunks_exact_mut(columns).zip(rows) {
            let inverse = normalise(x, epsilon, &mut normal);
            for ((sum, &g), &n) in for_gamma.iter_mut().zip(g).zip(&normal) {
                *sum += g * n;
            }
            for (sum, &g) in for_beta.iter_mut().zip(g) {
                *sum += g;
            }
            for ((scaled, &g), &gamma) in scaled.iter_mut().zip(g).zip(gamma) {
                *scaled = g * gamma;
            }
            let mean = sum(&scaled) / columns as f32;
            let along = dot(&scaled, &normal) / columns as f32;
            for ((result, &h), &n) in result.iter_mut().zip(&scaled).zip(&normal) {
                *result = inverse * (h - mean - n * along);
            }
        }
    }
}

/// Writes `(x - mean) / deviation` and returns one over the deviation.
#[inline(always)]
fn normalise(row: &[f32], epsilon: f32, result: &mut [f32]) -> f32 {
    let mean = sum(row) / row.len() as f32;
    for (result, &x) in result.iter_mut().zip(row) {
        *result = x - mean;
    }
    let inverse = (dot(result, result) / row.len() as f32 + epsilon).sqrt().recip();
    result.iter_mut().for_each(|value| *value *= inverse);
    inverse
}

#[inline(always)]
fn sum(row: &[f32]) -> f32 {
    let (blocks, tail) = row.as_chunks::<LANES>();
    let mut lanes = [0.0; LANES];
    for block in blocks {
        for (lane, &x) in lanes.iter_mut().zip(block) {
            *lane += x;
        }
    }
    lanes.iter().sum::<f32>() + tail.iter().sum::<f32>()
}

#[inline(always)]
fn dot(a: &[f32], b: &[f32]) -> f32 {
    let ((a, a_tail), (b, b_tail)) = (a.as_chunks::<LANES>(), b.as_chunks::<LANES>());
    let mut lanes = [0.0; LANES];
    for (a, b) in a.iter().zip(b) {
        for ((lane, &a), &b) in lanes.iter_mut().zip(a).zip(b) {
            *lane += a * b;
        }
    }
    lanes.iter().sum::<f32>() + a_tail.iter().zip(b_tail).map(|(a, b)| a * b).sum::<f32>()
}

#[inline(always)]
fn max(row: &[f32]) -> f32 {
    let (blocks, tail) = row.as_chunks::<LANES>();
    let mut lanes = [f32::NEG_INFINITY; LANES];
    for block in blocks {
        for (lane, &x) in lanes.iter_mut().zip(block) {
            *lane = lane.max(x);
        }
    }
    lanes.iter().chain(tail).fold(f32::NEG_INFINITY, |highest, &x| highest.max(x))
}
