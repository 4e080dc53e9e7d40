//! From records of measurements and of training to a Markdown summary and self-contained HTML pages.
//!
//! Data flows one way: lines of JSON → [`record`]s → [`analysis`] → [`markdown`] or [`page`]. The program that measures writes
//! the lines, with [`RunWriter`]; nothing here measures, and nothing here knows a tensor library.
//!
//! - [`record`]: what a run is, how it is read and written
//! - [`analysis`]: exponents, crossings and ratios, each with its uncertainty
//! - [`mod@compare`]: two runs side by side
//! - [`evaluation`]: samples of networks and their scores, a page of its own
//! - [`machine`]: on what and by what it was, for those who write records
//! - [`training`]: runs of training, a page of their own
//!
//! [`RunWriter`]: record::RunWriter

#![forbid(unsafe_code)]

pub mod analysis;
mod caveats;
pub mod compare;
mod error;
pub mod evaluation;
mod format;
pub mod machine;
mod markdown;
mod page;
pub mod record;
mod table;
mod tables;
pub mod training;

pub use compare::compare;
pub use error::ReportError;
pub use markdown::markdown;
pub use page::page;
pub use record::Run;

// The fixture of the integration tests names this crate as they do.
#[cfg(test)]
extern crate self as dim_report;
#[cfg(test)]
#[path = "../tests/fixture/mod.rs"]
mod fixture;
