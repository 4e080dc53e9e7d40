//! Everything that can go wrong, each with where, what was expected, what came, and what to do about it.

use std::fmt;
use std::io;
use std::path::PathBuf;

/// An error of this crate.
///
/// Every message names the path or argument, what was expected, what came and, where one is known, the mend.
#[derive(Debug, thiserror::Error)]
pub enum DataError {
    /// An argument of a call is outside its range.
    #[error("{name} must be {expected}, not {found}")]
    Argument {
        /// Name of the argument.
        name: &'static str,
        /// What it may be.
        expected: &'static str,
        /// What it was.
        found: String,
    },

    /// A data configuration that cannot be used; all its problems at once.
    #[error("the data configuration has {} problem(s):{}", problems.len(), bullets(problems))]
    InvalidConfig {
        /// One sentence a problem.
        problems: Vec<String>,
    },

    /// A folder of the configuration does not exist, or is not a folder.
    #[error("{path}: no such folder; expected {expected}. Mend: {mend}")]
    MissingFolder {
        /// The folder looked for.
        path: PathBuf,
        /// What it should hold.
        expected: &'static str,
        /// What to do about it.
        mend: &'static str,
    },

    /// A folder exists, but what was looked for in it is not there.
    #[error("{path}: expected {expected}, found {found}. Mend: {mend}")]
    NoImages {
        /// The folder searched.
        path: PathBuf,
        /// What it should hold.
        expected: String,
        /// What it holds instead.
        found: String,
        /// What to do about it.
        mend: &'static str,
    },

    /// An image lies beside the class folders, so it has no class.
    #[error("{path}: expected every image inside a class folder, found one outside. Mend: {mend}")]
    ImageOutsideClass {
        /// The image.
        path: PathBuf,
        /// What to do about it.
        mend: &'static str,
    },

    /// A file of a known name does not exist.
    #[error("{path}: no such file; expected {expected}. Mend: {mend}")]
    MissingFile {
        /// The file looked for.
        path: PathBuf,
        /// What it should hold.
        expected: &'static str,
        /// What to do about it.
        mend: &'static str,
    },

    /// A file is shorter (truncated) or longer than its format or its own header says.
    #[error("{path}: expected {expected} bytes, found {found} ({}). Mend: {mend}", if found < expected { "the file is truncated" } else { "something follows the data" })]
    WrongLength {
        /// The file.
        path: PathBuf,
        /// Bytes that there should be, after decompression.
        expected: u64,
        /// Bytes that there are; one more than expected stands for "at least one more".
        found: u64,
        /// What to do about it.
        mend: &'static str,
    },

    /// A compressed file ends in the middle.
    #[error(
        "{path}: expected a whole gzip stream, found that it ends early, after {found} bytes of data (the file is truncated). Mend: {mend}"
    )]
    TruncatedStream {
        /// The file.
        path: PathBuf,
        /// Bytes that could be decompressed.
        found: u64,
        /// What to do about it.
        mend: &'static str,
    },

    /// A file does not begin as its format demands.
    #[error("{path}: expected magic number {expected:#010x} ({meaning}), found {found:#010x}. Mend: {mend}")]
    WrongMagic {
        /// The file.
        path: PathBuf,
        /// The magic number of the format.
        expected: u32,
        /// What the magic number says.
        meaning: &'static str,
        /// The number that the file begins with.
        found: u32,
        /// What to do about it.
        mend: &'static str,
    },

    /// Images and labels of a data set do not go together.
    #[error(
        "{images_path} has {images} images, but {labels_path} has {labels} labels; the counts must agree. Mend: {mend}"
    )]
    CountMismatch {
        /// The file of images.
        images_path: PathBuf,
        /// How many it has.
        images: usize,
        /// The file of labels.
        labels_path: PathBuf,
        /// How many it has.
        labels: usize,
        /// What to do about it.
        mend: &'static str,
    },

    /// A label names a class that the data set does not have.
    #[error("{path}: item {index} has class {class}; expected a class from 0 to {}. Mend: {mend}", classes - 1)]
    ClassOutOfRange {
        /// The file with the label.
        path: PathBuf,
        /// Which item of the file, from 0.
        index: usize,
        /// The class found.
        class: usize,
        /// How many classes the data set has.
        classes: usize,
        /// What to do about it.
        mend: &'static str,
    },

    /// One image cannot be read or decoded.
    #[error("{path}: cannot be read as an image: {reason}")]
    BrokenImage {
        /// The file.
        path: PathBuf,
        /// What the decoder said.
        reason: String,
    },

    /// One example of a file that holds many, or that is no image, cannot be read.
    #[error("{path}: cannot be read: {reason}")]
    BrokenRecord {
        /// The file, and the place in it.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },

    /// A file or folder holds something else than it should.
    #[error("{path}: expected {expected}, found {found}. Mend: {mend}")]
    WrongContents {
        /// The file or folder.
        path: PathBuf,
        /// What it should hold.
        expected: String,
        /// What it holds instead.
        found: String,
        /// What to do about it.
        mend: &'static str,
    },

    /// More images are broken than the loader was told to bear, or all of them.
    #[error("{} of {images} images cannot be read (max_broken_files = {limit}):{}\nMend: repair or remove them, or raise max_broken_files", files.len(), bullets(files))]
    TooManyBroken {
        /// The limit that was passed.
        limit: usize,
        /// Images that the source has.
        images: usize,
        /// The broken files, in the order in which they were met.
        files: Vec<BrokenFile>,
    },

    /// The operating system refused something.
    #[error("{path}: {doing} failed: {error}. Mend: {mend}")]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// What was attempted.
        doing: &'static str,
        /// What the system said.
        #[source]
        error: io::Error,
        /// What to do about it.
        mend: &'static str,
    },

    /// The loader's worker threads could not be started, or ended without being told to.
    #[error("the loader's worker threads are gone: {reason}")]
    WorkersGone {
        /// What is known about it.
        reason: String,
    },
}

/// An image that could not be read, and that another one stands in for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BrokenFile {
    /// Its index in the source.
    pub index: usize,
    /// Its name: the path, as [`ImageSource::name`](crate::ImageSource::name) gives it.
    pub name: String,
    /// Why it could not be read; the message names the path again.
    pub reason: String,
}

impl fmt::Display for BrokenFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.reason.starts_with(&self.name) {
            f.write_str(&self.reason)
        } else {
            write!(f, "{}: {}", self.name, self.reason)
        }
    }
}

fn bullets<T: fmt::Display>(lines: &[T]) -> String {
    lines.iter().map(|line| format!("\n  - {line}")).collect()
}
