//! Answers the search's questions about subnets of one run.

use elastic_data::Examples;
use elastic_exporter::file_size;
use elastic_exporter::precision::{Precision, reduced_size};
use elastic_exporter::search::{Evaluator, Margins};
use elastic_profiler::CostModel;
use elastic_space::budget::Quantity;
use elastic_space::{Array, CostFeatures, Subnet};
use elastic_trainer::evaluate::Answers;

use crate::accuracies::Accuracies;
use crate::exit::WrongUsage;
use crate::metadata::Metadata;
use crate::model_file::Writing;
use crate::runs::Run;
use crate::scaling::{self, Line};

/// Costs from the shape and the platform's models, accuracy from the shared weights on validation data.
pub(crate) struct Judge<'a, 'r> {
    run: &'a Run,
    /// What the size of a file is asked of.
    writing: Writing,
    metadata: &'a Metadata<'a>,
    gauges: &'a [Gauge<'a>],
    /// What these see of a subnet.
    features: CostFeatures<'a>,
    /// The precisions in which the file may be written.
    precisions: Vec<Precision>,
    /// What they make of the latency, where they were measured.
    lines: &'a [Line],
    images: &'a Array,
    labels: &'a [u8],
    accuracies: &'a mut Accuracies<'r>,
    /// How many accuracies that were asked for had been measured before.
    pub(crate) cached: usize,
}

/// What predicts a cost that is measured on a platform.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Gauge<'a> {
    pub(crate) quantity: Quantity,
    /// What predicts it.
    pub(crate) model: &'a CostModel,
    /// How much of it counts as one: 1 of its base unit, or a platform's limit where the largest share of several platforms'
    /// limits is asked for.
    pub(crate) unit: f64,
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

/// What is said of `a budget` or `an objective` that no platform is named for.
pub(crate) fn needs_platform(wish: &str, quantity: Quantity) -> anyhow::Error {
    let quantity = quantity.name();
    let problem = format!(
        "{wish} of {quantity} needs a platform: name one that is profiled with --platform, or --all-platforms"
    );
    WrongUsage(problem).into()
}

impl<'a, 'r> Judge<'a, 'r> {
    pub(crate) fn new(
        run: &'a Run,
        (writing, metadata): (Writing, &'a Metadata<'a>),
        gauges: &'a [Gauge<'a>],
        validation: &'a Validation,
        accuracies: &'a mut Accuracies<'r>,
    ) -> Self {
        Self {
            run,
            writing,
            metadata,
            gauges,
            features: run.model.space.cost_features(),
            precisions: vec![Precision::Fp32],
            lines: &[],
            images: &validation.images,
            labels: &validation.labels,
            accuracies,
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
            Quantity::Latency | Quantity::Memory | Quantity::Energy => {
                let features = self.features.of(subnet);
                let units = |gauge: &Gauge<'_>| {
                    let cost = gauge.model.predict(&features);
                    let is_latency = quantity == Quantity::Latency;
                    (if is_latency { scaling::fastest(self.lines, cost) } else { cost }) / gauge.unit
                };
                let of_platforms = self.gauges.iter().filter(|gauge| gauge.quantity == quantity);
                of_platforms
                    .map(units)
                    .max_by(f64::total_cmp)
                    .ok_or_else(|| needs_platform("a budget", quantity))?
            }
        })
    }

    fn margins(&mut self, subnet: &Subnet, decided: &dyn Fn(&Margins) -> bool) -> anyhow::Result<Margins> {
        let all = self.labels.len();
        let mut margins = self.accuracies.get(subnet).cloned().unwrap_or_default();
        let is_enough = |margins: &Margins| margins.examples() == all || decided(margins);
        if is_enough(&margins) {
            self.cached += 1;
            return Ok(margins);
        }
        let answers = Answers::new(&self.run.loaded.supernet, subnet);
        while !is_enough(&margins) {
            let next = margins.examples()..(margins.examples() + answers.at_once()).min(all);
            margins.append(Margins::new(&answers.margins(self.images, self.labels, next)));
        }
        self.accuracies.add(subnet, margins.clone());
        Ok(margins)
    }
}
