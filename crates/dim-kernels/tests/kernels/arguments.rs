//! Every wrong argument is refused by name, with what was expected and what came, and before anything is written.

use std::sync::LazyLock;

use dim_kernels::causal_conv1d::{self, CausalConv1d, CausalConv1dGradients};
use dim_kernels::norm_modulate::{self, Branch, Kept, Norm, NormModulate, NormModulateGradients, NormModulateOutputs};
use dim_kernels::selective_scan::{self, SelectiveScan, SelectiveScanGradients};
use dim_kernels::{DType, Device, KernelError, Queue, TensorView, TensorViewMut, TokenMap};

/// What every output is filled with, to see whether it was written.
const UNWRITTEN: f32 = 123.0;

/// The shape of every argument of a call, by name; a call that is right, until a test changes one.
#[derive(Clone)]
struct Shapes(Vec<(&'static str, Vec<usize>)>);

impl Shapes {
    fn with(&self, name: &str, shape: &[usize]) -> Self {
        let mut changed = self.clone();
        changed.0.iter_mut().find(|(known, _)| *known == name).unwrap().1 = shape.to_vec();
        changed
    }

    fn buffers(&self, names: &[&str]) -> Vec<Vec<f32>> {
        names.iter().map(|name| vec![UNWRITTEN; self.of(name).iter().product()]).collect()
    }

    fn of(&self, name: &str) -> &[usize] {
        &self.0.iter().find(|(known, _)| *known == name).unwrap().1
    }
}

fn assert_unwritten(outputs: &[Vec<f32>]) {
    assert!(outputs.iter().flatten().all(|value| *value == UNWRITTEN), "a refused call has written");
}

fn scan_shapes() -> Shapes {
    let (sequence, matrix, states) = (vec![2, 5, 3], vec![2, 5, 4], vec![2, 3, 4]);
    let (a, vector) = (vec![3, 4], vec![3]);
    Shapes(vec![
        ("u", sequence.clone()),
        ("delta", sequence.clone()),
        ("a", a.clone()),
        ("b", matrix.clone()),
        ("c", matrix.clone()),
        ("d", vector.clone()),
        ("z", sequence.clone()),
        ("delta_bias", vector.clone()),
        ("initial_state", states.clone()),
        ("out", sequence.clone()),
        ("last_state", states.clone()),
        ("grad_out", sequence.clone()),
        ("grad_last_state", states.clone()),
        ("gradients.u", sequence.clone()),
        ("gradients.delta", sequence.clone()),
        ("gradients.a", a),
        ("gradients.b", matrix.clone()),
        ("gradients.c", matrix),
        ("gradients.d", vector.clone()),
        ("gradients.z", sequence),
        ("gradients.delta_bias", vector),
        ("gradients.initial_state", states),
    ])
}

/// Calls forward and backward with zeros of the given shapes; returns both answers.
fn scan(shapes: &Shapes, change: impl Fn(&mut SelectiveScan<'_>)) -> [Result<(), KernelError>; 2] {
    let inputs = ["u", "delta", "a", "b", "c", "d", "z", "delta_bias", "initial_state", "grad_out", "grad_last_state"];
    let zeros: Vec<Vec<f32>> = inputs.iter().map(|name| vec![0.0; shapes.of(name).iter().product()]).collect();
    let view = |name: &str| {
        let at = inputs.iter().position(|known| *known == name).unwrap();
        TensorView::from_slice(&zeros[at], shapes.of(name)).unwrap()
    };
    let mut scan = SelectiveScan {
        u: view("u"),
        delta: view("delta"),
        a: view("a"),
        b: view("b"),
        c: view("c"),
        d: Some(view("d")),
        z: Some(view("z")),
        delta_bias: Some(view("delta_bias")),
        delta_softplus: true,
        initial_state: Some(view("initial_state")),
        token_map: None,
    };
    change(&mut scan);

    let names = ["out", "last_state"];
    let mut outputs = shapes.buffers(&names);
    let mut views =
        outputs.iter_mut().zip(names).map(|(o, name)| TensorViewMut::from_slice(o, shapes.of(name)).unwrap());
    let (out, last_state) = (views.next().unwrap(), views.next());
    let forward = selective_scan::forward(&Queue::Cpu, &scan, out, last_state);
    if forward.is_err() {
        assert_unwritten(&outputs);
    }

    let names = ["u", "delta", "a", "b", "c", "d", "z", "delta_bias", "initial_state"];
    let names = names.map(|name| format!("gradients.{name}"));
    let mut outputs = shapes.buffers(&names.each_ref().map(String::as_str));
    let mut views =
        outputs.iter_mut().zip(&names).map(|(o, name)| TensorViewMut::from_slice(o, shapes.of(name)).unwrap());
    let mut next = || views.next().unwrap();
    let gradients = SelectiveScanGradients {
        u: next(),
        delta: next(),
        a: next(),
        b: next(),
        c: next(),
        d: Some(next()),
        z: Some(next()),
        delta_bias: Some(next()),
        initial_state: Some(next()),
    };
    let grad_last_state = view("grad_last_state");
    let backward = selective_scan::backward(&Queue::Cpu, &scan, &view("grad_out"), Some(&grad_last_state), gradients);
    if backward.is_err() {
        assert_unwritten(&outputs);
    }
    [forward, backward]
}

fn conv_shapes() -> Shapes {
    let (sequence, weight, vector) = (vec![2, 5, 4], vec![4, 3], vec![4]);
    Shapes(vec![
        ("x", sequence.clone()),
        ("weight", weight.clone()),
        ("bias", vector.clone()),
        ("out", sequence.clone()),
        ("grad_out", sequence.clone()),
        ("gradients.x", sequence),
        ("gradients.weight", weight),
        ("gradients.bias", vector),
    ])
}

/// As [`scan`].
fn conv(shapes: &Shapes, change: impl Fn(&mut CausalConv1d<'_>)) -> [Result<(), KernelError>; 2] {
    let zeros = |name: &str| vec![0.0; shapes.of(name).iter().product()];
    let (x, weight, bias, grad_out) = (zeros("x"), zeros("weight"), zeros("bias"), zeros("grad_out"));
    let view = |values, name: &str| TensorView::from_slice(values, shapes.of(name)).unwrap();
    let mut conv = CausalConv1d {
        x: view(&x, "x"),
        weight: view(&weight, "weight"),
        bias: Some(view(&bias, "bias")),
        silu: true,
        token_map: None,
    };
    change(&mut conv);
    let mut out = shapes.buffers(&["out"]);
    let out_view = TensorViewMut::from_slice(&mut out[0], shapes.of("out")).unwrap();
    let forward = causal_conv1d::forward(&Queue::Cpu, &conv, out_view);
    if forward.is_err() {
        assert_unwritten(&out);
    }
    let names = ["gradients.x", "gradients.weight", "gradients.bias"];
    let mut outputs = shapes.buffers(&names);
    let mut views =
        outputs.iter_mut().zip(names).map(|(o, name)| TensorViewMut::from_slice(o, shapes.of(name)).unwrap());
    let gradients =
        CausalConv1dGradients { x: views.next().unwrap(), weight: views.next().unwrap(), bias: views.next() };
    let backward = causal_conv1d::backward(&Queue::Cpu, &conv, &view(&grad_out, "grad_out"), gradients);
    if backward.is_err() {
        assert_unwritten(&outputs);
    }
    [forward, backward]
}

fn norm_shapes() -> Shapes {
    let (sequence, row, vector) = (vec![2, 5, 4], vec![2, 4], vec![4]);
    Shapes(vec![
        ("x", sequence.clone()),
        ("r", sequence.clone()),
        ("y", sequence.clone()),
        ("gate", row.clone()),
        ("weight", vector.clone()),
        ("bias", vector.clone()),
        ("scale", row.clone()),
        ("shift", row.clone()),
        ("outputs.r", sequence.clone()),
        ("outputs.out", sequence.clone()),
        ("outputs.statistics", vec![2, 5, 2]),
        ("statistics", vec![2, 5, 2]),
        ("grad_out", sequence.clone()),
        ("grad_r", sequence.clone()),
        ("gradients.x", sequence.clone()),
        ("gradients.y", sequence),
        ("gradients.gate", row.clone()),
        ("gradients.weight", vector.clone()),
        ("gradients.bias", vector),
        ("gradients.scale", row.clone()),
        ("gradients.shift", row),
    ])
}

/// As [`scan`].
fn norm(shapes: &Shapes, change: impl Fn(&mut NormModulate<'_>)) -> [Result<(), KernelError>; 2] {
    let inputs = ["x", "r", "y", "gate", "weight", "bias", "scale", "shift", "statistics", "grad_out", "grad_r"];
    let zeros: Vec<Vec<f32>> = inputs.iter().map(|name| vec![0.0; shapes.of(name).iter().product()]).collect();
    let view = |name: &str| {
        let at = inputs.iter().position(|known| *known == name).unwrap();
        TensorView::from_slice(&zeros[at], shapes.of(name)).unwrap()
    };
    let mut op = NormModulate {
        branch: Some(Branch { y: view("y"), gate: Some(view("gate")), gate_offset: 1.0 }),
        norm: Norm::Rms { eps: 1e-5 },
        weight: Some(view("weight")),
        bias: Some(view("bias")),
        scale: Some(view("scale")),
        shift: Some(view("shift")),
    };
    change(&mut op);

    let names = ["outputs.r", "outputs.out", "outputs.statistics"];
    let mut outputs = shapes.buffers(&names);
    let mut views =
        outputs.iter_mut().zip(names).map(|(o, name)| TensorViewMut::from_slice(o, shapes.of(name)).unwrap());
    let results = NormModulateOutputs { r: views.next(), out: views.next(), statistics: views.next() };
    let forward = norm_modulate::forward(&Queue::Cpu, &op, &view("x"), results);
    if forward.is_err() {
        assert_unwritten(&outputs);
    }

    let names = ["x", "y", "gate", "weight", "bias", "scale", "shift"].map(|name| format!("gradients.{name}"));
    let mut outputs = shapes.buffers(&names.each_ref().map(String::as_str));
    let mut views =
        outputs.iter_mut().zip(&names).map(|(o, name)| TensorViewMut::from_slice(o, shapes.of(name)).unwrap());
    let gradients = NormModulateGradients {
        x: views.next(),
        y: views.next(),
        gate: views.next(),
        weight: views.next(),
        bias: views.next(),
        scale: views.next(),
        shift: views.next(),
    };
    let (grad_out, grad_r) = (view("grad_out"), view("grad_r"));
    let kept = Kept { r: view("r"), statistics: Some(view("statistics")) };
    let backward = norm_modulate::backward(&Queue::Cpu, &op, &kept, Some(&grad_out), Some(&grad_r), gradients);
    if backward.is_err() {
        assert_unwritten(&outputs);
    }
    [forward, backward]
}

/// The messages of the calls that an argument belongs to; the others must succeed or fail over the same argument.
fn messages(answers: [Result<(), KernelError>; 2]) -> Vec<String> {
    answers.into_iter().filter_map(Result::err).map(|error| error.to_string()).collect()
}

#[test]
fn right_shapes_are_accepted() {
    assert_eq!(scan(&scan_shapes(), |_| ()), [Ok(()), Ok(())]);
    assert_eq!(conv(&conv_shapes(), |_| ()), [Ok(()), Ok(())]);
    assert_eq!(norm(&norm_shapes(), |_| ()), [Ok(()), Ok(())]);
}

#[test]
fn every_wrong_shape_is_refused_by_name_with_expected_and_got() {
    let scan_call: fn(&Shapes) -> _ = |shapes| scan(shapes, |_| ());
    let conv_call: fn(&Shapes) -> _ = |shapes| conv(shapes, |_| ());
    let norm_call: fn(&Shapes) -> _ = |shapes| norm(shapes, |_| ());
    let calls: [(_, _, &[_]); 3] = [
        (scan_shapes(), scan_call, &["u"]),
        (conv_shapes(), conv_call, &["x"]),
        (norm_shapes(), norm_call, &["x", "r"]),
    ];
    for (right, call, set_sizes) in calls {
        for (name, shape) in right.0.iter().filter(|(name, _)| !set_sizes.contains(name)) {
            // One longer in each dimension in turn, and with a dimension more.
            let longer = (0..shape.len()).map(|dimension| {
                let mut longer = shape.clone();
                longer[dimension] += 1;
                longer
            });
            for wrong in longer.chain([[&shape[..], &[1]].concat()]) {
                let messages = messages(call(&right.with(name, &wrong)));
                assert!(!messages.is_empty(), "`{name}` may have the shape {wrong:?}");
                // `a` and `weight` set sizes of their own: then it is another argument that does not fit.
                let sets_its_own = ["a", "weight"].contains(name) && wrong.len() == 2 && wrong[0] == shape[0];
                for message in messages.iter().filter(|_| !sets_its_own) {
                    assert!(message.contains(&format!("`{name}` must have")), "{message}");
                    assert!(message.contains(&format!("{wrong:?}")), "{message}");
                    assert!(message.contains(&format!("= {shape:?}")) || wrong.len() > shape.len(), "{message}");
                }
            }
        }
    }
}

#[test]
fn messages_say_what_the_dimensions_mean() {
    let wrong = scan_shapes().with("b", &[2, 5, 7]);
    let messages = messages(scan(&wrong, |_| ()));
    assert_eq!(
        messages,
        ["forward", "backward"].map(|call| format!(
            "selective_scan::{call}: `b` must have shape [batch, token, state] = [2, 5, 4], got [2, 5, 7]"
        ))
    );
    let [error, _] = scan(&scan_shapes().with("u", &[2, 5]), |_| ());
    let message = "selective_scan::forward: `u` must have the dimensions [batch, token, channel], got the shape [2, 5]";
    assert_eq!(error.unwrap_err().to_string(), message);
    let [_, error] = conv(&conv_shapes().with("x", &[2, 5, 4, 1]), |_| ());
    let message =
        "causal_conv1d::backward: `x` must have the dimensions [batch, token, channel], got the shape [2, 5, 4, 1]";
    assert_eq!(error.unwrap_err().to_string(), message);
}

#[test]
fn no_states_and_no_taps_are_refused() {
    let shapes = ["a", "gradients.a"].iter().fold(scan_shapes(), |shapes, name| shapes.with(name, &[3, 0]));
    let matrices = ["b", "c", "gradients.b", "gradients.c"];
    let shapes = matrices.iter().fold(shapes, |shapes, name| shapes.with(name, &[2, 5, 0]));
    for message in messages(scan(&shapes, |_| ())) {
        assert!(message.ends_with("the state dimension of `a` must be at least 1, got 0"), "{message}");
    }
    let shapes = conv_shapes().with("weight", &[4, 0]).with("gradients.weight", &[4, 0]);
    for message in messages(conv(&shapes, |_| ())) {
        assert!(message.ends_with("the width dimension of `weight` must be at least 1, got 0"), "{message}");
    }
}

#[test]
fn a_token_map_of_another_length_is_refused() {
    static MAP: LazyLock<TokenMap> = LazyLock::new(|| TokenMap::identity(6));
    for answers in [
        scan(&scan_shapes(), |scan| scan.token_map = Some(&MAP)),
        conv(&conv_shapes(), |conv| conv.token_map = Some(&MAP)),
    ] {
        for message in messages(answers) {
            assert!(message.ends_with("`token_map` must have the length 5 of the sequence, got 6"), "{message}");
        }
    }
}

#[test]
fn a_gradient_of_an_absent_input_is_refused() {
    type Change = fn(&mut SelectiveScan<'_>);
    let absent: [(&str, Change); 4] = [
        ("d", |scan| scan.d = None),
        ("z", |scan| scan.z = None),
        ("delta_bias", |scan| scan.delta_bias = None),
        ("initial_state", |scan| scan.initial_state = None),
    ];
    for (name, change) in absent {
        let [forward, backward] = scan(&scan_shapes(), change);
        assert_eq!(forward, Ok(()));
        let message = backward.unwrap_err().to_string();
        assert!(message.contains(&format!("`gradients.{name}` must be None")), "{message}");
    }
    type ChangeNorm = fn(&mut NormModulate<'_>);
    let absent: [(&str, ChangeNorm); 6] = [
        ("y", |norm| norm.branch = None),
        ("gate", |norm| norm.branch.as_mut().unwrap().gate = None),
        ("weight", |norm| norm.weight = None),
        ("bias", |norm| norm.bias = None),
        ("scale", |norm| norm.scale = None),
        ("shift", |norm| norm.shift = None),
    ];
    for (name, change) in absent {
        let [forward, backward] = norm(&norm_shapes(), change);
        assert_eq!(forward, Ok(()));
        let message = backward.unwrap_err().to_string();
        assert!(message.contains(&format!("`gradients.{name}` must be None")), "{message}");
    }
    let [forward, backward] = conv(&conv_shapes(), |conv| conv.bias = None);
    assert_eq!(forward, Ok(()));
    assert!(backward.unwrap_err().to_string().contains("`gradients.bias` must be None"));
}

/// A view of zeros that nobody would make from a slice.
fn strange(dtype: DType, device: Device, shape: &[usize], strides: &[usize]) -> TensorView<'static> {
    static ZEROS: [f32; 4096] = [0.0; 4096];
    // SAFETY: every element that these tests name lies within the zeros, or is refused before it is read.
    unsafe { TensorView::from_raw_parts(ZEROS.as_ptr().cast(), dtype, device, shape, strides) }.unwrap()
}

#[test]
fn other_dtypes_devices_and_strides_are_refused() {
    let contiguous = [15, 3, 1];
    let cases = [
        (strange(DType::F16, Device::Cpu, &[2, 5, 3], &contiguous), "must be f32 on the CPU, got f16"),
        (strange(DType::Bf16, Device::Cpu, &[2, 5, 3], &contiguous), "must be f32 on the CPU, got bf16"),
        (
            strange(DType::F32, Device::Cuda(1), &[2, 5, 3], &contiguous),
            "must lie on the CPU as the queue does, got memory on CUDA device 1",
        ),
        (
            strange(DType::F32, Device::Cpu, &[2, 5, 3], &[15, 1, 5]),
            "of shape [2, 5, 3] must have stride 1 in the last dimension, got the strides [15, 1, 5]",
        ),
    ];
    for (view, problem) in cases {
        for message in messages(scan(&scan_shapes(), |scan| scan.delta = view)) {
            assert!(message.contains("`delta`") && message.ends_with(problem), "{message}");
        }
    }
    // Inputs may repeat their elements.
    let repeated = strange(DType::F32, Device::Cpu, &[2, 5, 3], &[0, 0, 1]);
    assert_eq!(scan(&scan_shapes(), |scan| scan.delta = repeated), [Ok(()), Ok(())]);
}

#[test]
fn outputs_whose_elements_overlap_are_refused() {
    let x = strange(DType::F32, Device::Cpu, &[2, 5, 4], &[20, 4, 1]);
    let weight = strange(DType::F32, Device::Cpu, &[4, 3], &[3, 1]);
    let conv = CausalConv1d { x, weight, bias: None, silu: false, token_map: None };
    for strides in [[0, 4, 1], [20, 0, 1], [20, 3, 1], [19, 4, 1]] {
        let mut out = vec![UNWRITTEN; 64];
        let pointer = out.as_mut_ptr().cast();
        // SAFETY: all elements lie within `out`, which nothing else uses.
        let view = unsafe { TensorViewMut::from_raw_parts(pointer, DType::F32, Device::Cpu, &[2, 5, 4], &strides) };
        let error = causal_conv1d::forward(&Queue::Cpu, &conv, view.unwrap()).unwrap_err().to_string();
        assert!(error.contains("`out`") && error.contains("a place of its own for every element"), "{error}");
        assert_unwritten(&[out]);
    }
}

#[test]
fn views_that_do_not_fit_their_memory_are_refused() {
    let numbers = [0.0; 12];
    let message = TensorView::from_slice(&numbers, &[3, 5]).unwrap_err().to_string();
    assert_eq!(message, "a view of shape [3, 5] must have 15 elements, got a slice of 12");
    let message = TensorView::from_slice(&numbers, &[1, 1, 1, 3, 4]).unwrap_err().to_string();
    assert_eq!(message, "a view of shape [1, 1, 1, 3, 4] must have at most 4 dimensions, got 5 dimensions");
    let message = TensorView::from_slice(&numbers, &[usize::MAX, 2]).unwrap_err().to_string();
    assert!(message.contains("isize::MAX bytes"), "{message}");
    // SAFETY: the view is refused.
    let view = unsafe { TensorView::from_raw_parts(numbers.as_ptr().cast(), DType::F32, Device::Cpu, &[3, 4], &[4]) };
    assert_eq!(view.unwrap_err().to_string(), "a view of shape [3, 4] must have 2 strides, got the strides [4]");
}
