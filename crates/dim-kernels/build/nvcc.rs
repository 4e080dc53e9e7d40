//! Where the CUDA compiler is.

use std::env;
use std::path::{Path, PathBuf};

/// Finds nvcc, and has the build look again when one could have appeared or changed.
///
/// A CUDA of the system's is not looked for: it may be too old for the architectures, other versions allot registers
/// otherwise than `kernels/resources.tsv` says, and where set-up saw no GPU nobody should wait for kernels.
pub(crate) fn find(workspace: &Path) -> Option<PathBuf> {
    println!("cargo::rerun-if-env-changed=NVCC");
    let given = env::var_os("NVCC").map(PathBuf::from);
    let installed = workspace.join(".deps/python/nvidia/cu13/bin/nvcc");
    let found = given.into_iter().chain([installed]).find(|nvcc| nvcc.is_file());
    // A path that does not exist would count as changed at every build; the folder of set-up's stamps changes when
    // set-up installs nvcc.
    let watched = found.clone().unwrap_or_else(|| workspace.join(".deps/stamps"));
    if watched.exists() {
        println!("cargo::rerun-if-changed={}", watched.display());
    }
    found
}
