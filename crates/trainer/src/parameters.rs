//! Parameters of a module as named arrays, and back.

use std::collections::BTreeSet;

use burn::module::{Module, ModuleMapper, ModuleVisitor, Param, ParamId};
use burn::tensor::{Device, Tensor, TensorData};
use elastic_space::{Array, Weights};
use rand::Rng;
use thiserror::Error;

/// Why weights do not fit a supernet.
#[derive(Debug, Error)]
pub enum FitError {
    /// Tensors are missing.
    #[error("tensors are missing: {}; the file was made for another search space", names.join(", "))]
    Missing {
        /// Their names.
        names: Vec<String>,
    },
    /// Tensors that the supernet does not have.
    #[error("unknown tensors: {}; the file was made for another search space", names.join(", "))]
    Unknown {
        /// Their names.
        names: Vec<String>,
    },
    /// A tensor of another shape.
    #[error(
        "tensor {name} has shape {found:?}, the search space needs {expected:?}; the file was made for another search space"
    )]
    Shape {
        /// Its name.
        name: String,
        /// Shape in the file.
        found: Vec<usize>,
        /// Shape in the supernet.
        expected: Vec<usize>,
    },
}

/// A trainable parameter on the device.
pub(crate) fn param<const D: usize>(data: TensorData, device: &Device) -> Param<Tensor<D>> {
    Param::from_data(data, device)
}

/// The same value everywhere.
pub(crate) fn constant<const D: usize>(shape: [usize; D], value: f32) -> TensorData {
    TensorData::new(vec![value; shape.iter().product()], shape)
}

/// Xavier-uniform values for a projection of `inputs` to `outputs`
/// ([Glorot & Bengio, 2010](https://proceedings.mlr.press/v9/glorot10a.html)).
pub(crate) fn xavier_uniform<const D: usize>(
    shape: [usize; D],
    inputs: usize,
    outputs: usize,
    rng: &mut impl Rng,
) -> TensorData {
    let bound = (6.0 / (inputs + outputs) as f32).sqrt();
    let values: Vec<f32> = (0..shape.iter().product()).map(|_| rng.random_range(-bound..bound)).collect();
    TensorData::new(values, shape)
}

/// Normal values of standard deviation 0.02, for tokens and positions.
pub(crate) fn small_normal<const D: usize>(shape: [usize; D], rng: &mut impl Rng) -> TensorData {
    let normal = rand_distr::Normal::new(0.0_f32, 0.02).expect("the deviation is finite");
    let values: Vec<f32> = (0..shape.iter().product()).map(|_| rng.sample(normal)).collect();
    TensorData::new(values, shape)
}

/// A tensor's values as a plain array.
pub fn array<const D: usize>(tensor: Tensor<D>) -> Array {
    let shape = tensor.dims().to_vec();
    let data = tensor.into_data().try_to_vec().expect("the supernet's tensors hold 32-bit floats");
    Array { shape, data }
}

/// All parameters of a module under their field names joined by dots.
pub fn collect<M: Module>(module: &M) -> Weights {
    let mut collector = Collector { path: Path::default(), weights: Weights::new() };
    module.visit(&mut collector);
    collector.weights
}

/// Replaces every parameter of a module by the array of its name.
///
/// # Errors
///
/// [`FitError`] if a name is missing or unknown, or a shape differs.
pub fn replace<M: Module>(module: M, weights: &Weights) -> Result<M, FitError> {
    let expected = collect(&module);
    let difference = |a: &Weights, b: &Weights| -> Vec<String> {
        let b: BTreeSet<_> = b.keys().collect();
        a.keys().filter(|name| !b.contains(name)).cloned().collect()
    };
    let names = difference(&expected, weights);
    if !names.is_empty() {
        return Err(FitError::Missing { names });
    }
    let names = difference(weights, &expected);
    if !names.is_empty() {
        return Err(FitError::Unknown { names });
    }
    for (name, array) in weights {
        let expected = &expected[name].shape;
        if array.shape != *expected {
            let (name, found, expected) = (name.clone(), array.shape.clone(), expected.clone());
            return Err(FitError::Shape { name, found, expected });
        }
    }
    Ok(module.map(&mut Replacer { path: Path::default(), weights }))
}

/// Gives each parameter an identity that follows from its name, so that an optimizer's saved state
/// finds its parameters in another process.
pub fn with_stable_ids<M: Module>(module: M) -> M {
    module.map(&mut Renamer { path: Path::default() })
}

/// The identity that [`with_stable_ids`] gives to the parameter of a name.
pub fn id(name: &str) -> ParamId {
    let digest = elastic_space::file::sha256(name.as_bytes());
    ParamId::from(u64::from_str_radix(&digest[..16], 16).expect("a digest is hexadecimal"))
}

/// Whether weight decay applies to a parameter: to matrices, but not to tables of tokens or positions, nor to the
/// scales of a normalisation, of which one of merged tokens has several.
pub fn decays(name: &str, array: &Array) -> bool {
    name.ends_with(".weight") && !name.ends_with("norm.weight") && array.shape.len() >= 2
}

/// The values of 32-bit floats in little-endian bytes, as safetensors holds them.
pub(crate) fn floats(bytes: &[u8]) -> Vec<f32> {
    bytes.as_chunks::<4>().0.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect()
}

/// Field names on the way to a parameter; the name of an enum's variant is left out.
#[derive(Default)]
struct Path(Vec<String>);

impl Path {
    fn enter(&mut self, name: &str) {
        self.0.push(name.to_owned());
    }

    fn exit(&mut self) {
        self.0.pop();
    }

    fn name(&self) -> String {
        let is_field = |part: &&String| !part.starts_with(char::is_uppercase);
        self.0.iter().filter(is_field).cloned().collect::<Vec<_>>().join(".")
    }
}

struct Collector {
    path: Path,
    weights: Weights,
}

impl ModuleVisitor for Collector {
    fn enter_module(&mut self, name: &str, _container: &str) {
        self.path.enter(name);
    }

    fn exit_module(&mut self, _name: &str, _container: &str) {
        self.path.exit();
    }

    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        self.weights.insert(self.path.name(), array(param.val()));
    }
}

struct Replacer<'a> {
    path: Path,
    weights: &'a Weights,
}

impl ModuleMapper for Replacer<'_> {
    fn enter_module(&mut self, name: &str, _container: &str) {
        self.path.enter(name);
    }

    fn exit_module(&mut self, _name: &str, _container: &str) {
        self.path.exit();
    }

    fn map_float<const D: usize>(&mut self, old: Param<Tensor<D>>) -> Param<Tensor<D>> {
        let array = &self.weights[&self.path.name()];
        let id = old.id;
        let fresh: Param<Tensor<D>> =
            param(TensorData::new(array.data.clone(), array.shape.clone()), &old.val().device());
        Param::from_mapped_value(id, fresh.val(), Default::default())
    }
}

struct Renamer {
    path: Path,
}

impl ModuleMapper for Renamer {
    fn enter_module(&mut self, name: &str, _container: &str) {
        self.path.enter(name);
    }

    fn exit_module(&mut self, _name: &str, _container: &str) {
        self.path.exit();
    }

    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        let (_, value, mapper) = param.consume();
        Param::from_mapped_value(id(&self.path.name()), value, mapper)
    }
}
