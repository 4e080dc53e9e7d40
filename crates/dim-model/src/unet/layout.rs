//! Which layers an ADM U-Net is made of, in the order of its state dictionary: the one description that parameters, cost and
//! modules are derived from. Source: Dhariwal & Nichol 2021, appendix, and their published code.

use super::config::UnetConfig;

/// What happens to the resolution in a residual block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Resample {
    Keep,
    Halve,
    Double,
}

/// What a layer is, and its numbers of channels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    /// A 3 × 3 convolution.
    Convolution { inputs: usize, outputs: usize },
    /// A residual block.
    Residual { inputs: usize, outputs: usize, resample: Resample },
    /// Self-attention over all pixels.
    Attention { channels: usize },
}

/// One layer.
#[derive(Debug)]
pub(super) struct Layer {
    /// Prefix of its parameters, such as `input_blocks.3.0`.
    pub(super) name: String,
    pub(super) form: Form,
    /// Downsampling rate at which it computes: that of its output.
    pub(super) rate: usize,
}

/// Layers between two long skips: an element of the published `input_blocks` or `output_blocks`, or `middle_block`.
#[derive(Debug)]
pub(super) struct Stage {
    /// Such as `input_blocks.3`.
    pub(super) name: String,
    pub(super) layers: Vec<Layer>,
}

impl Stage {
    fn new(name: String) -> Self {
        Self { name, layers: Vec::new() }
    }

    fn push(mut self, form: Form, rate: usize) -> Self {
        self.layers.push(Layer { name: format!("{}.{}", self.name, self.layers.len()), form, rate });
        self
    }

    /// A residual block, and attention where the configuration has it.
    fn level(config: &UnetConfig, name: String, inputs: usize, outputs: usize, rate: usize) -> Self {
        let stage = Self::new(name).push(Form::Residual { inputs, outputs, resample: Resample::Keep }, rate);
        if config.attention_downsampling.contains(&rate) {
            stage.push(Form::Attention { channels: outputs }, rate)
        } else {
            stage
        }
    }
}

/// All layers between the embeddings and the output.
#[derive(Debug)]
pub(super) struct Layout {
    /// Each leaves a long skip behind.
    pub(super) input: Vec<Stage>,
    pub(super) middle: Stage,
    /// Each takes a long skip, last in, first out.
    pub(super) output: Vec<Stage>,
    /// Channels that the output starts from.
    pub(super) channels: usize,
}

impl Layout {
    /// The layers of a valid configuration.
    pub(super) fn new(config: &UnetConfig) -> Self {
        let widths: Vec<usize> = config.channel_mult.iter().map(|mult| mult * config.model_channels).collect();
        let lowest = widths.len().saturating_sub(1);
        let mut channels = widths.first().copied().unwrap_or(config.model_channels);
        let mut rate = 1;
        let first = Form::Convolution { inputs: config.in_channels, outputs: channels };
        let mut input = vec![Stage::new("input_blocks.0".into()).push(first, rate)];
        let mut skips = vec![channels];
        for (level, &width) in widths.iter().enumerate() {
            for _ in 0..config.num_res_blocks {
                let name = format!("input_blocks.{}", input.len());
                input.push(Stage::level(config, name, channels, width, rate));
                channels = width;
                skips.push(channels);
            }
            if level < lowest {
                rate *= 2;
                let down = Form::Residual { inputs: channels, outputs: channels, resample: Resample::Halve };
                input.push(Stage::new(format!("input_blocks.{}", input.len())).push(down, rate));
                skips.push(channels);
            }
        }

        let residual = Form::Residual { inputs: channels, outputs: channels, resample: Resample::Keep };
        let attention = Form::Attention { channels };
        let middle = Stage::new("middle_block".into()).push(residual, rate).push(attention, rate).push(residual, rate);

        let mut output: Vec<Stage> = Vec::new();
        for (level, &width) in widths.iter().enumerate().rev() {
            for index in 0..=config.num_res_blocks {
                let skip = skips.pop().unwrap_or(0);
                let name = format!("output_blocks.{}", output.len());
                let mut stage = Stage::level(config, name, channels + skip, width, rate);
                channels = width;
                if level > 0 && index == config.num_res_blocks {
                    rate /= 2;
                    let up = Form::Residual { inputs: channels, outputs: channels, resample: Resample::Double };
                    stage = stage.push(up, rate);
                }
                output.push(stage);
            }
        }
        Self { input, middle, output, channels }
    }

    /// Every layer, in order.
    pub(super) fn layers(&self) -> impl Iterator<Item = &Layer> {
        let stages = self.input.iter().chain([&self.middle]).chain(&self.output);
        stages.flat_map(|stage| &stage.layers)
    }
}
