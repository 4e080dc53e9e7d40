#![allow(clippy::unwrap_used)]

use std::path::Path;

use dim_diffusion::Prediction;
use dim_diffusion::objective::{LossWeight, ObjectiveOptions, TimeSampling};
use dim_model::ModelConfig;
use proptest::prelude::*;

use super::{Config, Effect, differences};
use crate::error::TrainerError;

const MINIMAL: &str = r#"
[model]
preset = "tiny"

[data]
source = "folder"
path = "images"

[diffusion]
schedule = "sd"
class_dropout = 0.1

[train]
images = 1000
batch_size = 8
lr = 1e-3
warmup_images = 0
beta1 = 0.9
beta2 = 0.99
eps = 1e-8
weight_decay = 0.0
ema_decay = 0.99
random_flip = false
checkpoint_every_images = 100
"#;

fn parse(overrides: &[&str]) -> Result<Config, TrainerError> {
    let overrides: Vec<String> = overrides.iter().map(|assignment| (*assignment).to_owned()).collect();
    Config::parse(MINIMAL, "run.toml", &overrides)
}

fn error(overrides: &[&str]) -> String {
    parse(overrides).unwrap_err().to_string()
}

fn error_in(text: &str) -> String {
    let error = Config::parse(text, "run.toml", &[]).unwrap_err();
    assert_eq!(error.exit_code(), 2);
    error.to_string()
}

#[test]
fn presets_are_filled_in_and_overridden() {
    let config = parse(&["model.depth=9", "train.clip_norm=0.5"]).unwrap();
    let ModelConfig::Dim(model) = &config.model else { panic!("{:?}", config.model) };
    assert_eq!((model.depth, model.d_model, config.train.clip_norm), (9, 32, Some(0.5)));
}

#[test]
fn backbone_comes_from_the_preset_or_is_named_and_is_dim_otherwise() {
    let of = |overrides: &[&str]| parse(overrides).unwrap().model.backbone();
    assert_eq!(of(&[]), "dim");
    assert_eq!(of(&["model.preset=dit_tiny"]), "dit");
    assert_eq!(of(&["model.preset=uvit_tiny", "model.backbone=uvit"]), "uvit");
    let explicit = MINIMAL.replace(
        "preset = \"tiny\"",
        "image_size = 8\nin_channels = 3\npatch_size = 2\nd_model = 32\ndepth = 5\nclasses = 3\npadding = \"lateral\"",
    );
    assert_eq!(Config::parse(&explicit, "run.toml", &[]).unwrap(), parse(&[]).unwrap());
}

#[test]
fn errors_in_a_backbone_name_the_key_and_what_was_expected() {
    assert_eq!(
        error(&["model.preset=dit_tiny", "model.backbone=dim"]),
        "run.toml:3: `model.preset`: `dit_tiny` is a network of backbone `dit`, and `model.backbone` is \"dim\""
            .replace("run.toml:3", "--set model.preset=dit_tiny")
    );
    let message = error_in(&MINIMAL.replace("preset = \"tiny\"", "backbone = \"unit\""));
    assert!(message.starts_with("run.toml:3: `model.backbone`: expected `dim`, `dit`, `uvit` or"), "{message}");
    let message = error(&["model.preset=dit_tiny", "model.head=4"]);
    assert!(message.contains("unknown key `model.head`; did you mean `model.heads`"), "{message}");
    let message = error(&["model.preset=uvit_tiny", "model.depth=half"]);
    assert!(message.contains("`model.depth`: expected a whole number, 0 or more, got string"), "{message}");
    let message = error(&["model.preset=uvit_tiny", "model.depth=3", "model.null_class=false"]);
    assert!(message.contains("`depth` must be even") && message.contains("no class"), "{message}");
}

#[test]
fn resolved_configuration_reads_back_as_itself() {
    let config = parse(&["sample.every_images=10", "train.initial_weights=weights.safetensors"]).unwrap();
    let text = config.to_toml().unwrap();
    assert_eq!(Config::parse(&text, "config.toml", &[]).unwrap(), config);
    assert!(!text.contains("preset"), "{text}");
}

