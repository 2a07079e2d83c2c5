//! How the fused operations take part in automatic differentiation.

use burn::backend::Autodiff;
use burn::backend::autodiff::NodeId;
use burn::backend::autodiff::checkpoint::base::Checkpointer;
use burn::backend::autodiff::checkpoint::strategy::CheckpointStrategy;
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind, unary};
use burn::backend::tensor::FloatTensor;

use super::{AttentionShape, FusedOps};

#[derive(Debug)]
struct Gelu;

#[derive(Debug)]
struct Linear;

#[derive(Debug)]
struct LinearAdd;

#[derive(Debug)]
struct CrossEntropy;

#[derive(Debug)]
struct Softmax;

#[derive(Debug)]
struct LayerNorm;

#[derive(Debug)]
struct Attention;

#[derive(Debug)]
struct BiasedAttention;

impl<B: FusedOps> Backward<B, 1> for Gelu {
    /// The derivative: with it the input need not be kept.
    type State = FloatTensor<B>;

    fn backward(self, ops: Ops<Self::State, 1>, grads: &mut Gradients, _checkpointer: &mut Checkpointer) {
        let derivative = ops.state;
        unary::<B, _>(ops.parents, ops.node, grads, |gradient| B::fused_product(derivative, gradient));
    }
}

/// The input and the weights of a linear layer, each kept where the other has a gradient.
type LinearState = (Option<NodeId>, Option<NodeId>);

impl<B: FusedOps> Backward<B, 3> for Linear {
    type State = LinearState;

    fn backward(self, ops: Ops<LinearState, 3>, grads: &mut Gradients, checkpointer: &mut Checkpointer) {
        let gradient = grads.consume::<B>(&ops.node);
        linear_backward::<B>(
            ops.parents.map(|node| node.map(|node| node.id)),
            ops.state,
            gradient,
            grads,
            checkpointer,
        );
    }
}

impl<B: FusedOps> Backward<B, 4> for LinearAdd {
    type State = LinearState;

    fn backward(self, ops: Ops<LinearState, 4>, grads: &mut Gradients, checkpointer: &mut Checkpointer) {
        let gradient = grads.consume::<B>(&ops.node);
        let [x, weight, bias, residual] = ops.parents.map(|node| node.map(|node| node.id));
        if let Some(node) = residual {
            grads.register::<B>(node, gradient.clone());
        }
        linear_backward::<B>([x, weight, bias], ops.state, gradient, grads, checkpointer);
    }
}

fn linear_backward<B: FusedOps>(
    [x_node, weight_node, bias_node]: [Option<NodeId>; 3],
    (x, weight): LinearState,
    gradient: FloatTensor<B>,
    grads: &mut Gradients,
    checkpointer: &mut Checkpointer,
) {
    let mut kept = |node: Option<NodeId>| -> Option<FloatTensor<B>> {
        node.map(|node| checkpointer.retrieve_node_output(node))
    };
    let transposed = |x| B::float_swap_dims(x, 0, 1);
    if let Some(node) = bias_node {
        grads.register::<B>(node, B::fused_sum_rows(gradient.clone()));
    }
    if let (Some(node), Some(x)) = (weight_node, kept(x)) {
        grads.register::<B>(node, B::fused_matmul(transposed(x), gradient.clone()));
    }
    if let (Some(node), Some(weight)) = (x_node, kept(weight)) {
        grads.register::<B>(node, B::fused_matmul(gradient, transposed(weight)));
    }
}

impl<B: FusedOps> Backward<B, 1> for CrossEntropy {
    /// The gradient of the loss.
    type State = FloatTensor<B>;

    fn backward(self, ops: Ops<Self::State, 1>, grads: &mut Gradients, _checkpointer: &mut Checkpointer) {
        let unit = ops.state;
        unary::<B, _>(ops.parents, ops.node, grads, |gradient| {
            B::float_mul(unit, B::float_reshape(gradient, [1, 1].into()))
        });
    }
}

impl<B: FusedOps> Backward<B, 1> for Softmax {
    /// The output and the scale.
    type State = (FloatTensor<B>, f32);

    fn backward(self, ops: Ops<Self::State, 1>, grads: &mut Gradients, _checkpointer: &mut Checkpointer) {
        let (y, scale) = ops.state;
        unary::<B, _>(ops.parents, ops.node, grads, |gradient| B::fused_softmax_backward(y, gradient, scale));
    }
}

