//! What the networks are made of.

mod attention;
mod join;
mod linear;
mod mlp;
mod norm;
mod patches;
mod position;
mod segment;
mod sinusoid;
mod stream;

pub(crate) use attention::Attention;
pub(crate) use join::Join;
pub(crate) use linear::Linear;
pub(crate) use mlp::{Gelu, Mlp};
pub(crate) use norm::Norm;
pub(crate) use patches::{PatchEmbed, unpatchify};
pub(crate) use position::{resized_rows, resized_table};
pub(crate) use segment::Segment;
pub(crate) use sinusoid::Sinusoid;
pub(crate) use stream::{Branch, Form, Stream};
