//! Which layers an EfficientNet-Lite is made of, and the names and shapes of its weights.
//!
//! Source: Tan & Le 2019 (arXiv 1905.11946), table 1 and section 3.3, without squeeze-and-excitation and with ReLU6 (TensorFlow's "lite"
//! variants, whose first and last stages and convolutions do not grow); names of the package `efficientnet-lite-pytorch` 0.1.0.

use dim_torch::ParameterSpec;

use super::LiteSize;

/// Channels behind the first convolution.
const STEM: i64 = 32;
/// Features.
pub(super) const FEATURES: i64 = 1280;
/// Classes of ImageNet.
pub(super) const CLASSES: i64 = 1000;
/// Widths are multiples of this.
const WIDTH_DIVISOR: i64 = 8;

/// Blocks of one resolution and width, before they grow: how often, side of the filter, stride of the first, expansion, channels.
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

pub(super) fn blocks(size: LiteSize) -> Vec<Block> {
    let growth = size.growth();
    let mut blocks = Vec::new();
    let mut inputs = STEM;
    for (stage, (repeats, side, stride, expansion, outputs)) in STAGES.into_iter().enumerate() {
        let fixed = stage == 0 || stage == STAGES.len() - 1;
        let repeats = if fixed { repeats } else { growth.repeats(repeats) };
        let outputs = growth.channels(outputs);
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

pub(super) fn head(size: LiteSize) -> Unit {
    unit("", ("_conv_head", "_bn1"), (size.growth().channels(STAGES[6].4), FEATURES), (1, 1))
}

/// Numbers of the blocks behind which the resolution falls, and of the last.
pub(super) fn last_of_each_resolution(blocks: &[Block]) -> Vec<usize> {
    let halves = |block: &Block| block.units.iter().any(|unit| unit.stride > 1);
    (0..blocks.len()).filter(|&number| blocks.get(number + 1).is_none_or(halves)).collect()
}

/// How much wider and deeper a network is than the smallest, in tenths: products of binary fractions would round `1.1 × 20` upwards.
#[derive(Clone, Copy, Debug)]
pub(super) struct Growth {
    pub(super) width_tenths: i64,
    pub(super) depth_tenths: i64,
}

impl Growth {
    /// The multiple of [`WIDTH_DIVISOR`] that is nearest, upwards where two are; never more than a tenth below.
    fn channels(self, channels: i64) -> i64 {
        let tenths = channels * self.width_tenths;
        let rounded = (tenths + 5 * WIDTH_DIVISOR) / (10 * WIDTH_DIVISOR) * WIDTH_DIVISOR;
        let rounded = rounded.max(WIDTH_DIVISOR);
        if 100 * rounded < 9 * tenths { rounded + WIDTH_DIVISOR } else { rounded }
    }

    /// Rounded up.
    fn repeats(self, repeats: i64) -> i64 {
        (repeats * self.depth_tenths + 9) / 10
    }
}

/// Name and shape of every weight.
pub(super) fn specs(size: LiteSize) -> Vec<ParameterSpec> {
    let blocks = blocks(size).into_iter().flat_map(|block| block.units);
    let units = [stem()].into_iter().chain(blocks).chain([head(size)]);
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
    fn they_have_the_published_sizes() {
        // Blocks, parameters, and tensors of the file, which has a count of batches for each norm, too.
        let published = [
            (LiteSize::Lite0, 16, 4_652_008, 296),
            (LiteSize::Lite1, 21, 5_416_680, 386),
            (LiteSize::Lite2, 21, 6_092_072, 386),
        ];
        for (size, depth, parameters, tensors) in published {
            let specs = specs(size);
            let norms = specs.iter().filter(|spec| spec.name.ends_with("running_var")).count();
            assert_eq!(blocks(size).len(), depth, "{size:?}");
            assert_eq!(size.parameters(), parameters, "{size:?}");
            assert_eq!(specs.len(), tensors - norms, "{size:?}");
        }
    }

    #[test]
    fn widths_are_those_of_the_published_networks() {
        let widths = |size| -> Vec<i64> {
            let blocks = blocks(size);
            last_of_each_resolution(&blocks)
                .into_iter()
                .map(|number| blocks[number].units.last().map_or(0, |unit| unit.outputs))
                .collect()
        };
        assert_eq!(widths(LiteSize::Lite0), [16, 24, 40, 112, 320]);
        assert_eq!(widths(LiteSize::Lite1), [16, 24, 40, 112, 320]);
        assert_eq!(widths(LiteSize::Lite2), [16, 24, 48, 120, 352]);
        assert_eq!(last_of_each_resolution(&blocks(LiteSize::Lite0)), [0, 2, 4, 10, 15]);
    }

    #[test]
    fn a_width_never_falls_by_more_than_a_tenth() {
        let growth = |width_tenths| Growth { width_tenths, depth_tenths: 10 };
        assert_eq!(growth(10).channels(11), 16); // 8 is less than nine tenths
        assert_eq!(growth(10).channels(3), 8);
        assert_eq!(growth(11).channels(20), 24); // 22
        let repeats = |depth_tenths, repeats| Growth { width_tenths: 10, depth_tenths }.repeats(repeats);
        assert_eq!([repeats(10, 4), repeats(11, 4), repeats(12, 1)], [4, 5, 2]);
    }
}
