//! The convolutional network as an ONNX graph: the second of the two walks over this family.
//!
//! Images stay channels-first, as ONNX's `Conv` takes them. Batch normalisation is in the weights. A subnet of a
//! smaller resolution takes the full image and reduces it itself, by gathers along rows and columns, so every
//! subnet of a space has the same input.

use elastic_space::conv::{Activation, ConvBlock, ConvSpace, ConvSubnet, Padding, STEM_KERNEL, Taps};

use super::builder::{Attribute, Dim, GraphBuilder, Value, fixed};
use super::operators::Window;
use super::{Batch, INPUT, OUTPUT, Tensors};

/// The walk over one subnet.
struct Walk<'a> {
    graph: &'a mut GraphBuilder,
    tensors: &'a Tensors<'a>,
    padding: Padding,
}

/// Adds the network between the images and the logits.
///
/// # Shapes
///
/// images `[batch, channels, height, width]`, logits `[batch, classes]`
pub(super) fn add(
    graph: &mut GraphBuilder,
    space: &ConvSpace,
    subnet: &ConvSubnet,
    batch: Batch,
    tensors: &Tensors<'_>,
) -> Value {
    let image = [space.channels, space.image_size, space.image_size];
    let images = graph.input(INPUT, [vec![batch.dim()], fixed(&image)].concat());
    let mut walk = Walk { graph, tensors, padding: space.padding };
    let x = walk.resize(&images, subnet.resolution);
    let window = walk.window(&x, STEM_KERNEL, space.stem.stride, 1);
    let mut x = walk.active_conv("stem", &x, subnet.stem, window, space.activation);
    for block in space.blocks(subnet) {
        x = walk.block(&x, &block);
    }
    let x = walk.active_conv("head", &x, subnet.head, Window::PIXEL, space.activation);
    let x = walk.graph.mean_pixels("pool", &x);
    let mut x = walk.graph.reshape("pool.rows", &x, vec![batch.dim(), Dim::Fixed(subnet.head)]);
    if let Some(outputs) = subnet.head_hidden {
        let hidden = walk.linear("hidden", "hidden", &x, outputs);
        x = walk.activation("hidden.act", &hidden, space.activation);
    }
    walk.linear(OUTPUT, "classifier", &x, space.classes)
}

impl Walk<'_> {
    /// Images of `size` rows and columns, by bilinear interpolation.
    fn resize(&mut self, images: &Value, size: usize) -> Value {
        let mut x = images.clone();
        for (axis, name) in [(2, "rows"), (3, "columns")] {
            let Dim::Fixed(from) = x.dims[axis] else { unreachable!("pixels do not depend on the batch") };
            if from == size {
                continue;
            }
            let Taps { lower, upper, share } = Taps::new(from, size);
            let mut dims = x.dims.clone();
            dims[axis] = Dim::Fixed(size);
            let mut pick = |part: &str, at: Vec<usize>| {
                let at: Vec<i64> = at.into_iter().map(|at| at as i64).collect();
                let (at, axis) = (self.graph.integers(&at), ("axis", Attribute::Int(axis as i64)));
                self.graph.node("Gather", &format!("resize.{name}.{part}"), &[&x, &at], &[axis], dims.clone())
            };
            let (lower, upper) = (pick("lower", lower), pick("upper", upper));
            let shape = if axis == 2 { vec![size, 1] } else { vec![size] };
            let share = self.graph.floats(&format!("float.resize.{name}"), &shape, &share);
            let step =
                self.graph.node("Sub", &format!("resize.{name}.step"), &[&upper, &lower], &[], dims.clone());
            let part =
                self.graph.node("Mul", &format!("resize.{name}.part"), &[&step, &share], &[], dims.clone());
            x = self.graph.node("Add", &format!("resize.{name}"), &[&lower, &part], &[], dims);
        }
        x
    }

    /// What a convolution sees of square images.
    fn window(&self, x: &Value, kernel: usize, stride: usize, groups: usize) -> Window {
        let Dim::Fixed(side) = x.dims[2] else { unreachable!("pixels do not depend on the batch") };
        Window { kernel, stride, zeros: self.padding.zeros(kernel, stride, side), groups }
    }

    fn block(&mut self, input: &Value, block: &ConvBlock) -> Value {
        let name = |part: &str| format!("{}.{part}", block.name);
        let mut x = input.clone();
        if block.expands {
            x = self.active_conv(&name("expand"), &x, block.hidden, Window::PIXEL, block.activation);
        }
        let window = self.window(&x, block.kernel, block.stride, block.hidden);
        x = self.active_conv(&name("depthwise"), &x, block.hidden, window, block.activation);
        if let Some(width) = block.squeeze {
            let means = self.graph.mean_pixels(&name("means"), &x);
            let features = self.active_conv(&name("squeeze"), &means, width, Window::PIXEL, Activation::Relu);
            let gate = self.conv(&name("excite"), &features, block.hidden, Window::PIXEL);
            let gate = self.graph.hard_sigmoid(&name("gate"), &gate);
            x = self.graph.node("Mul", &name("weighed"), &[&x, &gate], &[], x.dims.clone());
        }
        x = self.conv(&name("project"), &x, block.outputs, Window::PIXEL);
        if block.residual { self.graph.add(&name("sum"), &x, input) } else { x }
    }

    /// A convolution and the function after it.
    fn active_conv(
        &mut self,
        layer: &str,
        x: &Value,
        outputs: usize,
        window: Window,
        activation: Activation,
    ) -> Value {
        let x = self.conv(layer, x, outputs, window);
        self.activation(&format!("{layer}.act"), &x, activation)
    }

    /// The convolution `layer` with its weights; the result has its name.
    fn conv(&mut self, layer: &str, x: &Value, outputs: usize, window: Window) -> Value {
        let Dim::Fixed(inputs) = x.dims[1] else { unreachable!("channels do not depend on the batch") };
        let shape = [outputs, inputs / window.groups, window.kernel, window.kernel];
        let weight = self.constant(&format!("{layer}.weight"), &shape);
        let bias = self.constant(&format!("{layer}.bias"), &[outputs]);
        self.graph.conv(layer, x, &weight, &bias, window)
    }

    /// The linear layer `layer` with its weights; the result is called `name`.
    fn linear(&mut self, name: &str, layer: &str, x: &Value, outputs: usize) -> Value {
        let Dim::Fixed(inputs) = x.dims[1] else { unreachable!("features do not depend on the batch") };
        let weight = self.constant(&format!("{layer}.weight"), &[inputs, outputs]);
        let bias = self.constant(&format!("{layer}.bias"), &[outputs]);
        self.graph.linear(name, x, &weight, &bias)
    }

    fn constant(&mut self, name: &str, shape: &[usize]) -> Value {
        let values = self.tensors.get(name, shape);
        self.graph.floats(name, shape, &values)
    }

    fn activation(&mut self, name: &str, x: &Value, activation: Activation) -> Value {
        match activation {
            Activation::Relu => self.graph.node("Relu", name, &[x], &[], x.dims.clone()),
            Activation::Relu6 => self.graph.relu6(name, x),
            Activation::HardSwish => self.graph.hard_swish(name, x),
        }
    }
}
