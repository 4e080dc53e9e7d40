//! Weights to start from, also those of a network for smaller images: the paper's weak-to-strong training goes from 256 to 512 px
//! (arXiv 2405.14224, section 3.3).

use std::path::Path;

use dim_model::weights::{self, WeightFile};
use dim_model::{Dim, Grid};
use tch::{Tensor, no_grad};

use super::checkpoint;
use crate::error::TrainerError;
use crate::snapshot;

const POSITION_TABLE: &str = "position_table";
/// Rows of the table that belong to the condition tokens, not to patches.
const CONDITION_ROWS: i64 = 2;

/// Reads a file of weights into `dim`. A position table of another square grid is resized bilinearly; all else must fit.
///
/// # Errors
/// [`TrainerError::Weights`] with every missing, unexpected and wrongly shaped key at once.
pub(super) fn load(path: &Path, dim: &Dim) -> Result<(), TrainerError> {
    let file = WeightFile::open(path)?;
    if checkpoint::is_checkpoint(file.metadata()) {
        return snapshot::load(path, dim.parameters());
    }
    let mut tensors = weights::load_file(file)?;
    for (name, tensor) in &mut tensors {
        if name == POSITION_TABLE
            && let Some(resized) = resized(tensor, dim.config().table_grid())?
        {
            *tensor = resized;
        }
    }
    Ok(weights::assign(dim.parameters(), &tensors)?)
}

/// The table `[2 + patches, d_model]` of a square grid for another grid; `None` if there is nothing to resize, or it is no such table.
fn resized(table: &Tensor, to: Grid) -> Result<Option<Tensor>, TrainerError> {
    let &[rows, width] = table.size().as_slice() else { return Ok(None) };
    let patches = rows - CONDITION_ROWS;
    let side = (patches.max(0) as f64).sqrt() as i64;
    let [to_rows, to_columns] = [to.rows, to.columns].map(|size| size as i64);
    if patches < 1 || side * side != patches || [side, side] == [to_rows, to_columns] {
        return Ok(None);
    }
    let _no_grad = tch::no_grad_guard();
    let grid = table.f_narrow(0, CONDITION_ROWS, patches)?.f_view([1, side, side, width])?.f_permute([0, 3, 1, 2])?;
    let grid = grid.f_upsample_bilinear2d([to_rows, to_columns], false, None, None)?;
    let grid = grid.f_permute([0, 2, 3, 1])?.f_reshape([to_rows * to_columns, width])?;
    Ok(Some(no_grad(|| Tensor::f_cat(&[table.f_narrow(0, 0, CONDITION_ROWS)?, grid], 0))?))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::collections::BTreeMap;

    use dim_model::DimConfig;
    use dim_model::weights::{Naming, save_parameters};
    use dim_torch::Parameters;
    use tch::{Device, Kind};

    use super::*;

    fn network(image_size: usize, d_model: usize) -> Dim {
        let config = DimConfig { image_size, d_model, ..DimConfig::tiny() };
        let dim = Dim::new(config.clone(), Parameters::zeros(&config.parameter_specs(), Device::Cpu).unwrap()).unwrap();
        dim.initialise(1).unwrap();
        let table = dim.parameters().get(POSITION_TABLE).unwrap();
        no_grad(|| {
            table
                .shallow_clone()
                .copy_(&Tensor::arange(table.numel() as i64, (Kind::Float, Device::Cpu)).sin().view_as(&table))
        });
        dim
    }

    fn saved(dim: &Dim, folder: &tempfile::TempDir) -> std::path::PathBuf {
        let path = folder.path().join("weights.safetensors");
        save_parameters(&path, dim.parameters(), Naming::Authors, &BTreeMap::new()).unwrap();
        path
    }

    #[test]
    fn larger_network_starts_as_the_smaller_one_at_its_size() {
        let folder = tempfile::tempdir().unwrap();
        let (small, large) = (network(8, 32), network(12, 32));
        load(&saved(&small, &folder), &large).unwrap();
        let x = Tensor::arange(3 * 12 * 12, (Kind::Float, Device::Cpu)).cos().view([1, 3, 12, 12]);
        let t = Tensor::from_slice(&[500_f32]);
        // The small network interpolates its own table when it is given larger images.
        let expected = small.forward(&x, &t, None).unwrap();
        assert!((large.forward(&x, &t, None).unwrap() - expected).abs().max().double_value(&[]) < 1e-6);
    }

    #[test]
    fn network_of_another_width_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let error = load(&saved(&network(8, 16), &folder), &network(8, 32)).unwrap_err().to_string();
        assert!(
            error.contains("of the wrong shape") && error.contains("position_table expected [18, 32] got [18, 16]"),
            "{error}"
        );
    }
}
