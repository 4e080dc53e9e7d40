//! Lets the programs, tests and benchmarks of a package find libtorch at run time: torch-sys links it, but leaves no run path behind.
//!
//! The build script of every package that uses tensors and compiles nothing of its own.

fn main() {
    // torch-sys (`links = "tch"`) tells its direct dependents where the libtorch it was built against lies.
    println!("cargo::rerun-if-env-changed=DEP_TCH_LIBTORCH_LIB");
    match std::env::var("DEP_TCH_LIBTORCH_LIB") {
        Ok(lib) => println!("cargo::rustc-link-arg=-Wl,-rpath,{lib}"),
        Err(_) => println!("cargo::warning=torch-sys named no libtorch folder; programs will need LD_LIBRARY_PATH"),
    }
}
