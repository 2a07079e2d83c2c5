//! A supernet: all weights at their largest sizes, and the space that they serve.

use burn::module::Module;
use burn::tensor::{Device, Tensor, TensorData};
use elastic_space::random::Purpose;
use elastic_space::{Array, SearchSpace, Seed, Subnet, Weights};

use crate::families::vit::Vit;
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
}

/// The largest network of one family.
#[derive(Module, Debug)]
pub enum Network {
    /// A vision transformer.
    Vit(Vit),
}

impl Network {
    /// What all subnets do alike to their input; so the subnets of a step do it once.
    ///
    /// # Shapes
    ///
    /// - images: `[batch, channels, height, width]`
    /// - output: as the family reads it
    pub fn arranged(&self, images: Tensor<4>) -> Tensor<4> {
        match self {
            Network::Vit(vit) => vit.patches(images),
        }
    }

    /// The logits of a subnet.
    ///
    /// # Shapes
    ///
    /// - input: from [`Self::arranged`]
    /// - output: `[batch, classes]`
    pub fn forward(&self, input: Tensor<4>, subnet: &Subnet) -> Tensor<2> {
        match (self, subnet) {
            (Network::Vit(vit), Subnet::Vit(subnet)) => vit.forward(input, subnet),
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
        };
        Self { space, network: parameters::with_stable_ids(network) }
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

    /// The logits of a subnet.
    ///
    /// # Shapes
    ///
    /// - images: `[batch, channels, height, width]`
    /// - output: `[batch, classes]`
    pub fn forward(&self, images: Tensor<4>, subnet: &Subnet) -> Tensor<2> {
        self.network.forward(self.network.arranged(images), subnet)
    }

    /// The logits of a subnet for plain data, without gradients.
    ///
    /// # Shapes
    ///
    /// - images: `[batch, channels, height, width]`
    /// - output: `[batch, classes]`
    pub fn logits(&self, images: &Array, subnet: &Subnet) -> Array {
        let data = TensorData::new(images.data.clone(), images.shape.clone());
        parameters::array(self.forward(Tensor::from_data(data, &self.network.device()), subnet))
    }

    /// The tensors of the standalone subnet, named as [`SearchSpace::shape`] lists them.
    pub fn extract(&self, subnet: &Subnet) -> Weights {
        match (&self.network, subnet) {
            (Network::Vit(vit), Subnet::Vit(subnet)) => vit.extract(subnet),
        }
    }

    /// The same weights without gradients.
    pub fn valid(&self) -> Self {
        Self { space: self.space.clone(), network: self.network.valid() }
    }
}
