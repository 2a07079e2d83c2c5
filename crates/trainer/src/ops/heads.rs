//! The attention of one image, head by head; inlined into the kernels.

use pulp::Simd;

use super::attention::AttentionShape;
use super::kernels::{dot, max, sum};
use super::math;

/// Columns are filled up to a multiple of this, the widest vector register.
const LANES: usize = 16;
/// Rows of a block.
const ROWS: usize = 8;

/// A matrix inside a slice.
#[derive(Clone, Copy)]
struct View<'a> {
    values: &'a [f32],
    /// Distance of rows and of columns.
    strides: (usize, usize),
}

/// Rows that are added up, each a whole number of vector registers.
#[derive(Clone, Copy)]
struct Rows<'a> {
    values: &'a [f32],
    row_stride: usize,
}

/// Where a product goes: `columns` values in each row.
struct Target<'a> {
    values: &'a mut [f32],
    row_stride: usize,
    columns: usize,
}

impl<'a> Target<'a> {
    #[inline(always)]
    fn of(values: &'a mut [f32], row_stride: usize, columns: usize) -> Self {
        Self { values, row_stride, columns }
    }
}

/// Rows of whole blocks, filled up with zeros.
struct Blocks {
    values: Vec<[f32; LANES]>,
    per_row: usize,
}

impl Blocks {
    fn new(rows: usize, columns: usize) -> Self {
        let per_row = columns.div_ceil(LANES);
        Self { values: vec![[0.0; LANES]; rows * per_row], per_row }
    }

    #[inline(always)]
    fn row_stride(&self) -> usize {
        self.per_row * LANES
    }

    #[inline(always)]
    fn flat(&self) -> &[f32] {
        self.values.as_flattened()
    }

    #[inline(always)]
    fn target(&mut self, columns: usize) -> Target<'_> {
        let row_stride = self.row_stride();
        Target { values: self.values.as_flattened_mut(), row_stride, columns }
    }

    #[inline(always)]
    fn rows(&self) -> Rows<'_> {
        Rows { values: self.flat(), row_stride: self.row_stride() }
    }

    /// The rows of `columns` values as they are, or copied where they would end within a register.
    #[inline(always)]
    fn filled<'a>(&'a mut self, from: &'a [f32], row_stride: usize, columns: usize) -> Rows<'a> {
        if columns.is_multiple_of(LANES) {
            return Rows { values: from, row_stride };
        }
        let width = self.row_stride();
        let rows = self.values.as_flattened_mut().chunks_exact_mut(width);
        for (row, from) in rows.zip(from.chunks(row_stride)) {
            row[..columns].copy_from_slice(&from[..columns]);
        }
        self.rows()
    }

    /// Copies the first `columns` columns of the source as rows.
    #[inline(always)]
    fn pack_transposed(&mut self, from: &[f32], row_stride: usize, columns: usize) {
        let width = self.row_stride();
        let rows = self.values.as_flattened_mut().chunks_exact_mut(width).take(columns);
        for (column, row) in rows.enumerate() {
            for (value, &from) in row.iter_mut().zip(from[column..].iter().step_by(row_stride)) {
                *value = from;
            }
        }
    }
}

/// What the heads of an image have in common.
pub(super) struct Heads {
    shape: AttentionShape,
    /// Keys, then values, column by column.
    transposed: Blocks,
    /// Rows of features.
    packed: Blocks,
    /// Scores, then probabilities.
    probabilities: Blocks,
    /// The gradient of the probabilities, then of the scores.
    scores: Blocks,
}

impl Heads {
    pub(super) fn new(shape: AttentionShape) -> Self {
        let AttentionShape { tokens, head_dim, .. } = shape;
        Self {
            shape,
            transposed: Blocks::new(head_dim, tokens),
            packed: Blocks::new(tokens, head_dim),
            probabilities: Blocks::new(tokens, tokens),
            scores: Blocks::new(tokens, tokens),
        }
    }

    /// The context of one image.
    #[inline(always)]
    pub(super) fn forward<S: Simd>(&mut self, simd: S, context: &mut [f32], qkv: &[f32]) {
        let AttentionShape { tokens, heads, head_dim } = self.shape;
        let (inner, stride) = (self.shape.inner(), 3 * self.shape.inner());
        for head in 0..heads {
            self.attend(simd, qkv, head);
            let values = self.packed.filled(&qkv[2 * inner + head * head_dim..], stride, head_dim);
            let context = Target::of(&mut context[head * head_dim..], inner, head_dim);
            let strides = (self.probabilities.row_stride(), 1);
            let probabilities = View { values: self.probabilities.flat(), strides };
            product(simd, context, probabilities, values, [tokens, tokens]);
        }
    }

