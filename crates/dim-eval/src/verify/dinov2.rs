//! DINOv2 beside transformers' Dinov2Model.

use dim_model::verify::{Computed, File, Report, in_f32};
use tch::{Device, Kind, Tensor};

use super::{MAPS, VerifyError, probes, whole_number};
use crate::EvalError;
use crate::features::{Dinov2, Dinov2Layout, FeedForward, normalised_as_imagenet};

/// Features, absolute: about four times what f32 costs the published code.
const FEATURES: f64 = 1e-5;
/// Pixels after normalisation, and positions.
const INPUTS: f64 = 1e-6;
/// Every so many rows and columns of the normalised pixels are in the file.
const PIXEL_STRIDE: i64 = 13;
/// Every so many tokens, and channels, of the positions.
const POSITION_STRIDES: [i64; 2] = [3, 8];

/// Checks DINOv2 of the sizes in the metadata, with weights computed from their names, on the pixels of the file: the normalisation, the positions,
/// tokens behind every block, features; `f64.*` were computed in f64.
///
/// # Errors
/// A file without the keys that such a file has.
pub fn dinov2(file: &File, device: Device) -> Result<Report, VerifyError> {
    let _no_grad = tch::no_grad_guard();
    let seed = whole_number(file, "seed")?.unsigned_abs();
    let layout = Dinov2Layout {
        width: whole_number(file, "width")?,
        depth: whole_number(file, "depth")?,
        feed_forward: if file.metadata("feed_forward")? == "swiglu" { FeedForward::SwiGlu } else { FeedForward::Mlp },
        hidden: whole_number(file, "hidden")?,
        patch: whole_number(file, "patch")?,
        learnt_side: whole_number(file, "learnt_side")?,
    };
    let parameters = Dinov2::procedural_parameters(layout, seed)?;
    let mut computed = probes(file, &parameters)?;
    let elements = parameters.specs().iter().map(dim_torch::ParameterSpec::elements).sum::<i64>();
    computed.push(Computed::new("n_params", &Tensor::from_slice(&[elements]), file.tensor("n_params")?, 0.0));
    let network = Dinov2::from_parameters(&parameters, layout, device)?;
    let x = normalised_as_imagenet(&file.tensor("pixels")?.to_device(device))?;
    let sample = x.slice(2, None, None, PIXEL_STRIDE).slice(3, None, None, PIXEL_STRIDE);
    computed.push(Computed::new("prepared.sample", &sample, file.tensor("prepared.sample")?, INPUTS));
    let (rows, columns) = (x.size()[2] / layout.patch, x.size()[3] / layout.patch);
    let [tokens, channels] = POSITION_STRIDES;
    let positions = network.positions(rows, columns)?.slice(1, None, None, tokens).slice(2, None, None, channels);
    computed.push(Computed::new("positions.sample", &positions, file.tensor("positions.sample")?, INPUTS));
    let mut look = |name: &str, tokens: &Tensor| {
        let [rms, class] = [format!("rms.{name}"), format!("f64.class.{name}")];
        if let Ok(expected) = file.tensor(&rms) {
            let found = tokens.to_kind(Kind::Double).square().mean(Kind::Double).sqrt().view([1]);
            computed.push(Computed::new(rms, &found, expected, MAPS).relative());
        }
        if let Ok(expected) = file.tensor(&class) {
            computed.push(Computed::new(class, &tokens.select(1, 0), expected, FEATURES).relative());
        }
    };
    let features = network.evaluate(&x, &mut look)?;
    for key in ["features", "f64.features"] {
        computed.push(Computed::new(key, &features, file.tensor(key)?, FEATURES));
    }
    let mut report = Report::default();
    report.inputs.push("pixels".to_owned());
    in_f32(&computed, &mut report);
    Ok(report)
}

impl From<tch::TchError> for VerifyError {
    fn from(error: tch::TchError) -> Self {
        EvalError::from(error).into()
    }
}
