//! Answers the search's questions about subnets of one run.

use std::collections::BTreeMap;

use elastic_data::Examples;
use elastic_exporter::file_size;
use elastic_exporter::precision::{Precision, reduced_size};
use elastic_exporter::search::Evaluator;
use elastic_profiler::LatencyModel;
use elastic_space::budget::Quantity;
use elastic_space::{Array, Subnet};
use elastic_trainer::evaluate::accuracy;

use crate::accuracies::Accuracies;
use crate::metadata::Metadata;
use crate::model_file::Writing;
use crate::runs::Run;
use crate::scaling::{self, Line};

/// Costs from the shape and the latency model, accuracy from the shared weights on validation data.
pub(crate) struct Judge<'a, 'r> {
    run: &'a Run,
    /// What the size of a file is asked of.
    writing: Writing,
    metadata: &'a Metadata<'a>,
    latency: &'a [Clock<'a>],
    /// The precisions in which the file may be written.
    precisions: Vec<Precision>,
    /// What they make of the latency, where they were measured.
    lines: &'a [Line],
    images: &'a Array,
    labels: &'a [u8],
    accuracies: &'a mut Accuracies<'r>,
    /// Accuracies that were asked for, for the next platform's search.
    pub(crate) measured: BTreeMap<Subnet, f64>,
    /// How many of them an earlier command had measured.
    pub(crate) cached: usize,
}

/// How long a subnet takes on a platform.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Clock<'a> {
    /// What predicts it.
    pub(crate) model: &'a LatencyModel,
    /// Microseconds of one unit of the latency that is asked for: 1, or a platform's limit where the largest share of several
    /// platforms' limits is asked for.
    pub(crate) unit_us: f64,
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
        (writing, metadata): (Writing, &'a Metadata<'a>),
        latency: &'a [Clock<'a>],
        validation: &'a Validation,
        accuracies: &'a mut Accuracies<'r>,
    ) -> Self {
        Self {
            run,
            writing,
            metadata,
            latency,
            precisions: vec![Precision::Fp32],
            lines: &[],
            images: &validation.images,
            labels: &validation.labels,
            accuracies,
            measured: BTreeMap::new(),
            cached: 0,
        }
    }

    /// With files in one of several precisions: a subnet costs what it costs in the one that suits a budget best.
    pub(crate) fn in_precisions(self, precisions: Vec<Precision>, lines: &'a [Line]) -> Self {
        Self { precisions, lines, ..self }
    }

    /// The smallest file of a subnet.
    fn file_size(&self, subnet: &Subnet) -> anyhow::Result<u64> {
        let space = &self.run.model.space;
        let options = |precision| self.metadata.options(subnet, Writing { precision, ..self.writing });
        let whole = || anyhow::Ok(file_size(space, subnet, &options(Precision::Fp32)?));
        let mut smallest = None;
        for &precision in &self.precisions {
            let size = match precision {
                Precision::Fp32 => Some(whole()?),
                precision => reduced_size(space, subnet, &options(precision)?, precision),
            };
            smallest = [smallest, size].into_iter().flatten().min();
        }
        smallest.map_or_else(whole, Ok)
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
            Quantity::FileSize => self.file_size(subnet)? as f64,
            Quantity::Latency => {
                let features = space.features(subnet);
                let units =
                    |clock: &Clock<'_>| 1e6 * clock.model.predict(&features).as_secs_f64() / clock.unit_us;
                let slowest = self.latency.iter().map(units).max_by(f64::total_cmp).ok_or_else(|| {
                    anyhow::anyhow!("a latency budget needs a profiled platform: name one with --platform")
                })?;
                scaling::fastest(self.lines, slowest)
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
