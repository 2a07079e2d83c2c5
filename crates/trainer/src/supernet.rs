//! A supernet: all weights at their largest sizes, and the space that they serve.

use burn::module::Module;
use burn::tensor::{Device, Tensor, TensorData};
use elastic_space::random::Purpose;
use elastic_space::{Array, SearchSpace, Seed, Subnet, Weights};

use crate::families::bert::{self, Bert};
use crate::families::conv::Conv;
use crate::families::swin::Swin;
use crate::families::transformer;
use crate::families::vit::Vit;
use crate::layers::{Normalisation, Statistics};
use crate::parameters::{self, FitError};

/// The shared weights of every subnet of a search space.
///
/// It holds no active subnet: the subnet is an argument.
#[derive(Debug, Clone)]
pub struct Supernet {
    /// The choices; the only source of the largest sizes.
    pub space: SearchSpace,
    /// The weights.
    pub network: Network,
    /// Training images, `[images, channels, height, width]`, on which a subnet's batch normalisation is
    /// measured; only a family that [needs calibration](SearchSpace::needs_calibration) looks at them.
    pub calibration: Option<Array>,
}

/// The largest network of one family.
#[derive(Module, Debug)]
#[allow(clippy::large_enum_variant, reason = "a supernet has one, and no list holds many")]
pub enum Network {
    /// A vision transformer.
    Vit(Vit),
    /// A convolutional network.
    Conv(Conv),
    /// A Swin transformer.
    Swin(Swin),
    /// A BERT encoder.
    Bert(Bert),
}

impl Network {
    /// What all subnets do alike to their input; so the subnets of a step do it once.
    ///
    /// # Shapes
    ///
    /// - images: `[batch, channels, height, width]`; of texts `[batch, 3, 1, tokens]`, as [`Bert::forward`] says
    /// - output: as the family reads it
    pub fn arranged(&self, images: Tensor<4>) -> Tensor<4> {
        match self {
            Network::Vit(vit) => transformer::patches(images, vit.patch_size()),
            Network::Swin(swin) => transformer::patches(images, swin.patch_size()),
            // Channels last.
            Network::Conv(_) => images.permute([0, 2, 3, 1]),
            Network::Bert(_) => images,
        }
    }

    /// The logits of a subnet.
    ///
    /// # Shapes
    ///
    /// - input: from [`Self::arranged`]
    /// - output: `[batch, classes]`
    ///
    /// # Panics
    ///
    /// If the subnet is of another family.
    pub fn forward(
        &self,
        input: Tensor<4>,
        subnet: &Subnet,
        normalisation: &mut Normalisation<'_>,
    ) -> Tensor<2> {
        match (self, subnet) {
            (Network::Vit(vit), Subnet::Vit(subnet)) => vit.forward(input, subnet),
            (Network::Conv(conv), Subnet::Conv(subnet)) => conv.forward(input, subnet, normalisation),
            (Network::Swin(swin), Subnet::Swin(subnet)) => swin.forward(input, subnet),
            (Network::Bert(bert), Subnet::Bert(subnet)) => bert.forward(input, subnet),
            (Network::Vit(_) | Network::Conv(_) | Network::Swin(_) | Network::Bert(_), _) => {
                other_family(subnet)
            }
        }
    }

    /// Where its parameters are; without gradients, whether it has them or not.
    pub fn device(&self) -> Device {
        self.devices().into_iter().next().expect("a network has parameters").inner()
    }
}

impl Supernet {
    /// A supernet with random weights.
    pub fn new(space: SearchSpace, seed: Seed, device: &Device) -> Self {
        let mut rng = seed.generator(Purpose::Init, 0);
        let network = match &space {
            SearchSpace::Vit(space) => Network::Vit(Vit::new(space, device, &mut rng)),
            SearchSpace::Conv(space) => Network::Conv(Conv::new(space, device, &mut rng)),
            SearchSpace::Swin(space) => Network::Swin(Swin::new(space, device, &mut rng)),
            SearchSpace::Bert(space) => Network::Bert(Bert::new(space, device, &mut rng)),
        };
        Self { space, network: parameters::with_stable_ids(network), calibration: None }
    }

