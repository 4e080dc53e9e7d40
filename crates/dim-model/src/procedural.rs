//! Weights computed from their names: a full-size network that fits into no repository can still be compared with the
//! published implementation, when both fill it by the same rule.

use dim_torch::{ParameterSpec, Parameters, TorchError};
use tch::{Tensor, no_grad};

use crate::init::fnv1a;

/// Centre and half width of a parameter's values.
struct Range {
    centre: Centre,
    half_width: f64,
}

enum Centre {
    Constant(f64),
    /// ln(column + 1), for `A_log`.
    LogColumn,
    /// 0.5 at the middle tap of a 3 × 3 filter, 0 elsewhere.
    MiddleTap,
}

/// The values of the parameter that the authors call `spec.name`, in their shape, for a model's `seed`.
pub(crate) fn weights(spec: &ParameterSpec, seed: u64) -> Vec<f32> {
    let Range { centre, half_width } = range(spec);
    let columns = spec.shape.last().map_or(1, |&columns| usize::try_from(columns).unwrap_or(1).max(1));
    let key = key(&spec.name, seed);
    let elements = usize::try_from(spec.elements()).unwrap_or(0);
    let centres: Vec<f64> = (0..columns)
        .map(|column| match centre {
            Centre::Constant(value) => value,
            #[allow(clippy::cast_precision_loss)]
            Centre::LogColumn => ((column + 1) as f64).ln(),
            Centre::MiddleTap => 0.0,
        })
        .collect();
    (0..elements)
        .map(|index| {
            let centre = match centre {
                Centre::MiddleTap if index % 9 == 4 => 0.5,
                _ => centres[index % columns],
            };
            #[allow(clippy::cast_possible_truncation)] // the rule: computed in f64, rounded to f32
            let value = (unit(key, index as u64) * half_width + centre) as f32;
            value
        })
        .collect()
}

/// Fills a network whose parameters have the published names.
pub(crate) fn fill(parameters: &Parameters, seed: u64) -> Result<(), TorchError> {
    for (spec, tensor) in parameters.iter() {
        let fresh = Tensor::from_slice(&weights(spec, seed)).f_view(spec.shape.as_slice())?;
        no_grad(|| tensor.shallow_clone().f_copy_(&fresh))?;
    }
    Ok(())
}

fn range(spec: &ParameterSpec) -> Range {
    let name = spec.name.as_str();
    #[allow(clippy::cast_precision_loss)]
    let product = |sizes: &[i64]| sizes.iter().product::<i64>() as f64;
    let constant = |centre, half_width| Range { centre: Centre::Constant(centre), half_width };
    // The first rule that fits counts.
    if let Some(part) = part_of_batch_norm(name) {
        return match part {
            "weight" => constant(1.0, 0.3),
            "bias" => constant(0.0, 0.1),
            "running_mean" => constant(0.0, 0.2),
            _ => constant(1.0, 0.3),
        };
    }
    if is_activated_convolution(name) {
        // Half of what goes through a ReLU is lost.
        constant(0.0, (6.0 / product(&spec.shape[1..])).sqrt())
    } else if name.ends_with("A_log") {
        Range { centre: Centre::LogColumn, half_width: 0.3 }
    } else if name.ends_with("attn1.D") {
        constant(1.0, 0.5)
    } else if (name.contains("norm") && name.ends_with("weight")) || is_group_norm_of_adm(name) {
        constant(1.0, 0.3)
    } else if name.ends_with(".gamma") {
        // What DINOv2's layers add is scaled by this, channel by channel.
        constant(0.5, 0.4)
    } else if name.ends_with("dt_proj.weight") {
        constant(0.0, product(&spec.shape[1..2]).powf(-0.5))
    } else if name.ends_with("dt_proj.bias") {
        constant(-3.0, 1.5)
    } else if name.ends_with("conv1d.weight") {
        constant(0.0, 0.8)
    } else if name.contains("smoother.weight") {
        Range { centre: Centre::MiddleTap, half_width: 0.3 }
    } else if name.ends_with("scale_shift_table") {
        constant(0.0, 0.3)
    } else if name == "additional_embed"
        || name == "pos_embed"
        || name == "label_emb.weight"
        || name.contains("embedding_table")
        || name.contains("pad_token")
    {
        constant(0.0, 0.8)
    } else if name.ends_with("bias") {
        constant(0.0, 0.1)
    } else {
        constant(0.0, (3.0 / product(&spec.shape[1..])).sqrt())
    }
}

/// Whether this is the scale of a group norm of ADM that is called by its place in a sequence.
fn is_group_norm_of_adm(name: &str) -> bool {
    name == "out.0.weight" || name.ends_with("in_layers.0.weight") || name.ends_with("out_layers.0.weight")
}

/// Which part of a batch norm this is: Inception calls them `bn`, EfficientNet `_bn` and a number.
fn part_of_batch_norm(name: &str) -> Option<&str> {
    let (unit, part) = name.rsplit_once('.')?;
    let unit = unit.rsplit('.').next()?;
    (unit == "bn" || unit.starts_with("_bn")).then_some(part)
}

/// Whether this is a convolution of Inception, or one of EfficientNet that a ReLU follows.
fn is_activated_convolution(name: &str) -> bool {
    let inception = (name.starts_with("Conv2d_") || name.starts_with("Mixed_")) && name.ends_with(".conv.weight");
    let efficientnet = name.starts_with("_conv_") || name.starts_with("_blocks.");
    inception || (efficientnet && !name.ends_with("_project_conv.weight"))
}

/// Weyl increment of splitmix64.
const GOLDEN: u64 = 0x9E37_79B9_7F4A_7C15;

fn key(name: &str, seed: u64) -> u64 {
    fnv1a(name) ^ seed.wrapping_mul(GOLDEN)
}

/// Element `index` of the sequence of `key`: splitmix64, as a number in [−1, 1).
fn unit(key: u64, index: u64) -> f64 {
    let mut z = key.wrapping_add(index.wrapping_add(1).wrapping_mul(GOLDEN));
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^= z >> 31;
    #[allow(clippy::cast_precision_loss)] // 24 bits
    let value = (z >> 40) as f64;
    value / f64::from(1_u32 << 23) - 1.0
}