impl<B: FusedOps> Backward<B, 1> for Attention {
    /// The queries, keys and values, and how they are read.
    type State = (NodeId, AttentionShape);

    fn backward(self, ops: Ops<Self::State, 1>, grads: &mut Gradients, checkpointer: &mut Checkpointer) {
        let (qkv, shape) = ops.state;
        let qkv = checkpointer.retrieve_node_output(qkv);
        unary::<B, _>(ops.parents, ops.node, grads, |gradient| {
            B::fused_attention_backward(qkv, gradient, shape)
        });
    }
}

impl<B: FusedOps> Backward<B, 2> for BiasedAttention {
    /// The queries, keys and values, the bias, and how they are read.
    type State = (NodeId, NodeId, AttentionShape);

    fn backward(self, ops: Ops<Self::State, 2>, grads: &mut Gradients, checkpointer: &mut Checkpointer) {
        let (qkv, bias, shape) = ops.state;
        let qkv = checkpointer.retrieve_node_output(qkv);
        let bias = checkpointer.retrieve_node_output(bias);
        let gradient = grads.consume::<B>(&ops.node);
        if ops.parents[1].is_none() {
            // A mask of padding does not learn.
            let gradient = B::fused_masked_attention_backward(qkv, bias, gradient, shape);
            if let Some(node) = &ops.parents[0] {
                grads.register::<B>(node.id, gradient);
            }
            return;
        }
        let (for_qkv, for_bias) = B::fused_biased_attention_backward(qkv, bias, gradient, shape);
        for (parent, gradient) in ops.parents.into_iter().zip([for_qkv, for_bias]) {
            if let Some(node) = parent {
                grads.register::<B>(node.id, gradient);
            }
        }
    }
}

impl<B: FusedOps> Backward<B, 3> for LayerNorm {
    /// The input, gamma and epsilon.
    type State = (NodeId, NodeId, f32);

    fn backward(self, ops: Ops<Self::State, 3>, grads: &mut Gradients, checkpointer: &mut Checkpointer) {
        let (x, gamma, epsilon) = ops.state;
        let x = checkpointer.retrieve_node_output(x);
        let gamma = checkpointer.retrieve_node_output(gamma);
        let gradient = grads.consume::<B>(&ops.node);
        let (for_x, for_gamma, for_beta) = B::fused_layer_norm_backward(x, gamma, gradient, epsilon);
        for (parent, gradient) in ops.parents.into_iter().zip([for_x, for_gamma, for_beta]) {
            if let Some(node) = parent {
                grads.register::<B>(node.id, gradient);
            }
        }
    }
}

impl<B: FusedOps, C: CheckpointStrategy> FusedOps for Autodiff<B, C> {
    fn fused_gelu(x: FloatTensor<Self>) -> FloatTensor<Self> {
        match Gelu.prepare::<C>([x.node()]).compute_bound().stateful() {
            OpsKind::Tracked(prep) => {
                let (y, derivative) = B::fused_gelu_and_derivative(x.into_primitive());
                prep.finish(derivative, y)
            }
            OpsKind::UnTracked(prep) => prep.finish(B::fused_gelu(x.into_primitive())),
        }
    }

    fn fused_linear(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        bias: FloatTensor<Self>,
    ) -> FloatTensor<Self> {
        let nodes = [x.node(), weight.node(), bias.node()];
        match Linear.prepare::<C>(nodes).compute_bound().stateful() {
            OpsKind::Tracked(mut prep) => {
                let state = (
                    weight.is_tracked().then(|| prep.checkpoint(&x)),
                    x.is_tracked().then(|| prep.checkpoint(&weight)),
                );
                let (x, weight, bias) = (x.into_primitive(), weight.into_primitive(), bias.into_primitive());
                prep.finish(state, B::fused_linear(x, weight, bias))
            }
            OpsKind::UnTracked(prep) => {
                let (x, weight, bias) = (x.into_primitive(), weight.into_primitive(), bias.into_primitive());
                prep.finish(B::fused_linear(x, weight, bias))
            }
        }
    }

