//! The Mamba layer as one operation against the same layer as a chain of operations.
#![allow(clippy::unwrap_used, missing_docs)]

use std::sync::{Mutex, PoisonError};

use dim_torch::{
    TokenMap,
    ops::{
        CausalConv1dInputs, MambaInputs, MambaKeeps, Projection, SelectiveScanInputs, causal_conv1d, mamba,
        selective_scan,
    },
};
use tch::{Device, Kind, Tensor};

const BATCH: i64 = 2;
const TOKENS: i64 = 13;
const WIDTH: i64 = 10;
const CHANNELS: i64 = 21;
const RANK: i64 = 3;
const STATES: i64 = 8;

fn leaf(shape: &[i64], scale: f64) -> Tensor {
    (Tensor::randn(shape, (Kind::Float, Device::Cpu)) * scale).detach().set_requires_grad(true)
}

/// Input, and the parameters in the order in which the operation takes them.
fn leaves() -> Vec<Tensor> {
    // libtorch's generator is one for all threads, and each test may run on its own.
    static DRAWS: Mutex<()> = Mutex::new(());
    let _alone = DRAWS.lock().unwrap_or_else(PoisonError::into_inner);
    tch::manual_seed(7);
    vec![
        leaf(&[BATCH, TOKENS, WIDTH], 1.0),
        leaf(&[2 * CHANNELS, WIDTH], 0.4),
        leaf(&[CHANNELS, 3], 0.6),
        leaf(&[CHANNELS], 0.3),
        leaf(&[RANK + 2 * STATES, CHANNELS], 0.4),
        leaf(&[CHANNELS, RANK], 0.6),
        leaf(&[CHANNELS], 0.5),
        leaf(&[CHANNELS, STATES], 0.5),
        leaf(&[CHANNELS], 1.0),
        leaf(&[WIDTH, CHANNELS], 0.3),
    ]
}

fn as_one(leaves: &[Tensor], map: &TokenMap, keeps: MambaKeeps) -> Tensor {
    let projection = |index: usize| Projection { weight: &leaves[index], computed: &leaves[index], sum: None };
    let inputs = MambaInputs {
        input: &leaves[0],
        in_proj: projection(1),
        conv_weight: &leaves[2],
        conv_bias: &leaves[3],
        x_proj: projection(4),
        dt_proj: projection(5),
        delta_bias: &leaves[6],
        a_log: &leaves[7],
        a: &-leaves[7].detach().exp(),
        d: &leaves[8],
        out_proj: projection(9),
    };
    mamba(&inputs, Some(map), keeps).unwrap()
}

fn as_a_chain(leaves: &[Tensor], map: &TokenMap) -> Tensor {
    let linear = |x: &Tensor, index: usize| x.linear(&leaves[index], None::<&Tensor>);
    let xz = linear(&leaves[0], 1);
    let (x, z) = (xz.narrow(2, 0, CHANNELS), xz.narrow(2, CHANNELS, CHANNELS));
    let inputs = CausalConv1dInputs { x: &x, weight: &leaves[2], bias: Some(&leaves[3]), silu: true };
    let u = causal_conv1d(&inputs, Some(map)).unwrap();
    let projected = linear(&u, 4);
    let inputs = SelectiveScanInputs {
        u: &u,
        delta: &linear(&projected.narrow(2, 0, RANK), 5),
        a: &-leaves[7].exp(),
        b: &projected.narrow(2, RANK, STATES),
        c: &projected.narrow(2, RANK + STATES, STATES),
        d: Some(&leaves[8]),
        z: Some(&z),
        delta_bias: Some(&leaves[6]),
        initial_state: None,
        delta_softplus: true,
    };
    linear(&selective_scan(&inputs, Some(map)).unwrap(), 9)
}

/// The output, and the gradient of every leaf.
fn evaluate(layer: impl Fn(&[Tensor]) -> Tensor) -> Vec<Tensor> {
    let leaves = leaves();
    let out = layer(&leaves);
    let weights = Tensor::arange(out.numel() as i64, (Kind::Float, Device::Cpu)).sin().view_as(&out);
    (&out * weights).sum(Kind::Float).backward();
    std::iter::once(out.detach()).chain(leaves.iter().map(Tensor::grad)).collect()
}

fn map() -> TokenMap {
    TokenMap::new((0..TOKENS as u32).map(|step| (step * 5 + 3) % TOKENS as u32).collect()).unwrap()
}

#[test]
fn one_operation_computes_what_the_chain_computes_and_every_gradient() {
    let expected = evaluate(|leaves| as_a_chain(leaves, &map()));
    for keeps in [MambaKeeps::ScanOutput, MambaKeeps::Nothing] {
        let found = evaluate(|leaves| as_one(leaves, &map(), keeps));
        for (index, (found, expected)) in found.iter().zip(&expected).enumerate() {
            let largest = expected.abs().max().double_value(&[]);
            let error = (found - expected).abs().max().double_value(&[]) / largest;
            assert!(largest > 0.0 && error < 2e-6, "{keeps:?}, tensor {index}: {error}");
        }
    }
}

#[test]
fn what_is_kept_changes_no_bit() {
    let of = |keeps| evaluate(|leaves| as_one(leaves, &map(), keeps));
    let (all, nothing) = (of(MambaKeeps::ScanOutput), of(MambaKeeps::Nothing));
    assert!(all.iter().zip(&nothing).all(|(one, other)| one.equal(other)));
}

#[test]
fn wrong_shape_is_an_error_that_names_the_argument() {
    let mut leaves = leaves();
    leaves[3] = leaf(&[CHANNELS + 1], 1.0);
    let projection = |index: usize| Projection { weight: &leaves[index], computed: &leaves[index], sum: None };
    let inputs = MambaInputs {
        input: &leaves[0],
        in_proj: projection(1),
        conv_weight: &leaves[2],
        conv_bias: &leaves[3],
        x_proj: projection(4),
        dt_proj: projection(5),
        delta_bias: &leaves[6],
        a_log: &leaves[7],
        a: &-leaves[7].detach().exp(),
        d: &leaves[8],
        out_proj: projection(9),
    };
    let error = mamba(&inputs, Some(&map()), MambaKeeps::Nothing).unwrap_err().to_string();
    assert!(error.contains("bias") && error.contains("22"), "{error}");
}
