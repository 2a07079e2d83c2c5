//! The attention of one image, head by head; inlined into the kernels.

use pulp::Simd;

use super::attention::AttentionShape;
use super::math;

/// Columns are filled up to a multiple of this, the widest vector register.
const LANES: usize = 16;
/// Rows of a block.
const ROWS: usize = 8;

/// Columns of the scores of `tokens` queries with what they are filled up with.
pub(super) fn filled(tokens: usize) -> usize {
    tokens.next_multiple_of(LANES)
}

/// The left factor of a product, read a block of rows at a time.
trait Left: Copy {
    /// A block of rows.
    type Block;

    /// The block that begins at a row; where rows run out, the last one again or others that are not used.
    fn block(self, first: usize, size: [usize; 2]) -> Self::Block;

    /// One column of a block.
    fn column(block: &Self::Block, index: usize) -> [f32; ROWS];
}

/// A factor whose rows lie in one piece each.
#[derive(Clone, Copy)]
struct ByRow<'a> {
    values: &'a [f32],
    row_stride: usize,
}

impl<'a> Left for ByRow<'a> {
    type Block = [&'a [f32]; ROWS];

    #[inline(always)]
    fn block(self, first: usize, [rows, depth]: [usize; 2]) -> Self::Block {
        let mut block = [self.values; ROWS];
        for (offset, row) in block.iter_mut().enumerate() {
            *row = &row[(first + offset).min(rows - 1) * self.row_stride..][..depth];
        }
        block
    }

    #[inline(always)]
    fn column(block: &Self::Block, index: usize) -> [f32; ROWS] {
        let mut column = [0.0; ROWS];
        for (value, row) in column.iter_mut().zip(block) {
            *value = row[index];
        }
        column
    }
}

/// A factor whose columns lie in one piece each, filled up to whole blocks.
#[derive(Clone, Copy)]
struct ByColumn<'a> {
    values: &'a [f32],
    column_stride: usize,
}

impl<'a> Left for ByColumn<'a> {
    type Block = Self;

    #[inline(always)]
    fn block(self, first: usize, _size: [usize; 2]) -> Self {
        Self { values: &self.values[first..], ..self }
    }

    #[inline(always)]
    fn column(block: &Self, index: usize) -> [f32; ROWS] {
        let mut column = [0.0; ROWS];
        column.copy_from_slice(&block.values[index * block.column_stride..][..ROWS]);
        column
    }
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
    fn target(&mut self) -> Target<'_> {
        let row_stride = self.row_stride();
        Target { values: self.values.as_flattened_mut(), row_stride, columns: row_stride }
    }

    #[inline(always)]
    fn by_row(&self) -> ByRow<'_> {
        ByRow { values: self.flat(), row_stride: self.row_stride() }
    }

    #[inline(always)]
    fn by_column(&self) -> ByColumn<'_> {
        ByColumn { values: self.flat(), column_stride: self.row_stride() }
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
///
/// Probabilities and scores have a row for each key and a column for each query, so that a register holds many
/// queries, and the sums of softmax over the keys never cross the lanes of a register.
pub(super) struct Heads {
    shape: AttentionShape,
    /// Queries, then the context's gradient, a row for each feature.
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

    /// The context of one image. A bias is added to the scores before they are scaled, those of each head in the layout
    /// of the scores.
    #[inline(always)]
    pub(super) fn forward<S: Simd>(
        &mut self,
        simd: S,
        context: &mut [f32],
        qkv: &[f32],
        bias: Option<&[f32]>,
    ) {
        let AttentionShape { tokens, heads, head_dim } = self.shape;
        let (inner, stride) = (self.shape.inner(), 3 * self.shape.inner());
        for head in 0..heads {
            self.attend(simd, qkv, head, bias);
            let values = self.packed.filled(&qkv[2 * inner + head * head_dim..], stride, head_dim);
            let context = Target::of(&mut context[head * head_dim..], inner, head_dim);
            product(simd, context, self.probabilities.by_column(), values, [tokens, tokens]);
        }
    }