    fn fused_linear_add(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        residual: FloatTensor<Self>,
    ) -> FloatTensor<Self> {
        let nodes = [x.node(), weight.node(), bias.node(), residual.node()];
        let tracked = (x.is_tracked(), weight.is_tracked());
        let prepared = LinearAdd.prepare::<C>(nodes).compute_bound().stateful();
        let run = |x: FloatTensor<Self>, weight: FloatTensor<Self>| {
            let (bias, residual) = (bias.into_primitive(), residual.into_primitive());
            B::fused_linear_add(x.into_primitive(), weight.into_primitive(), bias, residual)
        };
        match prepared {
            OpsKind::Tracked(mut prep) => {
                let state =
                    (tracked.1.then(|| prep.checkpoint(&x)), tracked.0.then(|| prep.checkpoint(&weight)));
                prep.finish(state, run(x, weight))
            }
            OpsKind::UnTracked(prep) => prep.finish(run(x, weight)),
        }
    }

    fn fused_cross_entropy(logits: FloatTensor<Self>, targets: FloatTensor<Self>) -> FloatTensor<Self> {
        let targets = targets.into_primitive();
        match CrossEntropy.prepare::<C>([logits.node()]).compute_bound().stateful() {
            OpsKind::Tracked(prep) => {
                let (loss, unit) = B::fused_cross_entropy_and_gradient(logits.into_primitive(), targets);
                prep.finish(unit, loss)
            }
            OpsKind::UnTracked(prep) => prep.finish(B::fused_cross_entropy(logits.into_primitive(), targets)),
        }
    }

    fn fused_softmax(x: FloatTensor<Self>, scale: f32) -> FloatTensor<Self> {
        match Softmax.prepare::<C>([x.node()]).compute_bound().stateful() {
            OpsKind::Tracked(prep) => {
                let y = B::fused_softmax(x.into_primitive(), scale);
                prep.finish((y.clone(), scale), y)
            }
            OpsKind::UnTracked(prep) => prep.finish(B::fused_softmax(x.into_primitive(), scale)),
        }
    }

    fn fused_layer_norm(
        x: FloatTensor<Self>,
        gamma: FloatTensor<Self>,
        beta: FloatTensor<Self>,
        epsilon: f32,
    ) -> FloatTensor<Self> {
        let nodes = [x.node(), gamma.node(), beta.node()];
        match LayerNorm.prepare::<C>(nodes).compute_bound().stateful() {
            OpsKind::Tracked(mut prep) => {
                let state = (prep.checkpoint(&x), prep.checkpoint(&gamma), epsilon);
                let (x, gamma, beta) = (x.into_primitive(), gamma.into_primitive(), beta.into_primitive());
                prep.finish(state, B::fused_layer_norm(x, gamma, beta, epsilon))
            }
            OpsKind::UnTracked(prep) => {
                let (x, gamma, beta) = (x.into_primitive(), gamma.into_primitive(), beta.into_primitive());
                prep.finish(B::fused_layer_norm(x, gamma, beta, epsilon))
            }
        }
    }

    fn fused_attention(qkv: FloatTensor<Self>, shape: AttentionShape) -> FloatTensor<Self> {
        match Attention.prepare::<C>([qkv.node()]).compute_bound().stateful() {
            OpsKind::Tracked(mut prep) => {
                let state = (prep.checkpoint(&qkv), shape);
                prep.finish(state, B::fused_attention(qkv.into_primitive(), shape))
            }
            OpsKind::UnTracked(prep) => prep.finish(B::fused_attention(qkv.into_primitive(), shape)),
        }
    }

    fn fused_biased_attention(
        qkv: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        shape: AttentionShape,
    ) -> FloatTensor<Self> {
        match BiasedAttention.prepare::<C>([qkv.node(), bias.node()]).compute_bound().stateful() {
            OpsKind::Tracked(mut prep) => {
                let state = (prep.checkpoint(&qkv), prep.checkpoint(&bias), shape);
                let (qkv, bias) = (qkv.into_primitive(), bias.into_primitive());
                prep.finish(state, B::fused_biased_attention(qkv, bias, shape))
            }
            OpsKind::UnTracked(prep) => {
                let (qkv, bias) = (qkv.into_primitive(), bias.into_primitive());
                prep.finish(B::fused_biased_attention(qkv, bias, shape))
            }
        }
    }
}
