//! AdamW, its decay and the norm of a gradient, by hand.

use burn::module::{Module, ModuleVisitor, Param, ParamGroup, ParamId};
use burn::optim::{AdamWConfig, GradientsParams};
use burn::tensor::{Device, Tensor, TensorData};
use elastic_space::choices::{DropPolicy, Granularity};
use elastic_space::random::Purpose;
use elastic_space::vit::{Pooling, VitSpace};
use elastic_space::{SearchSpace, Seed};
use elastic_trainer::config::Optimizer;
use elastic_trainer::optimizer::{adamw, averaged, norm};
use elastic_trainer::supernet::Network;
use elastic_trainer::{Supernet, parameters};
use rand::Rng;

use crate::reference;
use crate::step::named;
use crate::support::{self, scaled, supernet, vit_space, worst};

fn shared() -> Supernet {
    supernet(support::space(), 1, &Device::flex().autodiff())
}

fn gradient(values: &[f32]) -> Tensor<1> {
    Tensor::from_floats(values, &Device::flex())
}

/// The parameters that decay.
fn decayed(network: &Network) -> Vec<ParamId> {
    let weights = parameters::collect(network);
    let decaying = weights.iter().filter(|(name, array)| parameters::decays(name, array));
    decaying.map(|(name, _)| parameters::id(name)).collect()
}

#[test]
fn decay_is_for_matrices_only() {
    struct Names {
        path: Vec<String>,
        wanted: Vec<ParamId>,
        found: Vec<String>,
    }
    impl ModuleVisitor for Names {
        fn enter_module(&mut self, name: &str, _container: &str) {
            self.path.push(name.to_owned());
        }
        fn exit_module(&mut self, _name: &str, _container: &str) {
            self.path.pop();
        }
        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
            if self.wanted.contains(&param.id) {
                self.found.push(self.path[1..].join("."));
            }
        }
    }
    let space = vit_space(Pooling::ClassToken, DropPolicy::Prefix, Granularity::Network);
    let shared = supernet(SearchSpace::Vit(space), 1, &Device::flex());
    let wanted = decayed(&shared.network);
    let mut names = Names { path: Vec::new(), wanted, found: Vec::new() };
    shared.network.visit(&mut names);
    let mut expected = vec!["patch_embed.proj.weight".to_owned()];
    for block in 0..3 {
        for part in ["attn.qkv", "attn.proj", "mlp.fc1", "mlp.fc2"] {
            expected.push(format!("blocks.{block}.{part}.weight"));
        }
    }
    expected.push("head.weight".to_owned());
    assert_eq!(names.found, expected);
}

#[test]
fn two_steps_by_hand() {
    let config = Optimizer { weight_decay: 0.5, beta1: 0.9, beta2: 0.99 };
    let mut shared = shared();
    let before = parameters::collect(&shared.network);
    let mut optimizer = adamw(&config, &shared.network);
    // Step 1 with gradient 2: both moments are those of the gradient alone, so the update is 1.
    // Step 2 with gradient -1: m = 0.9 * 0.2 - 0.1 = 0.08, over 1 - 0.81 = 0.42105;
    // v = 0.99 * 0.04 + 0.01 = 0.0496, over 1 - 0.9801 = 2.49246; the update is m / sqrt(v) = 0.26670.
    for value in [2.0, -1.0] {
        let mut gradients = GradientsParams::new();
        let Network::Vit(vit) = &shared.network else { panic!("a vision transformer") };
        gradients.register(vit.head.weight.id, Tensor::<2>::full([13, 3], value, &Device::flex()));
        gradients.register(vit.head.bias.id, Tensor::<1>::full([3], value, &Device::flex()));
        shared.network = optimizer.step(0.1, shared.network, gradients, 1.0);
    }
    let after = parameters::collect(&shared.network);
    for (name, array) in &before {
        let expected: Vec<f64> = array
            .data
            .iter()
            .map(|&old| match name.as_str() {
                // Decay takes 0.1 * 0.5 of the weight each time.
                "head.weight" => (f64::from(old) * 0.95 - 0.1) * 0.95 - 0.1 * 0.266_700,
                "head.bias" => f64::from(old) - 0.1 - 0.1 * 0.266_700,
                _ => f64::from(old),
            })
            .collect();
        let tolerance = if name.starts_with("head.") { 1e-6 } else { 0.0 };
        assert!(worst(&after[name].data, &expected) <= tolerance, "{name}");
    }
}

