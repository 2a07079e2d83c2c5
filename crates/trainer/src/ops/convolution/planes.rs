//! One vector register of an image's channels, pixel by pixel; inlined into the kernels of `depthwise`.

use pulp::Simd;

/// Pixels that are summed side by side.
const TILE: usize = 8;
/// For the rest of a row.
const SMALL_TILE: usize = 4;
/// Bytes of the widest vector register.
const ALIGNMENT: usize = 64;

/// Vectors that lie on whole cache lines.
struct Vectors {
    values: Vec<f32>,
    start: usize,
}

impl Vectors {
    fn zeros(values: usize) -> Self {
        let values = vec![0.0; values + ALIGNMENT / size_of::<f32>()];
        let start = values.as_ptr().align_offset(ALIGNMENT).min(ALIGNMENT / size_of::<f32>());
        Self { values, start }
    }

    #[inline(always)]
    fn all<S: Simd>(&self) -> &[S::f32s] {
        S::as_simd_f32s(&self.values[self.start..]).0
    }

    #[inline(always)]
    fn all_mut<S: Simd>(&mut self) -> &mut [S::f32s] {
        S::as_mut_simd_f32s(&mut self.values[self.start..]).0
    }
}

/// Where the channels of one vector are in values of `[.., channels]`.
#[derive(Clone, Copy)]
pub(super) struct Lane {
    pub(super) channels: usize,
    /// The first channel of the vector.
    pub(super) first: usize,
}

impl Lane {
    /// The vector of a pixel, with zeros after the last channel.
    #[inline(always)]
    pub(super) fn load<S: Simd>(self, simd: S, values: &[f32], pixel: usize) -> S::f32s {
        let values = &values[pixel * self.channels..][self.first..self.channels];
        match values.get(..S::F32_LANES) {
            Some(values) => S::as_simd_f32s(values).0[0],
            None => simd.partial_load_f32s(values),
        }
    }

    #[inline(always)]
    pub(super) fn store<S: Simd>(self, simd: S, values: &mut [f32], pixel: usize, vector: S::f32s) {
        let values = &mut values[pixel * self.channels..][self.first..self.channels];
        match values.get_mut(..S::F32_LANES) {
            Some(values) => S::as_mut_simd_f32s(values).0[0] = vector,
            None => simd.partial_store_f32s(values, vector),
        }
    }
}

/// The taps of one vector's channels.
pub(super) struct Weights {
    vectors: Vectors,
    kernel: usize,
}

impl Weights {
    pub(super) fn new<S: Simd>(kernel: usize) -> Self {
        Self { vectors: Vectors::zeros(kernel * kernel * S::F32_LANES), kernel }
    }

    #[inline(always)]
    pub(super) fn fill<S: Simd>(&mut self, simd: S, weight: &[f32], lane: Lane) {
        let taps = self.kernel * self.kernel;
        for (tap, vector) in self.vectors.all_mut::<S>()[..taps].iter_mut().enumerate() {
            *vector = lane.load(simd, weight, tap);
        }
    }
}

/// An image's vectors between columns of zeros; a row has its columns sorted by their remainder by `stride`, so
/// that pixels a stride apart are neighbours.
pub(super) struct Plane {
    vectors: Vectors,
    size: [usize; 2],
    before: usize,
    stride: usize,
    /// Columns of one remainder.
    columns: usize,
}

impl Plane {
    /// For images of a size, with zeros before the first column; tiles may start at the first `places` columns and
    /// reach `further` beyond these.
    pub(super) fn new<S: Simd>(
        size: [usize; 2],
        before: usize,
        stride: usize,
        [places, further]: [usize; 2],
    ) -> Self {
        let columns = (places + TILE + further).max((before + size[1]).div_ceil(stride));
        let vectors = Vectors::zeros(size[0] * columns * stride * S::F32_LANES);
        Self { vectors, size, before, stride, columns }
    }

    /// Where a column is in a row; counted with the zeros before the first.
    #[inline(always)]
    pub(super) fn column(&self, column: usize) -> usize {
        column % self.stride * self.columns + column / self.stride
    }

    #[inline(always)]
    pub(super) fn fill<S: Simd>(&mut self, simd: S, image: &[f32], lane: Lane) {
        let [height, width] = self.size;
        let (row_length, columns, stride, before) =
            (self.columns * self.stride, self.columns, self.stride, self.before);
        let rows = self.vectors.all_mut::<S>().chunks_exact_mut(row_length).take(height);
        for (y, row) in rows.enumerate() {
            for x in 0..width {
                let column = before + x;
                row[column % stride * columns + column / stride] = lane.load(simd, image, y * width + x);
            }
        }
    }

    #[inline(always)]
    fn row<S: Simd>(&self, row: usize) -> &[S::f32s] {
        let length = self.columns * self.stride;
        &self.vectors.all::<S>()[row * length..][..length]
    }
}

/// A row or column of a plane that a row or column of the weight meets.
#[derive(Clone, Copy)]
pub(super) struct Meeting {
    pub(super) at: usize,
    pub(super) weight: usize,
}

/// The columns of a plane that a row of the weight meets.
pub(super) struct Columns {
    meetings: Vec<Meeting>,
    /// Where they are neighbours, from the first on: whether the weights go the other way.
    neighbours: Option<bool>,
}

