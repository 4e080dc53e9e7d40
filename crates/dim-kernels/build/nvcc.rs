//! Where the CUDA compiler is.

use std::env;
use std::path::{Path, PathBuf};

/// Finds nvcc, and has the build look again when one could have appeared or changed.
pub(crate) fn find(workspace: &Path) -> Option<PathBuf> {
    println!("cargo::rerun-if-env-changed=NVCC");
    println!("cargo::rerun-if-env-changed=CUDA_HOME");
    let given = env::var_os("NVCC").map(PathBuf::from);
    let installed = Some(workspace.join(".deps/python/nvidia/cu13/bin/nvcc"));
    let cuda_home = env::var_os("CUDA_HOME").map(|home| PathBuf::from(home).join("bin/nvcc"));
    let on_path = env::var_os("PATH").into_iter().flat_map(|path| env::split_paths(&path).collect::<Vec<_>>());

    let candidates =
        [given, installed, cuda_home].into_iter().flatten().chain(on_path.map(|folder| folder.join("nvcc")));
    let found = candidates.into_iter().find(|nvcc| nvcc.is_file());
    // A path that does not exist would count as changed at every build; the folder of set-up's stamps changes when
    // set-up installs nvcc.
    let watched = found.clone().unwrap_or_else(|| workspace.join(".deps/stamps"));
    if watched.exists() {
        println!("cargo::rerun-if-changed={}", watched.display());
    }
    found
}