    /// The gradient of one image's queries, keys and values; that of the bias is added to the second of its slices, if that is
    /// not empty.
    #[inline(always)]
    pub(super) fn backward<S: Simd>(
        &mut self,
        simd: S,
        result: &mut [f32],
        qkv: &[f32],
        gradient: &[f32],
        mut bias: Option<(&[f32], &mut [f32])>,
    ) {
        let AttentionShape { tokens, heads, head_dim } = self.shape;
        let (inner, stride) = (self.shape.inner(), 3 * self.shape.inner());
        let size = [tokens, tokens];
        for head in 0..heads {
            let [query, key, value] = [0, 1, 2].map(|part| part * inner + head * head_dim);
            let gradient = &gradient[head * head_dim..];
            self.attend(simd, qkv, head, bias.as_ref().map(|(bias, _)| *bias));
            self.transposed.pack_transposed(gradient, inner, head_dim);
            let rows = ByRow { values: &qkv[value..], row_stride: stride };
            product(simd, self.scores.target(), rows, self.transposed.rows(), [tokens, head_dim]);
            self.scores_backward();
            if let Some((_, sums)) = bias.as_mut().filter(|(_, sums)| !sums.is_empty()) {
                let scores = self.scores.flat();
                let sums = &mut sums[head * scores.len()..][..scores.len()];
                sums.iter_mut().zip(scores).for_each(|(sum, &x)| *sum += x);
            }
            let (probabilities, scores) = (self.probabilities.by_row(), self.scores.by_row());
            let rows = self.packed.filled(gradient, inner, head_dim);
            product(simd, Target::of(&mut result[value..], stride, head_dim), probabilities, rows, size);
            let rows = self.packed.filled(&qkv[query..], stride, head_dim);
            product(simd, Target::of(&mut result[key..], stride, head_dim), scores, rows, size);
            let rows = self.packed.filled(&qkv[key..], stride, head_dim);
            let scores = self.scores.by_column();
            product(simd, Target::of(&mut result[query..], stride, head_dim), scores, rows, size);
        }
    }

    /// The probabilities of a head.
    #[inline(always)]
    fn attend<S: Simd>(&mut self, simd: S, qkv: &[f32], head: usize, bias: Option<&[f32]>) {
        let AttentionShape { tokens, head_dim, .. } = self.shape;
        let (inner, stride) = (self.shape.inner(), 3 * self.shape.inner());
        self.transposed.pack_transposed(&qkv[head * head_dim..], stride, head_dim);
        let keys = ByRow { values: &qkv[inner + head * head_dim..], row_stride: stride };
        product(simd, self.probabilities.target(), keys, self.transposed.rows(), [tokens, head_dim]);
        if let Some(bias) = bias {
            let scores = self.probabilities.values.as_flattened_mut();
            let bias = &bias[head * scores.len()..][..scores.len()];
            scores.iter_mut().zip(bias).for_each(|(x, &bias)| *x += bias);
        }
        let (per_row, scale) = (self.probabilities.per_row, self.shape.scale());
        for first in 0..per_row {
            let keys = || (first..tokens * per_row).step_by(per_row);
            let all = &mut self.probabilities.values;
            let mut highest = [f32::NEG_INFINITY; LANES];
            for key in keys() {
                highest.iter_mut().zip(&all[key]).for_each(|(highest, &x)| *highest = highest.max(x));
            }
            let mut sums = [0.0; LANES];
            for key in keys() {
                for ((x, sum), &highest) in all[key].iter_mut().zip(&mut sums).zip(&highest) {
                    *x = math::exp((*x - highest) * scale);
                    *sum += *x;
                }
            }
            sums.iter_mut().for_each(|sum| *sum = sum.recip());
            for key in keys() {
                all[key].iter_mut().zip(&sums).for_each(|(x, &inverse)| *x *= inverse);
            }
        }
    }

    /// From the gradient of the probabilities to that of the scores.
    #[inline(always)]
    fn scores_backward(&mut self) {
        let (tokens, scale) = (self.shape.tokens, self.shape.scale());
        let per_row = self.scores.per_row;
        let (scores, probabilities) = (&mut self.scores.values, &self.probabilities.values);
        for first in 0..per_row {
            let keys = || (first..tokens * per_row).step_by(per_row);
            let mut common = [0.0; LANES];
            for key in keys() {
                for ((common, &g), &y) in common.iter_mut().zip(&scores[key]).zip(&probabilities[key]) {
                    *common += g * y;
                }
            }
            for key in keys() {
                for ((g, &y), &common) in scores[key].iter_mut().zip(&probabilities[key]).zip(&common) {
                    *g = scale * y * (*g - common);
                }
            }
        }
    }
}

/// The product of a matrix of `[rows, depth]` with `depth` rows.
#[inline(always)]
fn product<S: Simd, L: Left>(
    simd: S,
    to: Target<'_>,
    matrix: L,
    factors: Rows<'_>,
    [rows, depth]: [usize; 2],
) {
    let Target { values: result, row_stride, columns: width } = to;
    for first in (0..rows).step_by(ROWS) {
        let block = matrix.block(first, [rows, depth]);
        for column in (0..width).step_by(S::F32_LANES) {
            let mut sums = [simd.splat_f32s(0.0); ROWS];
            for index in 0..depth {
                let factors = &factors.values[index * factors.row_stride + column..][..S::F32_LANES];
                let factors = S::as_simd_f32s(factors).0[0];
                for (sum, factor) in sums.iter_mut().zip(L::column(&block, index)) {
                    *sum = simd.mul_add_e_f32s(simd.splat_f32s(factor), factors, *sum);
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
