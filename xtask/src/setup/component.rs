//! The things that set-up can install, each pinned.

const MB: u64 = 1_000_000;

/// One thing that is installed as a whole or not at all.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Component {
    /// File name of its stamp and of its folder for unfinished work.
    pub(crate) name: &'static str,
    pub(crate) title: &'static str,
    pub(crate) source: Source,
    pub(crate) download_bytes: u64,
    pub(crate) installed_bytes: u64,
}

/// Where a component comes from.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Source {
    /// Python wheels: the text of a pip requirements file with exact versions and hashes.
    Wheels { pins: &'static str },
    /// The Debian package of Fashion-MNIST, unpacked but not installed.
    FashionMnist,
}

pub(crate) const LIBTORCH: Component = Component {
    name: "libtorch",
    title: "libtorch 2.11.0",
    source: Source::Wheels { pins: include_str!("../../pins/libtorch.txt") },
    download_bytes: 531 * MB,
    installed_bytes: 1170 * MB,
};

pub(crate) const CUDA_RUNTIME: Component = Component {
    name: "cuda-runtime",
    title: "CUDA runtime 13.0",
    source: Source::Wheels { pins: include_str!("../../pins/cuda-runtime.txt") },
    download_bytes: 13 * MB,
    installed_bytes: 54 * MB,
};

pub(crate) const CUDA_LIBRARIES: Component = Component {
    name: "cuda-libraries",
    title: "CUDA libraries 13.0",
    source: Source::Wheels { pins: include_str!("../../pins/cuda-libraries.txt") },
    download_bytes: 1969 * MB,
    installed_bytes: 2800 * MB,
};

pub(crate) const NVCC: Component = Component {
    name: "nvcc",
    title: "nvcc 13.0.88",
    source: Source::Wheels { pins: include_str!("../../pins/nvcc.txt") },
    download_bytes: 102 * MB,
    installed_bytes: 277 * MB,
};

pub(crate) const OPENMOJI: Component = Component {
    name: "openmoji",
    title: "OpenMoji 17.0.0",
    source: Source::Wheels { pins: include_str!("../../pins/openmoji.txt") },
    download_bytes: 31 * MB,
    installed_bytes: 80 * MB,
};

pub(crate) const EFFICIENTNET_LITE0: Component = Component {
    name: "efficientnet-lite0",
    title: "EfficientNet-Lite0 0.1.0",
    source: Source::Wheels { pins: include_str!("../../pins/efficientnet-lite0.txt") },
    download_bytes: 18 * MB,
    installed_bytes: 19 * MB,
};

pub(crate) const EFFICIENTNET_LITE1: Component = Component {
    name: "efficientnet-lite1",
    title: "EfficientNet-Lite1 0.1.0",
    source: Source::Wheels { pins: include_str!("../../pins/efficientnet-lite1.txt") },
    download_bytes: 21 * MB,
    installed_bytes: 22 * MB,
};

pub(crate) const EFFICIENTNET_LITE2: Component = Component {
    name: "efficientnet-lite2",
    title: "EfficientNet-Lite2 0.1.0",
    source: Source::Wheels { pins: include_str!("../../pins/efficientnet-lite2.txt") },
    download_bytes: 23 * MB,
    installed_bytes: 25 * MB,
};

pub(crate) const LIBCLANG: Component = Component {
    name: "libclang",
    title: "libclang 18.1.1",
    source: Source::Wheels { pins: include_str!("../../pins/libclang.txt") },
    download_bytes: 25 * MB,
    installed_bytes: 64 * MB,
};

pub(crate) const CLANG_FORMAT: Component = Component {
    name: "clang-format",
    title: "clang-format 23.1.3",
    source: Source::Wheels { pins: include_str!("../../pins/clang-format.txt") },
    download_bytes: 2 * MB,
    installed_bytes: 5 * MB,
};

pub(crate) const FASHION_MNIST: Component = Component {
    name: "fashion-mnist",
    title: "Fashion-MNIST",
    source: Source::FashionMnist,
    download_bytes: 31 * MB,
    installed_bytes: 31 * MB,
};

/// A distribution (pip's word for a package in one version) that a requirements file pins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Distribution {
    pub(crate) name: String,
    pub(crate) version: String,
}

impl std::fmt::Display for Distribution {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}=={}", self.name, self.version)
    }
}

/// The distributions of a requirements file, in its order; comments and hashes are passed over.
pub(crate) fn distributions(pins: &str) -> Vec<Distribution> {
    let requirements = pins.lines().filter(|line| !line.trim_start().starts_with('#'));
    requirements
        .filter_map(|line| line.split_whitespace().next()?.split_once("=="))
        .map(|(name, version)| Distribution { name: name.to_owned(), version: version.to_owned() })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: [&Component; 11] = [
        &LIBTORCH,
        &CUDA_RUNTIME,
        &CUDA_LIBRARIES,
        &NVCC,
        &OPENMOJI,
        &EFFICIENTNET_LITE0,
        &EFFICIENTNET_LITE1,
        &EFFICIENTNET_LITE2,
        &LIBCLANG,
        &CLANG_FORMAT,
        &FASHION_MNIST,
    ];

    #[test]
    fn every_pin_has_an_exact_version_and_a_hash() {
        for component in ALL {
            let Source::Wheels { pins } = component.source else { continue };
            let lines: Vec<_> = pins.lines().filter(|line| !line.starts_with('#')).collect();
            assert!(!lines.is_empty(), "{}", component.name);
            assert_eq!(distributions(pins).len(), lines.len(), "{}", component.name);
            for line in lines {
                let hash = line.split_once(" --hash=sha256:").map(|(_, hash)| hash);
                assert!(
                    hash.is_some_and(|hash| hash.len() == 64 && hash.chars().all(|c| c.is_ascii_hexdigit())),
                    "{line}"
                );
            }
        }
    }

    #[test]
    fn names_differ_since_they_name_files() {
        let mut names: Vec<_> = ALL.iter().map(|component| component.name).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), ALL.len());
    }

    #[test]
    fn comments_and_blank_lines_pin_nothing() {
        assert_eq!(distributions("# a==1\n\n  # b==2\n"), []);
    }
}
