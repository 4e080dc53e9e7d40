//! Compiles the CUDA kernels under `kernels/` into fat binaries and embeds them in the crate.
//!
//! nvcc is taken from `$NVCC`, or from the checkout, where `cargo xtask setup` puts it if there is a GPU or if it is
//! asked for. Without it the crate builds without kernels, and an op on a GPU says which it lacks. A source is compiled
//! again only if what it is made of has changed. `$DIM_CUDA_ARCHS` restricts the architectures while a kernel is being
//! developed: `90a` or `80,120`; `none` compiles no kernels at all.
//!
//! nvcc is called without the `cc` crate, which makes object files for the host's linker: they register their kernels
//! with the CUDA runtime, and the kernels here are loaded by the driver, into the context that libtorch uses.

#[path = "build/architectures.rs"]
mod architectures;
#[path = "build/compile.rs"]
mod compile;
#[path = "build/embed.rs"]
mod embed;
#[path = "build/nvcc.rs"]
mod nvcc;

use std::path::{Path, PathBuf};
use std::{env, fs, io, process};

fn main() {
    if let Err(message) = run() {
        eprintln!("{message}");
        process::exit(1);
    }
}

fn run() -> Result<(), String> {
    let manifest = PathBuf::from(env::var_os("CARGO_MANIFEST_DIR").ok_or("CARGO_MANIFEST_DIR is not set")?);
    let output = PathBuf::from(env::var_os("OUT_DIR").ok_or("OUT_DIR is not set")?);
    let workspace = manifest.join("../..");
    let kernels = workspace.join("kernels");
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-changed=build");

    let sources = sources(&kernels).map_err(|error| format!("cannot list {}: {error}", kernels.display()))?;
    let families = architectures::chosen()?;
    let images = match nvcc::find(&workspace) {
        Some(nvcc) if !families.is_empty() => compile::compile_all(&nvcc, &kernels, &sources, &families, &output)?,
        _ => Vec::new(),
    };
    embed::write(&output, &images, if images.is_empty() { &sources } else { &[] })
        .map_err(|error| format!("cannot write to {}: {error}", output.display()))
}

/// The sources `<operation>/<name>.cu`, without the extension, in the order of their names.
///
/// Cargo is told to watch the folders, and not what else lies in `kernels/`: a change there compiles nothing.
fn sources(kernels: &Path) -> io::Result<Vec<String>> {
    let mut sources = Vec::new();
    for operation in fs::read_dir(kernels)? {
        let operation = operation?;
        if !operation.file_type()?.is_dir() {
            continue;
        }
        println!("cargo::rerun-if-changed={}", operation.path().display());
        for source in fs::read_dir(operation.path())? {
            let source = source?.path();
            if source.extension().is_some_and(|extension| extension == "cu") {
                let name = source.with_extension("");
                let name = name.strip_prefix(kernels).unwrap_or(&name);
                sources.push(name.to_string_lossy().into_owned());
            }
        }
    }
    sources.sort();
    Ok(sources)
}
