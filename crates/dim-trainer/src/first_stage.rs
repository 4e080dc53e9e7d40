//! The autoencoder as the first stage of a latent diffusion model: from its file of weights to latents and pictures.

use std::path::{Path, PathBuf};

use dim_model::weights::{self, DiffusersFolder, WeightFile};
use dim_model::{Autoencoder, AutoencoderConfig, Moments, Precision, Tiling};
use dim_torch::Parameters;
use tch::{Device, Kind, Tensor};

use crate::config;
use crate::error::TrainerError;

/// The metadata's key under which a file of weights says its autoencoder's sizes, as JSON.
pub(crate) const SIZES: &str = "autoencoder";

/// Pixels of images that go through the autoencoder at once, where one alone is not more: as much memory as one image of
/// 512 × 512 needs.
const PIXELS_AT_ONCE: usize = 512 * 512;

/// An autoencoder that is ready to encode and decode.
pub struct FirstStage {
    autoencoder: Autoencoder,
    weights: PathBuf,
    tile_above: usize,
    pixels_at_once: usize,
}

impl FirstStage {
    /// Reads the weights at `path`, a file or a folder of diffusers, into the autoencoder that `section` describes.
    ///
    /// A file or folder that says its own sizes must agree with the section; its scaling factor counts unless the section names one.
    ///
    /// # Errors
    /// [`TrainerError::Weights`]: a file that cannot be read, or every missing, unexpected and wrongly shaped key at once;
    /// [`TrainerError::OtherAutoencoder`].
    pub fn load(
        path: &Path,
        section: &config::Autoencoder,
        device: Device,
        precision: Precision,
    ) -> Result<Self, TrainerError> {
        let (weights, of_folder) = find(path)?;
        let file = WeightFile::open(&weights)?;
        let of_file = of_folder.map_or_else(|| sizes_of(&file), |sizes| Ok(Some(sizes)))?;
        let sizes = resolve(path, section, of_file)?;
        let specs = sizes.parameter_specs();
        // Without gradients: half the memory.
        let parameters = Parameters::frozen(&specs, device)?;
        weights::assign_file(&parameters, file, sizes.name_table())?;
        let autoencoder = Autoencoder::new(sizes, parameters)?.with_precision(precision);
        Ok(Self { autoencoder, weights, tile_above: section.tile_above, pixels_at_once: PIXELS_AT_ONCE })
    }

    /// Its sizes, the scaling factor among them.
    pub fn sizes(&self) -> &AutoencoderConfig {
        self.autoencoder.config()
    }

    /// The file that its weights were read from.
    pub fn weights(&self) -> &Path {
        &self.weights
    }

    /// CRC-32C of its weights as f32, in the order of their specifications, as eight digits: the same whatever file they came from.
    ///
    /// # Errors
    /// [`TrainerError::Libtorch`]: out of memory.
    pub fn fingerprint(&self) -> Result<String, TrainerError> {
        let mut sum = 0;
        let mut bytes = Vec::new();
        for (_, tensor) in self.autoencoder.parameters().iter() {
            let flat = tensor.f_detach()?.f_to_device(Device::Cpu)?.f_to_kind(Kind::Float)?.f_reshape([-1])?;
            let flat = flat.f_view_dtype(Kind::Uint8)?;
            bytes.resize(flat.numel(), 0);
            flat.f_copy_data_u8(&mut bytes, flat.numel())?;
            sum = crc32c::crc32c_append(sum, &bytes);
        }
        Ok(format!("{sum:08x}"))
    }

    /// Pictures of `latents`, `[image, latent channel, row, column]` as the network draws them: `[image, channel, row, column]` in
    /// about [-1, 1], f32, on the CPU.
    ///
    /// # Errors
    /// [`TrainerError::Model`] for latents of another shape; no memory.
    pub fn decode(&self, latents: &Tensor) -> Result<Tensor, TrainerError> {
        let rate = self.sizes().downsampling();
        let pieces = self.pieces(latents, rate, |piece, tiled| match tiled {
            true => self.autoencoder.decode_tiled(piece, Tiling::default()),
            false => self.autoencoder.decode(piece),
        })?;
        let pieces: Vec<Tensor> =
            pieces.into_iter().map(|images| images.f_to_device(Device::Cpu)).collect::<Result<_, _>>()?;
        Ok(Tensor::f_cat(&pieces, 0)?)
    }

