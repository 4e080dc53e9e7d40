//! The differentiable scan and convolution against the same recurrences written as libtorch operations.
#![allow(clippy::unwrap_used, missing_docs)]

use dim_torch::{
    TokenMap,
    ops::{CausalConv1dInputs, SelectiveScanInputs, causal_conv1d, selective_scan, selective_scan_with_last_state},
};
use tch::{Device, Kind, Tensor};

const BATCH: i64 = 2;
const TOKENS: i64 = 13;
const CHANNELS: i64 = 21;
const STATES: i64 = 16;

fn random(shape: &[i64]) -> Tensor {
    Tensor::randn(shape, (Kind::Float, Device::Cpu))
}

fn leaf(tensor: Tensor) -> Tensor {
    tensor.detach().set_requires_grad(true)
}

/// An order of the tokens that is no identity and not its own inverse.
fn map() -> TokenMap {
    TokenMap::new((0..TOKENS as u32).map(|step| (step * 5 + 3) % TOKENS as u32).collect()).unwrap()
}

fn index(map: &TokenMap) -> Tensor {
    Tensor::from_slice(&map.as_slice().iter().map(|&token| i64::from(token)).collect::<Vec<_>>())
}

struct Leaves {
    u: Tensor,
    delta: Tensor,
    a: Tensor,
    bc: Tensor,
    d: Tensor,
    z: Tensor,
    delta_bias: Tensor,
    initial_state: Tensor,
}

impl Leaves {
    fn new(seed: i64) -> Self {
        tch::manual_seed(seed);
        Self {
            u: leaf(random(&[BATCH, TOKENS, CHANNELS])),
            delta: leaf(random(&[BATCH, TOKENS, CHANNELS])),
            a: leaf(-random(&[CHANNELS, STATES]).exp()),
            bc: leaf(random(&[BATCH, TOKENS, 2 * STATES])),
            d: leaf(random(&[CHANNELS])),
            z: leaf(random(&[BATCH, TOKENS, CHANNELS])),
            delta_bias: leaf(random(&[CHANNELS])),
            initial_state: leaf(random(&[BATCH, CHANNELS, STATES])),
        }
    }

    fn all(&self) -> [&Tensor; 8] {
        [&self.u, &self.delta, &self.a, &self.bc, &self.d, &self.z, &self.delta_bias, &self.initial_state]
    }

    /// b and c are strided halves of one tensor, as in the network.
    fn halves(&self) -> (Tensor, Tensor) {
        (self.bc.narrow(2, 0, STATES), self.bc.narrow(2, STATES, STATES))
    }
}

/// The recurrence as a loop of libtorch operations, in f64.
fn loop_of_operations(leaves: &Leaves, map: &TokenMap) -> (Tensor, Tensor) {
    let order = index(map);
    let along = |tensor: &Tensor| tensor.to_kind(Kind::Double).index_select(1, &order);
    let (b, c) = leaves.halves();
    let (u, z, b, c) = (along(&leaves.u), along(&leaves.z), along(&b), along(&c));
    let delta = (along(&leaves.delta) + leaves.delta_bias.to_kind(Kind::Double)).softplus();
    let mut state = leaves.initial_state.to_kind(Kind::Double);
    let mut outputs = Vec::new();
    for step in 0..TOKENS {
        let at = |tensor: &Tensor| tensor.select(1, step);
        let decay = (at(&delta).unsqueeze(2) * &leaves.a).exp();
        state = decay * state + (at(&delta) * at(&u)).unsqueeze(2) * at(&b).unsqueeze(1);
        outputs.push((&state * at(&c).unsqueeze(1)).sum_dim_intlist(2, false, Kind::Double));
    }
    let y = (Tensor::stack(&outputs, 1) + &u * &leaves.d) * z.silu();
    (y.index_select(1, &index(&map.inverse())), state)
}

fn largest_relative_error(ours: &Tensor, expected: &Tensor) -> f64 {
    let expected = expected.to_kind(Kind::Double);
    let error = (ours.to_kind(Kind::Double) - &expected).abs().max().double_value(&[]);
    error / expected.abs().max().double_value(&[])
}

