//! Which input pixels an output pixel of a convolution reads.

use std::ops::Range;

use elastic_space::conv;

/// Rows and columns of zeros around an image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Padding {
    /// Above the first row.
    pub(crate) top: usize,
    /// Below the last row.
    pub(crate) bottom: usize,
    /// Before the first column.
    pub(crate) left: usize,
    /// After the last column.
    pub(crate) right: usize,
}

/// A square window that moves over a padded image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Window {
    /// Pixels of a side.
    pub(crate) kernel: usize,
    /// Pixels from one place to the next, on both axes.
    pub(crate) stride: usize,
    /// Zeros around the image.
    pub(crate) padding: Padding,
}

impl Window {
    /// Each pixel by itself.
    pub(crate) const PIXEL: Self =
        Self { kernel: 1, stride: 1, padding: Padding { top: 0, bottom: 0, left: 0, right: 0 } };

    /// With the zeros that a space's padding gives an image of `[height, width]`.
    pub(crate) fn padded(
        padding: conv::Padding,
        kernel: usize,
        stride: usize,
        [height, width]: [usize; 2],
    ) -> Self {
        let [[top, bottom], [left, right]] = [height, width].map(|size| padding.zeros(kernel, stride, size));
        Self { kernel, stride, padding: Padding { top, bottom, left, right } }
    }

    /// Height and width of the output.
    ///
    /// # Panics
    ///
    /// If the padded image is smaller than the kernel.
    pub(crate) fn output(&self, height: usize, width: usize) -> (usize, usize) {
        let Padding { top, bottom, left, right } = self.padding;
        let places = |padded: usize| {
            assert!(padded >= self.kernel, "a kernel of {} on a padded side of {padded}", self.kernel);
            (padded - self.kernel) / self.stride + 1
        };
        (places(top + height + bottom), places(left + width + right))
    }

    /// Pixels of the window.
    pub(crate) fn taps(&self) -> usize {
        self.kernel * self.kernel
    }

    /// The offsets in the window that lie inside an axis of `size` pixels with `before` zeros, at a place.
    pub(super) fn inside(&self, place: usize, before: usize, size: usize) -> Range<usize> {
        let first = place * self.stride;
        before.saturating_sub(first)..self.kernel.min((before + size).saturating_sub(first))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn output_sizes_and_paddings_by_hand() {
        let padded =
            |padding, kernel, stride, side| Window::padded(padding, kernel, stride, [side, side + 1]);
        let centred = |kernel, stride| padded(conv::Padding::Centred, kernel, stride, 9);
        let same = |kernel, stride, side| padded(conv::Padding::Same, kernel, stride, side);
        for (window, side, output, [top, bottom, left, right]) in [
            (centred(3, 1), 8, (8, 9), [1, 1, 1, 1]),
            (centred(3, 2), 8, (4, 5), [1, 1, 1, 1]),
            (centred(5, 2), 7, (4, 4), [2, 2, 2, 2]),
            (centred(1, 2), 5, (3, 3), [0, 0, 0, 0]),
            (same(3, 2, 8), 8, (4, 5), [0, 1, 1, 1]),
            (same(5, 2, 7), 7, (4, 4), [2, 2, 1, 2]),
            (same(3, 1, 1), 1, (1, 2), [1, 1, 1, 1]),
            (same(1, 2, 4), 4, (2, 3), [0, 0, 0, 0]),
        ] {
            assert_eq!(window.output(side, side + 1), output, "{window:?} on a height of {side}");
            assert_eq!(window.padding, Padding { top, bottom, left, right }, "{window:?}");
        }
    }
}
