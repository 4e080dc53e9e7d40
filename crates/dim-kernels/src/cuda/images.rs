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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_source_is_either_embedded_or_known_to_be_missing() {
        let embedded: Vec<_> = IMAGES.iter().map(|image| image.source).collect();
        assert!(embedded.is_empty() != MISSING.is_empty(), "embedded {embedded:?}, missing {MISSING:?}");
        for source in ["common/sum_partials", "selective_scan/fwd_bf16"] {
            assert!(embedded.contains(&source) != MISSING.contains(&source), "{source}");
            assert_eq!(find(source).is_some(), embedded.contains(&source), "{source}");
            assert_eq!(missing().contains(source), MISSING.contains(&source), "{source}");
        }
    }

    #[test]
    fn images_are_fat_binaries_where_the_driver_can_read_them() {
        for image in IMAGES {
            let bytes = &image.bytes.0;
            // The magic number that a fat binary begins with.
            assert_eq!(bytes.get(..4), Some([0x50, 0xed, 0x55, 0xba].as_slice()), "{}", image.source);
            assert!(bytes.as_ptr().addr().is_multiple_of(16), "{}", image.source);
        }
    }
}
