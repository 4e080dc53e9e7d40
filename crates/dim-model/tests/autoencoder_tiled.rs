//! Tile by tile against the whole image at once.
#![allow(clippy::unwrap_used, missing_docs)]

use std::path::Path;

use dim_model::{Autoencoder, AutoencoderConfig, ModelError, Precision, Tiling, weights};
use dim_torch::Parameters;
use tch::{Device, Kind, Tensor, no_grad};

fn network() -> Autoencoder {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../golden/vae_tiny.safetensors");
    let config = AutoencoderConfig::tiny();
    let parameters = Parameters::zeros(&config.parameter_specs(), Device::Cpu).unwrap();
    let tensors = weights::WeightFile::open(path).unwrap().read_all().unwrap().into_iter();
    let weights = tensors.filter_map(|(key, tensor)| Some((key.strip_prefix("weights.")?.to_owned(), tensor)));
    weights::assign(&parameters, &weights.collect::<Vec<_>>()).unwrap();
    Autoencoder::new(config, parameters).unwrap()
}

fn noise(shape: [i64; 4]) -> Tensor {
    tch::manual_seed(11);
    Tensor::randn(shape, (Kind::Float, Device::Cpu))
}

fn rms(tensor: &Tensor) -> f64 {
    tensor.square().mean(Kind::Double).sqrt().double_value(&[])
}

/// Root mean square of the steps between neighbouring columns, one for each pair of columns.
fn steps(image: &Tensor) -> Tensor {
    let width = image.size()[3];
    let step = image.narrow(3, 1, width - 1) - image.narrow(3, 0, width - 1);
    step.square().mean_dim([0i64, 1, 2].as_slice(), false, Kind::Double).sqrt()
}

/// Median and largest of a list, and where the largest is.
fn median_and_largest(values: &Tensor) -> (f64, f64, usize) {
    let values: Vec<f64> = Vec::try_from(values).unwrap();
    let mut sorted = values.clone();
    sorted.sort_by(f64::total_cmp);
    let largest = sorted[sorted.len() - 1];
    (sorted[sorted.len() / 2], largest, values.iter().position(|value| *value == largest).unwrap())
}

#[test]
fn one_tile_gives_exactly_what_the_whole_image_gives() {
    let network = network();
    let (image, latent) = (noise([2, 3, 40, 64]), noise([2, 4, 5, 8]));
    no_grad(|| {
        for tiling in [Tiling { tile: 8, overlap: 4 }, Tiling { tile: 100, overlap: 0 }, Tiling::default()] {
            assert!(network.decode_tiled(&latent, tiling).unwrap().equal(&network.decode(&latent).unwrap()));
            let (tiled, whole) = (network.encode_tiled(&image, tiling).unwrap(), network.encode(&image).unwrap());
            assert!(tiled.mean.equal(&whole.mean) && tiled.log_variance.equal(&whole.log_variance));
        }
    });
}

/// What is left is at the tiles' borders, and blending takes it away: where tiles meet, the error may not step by more than a tenth
/// of what the image itself does.
#[test]
fn decoded_tiles_meet_without_an_edge() {
    let (network, latent) = (network(), noise([1, 4, 32, 48]));
    no_grad(|| {
        let whole = network.decode(&latent).unwrap();
        let error = |overlap: usize| network.decode_tiled(&latent, Tiling { tile: 16, overlap }).unwrap() - &whole;
        let (cut, faded) = (error(0), error(4));
        for [cut, faded, whole] in [
            [&cut, &faded, &whole].map(Tensor::shallow_clone),
            [&cut, &faded, &whole].map(|image| image.transpose(2, 3)),
        ] {
            let (_, largest_cut, place) = median_and_largest(&steps(&cut));
            assert_eq!(place % 128, 127, "without overlap the largest step is where tiles of 128 pixels meet");
            let (_, largest, place) = median_and_largest(&steps(&faded));
            let (of_image, ..) = median_and_largest(&steps(&whole));
            println!("{largest_cut:.4} {largest:.4} at {place}, image {of_image:.4}");
            assert!(largest < 0.1 * of_image && largest < 0.2 * largest_cut, "{largest} {largest_cut} {of_image}");
        }
        println!("{:.4} {:.4}", rms(&faded) / rms(&whole), rms(&cut) / rms(&whole));
        assert!(rms(&faded) < 0.03 * rms(&whole));
        assert!(rms(&faded) < 0.2 * rms(&cut));
    });
}

/// A drawing on white: tiles of white alone beside tiles full of lines. Norms that saw the tile alone would make of each another
/// white.
#[test]
fn tiles_of_unlike_content_agree_with_the_whole() {
    let network = network();
    no_grad(|| {
        let latent = noise([1, 4, 32, 64]) * 2.0;
        let _ = latent.narrow(3, 20, 44).fill_(0.3);
        let whole = network.decode(&latent).unwrap();
        let tiled = network.decode_tiled(&latent, Tiling { tile: 16, overlap: 4 }).unwrap();
        let alone = network.decode(&latent.narrow(2, 8, 16).narrow(3, 44, 16)).unwrap();
        let inside = |image: &Tensor, row: i64, column: i64| image.narrow(2, row, 64).narrow(3, column, 64);
        let truth = inside(&whole, 96, 384);
        let (error, of_alone) = (inside(&tiled, 96, 384) - &truth, inside(&alone, 32, 32) - &truth);
        println!("{:.4} {:.4}", rms(&error) / rms(&whole), rms(&of_alone) / rms(&whole));
        assert!(rms(&error) < 0.1 * rms(&of_alone), "{} {}", rms(&error), rms(&of_alone));
    });
}