    /// The gradient of one image's queries, keys and values.
    #[inline(always)]
    pub(super) fn backward<S: Simd>(&mut self, simd: S, result: &mut [f32], qkv: &[f32], gradient: &[f32]) {
        let AttentionShape { tokens, heads, head_dim } = self.shape;
        let (inner, stride) = (self.shape.inner(), 3 * self.shape.inner());
        let size = [tokens, tokens];
        let width = self.probabilities.row_stride();
        for head in 0..heads {
            let [query, key, value] = [0, 1, 2].map(|part| part * inner + head * head_dim);
            let gradient = &gradient[head * head_dim..];
            self.attend(simd, qkv, head);
            self.transposed.pack_transposed(&qkv[value..], stride, head_dim);
            let rows = View { values: gradient, strides: (inner, 1) };
            product(simd, self.scores.target(tokens), rows, self.transposed.rows(), [tokens, head_dim]);
            self.scores_backward();
            let probabilities = View { values: self.probabilities.flat(), strides: (1, width) };
            let scores = View { values: self.scores.flat(), strides: (width, 1) };
            let scores_transposed = View { strides: (1, width), ..scores };
            let rows = self.packed.filled(gradient, inner, head_dim);
            product(simd, Target::of(&mut result[value..], stride, head_dim), probabilities, rows, size);
            let rows = self.packed.filled(&qkv[key..], stride, head_dim);
            product(simd, Target::of(&mut result[query..], stride, head_dim), scores, rows, size);
            let rows = self.packed.filled(&qkv[query..], stride, head_dim);
            product(simd, Target::of(&mut result[key..], stride, head_dim), scores_transposed, rows, size);
        }
    }

    /// The probabilities of a head.
    #[inline(always)]
    fn attend<S: Simd>(&mut self, simd: S, qkv: &[f32], head: usize) {
        let AttentionShape { tokens, head_dim, .. } = self.shape;
        let (inner, stride) = (self.shape.inner(), 3 * self.shape.inner());
        self.transposed.pack_transposed(&qkv[inner + head * head_dim..], stride, head_dim);
        let queries = View { values: &qkv[head * head_dim..], strides: (stride, 1) };
        product(simd, self.probabilities.target(tokens), queries, self.transposed.rows(), [tokens, head_dim]);
        let (width, scale) = (self.probabilities.row_stride(), self.shape.scale());
        for row in self.probabilities.values.as_flattened_mut().chunks_exact_mut(width) {
            let row = &mut row[..tokens];
            let highest = max(row);
            row.iter_mut().for_each(|x| *x = math::exp((*x - highest) * scale));
            let inverse = sum(row).recip();
            row.iter_mut().for_each(|x| *x *= inverse);
        }
    }

    /// From the gradient of the probabilities to that of the scores.
    #[inline(always)]
    fn scores_backward(&mut self) {
        let (width, tokens, scale) = (self.scores.row_stride(), self.shape.tokens, self.shape.scale());
        let rows = self.scores.values.as_flattened_mut().chunks_exact_mut(width);
        for (gradient, y) in rows.zip(self.probabilities.flat().chunks_exact(width)) {
            let (gradient, y) = (&mut gradient[..tokens], &y[..tokens]);
            let common = dot(y, gradient);
            for (gradient, &y) in gradient.iter_mut().zip(y) {
                *gradient = scale * y * (*gradient - common);
            }
        }
    }
}

/// The product of a matrix of `[rows, depth]` with `depth` rows.
#[inline(always)]
fn product<S: Simd>(simd: S, to: Target<'_>, matrix: View<'_>, factors: Rows<'_>, [rows, depth]: [usize; 2]) {
    let Target { values: result, row_stride, columns: width } = to;
    let (along_rows, along_columns) = matrix.strides;
    for first in (0..rows).step_by(ROWS) {
        // The last block reads its last row again instead of rows that do not exist.
        let starts: [&[f32]; ROWS] =
            std::array::from_fn(|row| &matrix.values[(first + row).min(rows - 1) * along_rows..]);
        for column in (0..width).step_by(S::F32_LANES) {
            let mut sums = [simd.splat_f32s(0.0); ROWS];
            for index in 0..depth {
                let factors = &factors.values[index * factors.row_stride + column..][..S::F32_LANES];
                let factors = S::as_simd_f32s(factors).0[0];
                for (sum, start) in sums.iter_mut().zip(starts) {
                    *sum = simd.mul_add_e_f32s(simd.splat_f32s(start[index * along_columns]), factors, *sum);
                }
            }
            let columns = S::F32_LANES.min(width - column);
            for (row, sum) in (first..rows).zip(&sums) {
                let target = &mut result[row * row_stride + column..][..columns];
                if columns == S::F32_LANES {
                    S::as_mut_simd_f32s(target).0[0] = *sum;
                } else {
                    simd.partial_store_f32s(target, *sum);
                }
            }
        }
    }
}