    /// Moments of the latents of `images`, `[image, channel, row, column]` in [-1, 1].
    ///
    /// # Errors
    /// [`TrainerError::Model`] for images of another shape; no memory.
    pub fn encode(&self, images: &Tensor) -> Result<Moments, TrainerError> {
        let pieces = self.pieces(images, 1, |piece, tiled| {
            match tiled {
                true => self.autoencoder.encode_tiled(piece, Tiling::default()),
                false => self.autoencoder.encode(piece),
            }?
            .both()
        })?;
        Ok(Moments::new(&Tensor::f_cat(&pieces, 0)?, self.sizes().scaling_factor)?)
    }

    /// What `compute` makes of as many images of `x` at a time as fit in memory, and whether they are too large to be computed
    /// whole. A pixel of `x` is `rate` pixels of an image.
    fn pieces<E: Into<TrainerError>>(
        &self,
        x: &Tensor,
        rate: usize,
        compute: impl Fn(&Tensor, bool) -> Result<Tensor, E>,
    ) -> Result<Vec<Tensor>, TrainerError> {
        let _no_grad = tch::no_grad_guard();
        let sides: Vec<usize> = x.size().iter().skip(2).map(|&side| side.unsigned_abs() as usize * rate).collect();
        let at_once = (self.pixels_at_once / sides.iter().product::<usize>().max(1)).max(1);
        let tiled = sides.iter().any(|&side| side > self.tile_above);
        let pieces = x.f_split(at_once as i64, 0)?;
        pieces.iter().map(|piece| compute(piece, tiled).map_err(Into::into)).collect()
    }
}

/// The file of weights at `path`, and the sizes that it has if it stands in a folder of diffusers.
fn find(path: &Path) -> Result<(PathBuf, Option<AutoencoderConfig>), TrainerError> {
    if !path.is_dir() {
        return Ok((path.to_owned(), None));
    }
    let DiffusersFolder { sizes, weights } = DiffusersFolder::open(path)?;
    Ok((weights, Some(sizes)))
}

/// The sizes that a file of weights says of itself, if it is one of ours.
pub(crate) fn sizes_of(file: &WeightFile) -> Result<Option<AutoencoderConfig>, TrainerError> {
    let parse = |text: &String| {
        serde_json::from_str(text).map_err(|error| TrainerError::OtherAutoencoder {
            path: file.path().to_owned(),
            problem: format!("its metadata `{SIZES}` do not parse ({error})"),
        })
    };
    file.metadata().get(SIZES).map(parse).transpose()
}

