//! The fat binaries that the build script compiled.

/// A compiled CUDA source.
pub(super) struct Image {
    /// `<operation>/<name>`.
    pub(super) source: &'static str,
    pub(super) bytes: &'static Aligned<[u8]>,
}

/// The driver reads the binary's header in words.
#[repr(C, align(16))]
pub(super) struct Aligned<Bytes: ?Sized>(pub(super) Bytes);

include!(concat!(env!("OUT_DIR"), "/images.rs"));

/// The fat binary of a source, if it was compiled.
pub(super) fn find(source: &str) -> Option<&'static Image> {
    IMAGES.iter().find(|image| image.source == source)
}

/// The sources that were not compiled.
pub(super) fn missing() -> String {
    MISSING.join(", ")
}
