//! Weights to start from, also those of a network for smaller images: the paper's weak-to-strong training goes from 256 to 512 px
//! (arXiv 2405.14224, section 3.3).

use std::path::Path;

use dim_model::BackboneConfig;
use dim_model::weights::{self, WeightFile};
use dim_torch::Parameters;
use tch::{Device, Tensor};

use super::checkpoint;
use crate::denoiser::Network;
use crate::error::TrainerError;
use crate::snapshot;

/// Reads a file of weights into `network`, of a checkpoint the moving average. A learned position table of another square grid is resized
/// bilinearly; of another number of classes only what stands for no class is taken, and the classes start as `seed` says; all else must fit.
///
/// # Errors
/// [`TrainerError::Weights`] with every missing, unexpected and wrongly shaped key at once; of a checkpoint that does not read, what
/// [`checkpoint::load`] says.
pub(super) fn load(path: &Path, network: &Network, seed: u64) -> Result<(), TrainerError> {
    let file = WeightFile::open(path)?;
    let mut tensors = if checkpoint::is_checkpoint(file.metadata()) {
        let specs = snapshot::config_of(&file)?.map(|config| config.model.parameter_specs());
        match specs {
            Some(specs) if specs != network.parameters().specs() => {
                let average = Parameters::frozen(&specs, Device::Cpu)?;
                checkpoint::load_weights(path, &average, "ema")?;
                average.iter().map(|(spec, tensor)| (spec.name.clone(), tensor.shallow_clone())).collect()
            }
            // Straight to where it belongs, without a second copy in memory.
            _ => return snapshot::load(path, network),
        }
    } else {
        weights::load_file(file, network.config().name_table())?
    };
    for (name, tensor) in &mut tensors {
        if let Some(resized) = network.config().resized(name, tensor)? {
            *tensor = resized;
        }
    }
    if with_own_classes(&mut tensors, network, seed)? {
        let classes = network.config().classes();
        eprintln!("note: {} knows other classes than these {classes}, which start fresh", path.display());
    }
    Ok(weights::assign(network.parameters(), &tensors)?)
}

/// Puts fresh rows in place of tables of another number of classes; whether there were any.
fn with_own_classes(tensors: &mut [(String, Tensor)], network: &Network, seed: u64) -> Result<bool, TrainerError> {
    let (config, parameters) = (network.config(), network.parameters());
    let mut others = Vec::new();
    for (index, (name, tensor)) in tensors.iter().enumerate() {
        if !config.class_tables().contains(&name.as_str()) {
            continue;
        }
        let Ok(own) = parameters.leaf(name) else { continue };
        if let ([own, width], [its, its_width]) = (own.size().as_slice(), tensor.size().as_slice())
            && width == its_width
            && own != its
            && *its > 0
        {
            others.push(index);
        }
    }
    if others.is_empty() {
        return Ok(false);
    }
    network.initialise(seed)?;
    for index in others {
        let (name, tensor) = &mut tensors[index];
        let table = parameters.leaf(name)?.detach().copy();
        if let Some(null) = config.null_class() {
            let last = tensor.f_narrow(0, tensor.size()[0] - 1, 1)?;
            table.f_narrow(0, null as i64, 1)?.f_copy_(&last)?;
        }
        *tensor = table;
    }
    Ok(true)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::collections::BTreeMap;

    use dim_diffusion::Denoiser;
    use dim_model::weights::{Naming, save_parameters};
    use dim_model::{BackboneConfig, DimConfig, ModelConfig, Precision, UvitConfig};
    use dim_torch::Parameters;
    use tch::{Device, Kind, Tensor, no_grad};

    use super::*;

    fn dim(image_size: usize, d_model: usize) -> Network {
        network(ModelConfig::Dim(DimConfig { image_size, d_model, ..DimConfig::tiny() }))
    }

    /// Fresh weights, and positions that are told apart.
    fn network(config: ModelConfig) -> Network {
        let parameters = Parameters::zeros(&config.parameter_specs(), Device::Cpu).unwrap();
        let network = Network::new(config, parameters, Precision::F32).unwrap();
        network.initialise(1).unwrap();
        for name in ["position_table", "pos_embed"] {
            if let Ok(table) = network.parameters().get(name) {
                let values = Tensor::arange(table.numel() as i64, (Kind::Float, Device::Cpu)).sin().view_as(&table);
                no_grad(|| table.shallow_clone().copy_(&values));
            }
        }
        network
    }

    fn saved(network: &Network, naming: Naming, folder: &tempfile::TempDir) -> std::path::PathBuf {
        let path = folder.path().join("weights.safetensors");
        save_parameters(&path, network.parameters(), naming, &BTreeMap::new()).unwrap();
        path
    }

    #[test]
    fn larger_network_starts_as_the_smaller_one_at_its_size() {
        let uvit = |image_size| network(ModelConfig::Uvit(UvitConfig { image_size, ..UvitConfig::tiny() }));
        for (small, large, naming) in [(dim(8, 32), dim(12, 32), Naming::Authors), (uvit(8), uvit(12), Naming::Ours)] {
            let folder = tempfile::tempdir().unwrap();
            load(&saved(&small, naming, &folder), &large, 0).unwrap();
            let x = Tensor::arange(3 * 12 * 12, (Kind::Float, Device::Cpu)).cos().view([1, 3, 12, 12]);
            let t = Tensor::from_slice(&[500_f32]);
            // The small network interpolates its own table when it is given larger images.
            let expected = small.predict(&x, &t, None).unwrap();
            let error = (large.predict(&x, &t, None).unwrap() - expected).abs().max().double_value(&[]);
            assert!(error < 1e-6, "{}: {error}", small.config().backbone());
        }
    }

    #[test]
    fn classes_of_another_number_start_fresh_and_all_else_is_kept() {
        let uvit = |classes| network(ModelConfig::Uvit(UvitConfig { classes, ..UvitConfig::tiny() }));
        let dim = |classes| network(ModelConfig::Dim(DimConfig { classes, ..DimConfig::tiny() }));
        for (trained, own) in [(dim(5), dim(3)), (uvit(2), uvit(6))] {
            let folder = tempfile::tempdir().unwrap();
            let path = saved(&trained, Naming::Ours, &folder);
            let fresh = network(own.config().clone());
            fresh.initialise(7).unwrap();
            load(&path, &own, 7).unwrap();
            let same = |a: &Tensor, b: &Tensor| a.equal(b);
            let (mut tables, null) = (0, own.config().null_class().unwrap() as i64);
            for (spec, tensor) in own.parameters().iter() {
                let of = |network: &Network| network.parameters().get(&spec.name).unwrap();
                if own.config().class_tables().contains(&spec.name.as_str()) {
                    tables += 1;
                    let trained_null = of(&trained).get(trained.config().null_class().unwrap() as i64);
                    assert!(same(&tensor.get(null), &trained_null), "{}: no class is what it was", spec.name);
                    assert!(same(&tensor.narrow(0, 0, null), &of(&fresh).narrow(0, 0, null)), "{}", spec.name);
                } else {
                    assert!(same(tensor, &of(&trained)), "{}", spec.name);
                }
            }
            assert_eq!(tables, own.config().class_tables().len());
        }
    }

    #[test]
    fn network_of_another_width_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let error = load(&saved(&dim(8, 16), Naming::Authors, &folder), &dim(8, 32), 0).unwrap_err().to_string();
        assert!(
            error.contains("of the wrong shape") && error.contains("position_table expected [18, 32] got [18, 16]"),
            "{error}"
        );
    }
}
