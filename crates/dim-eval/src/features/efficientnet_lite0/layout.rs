//! Which layers EfficientNet-Lite0 is made of, and the names and shapes of its weights.
//!
//! Source: Tan & Le 2019 (arXiv 1905.11946), table 1, without squeeze-and-excitation and with ReLU6 (TensorFlow's "lite" variants); names
//! of the package `efficientnet-lite-pytorch` 0.1.0.

use dim_torch::ParameterSpec;

/// Channels behind the first convolution.
pub(super) const STEM: i64 = 32;
/// Features.
pub(super) const FEATURES: i64 = 1280;
/// Classes of ImageNet.
pub(super) const CLASSES: i64 = 1000;

/// Blocks of one resolution and width: how often, side of the filter, stride of the first, expansion, channels.
const STAGES: [(i64, i64, i64, i64, i64); 7] = [
    (1, 3, 1, 1, 16),
    (2, 3, 2, 6, 24),
    (2, 5, 2, 6, 40),
    (3, 3, 2, 6, 80),
    (3, 5, 1, 6, 112),
    (4, 5, 2, 6, 192),
    (1, 3, 1, 6, 320),
];

/// A convolution with the batch norm behind it.
#[derive(Clone, Debug)]
pub(super) struct Unit {
    /// Name of the convolution.
    pub(super) convolution: String,
    /// Name of the batch norm.
    pub(super) norm: String,
    pub(super) inputs: i64,
    pub(super) outputs: i64,
    pub(super) side: i64,
    pub(super) stride: i64,
    /// One filter a channel.
    pub(super) depthwise: bool,
    /// ReLU6 behind it.
    pub(super) activated: bool,
}

/// Expansion, one filter a channel, projection; beside a shortcut where the shapes allow it.
#[derive(Clone, Debug)]
pub(super) struct Block {
    pub(super) units: Vec<Unit>,
    pub(super) shortcut: bool,
}

pub(super) fn stem() -> Unit {
    unit("", ("_conv_stem", "_bn0"), (3, STEM), (3, 2))
}

pub(super) fn blocks() -> Vec<Block> {
    let mut blocks = Vec::new();
    let mut inputs = STEM;
    for (repeats, side, stride, expansion, outputs) in STAGES {
        for repeat in 0..repeats {
            let prefix = format!("_blocks.{}.", blocks.len());
            let stride = if repeat == 0 { stride } else { 1 };
            let wide = inputs * expansion;
            let mut units = Vec::new();
            if expansion != 1 {
                units.push(unit(&prefix, ("_expand_conv", "_bn0"), (inputs, wide), (1, 1)));
            }
            units.push(Unit {
                depthwise: true,
                ..unit(&prefix, ("_depthwise_conv", "_bn1"), (wide, wide), (side, stride))
            });
            units.push(Unit { activated: false, ..unit(&prefix, ("_project_conv", "_bn2"), (wide, outputs), (1, 1)) });
            blocks.push(Block { units, shortcut: stride == 1 && inputs == outputs });
            inputs = outputs;
        }
    }
    blocks
}

pub(super) fn head() -> Unit {
    unit("", ("_conv_head", "_bn1"), (STAGES[6].4, FEATURES), (1, 1))
}

/// Name and shape of every weight.
pub(super) fn specs() -> Vec<ParameterSpec> {
    let blocks = blocks();
    let units = [stem()].into_iter().chain(blocks.into_iter().flat_map(|block| block.units)).chain([head()]);
    let mut specs = Vec::new();
    for unit in units {
        let inputs = if unit.depthwise { 1 } else { unit.inputs };
        specs.push(ParameterSpec::new(
            format!("{}.weight", unit.convolution),
            &[unit.outputs, inputs, unit.side, unit.side],
        ));
        specs.extend(
            ["weight", "bias", "running_mean", "running_var"]
                .map(|part| ParameterSpec::new(format!("{}.{part}", unit.norm), &[unit.outputs])),
        );
    }
    specs.push(ParameterSpec::new("_fc.weight", &[CLASSES, FEATURES]));
    specs.push(ParameterSpec::new("_fc.bias", &[CLASSES]));
    specs
}

fn unit(
    prefix: &str,
    (convolution, norm): (&str, &str),
    (inputs, outputs): (i64, i64),
    (side, stride): (i64, i64),
) -> Unit {
    let (convolution, norm) = (format!("{prefix}{convolution}"), format!("{prefix}{norm}"));
    Unit { convolution, norm, inputs, outputs, side, stride, depthwise: false, activated: true }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_has_the_published_size() {
        assert_eq!(blocks().len(), 16);
        assert_eq!(super::super::EfficientNetLite0::parameters(), 4_652_008);
        assert_eq!(specs().len(), 296 - 49); // the file has a count of batches for each norm, too
    }
}
