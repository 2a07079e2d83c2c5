//! Augmentation of training images: horizontal flip and random crop of one image; what is done to
//! pairs stands in [`crate::mixing`].

use rand::Rng;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The pixel value outside an image, and of what is transparent in it: background.
pub(crate) const BACKGROUND: u8 = 0;

/// What is done to training images at random.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Augmentation {
    /// Whether an image is mirrored, left to right, with probability 1/2.
    pub flip: bool,
    /// Pixels of background around the image before a crop of its own size is taken; 0: no crop.
    pub crop_padding: usize,
    /// Mixes each image with another of its batch, value by value; the share of each is drawn from
    /// Beta(a, a) with this a, above 0 ([mixup](https://arxiv.org/abs/1710.09412)).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mixup: Option<f64>,
    /// Replaces a rectangle of each image by that of another of its batch; the share of the area that
    /// stays is drawn from Beta(a, a) with this a, above 0 ([cutmix](https://arxiv.org/abs/1905.04899)).
    /// With `mixup` too, each batch has one of the two, with equal chance.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cutmix: Option<f64>,
}

/// What happens to one image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Change {
    /// Whether it is mirrored, left to right, after the crop.
    pub flip: bool,
    /// Rows by which the crop lies below the image's own place.
    pub down: isize,
    /// Columns by which the crop lies right of the image's own place.
    pub right: isize,
}

impl Default for Augmentation {
    /// [`Self::NONE`]
    fn default() -> Self {
        Self::NONE
    }
}

impl Augmentation {
    /// Nothing is changed.
    pub const NONE: Self = Self { flip: false, crop_padding: 0, mixup: None, cutmix: None };

    /// Whether nothing is changed.
    pub fn is_none(&self) -> bool {
        *self == Self::NONE
    }

    /// Draws the change of one image.
    pub fn draw(&self, rng: &mut impl Rng) -> Change {
        // Three draws whatever the settings: one image's change does not depend on another setting.
        let flip = rng.random::<bool>();
        let padding = self.crop_padding as i32;
        let down = rng.random_range(-padding..=padding) as isize;
        let right = rng.random_range(-padding..=padding) as isize;
        Change { flip: self.flip && flip, down, right }
    }
}

/// Crops and mirrors one image: `output[y, x] = image[y + down, x + right]`, background outside,
/// each row then mirrored if `flip`.
///
/// # Shapes
///
/// `image` and `out`: `[channels, height, width]`, with `size` as `[channels, height, width]`.
///
/// # Panics
///
/// If `image` or `out` is not of that size.
pub fn augment(image: &[u8], size: [usize; 3], change: Change, out: &mut [u8]) {
    let [channels, height, width] = size;
    assert_eq!(image.len(), channels * height * width, "the image has the given size");
    assert_eq!(out.len(), image.len(), "input and output have one size");
    out.fill(BACKGROUND);
    // Output columns whose source column lies in the image.
    let first = change.right.min(0).unsigned_abs().min(width);
    let last = (width as isize - change.right).clamp(first as isize, width as isize) as usize;
    let source = (first as isize + change.right).max(0) as usize;
    for (row, target) in out.chunks_exact_mut(width).enumerate() {
        let (channel, y) = (row / height, (row % height) as isize + change.down);
        if (0..height as isize).contains(&y) && first < last {
            let start = (channel * height + y as usize) * width + source;
            target[first..last].copy_from_slice(&image[start..start + last - first]);
        }
        if change.flip {
            target.reverse();
        }
    }
}

#[cfg(test)]
mod tests {
    use elastic_space::Seed;
    use elastic_space::random::Purpose;
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn changes_by_hand() {
        // 1 2 3
        // 4 5 6
        let image = [1, 2, 3, 4, 5, 6];
        for ((flip, down, right), expected) in [
            ((false, 0, 0), [1, 2, 3, 4, 5, 6]),
            ((true, 0, 0), [3, 2, 1, 6, 5, 4]),
            ((false, 1, 0), [4, 5, 6, 0, 0, 0]),
            ((false, -1, 0), [0, 0, 0, 1, 2, 3]),
            ((false, 0, 1), [2, 3, 0, 5, 6, 0]),
            ((false, 0, -2), [0, 0, 1, 0, 0, 4]),
            ((true, -1, 1), [0, 0, 0, 0, 3, 2]),
            ((false, 0, 3), [0; 6]),
            ((false, 0, -5), [0; 6]),
            ((false, 7, 0), [0; 6]),
        ] {
            let mut out = [9; 6];
            augment(&image, [1, 2, 3], Change { flip, down, right }, &mut out);
            assert_eq!(out, expected, "flip {flip} down {down} right {right}");
        }
    }

    #[test]
    fn channels_are_changed_alike() {
        let mut out = [9; 8];
        augment(&[1, 2, 3, 4, 5, 6, 7, 8], [2, 2, 2], Change { flip: true, down: 1, right: 0 }, &mut out);
        assert_eq!(out, [4, 3, 0, 0, 8, 7, 0, 0]);
    }

    #[test]
    fn every_change_is_drawn_and_no_other() {
        let mut generator = Seed(3).generator(Purpose::Augment, 0);
        for (flip, crop_padding, expected) in
            [(false, 0, 1), (true, 0, 2), (false, 1, 9), (true, 1, 18), (true, 2, 50)]
        {
            let augmentation = Augmentation { flip, crop_padding, ..Augmentation::NONE };
            let mut drawn = Vec::new();
            for _ in 0..2000 {
                let change = augmentation.draw(&mut generator);
                let padding = crop_padding as isize;
                assert!(change.down.abs() <= padding && change.right.abs() <= padding, "{change:?}");
                if !drawn.contains(&change) {
                    drawn.push(change);
                }
            }
            assert_eq!(drawn.len(), expected, "{augmentation:?}");
        }
    }

    proptest! {
        #[test]
        fn pixels_are_of_the_image_or_background(
            size in (1_usize..4, 1_usize..6, 1_usize..6), seed: u64, flip: bool, crop_padding in 0_usize..8,
        ) {
            let size = [size.0, size.1, size.2];
            let values: usize = size.iter().product();
            let image: Vec<u8> = (1..=values).map(|value| value as u8).collect();
            let augmentation = Augmentation { flip, crop_padding, ..Augmentation::NONE };
            let change = augmentation.draw(&mut Seed(seed).generator(Purpose::Augment, 0));
            let mut out = vec![0xff; values];
            augment(&image, size, change, &mut out);
            let mut kept: Vec<u8> = out.iter().copied().filter(|&pixel| pixel != BACKGROUND).collect();
            kept.sort_unstable();
            let overlap = |side: usize, by: isize| side.saturating_sub(by.unsigned_abs());
            let expected = size[0] * overlap(size[1], change.down) * overlap(size[2], change.right);
            prop_assert_eq!(kept.len(), expected);
            prop_assert!(kept.windows(2).all(|pair| pair[0] < pair[1]) && kept.iter().all(|p| image.contains(p)));
        }
    }
}
