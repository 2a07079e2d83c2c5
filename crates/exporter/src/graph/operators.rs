//! The operations that the families share, each one or a few nodes of the graph's opset and form.

use std::f32::consts::FRAC_1_SQRT_2;

use super::builder::{Attribute, Dim, GraphBuilder, Value};

/// What a convolution sees of an image. Its zeros keep the image's size but for the stride.
#[derive(Debug, Clone, Copy)]
pub(super) struct Window {
    /// Height and width of the kernel, odd.
    pub(super) kernel: usize,
    /// Pixels from one place of the kernel to the next.
    pub(super) stride: usize,
    /// Zeros before and after the pixels of either axis.
    pub(super) zeros: [usize; 2],
    /// Parts of the channels that do not see each other.
    pub(super) groups: usize,
}

impl Window {
    /// One pixel with all its channels.
    pub(super) const PIXEL: Self = Self { kernel: 1, stride: 1, zeros: [0; 2], groups: 1 };
}

impl GraphBuilder {
    /// y = x W + b as one `Gemm`, the form that ONNX Runtime runs fastest.
    ///
    /// # Shapes
    ///
    /// x `[rows, inputs]`, W `[inputs, outputs]`, b `[outputs]`, y `[rows, outputs]`
    pub(super) fn linear(&mut self, name: &str, x: &Value, weight: &Value, bias: &Value) -> Value {
        self.node("Gemm", name, &[x, weight, bias], &[], vec![x.dims[0], weight.dims[1]])
    }

    /// A convolution.
    ///
    /// # Shapes
    ///
    /// x `[batch, inputs, height, width]`, W `[outputs, inputs / groups, kernel, kernel]`, b `[outputs]`, y
    /// `[batch, outputs, height / stride, width / stride]`, rounded up
    pub(super) fn conv(
        &mut self,
        name: &str,
        x: &Value,
        weight: &Value,
        bias: &Value,
        window: Window,
    ) -> Value {
        let [before, after] = window.zeros;
        let [kernel, stride, before, after] =
            [window.kernel, window.stride, before, after].map(|size| size as i64);
        let attributes = [
            ("group", Attribute::Int(window.groups as i64)),
            ("kernel_shape", Attribute::Ints(vec![kernel; 2])),
            ("pads", Attribute::Ints(vec![before, before, after, after])),
            ("strides", Attribute::Ints(vec![stride; 2])),
        ];
        let side = |axis: usize| match x.dims[axis] {
            Dim::Fixed(size) => Dim::Fixed(size.div_ceil(window.stride)),
            _ => unreachable!("pixels do not depend on the run"),
        };
        let dims = vec![x.dims[0], weight.dims[0], side(2), side(3)];
        self.node("Conv", name, &[x, weight, bias], &attributes, dims)
    }

    /// The mean over all pixels of each channel, `[batch, channels, 1, 1]`.
    pub(super) fn mean_pixels(&mut self, name: &str, x: &Value) -> Value {
        let one = Dim::Fixed(1);
        self.node("GlobalAveragePool", name, &[x], &[], vec![x.dims[0], x.dims[1], one, one])
    }

    /// min(max(0, x), 6)
    pub(super) fn relu6(&mut self, name: &str, x: &Value) -> Value {
        let (zero, six) = (self.scalar("float.zero", 0.0), self.scalar("float.six", 6.0));
        self.node("Clip", name, &[x, &zero, &six], &[], x.dims.clone())
    }

    /// min(max(0, x / 6 + 1 / 2), 1)
    pub(super) fn hard_sigmoid(&mut self, name: &str, x: &Value) -> Value {
        let attributes = [("alpha", Attribute::Float(1.0 / 6.0)), ("beta", Attribute::Float(0.5))];
        self.node("HardSigmoid", name, &[x], &attributes, x.dims.clone())
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
        if self.dialect.opset < 17 {
            return self.layer_norm_of_parts(name, x, weight, bias, epsilon);
        }
        let epsilon = ("epsilon", Attribute::Float(epsilon as f32));
        self.node("LayerNormalization", name, &[x, weight, bias], &[epsilon], x.dims.clone())
    }

    /// Layer normalisation before it was an operator, in the nodes that runtimes know how to fuse.
    fn layer_norm_of_parts(
        &mut self,
        name: &str,
        x: &Value,
        weight: &Value,
        bias: &Value,
        epsilon: f64,
    ) -> Value {
        let two = self.scalar("float.two", 2.0);
        let epsilon = self.scalar("float.epsilon", epsilon as f32);
        let (wide, last) = (x.dims.clone(), x.dims.len() - 1);
        let mut narrow = wide.clone();
        narrow[last] = Dim::Fixed(1);
        let part = |part: &str| format!("{name}.{part}");
        let mean = self.mean(&part("mean"), x, last, true);
        let centred = self.node("Sub", &part("centred"), &[x, &mean], &[], wide.clone());
        let squares = self.node("Pow", &part("squares"), &[&centred, &two], &[], wide.clone());
        let variance = self.mean(&part("variance"), &squares, last, true);
        let sum = self.node("Add", &part("sum"), &[&variance, &epsilon], &[], narrow.clone());
        let deviation = self.node("Sqrt", &part("deviation"), &[&sum], &[], narrow);
        let unit = self.node("Div", &part("unit"), &[&centred, &deviation], &[], wide.clone());
        let scaled = self.node("Mul", &part("scaled"), &[&unit, weight], &[], wide);
        self.add(name, &scaled, bias)
    }

