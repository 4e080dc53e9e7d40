//! Whose file of an autoencoder's weights this is, told by its keys.
//!
//! | file | names |
//! | --- | --- |
//! | the authors' `autoencoder_kl*.pth` | as here |
//! | a checkpoint of the autoencoder's own training | as here, and `loss.*`, which is passed over |
//! | a checkpoint of Stable Diffusion | as here behind `first_stage_model.`; all other keys are passed over |
//! | diffusers' `AutoencoderKL` | [`diffusers`] |

use super::{
    diffusers,
    layout::Layout,
    naming::{Renamed, foreign_prefix},
};

/// What stands before the autoencoder's names in a checkpoint of a whole latent diffusion model.
const FIRST_STAGE: &str = "first_stage_model.";
/// What stands before the names of the networks that the autoencoder is trained against.
const LOSS: &str = "loss.";
/// What may stand before the first dot of a name.
const FIRST_PARTS: [&str; 4] = ["encoder", "decoder", "quant_conv", "post_quant_conv"];

/// The keys of a file in the published names, in the order of the file.
pub(super) fn to_ours(keys: &[&str], levels: usize) -> Vec<Renamed> {
    let whole_model = keys.iter().any(|key| key.starts_with(FIRST_STAGE));
    let is_ours = |key: &str| key.split('.').next().is_some_and(|part| FIRST_PARTS.contains(&part));
    let prefix = if whole_model { FIRST_STAGE } else { foreign_prefix(keys, is_ours) };
    let renamed = |key: &&str| match key.strip_prefix(prefix) {
        Some(bare) if !bare.starts_with(LOSS) => match diffusers::name_to_ours(bare, levels) {
            Some((name, layout)) => Renamed { name, layout, passed_over: false },
            None => Renamed::same(bare),
        },
        _ => Renamed { name: (*key).to_owned(), layout: Layout::Same, passed_over: true },
    };
    keys.iter().map(renamed).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kept(keys: &[&str]) -> Vec<String> {
        to_ours(keys, 4).into_iter().filter(|key| !key.passed_over).map(|key| key.name).collect()
    }

    #[test]
    fn of_a_whole_model_the_first_stage_alone_is_kept() {
        let keys = [
            "betas",
            "model.diffusion_model.out.2.bias",
            "first_stage_model.encoder.conv_in.bias",
            "first_stage_model.loss.logvar",
            "encoder.conv_in.bias",
        ];
        assert_eq!(kept(&keys), ["encoder.conv_in.bias"]);
    }

    #[test]
    fn losses_are_passed_over_and_a_shared_prefix_is_taken_off() {
        assert_eq!(kept(&["loss.logvar", "quant_conv.bias"]), ["quant_conv.bias"]);
        assert_eq!(kept(&["module.loss.logvar", "module.quant_conv.bias"]), ["quant_conv.bias"]);
    }

    #[test]
    fn what_is_in_no_table_stays_to_be_refused() {
        assert_eq!(kept(&["quant_conv.bias", "encoder.extra"]), ["quant_conv.bias", "encoder.extra"]);
        assert_eq!(kept(&[]), [""; 0]);
    }
}
