//! Accuracy of subnets with the shared weights.

use elastic_space::{Array, Subnet};
use rayon::prelude::*;

use crate::device::is_cpu;
use crate::supernet::Supernet;

/// Images of one forward pass; on the CPU several run side by side.
const BATCH: usize = 250;

/// The share of images whose highest logit is their label's, 0 to 1.
///
/// Pass a supernet without gradients ([`Supernet::valid`]): with them each pass keeps its activations.
///
/// # Shapes
///
/// - images: `[labels, channels, height, width]`
pub fn accuracy(supernet: &Supernet, subnet: &Subnet, images: &Array, labels: &[u8]) -> f64 {
    let statistics = supernet.statistics(subnet);
    let size: usize = images.shape[1..].iter().product();
    let right = |(labels, data): (&[u8], &[f32])| {
        let shape = [&[labels.len()], &images.shape[1..]].concat();
        let images = Array { shape, data: data.to_vec() };
        correct(&supernet.logits_by(&images, subnet, &statistics), labels)
    };
    let right: usize = if is_cpu(&supernet.network.device()) {
        labels.par_chunks(BATCH).zip(images.data.par_chunks(BATCH * size)).map(right).sum()
    } else {
        labels.chunks(BATCH).zip(images.data.chunks(BATCH * size)).map(right).sum()
    };
    right as f64 / labels.len() as f64
}

/// How many rows have their highest logit at their label.
///
/// # Shapes
///
/// - logits: `[labels, classes]`
fn correct(logits: &Array, labels: &[u8]) -> usize {
    let rows = logits.data.chunks(logits.shape[1]);
    let top =
        |row: &[f32]| row.iter().enumerate().max_by(|a, b| a.1.total_cmp(b.1)).map_or(0, |(index, _)| index);
    rows.zip(labels).filter(|(row, label)| top(row) == usize::from(**label)).count()
}