#[test]
fn values_of_overrides_are_toml_or_plain_strings() {
    let config = parse(&[
        "data.path=/some folder/images",
        "train.seed=7",
        "sample.sampler={algorithm='ddim', steps=5}",
        "train.lr = 2",
    ])
    .unwrap();
    assert_eq!(config.data.path(), Path::new("/some folder/images"));
    assert_eq!((config.train.seed, config.train.lr), (7, 2.0));
    assert_eq!(config.sample.sampler.evaluations(), 5);
    assert_eq!(parse(&["train.seed=1", "train.seed=2"]).unwrap().train.seed, 2);
}

#[test]
fn unknown_keys_are_named_with_the_nearest() {
    let message = error_in(&MINIMAL.replace("batch_size", "bach_size"));
    assert_eq!(message, "run.toml:15: unknown key `train.bach_size`; did you mean `train.batch_size`?");
    let message = error(&["train.weight_dekay=1"]);
    assert_eq!(
        message,
        "--set train.weight_dekay=1: unknown key `train.weight_dekay`; did you mean `train.weight_decay` or `train.weight_decay_on`?"
    );
    let message = error(&["batch_size=4"]);
    assert!(message.contains("unknown key `batch_size`; did you mean `train.batch_size`?"), "{message}");
    let message = error(&["data.patch_size=2"]);
    assert!(message.contains("did you mean `model.patch_size` or `data.path`?"), "{message}");
    let message = error(&["train.cfg_scale=2.0"]);
    assert!(message.contains("did you mean `sample.cfg_scale`?"), "{message}");
    let message = error(&["training.lr=2.0"]);
    assert!(message.contains("unknown key `training`; did you mean `train`?"), "{message}");
    let message = error(&["diffusion.zzz=2.0"]);
    assert!(
        message.contains("the keys of [diffusion] are schedule, prediction, class_dropout, round_time_to_bf16"),
        "{message}"
    );
    let message = error(&["data.split='test'"]);
    assert!(message.contains("unknown key `data.split`"), "{message}");
    let message = error(&["sample.sampler={algorithm='ddim', stepps=5}"]);
    assert!(message.contains("unknown key `sample.sampler.stepps`"), "{message}");
}

#[test]
fn wrong_types_say_key_expected_and_got() {
    let message = error_in(&MINIMAL.replace("lr = 1e-3", "lr = \"fast\""));
    assert_eq!(message, "run.toml:16: `train.lr`: expected a number, got string \"fast\"");
    let message = error(&["train.batch_size=-3"]);
    assert_eq!(
        message,
        "--set train.batch_size=-3: `train.batch_size`: expected a whole number, 0 or more, got integer `-3`"
    );
    let message = error(&["train.random_flip=1"]);
    assert!(message.ends_with("`train.random_flip`: expected true or false, got integer `1`"), "{message}");
    let message = error(&["diffusion.schedule=cosine"]);
    assert!(
        message.contains("`diffusion.schedule`: unknown variant `cosine`, expected one of `sd`, `vp_sde`, `flow`"),
        "{message}"
    );
    let message = error(&["model.preset=dim_xl_2"]);
    assert!(message.contains("unknown preset `dim_xl_2`; did you mean") && message.contains("`dim_l_2`"), "{message}");
    let message = error(&["model.preset=foo"]);
    assert!(message.contains("unknown preset `foo`; expected `dim_s_2`, `dim_l_2`"), "{message}");
    let message = error(&["train=3"]);
    assert!(message.contains("`train`: expected a section, got integer `3`"), "{message}");
}

#[test]
fn missing_keys_and_broken_syntax_are_located() {
    assert_eq!(error_in(&MINIMAL.replace("lr = 1e-3\n", "")), "run.toml:13: the key `train.lr` is missing");
    let message = error_in(&MINIMAL.replace("preset = \"tiny\"", "preset = \"tiny"));
    assert!(message.starts_with("run.toml:3: "), "{message}");
}

#[test]
fn overrides_without_key_or_value_are_refused() {
    for assignment in ["train.lr", "=3", "train..lr=3", "train.lr.x=3"] {
        let message = error(&[assignment]);
        assert!(message.starts_with(&format!("--set {assignment}: ")), "{message}");
    }
}

