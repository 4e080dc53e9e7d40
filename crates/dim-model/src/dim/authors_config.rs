//! The authors' model configuration (JSON, as their training scripts pass it) as a [`DimConfig`].

use serde_json::Value;

use super::{DimConfig, Initialisation, LongSkip, Padding, ScanDirection};
use crate::ConfigError;

impl DimConfig {
    /// Reads the fields that change the forward pass; the others have no effect in any published configuration.
    ///
    /// # Errors
    /// Every field that is missing or of the wrong type, at once; or a network that cannot be.
    pub fn from_authors(json: &str) -> Result<Self, ConfigError> {
        let config: Value =
            serde_json::from_str(json).map_err(|error| ConfigError { problems: vec![format!("not JSON: {error}")] })?;
        let mut problems = Vec::new();
        let mut size = |name: &str| {
            let value = config.get(name).and_then(Value::as_u64).and_then(|value| usize::try_from(value).ok());
            value.unwrap_or_else(|| {
                let got = config.get(name).map_or("nothing".to_owned(), Value::to_string);
                problems.push(format!("`{name}` must be a whole number, got {got}"));
                0
            })
        };
        let patch_size = size("patch_size");
        let (image_size, d_model) = (size("sample_size"), size("num_attention_heads") * size("attention_head_dim"));
        let result = Self {
            image_size,
            in_channels: size("in_channels"),
            patch_size,
            d_model,
            depth: size("num_layers"),
            classes: size("num_embeds_ada_norm"),
            padding: Padding::Lateral,
            d_state: size("mamba_d_state"),
            d_conv: size("mamba_d_conv"),
            expand: size("mamba_expand"),
            long_skip: None,
            scan_directions: ScanDirection::ALL.len(),
            local_convolution: true,
            initialisation: Initialisation::Published,
        };
        let padding = match config.pointer("/pad_token_schedules/1").and_then(Value::as_str) {
            Some("lateral") => Padding::Lateral,
            Some("rho_pad") => Padding::Rho,
            other => {
                problems.push(format!("`pad_token_schedules` must end in \"lateral\" or \"rho_pad\", got {other:?}"));
                Padding::Lateral
            }
        };
        if !problems.is_empty() {
            return Err(ConfigError { problems });
        }
        // A list of patch counts starts with that of the position table.
        let table =
            config.pointer("/num_patches/0").and_then(Value::as_u64).and_then(|count| usize::try_from(count).ok());
        let image_size = table.map_or(result.image_size, |patches| patches.isqrt() * patch_size);
        let result = Self { padding, image_size, ..result };
        result.check()?;
        Ok(result)
    }

    /// As [`DimConfig::from_authors`], with the form of the long skips taken from the names of the weights: the authors'
    /// choice by width can be overridden in their code.
    ///
    /// # Errors
    /// As [`DimConfig::from_authors`].
    pub fn from_authors_with_weights<'a>(
        json: &str,
        mut names: impl Iterator<Item = &'a str>,
    ) -> Result<Self, ConfigError> {
        let two = names.any(|name| name.ends_with("skip_linear.0.weight") || name.ends_with("long_skip.state.weight"));
        let mut config = Self::from_authors(json)?;
        if two {
            config.long_skip = Some(LongSkip::TwoLinears);
        }
        Ok(config)
    }
}
