//! How subnets with the shared weights answer.

use elastic_space::{Array, Subnet};
use rayon::prelude::*;

use crate::device::is_cpu;
use crate::supernet::Supernet;

/// Images of one forward pass; on the CPU several run side by side.
const BATCH: usize = 250;

/// The share of images whose label has the highest logit, 0 to 1.
///
/// Pass a supernet without gradients ([`Supernet::valid`]): with them each pass keeps its activations.
///
/// # Shapes
///
/// - images: `[labels, channels, height, width]`
pub fn accuracy(supernet: &Supernet, subnet: &Subnet, images: &Array, labels: &[u8]) -> f64 {
    let margins = margins(supernet, subnet, images, labels);
    margins.iter().filter(|margin| **margin > 0.0).count() as f64 / labels.len() as f64
}

/// By how much the logit of each image's label is above the highest of the others: above zero where the answer is right.
///
/// # Shapes
///
/// - images: `[labels, channels, height, width]`
/// - result: `[labels]`
pub fn margins(supernet: &Supernet, subnet: &Subnet, images: &Array, labels: &[u8]) -> Vec<f32> {
    let statistics = supernet.statistics(subnet);
    let size: usize = images.shape[1..].iter().product();
    let of_batch = |(labels, data): (&[u8], &[f32])| {
        let shape = [&[labels.len()], &images.shape[1..]].concat();
        let images = Array { shape, data: data.to_vec() };
        of_logits(&supernet.logits_by(&images, subnet, &statistics), labels)
    };
    if is_cpu(&supernet.network.device()) {
        labels.par_chunks(BATCH).zip(images.data.par_chunks(BATCH * size)).flat_map_iter(of_batch).collect()
    } else {
        labels.chunks(BATCH).zip(images.data.chunks(BATCH * size)).flat_map(of_batch).collect()
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