/// Gradients of normal values for all parameters but those that `skip` names by their order.
fn random_gradients(network: &Network, seed: u64, skip: impl Fn(usize) -> bool) -> GradientsParams {
    struct Draw<R, S> {
        rng: R,
        skip: S,
        index: usize,
        gradients: GradientsParams,
    }
    impl<R: Rng, S: Fn(usize) -> bool> ModuleVisitor for Draw<R, S> {
        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
            self.index += 1;
            if !(self.skip)(self.index) {
                let shape = param.val().dims();
                let values: Vec<f32> =
                    (0..shape.iter().product()).map(|_| self.rng.random_range(-1.0..1.0)).collect();
                let gradient = Tensor::<D>::from_data(TensorData::new(values, shape), &Device::flex());
                self.gradients.register(param.id, gradient);
            }
        }
    }
    let rng = Seed(seed).generator(Purpose::Init, 0);
    let mut draw = Draw { rng, skip, index: 0, gradients: GradientsParams::new() };
    network.visit(&mut draw);
    draw.gradients
}

#[test]
fn updates_are_those_of_burn() {
    let config = Optimizer { weight_decay: 0.1, beta1: 0.9, beta2: 0.98 };
    let network = shared().network;
    let base = AdamWConfig::new().with_beta_1(0.9).with_beta_2(0.98).with_epsilon(1e-8);
    let decaying = base.clone().with_weight_decay(0.1).build();
    let plain = base.with_weight_decay(0.0).init();
    let mut burns = plain.with_group(ParamGroup::from_ids(decayed(&network)), decaying, None);
    let mut ours = adamw(&config, &network);
    let (mut expected, mut found) = (network.clone(), network);
    for step in 0..6 {
        // Some parameters have no gradient in some steps, as where no subnet reaches them.
        let draw = || random_gradients(&expected, step, |index| (index + step as usize).is_multiple_of(3));
        let factor = if step % 2 == 0 { 1.0 } else { 0.3 };
        let (theirs, mine) = (scaled(draw(), factor, &expected), draw());
        expected = burns.step(0.01, expected, theirs);
        found = ours.step(0.01, found, mine, factor);
        let collected = parameters::collect(&found);
        for (name, array) in parameters::collect(&expected) {
            let values: Vec<f64> = array.data.iter().map(|&value| f64::from(value)).collect();
            let difference = worst(&collected[&name].data, &values);
            assert!(difference <= 1e-6, "step {step}: {name} differs by {difference}");
        }
    }
}

#[test]
fn a_saved_state_goes_on_bit_for_bit() {
    let config = Optimizer { weight_decay: 0.1, beta1: 0.9, beta2: 0.98 };
    let network = shared().network;
    let mut optimizer = adamw(&config, &network);
    let gradients = random_gradients(&network, 1, |index| index == 2);
    let network = optimizer.step(0.01, network, gradients, 1.0);
    let bytes = optimizer.into_bytes().expect("a state");
    let mut again = adamw(&config, &network).from_bytes(&bytes).expect("a state that fits");
    assert!(again.into_bytes().expect("a state") == bytes, "equal states are equal bytes");
    let draw = || random_gradients(&network, 2, |_| false);
    let expected = parameters::collect(&optimizer.step(0.01, network.clone(), draw(), 1.0));
    assert_eq!(parameters::collect(&again.step(0.01, network.clone(), draw(), 1.0)), expected);
    assert!(again.into_bytes().expect("a state") == optimizer.into_bytes().expect("a state"));
}

