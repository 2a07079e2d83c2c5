//! A finished run and its validation images, for the programs of the benchmarks.

use std::path::Path;

use elastic_data::{Splits, load_training};
use elastic_space::Array;
use elastic_trainer::calibration;
use elastic_trainer::checkpoint::load_supernet;
use elastic_trainer::run_folder::{RunFolder, read_config};
use elastic_trainer::{Model, Supernet};

pub(crate) struct Finished {
    pub(crate) model: Model,
    pub(crate) supernet: Supernet,
    /// The first validation images, and their labels.
    pub(crate) images: Array,
    pub(crate) labels: Vec<u8>,
}

impl Finished {
    /// The run in a folder, with so many images.
    pub(crate) fn open(run: &str, count: &str) -> Self {
        let model = read_config(Path::new(run)).expect("a run's config.yaml");
        let supernet = load_supernet(&RunFolder(run.into()).supernet()).expect("a finished run").supernet;
        let Splits { train, validation } =
            load_training(&model.data, model.space.input(), model.seed(), &mut |_| ())
                .expect("the run's data")
                .splits;
        let supernet = supernet.with_calibration(calibration::images(&model, &train));
        let count: usize = count.parse().expect("a number of images");
        let labels = validation.labels()[..count].to_vec();
        let images = validation.inputs(&model.data, 0..count);
        Self { model, supernet, images, labels }
    }
}