    /// The mean over one axis, which stays with size 1 or goes.
    pub(super) fn mean(&mut self, name: &str, x: &Value, axis: usize, keep: bool) -> Value {
        let mut dims = x.dims.clone();
        if keep {
            dims[axis] = Dim::Fixed(1);
        } else {
            dims.remove(axis);
        }
        let keep = ("keepdims", Attribute::Int(i64::from(keep)));
        // The axes became an input with opset 18.
        if self.dialect.opset < 18 {
            let axes = ("axes", Attribute::Ints(vec![axis as i64]));
            return self.node("ReduceMean", name, &[x], &[axes, keep], dims);
        }
        let axes = self.integers(&[axis as i64]);
        self.node("ReduceMean", name, &[x, &axes], &[keep], dims)
    }

    /// x min(max(0, x / 6 + 1 / 2), 1)
    pub(super) fn hard_swish(&mut self, name: &str, x: &Value) -> Value {
        if self.dialect.opset < 14 {
            let gate = self.hard_sigmoid(&format!("{name}.gate"), x);
            return self.node("Mul", name, &[x, &gate], &[], x.dims.clone());
        }
        self.node("HardSwish", name, &[x], &[], x.dims.clone())
    }

    /// The size of the first axis, `[1]`.
    pub(super) fn first_size(&mut self, name: &str, x: &Value) -> Value {
        let one = vec![Dim::Fixed(1)];
        if self.dialect.opset >= 15 {
            let range = [("start", Attribute::Int(0)), ("end", Attribute::Int(1))];
            return self.integer_node("Shape", name, &[x], &range, one);
        }
        let rank = vec![Dim::Fixed(x.dims.len())];
        let shape = self.integer_node("Shape", &format!("{name}.shape"), &[x], &[], rank);
        let first = self.integers(&[0]);
        self.integer_node("Gather", name, &[&shape, &first], &[("axis", Attribute::Int(0))], one)
    }

    /// x + y, where y is broadcast to x's shape.
    pub(super) fn add(&mut self, name: &str, x: &Value, y: &Value) -> Value {
        self.node("Add", name, &[x, y], &[], x.dims.clone())
    }

    /// The exact GELU, x * (1 + erf(x / sqrt 2)) * 0.5: an operator, or the five nodes that runtimes know how to fuse.
    pub(super) fn gelu(&mut self, name: &str, x: &Value) -> Value {
        if self.dialect.form.has_gelu() {
            return self.node("Gelu", name, &[x], &[], x.dims.clone());
        }
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

    /// The same values in another shape. Of two dimensions that are chosen at run time, the first is x's first or they are
    /// batch and sequence, before all others.
    pub(super) fn reshape(&mut self, name: &str, x: &Value, dims: Vec<Dim>) -> Value {
        let size = |dim: &Dim| match dim {
            Dim::Fixed(size) => *size as i64,
            _ => -1,
        };
        let mut target: Vec<i64> = dims.iter().map(size).collect();
        let target = match dims.iter().filter(|dim| dim.is_open()).count() {
            0 | 1 => self.integers(&target),
            _ if dims[0] == x.dims[0] => {
                target[0] = 0; // As it is.
                self.integers(&target)
            }
            _ => {
                let (sizes, rest) = (self.sizes(), self.integers(&target[2..]));
                let axis = [("axis", Attribute::Int(0))];
                let rank = vec![Dim::Fixed(dims.len())];
                self.integer_node("Concat", &format!("{name}.shape"), &[&sizes, &rest], &axis, rank)
            }
        };
        self.node("Reshape", name, &[x, &target], &[], dims)
    }

    /// The first entries of a table, as many as the run's inputs have tokens: `[entries, features]` to `[sequence, features]`
    pub(super) fn first_entries(&mut self, name: &str, table: &Value) -> Value {
        let (zero, one, two) = (self.integers(&[0]), self.integers(&[1]), self.integers(&[2]));
        let sizes = self.sizes();
        let length = vec![Dim::Fixed(1)];
        let length =
            self.integer_node("Slice", &format!("{name}.length"), &[&sizes, &one, &two], &[], length);
        let dims = vec![Dim::Sequence(1), table.dims[1]];
        self.node("Slice", name, &[table, &zero, &length], &[], dims)
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
