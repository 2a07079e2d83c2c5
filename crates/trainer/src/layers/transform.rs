//! What a choice adds to the plain slice: learned parameters of its own, folded into the weights.
//!
//! They belong to the choice, start as "does nothing", and act on the sliced weights alone. So the
//! function that cuts a layer's weights also folds them, and a standalone subnet has no trace of them.

use burn::module::{Module, Param};
use burn::tensor::{Device, Tensor, activation};
use elastic_space::choices::TransformKind;

use crate::parameters::{constant, param};

/// The transforms of one layer: one for each choice of its outputs but the largest.
#[derive(Module, Debug)]
pub struct Transforms {
    /// In the order of the choices; empty for [`TransformKind::Identity`].
    pub choices: Vec<Transform>,
    #[module(skip)]
    features: Vec<usize>,
}

/// The transform of one choice.
#[derive(Module, Debug)]
pub enum Transform {
    /// Scale and shift.
    Linear(Affine),
    /// A gate.
    Nonlinear(Gate),
}

/// y = s x + t, feature by feature.
#[derive(Module, Debug)]
pub struct Affine {
    /// s, `[features]`, from 1
    pub scale: Param<Tensor<1>>,
    /// t, `[features]`, from 0
    pub shift: Param<Tensor<1>>,
}

/// y = 2 / (1 + exp(-a)) x, feature by feature.
#[derive(Module, Debug)]
pub struct Gate {
    /// a, `[features]`, from 0
    pub gate: Param<Tensor<1>>,
}

impl Transforms {
    /// The plain slice.
    pub fn identity() -> Self {
        Self { choices: Vec::new(), features: Vec::new() }
    }

    /// Transforms of a layer whose choices have these numbers of outputs, ascending.
    pub fn new(kind: TransformKind, outputs: &[usize], device: &Device) -> Self {
        let features = outputs[..outputs.len() - 1].to_vec();
        let vector = |features: usize, value: f32| param(constant([features], value), device);
        let choices = match kind {
            TransformKind::Identity => return Self::identity(),
            TransformKind::Linear => {
                let affine = |&n: &usize| Affine { scale: vector(n, 1.0), shift: vector(n, 0.0) };
                features.iter().map(|n| Transform::Linear(affine(n))).collect()
            }
            TransformKind::Nonlinear => {
                let gate = |&n: &usize| Gate { gate: vector(n, 0.0) };
                features.iter().map(|n| Transform::Nonlinear(gate(n))).collect()
            }
        };
        Self { choices, features }
    }

    /// Folds the transform of the sliced layer's choice, y = f(x W + b), into its weights.
    ///
    /// # Shapes
    ///
    /// - weight: `[.., outputs]`
    /// - bias: `[outputs]`
    pub fn fold<const D: usize>(&self, weight: Tensor<D>, bias: Tensor<1>) -> (Tensor<D>, Tensor<1>) {
        let outputs = bias.dims()[0];
        let position = self.features.iter().position(|&features| features == outputs);
        match position.map(|position| &self.choices[position]) {
            None => (weight, bias),
            Some(Transform::Linear(Affine { scale, shift })) => {
                let scale = scale.val();
                (weight * scale.clone().unsqueeze(), bias * scale + shift.val())
            }
            Some(Transform::Nonlinear(Gate { gate })) => {
                let gate = activation::sigmoid(gate.val()) * 2.0;
                (weight * gate.clone().unsqueeze(), bias * gate)
            }
        }
    }
}
