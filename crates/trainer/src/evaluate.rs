//! How subnets with the shared weights answer.

use std::ops::Range;

use elastic_space::{Array, Subnet};
use rayon::prelude::*;

use crate::device::is_cpu;
use crate::layers::Statistics;
use crate::supernet::Supernet;

/// Images of one forward pass on the CPU, where several run side by side. What a pass of few images computes stays in the caches:
/// of 64 it takes up to a third less time for each image than of 250, and of 32 it takes as long.
const CPU_BATCH: usize = 64;

/// Images of one forward pass elsewhere.
const BATCH: usize = 256;

/// The share of images whose label has the highest logit, 0 to 1.
///
/// Pass a supernet without gradients ([`Supernet::valid`]): with them each pass keeps its activations.
///
/// # Shapes
///
/// - images: `[labels, channels, height, width]`
pub fn accuracy(supernet: &Supernet, subnet: &Subnet, images: &Array, labels: &[u8]) -> f64 {
    let margins = Answers::new(supernet, subnet).margins(images, labels, 0..labels.len());
    margins.iter().filter(|margin| **margin > 0.0).count() as f64 / labels.len() as f64
}

/// A subnet that is ready to answer: its batch normalisation is calibrated, if it has any.
pub struct Answers<'a> {
    supernet: &'a Supernet,
    subnet: &'a Subnet,
    statistics: Statistics,
}

impl<'a> Answers<'a> {
    /// Of a supernet without gradients, as in [`accuracy`].
    pub fn new(supernet: &'a Supernet, subnet: &'a Subnet) -> Self {
        Self { supernet, subnet, statistics: supernet.statistics(subnet) }
    }

    /// By how much the logit of each image's label is above the highest of the others: above zero where the answer is right.
    ///
    /// Of an image it is the same whichever others are asked for, if `examples` begins at a multiple of [`Self::at_once`].
    ///
    /// # Shapes
    ///
    /// - images: `[labels, channels, height, width]`
    /// - result: `[examples]`
    pub fn margins(&self, images: &Array, labels: &[u8], examples: Range<usize>) -> Vec<f32> {
        let size: usize = images.shape[1..].iter().product();
        let of_batch = |(labels, data): (&[u8], &[f32])| {
            let shape = [&[labels.len()], &images.shape[1..]].concat();
            let images = Array { shape, data: data.to_vec() };
            of_logits(&self.supernet.logits_by(&images, self.subnet, &self.statistics), labels)
        };
        let data = &images.data[examples.start * size..examples.end * size];
        let labels = &labels[examples];
        if self.is_on_cpu() {
            let batches = labels.par_chunks(CPU_BATCH).zip(data.par_chunks(CPU_BATCH * size));
            batches.flat_map_iter(of_batch).collect()
        } else {
            labels.chunks(BATCH).zip(data.chunks(BATCH * size)).flat_map(of_batch).collect()
        }
    }

    /// The fewest images that keep the device busy: a batch for each of the CPU's cores, or one.
    pub fn at_once(&self) -> usize {
        if self.is_on_cpu() { CPU_BATCH * rayon::current_num_threads() } else { BATCH }
    }

    fn is_on_cpu(&self) -> bool {
        is_cpu(&self.supernet.network.device())
    }
}

/// # Shapes
///
/// - logits: `[labels, classes]`
fn of_logits(logits: &Array, labels: &[u8]) -> Vec<f32> {
    let rows = logits.data.chunks(logits.shape[1]);
    let margin = |(row, label): (&[f32], &u8)| {
        let label = usize::from(*label);
        let others = row.iter().enumerate().filter(|(class, _)| *class != label);
        row[label] - others.map(|(_, logit)| *logit).fold(f32::NEG_INFINITY, f32::max)
    };
    rows.zip(labels).map(margin).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn margins_by_hand() {
        let logits = Array { shape: vec![3, 3], data: vec![0.5, 2.0, 1.0, 0.5, 2.0, 1.0, 1.0, 1.0, 0.0] };
        assert_eq!(of_logits(&logits, &[1, 0, 0]), [1.0, -1.5, 0.0]);
    }
}
