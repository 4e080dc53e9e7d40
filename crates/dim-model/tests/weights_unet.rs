//! Files under the published names of ADM load into the U-Net as they are.
#![allow(clippy::unwrap_used, missing_docs)]

use std::collections::BTreeMap;

use dim_model::{
    Backbone, BackboneConfig, ModelConfig, Unet, UnetConfig,
    weights::{self, Naming, WeightFile},
};
use dim_torch::Parameters;
use tch::{Device, Tensor};

fn parameters() -> Parameters {
    Parameters::zeros(&UnetConfig::tiny().parameter_specs(), Device::Cpu).unwrap()
}

#[test]
fn file_under_the_published_names_loads_with_and_without_a_prefix() {
    let network = Unet::new(UnetConfig::tiny(), parameters()).unwrap();
    network.initialise(5).unwrap();
    let table = ModelConfig::Unet(UnetConfig::tiny()).name_table();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("adm.safetensors");
    for prefix in ["", "module."] {
        let named = |(name, tensor): (&str, &Tensor)| (format!("{prefix}{name}"), tensor.detach());
        let tensors = network.parameters().iter().map(|(spec, tensor)| named((&spec.name, tensor)));
        weights::save(&path, tensors, Naming::Ours, &BTreeMap::new()).unwrap();

        let loaded = parameters();
        weights::assign_file(&loaded, WeightFile::open(&path).unwrap(), table).unwrap();
        assert!(loaded.values().equal(&network.parameters().values()), "assign_file, prefix {prefix:?}");
        let loaded = parameters();
        weights::assign(&loaded, &weights::load(&path, table).unwrap()).unwrap();
        assert!(loaded.values().equal(&network.parameters().values()), "assign, prefix {prefix:?}");
    }
}