/// The sizes to build, from what the section and the file say.
fn resolve(
    path: &Path,
    section: &config::Autoencoder,
    of_file: Option<AutoencoderConfig>,
) -> Result<AutoencoderConfig, TrainerError> {
    let asked = section.sizes();
    let Some(of_file) = of_file else { return Ok(asked) };
    let scaling_factor = section.scaling_factor.unwrap_or(of_file.scaling_factor);
    let expected = AutoencoderConfig { scaling_factor, ..asked };
    let got = AutoencoderConfig { scaling_factor, ..of_file };
    if expected == got {
        return Ok(got);
    }
    let problem = format!(
        "the section [autoencoder] describes {}, the file holds {}",
        serde_json::json!(expected),
        serde_json::json!(got)
    );
    Err(TrainerError::OtherAutoencoder { path: path.to_owned(), problem })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::collections::BTreeMap;

    use super::*;
    use dim_model::weights::{Naming, save_parameters};

    fn sizes() -> AutoencoderConfig {
        AutoencoderConfig { channel_mult: vec![1, 1], ..AutoencoderConfig::tiny() }
    }

    fn section(sizes: AutoencoderConfig, tile_above: usize) -> config::Autoencoder {
        config::Autoencoder { kind: None, weights: None, scaling_factor: None, tile_above, sizes: Some(sizes) }
    }

    /// A file of weights that are all different, with these metadata.
    fn file(folder: &tempfile::TempDir, metadata: &[(&str, String)]) -> PathBuf {
        let specs = sizes().parameter_specs();
        let parameters = Parameters::zeros(&specs, Device::Cpu).unwrap();
        let values = parameters.values();
        let waves = Tensor::arange(values.numel() as i64, (Kind::Float, Device::Cpu)).sin() * 0.1;
        tch::no_grad(|| values.shallow_clone().copy_(&waves));
        let path = folder.path().join("autoencoder.safetensors");
        let metadata: BTreeMap<_, _> = metadata.iter().map(|(key, text)| ((*key).to_owned(), text.clone())).collect();
        save_parameters(&path, &parameters, Naming::Ours, &metadata).unwrap();
        path
    }

    fn load(path: &Path, section: &config::Autoencoder) -> Result<FirstStage, TrainerError> {
        tch::set_num_threads(1); // tests run side by side; threads that wait for each other would only spin
        FirstStage::load(path, section, Device::Cpu, Precision::F32)
    }

    fn latents(count: i64, side: i64) -> Tensor {
        Tensor::arange(count * 4 * side * side, (Kind::Float, Device::Cpu)).cos().view([count, 4, side, side])
    }

    #[test]
    fn images_do_not_depend_on_how_many_go_through_at_once() {
        let folder = tempfile::tempdir().unwrap();
        let mut stage = load(&file(&folder, &[]), &section(sizes(), 1024)).unwrap();
        let latents = latents(3, 6);
        stage.pixels_at_once = 2 * 12 * 12;
        let images = stage.decode(&latents).unwrap();
        assert_eq!(images.size(), [3, 3, 12, 12]);
        let last = tch::no_grad(|| stage.autoencoder.decode(&latents.narrow(0, 2, 1)).unwrap());
        assert!(images.narrow(0, 2, 1).equal(&last));
        let moments = stage.encode(&images).unwrap();
        let last = tch::no_grad(|| stage.autoencoder.encode(&images.narrow(0, 2, 1)).unwrap());
        assert!(moments.both().unwrap().narrow(0, 2, 1).equal(&last.both().unwrap()));
    }

    #[test]
    fn images_above_the_stated_side_go_through_in_tiles() {
        let folder = tempfile::tempdir().unwrap();
        let path = file(&folder, &[]);
        let latents = latents(1, 72); // 144 pixels; a tile is 64 of the latent
        let decode = |tile_above: usize| load(&path, &section(sizes(), tile_above)).unwrap().decode(&latents).unwrap();
        let (whole, tiled) = (decode(144), decode(143));
        assert!(!whole.equal(&tiled));
        let stage = load(&path, &section(sizes(), 1)).unwrap();
        assert!(tiled.equal(&tch::no_grad(|| stage.autoencoder.decode_tiled(&latents, Tiling::default()).unwrap())));
    }

    #[test]
    fn sizes_of_the_file_must_be_those_of_the_section_and_its_scaling_counts() {
        let folder = tempfile::tempdir().unwrap();
        let of_file = AutoencoderConfig { scaling_factor: 0.7, ..sizes() };
        let path = file(&folder, &[(SIZES, serde_json::json!(of_file).to_string())]);
        assert_eq!(load(&path, &section(sizes(), 64)).unwrap().sizes().scaling_factor, 0.7);
        let named = config::Autoencoder { scaling_factor: Some(0.3), ..section(sizes(), 64) };
        assert_eq!(load(&path, &named).unwrap().sizes().scaling_factor, 0.3);
        let error = load(&path, &section(AutoencoderConfig::kl_f8(), 64)).err().unwrap().to_string();
        assert!(error.contains("autoencoder.safetensors") && error.contains("\"channels\":128"), "{error}");
        assert!(error.contains("\"channels\":32"), "{error}");

        let path = file(&folder, &[(SIZES, "{".to_owned())]);
        let error = load(&path, &section(sizes(), 64)).err().unwrap().to_string();
        assert!(error.contains("`autoencoder` do not parse"), "{error}");
    }

    #[test]
    fn weights_of_another_autoencoder_are_refused_by_key() {
        let folder = tempfile::tempdir().unwrap();
        let other = AutoencoderConfig { channel_mult: vec![1, 1, 1], ..sizes() };
        let error = load(&file(&folder, &[]), &section(other, 64)).err().unwrap().to_string();
        assert!(error.contains("encoder.down.2.block.0.conv1.weight"), "{error}");
    }
}