impl Columns {
    pub(super) fn new(meetings: Vec<Meeting>) -> Self {
        let last = meetings.len().saturating_sub(1);
        let along = meetings.iter().enumerate().all(|(at, meeting)| (meeting.at, meeting.weight) == (at, at));
        let against =
            meetings.iter().enumerate().all(|(at, meeting)| (meeting.at, meeting.weight) == (last - at, at));
        let neighbours = if along { Some(false) } else { against.then_some(true) };
        Self { meetings, neighbours }
    }
}

/// Pixels of the result: `count` of them, `step` apart.
pub(super) struct Places<'a> {
    pub(super) values: &'a mut [f32],
    pub(super) first: usize,
    pub(super) step: usize,
    pub(super) count: usize,
}

/// Sums a plane's pixels times the weights, from place to place one column further.
#[inline(always)]
pub(super) fn correlate<S: Simd>(
    simd: S,
    (plane, base): (&Plane, usize),
    weights: &Weights,
    (rows, columns): (&[Meeting], &Columns),
    lane: Lane,
    to: &mut Places<'_>,
) {
    let (mut place, taps) = (0, (columns.meetings.len(), columns.neighbours));
    while place < to.count {
        let left = to.count - place;
        let mut store = |sums: &[S::f32s]| {
            for (index, sum) in (place..).zip(sums.iter().take(left)) {
                lane.store(simd, to.values, to.first + index * to.step, *sum);
            }
        };
        if left > SMALL_TILE {
            let base = base + place;
            store(&match taps {
                (3, Some(turned)) => neighbours::<S, TILE, 3>(simd, plane, base, weights, rows, turned),
                (5, Some(turned)) => neighbours::<S, TILE, 5>(simd, plane, base, weights, rows, turned),
                (7, Some(turned)) => neighbours::<S, TILE, 7>(simd, plane, base, weights, rows, turned),
                _ => tile::<S, TILE>(simd, plane, base, weights, rows, &columns.meetings),
            });
            place += TILE;
        } else {
            store(&tile::<S, SMALL_TILE>(simd, plane, base + place, weights, rows, &columns.meetings));
            place += SMALL_TILE;
        }
    }
}

#[inline(always)]
fn tile<S: Simd, const PLACES: usize>(
    simd: S,
    plane: &Plane,
    base: usize,
    weights: &Weights,
    rows: &[Meeting],
    columns: &[Meeting],
) -> [S::f32s; PLACES] {
    let mut sums = [simd.splat_f32s(0.0); PLACES];
    for row in rows {
        let pixels = &plane.row::<S>(row.at)[base..];
        let weights = &weights.vectors.all::<S>()[row.weight * weights.kernel..][..weights.kernel];
        for column in columns {
            let weight = weights[column.weight];
            for (sum, &x) in sums.iter_mut().zip(&pixels[column.at..][..PLACES]) {
                *sum = simd.mul_add_e_f32s(x, weight, *sum);
            }
        }
    }
    sums
}

/// [`tile`] where the columns of a row are neighbours: so many of them that the compiler can keep each pixel in a register for all
/// the places that read it. `turned`: the first column meets the last weight.
#[inline(always)]
fn neighbours<S: Simd, const PLACES: usize, const TAPS: usize>(
    simd: S,
    plane: &Plane,
    base: usize,
    weights: &Weights,
    rows: &[Meeting],
    turned: bool,
) -> [S::f32s; PLACES] {
    let mut sums = [simd.splat_f32s(0.0); PLACES];
    for row in rows {
        let pixels = &plane.row::<S>(row.at)[base..][..PLACES + TAPS - 1];
        let weights = &weights.vectors.all::<S>()[row.weight * TAPS..][..TAPS];
        for tap in 0..TAPS {
            let weight = weights[if turned { TAPS - 1 - tap } else { tap }];
            for (sum, &x) in sums.iter_mut().zip(&pixels[tap..][..PLACES]) {
                *sum = simd.mul_add_e_f32s(x, weight, *sum);
            }
        }
    }
    sums
}

/// Adds the products of gradients and the pixels that `TAPS` neighbouring taps of one row of the window met there.
#[inline(always)]
pub(super) fn weight_gradient<S: Simd, const TAPS: usize>(
    simd: S,
    sums: &mut [S::f32s],
    (x, first): (&Plane, usize),
    (gradient, before): (&Plane, usize),
    rows: impl Iterator<Item = (usize, usize)>,
) {
    let [_, width] = gradient.size;
    let mut parts = [simd.splat_f32s(0.0); TAPS];
    for (x_row, gradient_row) in rows {
        let row = x.row::<S>(x_row);
        let pixels: [&[S::f32s]; TAPS] = std::array::from_fn(|tap| &row[x.column(first + tap)..][..width]);
        let gradients = &gradient.row::<S>(gradient_row)[before..][..width];
        for index in 0..width {
            for (part, pixels) in parts.iter_mut().zip(pixels) {
                *part = simd.mul_add_e_f32s(pixels[index], gradients[index], *part);
            }
        }
    }
    for (sum, part) in sums.iter_mut().zip(parts) {
        *sum = simd.add_f32s(*sum, part);
    }
}
