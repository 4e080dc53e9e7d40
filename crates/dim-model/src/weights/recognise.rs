//! Whose weights a file holds, told by its keys alone.

use super::{NameTable, WeightFile, names, naming};

/// A kind of network, as far as names tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Holder {
    /// A DiM, under our names or the authors'.
    Dim,
    /// An autoencoder, under the published names, within a checkpoint of Stable Diffusion, or under diffusers' names.
    Autoencoder,
    /// Something else: another network, or no network at all.
    Other,
}

/// Both halves of an autoencoder begin with this, under every name.
const FIRST_CONVOLUTIONS: [&str; 2] = ["encoder.conv_in.weight", "decoder.conv_in.weight"];

/// What the names of a file say: most of DiM's are in its table, and an autoencoder has two halves.
#[must_use]
pub fn recognise(file: &WeightFile) -> Holder {
    let keys: Vec<&str> = file.entries().iter().map(|entry| entry.name.as_str()).collect();
    let of = |table| naming::to_ours(&keys, table);
    let autoencoder = of(NameTable::Autoencoder { levels: 1 });
    let has = |name: &&str| autoencoder.iter().any(|key| !key.passed_over && key.name == *name);
    if FIRST_CONVOLUTIONS.iter().all(has) {
        return Holder::Autoencoder;
    }
    let known = of(NameTable::Dim).iter().filter(|key| names::name_to_authors(&key.name).is_some()).count();
    if 2 * known > keys.len() { Holder::Dim } else { Holder::Other }
}
