//! Files for PyTorch: written, read back, and read by PyTorch itself where there is one.
#![allow(clippy::unwrap_used, missing_docs)]

use std::{collections::BTreeMap, fs, path::Path, process::Command};

use dim_model::{
    BackboneConfig, DimConfig, ModelConfig, Precision,
    weights::{self, FileFormat, NameTable, Naming, WeightFile, WeightsError},
};
use dim_torch::Parameters;
use tch::{Device, Kind, Tensor};

/// Every element type, a scalar, an empty tensor, a view that is not contiguous, more than 255 elements.
fn tensors() -> Vec<(String, Tensor)> {
    let values = Tensor::arange(300, (Kind::Float, Device::Cpu)) / 8.0 - 3.0;
    let kinds = [
        Kind::Double,
        Kind::Float,
        Kind::Half,
        Kind::BFloat16,
        Kind::Int64,
        Kind::Int,
        Kind::Int16,
        Kind::Int8,
        Kind::Uint8,
        Kind::Bool,
    ];
    let of_kind = |kind: Kind| (format!("kind.{kind:?}"), (values.abs() * 2.0).to_kind(kind));
    let mut tensors: Vec<(String, Tensor)> = kinds.map(of_kind).into();
    tensors.push(("scalar".to_owned(), values.get(7)));
    tensors.push(("empty".to_owned(), Tensor::zeros([0, 3], (Kind::Float, Device::Cpu))));
    tensors.push(("transposed.ε".to_owned(), values.view([20, 15]).transpose(0, 1)));
    tensors.push(("large".to_owned(), values.repeat([250])));
    tensors
}

fn write(path: &Path, tensors: Vec<(String, Tensor)>) -> Result<(), WeightsError> {
    weights::save_as(path, tensors, Naming::Ours, FileFormat::PyTorch, &BTreeMap::new())
}

#[test]
fn what_is_written_is_read_back_and_the_same_tensors_give_the_same_bytes() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.pth");
    write(&path, tensors()).unwrap();
    let back = WeightFile::open(&path).unwrap().read_all().unwrap();
    assert_eq!(back.len(), tensors().len());
    for ((name, tensor), (expected_name, expected)) in back.iter().zip(&tensors()) {
        assert_eq!(name, expected_name);
        assert_eq!((tensor.kind(), tensor.size()), (expected.kind(), expected.size()), "{name}");
        assert!(tensor.equal(expected), "{name}");
    }
    let bytes = fs::read(&path).unwrap();
    write(&path, tensors()).unwrap();
    assert!(fs::read(&path).unwrap() == bytes, "other bytes");
    let complex = vec![("z".to_owned(), Tensor::zeros([2], (Kind::ComplexFloat, Device::Cpu)))];
    assert!(write(&path, complex).unwrap_err().to_string().contains("`z`"));
    assert!(fs::read(&path).unwrap() == bytes, "a failed write changed the file");
}

/// Every tensor's bytes begin at a multiple of 64 in the file.
#[test]
fn bytes_are_aligned() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.pth");
    let marks: Vec<Tensor> = (1..40).map(|number| Tensor::full([8], number, (Kind::Int64, Device::Cpu))).collect();
    write(&path, marks.into_iter().enumerate().map(|(n, mark)| (format!("n{n}"), mark)).collect()).unwrap();
    let bytes = fs::read(&path).unwrap();
    for number in 1..40_i64 {
        let mark = number.to_le_bytes().repeat(8);
        let at = bytes.windows(64).position(|window| window == mark).unwrap();
        assert!(at.is_multiple_of(64), "tensor {number} at {at}");
    }
}

