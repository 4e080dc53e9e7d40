//! Names, positions, and what is refused.
#![allow(clippy::unwrap_used)]

use dim_model::weights::{FileFormat, Naming};

use super::*;

const SMALL: Dinov2Layout =
    Dinov2Layout { width: 64, depth: 2, feed_forward: FeedForward::Mlp, hidden: 256, patch: 14, learnt_side: 5 };

#[test]
fn positions_stay_where_they_were_learnt_and_come_from_the_published_places_elsewhere() {
    let mut network = Dinov2::procedural(SMALL, 3, Device::Cpu).unwrap();
    assert_eq!(network.positions(5, 5).unwrap(), network.positions);
    // A ramp along the columns, so that a value is a sum of places.
    let on = (Kind::Float, Device::Cpu);
    let ramp = Tensor::arange(5, on).view([1, 1, 5, 1]).expand([1, 5, 5, 64], false);
    network.positions = Tensor::cat(&[Tensor::zeros([1, 1, 64], on), ramp.reshape([1, 25, 64])], 1);
    let found = network.positions(5, 4).unwrap();
    // The cubic convolution of Keys 1981, with a = -0.75.
    let weight = |x: f64| match x.abs() {
        x if x <= 1.0 => 1.25 * x.powi(3) - 2.25 * x.powi(2) + 1.0,
        x if x < 2.0 => -0.75 * (x.powi(3) - 5.0 * x.powi(2) + 8.0 * x - 4.0),
        _ => 0.0,
    };
    for column in 0..4 {
        let place = (f64::from(column) + 0.5) * 5.0 / 4.1 - 0.5;
        let expected: f64 = (-2..=6).map(|at| weight(place - f64::from(at)) * f64::from(at.clamp(0, 4))).sum();
        let value = found.double_value(&[0, 1 + 2 * 4 + i64::from(column), 7]);
        assert!((value - expected).abs() < 1e-5, "{column}: {value} and {expected}");
    }
}

#[test]
fn networks_with_registers_and_lost_keys_are_refused_by_key() {
    let parameters = Dinov2::procedural_parameters(SMALL, 3).unwrap();
    let mut all: Vec<_> = parameters.iter().map(|(spec, tensor)| (spec.name.clone(), tensor.detach())).collect();
    all.push(("register_tokens".to_owned(), Tensor::zeros([1, 4, 64], (Kind::Float, Device::Cpu))));
    all.retain(|(name, _)| name != "blocks.1.ls2.gamma");
    let error = Dinov2::from_tensors(all, Device::Cpu).err().unwrap().to_string();
    assert!(
        error.contains("1 missing: blocks.1.ls2.gamma") && error.contains("unexpected: register_tokens"),
        "{error}"
    );
}

fn largest_difference(one: &Tensor, other: &Tensor) -> f64 {
    (one - other).abs().max().double_value(&[])
}

/// `[2, 3, side, side]` in [-1, 1].
fn images(side: i64) -> Tensor {
    (Tensor::arange(6 * side * side, (Kind::Float, Device::Cpu)) * 0.37 + 0.3).sin().view([2, 3, side, side])
}

/// The tensors of DINOv2 as transformers calls them: its maps of queries, keys and values are apart.
fn as_in_transformers(tensors: &[(String, Tensor)]) -> Vec<(String, Tensor)> {
    let whole = [
        ("cls_token", "embeddings.cls_token"),
        ("pos_embed", "embeddings.position_embeddings"),
        ("patch_embed.proj", "embeddings.patch_embeddings.projection"),
        ("attn.proj", "attention.output.dense"),
        ("ls1.gamma", "layer_scale1.lambda1"),
        ("ls2.gamma", "layer_scale2.lambda1"),
        ("w12", "weights_in"),
        ("w3", "weights_out"),
        ("blocks.", "encoder.layer."),
    ];
    let mut renamed = Vec::new();
    for (name, tensor) in tensors {
        let name = whole.iter().fold(name.clone(), |name, (ours, theirs)| name.replace(ours, theirs));
        let name = if name.starts_with("norm.") { format!("layer{name}") } else { name };
        if name.contains("attn.qkv") {
            let parts = ["query", "key", "value"].into_iter().zip(tensor.chunk(3, 0));
            renamed.extend(parts.map(|(part, rows)| {
                (name.replace("attn.qkv", &format!("attention.attention.{part}")), rows.contiguous())
            }));
        } else {
            renamed.push((name, tensor.shallow_clone()));
        }
    }
    renamed
}

#[test]
fn dinov2_sees_the_same_with_weights_of_either_naming_in_either_format() {
    tch::set_num_threads(1);
    let folder = tempfile::tempdir().unwrap();
    for (feed_forward, hidden) in [(FeedForward::Mlp, 256), (FeedForward::SwiGlu, 176)] {
        let layout = Dinov2Layout { width: 64, depth: 2, feed_forward, hidden, patch: 14, learnt_side: 5 };
        let own = Dinov2::procedural(layout, 7, Device::Cpu).unwrap();
        let parameters = Dinov2::procedural_parameters(layout, 7).unwrap();
        let tensors: Vec<_> = parameters.iter().map(|(spec, tensor)| (spec.name.clone(), tensor.detach())).collect();
        let with_mask = |mut tensors: Vec<(String, Tensor)>, mask: &str| {
            tensors.push((mask.to_owned(), Tensor::zeros([1, 64], (Kind::Float, Device::Cpu))));
            tensors
        };
        let published =
            with_mask(tensors.iter().map(|(name, t)| (name.clone(), t.shallow_clone())).collect(), "mask_token");
        let transformers = with_mask(as_in_transformers(&tensors), "embeddings.mask_token");
        let prepared = own.prepare(&((images(224) + 1.0) * 127.5)).unwrap();
        let expected = own.see(&prepared).unwrap().features;
        assert_eq!(expected.size(), [2, own.dimension() as i64]);
        for (file, tensors, format) in [
            ("dinov2_vitl14_pretrain.pth", published, FileFormat::PyTorch),
            ("model.safetensors", transformers, FileFormat::Safetensors),
        ] {
            let path = folder.path().join(file);
            weights::save_as(&path, tensors, Naming::Ours, format, &std::collections::BTreeMap::new()).unwrap();
            let loaded = Dinov2::load(&path, Device::Cpu).unwrap();
            assert_eq!(largest_difference(&loaded.see(&prepared).unwrap().features, &expected), 0.0, "{file}");
            assert_eq!((loaded.name(), loaded.spatial_dimension(), loaded.classes()), ("dinov2", None, None));
        }
    }
    let small = images(32);
    let error =
        Dinov2::load(folder.path().join("model.safetensors"), Device::Cpu).unwrap().prepare(&small).unwrap_err();
    assert!(error.to_string().contains("[image, 3, 224, 224]"), "{error}");
}