#[test]
fn every_problem_is_told_at_once() {
    let overrides = [
        "train.batch_size=0",
        "model.image_size=9",
        "model.depth=4",
        "diffusion.class_dropout=1.5",
        "train.lr=-1.0",
        "train.beta1=1.0",
        "train.log_every_steps=0",
        "sample.rows=0",
        "sample.sampler={algorithm='ddim', steps=0}",
        "data.path=''",
        "model.in_channels=4",
    ];
    let error = parse(&overrides).unwrap_err();
    assert_eq!(error.exit_code(), 2);
    let TrainerError::ConfigValues { problems, .. } = &error else { panic!("{error}") };
    assert_eq!(problems.len(), overrides.len(), "{error}");
    for needle in [
        "`train.batch_size` must be at least 1, got 0",
        "multiple of `patch_size` = 2, got 9",
        "`train.lr` must be positive, got -1",
    ] {
        assert!(error.to_string().contains(needle), "{error}");
    }
}

#[test]
fn micro_batches_must_divide_the_batch() {
    for (micro, good) in [("1", true), ("4", true), ("8", true), ("3", false), ("16", false), ("0", false)] {
        assert_eq!(parse(&[&format!("train.micro_batch_size={micro}")]).is_ok(), good, "{micro}");
    }
}

#[test]
fn guidance_needs_classes_and_label_dropout() {
    for (dropout, cfg_scale, good) in
        [("0.1", "2.0", true), ("0.0", "2.0", false), ("1.0", "2.0", false), ("0.0", "1.0", true), ("1.0", "1.0", true)]
    {
        let overrides = [format!("diffusion.class_dropout={dropout}"), format!("sample.cfg_scale={cfg_scale}")];
        assert_eq!(Config::parse(MINIMAL, "run.toml", &overrides).is_ok(), good, "{overrides:?}");
    }
}

#[test]
fn diffusion_is_epsilon_on_uniform_times_unless_it_says_otherwise() {
    let plain = parse(&[]).unwrap().diffusion;
    assert_eq!((plain.prediction, plain.time_shift), (Prediction::Epsilon, 1.0));
    assert_eq!(plain.objective(), ObjectiveOptions { class_dropout: 0.1, ..ObjectiveOptions::default() });
    let flow = parse(&[
        "diffusion.schedule=flow",
        "diffusion.prediction=flow",
        "diffusion.loss_weight.min_snr.gamma=4",
        "diffusion.time_sampling.logit_normal.mean=0.5",
        "diffusion.time_shift=3",
    ])
    .unwrap();
    assert_eq!(flow.diffusion.loss_weight, LossWeight::MinSnr { gamma: 4.0 });
    assert_eq!(flow.diffusion.time_sampling, TimeSampling::LogitNormal { mean: 0.5, std: 1.0 });
    assert_eq!(Config::parse(&flow.to_toml().unwrap(), "saved", &[]).unwrap(), flow);
}

#[test]
fn diffusion_that_makes_no_sense_is_refused() {
    for (overrides, needle) in [
        (&["diffusion.prediction=flow"][..], "`diffusion.schedule` must be flow when diffusion.prediction is flow"),
        (&["diffusion.time_shift=2"], "`diffusion.time_shift` must be 1 unless diffusion.schedule is flow, got 2"),
        (&["diffusion.schedule=flow", "diffusion.time_shift=0"], "`diffusion.time_shift` must be positive, got 0"),
        (&["diffusion.loss_weight.min_snr.gamma=0"], "`diffusion.loss_weight`: gamma must be a positive number"),
        (&["diffusion.time_sampling.logit_normal.std=0"], "`diffusion.time_sampling`: std must be a positive number"),
        (&["diffusion.prediction=noise"], "`diffusion.prediction`: unknown variant `noise`, expected one of `epsilon`"),
    ] {
        let message = error(overrides);
        assert!(message.contains(needle), "{message}");
    }
}

#[test]
fn averages_have_different_widths_that_a_profile_can_have() {
    let config = parse(&["ema.snapshot_every_images=10"]).unwrap();
    assert_eq!(config.ema.as_ref().unwrap().sigma_rel, [0.05, 0.10]);
    assert_eq!(Config::parse(&config.to_toml().unwrap(), "saved", &[]).unwrap(), config);
    for (setting, needle) in [
        ("ema.sigma_rel=[]", "`ema.sigma_rel` must be one width or more, got []"),
        ("ema.sigma_rel=[0.1, 0.1]", "`ema.sigma_rel` must be different widths, got [0.1, 0.1]"),
        ("ema.sigma_rel=[0.3]", "`ema.sigma_rel` must be above 0 and at most 0.2887, got 0.3"),
        ("ema.update_every_steps=0", "`ema.update_every_steps` must be at least 1, got 0"),
    ] {
        let message = error(&["ema.snapshot_every_images=10", setting]);
        assert!(message.contains(needle), "{message}");
    }
    assert!(error(&["ema.sigma_rel=[0.1]"]).contains("the key `ema.snapshot_every_images` is missing"));
    let before = parse(&[]).unwrap();
    let effects: Vec<Effect> =
        differences(&before, &config).unwrap().iter().map(|difference| difference.effect()).collect();
    assert!(effects.contains(&Effect::Shapes), "{effects:?}");
    let later = parse(&["ema.snapshot_every_images=20"]).unwrap();
    assert_eq!(differences(&config, &later).unwrap()[0].effect(), Effect::None);
}

