//! The page: one HTML file that needs nothing else, not even a network or a script.

mod axis;
mod document;
mod download;
mod figure;
mod group;
mod legend;
mod look;
mod marks;
mod plot;
mod raw;
mod table;

pub use document::page;
