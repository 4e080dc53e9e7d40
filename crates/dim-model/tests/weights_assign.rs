//! Weights into parameters and back: names, layouts, and one error for all that does not fit.
#![allow(clippy::unwrap_used, missing_docs)]

use std::{collections::BTreeMap, path::PathBuf};

use dim_model::{
    BackboneConfig, DimConfig,
    weights::{self, NameTable, Naming, WeightFile, WeightsError, names},
};
use dim_torch::Parameters;
use tch::{Device, Kind, Tensor};

fn authors_file() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/dim.pth")
}

/// The network of the fixture.
fn config() -> DimConfig {
    DimConfig { image_size: 4, in_channels: 1, d_model: 4, depth: 3, classes: 2, d_state: 2, ..DimConfig::tiny() }
}

fn parameters() -> Parameters {
    Parameters::zeros(&config().parameter_specs(), Device::Cpu).unwrap()
}

fn assert_loaded(parameters: &Parameters) {
    for (name, tensor) in weights::load(authors_file(), NameTable::Dim).unwrap() {
        assert!(parameters.get(&name).unwrap().equal(&tensor), "{name}");
    }
}

fn sum(parameters: &Parameters) -> f64 {
    parameters.values().sum(Kind::Double).double_value(&[])
}

#[test]
fn the_authors_state_dictionary_is_the_networks_specification() {
    let tensors = weights::load(authors_file(), NameTable::Dim).unwrap();
    let specs = config().parameter_specs();
    assert_eq!(tensors.len(), specs.len());
    for ((name, tensor), spec) in tensors.iter().zip(&specs) {
        assert_eq!((name, tensor.size()), (&spec.name, spec.shape.clone()));
    }
}

#[test]
fn every_parameter_of_every_preset_has_a_name_and_a_layout_in_the_authors_code() {
    for (preset, config) in DimConfig::PRESETS {
        for spec in config().parameter_specs() {
            let translated = names::name_to_authors(&spec.name).map(|(_, layout)| layout.shape_to_authors(&spec.shape));
            assert!(matches!(translated, Some(Some(_))), "{preset}: {spec:?}");
        }
    }
}

#[test]
fn the_authors_file_fills_every_parameter() {
    let all_at_once = parameters();
    weights::assign(&all_at_once, &weights::load(authors_file(), NameTable::Dim).unwrap()).unwrap();
    assert_loaded(&all_at_once);
    let one_at_a_time = parameters();
    weights::assign_file(&one_at_a_time, WeightFile::open(authors_file()).unwrap(), NameTable::Dim).unwrap();
    assert_loaded(&one_at_a_time);
}

#[test]
fn saved_parameters_come_back_under_both_namings() {
    let folder = tempfile::tempdir().unwrap();
    let original = parameters();
    weights::assign(&original, &weights::load(authors_file(), NameTable::Dim).unwrap()).unwrap();
    for naming in [Naming::Ours, Naming::Authors] {
        let path = folder.path().join(format!("{naming:?}.safetensors"));
        let metadata = BTreeMap::from([("naming".to_owned(), format!("{naming:?}"))]);
        weights::save_parameters(&path, &original, naming, &metadata).unwrap();
        let restored = parameters();
        weights::assign_file(&restored, WeightFile::open(&path).unwrap(), NameTable::Dim).unwrap();
        assert!(restored.values().equal(&original.values()), "{naming:?}");
    }
    // Under the authors' names the file is the one they would have written: keys, order, shapes and values.
    let theirs = WeightFile::open(authors_file()).unwrap().read_all().unwrap();
    let ours = WeightFile::open(folder.path().join("Authors.safetensors")).unwrap().read_all().unwrap();
    assert_eq!(theirs.len(), ours.len());
    for ((name, expected), (found, tensor)) in theirs.iter().zip(&ours) {
        assert_eq!(name, found);
        assert_eq!(tensor.size(), expected.size(), "{name}");
        assert!(tensor.equal(expected), "{name}");
    }
}

#[test]
fn a_prefix_and_half_precision_are_no_hindrance() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("half.safetensors");
    let theirs = WeightFile::open(authors_file()).unwrap().read_all().unwrap();
    let half = theirs.iter().map(|(name, tensor)| (format!("module.{name}"), tensor.to_kind(Kind::Half)));
    weights::save(&path, half, Naming::Ours, &BTreeMap::new()).unwrap();
    let restored = parameters();
    weights::assign_file(&restored, WeightFile::open(&path).unwrap(), NameTable::Dim).unwrap();
    for (name, tensor) in weights::load(authors_file(), NameTable::Dim).unwrap() {
        assert!(restored.get(&name).unwrap().equal(&tensor.to_kind(Kind::Half).to_kind(Kind::Float)), "{name}");
    }
}

#[test]
fn everything_that_does_not_fit_is_listed_at_once_and_nothing_is_written() {
    let parameters = parameters();
    let mut tensors = weights::load(authors_file(), NameTable::Dim).unwrap();
    tensors.retain(|(name, _)| name != "norm_out.weight");
    for (name, tensor) in &mut tensors {
        match name.as_str() {
            "padding_tokens" => *tensor = tensor.transpose(0, 1),
            "patch_embed.bias" => *name = "patch_embed.biases".to_owned(),
            "output.proj.bias" => *tensor = tensor.to_kind(Kind::Int64),
            _ => {}
        }
    }
    let error = weights::assign(&parameters, &tensors).unwrap_err();
    assert_eq!(
        error.to_string(),
        "the weights do not fit the network\
         \n  2 missing: patch_embed.bias [4], norm_out.weight [4]\
         \n  1 unexpected: patch_embed.biases [4]\
         \n  1 of the wrong shape: padding_tokens expected [3, 4] got [4, 3]\
         \n  1 of the wrong type: output.proj.bias expected floating point got Int64"
    );
    assert_eq!(sum(&parameters), 0.0);
}

#[test]
fn a_shape_that_the_authors_layout_cannot_have_is_an_error_even_if_it_would_fit_ours() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("layout.safetensors");
    let mut theirs = WeightFile::open(authors_file()).unwrap().read_all().unwrap();
    for (name, tensor) in &mut theirs {
        if name == "a4m_adapter.pad_token" {
            *tensor = tensor.reshape([3, 4]); // the shape of ours
        }
    }
    weights::save(&path, theirs, Naming::Ours, &BTreeMap::new()).unwrap();
    let expected = "1 of the wrong shape: a4m_adapter.pad_token expected [1, channel, token] got [3, 4]";
    let error = weights::load(&path, NameTable::Dim).unwrap_err();
    assert!(matches!(error, WeightsError::Mismatch(_)));
    assert!(error.to_string().contains(expected), "{error}");
    let parameters = parameters();
    let error = weights::assign_file(&parameters, WeightFile::open(&path).unwrap(), NameTable::Dim).unwrap_err();
    assert!(error.to_string().contains(expected), "{error}");
    assert_eq!(sum(&parameters), 0.0);
}

#[test]
fn keys_without_an_authors_name_are_listed_when_one_is_asked_for() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("weights.safetensors");
    let tensors = ["norm_out.weight", "q_norm.weight", "k_norm.weight"]
        .map(|name| (name.to_owned(), Tensor::zeros([4], (Kind::Float, Device::Cpu))));
    let error = weights::save(&path, tensors, Naming::Authors, &BTreeMap::new()).unwrap_err().to_string();
    assert!(error.contains("for q_norm.weight [4], k_norm.weight [4]"), "{error}");
    assert!(!path.exists());
}
