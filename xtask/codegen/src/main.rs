//! Turns `kernels/<operation>/params.h` into `crates/dim-kernels/src/<operation>/params.rs`.
//!
//! Started by `cargo xtask codegen`, which provides libclang. The result depends on the headers alone: not on the
//! machine's own compiler, nor on when or where this runs.

#![forbid(unsafe_code)]

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::{Context, anyhow, bail, ensure};
use bindgen::{Builder, Formatter, RustEdition, RustTarget};

/// Every struct of the header is there, used or not, each public within its private module.
const LINTS: &str = "#![allow(dead_code, unreachable_pub, unused_qualifications, reason = \"generated code\")]";

/// The oldest Rust that the workspace supports: the minor version of `rust-version` in Cargo.toml.
const RUST_MINOR: u64 = 88;

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> anyhow::Result<()> {
    let mut arguments = env::args_os().skip(1);
    let root = PathBuf::from(arguments.next().context("usage: xtask-codegen ROOT [--check]")?);
    let check = arguments.next().is_some_and(|argument| argument == "--check");

    let operations = operations(&root.join("kernels"))?;
    ensure!(!operations.is_empty(), "there is no params.h under kernels");
    let mut drifted = Vec::new();
    for operation in &operations {
        let target = root.join(format!("crates/dim-kernels/src/{operation}/params.rs"));
        let generated = generate(&root, operation)?;
        if fs::read_to_string(&target).is_ok_and(|committed| committed == generated) {
            continue;
        }
        if !check {
            fs::write(&target, generated).with_context(|| format!("cannot write {}", target.display()))?;
            println!("wrote {}", target.display());
        }
        drifted.push(target.display().to_string());
    }
    match (check, drifted.as_slice()) {
        (true, [_, ..]) => bail!("not as the headers say: {}; run `cargo xtask codegen`", drifted.join(", ")),
        (_, []) => println!("generated code is up to date ({})", operations.join(", ")),
        _ => {}
    }
    Ok(())
}

/// Folders of `kernels` that have parameters, in the order of their names.
fn operations(kernels: &Path) -> anyhow::Result<Vec<String>> {
    let mut operations = Vec::new();
    for entry in fs::read_dir(kernels)? {
        let entry = entry?;
        if entry.path().join("params.h").is_file() {
            operations.push(entry.file_name().into_string().ok().context("a folder's name is not UTF-8")?);
        }
    }
    operations.sort();
    Ok(operations)
}

fn generate(root: &Path, operation: &str) -> anyhow::Result<String> {
    let header = format!("kernels/{operation}/params.h");
    let path = root.join(&header);
    let path = path.to_str().context("the checkout's path is not UTF-8")?;
    let target = RustTarget::stable(RUST_MINOR, 0).map_err(|error| anyhow!("{error}"))?;
    let bindings = Builder::default()
        .header(path)
        // The target is fixed so that sizes do not depend on the machine; it is the one that CUDA has.
        .clang_args(["-x", "c", "-std=c11", "--target=x86_64-unknown-linux-gnu", "-Wno-pragma-once-outside-header"])
        .allowlist_file(path)
        .rust_target(target)
        .rust_edition(RustEdition::Edition2024)
        .use_core()
        .layout_tests(true)
        .disable_header_comment()
        .raw_line(format!("//! Generated from `{header}` by `cargo xtask codegen`; do not edit."))
        .raw_line("")
        .raw_line(LINTS)
        .formatter(Formatter::Rustfmt)
        .rustfmt_configuration_file(Some(root.join("rustfmt.toml")))
        .generate()
        .with_context(|| format!("bindgen cannot read {header}"))?;
    Ok(with_doc_comments(&bindings.to_string()))
}

/// bindgen writes docs as attributes, `#[doc = " …"]`; people write and read `/// …`.
fn with_doc_comments(source: &str) -> String {
    let line = |line: &str| {
        let (indent, attribute) = line.split_at(line.len() - line.trim_start().len());
        match attribute.strip_prefix("#[doc = \"").and_then(|rest| rest.strip_suffix("\"]")) {
            Some(text) => format!("{indent}///{}\n", text.replace("\\\"", "\"").trim_end()),
            None => format!("{line}\n"),
        }
    };
    source.lines().map(line).collect()
}
