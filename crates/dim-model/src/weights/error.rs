//! The error type of the weight files.

use std::{io, path::PathBuf};

use dim_torch::TorchError;
use tch::TchError;

use super::mismatch::{self, Mismatch};

/// What can go wrong in reading, writing or assigning weights.
#[derive(Debug, thiserror::Error)]
pub enum WeightsError {
    /// The operating system refused.
    #[error("cannot {action} {}: {source}", path.display())]
    Io {
        /// What was tried: "open", "read", "write" …
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// The file is of no known format.
    #[error("{} holds no weights: expected a safetensors file or a PyTorch file, got {got}", path.display())]
    UnknownFormat {
        /// The file.
        path: PathBuf,
        /// What the file seems to be.
        got: String,
    },
    /// The file was written by PyTorch in a format that is not read here.
    #[error(
        "{} is {got}; write it again with PyTorch 1.6 or later: \
         torch.save(torch.load(old, map_location=\"cpu\"), new), with a dictionary of tensors in it",
        path.display()
    )]
    UnreadPyTorchFormat {
        /// The file.
        path: PathBuf,
        /// The format found.
        got: &'static str,
    },
    /// The file is shorter than its header says.
    #[error("{} is truncated: expected {expected} bytes, got {got}", path.display())]
    Truncated {
        /// The file.
        path: PathBuf,
        /// Length in bytes that the header asks for.
        expected: u64,
        /// Length in bytes of the file.
        got: u64,
    },
    /// The file contradicts its format.
    #[error("{}: {part}: expected {expected}, got {got}", path.display())]
    Corrupt {
        /// The file.
        path: PathBuf,
        /// Where in the file.
        part: String,
        /// What the format asks for.
        expected: String,
        /// What came.
        got: String,
    },
    /// A pickle names something that is not on the list of harmless classes; nothing of it was executed.
    #[error(
        "{}: the pickle asks for `{global}`, which a file of weights does not need; nothing was executed. \
         Save the tensors alone: torch.save(model.state_dict(), path)",
        path.display()
    )]
    ForbiddenGlobal {
        /// The file.
        path: PathBuf,
        /// Module and name, as the pickle writes them.
        global: String,
    },
    /// A PyTorch file in which it is not clear where the weights are.
    #[error("{}: {}; it holds {}", path.display(), wanted(key.as_deref()), found(dictionaries))]
    Dictionary {
        /// The file.
        path: PathBuf,
        /// The dictionary that was asked for, if one was.
        key: Option<String>,
        /// Key and number of tensors of each dictionary in the file; the outermost one has the key `""`.
        dictionaries: Vec<(String, usize)>,
    },
    /// A tensor has an element type that is not supported.
    #[error("{}: tensor `{tensor}`: expected {}, got {got}", path.display(), super::element::SUPPORTED)]
    UnsupportedType {
        /// The file.
        path: PathBuf,
        /// The tensor.
        tensor: String,
        /// Its element type.
        got: String,
    },
    /// Weights and network do not fit together.
    #[error("{0}")]
    Mismatch(Box<Mismatch>),
    /// Parameters cannot be written under the names of other code.
    #[error("no name or no layout in {whose} for {}", mismatch::list(names))]
    NoSuchName {
        /// Which code.
        whose: &'static str,
        /// Names and shapes of the parameters.
        names: Vec<String>,
    },
    /// Tensors cannot be written under these names: one is used twice or reserved by the format.
    #[error("a safetensors file cannot hold {}", mismatch::list(names))]
    UnusableNames {
        /// The names.
        names: Vec<String>,
    },
    /// A folder that is not an autoencoder of diffusers, or one that is not supported.
    #[error("{}: {problem}", path.display())]
    DiffusersFolder {
        /// The folder, or the file in it.
        path: PathBuf,
        /// What was expected and what came.
        problem: String,
    },
    /// The parameters refused a key.
    #[error(transparent)]
    Parameters(#[from] TorchError),
    /// libtorch refused an operation.
    #[error("libtorch, {action}: {source}")]
    Libtorch {
        /// What was being done.
        action: String,
        /// Why not.
        source: TchError,
    },
}

impl From<Mismatch> for WeightsError {
    fn from(mismatch: Mismatch) -> Self {
        Self::Mismatch(Box::new(mismatch))
    }
}

fn wanted(key: Option<&str>) -> String {
    match key {
        Some(key) => format!("no dictionary of tensors `{key}`"),
        None => "expected one dictionary of tensors; name the one to read".to_owned(),
    }
}

fn found(dictionaries: &[(String, usize)]) -> String {
    let described: Vec<String> = dictionaries
        .iter()
        .map(|(key, tensors)| match key.as_str() {
            "" => format!("{tensors} tensors outside any"),
            key => format!("`{key}` ({tensors} tensors)"),
        })
        .collect();
    if described.is_empty() { "no tensors".to_owned() } else { mismatch::list(&described) }
}