#[test]
fn selective_scan_and_all_its_gradients_match_a_loop_of_operations() {
    let map = map();
    let weight = random(&[BATCH, TOKENS, CHANNELS]);
    let run = |scan: &dyn Fn(&Leaves) -> (Tensor, Tensor)| {
        let leaves = Leaves::new(3);
        let (out, state) = scan(&leaves);
        ((&out * &weight).sum(Kind::Double) + state.square().sum(Kind::Double)).backward();
        let gradients: Vec<Tensor> = leaves.all().iter().map(|leaf| leaf.grad()).collect();
        (out.detach(), state.detach(), gradients)
    };
    let ours = run(&|leaves| {
        let (b, c) = leaves.halves();
        let inputs = SelectiveScanInputs {
            u: &leaves.u,
            delta: &leaves.delta,
            a: &leaves.a,
            b: &b,
            c: &c,
            d: Some(&leaves.d),
            z: Some(&leaves.z),
            delta_bias: Some(&leaves.delta_bias),
            initial_state: Some(&leaves.initial_state),
            delta_softplus: true,
        };
        selective_scan_with_last_state(&inputs, Some(&map)).unwrap()
    });
    let expected = run(&|leaves| loop_of_operations(leaves, &map));
    assert!(largest_relative_error(&ours.0, &expected.0) < 2e-6);
    assert!(largest_relative_error(&ours.1, &expected.1) < 2e-6);
    for (index, (ours, expected)) in ours.2.iter().zip(&expected.2).enumerate() {
        let error = largest_relative_error(ours, expected);
        assert!(error < 5e-6, "gradient {index}: {error}");
    }
}

#[test]
fn causal_conv1d_and_its_gradients_match_libtorch_along_a_map() {
    let map = map();
    tch::manual_seed(5);
    let (x, weight, bias) = (random(&[BATCH, TOKENS, CHANNELS]), random(&[CHANNELS, 3]), random(&[CHANNELS]));
    let upstream = random(&[BATCH, TOKENS, CHANNELS]);
    let run = |convolve: &dyn Fn(&Tensor, &Tensor, &Tensor) -> Tensor| {
        let leaves = [leaf(x.shallow_clone()), leaf(weight.shallow_clone()), leaf(bias.shallow_clone())];
        let out = convolve(&leaves[0], &leaves[1], &leaves[2]);
        (&out * &upstream).sum(Kind::Float).backward();
        let gradients: Vec<Tensor> = leaves.iter().map(Tensor::grad).collect();
        (out.detach(), gradients)
    };
    let ours = run(&|x, weight, bias| {
        causal_conv1d(&CausalConv1dInputs { x, weight, bias: Some(bias), silu: true }, Some(&map)).unwrap()
    });
    let expected = run(&|x, weight, bias| {
        let ordered = x.index_select(1, &index(&map)).transpose(1, 2);
        let out = ordered.conv1d(&weight.unsqueeze(1), Some(bias), 1, 2, 1, CHANNELS).narrow(2, 0, TOKENS).silu();
        out.transpose(1, 2).index_select(1, &index(&map.inverse()))
    });
    assert!(largest_relative_error(&ours.0, &expected.0) < 2e-6);
    for (ours, expected) in ours.1.iter().zip(&expected.1) {
        assert!(largest_relative_error(ours, expected) < 5e-6);
    }
}

#[test]
fn a_shape_that_does_not_fit_is_named() {
    let leaves = Leaves::new(1);
    let (b, c) = leaves.halves();
    let short = leaves.delta.narrow(1, 0, TOKENS - 1);
    let inputs = SelectiveScanInputs {
        u: &leaves.u,
        delta: &short,
        a: &leaves.a,
        b: &b,
        c: &c,
        d: None,
        z: None,
        delta_bias: None,
        initial_state: None,
        delta_softplus: false,
    };
    let error = selective_scan(&inputs, None).unwrap_err().to_string();
    assert!(error.contains("delta") && error.contains("13"), "{error}");

    let double = leaves.u.to_kind(Kind::Double);
    let error = selective_scan(&SelectiveScanInputs { u: &double, delta: &leaves.delta, ..inputs }, None);
    let error = error.unwrap_err().to_string();
    assert!(error.contains("`u` must be f32, f16 or bf16, got Double"), "{error}");
}
