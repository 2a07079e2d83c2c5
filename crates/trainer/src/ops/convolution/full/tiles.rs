//! Tiles of sums that fit into the registers; inlined into the kernels.
//!
//! Loops over a run are functions of their own with a copy of the sums, and count instead of iterating: so the
//! compiler keeps the sums in registers.

use pulp::{Simd, WithSimd};
use rayon::prelude::*;

/// A row of a tile has at most this many registers.
const MOST_VECTORS: usize = 3;
/// Rows of weights that one task packs, at least.
const LEAST_ROWS: usize = 64;
/// Values that a tile may read after the last one that it uses.
const SLACK: usize = 8;

/// An image between columns of zeros.
pub(super) struct Plane {
    rows: usize,
    /// Values of a row of the image.
    row: usize,
    /// Zeros before each row.
    before: usize,
    /// Distance of rows.
    pitch: usize,
    channels: usize,
}

impl Plane {
    /// For images of `[height, width]` in rows of `columns` pixels, of which the first `before` are zeros.
    pub(super) fn new([height, width]: [usize; 2], columns: usize, before: usize, channels: usize) -> Self {
        let (row, before, pitch) = (width * channels, before * channels, columns * channels);
        Self { rows: height, row, before, pitch, channels }
    }

    /// The same with rows that are filled up to whole registers.
    pub(super) fn in_registers(self, lanes: usize) -> Self {
        Self { pitch: self.pitch.next_multiple_of(lanes), ..self }
    }

    pub(super) fn zeros(&self) -> Vec<f32> {
        vec![0.0; self.rows * self.pitch + SLACK]
    }

    pub(super) fn fill(&self, values: &mut [f32], image: &[f32]) {
        for (to, from) in values.chunks_exact_mut(self.pitch).zip(image.chunks_exact(self.row)) {
            to[self.before..][..self.row].copy_from_slice(from);
        }
    }

    /// Where a pixel is; columns count from the first of the zeros.
    pub(super) fn at(&self, row: usize, column: usize) -> usize {
        row * self.pitch + column * self.channels
    }
}

/// Places in one row of an image whose sums meet the same weights.
pub(super) struct Strip {
    /// Where the runs of the first place begin in the plane, and their first rows of weights.
    pub(super) rows: Vec<(usize, usize)>,
    /// Values of a run.
    pub(super) run: usize,
    /// From one place to the next in the plane.
    pub(super) step: usize,
    /// Where the first place is in the result.
    pub(super) first: usize,
    /// From one place to the next in the result.
    pub(super) stride: usize,
    /// Places.
    pub(super) count: usize,
}

/// Some columns of the weights: the first and the registers that they fill.
#[derive(Clone, Copy)]
pub(super) struct Block {
    first: usize,
    vectors: usize,
}

/// A matrix of weights, block by block of columns; in a block row by row, filled up with zeros.
pub(super) struct Packed {
    values: Vec<f32>,
    rows: usize,
    columns: usize,
    shape: Registers,
}

impl Packed {
    /// Of `[rows, columns]`. `fill` gets a row, a column and where the values from that column on go; those that it leaves
    /// are zeros.
    pub(super) fn new([rows, columns]: [usize; 2], fill: impl Fn(usize, usize, &mut [f32]) + Sync) -> Self {
        let shape = pulp::Arch::new().dispatch(Registers::default());
        let mut packed = Self { values: Vec::new(), rows, columns, shape };
        packed.values.resize(rows * columns.next_multiple_of(shape.lanes), 0.0);
        let mut left = &mut packed.values[..];
        for Block { first, vectors } in shape.blocks(columns) {
            let (block, others) = left.split_at_mut(rows * vectors * shape.lanes);
            left = others;
            let some = rows.div_ceil(rayon::current_num_threads()).max(LEAST_ROWS);
            block.par_chunks_mut(some * vectors * shape.lanes).enumerate().for_each(|(task, block)| {
                for (row, to) in (task * some..).zip(block.chunks_exact_mut(vectors * shape.lanes)) {
                    fill(row, first, to);
                }
            });
        }
        packed
    }

    pub(super) fn blocks(&self) -> impl Iterator<Item = Block> + use<> {
        self.shape.blocks(self.columns)
    }