/// PyTorch reads it with `weights_only=True`, as it is and mapped into memory, and finds the same values in it.
#[test]
fn pytorch_reads_it() {
    let pythons = ["python3", "python"];
    let works = |python: &&&str| {
        Command::new(python).args(["-c", "import torch"]).output().is_ok_and(|output| output.status.success())
    };
    let Some(python) = pythons.iter().find(works) else {
        eprintln!("SKIPPED: no python3 that can `import torch`; nothing was checked");
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.pth");
    write(&path, tensors()).unwrap();
    const SCRIPT: &str = r#"
import sys, torch
for options in ({}, {"mmap": True}):
    state = torch.load(sys.argv[1], weights_only=True, **options)
    assert type(state).__name__ == "OrderedDict"
    for name, tensor in state.items():
        values = tensor.double().reshape(-1)
        places = torch.arange(1, len(values) + 1, dtype=torch.float64) % 7
        print(name, str(tensor.dtype), list(tensor.shape), float((values * places).sum()))
"#;
    let output = Command::new(python).args(["-c", SCRIPT]).arg(&path).env("PYTHONUTF8", "1").output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let lines = tensors().into_iter().map(|(name, tensor)| {
        let dtype = match tensor.kind() {
            Kind::Double => "float64",
            Kind::Float => "float32",
            Kind::Half => "float16",
            Kind::BFloat16 => "bfloat16",
            Kind::Int64 => "int64",
            Kind::Int => "int32",
            Kind::Int16 => "int16",
            Kind::Int8 => "int8",
            Kind::Uint8 => "uint8",
            _ => "bool",
        };
        let values = tensor.to_kind(Kind::Double).reshape([-1]);
        let places = (Tensor::arange(values.numel() as i64, (Kind::Double, Device::Cpu)) + 1.0).remainder(7.0);
        let sum = (values * places).sum(Kind::Double).double_value(&[]);
        format!("{name} torch.{dtype} {:?} {sum:?}\n", tensor.size())
    });
    let expected: String = lines.collect();
    assert_eq!(String::from_utf8_lossy(&output.stdout), expected.repeat(2));
}

/// The network of `forward.pth`, which PyTorch pickled under the authors' names.
fn config() -> ModelConfig {
    let sizes =
        DimConfig { image_size: 4, in_channels: 1, d_model: 4, depth: 3, classes: 2, d_state: 2, ..DimConfig::tiny() };
    ModelConfig::Dim(sizes)
}

fn output(parameters: Parameters) -> Tensor {
    tch::set_num_threads(1);
    let network = config().build(parameters, Precision::F32).unwrap();
    let x_t = Tensor::linspace(-2.0, 2.0, 2 * 4 * 6, (Kind::Float, Device::Cpu)).view([2, 1, 4, 6]);
    let (time, class) = (Tensor::from_slice(&[3.0_f32, 900.0]), Tensor::from_slice(&[1_i64, 2]));
    tch::no_grad(|| network.forward(&x_t, &time, Some(&class)).unwrap())
}

fn loaded(path: &Path) -> Parameters {
    let parameters = Parameters::zeros(&config().parameter_specs(), Device::Cpu).unwrap();
    weights::assign_file(&parameters, WeightFile::open(path).unwrap(), config().name_table()).unwrap();
    parameters
}

/// A checkpoint with the authors' names, pickled by PyTorch, gives the output of the weights themselves, which are known by
/// their rule; so does every file that is made of it.
#[test]
fn a_checkpoint_of_pytorch_gives_the_same_output_as_its_values_under_our_names() {
    let fixture = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/forward.pth");
    let theirs = WeightFile::open(&fixture).unwrap();
    let parameters = Parameters::zeros(&config().parameter_specs(), Device::Cpu).unwrap();
    for (number, entry) in theirs.entries().iter().enumerate() {
        let count: i64 = entry.shape.iter().product();
        let places = Tensor::arange(count, (Kind::Int64, Device::Cpu)) * 37 + 101 * number as i64;
        let values = (places.remainder(257) - 128).to_kind(Kind::Float) / 1024.0;
        let (name, tensor) = weights::names::to_ours(&entry.name, &values.view(entry.shape.as_slice())).unwrap();
        tch::no_grad(|| parameters.get(&name).unwrap().copy_(&tensor));
    }
    let expected = output(parameters);
    assert_eq!(expected.size(), [2, 1, 4, 6]);
    assert!(expected.isfinite().all().int64_value(&[]) == 1 && expected.std(false).double_value(&[]) > 1e-3);
    assert!(output(loaded(&fixture)).equal(&expected), "the checkpoint");

    let folder = tempfile::tempdir().unwrap();
    for (naming, format) in [
        (Naming::Ours, FileFormat::PyTorch),
        (Naming::Authors, FileFormat::PyTorch),
        (Naming::Authors, FileFormat::Safetensors),
    ] {
        let path = folder.path().join("converted");
        let tensors = weights::load(&fixture, NameTable::Dim).unwrap();
        weights::save_as(&path, tensors, naming, format, &BTreeMap::new()).unwrap();
        assert!(output(loaded(&path)).equal(&expected), "{naming:?}, {format:?}");
        if naming == Naming::Authors {
            let key = |entry: &weights::Entry| (entry.name.clone(), entry.shape.clone());
            let mut keys: Vec<_> = WeightFile::open(&path).unwrap().entries().iter().map(key).collect();
            let mut originals: Vec<_> = theirs.entries().iter().map(key).collect();
            keys.sort();
            originals.sort();
            assert_eq!(keys, originals, "{format:?}");
        }
    }
}
