//! Pages: HTML files that need nothing else, not even a network or a script.

mod axis;
pub(crate) mod chart;
mod document;
mod download;
mod figure;
mod frame;
mod group;
pub(crate) mod legend;
pub(crate) mod look;
mod marks;
pub(crate) mod picture;
mod plot;
mod raw;
pub(crate) mod shell;
pub(crate) mod table;

pub use document::page;