    /// A supernet with the given weights, for inference on the CPU.
    ///
    /// # Errors
    ///
    /// [`FitError`] if the weights do not fit the space.
    pub fn from_weights(space: SearchSpace, weights: &Weights) -> Result<Self, FitError> {
        let supernet = Self::new(space, Seed(0), &Device::flex());
        Ok(Self { network: parameters::replace(supernet.network, weights)?, ..supernet })
    }

    /// The same supernet with images to calibrate its subnets on.
    #[must_use]
    pub fn with_calibration(self, calibration: Option<Array>) -> Self {
        Self { calibration, ..self }
    }

    /// The logits of a subnet in training: batch normalisation, where there is some, is by these images.
    ///
    /// # Shapes
    ///
    /// - images: `[batch, channels, height, width]`
    /// - output: `[batch, classes]`
    pub fn forward(&self, images: Tensor<4>, subnet: &Subnet) -> Tensor<2> {
        self.network.forward(self.network.arranged(images), subnet, &mut Normalisation::Batch)
    }

    /// The statistics of a subnet's batch normalisations on the calibration images: layer after layer, each on
    /// activations that the ones before have normalised. All images go through at once.
    ///
    /// # Panics
    ///
    /// If the family needs calibration and there are no images.
    pub fn statistics(&self, subnet: &Subnet) -> Statistics {
        let mut statistics = Statistics::default();
        if self.space.needs_calibration() {
            let images = self.calibration.as_ref().expect("a supernet with calibration images");
            let device = self.network.devices().remove(0);
            let input = self.network.arranged(tensor(images, &device));
            self.network.forward(input, subnet, &mut Normalisation::Measure(&mut statistics));
        }
        statistics
    }

    /// The logits of a calibrated subnet for plain data, without gradients.
    ///
    /// # Shapes
    ///
    /// - images: `[batch, channels, height, width]`
    /// - output: `[batch, classes]`
    pub fn logits(&self, images: &Array, subnet: &Subnet) -> Array {
        self.logits_by(images, subnet, &self.statistics(subnet))
    }

    /// [`Self::logits`] for a loop that has the subnet's [`Self::statistics`] already.
    pub fn logits_by(&self, images: &Array, subnet: &Subnet, statistics: &Statistics) -> Array {
        let device = self.network.device();
        let input = match &self.network {
            Network::Bert(_) => tensor(&bert::trimmed(images), &device),
            _ => tensor(images, &device),
        };
        let input = self.network.arranged(input);
        parameters::array(self.network.forward(input, subnet, &mut statistics.given()))
    }

    /// The tensors of the standalone subnet, calibrated, named as [`SearchSpace::shape`] lists them.
    pub fn extract(&self, subnet: &Subnet) -> Weights {
        self.extract_by(subnet, &self.statistics(subnet))
    }

    /// [`Self::extract`] with statistics of the subnet that are there already.
    pub fn extract_by(&self, subnet: &Subnet, statistics: &Statistics) -> Weights {
        match (&self.network, subnet) {
            (Network::Vit(vit), Subnet::Vit(subnet)) => vit.extract(subnet),
            (Network::Conv(conv), Subnet::Conv(subnet)) => conv.extract(subnet, statistics),
            (Network::Swin(swin), Subnet::Swin(subnet)) => swin.extract(subnet),
            (Network::Bert(bert), Subnet::Bert(subnet)) => bert.extract(subnet),
            (Network::Vit(_) | Network::Conv(_) | Network::Swin(_) | Network::Bert(_), _) => {
                other_family(subnet)
            }
        }
    }

    /// The same weights without gradients.
    pub fn valid(&self) -> Self {
        Self { network: self.network.valid(), ..self.clone() }
    }
}

fn tensor(images: &Array, device: &Device) -> Tensor<4> {
    Tensor::from_data(TensorData::new(images.data.clone(), images.shape.clone()), device)
}

fn other_family(subnet: &Subnet) -> ! {
    panic!("subnet `{subnet}` is of another family than its supernet")
}
