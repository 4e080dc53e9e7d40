//! EfficientNet-Lite beside the package that published its weights, `efficientnet-lite-pytorch`.

use dim_model::verify::{Computed, File, Report, in_f32};
use tch::{Device, Kind, Tensor};

use super::{FEATURES, MAPS, VerifyError, probes, whole_number};
use crate::EvalError;
use crate::features::{EfficientNetLite, FeatureExtractor, LiteSize, as_published};

/// Every so many channels of the head's map are in Lite0's file.
const HEAD_STRIDE: i64 = 16;
/// Every so many features and logits are in the files of the others.
const STRIDE: i64 = 4;
/// Images of those.
const IMAGES: i64 = 2;

/// Checks Lite0 with its trained weights on images that the file holds as the network reads them: every block, features and logits.
///
/// # Errors
/// A file without the keys that such a file has.
pub fn efficientnet_lite0(file: &File, network: &EfficientNetLite) -> Result<Report, VerifyError> {
    let _no_grad = tch::no_grad_guard();
    let mut computed = Vec::new();
    let mut look = |name: &str, map: &Tensor| {
        if let Ok(expected) = file.tensor("map.head.sample")
            && name == "head"
        {
            computed.push(Computed::new("map.head.sample", &map.slice(1, None, None, HEAD_STRIDE), expected, FEATURES));
        }
        computed.extend(root_mean_square(file, name, map));
    };
    let x = file.tensor("x")?.to_device(network.device());
    let features = network.evaluate(&x, &mut look)?;
    computed.push(Computed::new("features", &features, file.tensor("features")?, FEATURES));
    computed.push(Computed::new("logits", &network.logits(&features)?, file.tensor("logits")?, FEATURES));
    computed.push(parameters(file, LiteSize::Lite0)?);
    let mut report = Report::default();
    report.inputs.push("x".to_owned());
    in_f32(&computed, &mut report);
    Ok(report)
}

/// Checks a network of this size on images of a pattern: with weights computed from their names on small rectangular ones, every block, and
/// samples of features and logits; and those samples of `trained`, the network with its trained weights, on images of its own size. Without
/// it, keys `trained.*` are not compared.
///
/// # Errors
/// A file without the keys that such a file has.
pub fn efficientnet_lite(
    file: &File,
    size: LiteSize,
    trained: Option<&EfficientNetLite>,
    device: Device,
) -> Result<Report, VerifyError> {
    let _no_grad = tch::no_grad_guard();
    let seed = whole_number(file, "seed")?.unsigned_abs();
    let weights = EfficientNetLite::procedural_parameters(size, seed)?;
    let mut computed = probes(file, &weights)?;
    computed.push(parameters(file, size)?);
    let network = EfficientNetLite::procedural(size, seed, device)?;
    let x = as_published(&pattern(whole_number(file, "rows")?, whole_number(file, "columns")?)?.to_device(device))?;
    let features = network.evaluate(&x, &mut |name, map| computed.extend(root_mean_square(file, name, map)))?;
    computed.extend(samples(file, "", &network, &features)?);
    if let Some(network) = trained {
        let side = size.input_size() as i64;
        let x = network.prepare(&pattern(side, side)?.to_device(network.device()))?;
        computed.extend(samples(file, "trained.", network, &network.see(&x)?.features)?);
    }
    let mut report = Report::default();
    in_f32(&computed, &mut report);
    Ok(report)
}

/// Whole numbers from 0 to 255, `[image, 3, row, column]`, f32.
fn pattern(rows: i64, columns: i64) -> Result<Tensor, EvalError> {
    let mut pixels = Vec::new();
    for n in 0..IMAGES {
        for c in 0..3 {
            for i in 0..rows {
                pixels.extend(
                    (0..columns).map(|j| (i * i * 3 / 7 + j * (5 + n) + c * 31 + i * j / (5 + c) + n * 17) % 256),
                );
            }
        }
    }
    Ok(Tensor::f_from_slice(&pixels)?.f_view([IMAGES, 3, rows, columns])?.f_to_kind(Kind::Float)?)
}

/// Every [`STRIDE`]th feature and logit.
fn samples(
    file: &File,
    prefix: &str,
    network: &EfficientNetLite,
    features: &Tensor,
) -> Result<[Computed; 2], VerifyError> {
    let sample = |part: &str, values: &Tensor| {
        let key = format!("{prefix}{part}.sample");
        let expected = file.tensor(&key)?;
        Ok::<_, VerifyError>(Computed::new(key, &values.f_slice(1, None, None, STRIDE)?, expected, FEATURES))
    };
    Ok([sample("features", features)?, sample("logits", &network.logits(features)?)?])
}

/// Over the whole map `name`, if the file has it.
fn root_mean_square(file: &File, name: &str, map: &Tensor) -> Option<Computed> {
    let key = format!("rms.{name}");
    let expected = file.tensor(&key).ok()?;
    let found = map.to_kind(Kind::Double).square().mean(Kind::Double).sqrt().view([1]);
    Some(Computed::new(key, &found, expected, MAPS).relative())
}

fn parameters(file: &File, size: LiteSize) -> Result<Computed, VerifyError> {
    Ok(Computed::new("n_params", &Tensor::from_slice(&[size.parameters()]), file.tensor("n_params")?, 0.0))
}
