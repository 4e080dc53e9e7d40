//! The scan against results of the published reference implementation, in `golden/`.

use std::path::Path;

use dim_kernels::selective_scan::{self, SelectiveScan, SelectiveScanGradients};
use dim_kernels::{Queue, TensorView, TensorViewMut};
use safetensors::SafeTensors;

use crate::buffer::{assert_close, to_f64};

/// Largest error of a tensor, relative to its largest element.
const TOLERANCE: f64 = 1e-5;

struct File<'a> {
    tensors: SafeTensors<'a>,
    case: String,
}

impl File<'_> {
    /// A tensor of the case and its shape, if it is there.
    fn find(&self, name: &str) -> Option<(Vec<f32>, Vec<usize>)> {
        let tensor = self.tensors.tensor(&format!("{}.{name}", self.case)).ok()?;
        assert_eq!(tensor.dtype(), safetensors::Dtype::F32);
        let values = tensor.data().chunks_exact(4).map(|bytes| f32::from_le_bytes(bytes.try_into().unwrap()));
        Some((values.collect(), tensor.shape().to_vec()))
    }

    fn get(&self, name: &str) -> (Vec<f32>, Vec<usize>) {
        self.find(name).unwrap_or_else(|| panic!("{}.{name} is missing", self.case))
    }

    /// A tensor stored as `[batch, channel, token]`, as `[batch, token, channel]`.
    fn find_token_major(&self, name: &str) -> Option<Vec<f32>> {
        let (values, shape) = self.find(name)?;
        let [batch, rows, columns] = shape[..] else { panic!("{name} has the shape {shape:?}") };
        let at = |b: usize, column: usize, row: usize| values[(b * rows + row) * columns + column];
        let indices = (0..batch).flat_map(|b| (0..columns).flat_map(move |c| (0..rows).map(move |r| (b, c, r))));
        Some(indices.map(|(b, column, row)| at(b, column, row)).collect())
    }

    fn get_token_major(&self, name: &str) -> Vec<f32> {
        self.find_token_major(name).unwrap_or_else(|| panic!("{}.{name} is missing", self.case))
    }
}

#[test]
fn forward_and_backward_match_the_published_implementation() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../golden/selective_scan.safetensors");
    let bytes = std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let names = SafeTensors::deserialize(&bytes).unwrap();
    let mut cases: Vec<_> = names.names().into_iter().filter_map(|name| name.strip_suffix(".u")).collect();
    cases.sort_unstable();
    assert!(!cases.is_empty());
    for case in cases {
        check(&File { tensors: SafeTensors::deserialize(&bytes).unwrap(), case: case.to_owned() });
    }
}

fn check(file: &File<'_>) {
    let (_, u_shape) = file.get("u");
    let (a, a_shape) = file.get("A");
    let [batch, channel, token] = u_shape[..] else { panic!("u has the shape {u_shape:?}") };
    let state = a_shape[1];
    let (sequence, matrix) = ([batch, token, channel], [batch, token, state]);

    let [u, delta, b, c] = ["u", "delta", "B", "C"].map(|name| file.get_token_major(name));
    let z = file.find_token_major("z");
    let d = file.find("D").map(|(values, _)| values);
    let delta_bias = file.find("delta_bias").map(|(values, _)| values);
    let view = |values, shape: &[usize]| TensorView::from_slice(values, shape).unwrap();
    let scan = SelectiveScan {
        u: view(&u, &sequence),
        delta: view(&delta, &sequence),
        a: view(&a, &a_shape),
        b: view(&b, &matrix),
        c: view(&c, &matrix),
        d: d.as_deref().map(|values| view(values, &[channel])),
        z: z.as_deref().map(|values| view(values, &sequence)),
        delta_bias: delta_bias.as_deref().map(|values| view(values, &[channel])),
        delta_softplus: !file.case.starts_with("no_softplus") && !file.case.starts_with("bare"),
        initial_state: None,
        token_map: None,
    };

    let (mut out, mut last_state) = (vec![f32::NAN; u.len()], vec![f32::NAN; batch * channel * state]);
    let out_view = TensorViewMut::from_slice(&mut out, &sequence).unwrap();
    let last_view = TensorViewMut::from_slice(&mut last_state, &[batch, channel, state]).unwrap();
    selective_scan::forward(&Queue::Cpu, &scan, out_view, Some(last_view)).unwrap();

    let grad_out = file.get_token_major("dout");
    let [mut grad_u, mut grad_delta, mut grad_a, mut grad_b, mut grad_c, mut grad_z] =
        [&u, &delta, &a, &b, &c, &u].map(|like| vec![f32::NAN; like.len()]);
    let (mut grad_d, mut grad_delta_bias) = (vec![f32::NAN; channel], vec![f32::NAN; channel]);
    let gradients = SelectiveScanGradients {
        u: TensorViewMut::from_slice(&mut grad_u, &sequence).unwrap(),
        delta: TensorViewMut::from_slice(&mut grad_delta, &sequence).unwrap(),
        a: TensorViewMut::from_slice(&mut grad_a, &a_shape).unwrap(),
        b: TensorViewMut::from_slice(&mut grad_b, &matrix).unwrap(),
        c: TensorViewMut::from_slice(&mut grad_c, &matrix).unwrap(),
        d: d.is_some().then(|| TensorViewMut::from_slice(&mut grad_d, &[channel]).unwrap()),
        z: z.is_some().then(|| TensorViewMut::from_slice(&mut grad_z, &sequence).unwrap()),
        delta_bias: delta_bias.is_some().then(|| TensorViewMut::from_slice(&mut grad_delta_bias, &[channel]).unwrap()),
        initial_state: None,
    };
    selective_scan::backward(&Queue::Cpu, &scan, &view(&grad_out, &sequence), None, gradients).unwrap();

    let assert = |name: &str, got: &[f32], truth: &[f32]| {
        assert_close(&format!("{}.{name}", file.case), got, &to_f64(truth), 0, TOLERANCE);
    };
    assert("out", &out, &file.get_token_major("out"));
    assert("last_state", &last_state, &file.get("last_state").0);
    assert("grad_u", &grad_u, &file.get_token_major("grad_u"));
    assert("grad_delta", &grad_delta, &file.get_token_major("grad_delta"));
    assert("grad_A", &grad_a, &file.get("grad_A").0);
    assert("grad_B", &grad_b, &file.get_token_major("grad_B"));
    assert("grad_C", &grad_c, &file.get_token_major("grad_C"));
    if z.is_some() {
        assert("grad_z", &grad_z, &file.get_token_major("grad_z"));
    }
    if d.is_some() {
        assert("grad_D", &grad_d, &file.get("grad_D").0);
    }
    if delta_bias.is_some() {
        assert("grad_delta_bias", &grad_delta_bias, &file.get("grad_delta_bias").0);
    }
}
