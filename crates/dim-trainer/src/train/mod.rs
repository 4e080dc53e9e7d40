//! Training: [`train`] is the loop, [`Session`] what it works with.
//!
//! Everything random is a function of the seed and of `images_seen`, so a [`checkpoint`] carries no generator's state, and a run that was
//! stopped and resumed gives the bits of one that was not.

mod autoencoder;
pub mod checkpoint;
mod data;
mod diffusion;
mod evaluation;
mod gradients;
mod initial_weights;
mod log;
mod r#loop;
mod progress;
mod resume;
mod session;
pub(crate) mod sessions;
pub(crate) mod shards;
mod state;
mod stop;
mod task;
mod team;
mod tensorboard;
mod trace;
mod window;

pub use autoencoder::AutoencoderTask;
pub use diffusion::DiffusionTask;
pub use gradients::Loss;
pub use log::{Evaluated, JsonLog, Measurement, Record};
pub use r#loop::{Outcome, train};
pub use resume::{Here, resume};
pub use session::{DeviceBatch, RequestedEnd, Session, Start};
pub use state::{TrainState, learning_rate};
pub use task::Task;
pub use team::{GradientSum, Team};
pub use trace::Trace;
