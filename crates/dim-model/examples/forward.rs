//! A network in a program of one's own: fresh weights, a prediction, a gradient, and the weights in a file.
//! `cargo run --release -p dim-model --example forward -- PRESET OUT.safetensors`

use std::collections::BTreeMap;
use std::error::Error;

use dim_model::{BackboneConfig, ModelConfig, Precision, weights};
use dim_torch::Parameters;
use tch::{Device, Kind, Tensor};

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [preset, out] = arguments.as_slice() else { return Err("expected: PRESET OUT.safetensors".into()) };
    let config = ModelConfig::named(preset)
        .ok_or_else(|| format!("no preset is called {preset}; there are {}", ModelConfig::names().join(", ")))?;

    // All parameters live in one flat buffer; the network holds views of it.
    let parameters = Parameters::zeros(&config.parameter_specs(), Device::Cpu)?;
    let network = config.build(parameters, Precision::F32)?;
    network.initialise(0)?;

    let side = config.image_size() as i64;
    let noisy = Tensor::f_randn([2, config.in_channels() as i64, side, side], (Kind::Float, Device::Cpu))?;
    let time = Tensor::from_slice(&[10.0_f32, 500.0]); // 0 to 1000
    let class = (config.classes() > 0).then(|| Tensor::from_slice(&[0_i64, 1]));
    let noise = network.forward(&noisy, &time, class.as_ref())?;
    println!("{} parameters, output {:?}", config.parameter_count(), noise.size());

    noise.f_square()?.f_mean(Kind::Float)?.f_backward()?;
    if let Some(gradient) = network.parameters().gradients() {
        println!("gradient of norm {:.3e}", gradient.f_norm()?.f_double_value(&[])?);
    }
    weights::save_parameters(out, network.parameters(), weights::Naming::Ours, &BTreeMap::new())?;
    println!("{out}");
    Ok(())
}
