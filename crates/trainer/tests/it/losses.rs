//! Loss and learning rate by hand.

use elastic_data::{Batch, Mixed};
use elastic_space::Array;
use elastic_trainer::config::LearningRate;
use elastic_trainer::loss::{cross_entropy, targets};
use elastic_trainer::schedule::learning_rate;

use crate::support::{tensor, worst};

/// Images of one pixel.
fn batch(labels: &[u8], mixed: Option<Mixed>) -> Batch {
    Batch { shape: [labels.len(), 1, 1, 1], images: vec![0.0; labels.len()], labels: labels.to_vec(), mixed }
}

#[test]
fn smoothed_targets_by_hand() {
    for (labels, classes, smoothing, expected) in [
        (&[1, 0][..], 2, 0.0, vec![0.0, 1.0, 1.0, 0.0]),
        (&[1], 2, 0.2, vec![0.1, 0.9]),
        (&[2, 0], 4, 0.4, vec![0.1, 0.1, 0.7, 0.1, 0.7, 0.1, 0.1, 0.1]),
        (&[0], 1, 0.5, vec![1.0]),
    ] {
        let batch = batch(labels, None);
        let found = targets(&batch, classes, smoothing);
        assert_eq!(found.shape, [labels.len(), classes], "{labels:?} {smoothing}");
        assert!(worst(&found.data, &expected) < 1e-6, "{labels:?} {smoothing}: {found:?}");
    }
}

#[test]
fn targets_of_mixed_batches_by_hand() {
    for (mixed, smoothing, expected) in [
        (None, 0.2, [0.9, 0.1, 0.1, 0.9]),
        (Some(0.75), 0.0, [0.75, 0.25, 0.25, 0.75]),
        // 0.75 * 0.9 + 0.25 * 0.1 = 0.7.
        (Some(0.75), 0.2, [0.7, 0.3, 0.3, 0.7]),
        (Some(0.0), 0.0, [0.0, 1.0, 1.0, 0.0]),
        (Some(1.0), 0.0, [1.0, 0.0, 0.0, 1.0]),
    ] {
        let batch = batch(&[0, 1], mixed.map(|share| Mixed { labels: vec![1, 0], share }));
        let found = targets(&batch, 2, smoothing);
        assert_eq!(found.shape, [2, 2], "{mixed:?} {smoothing}");
        assert!(worst(&found.data, &expected) < 1e-6, "{mixed:?} {smoothing}: {found:?}");
    }
}

#[test]
fn cross_entropy_by_hand() {
    for (rows, logits, targets, expected) in [
        // Equal logits are equal probabilities: ln 2, whatever the targets.
        (1, vec![0.0, 0.0], vec![0.3, 0.7], 2.0_f64.ln()),
        // ln 1 and ln 3 are probabilities 1/4 and 3/4.
        (1, vec![0.0, 3.0_f32.ln()], vec![0.9, 0.1], 0.9 * 4.0_f64.ln() + 0.1 * (4.0_f64 / 3.0).ln()),
        // The mean over rows, not the sum: ln 2 and ln 4.
        (2, vec![0.0, 0.0, 0.0, 3.0_f32.ln()], vec![1.0, 0.0, 1.0, 0.0], 1.5 * 2.0_f64.ln()),
        // Large logits do not overflow.
        (1, vec![1000.0, 0.0], vec![0.0, 1.0], 1000.0),
        (1, vec![-1000.0, -1000.0], vec![1.0, 0.0], 2.0_f64.ln()),
    ] {
        let columns = logits.len() / rows;
        let array = |data: &Vec<f32>| Array { shape: vec![rows, columns], data: data.clone() };
        let loss = cross_entropy(tensor(&array(&logits)), tensor(&array(&targets))).into_scalar::<f32>();
        assert!(
            (f64::from(loss) - expected).abs() < 1e-6 * expected.max(1.0),
            "{logits:?} {targets:?}: {loss}"
        );
    }
}

#[test]
fn learning_rates_by_hand() {
    // The cosine goes from 1 to 0.1: 0.1 + 0.45 * (1 + cos(pi * progress)).
    let at = |progress: f64| 0.55 + 0.45 * (std::f64::consts::PI * progress).cos();
    for (steps, warm_up_steps, expected) in [
        (9, 4, vec![0.25, 0.5, 0.75, 1.0, at(0.0), at(0.25), at(0.5), at(0.75), 0.1]),
        (5, 0, vec![1.0, at(0.25), 0.55, at(0.75), 0.1]),
        (4, 1, vec![1.0, 1.0, 0.55, 0.1]),
        (2, 0, vec![1.0, 0.1]),
        // A stage that is shorter than its warm-up never reaches the peak.
        (2, 4, vec![0.25, 0.5]),
        // There is no room for a descent.
        (1, 0, vec![1.0]),
        (3, 2, vec![0.5, 1.0, 1.0]),
    ] {
        let rate = LearningRate { peak: 1.0, last: 0.1, warm_up_steps };
        let found: Vec<f64> = (0..steps).map(|step| learning_rate(&rate, steps, step)).collect();
        assert!(worst(&found, &expected) < 1e-12, "{steps} steps, {warm_up_steps} of warm-up: {found:?}");
    }
}
