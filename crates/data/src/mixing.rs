//! Mixing the images of a batch in pairs: mixup and cutmix.
//!
//! The partner of an image is its mirror image in the batch: image i is mixed with image n - 1 - i, as
//! timm does it. One share is drawn for the whole batch.

use rand::Rng;
use rand_distr::Beta;

use crate::augment::Augmentation;

/// The largest parameter of the Beta distribution; there, shares are one half to within a few percent.
pub(crate) const LARGEST_ALPHA: f64 = 1000.0;

/// The second labels of a mixed batch.
#[derive(Debug, Clone, PartialEq)]
pub struct Mixed {
    /// The class of each image's partner, `[n]`.
    pub labels: Vec<u8>,
    /// How much of an image is its own, 0 to 1; the rest is its partner's.
    pub share: f64,
}

/// How the images of one batch are mixed.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Mixture {
    /// `share * image + (1 - share) * partner`, on normalised values
    /// ([Zhang et al., 2018](https://arxiv.org/abs/1710.09412)).
    Mixup {
        /// Share of the image.
        share: f64,
    },
    /// A rectangle of the partner replaces the same rectangle of the image
    /// ([Yun et al., 2019](https://arxiv.org/abs/1905.04899)).
    Cutmix {
        /// The rectangle.
        patch: Patch,
    },
}

/// A rectangle within an image: rows `top..bottom`, columns `left..right`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Patch {
    /// The first row.
    pub top: usize,
    /// The row after the last one.
    pub bottom: usize,
    /// The first column.
    pub left: usize,
    /// The column after the last one.
    pub right: usize,
}

impl Augmentation {
    /// Draws how a batch of images of this height and width is mixed; `None` if neither mixup nor cutmix
    /// is on. With both on, one is drawn with equal chance.
    pub fn draw_mixture(&self, height: usize, width: usize, rng: &mut impl Rng) -> Option<Mixture> {
        let (alpha, cut) = match (self.mixup, self.cutmix) {
            (None, None) => return None,
            (Some(alpha), None) => (alpha, false),
            (None, Some(alpha)) => (alpha, true),
            (Some(mixup), Some(cutmix)) => {
                if rng.random::<bool>() {
                    (cutmix, true)
                } else {
                    (mixup, false)
                }
            }
        };
        let beta = Beta::new(alpha, alpha).expect("`Loader::new` refuses what is not above 0");
        let share = rng.sample(beta).clamp(0.0, 1.0);
        if !cut {
            return Some(Mixture::Mixup { share });
        }
        let side = (1.0 - share).sqrt();
        let mut range = |length: usize| {
            let cut = (length as f64 * side) as usize;
            let centre = rng.random_range(0..length);
            let first = centre as isize - (cut / 2) as isize;
            (first.max(0) as usize, (first + cut as isize).clamp(0, length as isize) as usize)
        };
        let ((top, bottom), (left, right)) = (range(height), range(width));
        Some(Mixture::Cutmix { patch: Patch { top, bottom, left, right } })
    }
}

impl Mixture {
    /// How much of an image of this height and width stays its own, 0 to 1: with cutmix exactly the part
    /// of its area that is not replaced.
    pub fn share(&self, height: usize, width: usize) -> f64 {
        match self {
            Self::Mixup { share } => *share,
            Self::Cutmix { patch } => {
                let area = (patch.bottom - patch.top) * (patch.right - patch.left);
                1.0 - area as f64 / (height * width) as f64
            }
        }
    }

    /// Mixes each image of a batch with its partner, and gives the partners' labels. The image in the
    /// middle of an odd batch is its own partner and stays as it is.
    ///
    /// # Shapes
    ///
    /// `images`: `[labels.len(), channels, height, width]`, with `size` as `[channels, height, width]`.
    ///
    /// # Panics
    ///
    /// If `images` is not of that size, or the patch is not within it.
    pub fn apply(&self, images: &mut [f32], labels: &[u8], size: [usize; 3]) -> Mixed {
        let [channels, height, width] = size;
        let values = channels * height * width;
        assert_eq!(images.len(), labels.len() * values, "one image of the given size for each label");
        let half = labels.len() / 2;
        let (front, back) = images.split_at_mut(labels.len().div_ceil(2) * values);
        let pairs = front.chunks_exact_mut(values).take(half).zip(back.chunks_exact_mut(values).rev());
        for (image, partner) in pairs {
            match self {
                Self::Mixup { share } => blend(image, partner, *share as f32),
                Self::Cutmix { patch } => swap(image, partner, *patch, [height, width]),
            }
        }
        Mixed { labels: labels.iter().rev().copied().collect(), share: self.share(height, width) }
    }
}