#[test]
fn latents_have_the_channels_of_the_autoencoder() {
    assert!(parse(&["autoencoder.kind=kl_f8", "model.in_channels=4"]).is_ok());
    assert!(error(&["autoencoder.kind=kl_f8"]).contains("`model.in_channels` must be 4"));
    assert_eq!(parse(&["autoencoder.kind=kl_f8", "model.in_channels=4"]).unwrap().data_size(), 64);
}

#[test]
fn any_autoencoder_is_described_by_its_sizes() {
    let sizes = "autoencoder.sizes={in_channels=3, latent_channels=8, channels=32, channel_mult=[1, 2, 4], num_res_blocks=1, scaling_factor=0.5}";
    let config = parse(&[sizes, "model.in_channels=8", "autoencoder.weights=ae.safetensors"]).unwrap();
    assert_eq!(config.data_size(), 8 * 4);
    assert_eq!(Config::parse(&config.to_toml().unwrap(), "saved.toml", &[]).unwrap(), config);
    assert!(
        error(&["autoencoder.weights=ae.pth"])
            .contains("[autoencoder] must have either `kind` or `sizes`, got neither")
    );
    assert!(error(&[sizes, "autoencoder.kind=kl_f8"]).contains("got both"));
    let wrong = sizes.replace("channels=32", "channels=40");
    assert!(error(&[&wrong]).contains("[autoencoder.sizes] `channels` must be a multiple of 32"));
    assert!(
        error(&["autoencoder.kind=kl_f8", "autoencoder.scaling_factor=0"])
            .contains("`scaling_factor` must be positive")
    );
}

#[test]
fn differences_say_what_a_change_does_to_a_run() {
    let before = parse(&[]).unwrap();
    for (change, key, effect) in [
        ("train.images=2000", "train.images", Effect::None),
        ("sample.every_images=10", "sample.every_images", Effect::None),
        ("train.micro_batch_size=4", "train.micro_batch_size", Effect::Rounding),
        ("train.lr=0.5", "train.lr", Effect::Trajectory),
        ("data.path='elsewhere'", "data.path", Effect::Trajectory),
        ("model.depth=9", "model.depth", Effect::Shapes),
    ] {
        let found = differences(&before, &parse(&[change]).unwrap()).unwrap();
        assert_eq!(found.len(), 1, "{found:?}");
        assert_eq!((found[0].key.as_str(), found[0].effect()), (key, effect));
    }
    assert_eq!(differences(&before, &before).unwrap(), []);
    let found = differences(&before, &parse(&["train.lr=0.5"]).unwrap()).unwrap();
    assert_eq!(found[0].to_string(), "train.lr: there 0.001, here 0.5");
}

proptest! {
    #[test]
    fn numbers_survive_being_saved(lr in 1e-12_f64..1.0, seed in 0..=i64::MAX as u64, eps in 1e-20_f64..1e-3) {
        let overrides = [format!("train.lr={lr:e}"), format!("train.seed={seed}"), format!("train.eps={eps:e}")];
        let config = Config::parse(MINIMAL, "run.toml", &overrides).unwrap();
        prop_assert_eq!((config.train.lr, config.train.seed, config.train.eps), (lr, seed, eps));
        prop_assert_eq!(Config::parse(&config.to_toml().unwrap(), "saved", &[]).unwrap(), config);
    }

    #[test]
    fn no_text_makes_the_parser_panic(text in "\\PC{0,200}", assignment in "[a-z.=\\[\\]{}\"0-9]{0,40}") {
        let _ = Config::parse(&text, "text", &[]);
        let _ = Config::parse(MINIMAL, "text", &[assignment]);
    }
}
