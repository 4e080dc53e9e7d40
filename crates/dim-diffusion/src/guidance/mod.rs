//! Denoisers that follow their class, or good taste, more closely than the network by itself.

mod autoguidance;
mod classifier_free;

pub use autoguidance::Autoguidance;
pub use classifier_free::ClassifierFreeGuidance;
