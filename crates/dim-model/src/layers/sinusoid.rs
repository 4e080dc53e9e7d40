//! Sinusoids of the time. Source: Vaswani et al. 2017 (arXiv 1706.03762), section 3.5.

use dim_torch::TorchError;
use tch::{Device, Kind, Tensor};

/// −ln 10⁴, rounded to f32 as in all published implementations.
#[allow(clippy::excessive_precision)]
const LOG_LOWEST_FREQUENCY: f32 = -9.210_340_371_976_184;

/// Cosines, then sines, of the time at `width / 2` frequencies from 1 to almost 10⁻⁴.
///
/// The frequencies are the same on every processor: exponentials differ between processors in the last bit of some, which at t near 1000
/// changes a cosine by 6e-5, and a deep network's output by more than all roundings together.
pub(crate) struct Sinusoid {
    /// `[width / 2]`, f32.
    frequencies: Tensor,
}

impl Sinusoid {
    /// The sinusoid of this many values, on `device`.
    ///
    /// The order of the f32 operations, here and in [`Sinusoid::of`], is that of all published implementations: at t near 1000
    /// another order changes a cosine by 7e-5.
    pub(crate) fn new(width: usize, device: Device) -> Result<Self, TorchError> {
        let half = width / 2;
        #[allow(clippy::cast_precision_loss)] // far below 2^24
        let exponent = |index: usize| index as f32 * LOG_LOWEST_FREQUENCY / half as f32;
        let frequencies: Vec<f32> = (0..half).map(|index| published_exponential(exponent(index))).collect();
        Ok(Self { frequencies: Tensor::f_from_slice(&frequencies)?.to_device(device) })
    }

    /// Of `t`, `[batch]`: `[batch, width]`, f32.
    pub(crate) fn of(&self, t: &Tensor) -> Result<Tensor, TorchError> {
        let angles = t.to_kind(Kind::Float).f_unsqueeze(1)?.f_mul(&self.frequencies.f_unsqueeze(0)?)?;
        Ok(Tensor::f_cat(&[angles.f_cos()?, angles.f_sin()?], -1)?)
    }
}

/// Exponents of the published networks' frequencies (widths 256, 512, 1024 and 1536) at which e^x lies almost in the middle between two
/// numbers, so that exponentials of different processors and libraries differ: the bits of those where the published results have not
/// the nearer one, and whether they have the next larger one.
const NEARLY_BETWEEN: [(u32, bool); 8] = [
    (0xbf5d_0c55, true),
    (0xc083_a191, false),
    (0xc084_f96b, true),
    (0xc097_33fe, false),
    (0xc09e_1c61, true),
    (0xc0a5_6701, false),
    (0xc0a7_5239, false),
    (0xc0f4_12f3, true),
];

/// e^x for an exponent of a frequency, to f32 as the published results have it.
fn published_exponential(x: f32) -> f32 {
    #[allow(clippy::cast_possible_truncation)] // rounds
    let nearest = f64::from(x).exp() as f32;
    match NEARLY_BETWEEN.iter().find(|(bits, _)| *bits == x.to_bits()) {
        Some((_, true)) => nearest.next_up(),
        Some((_, false)) => nearest.next_down(),
        None => nearest,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::weights::WeightFile;

    /// Bit for bit but for the last bit of some cosines and sines, whatever processor this runs on.
    #[test]
    fn sinusoids_are_the_published_ones_on_every_processor() {
        for name in ["dim_tiny_cond", "dim_tiny_uncond"] {
            let path = format!("{}/../../golden/{name}.safetensors", env!("CARGO_MANIFEST_DIR"));
            let file: std::collections::BTreeMap<_, _> =
                WeightFile::open(std::path::Path::new(&path)).unwrap().read_all().unwrap().into_iter().collect();
            for key in ["mid.time_sinusoid", "mid.adaln_time_proj"] {
                let width = usize::try_from(file[key].size()[1]).unwrap();
                let ours = Sinusoid::new(width, Device::Cpu).unwrap().of(&file["t"]).unwrap();
                let error = (ours - &file[key]).abs().max().double_value(&[]);
                assert!(error <= 1.2e-7, "{name} {key}: {error:e}");
            }
        }
    }
}
