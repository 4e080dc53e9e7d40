//! Which layers an autoencoder is made of: the one description that parameters and cost are derived from.
//! Source: Rombach et al. 2021 (arXiv 2112.10752), appendix G.

use super::config::AutoencoderConfig;

/// What a layer is, and its numbers of channels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    /// A convolution with a filter of `side` × `side`.
    Convolution { inputs: usize, outputs: usize, side: usize },
    /// A residual block.
    Residual { inputs: usize, outputs: usize },
    /// Attention over all pixels, with the norm before it.
    Attention { channels: usize },
    /// A group norm by itself.
    Norm { channels: usize },
}

/// One layer.
#[derive(Debug)]
pub(super) struct Layer {
    /// Prefix of its parameters, such as `encoder.down.0.block.1`.
    pub(super) name: String,
    pub(super) form: Form,
    /// Downsampling rate at which it computes: that of its output.
    pub(super) rate: usize,
}

/// The layers that encode, and those that decode.
#[derive(Debug)]
pub(super) struct Layout {
    pub(super) encoder: Vec<Layer>,
    pub(super) decoder: Vec<Layer>,
}

/// Layers in the making.
struct Builder {
    layers: Vec<Layer>,
    channels: usize,
    rate: usize,
}

impl Builder {
    fn new(channels: usize, rate: usize) -> Self {
        Self { layers: Vec::new(), channels, rate }
    }

    fn push(&mut self, name: impl Into<String>, form: Form) {
        self.layers.push(Layer { name: name.into(), form, rate: self.rate });
    }

    fn convolution(&mut self, name: impl Into<String>, outputs: usize, side: usize) {
        self.push(name, Form::Convolution { inputs: self.channels, outputs, side });
        self.channels = outputs;
    }

    /// The residual blocks of one resolution, and attention behind each where the configuration has it.
    fn level(&mut self, name: &str, blocks: usize, width: usize, attends: bool) {
        for block in 0..blocks {
            self.push(format!("{name}.block.{block}"), Form::Residual { inputs: self.channels, outputs: width });
            self.channels = width;
            if attends {
                self.push(format!("{name}.attn.{block}"), Form::Attention { channels: width });
            }
        }
    }

    fn middle(&mut self, half: &str) {
        let channels = self.channels;
        let residual = Form::Residual { inputs: channels, outputs: channels };
        self.push(format!("{half}.mid.block_1"), residual);
        self.push(format!("{half}.mid.attn_1"), Form::Attention { channels });
        self.push(format!("{half}.mid.block_2"), residual);
    }

    fn output(&mut self, half: &str, outputs: usize) {
        self.push(format!("{half}.norm_out"), Form::Norm { channels: self.channels });
        self.convolution(format!("{half}.conv_out"), outputs, 3);
    }
}

impl Layout {
    /// The layers of a valid configuration.
    pub(super) fn new(config: &AutoencoderConfig) -> Self {
        Self { encoder: encoder(config), decoder: decoder(config) }
    }

    /// Every layer.
    pub(super) fn layers(&self) -> impl Iterator<Item = &Layer> {
        self.encoder.iter().chain(&self.decoder)
    }
}

fn encoder(config: &AutoencoderConfig) -> Vec<Layer> {
    let mut builder = Builder::new(config.in_channels, 1);
    builder.convolution("encoder.conv_in", config.channels, 3);
    for level in 0..config.levels() {
        let name = format!("encoder.down.{level}");
        builder.level(&name, config.num_res_blocks, config.width(level), config.attends(level));
        if level + 1 < config.levels() {
            builder.rate *= 2;
            builder.convolution(format!("{name}.downsample.conv"), builder.channels, 3);
        }
    }
    builder.middle("encoder");
    builder.output("encoder", 2 * config.latent_channels);
    builder.convolution("quant_conv", 2 * config.latent_channels, 1);
    builder.layers
}

fn decoder(config: &AutoencoderConfig) -> Vec<Layer> {
    let mut builder = Builder::new(config.latent_channels, config.downsampling());
    builder.convolution("post_quant_conv", config.latent_channels, 1);
    builder.convolution("decoder.conv_in", config.width(config.levels().max(1) - 1), 3);
    builder.middle("decoder");
    for level in (0..config.levels()).rev() {
        let name = format!("decoder.up.{level}");
        builder.level(&name, config.num_res_blocks + 1, config.width(level), config.attends(level));
        if level > 0 {
            builder.rate /= 2;
            builder.convolution(format!("{name}.upsample.conv"), builder.channels, 3);
        }
    }
    builder.output("decoder", config.in_channels);
    builder.layers
}
