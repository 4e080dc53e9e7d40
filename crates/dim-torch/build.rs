//! Compiles the C++ side of the autograd bridge against the libtorch that torch-sys found, and gives this
//! package's tests an rpath to it.

use std::{env, path::PathBuf};

/// What tch 0.24 is written for; another libtorch has another ABI and fails in confusing ways.
const LIBTORCH_VERSION: &str = "2.11.0";

fn main() {
    println!("cargo::rerun-if-changed=cpp");
    let lib =
        PathBuf::from(env::var("DEP_TCH_LIBTORCH_LIB").unwrap_or_else(|_| {
            fail("torch-sys did not say where libtorch is; run `cargo xtask setup` and build again")
        }));
    println!("cargo::rustc-link-arg=-Wl,-rpath,{}", lib.display());

    let root = lib.parent().unwrap_or(&lib);
    check_version(root);
    let include = root.join("include");
    cc::Build::new()
        .cpp(true)
        .std("c++17")
        .pic(true)
        .warnings(false)
        .include(&include)
        .include(include.join("torch/csrc/api/include"))
        .flag("-D_GLIBCXX_USE_CXX11_ABI=1")
        .files([
            "cpp/cuda_graph.cpp",
            "cpp/custom_function.cpp",
            "cpp/process_group.cpp",
            "cpp/products.cpp",
            "cpp/profile.cpp",
            "cpp/tensors.cpp",
        ])
        .compile("dim_torch_cpp");
}

/// The wheel says its version in `version.py`, the libtorch archive in `build-version`.
fn check_version(root: &std::path::Path) {
    let found = ["version.py", "build-version"].iter().find_map(|file| {
        let path = root.join(file);
        println!("cargo::rerun-if-changed={}", path.display());
        std::fs::read_to_string(path).ok()
    });
    if let Some(text) = found
        && !text.contains(LIBTORCH_VERSION)
    {
        fail(&format!(
            "libtorch in {} is not version {LIBTORCH_VERSION}; unset LIBTORCH and run `cargo xtask setup`",
            root.display()
        ));
    }
}

fn fail(message: &str) -> ! {
    println!("cargo::error={message}");
    std::process::exit(1);
}