/// Both images become their mixture, each with `share` of itself.
fn blend(image: &mut [f32], partner: &mut [f32], share: f32) {
    for (a, b) in image.iter_mut().zip(partner) {
        (*a, *b) = (share * *a + (1.0 - share) * *b, share * *b + (1.0 - share) * *a);
    }
}

/// Two images change a rectangle, in every channel.
fn swap(image: &mut [f32], partner: &mut [f32], patch: Patch, [height, width]: [usize; 2]) {
    let rows = image.chunks_exact_mut(width).zip(partner.chunks_exact_mut(width)).enumerate();
    for (_, (a, b)) in rows.filter(|(row, _)| (patch.top..patch.bottom).contains(&(row % height))) {
        a[patch.left..patch.right].swap_with_slice(&mut b[patch.left..patch.right]);
    }
}

#[cfg(test)]
mod tests {
    use elastic_space::Seed;
    use elastic_space::random::Purpose;
    use proptest::prelude::*;

    use super::*;

    /// Images of distinct values, each image in a hundred of its own: image 2 holds 200, 201...
    fn numbered(count: usize, size: [usize; 3]) -> Vec<f32> {
        let values: usize = size.iter().product();
        (0..count * values).map(|i| (i / values * 100 + i % values) as f32).collect()
    }

    #[test]
    fn mixtures_by_hand() {
        let patch = |top, bottom, left, right| Mixture::Cutmix { patch: Patch { top, bottom, left, right } };
        // Three images of 1 x 2 x 2: 0 1 / 2 3, 100 101 / 102 103, 200 201 / 202 203.
        for (mixture, share, first, last) in [
            (Mixture::Mixup { share: 0.75 }, 0.75, [50.0, 51.0, 52.0, 53.0], [150.0, 151.0, 152.0, 153.0]),
            (Mixture::Mixup { share: 1.0 }, 1.0, [0.0, 1.0, 2.0, 3.0], [200.0, 201.0, 202.0, 203.0]),
            (Mixture::Mixup { share: 0.0 }, 0.0, [200.0, 201.0, 202.0, 203.0], [0.0, 1.0, 2.0, 3.0]),
            (patch(0, 1, 1, 2), 0.75, [0.0, 201.0, 2.0, 3.0], [200.0, 1.0, 202.0, 203.0]),
            (patch(1, 2, 0, 2), 0.5, [0.0, 1.0, 202.0, 203.0], [200.0, 201.0, 2.0, 3.0]),
            (patch(0, 2, 0, 2), 0.0, [200.0, 201.0, 202.0, 203.0], [0.0, 1.0, 2.0, 3.0]),
            (patch(1, 1, 0, 2), 1.0, [0.0, 1.0, 2.0, 3.0], [200.0, 201.0, 202.0, 203.0]),
        ] {
            let mut images = numbered(3, [1, 2, 2]);
            let mixed = mixture.apply(&mut images, &[7, 8, 9], [1, 2, 2]);
            assert_eq!(mixed, Mixed { labels: vec![9, 8, 7], share }, "{mixture:?}");
            assert_eq!(images[..4], first, "{mixture:?}");
            assert_eq!(images[4..8], [100.0, 101.0, 102.0, 103.0], "{mixture:?}");
            assert_eq!(images[8..], last, "{mixture:?}");
        }
    }

