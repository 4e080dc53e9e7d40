//! Comparison with tensors that published implementations computed (`golden/`).

mod dinov2;
mod efficientnet_lite;

use dim_model::ModelError;
use dim_model::verify::{Computed, File, Report, in_f32};
use dim_torch::Parameters;
use tch::{Device, Kind, Tensor};

use crate::{
    EvalError, Gaussian, InceptionScore, Statistics,
    features::{Inception, Preprocessing},
    frechet_distance, kernel_distance_of_all, neighbours, radii,
};

pub use dinov2::dinov2;
pub use efficientnet_lite::{efficientnet_lite, efficientnet_lite0};

/// Features, logits and maps, absolute.
const FEATURES: f64 = 1e-4;
/// Relative error of a root mean square over a whole map.
const MAPS: f64 = 1e-5;
/// Means and covariances, which sums in f64 give in any order.
const MOMENTS: f64 = 1e-12;
/// Distances.
const DISTANCE: f64 = 1e-9;
/// Distances of fewer samples than dimensions: there the published number itself is off by 2.8e-7, for the roots of eigenvalues that are
/// zero but for rounding add up in it. The same distance is also checked against the samples themselves, at [`DISTANCE`].
const SINGULAR_DISTANCE: f64 = 1e-6;
/// Every so many rows and columns of resized images are in the file.
const RESIZED_STRIDE: i64 = 13;
/// Every so many channels, and rows and columns, of Inception's maps are in the file.
const MAP_STRIDES: [i64; 2] = [8, 6];
/// Features of the sets whose last does not vary.
const SINGULAR_FEATURES: i64 = 6;
/// What pytorch-fid adds to the diagonals of covariances whose root is not finite.
const OFFSET: f64 = 1e-6;
/// First values of weights that are computed from their names.
const PROBES: f64 = 1e-7;