#[test]
fn a_state_of_other_parameters_is_refused() {
    let config = Optimizer { weight_decay: 0.1, beta1: 0.9, beta2: 0.98 };
    let network = shared().network;
    let mut optimizer = adamw(&config, &network);
    optimizer.step(0.01, network.clone(), random_gradients(&network, 1, |_| false), 1.0);
    let bytes = optimizer.into_bytes().expect("a state");
    let space = vit_space(Pooling::ClassToken, DropPolicy::Prefix, Granularity::Network);
    let other = supernet(SearchSpace::Vit(VitSpace { classes: 9, ..space }), 1, &Device::flex()).network;
    let refused = |bytes: &[u8], network: &Network| {
        adamw(&config, network).from_bytes(bytes).err().expect("it is refused").to_string()
    };
    let text = refused(&bytes, &other);
    assert!(text.contains("there is no tensor first."), "{text}");
    let text = refused(&bytes[..bytes.len() - 1], &network);
    assert!(!text.is_empty(), "{text}");
}

#[test]
fn norm_and_scale_by_hand() {
    let shared = shared();
    let vit = support::vit(&shared);
    let make = || {
        let mut gradients = GradientsParams::new();
        // 4 + 9 + 36 = 49; with 24 * 24 = 576 it is 625 = 25 * 25.
        gradients.register(vit.head.bias.id, gradient(&[2.0, -3.0, 6.0]));
        gradients.register(vit.norm.bias.id, gradient(&[0.0, -24.0]));
        gradients
    };
    assert_eq!(norm(&GradientsParams::new(), &shared.network), 0.0);
    assert!((norm(&make(), &shared.network) - 25.0).abs() < 1e-9);
    let half = scaled(make(), 0.5, &shared.network);
    assert!((norm(&half, &shared.network) - 12.5).abs() < 1e-9);
    let found = named(&half, &shared.network);
    assert_eq!(found.keys().collect::<Vec<_>>(), ["head.bias", "norm.bias"]);
    assert_eq!(found["head.bias"].data, [1.0, -1.5, 3.0]);
    assert_eq!(found["norm.bias"].data, [0.0, -12.0]);
    for value in [f32::NAN, f32::INFINITY] {
        let mut gradients = make();
        gradients.register(vit.head.bias.id, gradient(&[value]));
        assert!(!norm(&gradients, &shared.network).is_finite(), "{value}");
    }
}

#[test]
fn averages_by_hand() {
    let networks = [1, 2, 3, 4].map(|seed| supernet(support::space(), seed, &Device::flex().autodiff()));
    let values = |network: &Network| parameters::collect(network);
    // A young average follows quickly: after n earlier steps it keeps at most (1 + n) / (10 + n).
    for (decay, kept) in [
        (0.9, [(0, 1.0 / 10.0), (1, 2.0 / 11.0), (2, 3.0 / 12.0)]),
        (0.15, [(0, 0.1), (1, 0.15), (2, 0.15)]),
        (0.0, [(0, 0.0), (1, 0.0), (2, 0.0)]),
        // The two are equal at n = 80.
        (0.9, [(79, 80.0 / 89.0), (80, 0.9), (5000, 0.9)]),
    ] {
        let mut average = networks[0].valid().network;
        let mut expected = reference::tensors(&values(&average));
        for (network, (steps, kept)) in networks[1..].iter().zip(kept) {
            average = averaged(average, &network.network, decay, steps);
            for (name, array) in values(&network.network) {
                let mixed = expected[&name]
                    .iter()
                    .zip(array.data)
                    .map(|(a, w)| kept * a + (1.0 - kept) * f64::from(w));
                expected.insert(name, mixed.collect());
            }
            for (name, array) in values(&average) {
                let difference = worst(&array.data, &expected[&name]);
                assert!(difference <= 1e-6, "decay {decay}, {steps} steps: {name} differs by {difference}");
            }
        }
    }
}
