//! Where the zeros around an image stand.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Where the zeros around the image of a convolution stand. Either way it keeps the image's size but for the stride,
/// rounded up; with a stride of 1 both are the same.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Padding {
    /// Half a kernel on every side, as PyTorch's networks have it.
    #[default]
    Centred,
    /// TensorFlow's "same": as few as the last place of the kernel needs, an odd one below and on the right.
    Same,
}

impl Padding {
    /// Whether it is what a space has that does not say.
    pub(super) fn is_default(&self) -> bool {
        *self == Self::default()
    }

    /// Zeros before the first and after the last of `size` pixels in a row, for a kernel that moves by `stride`.
    pub fn zeros(self, kernel: usize, stride: usize, size: usize) -> [usize; 2] {
        match self {
            Self::Centred => [kernel / 2; 2],
            Self::Same => {
                let all = ((size.div_ceil(stride) - 1) * stride + kernel).saturating_sub(size);
                [all / 2, all - all / 2]
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn zeros_by_hand() {
        for (kernel, stride, size, centred, same) in [
            (3, 1, 8, [1, 1], [1, 1]),
            (5, 1, 7, [2, 2], [2, 2]),
            (3, 2, 7, [1, 1], [1, 1]),
            // Places at 0, 2, 4, 6 of 8 pixels: the last kernel reaches to pixel 8, one beyond.
            (3, 2, 8, [1, 1], [0, 1]),
            (5, 2, 8, [2, 2], [1, 2]),
            (1, 2, 5, [0, 0], [0, 0]),
            // No place of the kernel reaches the last pixel.
            (1, 2, 4, [0, 0], [0, 0]),
        ] {
            let row = format!("kernel {kernel}, stride {stride}, {size} pixels");
            assert_eq!(Padding::Centred.zeros(kernel, stride, size), centred, "{row}");
            assert_eq!(Padding::Same.zeros(kernel, stride, size), same, "{row}");
        }
    }
}