/// Why a file could not be compared.
#[derive(Debug, thiserror::Error)]
pub enum VerifyError {
    /// The file.
    #[error(transparent)]
    File(#[from] ModelError),
    /// The computation.
    #[error(transparent)]
    Eval(#[from] EvalError),
}

/// A number of the file's metadata.
fn whole_number(file: &File, key: &str) -> Result<i64, VerifyError> {
    let text = file.metadata(key)?;
    let wrong = |_| EvalError::Argument {
        argument: "the metadata of the file",
        expected: format!("with a whole number as `{key}`"),
        got: format!("`{text}`"),
    };
    Ok(text.parse().map_err(wrong)?)
}

/// Checks the first values of weights that are computed from their names.
fn probes(file: &File, parameters: &Parameters) -> Result<Vec<Computed>, VerifyError> {
    let probe = |(name, expected): (&str, &Tensor)| {
        let first = parameters.get(name).map_err(EvalError::from)?.detach().flatten(0, -1);
        let first = first.narrow(0, 0, expected.size()[0]);
        Ok(Computed::new(format!("probe.{name}"), &first, expected, PROBES))
    };
    file.starting_with("probe.").map(probe).collect()
}

/// Checks the Inception network of FID, with weights computed from their names, on the images of the file: the resizing, every module, the
/// maps that pytorch-fid compares, features and scores of classes.
///
/// # Errors
/// A file without the keys that such a file has.
pub fn inception(file: &File, device: Device) -> Result<Report, VerifyError> {
    let _no_grad = tch::no_grad_guard();
    let seed = whole_number(file, "seed")?.unsigned_abs();
    let parameters = Inception::procedural_parameters(seed)?;
    let network = Inception::procedural(seed, Preprocessing::PytorchFid, device)?;
    let mut computed = probes(file, &parameters)?;
    let resized = Inception::resized(&file.tensor("x")?.to_device(device))?;
    let sample = resized.slice(2, None, None, RESIZED_STRIDE).slice(3, None, None, RESIZED_STRIDE);
    computed.push(Computed::new("resized.sample", &sample, file.tensor("resized.sample")?, FEATURES));
    let mean = |map: &Tensor| map.mean_dim(&[2_i64, 3][..], false, Kind::Float);
    let mut look = |name: &str, map: &Tensor| {
        let key = format!("rms.{name}");
        if let Ok(expected) = file.tensor(&key) {
            let rms = map.to_kind(Kind::Double).square().mean(Kind::Double).sqrt().view([1]);
            computed.push(Computed::new(key, &rms, expected, MAPS).relative());
        }
        // pytorch-fid calls its outputs by their channels.
        let output = if name == "Mixed_6e" { "768" } else { name };
        let (samples, means) = (format!("map.{output}.sample"), format!("feat.{output}"));
        if let (Ok(samples_there), Ok(means_there)) = (file.tensor(&samples), file.tensor(&means)) {
            let [channels, places] = MAP_STRIDES;
            let sample = map.slice(1, None, None, channels).slice(2, None, None, places).slice(3, None, None, places);
            computed.push(Computed::new(samples, &sample, samples_there, FEATURES));
            computed.push(Computed::new(means, &mean(map), means_there, FEATURES));
        }
    };
    let features = mean(&network.evaluate(&resized, &mut look)?);
    computed.push(Computed::new("feat.2048", &features, file.tensor("feat.2048")?, FEATURES));
    let logits = network.logits(&features, true)?;
    computed.push(Computed::new("fc_logits", &logits, file.tensor("fc_logits")?, FEATURES));
    let parameters = Tensor::from_slice(&[Inception::parameters()]);
    computed.push(Computed::new("n_params", &parameters, file.tensor("n_params")?, 0.0));
    let mut report = Report::default();
    report.inputs.push("x".to_owned());
    in_f32(&computed, &mut report);
    Ok(report)
}

/// Checks means, covariances and Fréchet distances of the file's cases: the keys are `{case}.{x1,x2,mu1,…,fid,fid_eigen}`. Where the
/// samples are known, `{case}.exact` is the check of the distance against that of the samples.
///
/// # Errors
/// A file without the keys that such a file has.
pub fn frechet(file: &File) -> Result<Report, VerifyError> {
    let mut report = Report::default();
    let mut computed = Vec::new();
    let cases: Vec<String> =
        file.starting_with("").filter_map(|(key, _)| Some(key.strip_suffix(".fid")?.to_owned())).collect();
    for case in cases {
        let key = |part: &str| format!("{case}.{part}");
        let mut rank_deficient = false;
        let mut samples_of = Vec::new();
        for set in ["1", "2"] {
            let [x, mean, covariance] = ["x", "mu", "sigma"].map(|part| key(&format!("{part}{set}")));
            // Of some cases the moments alone are known.
            let Ok(samples) = file.tensor(&x) else {
                report.inputs.extend([mean, covariance]);
                continue;
            };
            let statistics = in_uneven_batches(samples)?;
            rank_deficient |= statistics.is_rank_deficient();
            let gaussian = statistics.gaussian()?;
            computed.push(Computed::new(&mean, gaussian.mean(), file.tensor(&mean)?, MOMENTS));
            computed.push(Computed::new(&covariance, gaussian.covariance(), file.tensor(&covariance)?, MOMENTS));
            report.inputs.push(x);
            samples_of.push(samples.to_kind(Kind::Double));
        }
        let gaussian = |set: &str| {
            let moment = |part: &str| Ok::<_, VerifyError>(file.tensor(&key(&format!("{part}{set}")))?.copy());
            Ok::<_, VerifyError>(Gaussian::new(moment("mu")?, moment("sigma")?)?)
        };
        let distance = Tensor::from_slice(&[frechet_distance(&gaussian("1")?, &gaussian("2")?)?]);
        let tolerance = if rank_deficient { SINGULAR_DISTANCE } else { DISTANCE };
        if let [one, other] = &samples_of[..] {
            computed.push(Computed::new(key("exact"), &distance, &of_samples(one, other)?, DISTANCE));
        }
        for part in ["fid", "fid_eigen"] {
            computed.push(Computed::new(key(part), &distance, file.tensor(&key(part))?, tolerance));
        }
    }
    in_f32(&computed, &mut report);
    Ok(report)
}

/// Checks every metric of two sets of features: moments, the Fréchet distance, also of covariances without full rank, KID, precision, recall,
/// density and coverage with their radii, and the inception score.
///
/// # Errors
/// A file without the keys that such a file has.
pub fn metrics(file: &File, device: Device) -> Result<Report, VerifyError> {
    let (real, fake) = (file.tensor("real")?, file.tensor("fake")?);
    let k = file.tensor("k")?.int64_value(&[0]) as usize;
    let mut computed = Vec::new();
    let mut gaussians = Vec::new();
    for (set, samples) in [("real", real), ("fake", fake)] {
        let gaussian = in_uneven_batches(samples)?.gaussian()?;
        for (part, tensor) in [("mu", gaussian.mean()), ("sigma", gaussian.covariance())] {
            let key = format!("{part}_{set}");
            computed.push(Computed::new(&key, tensor, file.tensor(&key)?, MOMENTS));
        }
        let key = format!("{set}_radii");
        computed.push(Computed::new(&key, &radii(samples, k, device)?, file.tensor(&key)?, DISTANCE));
        gaussians.push(gaussian);
    }
    let scalar = |key: &str, value: f64, tolerance: f64| {
        Ok::<_, VerifyError>(Computed::new(key, &Tensor::from_slice(&[value]), file.tensor(key)?, tolerance))
    };
    computed.push(scalar("frechet", frechet_distance(&gaussians[0], &gaussians[1])?, DISTANCE)?);
    let singular = |samples: &Tensor, constant: f64| {
        let cut = samples.narrow(1, 0, SINGULAR_FEATURES).copy();
        let _ = cut.select(1, SINGULAR_FEATURES - 1).f_fill_(constant)?;
        in_uneven_batches(&cut)?.gaussian()
    };
    let (one, other) = (singular(real, 0.25)?, singular(fake, 0.75)?);
    computed.push(scalar("frechet_singular", frechet_distance(&one, &other)?, SINGULAR_DISTANCE)?);
    // pytorch-fid's way out where a root is not finite: a little on the diagonals, under the root alone.
    let offset = |gaussian: &Gaussian| {
        let unit = Tensor::f_eye(SINGULAR_FEATURES, (Kind::Double, Device::Cpu))?.f_mul_scalar(OFFSET)?;
        Gaussian::new(gaussian.mean().copy(), gaussian.covariance().f_add(&unit)?)
    };
    let with_offset = frechet_distance(&offset(&one)?, &offset(&other)?)? - 2.0 * OFFSET * SINGULAR_FEATURES as f64;
    computed.push(scalar("frechet_singular_eps", with_offset, DISTANCE)?);
    computed.push(scalar("kid", kernel_distance_of_all(real, fake, device)?, DISTANCE)?);
    for of in neighbours(real, fake, &[k], device)? {
        let values =
            [("precision", of.precision), ("recall", of.recall), ("density", of.density), ("coverage", of.coverage)];
        for (key, value) in values {
            computed.push(scalar(key, value, MOMENTS)?);
        }
    }
    let probabilities = file.tensor("probs")?;
    let (images, classes) = probabilities.size2().map_err(EvalError::from)?;
    let mut score = InceptionScore::new(classes as usize, images.unsigned_abs(), 1)?;
    score.add(0, &probabilities.log())?;
    computed.push(scalar("inception_score", score.score()?.mean, DISTANCE)?);
    let mut report = Report::default();
    report.inputs.extend(["real", "fake", "probs", "k"].map(str::to_owned));
    in_f32(&computed, &mut report);
    Ok(report)
}

/// The distance of two sets of samples `[sample, feature]` without any covariance: the trace of the root of `S₁ S₂` is the sum of the
/// singular values of `X₁ X₂ᵀ`, deviations from the means, over `√((N₁ − 1)(N₂ − 1))`.
fn of_samples(one: &Tensor, other: &Tensor) -> Result<Tensor, EvalError> {
    let mean = |x: &Tensor| x.f_mean_dim(&[0_i64][..], true, Kind::Double);
    let (mean_1, mean_2) = (mean(one)?, mean(other)?);
    let (centred_1, centred_2) = (one.f_sub(&mean_1)?, other.f_sub(&mean_2)?);
    let freedom = |x: &Tensor| x.size()[0] as f64 - 1.0;
    let (n_1, n_2) = (freedom(one), freedom(other));
    let squares = |x: &Tensor| x.f_square()?.f_sum(Kind::Double);
    let product = centred_1.f_matmul(&centred_2.f_transpose(0, 1)?)?;
    let overlap = product.f_svd(true, false)?.1.f_sum(Kind::Double)?.f_div_scalar((n_1 * n_2).sqrt())?;
    let spread = squares(&centred_1)?.f_div_scalar(n_1)?.f_add(&squares(&centred_2)?.f_div_scalar(n_2)?)?;
    Ok(squares(&mean_1.f_sub(&mean_2)?)?.f_add(&spread)?.f_sub(&overlap.f_mul_scalar(2.0)?)?.f_view([1])?)
}

/// Statistics of samples `[sample, feature]`, as they come when features are computed batch by batch, in two parts.
fn in_uneven_batches(samples: &Tensor) -> Result<Statistics, EvalError> {
    let (count, dimension) = samples.size2()?;
    let samples = samples.to_device(Device::Cpu);
    let mut parts = [Statistics::new(dimension as usize)?, Statistics::new(dimension as usize)?];
    let mut start = 0;
    for (index, length) in [1, 7, 2, 64, 3].into_iter().cycle().enumerate() {
        if start == count {
            break;
        }
        let length = length.min(count - start);
        parts[index % 2].add(&samples.f_narrow(0, start, length)?)?;
        start += length;
    }
    let [mut whole, other] = parts;
    whole.merge(&other)?;
    Ok(whole)
}
