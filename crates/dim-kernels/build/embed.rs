//! Writes the Rust that embeds the fat binaries.

use std::fmt::Write as _;
use std::path::Path;
use std::{fs, io};

use crate::compile::Image;

/// Writes `images.rs` with the tables `IMAGES`, of the sources that were compiled, and `MISSING`, of those that were not.
pub(crate) fn write(output: &Path, images: &[Image], missing: &[String]) -> io::Result<()> {
    let mut text = String::from("pub(super) static IMAGES: &[Image] = &[\n");
    for Image { source, file } in images {
        // Infallible: a String takes whatever is written to it.
        let _ = writeln!(text, "    Image {{ source: {source:?}, bytes: &Aligned(*include_bytes!({file:?})) }},");
    }
    text.push_str("];\n");
    let _ = writeln!(text, "pub(super) static MISSING: &[&str] = &{missing:?};");
    fs::write(output.join("images.rs"), text)
}
