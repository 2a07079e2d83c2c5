//! How the operations take part in automatic differentiation.

use burn::backend::autodiff::NodeId;
use burn::backend::autodiff::checkpoint::base::Checkpointer;
use burn::backend::autodiff::checkpoint::strategy::CheckpointStrategy;
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind, unary};
use burn::backend::tensor::FloatTensor;
use burn::backend::{Autodiff, AutodiffBackend, TensorMetadata};

use super::{Activation, ConvolutionOps, Window};

#[derive(Debug)]
struct Depthwise;

#[derive(Debug)]
struct Convolution;

#[derive(Debug)]
struct BatchNorm;

#[derive(Debug)]
struct Piecewise;

#[derive(Debug)]
struct ScaleChannels;

#[derive(Debug)]
struct MeanPixels;

impl<B: ConvolutionOps> Backward<B, 2> for Depthwise {
    /// The input, the weight and the window.
    type State = (NodeId, NodeId, Window);

    fn backward(self, ops: Ops<Self::State, 2>, grads: &mut Gradients, checkpointer: &mut Checkpointer) {
        let (x, weight, window) = ops.state;
        let x = checkpointer.retrieve_node_output(x);
        let weight = checkpointer.retrieve_node_output(weight);
        let gradient = grads.consume::<B>(&ops.node);
        let (for_x, for_weight) = B::depthwise_backward(x, weight, gradient, window);
        for (parent, gradient) in ops.parents.into_iter().zip([for_x, for_weight]) {
            if let Some(node) = parent {
                grads.register::<B>(node.id, gradient);
            }
        }
    }
}

impl<B: ConvolutionOps> Backward<B, 2> for Convolution {
    /// The input and the weight, each kept where the other has a gradient, the shape of the input, and the window.
    type State = (Option<NodeId>, Option<NodeId>, [usize; 4], Window);

    fn backward(self, ops: Ops<Self::State, 2>, grads: &mut Gradients, checkpointer: &mut Checkpointer) {
        let (x, weight, shape, window) = ops.state;
        let mut kept = |node: Option<NodeId>| -> Option<FloatTensor<B>> {
            node.map(|node| checkpointer.retrieve_node_output(node))
        };
        let (x, weight) = (kept(x), kept(weight));
        let gradient = grads.consume::<B>(&ops.node);
        let [x_node, weight_node] = ops.parents;
        if let (Some(node), Some(x)) = (weight_node, x) {
            let for_weight = B::full_convolution_backward_weight(x, gradient.clone(), window);
            grads.register::<B>(node.id, for_weight);
        }
        if let (Some(node), Some(weight)) = (x_node, weight) {
            let for_x = B::full_convolution_backward_x(weight, gradient, shape, window);
            grads.register::<B>(node.id, for_x);
        }
    }
}

impl<B: ConvolutionOps> Backward<B, 3> for BatchNorm {
    /// The input, gamma and epsilon.
    type State = (NodeId, NodeId, f32);

    fn backward(self, ops: Ops<Self::State, 3>, grads: &mut Gradients, checkpointer: &mut Checkpointer) {
        let (x, gamma, epsilon) = ops.state;
        let x = checkpointer.retrieve_node_output(x);
        let gamma = checkpointer.retrieve_node_output(gamma);
        let gradient = grads.consume::<B>(&ops.node);
        let (for_x, for_gamma, for_beta) = B::fused_batch_norm_backward(x, gamma, gradient, epsilon);
        for (parent, gradient) in ops.parents.into_iter().zip([for_x, for_gamma, for_beta]) {
            if let Some(node) = parent {
                grads.register::<B>(node.id, gradient);
            }
        }
    }
}

impl<B: ConvolutionOps> Backward<B, 1> for Piecewise {
    /// The input and the function.
    type State = (NodeId, Activation);

    fn backward(self, ops: Ops<Self::State, 1>, grads: &mut Gradients, checkpointer: &mut Checkpointer) {
        let (x, kind) = ops.state;
        let x = checkpointer.retrieve_node_output(x);
        unary::<B, _>(ops.parents, ops.node, grads, |gradient| B::piecewise_backward(x, gradient, kind));
    }
}

impl<B: ConvolutionOps> Backward<B, 2> for ScaleChannels {
    /// The input and the gate.
    type State = (NodeId, NodeId);

    fn backward(self, ops: Ops<Self::State, 2>, grads: &mut Gradients, checkpointer: &mut Checkpointer) {
        let (x, gate) = ops.state;
        let x = checkpointer.retrieve_node_output(x);
        let gate = checkpointer.retrieve_node_output(gate);
        let gradient = grads.consume::<B>(&ops.node);
        let (for_x, for_gate) = B::scale_channels_backward(x, gate, gradient);
        for (parent, gradient) in ops.parents.into_iter().zip([for_x, for_gate]) {
            if let Some(node) = parent {
                grads.register::<B>(node.id, gradient);
            }
        }
    }
}

