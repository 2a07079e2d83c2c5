//! From bytes to the network's input: `(pixel / 255 - mean) / std`, per channel.

use std::ops::Range;

use elastic_space::Array;

use crate::images::Images;

/// The input value of every pixel value, per channel.
#[derive(Debug, Clone, PartialEq)]
pub struct Normalisation {
    // Invariant: one table per channel, at least one.
    tables: Vec<[f32; 256]>,
}

impl Normalisation {
    /// From mean and standard deviation of each channel, of pixels in 0..=1.
    ///
    /// # Panics
    ///
    /// If the two differ in length or are empty: `DataConfig::validate` refuses that.
    pub fn new(mean: &[f32], std: &[f32]) -> Self {
        assert_eq!(mean.len(), std.len(), "one mean and one standard deviation per channel");
        assert!(!mean.is_empty(), "at least one channel");
        let table = |(mean, std)| std::array::from_fn(|pixel| (pixel as f32 / 255.0 - mean) / std);
        Self { tables: mean.iter().zip(std).map(table).collect() }
    }

    /// How many channels there are values for.
    pub fn channels(&self) -> usize {
        self.tables.len()
    }

    /// Appends the input values of one image, `[channels, height, width]`.
    pub(crate) fn extend(&self, image: &[u8], out: &mut Vec<f32>) {
        let channels = image.chunks_exact(image.len() / self.tables.len());
        for (table, pixels) in self.tables.iter().zip(channels) {
            out.extend(pixels.iter().map(|&pixel| table[usize::from(pixel)]));
        }
    }
}

/// The network's input for a range of images, unchanged but for the normalisation.
///
/// # Shapes
///
/// Output: `[range.len(), channels, height, width]`.
///
/// # Panics
///
/// If the range is not within the images, or they have another number of channels.
pub fn normalise(normalisation: &Normalisation, images: &Images, range: Range<usize>) -> Array {
    assert_eq!(normalisation.channels(), images.channels, "mean and std have the images' channels");
    let [channels, height, width] = images.size();
    let shape = vec![range.len(), channels, height, width];
    let mut data = Vec::with_capacity(shape.iter().product());
    for index in range {
        normalisation.extend(images.image(index), &mut data);
    }
    Array { shape, data }
}

/// Mean and standard deviation of each channel, of pixels in 0..=1.
pub fn statistics(images: &Images) -> (Vec<f32>, Vec<f32>) {
    let mut counts = vec![[0_u64; 256]; images.channels];
    let plane = images.height * images.width;
    for (position, pixels) in images.pixels.chunks_exact(plane).enumerate() {
        let counts = &mut counts[position % images.channels];
        pixels.iter().for_each(|&pixel| counts[usize::from(pixel)] += 1);
    }
    let of_channel = |counts: &[u64; 256]| {
        let total = counts.iter().sum::<u64>() as f64;
        let mean_of = |value: &dyn Fn(f64) -> f64| {
            counts.iter().enumerate().map(|(pixel, &n)| n as f64 * value(pixel as f64 / 255.0)).sum::<f64>()
                / total
        };
        let mean = mean_of(&|value| value);
        let variance = mean_of(&|value| (value - mean).powi(2));
        (mean as f32, variance.sqrt() as f32)
    };
    counts.iter().map(of_channel).unzip()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statistics_by_hand() {
        // Channel 0: 0, 255, 0, 255, mean 1/2, deviation 1/2; channel 1: 51 everywhere.
        let images = Images {
            channels: 2,
            height: 1,
            width: 2,
            pixels: vec![0, 255, 51, 51, 0, 255, 51, 51],
            labels: vec![0, 1],
        };
        assert_eq!(statistics(&images), (vec![0.5, 0.2], vec![0.5, 0.0]));
    }

    #[test]
    fn two_channels_by_hand() {
        // Two images of 2 channels, 1 row, 2 columns. Channel 0: (p / 255 - 0.2) / 0.5; channel 1: p / 255 / 0.1.
        let images = Images {
            channels: 2,
            height: 1,
            width: 2,
            pixels: vec![0, 255, 0, 255, 51, 102, 51, 102],
            labels: vec![0, 1],
        };
        let array = normalise(&Normalisation::new(&[0.2, 0.0], &[0.5, 0.1]), &images, 0..2);
        assert_eq!(array.shape, [2, 2, 1, 2]);
        let expected = [-0.4, 1.6, 0.0, 10.0, 0.0, 0.4, 2.0, 4.0];
        for (index, (found, expected)) in array.data.iter().zip(expected).enumerate() {
            assert!((found - expected).abs() < 1e-6, "value {index}: {found}, expected {expected}");
        }
        let second = normalise(&Normalisation::new(&[0.2, 0.0], &[0.5, 0.1]), &images, 1..2);
        assert_eq!(second.data, array.data[4..]);
    }
}
