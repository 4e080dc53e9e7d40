#![allow(clippy::unwrap_used)]

use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;
use crate::AutoencoderConfig;

#[test]
fn the_decoder_is_counted_from_the_other_end() {
    for (theirs, ours) in [
        ("decoder.up_blocks.0.resnets.2.conv1.weight", "decoder.up.3.block.2.conv1.weight"),
        ("decoder.up_blocks.2.resnets.0.conv_shortcut.bias", "decoder.up.1.block.0.nin_shortcut.bias"),
        ("decoder.up_blocks.0.upsamplers.0.conv.weight", "decoder.up.3.upsample.conv.weight"),
        ("encoder.down_blocks.1.resnets.0.norm2.bias", "encoder.down.1.block.0.norm2.bias"),
        ("encoder.down_blocks.0.downsamplers.0.conv.bias", "encoder.down.0.downsample.conv.bias"),
        ("decoder.mid_block.resnets.1.norm1.weight", "decoder.mid.block_2.norm1.weight"),
        ("encoder.conv_norm_out.weight", "encoder.norm_out.weight"),
        ("quant_conv.weight", "quant_conv.weight"),
    ] {
        assert_eq!(name_to_ours(theirs, 4), Some((ours.to_owned(), Layout::Same)), "{theirs}");
    }
}

#[test]
fn both_ways_to_call_the_maps_of_attention_mean_the_same() {
    for (newer, older, ours) in [
        ("to_q.weight", "query.weight", "q.weight"),
        ("to_k.weight", "key.weight", "k.weight"),
        ("to_v.weight", "value.weight", "v.weight"),
        ("to_out.0.weight", "proj_attn.weight", "proj_out.weight"),
    ] {
        let expected = Some((format!("encoder.mid.attn_1.{ours}"), Layout::PointConvolution));
        assert_eq!(name_to_ours(&format!("encoder.mid_block.attentions.0.{newer}"), 4), expected);
        assert_eq!(name_to_ours(&format!("encoder.mid_block.attentions.0.{older}"), 4), expected);
    }
    let norm = name_to_ours("decoder.mid_block.attentions.0.group_norm.weight", 4);
    assert_eq!(norm, Some(("decoder.mid.attn_1.norm.weight".to_owned(), Layout::Same)));
}

#[test]
fn near_misses_are_not_names() {
    for name in [
        "decoder.up_blocks.4.resnets.0.conv1.weight",
        "decoder.up_blocks.00.resnets.0.conv1.weight",
        "decoder.up_blocks.0.resnets.+1.conv1.weight",
        "decoder.up_blocks.0.upsamplers.1.conv.weight",
        "decoder.up_blocks.0.resnets.0.nin_shortcut.weight",
        "encoder.mid_block.attentions.0.q.weight",
        "encoder.mid_block.resnets.2.conv1.weight",
        "encoder.conv_in.scale",
        "encoder.conv_in..weight",
        "encoder.conv_in",
        "quant_conv",
        "",
    ] {
        assert_eq!(name_to_ours(name, 4), None, "{name}");
    }
}

/// Every name of any configuration has one of diffusers', and no two have the same.
fn config() -> impl Strategy<Value = AutoencoderConfig> {
    (prop::collection::vec(1usize..4, 1..7), 1usize..4, any::<u8>()).prop_map(|(channel_mult, blocks, mask)| {
        let attends = (0..channel_mult.len()).filter(|level| mask & (1 << level) != 0).map(|level| 1 << level);
        AutoencoderConfig {
            attention_downsampling: attends.collect(),
            channel_mult,
            num_res_blocks: blocks,
            ..AutoencoderConfig::tiny()
        }
    })
}

proptest! {
    #[test]
    fn every_name_goes_there_and_back_and_no_two_meet(config in config(), older in any::<bool>()) {
        let attention = if older { AttentionNames::Older } else { AttentionNames::Newer };
        let levels = config.channel_mult.len();
        let specs = config.parameter_specs();
        let mut theirs = BTreeSet::new();
        for spec in &specs {
            let (name, layout) = name_to_diffusers(&spec.name, levels, attention).unwrap();
            prop_assert_eq!(name_to_ours(&name, levels), Some((spec.name.clone(), layout)));
            let shape = layout.shape_to_authors(&spec.shape).unwrap();
            prop_assert_eq!(layout.shape_to_ours(&shape), Some(spec.shape.clone()));
            theirs.insert(name);
        }
        prop_assert_eq!(theirs.len(), specs.len());
    }
}