#[test]
fn encoded_tiles_meet_without_an_edge() {
    let network = network();
    no_grad(|| {
        let image = network.decode(&noise([1, 4, 32, 48])).unwrap();
        let whole = network.encode(&image).unwrap();
        let encoded = |overlap: usize| network.encode_tiled(&image, Tiling { tile: 16, overlap }).unwrap();
        let (cut, faded) = (encoded(0), encoded(4));
        let error = |encoded: &Tensor| encoded - &whole.mean;
        let (_, largest_cut, _) = median_and_largest(&steps(&error(&cut.mean)));
        let (_, largest, place) = median_and_largest(&steps(&error(&faded.mean)));
        let (of_latent, ..) = median_and_largest(&steps(&whole.mean));
        println!("{largest_cut:.4} {largest:.4} at {place}, latent {of_latent:.4}");
        println!("{:.4}", rms(&error(&faded.mean)) / rms(&whole.mean));
        assert!(largest < 0.15 * of_latent && largest < 0.3 * largest_cut);
        assert_eq!(faded.log_variance.size(), whole.log_variance.size());
    });
}

#[test]
fn errors_name_the_argument() {
    let network = network();
    let argument = |error: ModelError| match error {
        ModelError::Input { argument, .. } => argument,
        error => panic!("{error}"),
    };
    let tiling = Tiling::default();
    assert_eq!(argument(network.decode(&noise([1, 3, 4, 4])).unwrap_err()), "latent");
    assert_eq!(argument(network.decode_tiled(&noise([1, 3, 4, 4]), tiling).unwrap_err()), "latent");
    assert_eq!(argument(network.encode(&noise([1, 3, 12, 16])).unwrap_err()), "image");
    assert_eq!(argument(network.encode_tiled(&noise([1, 4, 16, 16]), tiling).unwrap_err()), "image");
    let moments = network.encode(&noise([2, 3, 16, 16])).unwrap();
    assert_eq!(argument(moments.sample(&noise([1, 4, 2, 2])).unwrap_err()), "noise");
    let wrong = network.decode_tiled(&noise([1, 4, 4, 4]), Tiling { tile: 4, overlap: 3 });
    assert!(matches!(wrong, Err(ModelError::Config(_))));
}

#[test]
fn bf16_is_near_f32() {
    let (image, latent) = (noise([1, 3, 64, 64]).tanh(), noise([1, 4, 8, 8]));
    let (exact, rounded) = (network(), network().with_precision(Precision::Bf16));
    no_grad(|| {
        let pairs = [
            (exact.decode(&latent).unwrap(), rounded.decode(&latent).unwrap()),
            (exact.encode(&image).unwrap().mean, rounded.encode(&image).unwrap().mean),
        ];
        for (exact, rounded) in pairs {
            assert_eq!(rounded.kind(), Kind::Float);
            let error = rms(&(&rounded - &exact)) / rms(&exact);
            println!("bf16: {error:.5} of the root mean square");
            assert!(error > 0.0 && error < 0.02, "{error}");
        }
    });
}

/// A line of this process's status, in bytes.
#[cfg(target_os = "linux")]
fn status_bytes(key: &str) -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix(key)).unwrap();
    1024 * line.trim().trim_end_matches(" kB").parse::<u64>().unwrap()
}

#[test]
#[cfg(target_os = "linux")]
#[ignore = "decodes two tiles of 512 pixels with the network of full size: a minute, 2 GB"]
fn the_estimate_of_memory_is_from_above() {
    let config = AutoencoderConfig::kl_f8();
    let specs = config.parameter_specs();
    let size = Parameters::zeros(&specs, Device::Cpu).unwrap().values().size();
    // Written, so that the weights are in memory before the measurement begins.
    let flat = Tensor::zeros(size, (Kind::Float, Device::Cpu)).uniform_(-0.01, 0.01);
    let network = Autoencoder::new(config.clone(), Parameters::from_flat(&specs, flat).unwrap()).unwrap();
    let latent = noise([1, 4, 64, 112]);
    // Sets the peak back to what is in memory now: the peak of building the network is not that of decoding.
    std::fs::write("/proc/self/clear_refs", "5").unwrap();
    let before = status_bytes("VmRSS:");
    let _ = no_grad(|| network.decode_tiled(&latent, Tiling::default())).unwrap();
    let grown = status_bytes("VmHWM:") - before;
    let estimate = config.decode_tiled_bytes(Tiling::default(), 512, 896) - 4 * config.parameter_count();
    println!("grown by {:.2} GB, estimated {:.2} GB beside the weights", grown as f64 / 1e9, estimate as f64 / 1e9);
    assert!(grown <= estimate, "{grown} {estimate}");
}