    /// The rows of a block of `C` registers.
    #[inline(always)]
    fn block<S: Simd, const C: usize>(&self, first: usize) -> &[[S::f32s; C]] {
        let values = &self.values[first * self.rows..][..self.rows * C * S::F32_LANES];
        S::as_simd_f32s(values).0.as_chunks().0
    }
}

/// What a processor has.
#[derive(Clone, Copy, Default)]
struct Registers {
    /// Values of one.
    lanes: usize,
    /// Enough of them for tiles of three in a row.
    many: bool,
}

impl WithSimd for Registers {
    type Output = Self;

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) -> Self {
        Self { lanes: S::F32_LANES, many: many::<S>() }
    }
}

/// Enough registers for tiles of [`MOST_VECTORS`] in a row.
#[inline(always)]
fn many<S: Simd>() -> bool {
    S::REGISTER_COUNT >= 32
}

impl Registers {
    /// Blocks of some columns.
    fn blocks(self, columns: usize) -> impl Iterator<Item = Block> {
        let (mut first, lanes) = (0, self.lanes);
        std::iter::from_fn(move || {
            let left = columns.saturating_sub(first).div_ceil(lanes);
            let vectors = match left {
                0 => return None,
                1 | 2 => left,
                4 => 2,
                _ if self.many => MOST_VECTORS,
                _ => 2,
            };
            first += vectors * lanes;
            Some(Block { first: first - vectors * lanes, vectors })
        })
    }
}

/// The sums of a strip for one block of columns.
#[inline(always)]
pub(super) fn correlate<S: Simd>(
    simd: S,
    result: &mut [f32],
    plane: &[f32],
    weights: &Packed,
    block: Block,
    strip: &Strip,
) {
    match (block.vectors, many::<S>()) {
        (1, true) => strip_of::<S, 8, 4, 1>(simd, result, plane, weights, block.first, strip),
        (2, true) => strip_of::<S, 8, 4, 2>(simd, result, plane, weights, block.first, strip),
        (_, true) => strip_of::<S, 8, 4, 3>(simd, result, plane, weights, block.first, strip),
        (1, false) => strip_of::<S, 6, 3, 1>(simd, result, plane, weights, block.first, strip),
        (_, false) => strip_of::<S, 6, 3, 2>(simd, result, plane, weights, block.first, strip),
    }
}

#[inline(always)]
fn strip_of<S: Simd, const MANY: usize, const FEW: usize, const C: usize>(
    simd: S,
    result: &mut [f32],
    plane: &[f32],
    weights: &Packed,
    first: usize,
    strip: &Strip,
) {
    let rows = weights.block::<S, C>(first);
    let columns = (C * S::F32_LANES).min(weights.columns - first);
    let mut place = 0;
    while place < strip.count {
        let left = strip.count - place;
        let result = &mut result[strip.first + place * strip.stride + first..];
        if left > FEW {
            let sums = tile::<S, MANY, C>(simd, plane, rows, strip, place);
            store(simd, result, strip.stride, &sums[..left.min(MANY)], columns);
            place += MANY;
        } else {
            let sums = tile::<S, FEW, C>(simd, plane, rows, strip, place);
            store(simd, result, strip.stride, &sums[..left.min(FEW)], columns);
            place += FEW;
        }
    }
}

/// The sums of `P` places; where places run out, the last one again.
#[inline(always)]
fn tile<S: Simd, const P: usize, const C: usize>(
    simd: S,
    plane: &[f32],
    weights: &[[S::f32s; C]],
    strip: &Strip,
    place: usize,
) -> [[S::f32s; C]; P] {
    let mut sums = [[simd.splat_f32s(0.0); C]; P];
    for &(at, row) in &strip.rows {
        let mut pixels = [plane; P];
        for (offset, pixels) in pixels.iter_mut().enumerate() {
            let place = (place + offset).min(strip.count - 1);
            *pixels = &pixels[at + place * strip.step..][..strip.run];
        }
        add_run(simd, &mut sums, &weights[row..][..strip.run], &pixels, strip.run);
    }
    sums
}

/// Adds the products of a run of pixels and the rows of weights.
#[inline(always)]
fn add_run<S: Simd, const P: usize, const C: usize>(
    simd: S,
    to: &mut [[S::f32s; C]; P],
    weights: &[[S::f32s; C]],
    pixels: &[&[f32]; P],
    run: usize,
) {
    let mut sums = *to;
    for index in 0..run {
        let weights = weights[index];
        for place in 0..P {
            let pixel = simd.splat_f32s(pixels[place][index]);
            for column in 0..C {
                sums[place][column] = simd.mul_add_e_f32s(pixel, weights[column], sums[place][column]);
            }
        }
    }
    *to = sums;
}