impl<B: ConvolutionOps> Backward<B, 1> for MeanPixels {
    /// Height and width of the input.
    type State = [usize; 2];

    fn backward(self, ops: Ops<Self::State, 1>, grads: &mut Gradients, _checkpointer: &mut Checkpointer) {
        unary::<B, _>(ops.parents, ops.node, grads, |gradient| B::mean_pixels_backward(gradient, ops.state));
    }
}

impl<B: ConvolutionOps, C: CheckpointStrategy> ConvolutionOps for Autodiff<B, C> {
    fn depthwise(x: FloatTensor<Self>, weight: FloatTensor<Self>, window: Window) -> FloatTensor<Self> {
        match Depthwise.prepare::<C>([x.node(), weight.node()]).compute_bound().stateful() {
            OpsKind::Tracked(mut prep) => {
                let state = (prep.checkpoint(&x), prep.checkpoint(&weight), window);
                prep.finish(state, B::depthwise(x.into_primitive(), weight.into_primitive(), window))
            }
            OpsKind::UnTracked(prep) => {
                prep.finish(B::depthwise(x.into_primitive(), weight.into_primitive(), window))
            }
        }
    }

    fn full_convolution(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        window: Window,
    ) -> FloatTensor<Self> {
        let shape = x.shape().dims();
        let tracked = (x.is_tracked(), weight.is_tracked());
        match Convolution.prepare::<C>([x.node(), weight.node()]).compute_bound().stateful() {
            OpsKind::Tracked(mut prep) => {
                let x_node = tracked.1.then(|| prep.checkpoint(&x));
                let weight_node = tracked.0.then(|| prep.checkpoint(&weight));
                let y = B::full_convolution(x.into_primitive(), weight.into_primitive(), window);
                prep.finish((x_node, weight_node, shape, window), y)
            }
            OpsKind::UnTracked(prep) => {
                prep.finish(B::full_convolution(x.into_primitive(), weight.into_primitive(), window))
            }
        }
    }

    fn column_moments(x: FloatTensor<Self>) -> (FloatTensor<Self>, FloatTensor<Self>) {
        let (mean, variance) = B::column_moments(x.into_primitive());
        (Self::from_inner(mean), Self::from_inner(variance))
    }

    fn fused_batch_norm(
        x: FloatTensor<Self>,
        gamma: FloatTensor<Self>,
        beta: FloatTensor<Self>,
        epsilon: f32,
    ) -> FloatTensor<Self> {
        let nodes = [x.node(), gamma.node(), beta.node()];
        match BatchNorm.prepare::<C>(nodes).compute_bound().stateful() {
            OpsKind::Tracked(mut prep) => {
                let state = (prep.checkpoint(&x), prep.checkpoint(&gamma), epsilon);
                let (x, gamma, beta) = (x.into_primitive(), gamma.into_primitive(), beta.into_primitive());
                prep.finish(state, B::fused_batch_norm(x, gamma, beta, epsilon))
            }
            OpsKind::UnTracked(prep) => {
                let (x, gamma, beta) = (x.into_primitive(), gamma.into_primitive(), beta.into_primitive());
                prep.finish(B::fused_batch_norm(x, gamma, beta, epsilon))
            }
        }
    }

    fn piecewise(x: FloatTensor<Self>, kind: Activation) -> FloatTensor<Self> {
        match Piecewise.prepare::<C>([x.node()]).compute_bound().stateful() {
            OpsKind::Tracked(mut prep) => {
                let state = (prep.checkpoint(&x), kind);
                prep.finish(state, B::piecewise(x.into_primitive(), kind))
            }
            OpsKind::UnTracked(prep) => prep.finish(B::piecewise(x.into_primitive(), kind)),
        }
    }

    fn scale_channels(x: FloatTensor<Self>, gate: FloatTensor<Self>) -> FloatTensor<Self> {
        match ScaleChannels.prepare::<C>([x.node(), gate.node()]).compute_bound().stateful() {
            OpsKind::Tracked(mut prep) => {
                let state = (prep.checkpoint(&x), prep.checkpoint(&gate));
                prep.finish(state, B::scale_channels(x.into_primitive(), gate.into_primitive()))
            }
            OpsKind::UnTracked(prep) => {
                prep.finish(B::scale_channels(x.into_primitive(), gate.into_primitive()))
            }
        }
    }

    fn mean_pixels(x: FloatTensor<Self>) -> FloatTensor<Self> {
        let [_, height, width, _] = x.shape().dims();
        match MeanPixels.prepare::<C>([x.node()]).compute_bound().stateful() {
            OpsKind::Tracked(prep) => prep.finish([height, width], B::mean_pixels(x.into_primitive())),
            OpsKind::UnTracked(prep) => prep.finish(B::mean_pixels(x.into_primitive())),
        }
    }
}
