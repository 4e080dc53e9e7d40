//! Lets this package's test programs find libtorch at run time: torch-sys links it, but leaves no run path behind.

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    // torch-sys (`links = "tch"`) tells its direct dependents where the libtorch it was built against lies.
    println!("cargo::rerun-if-env-changed=DEP_TCH_LIBTORCH_LIB");
    match std::env::var("DEP_TCH_LIBTORCH_LIB") {
        Ok(lib) => println!("cargo::rustc-link-arg=-Wl,-rpath,{lib}"),
        Err(_) => println!("cargo::warning=torch-sys named no libtorch folder; programs will need LD_LIBRARY_PATH"),
    }
}