    #[test]
    fn both_are_drawn_alike_and_nothing_when_both_are_off() {
        let mut generator = Seed(1).generator(Purpose::Augment, 0);
        let draw = |mixup, cutmix, generator: &mut _| {
            Augmentation { mixup, cutmix, ..Augmentation::NONE }.draw_mixture(8, 8, generator)
        };
        let before = generator.clone();
        assert_eq!(draw(None, None, &mut generator), None);
        assert_eq!(generator, before, "nothing is drawn");
        for (mixup, cutmix, least, most) in
            [(Some(0.8), None, 0, 0), (None, Some(1.0), 1000, 1000), (Some(0.8), Some(1.0), 440, 560)]
        {
            let cuts = (0..1000)
                .filter(|_| matches!(draw(mixup, cutmix, &mut generator), Some(Mixture::Cutmix { .. })))
                .count();
            assert!((least..=most).contains(&cuts), "{mixup:?} {cutmix:?}: {cuts} of 1000");
        }
    }

    #[test]
    fn the_extremes_of_alpha_give_shares() {
        // Small alphas give shares near 0 or 1, large ones near one half.
        for (alpha, least, most) in [(1e-300, 0.0, 0.01), (1e-3, 0.0, 0.1), (LARGEST_ALPHA, 0.4, 0.5)] {
            let augmentation = Augmentation { mixup: Some(alpha), ..Augmentation::NONE };
            let mut generator = Seed(2).generator(Purpose::Augment, 0);
            let mut near = 0;
            for _ in 0..200 {
                let share = augmentation.draw_mixture(4, 4, &mut generator).expect("it is on").share(4, 4);
                assert!((0.0..=1.0).contains(&share), "{alpha}: {share}");
                near += usize::from((least..=most).contains(&share.min(1.0 - share)));
            }
            assert!(near >= 180, "{alpha}: {near} of 200");
        }
    }

    proptest! {
        #[test]
        fn cutmix_moves_pixels_and_counts_them(
            size in (1_usize..3, 1_usize..7, 1_usize..7), count in 1_usize..6, alpha in 0.01_f64..5.0, seed: u64,
        ) {
            let size = [size.0, size.1, size.2];
            let [channels, height, width] = size;
            let augmentation = Augmentation { cutmix: Some(alpha), ..Augmentation::NONE };
            let mut generator = Seed(seed).generator(Purpose::Augment, 0);
            let mixture = augmentation.draw_mixture(height, width, &mut generator).expect("it is on");
            let (before, labels) = (numbered(count, size), (0..count as u8).collect::<Vec<_>>());
            let mut after = before.clone();
            let mixed = mixture.apply(&mut after, &labels, size);
            prop_assert!((0.0..=1.0).contains(&mixed.share), "{}", mixed.share);
            let values = channels * height * width;
            for (image, label) in labels.iter().enumerate() {
                prop_assert_eq!(usize::from(mixed.labels[image]), count - 1 - usize::from(*label));
                let own = &before[image * values..][..values];
                let partner = &before[(count - 1 - image) * values..][..values];
                let found = &after[image * values..][..values];
                let kept = found.iter().zip(own).filter(|(a, b)| a == b).count();
                prop_assert!(found.iter().zip(own.iter().zip(partner)).all(|(f, (a, b))| f == a || f == b));
                if count - 1 - image != image {
                    let expected = mixed.share * values as f64;
                    prop_assert!((kept as f64 - expected).abs() < 1e-9, "{} of {}", kept, expected);
                }
            }
        }

        #[test]
        fn mixup_is_a_convex_combination(
            size in (1_usize..3, 1_usize..5, 1_usize..5), count in 1_usize..6, alpha in 0.01_f64..5.0, seed: u64,
        ) {
            let size = [size.0, size.1, size.2];
            let values: usize = size.iter().product();
            let augmentation = Augmentation { mixup: Some(alpha), ..Augmentation::NONE };
            let mut generator = Seed(seed).generator(Purpose::Augment, 0);
            let mixture = augmentation.draw_mixture(size[1], size[2], &mut generator).expect("it is on");
            let before = numbered(count, size);
            let mut after = before.clone();
            let share = mixture.apply(&mut after, &vec![0; count], size).share;
            prop_assert!((0.0..=1.0).contains(&share), "{}", share);
            for (i, &found) in after.iter().enumerate() {
                let own = f64::from(before[i]);
                let partner = f64::from(before[(count - 1 - i / values) * values + i % values]);
                let expected = share * own + (1.0 - share) * partner;
                prop_assert!((f64::from(found) - expected).abs() < 1e-3, "{} instead of {}", found, expected);
            }
        }
    }
}
