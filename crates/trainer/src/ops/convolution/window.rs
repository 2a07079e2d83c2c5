//! Which input pixels an output pixel of a convolution reads.

use std::ops::Range;

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
    /// Half a kernel of zeros all round, as PyTorch's networks have it.
    pub(crate) fn centred(kernel: usize, stride: usize) -> Self {
        let half = kernel / 2;
        Self { kernel, stride, padding: Padding { top: half, bottom: half, left: half, right: half } }
    }

    /// TensorFlow's "same" for an image of `[height, width]`: the output is the input's size over the stride, rounded
    /// up; an odd row or column of zeros goes to the bottom or to the right.
    #[allow(dead_code, reason = "weights that TensorFlow trained need it, and cannot be read yet")]
    pub(crate) fn same(kernel: usize, stride: usize, [height, width]: [usize; 2]) -> Self {
        let split = |size: usize| {
            let total = ((size.div_ceil(stride) - 1) * stride + kernel).saturating_sub(size);
            (total / 2, total - total / 2)
        };
        let ((top, bottom), (left, right)) = (split(height), split(width));
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
    pub(super) fn taps(&self) -> usize {
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
        let same = |kernel, stride, side| Window::same(kernel, stride, [side, side + 1]);
        for (window, side, output, [top, bottom, left, right]) in [
            (Window::centred(3, 1), 8, (8, 9), [1, 1, 1, 1]),
            (Window::centred(3, 2), 8, (4, 5), [1, 1, 1, 1]),
            (Window::centred(5, 2), 7, (4, 4), [2, 2, 2, 2]),
            (Window::centred(1, 2), 5, (3, 3), [0, 0, 0, 0]),
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