/// Stores the first `columns` values of each row of sums.
#[inline(always)]
fn store<S: Simd, const C: usize>(
    simd: S,
    to: &mut [f32],
    stride: usize,
    sums: &[[S::f32s; C]],
    columns: usize,
) {
    for (row, sums) in sums.iter().enumerate() {
        let to = &mut to[row * stride..][..columns];
        for (to, sum) in to.chunks_mut(S::F32_LANES).zip(sums) {
            if to.len() == S::F32_LANES {
                S::as_mut_simd_f32s(to).0[0] = *sum;
            } else {
                simd.partial_store_f32s(to, *sum);
            }
        }
    }
}

/// What one row of the window multiplies for the gradient of its weights.
#[derive(Clone, Copy)]
pub(super) struct Factors<'a> {
    /// A plane of the input.
    pub(super) pixels: &'a [f32],
    /// From the run of one place to that of the next.
    pub(super) step: usize,
    /// The gradients, a place after the other.
    pub(super) gradients: &'a [f32],
    /// Values of a place's gradients; whole registers.
    pub(super) width: usize,
    /// Places of a row.
    pub(super) count: usize,
    /// Where rows of the output begin in the pixels and in the gradients.
    pub(super) rows: &'a [(usize, usize)],
}

/// Adds to `sums`, rows of `columns`, the products of each value of the runs with the gradients of its place.
#[inline(always)]
pub(super) fn outer_products<S: Simd>(simd: S, sums: &mut [f32], columns: usize, factors: Factors<'_>) {
    let registers = Registers { lanes: S::F32_LANES, many: many::<S>() };
    for Block { first, vectors } in registers.blocks(columns) {
        match (vectors, many::<S>()) {
            (1, true) => products_of::<S, 8, 1>(simd, sums, columns, first, factors),
            (2, true) => products_of::<S, 8, 2>(simd, sums, columns, first, factors),
            (_, true) => products_of::<S, 8, 3>(simd, sums, columns, first, factors),
            (1, false) => products_of::<S, 6, 1>(simd, sums, columns, first, factors),
            (_, false) => products_of::<S, 6, 2>(simd, sums, columns, first, factors),
        }
    }
}

#[inline(always)]
fn products_of<S: Simd, const R: usize, const C: usize>(
    simd: S,
    sums: &mut [f32],
    columns: usize,
    first: usize,
    factors: Factors<'_>,
) {
    for (group, to) in sums.chunks_mut(R * columns).enumerate() {
        let mut parts = [[simd.splat_f32s(0.0); C]; R];
        add_places(simd, &mut parts, group * R, first, factors);
        for (to, parts) in to.chunks_exact_mut(columns).zip(&parts) {
            for (to, part) in to[first..].chunks_mut(S::F32_LANES).zip(parts) {
                let sum = simd.add_f32s(simd.partial_load_f32s(to), *part);
                simd.partial_store_f32s(to, sum);
            }
        }
    }
}

/// Adds the products of `R` values of the runs from one on with the gradients of `C` registers from a column on.
#[inline(always)]
fn add_places<S: Simd, const R: usize, const C: usize>(
    simd: S,
    to: &mut [[S::f32s; C]; R],
    value: usize,
    column: usize,
    factors: Factors<'_>,
) {
    let mut sums = *to;
    for &(pixels, gradients) in factors.rows {
        let pixels = &factors.pixels[pixels + value..];
        let gradients = &factors.gradients[gradients + column..];
        for place in 0..factors.count {
            let pixels = &pixels[place * factors.step..][..R];
            let vectors = S::as_simd_f32s(&gradients[place * factors.width..][..C * S::F32_LANES]).0;
            let mut gradients = [simd.splat_f32s(0.0); C];
            gradients.copy_from_slice(&vectors[..C]);
            for row in 0..R {
                let pixel = simd.splat_f32s(pixels[row]);
                for column in 0..C {
                    sums[row][column] = simd.mul_add_e_f32s(pixel, gradients[column], sums[row][column]);
                }
            }
        }
    }
    *to = sums;
}
