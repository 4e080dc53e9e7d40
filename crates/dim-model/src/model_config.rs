//! Which network, and its sizes.

use dim_torch::{ParameterSpec, Parameters, TorchError};
use serde::{Deserialize, Serialize};
use tch::Tensor;

use crate::{
    Backbone, BackboneConfig, ConfigError, Cost, DimConfig, DitConfig, ModelError, Precision, UnetConfig, UvitConfig,
    dit, grid::Grid, layers::resized_table, unet, uvit, weights::NameTable,
};

/// The sizes of any of the networks, told apart by the field `backbone`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "backbone", rename_all = "snake_case")]
pub enum ModelConfig {
    /// Diffusion Mamba.
    Dim(DimConfig),
    /// The diffusion transformer.
    Dit(DitConfig),
    /// The vision transformer with long skips.
    Uvit(UvitConfig),
    /// The U-Net of ADM.
    Unet(UnetConfig),
}

impl ModelConfig {
    /// The values of the field `backbone`.
    pub const BACKBONES: [&'static str; 4] = ["dim", "dit", "uvit", "unet"];

    /// The preset called `name`, such as `dim_l_2` or `dit_xl_2`.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        let uvit = || UvitConfig::PRESETS.iter().find(|(known, _)| *known == name).map(|(_, preset)| preset());
        DimConfig::named(name)
            .map(Self::Dim)
            .or_else(|| DitConfig::named(name).map(Self::Dit))
            .or_else(|| uvit().map(Self::Uvit))
            .or_else(|| UnetConfig::named(name).map(Self::Unet))
    }

    /// The names of all presets.
    #[must_use]
    pub fn names() -> Vec<String> {
        let dim = DimConfig::PRESETS.iter().map(|(name, _)| (*name).to_owned());
        let uvit = UvitConfig::PRESETS.iter().map(|(name, _)| (*name).to_owned());
        let unet = UnetConfig::PRESETS.iter().map(|(name, _)| (*name).to_owned());
        dim.chain(DitConfig::names()).chain(uvit).chain(unet).collect()
    }

    /// The field `backbone`.
    #[must_use]
    pub fn backbone(&self) -> &'static str {
        match self {
            Self::Dim(_) => "dim",
            Self::Dit(_) => "dit",
            Self::Uvit(_) => "uvit",
            Self::Unet(_) => "unet",
        }
    }

    /// The names that the network's weights have elsewhere.
    #[must_use]
    pub fn name_table(&self) -> NameTable {
        match self {
            Self::Dim(_) => NameTable::Dim,
            Self::Dit(_) => NameTable::AsPublished(&dit::PUBLISHED_NAMES),
            Self::Uvit(_) => NameTable::AsPublished(&uvit::PUBLISHED_NAMES),
            Self::Unet(_) => NameTable::AsPublished(&unet::PUBLISHED_NAMES),
        }
    }

    /// The weights called `name` of a network made for another image size, as this network needs them: its table of positions,
    /// if that is learned, resized bilinearly; `None` for all else.
    ///
    /// # Errors
    /// An error of libtorch.
    pub fn resized(&self, name: &str, weights: &Tensor) -> Result<Option<Tensor>, TorchError> {
        let (table, prefix) = match self {
            Self::Dim(_) => ("position_table", 2),
            Self::Uvit(config) => ("pos_embed", config.extra_tokens()),
            Self::Dit(_) | Self::Unet(_) => return Ok(None), // nothing of theirs is learned for one size
        };
        let side = self.image_size() / self.size_multiple();
        if name == table { resized_table(weights, prefix, Grid::square(side)) } else { Ok(None) }
    }

    /// The parameters that hold a row for each class, and behind them, if there is a null class, one for that.
    #[must_use]
    pub fn class_tables(&self) -> &'static [&'static str] {
        match self {
            Self::Dim(_) => &["class_embed.modulation", "class_embed.token"],
            Self::Dit(_) => &["y_embedder.embedding_table.weight"],
            Self::Uvit(_) | Self::Unet(_) => &["label_emb.weight"],
        }
    }

    fn sizes(&self) -> &dyn BackboneConfig {
        match self {
            Self::Dim(config) => config,
            Self::Dit(config) => config,
            Self::Uvit(config) => config,
            Self::Unet(config) => config,
        }
    }
}

impl BackboneConfig for ModelConfig {
    fn validate(&self) -> Result<(), ConfigError> {
        self.sizes().validate()
    }

    fn parameter_specs(&self) -> Vec<ParameterSpec> {
        self.sizes().parameter_specs()
    }

    fn build(&self, parameters: Parameters, precision: Precision) -> Result<Box<dyn Backbone>, ModelError> {
        self.sizes().build(parameters, precision)
    }

    fn image_size(&self) -> usize {
        self.sizes().image_size()
    }

    fn with_image_size(&self, image_size: usize) -> Self {
        match self {
            Self::Dim(config) => Self::Dim(config.with_image_size(image_size)),
            Self::Dit(config) => Self::Dit(config.with_image_size(image_size)),
            Self::Uvit(config) => Self::Uvit(config.with_image_size(image_size)),
            Self::Unet(config) => Self::Unet(config.with_image_size(image_size)),
        }
    }

    fn in_channels(&self) -> usize {
        self.sizes().in_channels()
    }

    fn classes(&self) -> usize {
        self.sizes().classes()
    }

    fn null_class(&self) -> Option<usize> {
        self.sizes().null_class()
    }

    fn size_multiple(&self) -> usize {
        self.sizes().size_multiple()
    }

    fn tokens(&self, height: usize, width: usize) -> usize {
        self.sizes().tokens(height, width)
    }

    fn parameter_units(&self) -> Vec<String> {
        self.sizes().parameter_units()
    }

    fn check_split(&self, height: usize, width: usize, processes: usize) -> Result<(), ModelError> {
        self.sizes().check_split(height, width, processes)
    }

    fn cost(&self, height: usize, width: usize) -> Cost {
        self.sizes().cost(height, width)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_preset_is_found_is_valid_and_says_its_backbone() {
        for name in ModelConfig::names() {
            let config = ModelConfig::named(&name).expect("a known name");
            assert_eq!(config.validate(), Ok(()), "{name}");
            let prefix = match name.split('_').next() {
                Some("tiny") => "dim",
                Some("adm") => "unet",
                prefix => prefix.unwrap_or_default(),
            };
            assert_eq!(config.backbone(), prefix);
            assert!(ModelConfig::BACKBONES.contains(&prefix));
            let json = serde_json::to_value(&config).expect("plain fields");
            assert_eq!(json["backbone"], prefix);
            assert_eq!(serde_json::from_value::<ModelConfig>(json).expect("what was written"), config);
        }
        assert_eq!(ModelConfig::named("sd_3"), None);
    }

    #[test]
    fn another_image_size_changes_nothing_else() {
        for name in ModelConfig::names() {
            let config = ModelConfig::named(&name).expect("a known name");
            let size = 2 * config.image_size();
            let other = config.with_image_size(size);
            assert_eq!(other.image_size(), size);
            assert_eq!(other.with_image_size(config.image_size()), config);
            assert!(other.tokens(size, size) > config.tokens(config.image_size(), config.image_size()));
        }
    }
}
