//! Which images a run is about, as its configuration file says it.

use std::path::Path;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::latents::{Latents, LatentsConfig};
use crate::source::check_size;
use crate::sources::{
    Cifar10, Cifar10Config, FashionMnist, FashionMnistConfig, Features, FeaturesConfig, Folder, FolderConfig, OpenMoji,
    OpenMojiConfig, WebDataset, WebDatasetConfig,
};
use crate::{DataError, ImageSource, Pixels, Source};

/// A source of images, or of latents, and its options; `source` says which: `source = "openmoji"`, `"fashion_mnist"`, `"cifar10"`,
/// `"folder"` or `"webdataset"`; of latents `"latents"` or `"features"`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "source", rename_all = "snake_case")]
pub enum DataConfig {
    /// OpenMoji's drawings, classes = Unicode's groups of emoji.
    #[serde(rename = "openmoji")]
    OpenMoji(OpenMojiConfig),
    /// Fashion-MNIST in IDX files.
    FashionMnist(FashionMnistConfig),
    /// CIFAR-10 in its binary version.
    Cifar10(Cifar10Config),
    /// Folders of images, classes = subfolders.
    Folder(FolderConfig),
    /// Tar files in the layout of WebDataset.
    #[serde(rename = "webdataset")]
    WebDataset(WebDatasetConfig),
    /// Latents in shards, as `dim-trainer encode` makes them.
    Latents(LatentsConfig),
    /// Latents in a folder of NumPy files, as the authors' scripts leave them.
    Features(FeaturesConfig),
}

/// The part of a data set that its authors set aside for training or for testing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Split {
    /// For training.
    #[default]
    Train,
    /// For testing.
    Test,
}

impl DataConfig {
    /// Folder of the data.
    #[must_use]
    pub fn path(&self) -> &Path {
        match self {
            Self::OpenMoji(config) => &config.path,
            Self::FashionMnist(config) => &config.path,
            Self::Cifar10(config) => &config.path,
            Self::Folder(config) => &config.path,
            Self::WebDataset(config) => &config.path,
            Self::Latents(config) => &config.path,
            Self::Features(config) => &config.path,
        }
    }

    /// Whether these are latents, not images.
    #[must_use]
    pub fn is_latents(&self) -> bool {
        matches!(self, Self::Latents(_) | Self::Features(_))
    }

    /// Channels of the images: 1 or 3. Latents have their own number, which stands in their files.
    #[must_use]
    pub fn channels(&self) -> usize {
        match self {
            Self::FashionMnist(config) if !config.rgb => 1,
            _ => 3,
        }
    }

    /// Checks everything that can be checked without touching the disk.
    ///
    /// # Errors
    ///
    /// [`DataError::InvalidConfig`] with all problems at once.
    pub fn validate(&self) -> Result<(), DataError> {
        let mut problems = Vec::new();
        if self.path().as_os_str().is_empty() {
            problems.push("`path` is empty; expected the folder of the data".into());
        }
        if let Self::OpenMoji(config) = self {
            problems.extend(config.problems());
        }
        if problems.is_empty() { Ok(()) } else { Err(DataError::InvalidConfig { problems }) }
    }
}

/// Opens a source of images that are to be shown at `image_size` x `image_size` pixels.
///
/// Other sizes can be loaded from it, too; OpenMoji keeps drawings rendered at `image_size` on disk.
///
/// # Errors
///
/// [`DataError::Argument`] if `image_size` is 0 or above 16384, [`DataError::InvalidConfig`], [`DataError::WrongContents`] if these are
/// latents, and what the source says.
pub fn open(config: &DataConfig, image_size: usize) -> Result<Arc<dyn ImageSource>, DataError> {
    check_size(image_size)?;
    config.validate()?;
    Ok(match config {
        DataConfig::OpenMoji(config) => Arc::new(OpenMoji::open(config, image_size)?),
        DataConfig::FashionMnist(config) => Arc::new(FashionMnist::open(config)?),
        DataConfig::Cifar10(config) => Arc::new(Cifar10::open(config)?),
        DataConfig::Folder(config) => Arc::new(Folder::open(config)?),
        DataConfig::WebDataset(config) => Arc::new(WebDataset::open(config)?),
        DataConfig::Latents(_) | DataConfig::Features(_) => {
            return Err(DataError::WrongContents {
                path: config.path().to_owned(),
                expected: "a source of images".into(),
                found: "one of latents".into(),
                mend: "name the images that they were made of in [data]",
            });
        }
    })
}

