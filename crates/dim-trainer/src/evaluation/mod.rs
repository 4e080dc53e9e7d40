//! From images, in files or on the device, to what is known of a set of them, and from two sets to numbers.
//!
//! ```text
//! folder ─▶ folder ─┐
//!                   ├─▶ measure (the network) ─▶ set (sums, kept features) ─▶ scores (two sets, the metrics)
//! samples ──────────┘                             │ ▲
//!                                  statistics file ┘ └ npz of other programs
//! ```

mod extractor;
mod folder;
mod measure;
mod metric;
mod npz;
mod reference;
mod scores;
mod set;

pub(crate) use extractor::{Extractor, ExtractorChoice};
pub(crate) use folder::Folders;
pub(crate) use measure::{Measure, Measuring};
pub use metric::Metric;
pub(crate) use metric::Settings;
pub(crate) use reference::{Reference, folder, measured};
pub use scores::Scores;
pub(crate) use scores::scores;
pub(crate) use set::Set;
