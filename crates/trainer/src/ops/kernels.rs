//! The inner loops, each compiled for the widest vector registers of the processor it runs on.
//!
//! Every kernel takes whole rows, or any number of elements where there are no rows.

use super::attention::AttentionShape;
use super::heads::Heads;
use super::{AdamwFactors, math};

/// Independent sums of one row, so that the compiler can use vector registers.
const LANES: usize = 16;

/// Defines functions whose bodies are compiled once per instruction set and chosen at run time.
///
/// The body must be inlined into pulp's dispatch to be compiled for its instruction set; a closure is
/// not when it is large, a method with `inline(always)` is.
macro_rules! kernels {
    ($($(#[$doc:meta])* fn $name:ident($($argument:ident: $type:ty),* $(,)?) $body:block)*) => {$(
        $(#[$doc])*
        pub(in crate::ops) fn $name<'a>($($argument: $type),*) {
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

pub(super) use kernels;

kernels! {
    /// x * Phi(x).
    fn gelu(result: &'a mut [f32], x: &'a [f32]) {
        for (result, &x) in result.iter_mut().zip(x) {
            *result = math::gelu(x).0;
        }
    }

    /// [`gelu`] and its derivative.
    fn gelu_and_derivative(result: &'a mut [f32], derivative: &'a mut [f32], x: &'a [f32]) {
        for ((result, derivative), &x) in result.iter_mut().zip(derivative).zip(x) {
            (*result, *derivative) = math::gelu(x);
        }
    }

    /// Multiplies each value.
    fn multiply(values: &'a mut [f32], x: &'a [f32]) {
        for (value, &x) in values.iter_mut().zip(x) {
            *value *= x;
        }
    }

    /// Adds a row to each row.
    fn add_rows(rows: &'a mut [f32], row: &'a [f32]) {
        for values in rows.chunks_exact_mut(row.len()) {
            for (value, &x) in values.iter_mut().zip(row) {
                *value += x;
            }
        }
    }

    /// Adds all rows to `sums`.
    fn sum_rows(sums: &'a mut [f32], rows: &'a [f32]) {
        add_rows_to(sums, rows);
    }

    /// The cross-entropy of the rows of logits and targets times `share`, and its gradient for the logits.
    fn cross_entropy(
        gradient: &'a mut [f32],
        loss: &'a mut f32,
        source: (&'a [f32], &'a [f32]),
        classes: usize,
        share: f32,
    ) {
        let rows = source.0.chunks_exact(classes).zip(source.1.chunks_exact(classes));
        for (gradient, (logits, targets)) in gradient.chunks_exact_mut(classes).zip(rows) {
            let highest = max(logits);
            for (gradient, &logit) in gradient.iter_mut().zip(logits) {
                *gradient = logit - highest;
            }
            let mass = sum(targets);
            let along = dot(targets, gradient);
            gradient.iter_mut().for_each(|value| *value = math::exp(*value));
            let total = sum(gradient);
            // -sum(t log p), where log p is the logit below the highest, less the logarithm of the total.
            *loss += share * (mass * total.ln() - along);
            let factor = mass / total;
            for (gradient, &target) in gradient.iter_mut().zip(targets) {
                *gradient = share * (*gradient * factor - target);
            }
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

    /// The sum of the squares, in double precision.
    fn squared_sum(result: &'a mut f64, x: &'a [f32]) {
        let (blocks, tail) = x.as_chunks::<LANES>();
        let square = |x: f32| f64::from(x) * f64::from(x);
        let mut lanes = [0.0; LANES];
        for block in blocks {
            for (lane, &x) in lanes.iter_mut().zip(block) {
                *lane += square(x);
            }
        }
        *result = lanes.iter().sum::<f64>() + tail.iter().map(|&x| square(x)).sum::<f64>();
    }

    /// One update of the weights and their moments.
    fn adamw(
        weights: &'a mut [f32],
        moments: (&'a mut [f32], &'a mut [f32]),
        gradient: &'a [f32],
        factors: AdamwFactors,
    ) {
        let moments = moments.0.iter_mut().zip(moments.1);
        for ((weight, (first, second)), &gradient) in weights.iter_mut().zip(moments).zip(gradient) {
            let gradient = gradient * factors.gradient;
            *first = factors.beta1 * *first + factors.rest1 * gradient;
            *second = factors.beta2 * *second + factors.rest2 * (gradient * gradient);
            let deviation = second.sqrt() * factors.root + factors.epsilon;
            *weight = factors.keep * *weight - factors.rate * (*first / deviation);
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
        let mut scaled = vec![0.0; columns];
        let rows = x.chunks_exact(columns).zip(g.chunks_exact(columns));
        for (result, (x, g)) in result.chunks_exact_mut(columns).zip(rows) {
            let normal = &mut *result;
            let inverse = normalise(x, epsilon, normal);
            let sums = for_gamma.iter_mut().zip(&mut *for_beta);
            let factors = g.iter().zip(gamma).zip(&*normal);
            for ((scaled, (for_gamma, for_beta)), ((&g, &gamma), &n)) in scaled.iter_mut().zip(sums).zip(factors) {
                *for_gamma += g * n;
                *for_beta += g;
                *scaled = g * gamma;
            }
            let mean = sum(&scaled) / columns as f32;
            let along = dot(&scaled, normal) / columns as f32;
            for (n, &h) in normal.iter_mut().zip(&scaled) {
                *n = inverse * (h - mean - *n * along);
            }
        }
    }
}

/// What is added to the scores of consecutive sequences: for each of some groups and each head the scores' layout.
#[derive(Clone, Copy)]
pub(super) struct Biases<'a> {
    /// All groups.
    pub(super) values: &'a [f32],
    /// Values of one group.
    pub(super) group: usize,
    /// The first sequence; sequence s takes group s modulo their number.
    pub(super) first: usize,
}

impl<'a> Biases<'a> {
    /// The bias of the sequence that comes `index` after the first.
    fn of(self, index: usize) -> &'a [f32] {
        let groups = self.values.len() / self.group;
        &self.values[(self.first + index) % groups * self.group..][..self.group]
    }
}

/// The context of some images.
pub(super) fn attention(result: &mut [f32], qkv: &[f32], shape: AttentionShape, biases: Option<Biases<'_>>) {
    struct Kernel<'a>(&'a mut [f32], &'a [f32], AttentionShape, Option<Biases<'a>>);

    impl pulp::WithSimd for Kernel<'_> {
        type Output = ();

        #[inline(always)]
        fn with_simd<S: pulp::Simd>(self, simd: S) {
            let Self(result, qkv, shape, biases) = self;
            let (mut heads, image) = (Heads::new(shape), shape.tokens * shape.inner());
            let images = result.chunks_exact_mut(image).zip(qkv.chunks_exact(3 * image));
            for (index, (result, qkv)) in images.enumerate() {
                heads.forward(simd, result, qkv, biases.map(|biases| biases.of(index)));
            }
        }
    }

    pulp::Arch::new().dispatch(Kernel(result, qkv, shape, biases));
}

/// The gradient of [`attention`]. With biases, theirs is added to `sums`, which holds as many groups as the images
/// take in turn, or nothing where nobody asks for them.
pub(super) fn attention_backward(
    result: &mut [f32],
    qkv: &[f32],
    gradient: &[f32],
    shape: AttentionShape,
    biases: Option<(Biases<'_>, &mut [f32])>,
) {
    struct Kernel<'a>(
        &'a mut [f32],
        &'a [f32],
        &'a [f32],
        AttentionShape,
        Option<(Biases<'a>, &'a mut [f32])>,
    );

    impl pulp::WithSimd for Kernel<'_> {
        type Output = ();

        #[inline(always)]
        fn with_simd<S: pulp::Simd>(self, simd: S) {
            let Self(result, qkv, gradient, shape, mut biases) = self;
            let (mut heads, image) = (Heads::new(shape), shape.tokens * shape.inner());
            let sources = qkv.chunks_exact(3 * image).zip(gradient.chunks_exact(image));
            for (index, (result, (qkv, gradient))) in
                result.chunks_exact_mut(3 * image).zip(sources).enumerate()
            {
                let bias = biases.as_mut().map(|(biases, sums)| {
                    let sums = match sums.len() / biases.group {
                        0 => &mut [],
                        groups => &mut sums[index % groups * biases.group..][..biases.group],
                    };
                    (biases.of(index), sums)
                });
                heads.backward(simd, result, qkv, gradient, bias);
            }
        }
    }

    pulp::Arch::new().dispatch(Kernel(result, qkv, gradient, shape, biases));
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

/// Adds all rows to `sums`, four at a time: the sums are read and written once for them.
#[inline(always)]
pub(super) fn add_rows_to(sums: &mut [f32], rows: &[f32]) {
    let columns = sums.len();
    let mut fours = rows.chunks_exact(4 * columns);
    for four in &mut fours {
        let (first, last) = four.split_at(2 * columns);
        let ((a, b), (c, d)) = (first.split_at(columns), last.split_at(columns));
        for ((((sum, &a), &b), &c), &d) in sums.iter_mut().zip(a).zip(b).zip(c).zip(d) {
            *sum += (a + b) + (c + d);
        }
    }
    for row in fours.remainder().chunks_exact(columns) {
        for (sum, &x) in sums.iter_mut().zip(row) {
            *sum += x;
        }
    }
}

#[inline(always)]
pub(super) fn sum(row: &[f32]) -> f32 {
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
pub(super) fn dot(a: &[f32], b: &[f32]) -> f32 {
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
pub(super) fn max(row: &[f32]) -> f32 {
    let (blocks, tail) = row.as_chunks::<LANES>();
    let mut lanes = [f32::NEG_INFINITY; LANES];
    for block in blocks {
        for (lane, &x) in lanes.iter_mut().zip(block) {
            *lane = lane.max(x);
        }
    }
    lanes.iter().chain(tail).fold(f32::NEG_INFINITY, |highest, &x| highest.max(x))
}
