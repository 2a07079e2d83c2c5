//! Answers the search's questions about subnets of one run.

use std::collections::BTreeMap;

use elastic_data::Examples;
use elastic_exporter::file_size;
use elastic_exporter::search::Evaluator;
use elastic_profiler::LatencyModel;
use elastic_space::budget::Quantity;
use elastic_space::{Array, Subnet};
use elastic_trainer::evaluate::accuracy;

use crate::accuracies::Accuracies;
use crate::model_file::{self, Writing};
use crate::runs::Run;

/// Costs from the shape and the latency model, accuracy from the shared weights on validation data.
pub(crate) struct Judge<'a, 'r> {
    run: &'a Run,
    /// What the size of a file is asked of.
    writing: Writing,
    latency_model: Option<&'a LatencyModel>,
    images: &'a Array,
    labels: &'a [u8],
    accuracies: &'a mut Accuracies<'r>,
    /// Accuracies that were asked for, for the next platform's search.
    pub(crate) measured: BTreeMap<Subnet, f64>,
    /// How many of them an earlier command had measured.
    pub(crate) cached: usize,
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

impl<'a, 'r> Judge<'a, 'r> {
    pub(crate) fn new(
        run: &'a Run,
        writing: Writing,
        latency_model: Option<&'a LatencyModel>,
        validation: &'a Validation,
        accuracies: &'a mut Accuracies<'r>,
    ) -> Self {
        Self {
            run,
            writing,
            latency_model,
            images: &validation.images,
            labels: &validation.labels,
            accuracies,
            measured: BTreeMap::new(),
            cached: 0,
        }
    }
}

impl Evaluator for Judge<'_, '_> {
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
        let accuracy = if let Some(known) = self.accuracies.get(subnet) {
            self.cached += 1;
            known
        } else {
            let measured = accuracy(&self.run.loaded.supernet, subnet, self.images, self.labels);
            self.accuracies.add(subnet, measured);
            measured
        };
        self.measured.insert(subnet.clone(), accuracy);
        Ok(accuracy)
    }
}
