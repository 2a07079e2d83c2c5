//! The learning rate over a stage: warm-up, then a cosine.

use crate::config::LearningRate;

/// The learning rate of a step of a stage of `steps` steps, counted from 0: it rises in a line over the
/// warm-up, then falls in half a cosine to the final rate at the last step
/// ([Loshchilov & Hutter, 2017](https://arxiv.org/abs/1608.03983)).
pub fn learning_rate(rate: &LearningRate, steps: u64, step: u64) -> f64 {
    let LearningRate { peak, last, warm_up_steps } = *rate;
    if step < warm_up_steps {
        return peak * (step + 1) as f64 / warm_up_steps as f64;
    }
    let span = steps.saturating_sub(warm_up_steps + 1).max(1);
    let progress = ((step - warm_up_steps) as f64 / span as f64).min(1.0);
    last + 0.5 * (peak - last) * (1.0 + (std::f64::consts::PI * progress).cos())
}
