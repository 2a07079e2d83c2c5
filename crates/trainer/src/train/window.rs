//! Throughput over the steps between two lines of the log.

use std::time::Duration;

use elastic_runtime::peak_memory;

use crate::metrics::Record;

/// Steps of this process since the last line of the log, and their time.
#[derive(Default)]
pub(super) struct Window {
    steps: u64,
    time: Duration,
}

/// What a line of the log tells besides the throughput.
pub(super) struct Learned {
    /// Steps done so far, over all stages.
    pub(super) step: u64,
    /// Mean loss since the last line.
    pub(super) loss: f64,
    /// Learning rate of the last step.
    pub(super) learning_rate: f64,
    /// Norm of its gradient before clipping.
    pub(super) gradient_norm: f64,
}

impl Window {
    pub(super) fn add(&mut self, time: Duration) {
        self.steps += 1;
        self.time += time;
    }

    /// The line of the log for steps of `batch` images and `subnets` subnets.
    pub(super) fn record(&self, stage: &str, batch: usize, subnets: usize, learned: &Learned) -> Record {
        let steps_per_second = self.steps as f64 / self.time.as_secs_f64();
        Record::Train {
            stage: stage.to_owned(),
            step: learned.step,
            loss: learned.loss,
            learning_rate: learned.learning_rate,
            gradient_norm: learned.gradient_norm,
            images_per_second: steps_per_second * batch as f64,
            subnet_updates_per_second: steps_per_second * subnets as f64,
            peak_memory_bytes: peak_memory(),
        }
    }
}
