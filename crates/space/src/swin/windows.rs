//! How a map of tokens is cut into windows, and how four tokens become one.
//!
//! The rules are those of the authors' code and torchvision: a window that is larger than the map shrinks to it
//! and is not shifted; a map that does not divide is padded with zeros on the right and below, then shifted
//! cyclically; padded tokens are looked at like others, only the mask of the shift keeps tokens apart.

/// What is added to the score of two tokens that the shift has brought together.
pub const MASKED: f32 = -100.0;

/// The windows of a square map of tokens. Tokens of a map, of a window, and windows are counted row by row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Windows {
    /// Tokens of the map in one direction.
    pub side: usize,
    /// Tokens of a window in one direction.
    pub size: usize,
    /// Windows in one direction.
    pub per_side: usize,
}

impl Windows {
    /// Windows of at most `largest` tokens in one direction.
    pub fn new(side: usize, largest: usize) -> Self {
        let size = side.min(largest);
        Self { side, size, per_side: side.div_ceil(size) }
    }

    /// Number of windows.
    pub fn count(self) -> usize {
        self.per_side * self.per_side
    }

    /// Tokens of one window.
    pub fn tokens(self) -> usize {
        self.size * self.size
    }

    /// Whether the windows of the layer at this position of its stage are shifted: every second layer's are, but
    /// for a map of one window.
    pub fn shifted(self, position: usize) -> bool {
        position % 2 == 1 && self.shift() > 0
    }

    /// For each token of each window the token of the map, none where it is padding.
    pub fn cut(self, shifted: bool) -> Vec<Option<usize>> {
        let shift = if shifted { self.shift() } else { 0 };
        let source = |at: usize| (at + shift) % self.padded();
        let token = |[row, column]: [usize; 2]| {
            let (row, column) = (source(row), source(column));
            (row < self.side && column < self.side).then_some(row * self.side + column)
        };
        self.places().into_iter().map(token).collect()
    }

    /// For each token of the map its place among the tokens of all windows.
    pub fn join(self, shifted: bool) -> Vec<usize> {
        let mut places = vec![0; self.side * self.side];
        for (place, token) in self.cut(shifted).into_iter().enumerate() {
            if let Some(token) = token {
                places[token] = place;
            }
        }
        places
    }

    /// Entries of a table of relative positions, from (1 - size, 1 - size) on.
    pub fn entries(self) -> usize {
        self.span() * self.span()
    }

    /// For each pair of tokens of a window, the second quickest, the entry of the table.
    pub fn relative_positions(self) -> Vec<usize> {
        let place = |token: usize| [token / self.size, token % self.size];
        let entry = |from: usize, to: usize| {
            let ([row, column], [to_row, to_column]) = (place(from), place(to));
            (row + self.size - 1 - to_row) * self.span() + column + self.size - 1 - to_column
        };
        (0..self.tokens()).flat_map(|from| (0..self.tokens()).map(move |to| entry(from, to))).collect()
    }

    /// What is added to the scores of shifted windows: [`MASKED`] for tokens that are no neighbours in the map.
    ///
    /// # Shapes
    ///
    /// Output: `[count, tokens, tokens]`
    pub fn mask(self) -> Vec<f32> {
        let padded = self.padded();
        let region =
            |at: usize| usize::from(at >= padded - self.size) + usize::from(at >= padded - self.shift());
        let regions: Vec<[usize; 2]> = self.places().into_iter().map(|place| place.map(region)).collect();
        let pair = |a: &[usize; 2], b: &[usize; 2]| if a == b { 0.0 } else { MASKED };
        let window = |window: &[[usize; 2]]| -> Vec<f32> {
            window.iter().flat_map(|a| window.iter().map(move |b| pair(a, b))).collect()
        };
        regions.chunks(self.tokens()).flat_map(window).collect()
    }

    /// Tokens by which the windows of every second layer are shifted.
    fn shift(self) -> usize {
        if self.per_side > 1 { self.size / 2 } else { 0 }
    }

    /// Tokens of the padded map in one direction.
    fn padded(self) -> usize {
        self.per_side * self.size
    }

    /// Relative positions in one direction.
    fn span(self) -> usize {
        2 * self.size - 1
    }

    /// Row and column in the padded map of each token of each window.
    fn places(self) -> Vec<[usize; 2]> {
        let (size, per_side) = (self.size, self.per_side);
        let place = move |window: usize, token: usize| {
            [window / per_side * size + token / size, window % per_side * size + token % size]
        };
        (0..self.count())
            .flat_map(|window| (0..self.tokens()).map(move |token| place(window, token)))
            .collect()
    }
}

/// For each token of the halved map the four tokens that it is made of, none where an odd map is padded: top
/// left, bottom left, top right, bottom right, as the authors' code has them.
pub fn merged(side: usize) -> Vec<Option<usize>> {
    let half = side.div_ceil(2);
    let token = |row: usize, column: usize| (row < side && column < side).then_some(row * side + column);
    let four = |at: usize| {
        let (row, column) = (at / half * 2, at % half * 2);
        [token(row, column), token(row + 1, column), token(row, column + 1), token(row + 1, column + 1)]
    };
    (0..half * half).flat_map(four).collect()
}
