//! The learning rate over a run: warm-up, then a cosine.

use crate::config::Training;

/// The learning rate of a step, counted from 0: it rises in a line over the warm-up, then falls in
/// half a cosine to the final rate at the last step
/// ([Loshchilov & Hutter, 2017](https://arxiv.org/abs/1608.03983)).
pub fn learning_rate(training: &Training, step: u64) -> f64 {
    let (peak, last) = (training.optimizer.learning_rate, training.optimizer.final_learning_rate);
    let warm_up = training.warm_up_steps;
    if step < warm_up {
        return peak * (step + 1) as f64 / warm_up as f64;
    }
    let span = training.steps.saturating_sub(warm_up + 1).max(1);
    let progress = ((step - warm_up) as f64 / span as f64).min(1.0);
    last + 0.5 * (peak - last) * (1.0 + (std::f64::consts::PI * progress).cos())
}