/// Opens a source of images as [`open`] does, or one of latents, for the loader.
///
/// # Errors
///
/// As [`open`], but for latents.
pub fn open_any(config: &DataConfig, image_size: usize) -> Result<Arc<dyn Source>, DataError> {
    check_size(image_size)?;
    config.validate()?;
    Ok(match config {
        DataConfig::Latents(config) => Arc::new(Latents::open(config)?),
        DataConfig::Features(config) => Arc::new(Features::open(config)?),
        images => Arc::new(Pixels(open(images, image_size)?)),
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use crate::sources::ClassBy;

    fn parse(text: &str) -> Result<DataConfig, toml::de::Error> {
        toml::from_str(text)
    }

    #[test]
    fn every_source_is_read_with_its_options() {
        let config =
            parse("source = 'openmoji'\npath = 'd'\nskin_tones = true\nclass_by = 'subgroup'\nbackground = [1, 2, 3]");
        let DataConfig::OpenMoji(config) = config.unwrap() else { panic!("not OpenMoji") };
        assert_eq!((config.skin_tones, config.class_by, config.background), (true, ClassBy::Subgroup, [1, 2, 3]));
        assert_eq!(
            config,
            OpenMojiConfig {
                skin_tones: true,
                class_by: ClassBy::Subgroup,
                background: [1, 2, 3],
                ..OpenMojiConfig::new("d")
            }
        );

        let config = parse("source = 'fashion_mnist'\npath = 'd'\nsplit = 'test'\nrgb = true").unwrap();
        assert_eq!((config.channels(), config.path()), (3, Path::new("d")));
        assert_eq!(parse("source = 'fashion_mnist'\npath = 'd'").unwrap().channels(), 1);
        let cifar = Cifar10Config { path: "d".into(), split: Split::Train };
        assert_eq!(parse("source = 'cifar10'\npath = 'd'").unwrap(), DataConfig::Cifar10(cifar));
        assert!(matches!(parse("source = 'folder'\npath = 'd'").unwrap(), DataConfig::Folder(_)));
    }

    #[test]
    fn a_configuration_survives_being_saved() {
        let configs = [
            DataConfig::OpenMoji(OpenMojiConfig {
                cache: Some("c".into()),
                groups: vec!["Flags".into()],
                ..OpenMojiConfig::new("d")
            }),
            DataConfig::OpenMoji(OpenMojiConfig::new("d")),
            DataConfig::FashionMnist(FashionMnistConfig { path: "d".into(), split: Split::Test, rgb: true }),
            DataConfig::Cifar10(Cifar10Config { path: "d".into(), split: Split::Test }),
            DataConfig::Folder(FolderConfig { path: "d".into() }),
            DataConfig::WebDataset(WebDatasetConfig {
                path: "d".into(),
                json_key: Some("label".into()),
                class_names: Some("names.txt".into()),
            }),
            DataConfig::Latents(LatentsConfig { path: "d".into() }),
            DataConfig::Features(FeaturesConfig { path: "d".into(), classes: 10 }),
        ];
        for config in configs {
            assert_eq!(parse(&toml::to_string(&config).unwrap()).unwrap(), config);
        }
    }

    #[test]
    fn unknown_keys_sources_and_wrong_types_are_refused() {
        for (text, expected) in [
            ("source = 'folder'\npath = 'd'\nsplit = 'test'", "unknown field `split`"),
            ("source = 'mnist'\npath = 'd'", "unknown variant `mnist`, expected one of `openmoji`"),
            ("source = 'folder'", "missing field `path`"),
            ("source = 'cifar10'\npath = 3", "invalid type"),
            ("path = 'd'", "missing field `source`"),
        ] {
            let error = parse(text).unwrap_err().to_string();
            assert!(error.contains(expected), "{text}: {error}");
        }
    }

    #[test]
    fn all_problems_are_reported_at_once() {
        let config =
            OpenMojiConfig { groups: vec!["Faces".into()], subgroups: vec!["face".into()], ..OpenMojiConfig::new("") };
        let error = open(&DataConfig::OpenMoji(config), 32).err().unwrap();
        let DataError::InvalidConfig { problems } = &error else { panic!("{error}") };
        assert_eq!(problems.len(), 3, "{error}");
        assert!(
            error.to_string().contains("`groups` names \"Faces\"; expected some of \"Smileys & Emotion\", "),
            "{error}"
        );
    }

    #[test]
    fn image_size_zero_is_refused_before_anything_is_read() {
        let config = DataConfig::Folder(FolderConfig { path: "/nowhere".into() });
        assert!(matches!(open(&config, 0), Err(DataError::Argument { name: "image size", .. })));
        assert!(matches!(open(&config, 1), Err(DataError::MissingFolder { .. })));
    }
}
