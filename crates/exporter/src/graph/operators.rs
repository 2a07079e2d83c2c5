//! The operations that the families share, each one or a few nodes of opset 17.

use std::f32::consts::FRAC_1_SQRT_2;

use super::builder::{Attribute, Dim, GraphBuilder, Value};

impl GraphBuilder {
    /// y = x W + b as one `Gemm`, the form that ONNX Runtime runs fastest.
    ///
    /// # Shapes
    ///
    /// x `[rows, inputs]`, W `[inputs, outputs]`, b `[outputs]`, y `[rows, outputs]`
    pub(super) fn linear(&mut self, name: &str, x: &Value, weight: &Value, bias: &Value) -> Value {
        self.node("Gemm", name, &[x, weight, bias], &[], vec![x.dims[0], weight.dims[1]])
    }

    /// Layer normalisation over the last axis.
    pub(super) fn layer_norm(
        &mut self,
        name: &str,
        x: &Value,
        weight: &Value,
        bias: &Value,
        epsilon: f64,
    ) -> Value {
        let epsilon = ("epsilon", Attribute::Float(epsilon as f32));
        self.node("LayerNormalization", name, &[x, weight, bias], &[epsilon], x.dims.clone())
    }

    /// x + y, where y is broadcast to x's shape.
    pub(super) fn add(&mut self, name: &str, x: &Value, y: &Value) -> Value {
        self.node("Add", name, &[x, y], &[], x.dims.clone())
    }

    /// The exact GELU, x * (1 + erf(x / sqrt 2)) * 0.5, in the five nodes that runtimes know how to fuse.
    pub(super) fn gelu(&mut self, name: &str, x: &Value) -> Value {
        let frac_1_sqrt_2 = self.scalar("float.frac_1_sqrt_2", FRAC_1_SQRT_2);
        let one = self.scalar("float.one", 1.0);
        let half = self.scalar("float.half", 0.5);
        let dims = || x.dims.clone();
        let scaled = self.node("Mul", &format!("{name}.scaled"), &[x, &frac_1_sqrt_2], &[], dims());
        let erf = self.node("Erf", &format!("{name}.erf"), &[&scaled], &[], dims());
        let gate = self.node("Add", &format!("{name}.gate"), &[&erf, &one], &[], dims());
        let gated = self.node("Mul", &format!("{name}.gated"), &[x, &gate], &[], dims());
        self.node("Mul", name, &[&gated, &half], &[], dims())
    }

    /// The same values in another shape; at most one dimension depends on the batch.
    pub(super) fn reshape(&mut self, name: &str, x: &Value, dims: Vec<Dim>) -> Value {
        let target: Vec<i64> = dims
            .iter()
            .map(|dim| match dim {
                Dim::Fixed(size) => *size as i64,
                Dim::Batch(_) => -1,
            })
            .collect();
        let target = self.integers(&target);
        self.node("Reshape", name, &[x, &target], &[], dims)
    }

    /// The axes in another order.
    pub(super) fn transpose(&mut self, name: &str, x: &Value, order: &[usize]) -> Value {
        let perm = Attribute::Ints(order.iter().map(|&axis| axis as i64).collect());
        let dims = order.iter().map(|&axis| x.dims[axis]).collect();
        self.node("Transpose", name, &[x], &[("perm", perm)], dims)
    }

    /// The product of the last two axes; the axes before them are equal.
    pub(super) fn matmul(&mut self, name: &str, a: &Value, b: &Value) -> Value {
        let mut dims = a.dims.clone();
        if let (Some(columns), Some(last)) = (dims.last_mut(), b.dims.last()) {
            *columns = *last;
        }
        self.node("MatMul", name, &[a, b], &[], dims)
    }

    /// Softmax over the last axis.
    pub(super) fn softmax(&mut self, name: &str, x: &Value) -> Value {
        self.node("Softmax", name, &[x], &[("axis", Attribute::Int(-1))], x.dims.clone())
    }
}
