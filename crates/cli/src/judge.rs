//! Answers the search's questions about subnets of one run.

use std::collections::BTreeMap;

use elastic_data::Examples;
use elastic_exporter::file_size;
use elastic_exporter::search::Evaluator;
use elastic_profiler::LatencyModel;
use elastic_space::budget::Quantity;
use elastic_space::{Array, Subnet};
use elastic_trainer::evaluate::accuracy;

use crate::model_file::{self, Writing};
use crate::runs::Run;

/// Costs from the shape and the latency model, accuracy from the shared weights on validation data.
pub(crate) struct Judge<'a> {
    run: &'a Run,
    /// What the size of a file is asked of.
    writing: Writing,
    latency_model: Option<&'a LatencyModel>,
    images: &'a Array,
    labels: &'a [u8],
    /// Accuracies that were measured, for the next platform's search.
    pub(crate) measured: BTreeMap<Subnet, f64>,
}

/// Validation images or texts as the network takes them, and their labels.
pub(crate) struct Validation {
    pub(crate) images: Array,
    pub(crate) labels: Vec<u8>,
}

impl Validation {
    /// The first `limit` of them.
    pub(crate) fn new(run: &Run, examples: &Examples, limit: usize) -> Self {
        let count = limit.min(examples.len());
        Self {
            images: examples.inputs(&run.model.data, 0..count),
            labels: examples.labels()[..count].to_vec(),
        }
    }
}

impl<'a> Judge<'a> {
    pub(crate) fn new(
        run: &'a Run,
        writing: Writing,
        latency_model: Option<&'a LatencyModel>,
        validation: &'a Validation,
    ) -> Self {
        Self {
            run,
            writing,
            latency_model,
            images: &validation.images,
            labels: &validation.labels,
            measured: BTreeMap::new(),
        }
    }
}

impl Evaluator for Judge<'_> {
    type Error = anyhow::Error;

    fn cost(&mut self, subnet: &Subnet, quantity: Quantity) -> anyhow::Result<f64> {
        let space = &self.run.model.space;
        Ok(match quantity {
            Quantity::Flops => space.cost(subnet).flops() as f64,
            Quantity::Macs => space.cost(subnet).macs as f64,
            Quantity::Params => space.cost(subnet).params as f64,
            Quantity::FileSize => {
                file_size(space, subnet, &model_file::options(self.run, subnet, self.writing)?) as f64
            }
            Quantity::Latency => {
                let model = self.latency_model.ok_or_else(|| {
                    anyhow::anyhow!("a latency budget needs a profiled platform: name one with --platform")
                })?;
                1e6 * model.predict(&space.features(subnet)).as_secs_f64()
            }
        })
    }

    fn accuracy(&mut self, subnet: &Subnet) -> anyhow::Result<f64> {
        let accuracy = accuracy(&self.run.loaded.supernet, subnet, self.images, self.labels);
        self.measured.insert(subnet.clone(), accuracy);
        Ok(accuracy)
    }
}
