//! Files of weights: reading, checking and writing them, under our names or those of the authors' code.
//!
//! | format | read | written | by |
//! | --- | --- | --- | --- |
//! | safetensors | yes | yes | this crate, diffusers, most of the field |
//! | PyTorch's zip archive | yes | yes | `torch.save` since 1.6, such as the authors' `nnet_ema.pth` |
//! | PyTorch's stream | yes | no | `torch.save` before, such as most files of 2020 and earlier |
//!
//! Data goes one way. A [`WeightFile`] finds the format by content and reads the header; [`load`] reads the tensors
//! and takes them to our names and layouts ([`names`]); [`assign`] checks them against a network's parameters, all
//! keys at once, and copies them. [`assign_file`] does both for one tensor at a time, for large networks. [`save`]
//! goes the other way.

mod atomic;
mod autoencoder;
mod bytes;
pub mod diffusers;
mod diffusers_folder;
mod element;
mod error;
mod file;
mod format;
mod layout;
mod load;
mod mismatch;
pub mod names;
mod naming;
mod pytorch;
mod recognise;
mod safetensors;
mod save;

pub use atomic::write_atomically;
pub use diffusers_folder::DiffusersFolder;
pub use error::WeightsError;
pub use file::{Entry, WeightFile};
pub use format::FileFormat;
pub use layout::Layout;
pub use load::{assign, assign_file, check_file, load, load_file};
pub use mismatch::{Misfit, Mismatch};
pub use naming::{NameTable, Naming, PublishedNames};
pub use recognise::{Holder, recognise};
pub use save::{save, save_as, save_parameters};
